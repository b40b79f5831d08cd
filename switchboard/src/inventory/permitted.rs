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

use directive::{DeviceState, MachineId, Permitted, Serving};

use super::Inventory;
use crate::plan::Selection;
use crate::policy::Policy;

#[derive(Debug, Default)]
pub(super) struct PermittedSet {
    machines: BTreeSet<MachineId>,
    /// The members that nothing shows now, and since when.
    away: BTreeMap<MachineId, Instant>,
    newcomers: BTreeSet<MachineId>,
    /// Whether newcomers wait. If not, everyone is permitted.
    limits: bool,
    /// Whether it has changed since [`Inventory::changed_permitted`] was asked last.
    is_changed: bool,
    /// Whether the last answer of [`Inventory::changed_permitted`] was everyone.
    tells_everyone: bool,
}

/// How a machine shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Presence {
    /// Not at all.
    Away,
    /// Its device answers.
    Answers,
    /// It has a session without work.
    Connected,
    Works,
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
        self.is_changed |= self.machines.remove(machine);
    }

    fn see(&mut self, machine: &MachineId, presence: Presence, is_claimed: bool, now: Instant) {
        let takes_over = !self.limits && presence > Presence::Away;
        if is_claimed && (presence == Presence::Works || takes_over) {
            self.insert(machine);
        }
        if presence > Presence::Away || !self.machines.contains(machine) {
            self.away.remove(machine);
        } else {
            self.away.entry(machine.clone()).or_insert(now);
        }
        let is_newcomer = self.limits
            && is_claimed
            && presence == Presence::Connected
            && !self.machines.contains(machine);
        if !is_newcomer {
            self.newcomers.remove(machine);
        } else if !self.newcomers.contains(machine) {
            self.newcomers.insert(machine.clone());
        }
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
        if self.permitted.newcomers.remove(machine) {
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
        self.permitted.newcomers.contains(machine)
    }

    /// The machines that wait for room.
    #[must_use]
    pub fn newcomers(&self) -> &BTreeSet<MachineId> {
        &self.permitted.newcomers
    }

    /// The permitted set, if it is another one than at the last call.
    pub fn changed_permitted(&mut self) -> Option<Permitted> {
        let set = &mut self.permitted;
        let is_changed = std::mem::take(&mut set.is_changed);
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

    /// Brings the set up to date with the machines whose reports have changed. `held` has the
    /// machines that the plan has off: they keep their place, and do not count as newcomers.
    pub(super) fn see_present<'m>(
        &mut self,
        policy: &Policy,
        held: &Selection,
        changed: impl Iterator<Item = &'m MachineId>,
        now: Instant,
    ) {
        let mut set = std::mem::take(&mut self.permitted);
        for machine in changed {
            let is_held = held.off.contains_key(machine);
            let presence = if is_held { Presence::Answers } else { self.presence(machine) };
            set.see(machine, presence, self.group(policy, machine).is_some(), now);
        }
        let expired = |(machine, since): (&MachineId, &Instant)| {
            let group = self.group(policy, machine).map(|group| &policy.facility.groups()[group]);
            let restore = group.map_or(Duration::ZERO, |group| group.restore_p95);
            let kept = policy.newcomers.away_after.max(restore.saturating_mul(2));
            let is_over = now.saturating_duration_since(*since) > kept;
            (is_over && !held.off.contains_key(machine)).then(|| machine.clone())
        };
        let expired: Vec<MachineId> = set.away.iter().filter_map(expired).collect();
        for machine in expired {
            set.remove(&machine);
        }
        self.permitted = set;
    }

    fn presence(&self, machine: &MachineId) -> Presence {
        let sessions = self.sessions(machine).filter(|session| session.sessions > 0);
        let session = sessions.map(|session| match session.serving {
            Serving::Working => Presence::Works,
            Serving::Parked | Serving::Gone => Presence::Connected,
        });
        let device = self.device(machine).map_or(Presence::Away, |device| {
            let answers = device.report.state != DeviceState::Unknown;
            if answers { Presence::Answers } else { Presence::Away }
        });
        session.max().unwrap_or(device)
    }
}
