//! Gives back machines that are off for running leases beyond what these need: for example, because
//! others were taken in their place and all of them sleep in the end. The plan itself keeps them until
//! a lease ends, because what it needs may look less only while a report is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use directive::{FeedId, LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::Core;
use crate::admit::{ramp_time, shed_time};
use crate::facility::PerFeed;
use crate::inventory::MachineState;
use crate::lease::{Lease, later};
use crate::plan::{self, Chosen};

#[derive(Debug, Default)]
pub(super) struct Excess {
    /// Since when more machines sleep than are needed.
    since: Option<Instant>,
}

/// A machine that is confirmed to be down for a running lease.
struct Spare {
    /// The place of its group in the order in which machines go.
    rank: usize,
    machine: MachineId,
    group: usize,
}

impl Core {
    /// Gives back what sleeps beyond the need, the make-up and one machine at each feed for as long as
    /// a meter takes to settle; and at once the machines that a driver which is down was to put to
    /// sleep, if what they were to free is off without them.
    pub(super) fn give_back_excess(&mut self, wall: Timestamp, now: Instant) {
        let is_idle = self.commitments.is_empty() || self.states.is_empty();
        if is_idle || self.stepped.is_some() || self.is_young(now) {
            self.excess.since = None;
            return;
        }
        let turn = self.longest_turn();
        let is_near = |lease: &&Lease| self.is_near(lease, turn);
        let leases: Vec<&Lease> = self.leases.iter().filter(is_near).collect();
        let near = (self.schedule, self.near_limits(turn));
        let population = &self.fleet.population;
        let wanted = plan::wanted(&self.policy, leases.iter().copied(), population, near);
        let (mut off, mut spare) = self.confirmed_off(&leases);
        let unanswered: Vec<MachineId> = self
            .states
            .keys()
            .filter(|machine| self.drivers.is_given_up(machine))
            .filter(|machine| self.is_made_up(machine, &off, &wanted))
            .cloned()
            .collect();
        for machine in &unanswered {
            // It has not gone, so that it needs no turn to come back.
            self.change_current(machine, |chosen| {
                (chosen.edge, chosen.until) = (Some(wall), Some(wall));
            });
        }
        // The best margin comes back first.
        spare.sort_by(|a, b| (b.rank, &b.machine).cmp(&(a.rank, &a.machine)));
        let facility = &self.policy.facility;
        let mut excess = Vec::new();
        for Spare { machine, group, .. } in spare {
            let frees = facility.groups()[group].freed_asleep();
            let feed = facility.group_feed(group);
            let path = facility.feeds().path(feed);
            if path.iter().all(|feed| off[*feed] - frees - frees >= wanted[*feed])
                && self.is_free(feed, self.schedule, wall, now)
            {
                path.iter().for_each(|feed| off[*feed] += Watts(-frees.0));
                excess.push(machine);
            }
        }
        if excess.is_empty() {
            self.excess.since = None;
            return;
        }
        let since = *self.excess.since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.policy.dispatch.settle {
            return;
        }
        self.excess.since = None;
        for machine in &excess {
            // Its turn is set by the next plan.
            self.change_current(machine, |chosen| {
                (chosen.edge, chosen.until) = (Some(wall), None);
            });
        }
    }

    /// What machines free at each feed that are confirmed to be down and stay off, for `leases` or for
    /// none, and those of them that running leases have.
    fn confirmed_off(&self, leases: &[&Lease]) -> (PerFeed<Watts>, Vec<Spare>) {
        let leases: BTreeMap<&LeaseId, &Lease> =
            leases.iter().map(|lease| (&lease.id, *lease)).collect();
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let mut ranks = vec![0; facility.groups().len()];
        for (rank, group) in plan::order(&self.policy).into_iter().enumerate() {
            ranks[group] = rank;
        }
        let (mut off, mut spare) = (PerFeed::all(feeds, Watts::ZERO), Vec::new());
        for (machine, _) in
            self.states.iter().filter(|(_, state)| **state == MachineState::Curtailed)
        {
            let Some(chosen) = self.selection.current(machine, self.schedule) else { continue };
            let Some(group) = facility.group_number(&chosen.group) else { continue };
            if chosen.edge.is_some_and(|edge| edge <= self.schedule)
                || chosen.means != Means::Device
            {
                continue;
            }
            let lease = chosen.lease().map(|id| leases.get(id));
            // The plan gives it back, or keeps it for a lease that comes much later.
            if lease == Some(None) {
                continue;
            }
            feeds.add(
                &mut off,
                facility.group_feed(group),
                facility.groups()[group].freed_asleep(),
            );
            if lease.flatten().is_some_and(|lease| lease.reserves(self.schedule)) {
                spare.push(Spare { rank: ranks[group], machine: machine.clone(), group });
            }
        }
        (off, spare)
    }

    /// The longest time in any group from a machine's wake command until it is asleep again.
    fn longest_turn(&self) -> Duration {
        let groups = self.policy.facility.groups().iter();
        let turns = groups.map(|group| group.min_up + group.restore_p95 + shed_time(group));
        turns.max().unwrap_or_default()
    }

    /// Whether `lease` runs, or begins before a machine that comes back, in a `turn` at most, could
    /// go again.
    fn is_near(&self, lease: &Lease, turn: Duration) -> bool {
        self.schedule < lease.ends()
            && lease.reserved_from() <= self.near(lease.gross, &lease.feed, turn)
    }

    /// Until when a limit counts that is lower before a machine that comes back could go again.
    fn near_limits(&self, turn: Duration) -> Timestamp {
        let facility = &self.policy.facility;
        let near = facility.dated().iter().map(|feed| {
            let feed = &facility.feeds()[*feed];
            self.near(feed.most_usable() - feed.least_usable(), &feed.id, turn)
        });
        near.max().unwrap_or(self.schedule)
    }

    /// By when a machine that comes back now, in a `turn` at most, could have gone again together with
    /// others that free `watts` at `feed`.
    fn near(&self, watts: Watts, feed: &FeedId, turn: Duration) -> Timestamp {
        let policy = &self.policy;
        let ramp = ramp_time(watts, policy.slowest_down_per_min(feed));
        later(self.schedule, turn + policy.dispatch.proof() + ramp)
    }

    /// Whether what `machine` was to free is off without it.
    fn is_made_up(
        &self,
        machine: &MachineId,
        off: &PerFeed<Watts>,
        wanted: &PerFeed<Watts>,
    ) -> bool {
        let facility = &self.policy.facility;
        let group = self.selection.current(machine, self.schedule).map(|chosen| &chosen.group);
        let Some(group) = group.and_then(|group| facility.group_number(group)) else {
            return false;
        };
        let path = facility.feeds().path(facility.group_feed(group));
        path.iter().all(|feed| off[*feed] >= wanted[*feed])
    }

    /// Changes the period for which `machine` is off now, and has a plan made with it.
    fn change_current(&mut self, machine: &MachineId, change: impl FnOnce(&mut Chosen)) {
        let time = self.schedule;
        let periods = self.selection.off.get_mut(machine);
        let current = periods.and_then(|all| all.iter_mut().rev().find(|one| one.covers(time)));
        if let Some(current) = current {
            change(current);
            self.replan = true;
            self.counted = None;
        }
    }
}
