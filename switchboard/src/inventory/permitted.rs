//! The permitted set: the machines whose power is booked, so that proxies give them work at once.
//!
//! A machine that works is in it, and one that was given room ([`Inventory::permit`]). It stays while
//! it is seen, and for a while after. Any other machine that connects is a *newcomer*: it waits
//! without work, and is no load, until there is room for it. For some time after the first start of
//! all, every machine that connects is taken over as it is: it mined before, and draws its power
//! already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{MachineId, Permitted, Serving, SessionReport, Watts};

use super::presence::Presence;
use super::{Endpoint, Inventory, MachineState, View};
use crate::facility::PerFeed;
use crate::policy::Policy;

#[derive(Debug, Default)]
pub(super) struct PermittedSet {
    machines: BTreeSet<MachineId>,
    /// The members that nothing shows now, and since when.
    away: BTreeMap<MachineId, Instant>,
    /// The machines that wait, and since when.
    newcomers: BTreeMap<MachineId, Instant>,
    /// The machines that were to be off at the last look.
    off: BTreeSet<MachineId>,
    /// Whether newcomers wait. If not, everyone is permitted.
    limits: bool,
    /// Whether it has changed since [`Inventory::changed_permitted`] was asked last.
    is_changed: bool,
    /// Whether one was removed since then.
    has_removed: bool,
    /// Whether the last answer of [`Inventory::changed_permitted`] was everyone.
    tells_everyone: bool,
}

impl PermittedSet {
    fn insert(&mut self, machine: &MachineId) {
        if !self.machines.contains(machine) {
            self.machines.insert(machine.clone());
            self.is_changed = true;
        }
    }

    fn remove(&mut self, machine: &MachineId) {
        self.away.remove(machine);
        let is_removed = self.machines.remove(machine);
        self.is_changed |= is_removed;
        self.has_removed |= is_removed;
    }

    /// Takes up how `machine` shows itself. One that is to be off keeps its place. Returns whether it
    /// has become a newcomer, or is none any more.
    fn see(
        &mut self,
        machine: &MachineId,
        presence: Presence,
        (is_claimed, is_off): (bool, bool),
        now: Instant,
    ) -> bool {
        let takes_over = !self.limits && presence > Presence::Away;
        if is_claimed && (presence == Presence::Works || takes_over) {
            self.insert(machine);
        }
        if presence > Presence::Away || is_off || !self.machines.contains(machine) {
            self.away.remove(machine);
        } else {
            self.away.entry(machine.clone()).or_insert(now);
        }
        let is_newcomer = self.limits
            && is_claimed
            && !is_off
            && presence == Presence::Connected
            && !self.machines.contains(machine);
        let was_newcomer = self.newcomers.contains_key(machine);
        if is_newcomer && !was_newcomer {
            self.newcomers.insert(machine.clone(), now);
        } else if !is_newcomer {
            self.newcomers.remove(machine);
        }
        is_newcomer != was_newcomer
    }
}

impl Inventory {
    /// Continues with the permitted set of a former process.
    pub fn restore_permitted(&mut self, machines: &BTreeSet<MachineId>, now: Instant) {
        self.permitted.machines.clone_from(machines);
        self.permitted.away = machines.iter().map(|machine| (machine.clone(), now)).collect();
        self.permitted.is_changed = true;
    }

    /// Has newcomers wait from now on, or not any more.
    pub fn limit_newcomers(&mut self, limits: bool) {
        if self.permitted.limits != limits {
            self.permitted.limits = limits;
            self.permitted.is_changed = true;
            self.roster.look_at_all();
        }
    }

    /// Permits work to `machine`.
    pub fn permit(&mut self, machine: &MachineId) {
        self.permitted.insert(machine);
        if self.permitted.newcomers.remove(machine).is_some() {
            self.roster.note([machine.clone()]);
        }
    }

    /// Takes back what was permitted to `machine`, unless it works.
    pub fn take_back(&mut self, machine: &MachineId) {
        if self.presence(machine) < Presence::Works {
            self.permitted.remove(machine);
            self.roster.note([machine.clone()]);
        }
    }

    #[must_use]
    pub fn is_permitted(&self, machine: &MachineId) -> bool {
        self.permitted.machines.contains(machine)
    }

    #[must_use]
    pub fn is_newcomer(&self, machine: &MachineId) -> bool {
        self.permitted.newcomers.contains_key(machine)
    }

    /// What the members draw that nothing shows now: they may be back at any moment, and get work at
    /// once.
    #[must_use]
    pub fn away_load(&self, policy: &Policy) -> PerFeed<Watts> {
        let facility = &policy.facility;
        let mut load = PerFeed::all(facility.feeds(), Watts::ZERO);
        for machine in self.permitted.away.keys() {
            if let Some(group) = self.group(policy, machine) {
                let watts = facility.groups()[group].watts;
                facility.feeds().add(&mut load, facility.group_feed(group), watts);
            }
        }
        load
    }

    /// What the machines draw that have work, by the figures of the policy.
    #[must_use]
    pub fn working_load(&self, policy: &Policy) -> PerFeed<Watts> {
        let facility = &policy.facility;
        let mut load = PerFeed::all(facility.feeds(), Watts::ZERO);
        for endpoint in self.endpoints.values() {
            let View::Proxy(sessions) = &endpoint.view else { continue };
            let works = |session: &&SessionReport| {
                session.sessions > 0 && session.serving == Serving::Working
            };
            for session in sessions.entries().values().filter(works) {
                let Some(group) = self.group(policy, &session.machine) else { continue };
                let (feed, watts) = (facility.group_feed(group), facility.groups()[group].watts);
                facility.feeds().add(&mut load, feed, watts);
            }
        }
        load
    }

    /// Whether `machine` has a session.
    #[must_use]
    pub fn is_connected(&self, machine: &MachineId) -> bool {
        self.presence(machine) >= Presence::Connected
    }

    /// Whether an agent reaches `machine`, so that it counts as load before it has work.
    #[must_use]
    pub fn is_reached(&self, machine: &MachineId) -> bool {
        self.device(machine).is_some()
    }

    /// The machines that wait for room, and since when.
    #[must_use]
    pub fn newcomers(&self) -> &BTreeMap<MachineId, Instant> {
        &self.permitted.newcomers
    }

    /// Whether a machine has left the permitted set since [`Self::changed_permitted`] was asked last.
    #[must_use]
    pub fn has_removed_permitted(&self) -> bool {
        self.permitted.has_removed
    }

    /// The permitted set, if it is another one than at the last call.
    pub fn changed_permitted(&mut self) -> Option<Permitted> {
        let set = &mut self.permitted;
        let is_changed = std::mem::take(&mut set.is_changed);
        set.has_removed = false;
        if set.limits {
            set.tells_everyone = false;
            return is_changed.then(|| Permitted::Only(Arc::new(set.machines.clone())));
        }
        (!std::mem::replace(&mut set.tells_everyone, true)).then_some(Permitted::Everyone)
    }

    /// The members of the permitted set.
    #[must_use]
    pub fn permitted(&self) -> &BTreeSet<MachineId> {
        &self.permitted.machines
    }

    /// Whether newcomers wait.
    #[must_use]
    pub fn limits_newcomers(&self) -> bool {
        self.permitted.limits
    }

    /// Brings the set up to date with the machines whose reports have changed, or with all. `off` has
    /// those that are to be off now. Returns the machines that have become newcomers, or are none any
    /// more.
    pub(super) fn see_present(
        &mut self,
        policy: &Policy,
        off: &BTreeMap<MachineId, MachineState>,
        changed: Option<&BTreeSet<MachineId>>,
        now: Instant,
    ) -> Vec<MachineId> {
        let mut set = std::mem::take(&mut self.permitted);
        // Those that may run again, or may not any more, have no other report for that.
        let mut seen: BTreeSet<MachineId> =
            set.off.iter().filter(|machine| !off.contains_key(*machine)).cloned().collect();
        seen.extend(off.keys().filter(|machine| !set.off.contains(*machine)).cloned());
        match changed {
            Some(changed) => seen.extend(changed.iter().cloned()),
            None => {
                seen.extend(self.endpoints.values().flat_map(Endpoint::machines).cloned());
                seen.extend(set.machines.iter().chain(set.newcomers.keys()).cloned());
            }
        }
        let mut presences = std::mem::take(&mut self.presences);
        seen.retain(|machine| {
            let (group, presence) = (self.group(policy, machine), self.presence(machine));
            if let Some(group) = group {
                self.trace(&mut presences, machine, (group, presence), now);
            }
            set.see(machine, presence, (group.is_some(), off.contains_key(machine)), now)
        });
        presences.forget_gone();
        self.presences = presences;
        if set.off.len() != off.len() || off.keys().any(|machine| !set.off.contains(machine)) {
            set.off = off.keys().cloned().collect();
        }
        let expired = |(machine, since): (&MachineId, &Instant)| {
            let group = self.group(policy, machine).map(|group| &policy.facility.groups()[group]);
            let restore = group.map_or(Duration::ZERO, |group| group.restore_p95);
            let kept = policy.newcomers.away_after.max(restore.saturating_mul(2));
            let is_over = now.saturating_duration_since(*since) > kept;
            is_over.then(|| machine.clone())
        };
        let expired: Vec<MachineId> = set.away.iter().filter_map(expired).collect();
        for machine in expired {
            set.remove(&machine);
        }
        self.permitted = set;
        seen.into_iter().collect()
    }
}
