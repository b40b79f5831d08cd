//! The machines that a plan can choose, kept up to date as reports come in. A look through the
//! inventory lists only the machines whose reports have changed in what matters here, and those that
//! are newly chosen to be off, or no longer, or whose state has changed: at a large site these are few.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use directive::MachineId;
use jiff::Timestamp;

use super::{FORGOTTEN, Inventory, MachineState};
use crate::facility::Population;
use crate::plan::{Fleet, Known, Selection};
use crate::policy::Policy;

#[derive(Debug, Default)]
pub(super) struct Roster {
    fleet: Fleet,
    /// The machines that are counted in the population.
    counted: HashMap<MachineId, Counted>,
    /// The group of each newcomer that got a place since [`Inventory::take_joined`] was called last.
    joined: Vec<usize>,
    /// Machines whose reports have changed since the last look.
    changed: BTreeSet<MachineId>,
    /// The machines that were chosen at the last look, in order, and the states of those that were to be
    /// off then.
    chosen: Vec<(MachineId, Option<MachineState>)>,
    /// Whether all machines were looked at last, by the wall clock, which may be another than that of the
    /// states: all that are chosen are listed by their states next.
    lists_chosen: bool,
    /// Whether all machines must be looked at: the groups have changed.
    is_stale: bool,
    /// Whether machines had had the time to appear at the last look.
    was_settled: bool,
}

/// As what a machine counts that has a live session or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Group(usize),
    /// No group claims it, and it has work or a device.
    Unassigned,
    /// No group claims it, and it gets no work.
    Waiting,
    /// A group claims it, it has no device, and it gets no work until there is room for it.
    Newcomer(usize),
}

impl Roster {
    /// Notes machines whose reports have changed.
    pub(super) fn note(&mut self, machines: impl IntoIterator<Item = MachineId>) {
        self.changed.extend(machines);
    }

    /// The first names of machines that no group claims, at most `limit` of them.
    pub(super) fn unassigned(&self, limit: usize) -> Vec<MachineId> {
        let population = &self.fleet.population;
        if population.unassigned == 0 && population.waiting == 0 {
            return Vec::new();
        }
        let mut first: BTreeSet<&MachineId> = BTreeSet::new();
        let is_unassigned =
            |counted: &Counted| matches!(counted, Counted::Unassigned | Counted::Waiting);
        for (machine, _) in self.counted.iter().filter(|(_, counted)| is_unassigned(counted)) {
            first.insert(machine);
            if first.len() > limit {
                first.pop_last();
            }
        }
        first.into_iter().cloned().collect()
    }

    /// The machines that no group claims and that get no work.
    pub(super) fn waiting(&self) -> Vec<MachineId> {
        let waits = |(machine, counted): (&MachineId, &Counted)| {
            (*counted == Counted::Waiting).then(|| machine.clone())
        };
        self.counted.iter().filter_map(waits).collect()
    }

    /// Has all machines looked at again.
    pub(super) fn look_at_all(&mut self) {
        self.is_stale = true;
    }

    /// Has everything looked at again, because the groups have changed.
    pub(super) fn forget(&mut self) {
        *self = Self { is_stale: true, ..Self::default() };
    }
}

impl Inventory {
    /// Brings the fleet up to date. `states` has the state of each machine that is to be off now.
    /// Returns the fleet if it has changed since the last call.
    pub fn new_fleet(
        &mut self,
        policy: &Policy,
        held: &Selection,
        states: &BTreeMap<MachineId, MachineState>,
        wall: Timestamp,
        now: Instant,
    ) -> Option<&Fleet> {
        let mut roster = std::mem::take(&mut self.roster);
        let changed = (!roster.must_look_at_all(policy)).then_some(&roster.changed);
        let changed = self.see_present(policy, states, changed, now);
        roster.changed.extend(changed);
        let is_changed = self.bring_up_to_date(&mut roster, policy, held, states, (wall, now));
        self.roster = roster;
        is_changed.then_some(&self.roster.fleet)
    }

    /// The fleet as [`Self::new_fleet`] found it last.
    #[must_use]
    pub fn last_fleet(&self) -> &Fleet {
        &self.roster.fleet
    }

    /// The group of each newcomer that got a place among the machines that count as load, since this was
    /// called last.
    pub(crate) fn take_joined(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.roster.joined)
    }

    fn bring_up_to_date(
        &self,
        roster: &mut Roster,
        policy: &Policy,
        held: &Selection,
        states: &BTreeMap<MachineId, MachineState>,
        (wall, now): (Timestamp, Instant),
    ) -> bool {
        let settled =
            self.since.is_some_and(|since| now.saturating_duration_since(since) > FORGOTTEN);
        let all = roster.must_look_at_all(policy) || settled != roster.was_settled;
        (roster.is_stale, roster.was_settled) = (false, settled);
        if all {
            let fleet = self.fleet(policy, held, wall, now);
            roster.counted = self.counted(policy);
            roster.changed.clear();
            roster.chosen =
                chosen_in(held, states).map(|(id, state)| (id.clone(), state)).collect();
            roster.lists_chosen = true;
            let is_changed = fleet != roster.fleet;
            roster.fleet = fleet;
            return is_changed;
        }
        let mut is_changed = false;
        let changed = std::mem::take(&mut roster.changed);
        for machine in &changed {
            is_changed |= self.recount(roster, policy, machine);
        }
        // A machine that is chosen as before, and that is in the same state, is listed as before.
        let mut listed: BTreeSet<&MachineId> = changed.iter().collect();
        let before = std::mem::take(&mut roster.chosen);
        let lists_chosen = std::mem::take(&mut roster.lists_chosen);
        let mut earlier = before.iter().peekable();
        for (machine, state) in chosen_in(held, states) {
            while let Some((gone, _)) = earlier.next_if(|(other, _)| other < machine) {
                listed.insert(gone);
            }
            let known = earlier.next_if(|(other, _)| other == machine).map(|(_, state)| *state);
            if lists_chosen || known != Some(state) {
                listed.insert(machine);
            }
        }
        listed.extend(earlier.map(|(gone, _)| gone));
        for machine in listed {
            let group = self.group(policy, machine);
            let state = states.get(machine).copied();
            let listed = group.and_then(|_| self.listed(policy, machine, held, state, settled));
            is_changed |= roster.list(machine, group, listed);
        }
        roster.chosen = chosen_in(held, states).map(|(id, state)| (id.clone(), state)).collect();
        is_changed
    }

    /// Counts `machine` anew in the population. Returns whether that changed.
    fn recount(&self, roster: &mut Roster, policy: &Policy, machine: &MachineId) -> bool {
        let after = self.is_counted(machine).then(|| self.counts_as(policy, machine));
        let before = match after {
            Some(after) => roster.counted.insert(machine.clone(), after),
            None => roster.counted.remove(machine),
        };
        if before == after {
            return false;
        }
        if let (Some(Counted::Newcomer(from)), Some(Counted::Group(to))) = (before, after)
            && from == to
        {
            roster.joined.push(to);
        }
        if let Some(before) = before {
            roster.fleet.population.add(policy, before, -1);
        }
        if let Some(after) = after {
            roster.fleet.population.add(policy, after, 1);
        }
        // Who waits is no load, unless it is known what that draws: whoever opens and closes sessions
        // causes no plan.
        let is_load = |counted: Counted| match counted {
            Counted::Group(_) | Counted::Unassigned => true,
            Counted::Waiting => false,
            Counted::Newcomer(group) => policy.facility.counts_waiting(group),
        };
        before.is_some_and(is_load) || after.is_some_and(is_load)
    }

    fn counted(&self, policy: &Policy) -> HashMap<MachineId, Counted> {
        let names = self.endpoints.values().flat_map(super::Endpoint::machines);
        let counted = names.filter(|machine| self.is_counted(machine));
        counted.map(|machine| (machine.clone(), self.counts_as(policy, machine))).collect()
    }

    /// Whether a live session or a device stands for `machine`.
    fn is_counted(&self, machine: &MachineId) -> bool {
        self.endpoints.values().any(|endpoint| endpoint.counts(machine))
    }

    /// How a plan sees `machine`, if it can choose it. `state` is its state if it is to be off now.
    fn listed(
        &self,
        policy: &Policy,
        machine: &MachineId,
        held: &Selection,
        state: Option<MachineState>,
        settled: bool,
    ) -> Option<Known> {
        let device = self.device(machine);
        if device.is_none() && self.is_newcomer(machine) {
            return None;
        }
        let is_named = device.is_some() || self.sessions(machine).next().is_some();
        let is_awaited = settled && state.is_none() && held.off.contains_key(machine);
        if !is_named && !is_awaited {
            return None;
        }
        let absent = settled && state.is_none() && !self.shows(machine);
        let failing = match state {
            Some(state) => state == MachineState::Disobedient,
            None => absent || device.is_some_and(|device| device.has_failed(policy)),
        };
        Some(Known { id: machine.clone(), reached: device.is_some(), failing, absent })
    }
}

/// The machines of `held`, in order, with the states of those that `states` has.
fn chosen_in<'a>(
    held: &'a Selection,
    states: &'a BTreeMap<MachineId, MachineState>,
) -> impl Iterator<Item = (&'a MachineId, Option<MachineState>)> {
    let mut states = states.iter().peekable();
    held.off.keys().map(move |machine| {
        while states.next_if(|(other, _)| *other < machine).is_some() {}
        let state = states.next_if(|(other, _)| *other == machine);
        (machine, state.map(|(_, state)| *state))
    })
}

impl Roster {
    fn must_look_at_all(&self, policy: &Policy) -> bool {
        self.is_stale || self.fleet.groups.len() != policy.facility.groups().len()
    }

    /// Lists `machine` in `group` as `known`, or takes it off the list. Returns whether that changed
    /// anything.
    fn list(&mut self, machine: &MachineId, group: Option<usize>, known: Option<Known>) -> bool {
        let Some(group) = group.and_then(|group| self.fleet.groups.get_mut(group)) else {
            return false;
        };
        match (group.binary_search_by(|other| other.id.cmp(machine)), known) {
            (Ok(place), Some(known)) => {
                let is_changed = group[place] != known;
                group[place] = known;
                is_changed
            }
            (Ok(place), None) => {
                group.remove(place);
                true
            }
            (Err(place), Some(known)) => {
                group.insert(place, known);
                true
            }
            (Err(_), None) => false,
        }
    }
}

impl Population {
    /// Counts `machines` more, or fewer, of a kind.
    pub(super) fn add(&mut self, policy: &Policy, counted: Counted, machines: i32) {
        let (counts, group) = match counted {
            Counted::Group(group) => (&mut self.groups, group),
            Counted::Newcomer(group) => (&mut self.newcomers, group),
            Counted::Unassigned => {
                self.unassigned = self.unassigned.saturating_add_signed(machines);
                return;
            }
            Counted::Waiting => {
                self.waiting = self.waiting.saturating_add_signed(machines);
                return;
            }
        };
        let Some(group) = policy.facility.groups().get(group) else { return };
        let count = counts.entry(group.id.clone()).or_insert(0);
        *count = count.saturating_add_signed(machines);
        if *count == 0 {
            counts.remove(&group.id);
        }
    }
}
