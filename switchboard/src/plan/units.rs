//! The machines that a plan is made for, in the order in which they are taken off, and their
//! cohorts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::{GroupId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::input::Pause;
use super::merit::places;
use super::shape::{Cohort, STARVED};
use super::{Chosen, Fleet, Known, Selection};
use crate::admit::shed_time;
use crate::cause::Cause;
use crate::lease::later;
use crate::policy::Policy;

/// A machine that is off at some time, or was chosen to be by an earlier plan.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: MachineId,
    /// The number of its group. A machine whose group the policy no longer has frees nothing.
    pub(super) group: Option<usize>,
    /// Its cohort and its place there. Units are taken off in this order; one that frees nothing has
    /// no cohort.
    pub(super) place: Option<(u32, u32)>,
    pub(super) periods: Vec<Period>,
    /// The period that covers the moment under consideration.
    pub(super) active: Option<usize>,
}

/// One period off. Its times are set after the machines are chosen.
#[derive(Debug)]
pub(super) struct Period {
    pub(super) cause: Cause,
    /// The number of its lease among those that the plan is made for, if it is one of them.
    pub(super) number: Option<usize>,
    /// The same period in an earlier plan.
    pub(super) held: Option<Before>,
    /// The end of a lease that made it needless.
    pub(super) edge: Option<Timestamp>,
    /// When its power is needed, unless that is when the lease reserves it.
    pub(super) due: Option<Timestamp>,
    /// If an earlier plan made it for a limit that was to be lower: from when on that is.
    pub(super) ahead: Option<Timestamp>,
    /// When it would begin if no earlier plan had chosen it: late enough, and in time for the ramp.
    pub(super) natural: Option<Timestamp>,
    pub(super) at: Timestamp,
    pub(super) until: Option<Timestamp>,
    pub(super) means: Means,
    pub(super) group: GroupId,
    /// Whether this plan has needed it.
    pub(super) used: bool,
    /// Whether it follows a period for something else without a break, which fixes its beginning.
    pub(super) passed_on: bool,
}

/// The times of a period in an earlier plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) at: Timestamp,
    pub(super) until: Option<Timestamp>,
    pub(super) edge: Option<Timestamp>,
}

/// The machines, cohort by cohort. Only those that are off at some time are units.
#[derive(Debug)]
pub(super) struct Units<'a> {
    /// Until further ones are added, those of one cohort are in the order of their places.
    pub(super) units: Vec<Unit>,
    pub(super) cohorts: Vec<Cohort>,
    pub(super) pauses: Vec<Pause>,
    pub(super) members: Vec<Members<'a>>,
    /// The units that free nothing.
    pub(super) without: Vec<usize>,
}

/// The machines of one cohort, by name.
#[derive(Debug)]
pub(super) struct Members<'a> {
    group: usize,
    names: Names<'a>,
    /// The unit of each, if it is one. Empty as long as none is.
    units: Vec<Option<u32>>,
}

/// The machines of a cohort, by name.
#[derive(Debug)]
enum Names<'a> {
    /// All that were seen of the group. Most groups are of one cohort.
    Group(&'a [Known]),
    Some(Vec<&'a MachineId>),
}

impl<'a> Names<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Group(machines) => machines.len(),
            Self::Some(names) => names.len(),
        }
    }

    fn at(&self, place: usize) -> &'a MachineId {
        match self {
            Self::Group(machines) => &machines[place].id,
            Self::Some(names) => names[place],
        }
    }

    /// The place of a machine that may be listed at `place` of its group.
    fn find(&self, machine: &MachineId, place: Option<usize>) -> Option<usize> {
        match self {
            Self::Group(_) => place,
            Self::Some(names) => names.binary_search(&machine).ok(),
        }
    }

    fn insert(&mut self, machine: &'a MachineId) {
        if let Self::Group(machines) = self {
            *self = Self::Some(machines.iter().map(|known| &known.id).collect());
        }
        if let Self::Some(names) = self
            && let Err(place) = names.binary_search(&machine)
        {
            names.insert(place, machine);
        }
    }
}

impl Members<'_> {
    fn set(&mut self, place: usize, unit: usize) {
        if self.units.is_empty() {
            self.units.resize(self.names.len(), None);
        }
        self.units[place] = u32::try_from(unit).ok();
    }
}

/// Where a machine stands in the order: tier, rank of the group, number of the group.
type Key = (u8, usize, usize);

/// A machine that an earlier plan has chosen.
struct Held<'a> {
    machine: &'a MachineId,
    periods: &'a [Chosen],
    group: Option<usize>,
    /// Its place among the machines that were seen of the group.
    place: Option<usize>,
    /// Where it stands if it can be counted.
    key: Option<Key>,
}

impl<'a> Units<'a> {
    pub(super) fn new(
        policy: &Policy,
        fleet: &'a Fleet,
        held: &'a Selection,
        now: Timestamp,
    ) -> Self {
        let facility = &policy.facility;
        let places = places(policy);
        let key = |number: usize, woken: bool, reached: bool| {
            let tier = tier(facility.groups()[number].backs_firm(), woken, reached);
            (tier, places[number].rank, number)
        };
        let mut woken = vec![BTreeSet::new(); facility.groups().len()];
        for (machine, since) in &held.woken {
            let found = fleet.find(facility, machine, None);
            if let Some((number, at)) = found
                && later(*since, facility.groups()[number].min_up) > now
            {
                woken[number].insert(at);
            }
        }
        let mut by_key: BTreeMap<Key, Names<'_>> = BTreeMap::new();
        for (number, machines) in fleet.groups.iter().enumerate().take(facility.groups().len()) {
            if facility.groups()[number].freed() <= Watts::ZERO {
                continue;
            }
            let Some(first) = machines.first() else { continue };
            let alike = |known: &Known| !known.failing && known.reached == first.reached;
            if woken[number].is_empty() && machines.iter().all(alike) {
                by_key.insert(key(number, false, first.reached), Names::Group(machines));
                continue;
            }
            for (at, known) in machines.iter().enumerate().filter(|(_, known)| !known.failing) {
                let key = key(number, woken[number].contains(&at), known.reached);
                let names = by_key.entry(key).or_insert_with(|| Names::Some(Vec::new()));
                if let Names::Some(names) = names {
                    names.push(&known.id);
                }
            }
        }
        // Where each machine belongs that an earlier plan has chosen.
        let mut chosen: Vec<Held<'_>> = Vec::with_capacity(held.off.len());
        for (machine, periods) in &held.off {
            let named = periods.first().and_then(|chosen| facility.group_number(&chosen.group));
            let found = fleet.find(facility, machine, named);
            // A policy may have given the group another name since.
            let group = found.map(|(number, _)| number).or(named);
            let group = group.or_else(|| facility.claimed_by(machine));
            let frees = group.filter(|number| facility.groups()[*number].freed() > Watts::ZERO);
            let key = match (frees, found) {
                (Some(number), Some((_, at))) => {
                    let known = &fleet.groups[number][at];
                    let key = key(number, woken[number].contains(&at), known.reached);
                    (!known.failing).then_some(key)
                }
                // It is counted although no report shows it: it may still be as it was.
                (Some(number), None) => {
                    let key = key(number, false, false);
                    let names = by_key.entry(key).or_insert_with(|| Names::Some(Vec::new()));
                    names.insert(machine);
                    Some(key)
                }
                (None, _) => None,
            };
            let place = found.map(|(_, place)| place);
            chosen.push(Held { machine, periods, group, place, key });
        }
        let (mut units, numbers) = Self::of_cohorts(policy, by_key, |number| places[number].worth);
        units.units.reserve(chosen.len());
        for held in chosen {
            let cohort = held.key.and_then(|key| numbers.get(&key).copied());
            units.adopt(&held, cohort, now);
        }
        units
    }

    /// The cohorts and their members, and the number of each cohort.
    fn of_cohorts(
        policy: &Policy,
        by_key: BTreeMap<Key, Names<'a>>,
        worth: impl Fn(usize) -> f64,
    ) -> (Self, BTreeMap<Key, u32>) {
        let facility = &policy.facility;
        let (mut cohorts, mut pauses, mut members) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers = BTreeMap::new();
        for (key, names) in by_key {
            let (tier, _, number) = key;
            let group = &facility.groups()[number];
            numbers.insert(key, u32::try_from(cohorts.len()).unwrap_or(u32::MAX));
            cohorts.push(Cohort {
                feed: facility.group_feed(number),
                tier,
                worth: worth(number),
                frees: group.freed(),
                machines: u32::try_from(names.len()).unwrap_or(u32::MAX),
            });
            let times =
                [group.min_up, group.restore_p95, shed_time(group), policy.dispatch.proof()];
            pauses.push(Pause(times.into_iter().fold(Duration::ZERO, Duration::saturating_add)));
            members.push(Members { group: number, names, units: Vec::new() });
        }
        (Self { units: Vec::new(), cohorts, pauses, members, without: Vec::new() }, numbers)
    }

    /// Makes a unit of a machine that an earlier plan has chosen.
    fn adopt(&mut self, held: &Held<'_>, cohort: Option<u32>, now: Timestamp) {
        let period = |chosen: &Chosen| Period {
            cause: chosen.cause.clone(),
            number: None,
            edge: None,
            due: None,
            ahead: None,
            natural: None,
            at: chosen.at,
            until: None,
            means: chosen.means,
            group: chosen.group.clone(),
            used: false,
            passed_on: chosen.passed_on && chosen.at > now,
            held: Some(Before { at: chosen.at, until: chosen.until, edge: chosen.edge }),
        };
        let number = self.units.len();
        let place = cohort.and_then(|cohort| {
            let members = &mut self.members[cohort as usize];
            let place = members.names.find(held.machine, held.place)?;
            members.set(place, number);
            Some((cohort, u32::try_from(place).unwrap_or(u32::MAX)))
        });
        if place.is_none() {
            self.without.push(number);
        }
        let periods = held.periods.iter().map(period).collect();
        let (id, group) = (held.machine.clone(), held.group);
        self.units.push(Unit { id, group, place, periods, active: None });
    }

    /// The unit of the machine at `place` of `cohort`.
    pub(super) fn unit(&mut self, cohort: u32, place: u32) -> usize {
        if let Some(unit) = self.at(cohort, place) {
            return unit;
        }
        let members = &mut self.members[cohort as usize];
        let number = self.units.len();
        members.set(place as usize, number);
        self.units.push(Unit {
            id: members.names.at(place as usize).clone(),
            group: Some(members.group),
            place: Some((cohort, place)),
            periods: Vec::new(),
            active: None,
        });
        number
    }

    /// The unit of the machine at `place` of `cohort`, if it is one.
    pub(super) fn at(&self, cohort: u32, place: u32) -> Option<usize> {
        let unit = self.members[cohort as usize].units.get(place as usize)?;
        unit.map(|unit| unit as usize)
    }

    /// All units in the order in which they are taken off, those that free nothing last, and which of
    /// them `picked` are.
    pub(super) fn in_order(self, picked: &[usize]) -> (Vec<Unit>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.units.len()).collect();
        order.sort_by_key(|unit| {
            let unit = &self.units[*unit];
            (unit.place.is_none(), unit.place)
        });
        let mut place_of = vec![0; order.len()];
        for (place, unit) in order.iter().enumerate() {
            place_of[*unit] = place;
        }
        let mut units: Vec<Option<Unit>> = self.units.into_iter().map(Some).collect();
        let in_order = order.into_iter().filter_map(|unit| units[unit].take()).collect();
        (in_order, picked.iter().map(|unit| place_of[*unit]).collect())
    }
}

fn tier(firm: bool, lately_woken: bool, reached: bool) -> u8 {
    u8::from(!firm) * STARVED + u8::from(lately_woken) * 2 + u8::from(!reached)
}
