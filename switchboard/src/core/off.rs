//! Why each machine is off, for views and metrics: by the plan, because it waits for its return, or
//! by nothing that was decided here. Every machine that is off has one answer.

use std::collections::BTreeMap;
use std::time::Instant;

use directive::{
    AsleepBy, DeviceState, FeedId, LeaseId, MachineId, MachineReport, Means, Serving, Watts,
};
use jiff::Timestamp;

use super::Core;
use crate::cause::{Cause, OffBy};
use crate::facility::times;
use crate::plan::{self, Chosen};
use crate::view::{MachineView, OffCountView, OffView};
use crate::words::{kilowatts, when};

/// How many machines are off by each cause, and what they would draw more.
pub(super) type OffCounts = BTreeMap<OffBy, OffCountView>;

impl Core {
    /// Why the machine of `view` is off, or `None` if it is not. The other fields of `view` are filled.
    pub(super) fn off_view(&self, view: &MachineView) -> Option<OffView> {
        let id = &view.machine;
        if let Some(chosen) = self.selection.current(id, self.schedule) {
            let by = self.off_by(chosen);
            let since = match by {
                OffBy::Room => chosen.edge.unwrap_or(chosen.at),
                _ => chosen.at,
            };
            let lease = chosen.lease().filter(|_| by != OffBy::Room);
            let feed = chosen.cause.feed().cloned();
            let feed = if by == OffBy::Room { self.feed_of(id).or(feed) } else { feed };
            return Some(self.off(by, lease, feed, Some(since)));
        }
        let by = if self.is_returning(id) {
            OffBy::Room
        } else {
            let is_parked = view.session.as_ref().is_some_and(|one| one.serving == Serving::Parked);
            self.idle_by(id, view.device.as_ref(), is_parked, view.group.is_none())?
        };
        let (feed, since) = match by {
            OffBy::Room => (self.feed_of(id), self.released_at(id)),
            OffBy::NotByUs | OffBy::OutOfReach => (None, self.sleepers.since(id)),
            _ => (None, None),
        };
        Some(self.off(by, None, feed, since))
    }

    /// How many machines are off by each cause, and what they would draw more. Those that nothing
    /// decided here keeps off are counted as of the last looks through the inventory.
    pub(super) fn machines_off(&self) -> OffCounts {
        let facility = &self.policy.facility;
        let mut counts = OffCounts::new();
        // Both maps are in the order of the names, so that no machine has to be looked up.
        let mut off = self.selection.off.iter().peekable();
        for machine in self.states.keys() {
            while off.next_if(|(id, _)| *id < machine).is_some() {}
            let periods = off.next_if(|(id, _)| *id == machine).map(|(_, periods)| periods);
            let current = periods.and_then(|all| plan::covering(all, self.schedule));
            let Some(chosen) = current else { continue };
            let group = facility.group_number(&chosen.group).map(|one| &facility.groups()[one]);
            let watts = group.map_or(Watts::ZERO, |group| match chosen.means {
                Means::Starve => group.watts - group.idle_at_least(),
                Means::Device => group.freed_asleep(),
            });
            counts.entry(self.off_by(chosen)).or_default().add(1, watts);
        }
        for (_, watts) in self.raises.returning() {
            counts.entry(OffBy::Room).or_default().add(1, watts);
        }
        let others = |id: &&MachineId| {
            !self.raises.is_returning(id) && !self.selection.returning.contains_key(*id)
        };
        for id in self.inventory.newcomers().keys().filter(others) {
            counts.entry(OffBy::Room).or_default().add(1, self.draw_of(id));
        }
        for id in self.selection.returning.keys() {
            if !self.states.contains_key(id) && !self.raises.is_returning(id) {
                counts.entry(OffBy::Room).or_default().add(1, self.draw_of(id));
            }
        }
        for (by, idle) in self.sleepers.idle() {
            counts.entry(*by).or_default().add(idle.count, idle.off);
        }
        for (number, parked) in self.census.parked.iter().enumerate().filter(|(_, n)| **n > 0) {
            let group = facility.groups().get(number);
            let watts = group.map_or(Watts::ZERO, |group| group.watts - group.idle_at_least());
            counts.entry(OffBy::Parked).or_default().add(*parked, times(watts, *parked));
        }
        let waiting = self.inventory.last_fleet().population.waiting;
        if waiting > 0 {
            let watts = times(facility.unassigned(), waiting);
            counts.entry(OffBy::NoGroup).or_default().add(waiting, watts);
        }
        counts
    }

    /// Whether `machine` is on its way back and has not been seen to mine since.
    pub(super) fn is_returning(&self, machine: &MachineId) -> bool {
        self.selection.returning.contains_key(machine) || self.raises.is_returning(machine)
    }

    /// By what a machine is off that `chosen` has off now.
    fn off_by(&self, chosen: &Chosen) -> OffBy {
        if chosen.edge.is_some_and(|edge| edge <= self.schedule) {
            return OffBy::Room;
        }
        match &chosen.cause {
            // The next plan says so, too.
            Cause::Stays(lease) if self.has_begun(lease) => OffBy::Lease,
            cause => cause.word(),
        }
    }

    fn has_begun(&self, lease: &LeaseId) -> bool {
        let standing = self.state.leases.get(lease);
        standing.is_some_and(|standing| standing.lease.reserved_from() <= self.schedule)
    }

    /// By what a machine is off that is not to be off and is not on its way back, if it is.
    pub(super) fn idle_by(
        &self,
        id: &MachineId,
        device: Option<&MachineReport>,
        is_parked: bool,
        is_unassigned: bool,
    ) -> Option<OffBy> {
        let by = self.sleepers.by(id);
        match device {
            _ if self.inventory.is_newcomer(id) => Some(OffBy::Room),
            Some(device) if device.state == DeviceState::Asleep => {
                // One of ours is found within seconds, and then waits for its return.
                let is_ours = by.or(device.asleep_by) == Some(AsleepBy::Us);
                Some(if is_ours { OffBy::Room } else { OffBy::NotByUs })
            }
            None if by == Some(AsleepBy::Us) && !self.inventory.draws(id) => {
                Some(OffBy::OutOfReach)
            }
            _ if !is_parked => None,
            _ if is_unassigned => Some(OffBy::NoGroup),
            _ => Some(OffBy::Parked),
        }
    }

    /// What `machine` draws more when it mines than now, by the figures of the policy: asleep, or without
    /// work if it is a newcomer and that is known.
    pub(super) fn draw_of(&self, machine: &MachineId) -> Watts {
        let facility = &self.policy.facility;
        let Some(group) = self.inventory.group(&self.policy, machine) else {
            return facility.unassigned();
        };
        let group = &facility.groups()[group];
        match group.poolless.filter(|_| self.inventory.is_newcomer(machine)) {
            Some(poolless) => group.watts - poolless,
            None => group.freed_asleep(),
        }
    }

    fn feed_of(&self, machine: &MachineId) -> Option<FeedId> {
        let group = self.inventory.group(&self.policy, machine)?;
        Some(self.policy.facility.groups()[group].feed.clone())
    }

    fn released_at(&self, machine: &MachineId) -> Option<Timestamp> {
        let returning = self.selection.returning.get(machine).map(|returning| returning.since);
        returning.or_else(|| self.raises.since(machine))
    }

    fn off(
        &self,
        cause: OffBy,
        lease: Option<&LeaseId>,
        feed: Option<FeedId>,
        since: Option<Timestamp>,
    ) -> OffView {
        let why = self.why_off(cause, lease, feed.as_ref());
        OffView { cause, lease: lease.cloned(), feed, since, why }
    }

    fn why_off(&self, by: OffBy, lease: Option<&LeaseId>, feed: Option<&FeedId>) -> String {
        let needs = || {
            let Some(id) = lease else { return String::new() };
            let Some(standing) = self.state.leases.get(id) else {
                return format!("lease {id} needed its power");
            };
            let (lease, zone) = (&standing.lease, self.policy.facility.timezone());
            let (watts, feed) = (kilowatts(lease.gross), &lease.feed);
            if self.has_begun(id) {
                format!("lease {id} needs {watts} at {feed} until {}", when(lease.ends(), zone))
            } else {
                let from = when(lease.reserved_from(), zone);
                format!("lease {id} needs {watts} at {feed} from {from}")
            }
        };
        let at = feed.map_or_else(|| "its feed".to_owned(), |feed| format!("feed {feed}"));
        match by {
            OffBy::Lease => needs(),
            OffBy::Stays => format!("{}, too soon for the machine to come back before", needs()),
            OffBy::Limit => format!("the limit of {at} is lower now, or is about to be"),
            OffBy::Load => format!("{at} would carry too much with it, even without leases"),
            OffBy::Guard => format!("the guard of {at} put it to sleep, and the plan keeps it off"),
            OffBy::Room => format!("it may come back when it is its turn and {at} has room for it"),
            OffBy::Parked => {
                "its proxy gives it no work, and nothing else keeps it off: the proxy \
                              may hold no timeline that lets it work"
                    .to_owned()
            }
            OffBy::NoGroup => {
                "no group of the policy claims it, so that it gets no work".to_owned()
            }
            OffBy::NotByUs => {
                "somebody else put it to sleep: `tieline machine adopt` takes it over".to_owned()
            }
            OffBy::OutOfReach => "we put it to sleep, and no agent reaches it now".to_owned(),
            OffBy::Unrecorded => {
                "an older version recorded no cause; the next plan finds it".to_owned()
            }
        }
    }

    /// The machines that sleep although nothing decided here has them off, by their devices and by
    /// what is known of those that no agent reports.
    pub(super) fn idle_sleepers(&self, now: Instant) -> OffCounts {
        let mut idle = OffCounts::new();
        let mut add = |by: OffBy, id: &MachineId| {
            idle.entry(by).or_default().add(1, self.draw_of(id));
        };
        let is_idle = |id: &MachineId| !self.states.contains_key(id) && !self.is_returning(id);
        for (id, device) in self.inventory.sleepers() {
            if device.state == DeviceState::Asleep
                && is_idle(id)
                && let Some(by) = self.idle_by(id, Some(device), false, false)
            {
                add(by, id);
            }
        }
        // After a start, agents have not reported yet.
        for id in self.sleepers.ours().filter(|_| !self.is_young(now)) {
            if self.inventory.reported(id).is_none() && is_idle(id) && !self.inventory.draws(id) {
                add(OffBy::OutOfReach, id);
            }
        }
        idle
    }
}
