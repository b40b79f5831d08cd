//! Gathers what is known about each lease's power and lets its commitment judge it.

use std::collections::BTreeMap;
use std::time::Instant;

use directive::{FeedId, LeaseId, Means, Watts};
use jiff::Timestamp;

use super::Core;
use crate::commitment::{Evidence, Figure, Happening, Phase};
use crate::inventory::MachineState;
use crate::lease::{Lease, earlier};
use crate::ledger::Event;

/// What the machines of one lease add up to.
#[derive(Debug, Clone, Default)]
struct Machines {
    first: Option<Timestamp>,
    unconfirmed: bool,
    starved: bool,
    held: bool,
    /// Some machine was given back and has yet to mine.
    returning: bool,
}

impl Core {
    pub(super) fn advance_commitments(&mut self, wall: Timestamp, now: Instant) {
        if self.commitments.is_empty() {
            return;
        }
        let machines = self.machines_by_lease(wall);
        let waits = (self.policy.dispatch.prove_for, self.policy.dispatch.settle);
        let mut notes = Vec::new();
        for lease in self.leases.clone() {
            let evidence = self.evidence(
                &lease,
                machines.get(&lease.id).cloned().unwrap_or_default(),
                wall,
                now,
            );
            let Some(commitment) = self.commitments.get_mut(&lease.id) else { continue };
            let figures = &evidence.figures;
            for happening in commitment.advance(&lease, &evidence, waits, wall, now) {
                let (lease, figures) = (lease.id.clone(), figures.clone());
                notes.push(match happening {
                    Happening::Moved { from, to, why } => {
                        Event::CommitmentMoved { lease, from, to, why, figures }
                    }
                    Happening::Unverified { why } => Event::Unverified { lease, why },
                    Happening::Breached(breach) => {
                        self.tally.breaches += 1;
                        Event::Breached { lease, breach, figures }
                    }
                });
            }
        }
        for event in notes {
            self.note(event, wall);
        }
    }

    fn machines_by_lease(&self, wall: Timestamp) -> BTreeMap<LeaseId, Machines> {
        let mut by_lease: BTreeMap<LeaseId, Machines> = BTreeMap::new();
        for (machine, chosen) in self.selection.iter() {
            let Some(lease) = &chosen.lease else { continue };
            let over = chosen.until.is_some_and(|until| until <= wall);
            if over && self.selection.current(machine, wall).is_some() {
                continue;
            }
            let sum = match by_lease.get_mut(lease) {
                Some(sum) => sum,
                None => by_lease.entry(lease.clone()).or_default(),
            };
            if over {
                // The next plan counts it among those that return.
                sum.returning = true;
                continue;
            }
            sum.held = true;
            // One that is off for another lease until then shows now whether it is down.
            if !(chosen.passed_on && chosen.at > wall) {
                sum.first = Some(sum.first.map_or(chosen.at, |first| first.min(chosen.at)));
                if chosen.at > wall {
                    sum.unconfirmed = true;
                    continue;
                }
            }
            sum.starved |= chosen.means == Means::Starve;
            let state = self.states.get(machine).copied().unwrap_or(MachineState::Commanded);
            // One that does not obey was replaced: the meter judges whether that was enough.
            let settled = matches!(
                state,
                MachineState::Curtailed | MachineState::Starved | MachineState::Disobedient
            );
            sum.unconfirmed |= !settled;
        }
        for returning in self.selection.returning.values() {
            by_lease.entry(returning.lease.clone()).or_default().returning = true;
        }
        by_lease
    }

    fn evidence(
        &self,
        lease: &Lease,
        machines: Machines,
        wall: Timestamp,
        now: Instant,
    ) -> Evidence {
        let path = self.policy.path_up(&lease.feed);
        // Before it is due the proof is about the moment it is due: leases that are over by then
        // leave it their power, and those that begin by then need their own beside it.
        let due_at = wall.max(lease.reserved_from());
        let figures = path.iter().filter(|feed| feed.meter.is_some()).map(|feed| Figure {
            feed: feed.id.clone(),
            headroom: self
                .inventory
                .headroom(&self.policy, &self.leases, &feed.id, wall, now)
                .map(|headroom| headroom.watts),
            needed: self.reserved_at(&feed.id, due_at, Some(lease)),
            unmetered: self.unmetered(&feed.id, wall, now),
        });
        let planned = self.planned_in.get(&lease.id).copied();
        let devices = machines.held && !machines.starved;
        // Where nothing has to go the proof itself is what is due.
        let lead = self
            .plan
            .as_ref()
            .and_then(|plan| plan.leases.get(&lease.id))
            .map(|plan| plan.lead.total());
        let first = machines
            .first
            .unwrap_or_else(|| earlier(lease.reserved_from(), lead.unwrap_or_default()));
        Evidence {
            acked: planned
                .is_some_and(|number| self.inventory.acked(&self.policy, number, devices, now)),
            due: first <= wall,
            confirmed: !machines.unconfirmed,
            starved: machines.starved,
            metered: path.first().is_some_and(|feed| feed.meter.is_some()),
            figures: figures.collect(),
            released: !machines.held && !machines.returning,
            doubtful: self.stepped,
        }
    }

    /// What must be free at `feed` at `at`: the leases here and below that reserve power then, and
    /// `besides`.
    pub(super) fn reserved_at(
        &self,
        feed: &FeedId,
        at: Timestamp,
        besides: Option<&Lease>,
    ) -> Watts {
        let counts = |lease: &&Lease| {
            let asked = besides.is_some_and(|besides| besides.id == lease.id) && at < lease.ends();
            (asked || lease.reserves(at)) && self.policy.is_below(&lease.feed, feed)
        };
        self.leases.iter().filter(counts).map(|lease| lease.gross).sum()
    }

    /// What active tenants here and below may draw that no meter of their own shows.
    pub(super) fn unmetered(&self, feed: &FeedId, wall: Timestamp, now: Instant) -> Watts {
        let draws = |lease: &&Lease| {
            let active = self
                .commitments
                .get(&lease.id)
                .is_some_and(|commitment| commitment.phase == Phase::Active);
            let metered = lease.meter.as_ref().is_some_and(|meter| {
                self.inventory.metered(&self.policy, meter, wall, now).is_some()
            });
            active && !metered && self.policy.is_below(&lease.feed, feed)
        };
        self.leases.iter().filter(draws).map(|lease| lease.gross).sum()
    }
}
