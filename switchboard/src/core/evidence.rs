//! Collects the evidence about the power of each lease, and passes it to the lease's commitment.

use std::collections::HashMap;
use std::time::Instant;

use directive::{LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::Core;
use crate::commitment::{Evidence, Figure, Happening, Held, Phase, Terms};
use crate::facility::FeedNumber;
use crate::inventory::MachineState;
use crate::lease::{Lease, earlier};
use crate::ledger::Event;
use crate::words::Named;

/// Sums over the machines of one lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machines {
    first: Option<Timestamp>,
    /// Machines that are off for the lease, or will be.
    off: u32,
    under_way: u32,
    unconfirmed: Named,
    starved: bool,
    /// Machines that were released and have not been seen mining since.
    pub(super) not_back: Named,
}

/// The machines of each lease that has any.
pub(super) type ByLease = HashMap<LeaseId, Machines>;

/// The machines of each lease, kept from one input to the next as long as neither the selection nor a
/// state changes, and no machine's time off begins or ends.
#[derive(Debug)]
pub(super) struct Counted {
    by_lease: ByLease,
    from: Timestamp,
    until: Timestamp,
}

impl Core {
    pub(super) fn advance_commitments(&mut self, wall: Timestamp, now: Instant) {
        if self.commitments.is_empty() {
            return;
        }
        let machines = self.counted();
        let terms = self.terms();
        let mut notes = Vec::new();
        let leases = std::mem::take(&mut self.leases);
        for lease in &leases {
            // Its end may be changed in a moment.
            if self.amending.values().any(|(amended, _)| *amended == lease.id) {
                if lease.ends() <= self.schedule {
                    self.sums.set_active(self.policy.facility.feeds(), &lease.id, false);
                }
                continue;
            }
            let evidence = self.evidence(lease, machines.by_lease.get(&lease.id), wall, now);
            let Some(commitment) = self.commitments.get_mut(&lease.id) else { continue };
            for happening in commitment.advance(lease, &evidence, &terms, self.schedule, now) {
                let (lease, figures) = (lease.id.clone(), evidence.figures.clone());
                notes.push(match happening {
                    Happening::Moved { from, to, why } => {
                        Event::CommitmentMoved { lease, from, to, why, figures }
                    }
                    Happening::Unverified { why, unproven } => {
                        Event::Unverified { lease, why, unproven }
                    }
                    Happening::Unconfirmed(unconfirmed) => {
                        Event::Unconfirmed { lease, unconfirmed }
                    }
                    Happening::Confirmed => Event::Confirmed { lease },
                    Happening::Breached(breach) => {
                        self.tally.breaches += 1;
                        Event::Breached { lease, breach, figures }
                    }
                });
            }
            let active = commitment.phase == Phase::Active;
            self.sums.set_active(self.policy.facility.feeds(), &lease.id, active);
        }
        self.leases = leases;
        self.counted = Some(machines);
        for event in notes {
            self.note(event, self.schedule);
        }
    }

    pub(super) fn terms(&self) -> Terms {
        let (dispatch, failsafe) = (&self.policy.dispatch, &self.policy.failsafe);
        Terms {
            prove_for: dispatch.prove_for,
            settle: dispatch.settle,
            // An agent may be silent for this long before its reports no longer count.
            silence: dispatch.settle.max(failsafe.report_stale_after),
            zone: self.policy.facility.timezone().clone(),
        }
    }

    /// Takes the count of the last input if it still holds, or counts again.
    fn counted(&mut self) -> Counted {
        let time = self.schedule;
        let kept = self.counted.take().filter(|kept| kept.from <= time && time < kept.until);
        if let Some(kept) = kept {
            debug_assert!(kept.by_lease == self.machines_by_lease(), "a change was not told");
            return kept;
        }
        let times = self.selection.iter().flat_map(|(_, chosen)| [Some(chosen.at), chosen.until]);
        let next = times.flatten().filter(|at| *at > time).min();
        let until = next.unwrap_or(Timestamp::MAX);
        Counted { by_lease: self.machines_by_lease(), from: time, until }
    }

    pub(super) fn machines_by_lease(&self) -> ByLease {
        let time = self.schedule;
        let mut by_lease = ByLease::new();
        // Both maps are in the order of the names, so that no machine has to be looked up.
        let mut states = self.states.iter().peekable();
        let mut state: Option<(&MachineId, MachineState)> = None;
        for (machine, chosen) in self.selection.iter() {
            let Some(lease) = chosen.lease() else { continue };
            let over = chosen.until.is_some_and(|until| until <= time);
            if over && self.selection.current(machine, time).is_some() {
                continue;
            }
            let sum = match by_lease.get_mut(lease) {
                Some(sum) => sum,
                None => by_lease.entry(lease.clone()).or_default(),
            };
            if over {
                // The next plan counts the machine among the returning ones.
                sum.not_back.add(machine);
                continue;
            }
            sum.off += 1;
            // Until then the machine is off for another lease, and already shows whether it is
            // down.
            if !(chosen.passed_on && chosen.at > time) {
                sum.first = Some(sum.first.map_or(chosen.at, |first| first.min(chosen.at)));
                if chosen.at > time {
                    sum.under_way += 1;
                    continue;
                }
            }
            sum.starved |= chosen.means == Means::Starve;
            while let Some((of, read)) = states.next_if(|(of, _)| *of <= machine) {
                state = Some((of, *read));
            }
            let read = state.filter(|(of, _)| *of == machine).map(|(_, state)| state);
            match read.unwrap_or(MachineState::Commanded) {
                // A machine that does not obey was replaced; the meter shows whether that was
                // enough.
                MachineState::Curtailed | MachineState::Starved | MachineState::Disobedient => {}
                MachineState::Unknown => sum.unconfirmed.add(machine),
                MachineState::Running
                | MachineState::Returning
                | MachineState::Commanded
                | MachineState::Asleep => sum.under_way += 1,
            }
        }
        for (machine, returning) in &self.selection.returning {
            by_lease.entry(returning.lease.clone()).or_default().not_back.add(machine);
        }
        by_lease
    }

    pub(super) fn evidence(
        &self,
        lease: &Lease,
        machines: Option<&Machines>,
        wall: Timestamp,
        now: Instant,
    ) -> Evidence {
        let machines = machines.cloned().unwrap_or_default();
        let feeds = self.policy.facility.feeds();
        let path = feeds.path_of(&lease.feed);
        // Before the lease is due, the proof is about the moment when it becomes due: leases that
        // are over by then leave it their power, and leases that begin by then need power of their
        // own.
        let due_at = self.schedule.max(lease.reserved_from());
        let skew = path.iter().map(|feed| self.plausible.gap(*feed)).max().unwrap_or_default();
        let lasts = self.policy.dispatch.settle + skew;
        let young = self.is_young(now);
        let asks_whose_doing = !young
            && self.commitments.get(&lease.id).is_some_and(|commitment| {
                commitment.asks_whose_doing(lease, lasts, self.schedule, now)
            });
        // A lease that was proven and runs keeps what it has until its end.
        let is_proven = |other: &LeaseId| {
            let other = self.commitments.get(other);
            other.is_some_and(|other| other.proven_at.is_some() && !other.unverified)
        };
        let renewed = if due_at < lease.start {
            self.sums.renewed(&lease.id, is_proven)
        } else {
            Watts::ZERO
        };
        let figure = |feed: FeedNumber| {
            let headroom = self.headroom(feed, wall, now);
            let mut figure = Figure {
                feed: feeds[feed].id.clone(),
                headroom: headroom.map(|headroom| headroom.watts),
                needed: self.sums.reserved(feed, due_at),
                unmetered: self.sums.unmetered(feed),
                renewed,
                taken_at: headroom.map(|headroom| headroom.taken_at),
                doubt: None,
                is_implausible: self.plausible.state(feed).is_implausible(),
                blame: None,
            };
            if headroom.is_none() {
                figure.doubt = self.doubt(feed);
            }
            let missing = figure.surely_missing();
            let missing = missing.filter(|missing| asks_whose_doing && *missing > Watts::ZERO);
            if let Some((missing, headroom)) = missing.zip(headroom) {
                figure.blame = Some(self.causes(lease, feed, &headroom, now).blame(missing));
            }
            figure
        };
        let metered = path.iter().copied().filter(|feed| feeds[*feed].meter.is_some());
        let figures = metered.map(figure).collect();
        let devices = machines.off > 0 && !machines.starved;
        let held = self.planned_in.get(&lease.id).map_or(Held::Nowhere, |number| {
            self.inventory.held(&self.policy, (*number, self.number), devices, now)
        });
        let plan = self.plan.as_ref();
        // If no machine has to be shed, the time at which the proof must begin counts.
        let lead = plan.and_then(|plan| plan.leases.get(&lease.id)).map(|plan| plan.lead.total());
        let first = machines
            .first
            .unwrap_or_else(|| earlier(lease.reserved_from(), lead.unwrap_or_default()));
        Evidence {
            at: self.schedule,
            in_plan_from: plan.and_then(|plan| plan.reaches_from(&self.policy, lease)),
            short: self.shortage_of(&lease.id).cloned(),
            held,
            due_at: first,
            due: first <= self.schedule,
            off: machines.off,
            under_way: machines.under_way,
            unconfirmed: machines.unconfirmed,
            starved: machines.starved,
            metered: path.first().is_some_and(|feed| feeds[*feed].meter.is_some()),
            figures,
            not_back: machines.not_back,
            skew,
            doubtful: self.stepped.is_some(),
            young,
        }
    }

    /// Brings the sums of the leases to the time of the last input.
    pub(super) fn read_tenants(&mut self) {
        let Some((wall, now)) = self.at else { return };
        let feeds = self.policy.facility.feeds();
        let mut sums = std::mem::take(&mut self.sums);
        sums.read(feeds, wall, |meter| Some(self.tenant_meter(meter, wall, now)?.0));
        self.sums = sums;
    }
}
