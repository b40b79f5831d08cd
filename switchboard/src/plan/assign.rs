//! Names the machines: goes through the intervals and says which machines of each cohort are off in
//! which, and for which lease. It never changes a count. Machines that are off stay off before others
//! go, those chosen by an earlier plan are chosen again, and a machine that stays off when its lease
//! ends passes to a lease that needs it.

mod fallback;
mod pass_on;
mod take_off;
mod why;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use directive::{LeaseId, MachineId, Watts};
use jiff::Timestamp;

use super::counts::{Change, Counts, Input, Interval};
use super::units::{Period, Unit, Units};
use super::{Chosen, Deficit, Room};
use crate::facility::{Feeds, PerFeed};
use crate::lease::Lease;
use crate::policy::Policy;
use why::Why;
pub(super) use why::off_now;

/// Most rooms that a plan lists. Further ones are left out; the plan itself is complete.
const ROOMS: usize = 20_000;

/// The machines with the periods for which they are off, in the order in which they are taken off.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) units: Vec<Unit>,
    pub(super) rooms: Vec<Room>,
    pub(super) deficits: Vec<Deficit>,
    /// Machines that must go when the plan runs out, as indexes into `units`.
    pub(super) fallback: Vec<usize>,
}

impl Assigned {
    pub(super) fn selected(&self) -> BTreeMap<MachineId, Vec<Chosen>> {
        let chosen = |period: &Period| Chosen {
            group: period.group.clone(),
            lease: period.lease.clone(),
            at: period.at,
            until: period.until,
            edge: period.edge,
            means: period.means,
            passed_on: period.passed_on,
        };
        let off = self.units.iter().filter(|unit| !unit.periods.is_empty());
        off.map(|unit| (unit.id.clone(), unit.periods.iter().map(chosen).collect())).collect()
    }
}

/// Where the leases stand at the moment under consideration.
struct Leases<'a> {
    all: &'a [Lease],
    numbers: HashMap<&'a LeaseId, usize>,
    running: BTreeSet<usize>,
    /// The running leases at each feed, in the order in which they began.
    at: PerFeed<Vec<usize>>,
    /// What the running leases at and below each feed reserve.
    committed: PerFeed<Watts>,
    /// What the machines of each free.
    freed: Vec<Watts>,
    /// The cohorts that have machines of each.
    cohorts: Vec<BTreeSet<u32>>,
}

struct Assign<'a, 'f> {
    policy: &'a Policy,
    feeds: &'a Feeds,
    now: Timestamp,
    units: Units<'f>,
    leases: Leases<'a>,
    /// The machines of each cohort that are off, by their place in it.
    off: Vec<BTreeMap<u32, usize>>,
    /// The machines of each cohort that an earlier plan chose for later.
    chosen_before: Vec<Vec<usize>>,
    /// What the machines that are off free at and below each feed.
    freed: PerFeed<Watts>,
}

pub(super) fn assign(
    input: &Input<'_>,
    counts: Counts,
    units: Units<'_>,
    full: &PerFeed<Watts>,
) -> Assigned {
    let feeds = input.policy.facility.feeds();
    let mut assign = Assign::new(input, units);
    let mut rooms = Vec::new();
    let mut fallback = None;
    for (number, interval) in counts.intervals.iter().enumerate() {
        if interval.beyond && fallback.is_none() {
            fallback = Some(assign.fallback(input));
        }
        let next = &counts.intervals[number + 1..];
        if number == 0 {
            assign.begin(interval, next);
        } else {
            assign.go_on(interval, next);
        }
        if interval.from < interval.to && rooms.len() + feeds.len() <= ROOMS {
            rooms.extend(feeds.numbers().map(|feed| assign.room(feed, interval, input, full)));
        }
    }
    let fallback = fallback.unwrap_or_else(|| assign.fallback(input));
    let (mut units, fallback) = assign.units.in_order(&fallback);
    for unit in &mut units {
        // Periods of an earlier plan that this one did not need are dropped.
        unit.periods.retain(|period| period.used);
    }
    Assigned { units, rooms, deficits: counts.deficits, fallback }
}

impl<'a, 'f> Assign<'a, 'f> {
    fn new(input: &Input<'a>, units: Units<'f>) -> Self {
        let feeds = input.policy.facility.feeds();
        let is_later =
            |unit: &usize| units.units[*unit].periods.iter().any(|period| period.at > input.now);
        let cohorts = (0_u32..).zip(&units.cohorts);
        let chosen_before =
            cohorts.map(|(cohort, _)| units.of(cohort).filter(is_later).collect()).collect();
        Self {
            policy: input.policy,
            feeds,
            now: input.now,
            chosen_before,
            off: vec![BTreeMap::new(); units.cohorts.len()],
            units,
            leases: Leases {
                all: input.leases,
                numbers: input.leases.iter().enumerate().map(|(n, lease)| (&lease.id, n)).collect(),
                running: BTreeSet::new(),
                at: PerFeed::all(feeds, Vec::new()),
                committed: PerFeed::all(feeds, Watts::ZERO),
                freed: vec![Watts::ZERO; input.leases.len()],
                cohorts: vec![BTreeSet::new(); input.leases.len()],
            },
            freed: PerFeed::all(feeds, Watts::ZERO),
        }
    }

    /// The first interval: decides which of the machines that are off stay off, and what for.
    fn begin(&mut self, interval: &Interval, next: &[Interval]) {
        for &lease in &interval.begun {
            self.leases.begin(self.feeds, lease);
        }
        for unit in self.units.without.clone() {
            self.begin_without(unit);
        }
        let last_end = self.leases.all.iter().map(Lease::ends).filter(|end| *end <= self.now).max();
        // First what stays, so that it is known what each lease has.
        let mut left: Vec<(Change, Vec<usize>, usize)> = Vec::new();
        for &change in &interval.changes {
            let cohort = change.cohort;
            let is_off = |unit: &usize| self.units.units[*unit].active.is_some();
            let units = self.units.of(cohort).filter(is_off);
            let mut before: Vec<(Why, usize)> = units.map(|unit| (self.why(unit), unit)).collect();
            // Units of one cohort are in the order of their places, which a stable sort keeps.
            before.sort_by(|(a, _), (b, _)| a.stays_before(*b));
            let stay = before.len().min(change.off as usize);
            for &(_, unit) in &before[stay..] {
                let edge = self.released_at(unit, last_end);
                self.set_period_edge(unit, edge);
            }
            for &(_, unit) in &before[..stay] {
                self.count_off(cohort, unit);
            }
            let running = before[..stay].iter().filter(|(why, _)| *why == Why::Running).count();
            let is_left = |why: Why| matches!(why, Why::Left | Why::Returning(_));
            let without = before[..stay].iter().filter(|(why, _)| is_left(*why));
            let without: Vec<usize> = without.map(|(_, unit)| *unit).collect();
            left.push((change, without, running));
        }
        for (Change { cohort, off, needed }, without, running) in left {
            let for_running = (needed as usize).saturating_sub(running);
            self.pass_on(cohort, &without, for_running, &mut [], interval, next);
            let present = self.off[cohort as usize].len();
            if off as usize > present {
                let mut has: BTreeMap<Option<usize>, u32> = BTreeMap::new();
                for unit in self.off[cohort as usize].values() {
                    *has.entry(self.lease_of(*unit)).or_default() += 1;
                }
                let mut causes = causes_of(interval, cohort);
                for (cause, count) in &mut causes {
                    *count = count.saturating_sub(has.get(cause).copied().unwrap_or(0));
                }
                self.take_off(cohort, off as usize - present, causes, interval, next);
            }
        }
    }

    /// Every further interval.
    fn go_on(&mut self, interval: &Interval, next: &[Interval]) {
        let mut cohorts: BTreeSet<u32> =
            interval.changes.iter().map(|change| change.cohort).collect();
        for &lease in &interval.ended {
            self.leases.end(self.feeds, lease);
            cohorts.append(&mut std::mem::take(&mut self.leases.cohorts[lease]));
            self.release_without(lease, interval.from);
        }
        for &lease in &interval.begun {
            self.leases.begin(self.feeds, lease);
        }
        for cohort in cohorts {
            let present = self.off[cohort as usize].len();
            let change = interval.changes.iter().find(|change| change.cohort == cohort);
            let (off, needed) = change
                .map_or((present, present), |change| (change.off as usize, change.needed as usize));
            let is_over = |unit: &usize| {
                let lease = self.lease_of(*unit);
                lease.is_some_and(|lease| interval.ended.contains(&lease))
            };
            let (over, others): (Vec<usize>, Vec<usize>) =
                self.off[cohort as usize].values().copied().partition(is_over);
            // The ones that earn most and go last come back first; of one cohort, those of ended
            // leases before others.
            let released = present.saturating_sub(off);
            let back: BTreeSet<usize> =
                over.iter().rev().chain(others.iter().rev()).copied().take(released).collect();
            for &unit in &back {
                self.give_back(cohort, unit, interval.from);
            }
            let stays: Vec<usize> = over.into_iter().filter(|unit| !back.contains(unit)).collect();
            let for_running = needed.saturating_sub(others.len());
            let mut causes = causes_of(interval, cohort);
            self.pass_on(cohort, &stays, for_running, &mut causes, interval, next);
            if off > present {
                self.take_off(cohort, off - present, causes, interval, next);
            }
        }
    }

    fn why(&self, unit: usize) -> Why {
        let unit = &self.units.units[unit];
        unit.active.map_or(Why::Left, |active| {
            Why::of(&unit.periods[active], self.leases.all, &self.leases.numbers, self.now)
        })
    }

    /// The lease that a machine is off for, if it is open.
    fn lease_of(&self, unit: usize) -> Option<usize> {
        let unit = &self.units.units[unit];
        let lease = unit.periods[unit.active?].lease.as_ref()?;
        self.leases.numbers.get(lease).copied()
    }

    fn count_off(&mut self, cohort: u32, unit: usize) {
        let of = &self.units.cohorts[cohort as usize];
        self.feeds.add(&mut self.freed, of.feed, of.frees);
        if let Some((_, place)) = self.units.units[unit].place {
            self.off[cohort as usize].insert(place, unit);
        }
        if let Some(lease) = self.lease_of(unit) {
            self.leases.freed[lease] += of.frees;
            self.leases.cohorts[lease].insert(cohort);
        }
    }

    fn give_back(&mut self, cohort: u32, unit: usize, edge: Timestamp) {
        let of = &self.units.cohorts[cohort as usize];
        self.feeds.add(&mut self.freed, of.feed, Watts(-of.frees.0));
        if let Some((_, place)) = self.units.units[unit].place {
            self.off[cohort as usize].remove(&place);
        }
        if let Some(lease) = self.lease_of(unit) {
            self.leases.freed[lease] = self.leases.freed[lease] - of.frees;
        }
        self.set_period_edge(unit, edge);
    }

    fn set_period_edge(&mut self, unit: usize, edge: Timestamp) {
        let unit = &mut self.units.units[unit];
        if let Some(period) = unit.active.take() {
            unit.periods[period].edge = Some(edge);
        }
    }

    /// When a machine was released that is off now and does not stay off. It is the lease's own end
    /// where there is one, so that the machine's turn to come back does not move with each new plan.
    fn released_at(&self, unit: usize, last_end: Option<Timestamp>) -> Timestamp {
        let of = &self.units.units[unit];
        let Some(period) = of.active.map(|active| &of.periods[active]) else { return self.now };
        match self.why(unit) {
            Why::Returning(since) => since,
            Why::Left => {
                let lease = self.lease_of(unit).map(|lease| self.leases.all[lease].ends());
                lease.unwrap_or(self.now)
            }
            Why::Early(_) | Why::Running => {
                last_end.filter(|end| *end > period.at).unwrap_or(self.now)
            }
        }
    }

    /// A machine that does not obey, or frees nothing, stays commanded as long as its lease is open.
    fn begin_without(&mut self, unit: usize) {
        if self.units.units[unit].active.is_some()
            && matches!(self.why(unit), Why::Left | Why::Returning(_))
        {
            let edge = self.released_at(unit, None);
            self.set_period_edge(unit, edge);
        }
    }

    fn release_without(&mut self, lease: usize, at: Timestamp) {
        for unit in self.units.without.clone() {
            if self.lease_of(unit) == Some(lease) {
                self.set_period_edge(unit, at);
            }
        }
    }
}

impl Leases<'_> {
    fn begin(&mut self, feeds: &Feeds, lease: usize) {
        self.running.insert(lease);
        if let Some(feed) = feeds.number(&self.all[lease].feed) {
            self.at[feed].push(lease);
            feeds.add(&mut self.committed, feed, self.all[lease].gross);
        }
    }

    fn end(&mut self, feeds: &Feeds, lease: usize) {
        self.running.remove(&lease);
        if let Some(feed) = feeds.number(&self.all[lease].feed) {
            self.at[feed].retain(|other| *other != lease);
            feeds.add(&mut self.committed, feed, Watts(-self.all[lease].gross.0));
        }
    }
}

/// For what machines of `cohort` go when `interval` begins.
fn causes_of(interval: &Interval, cohort: u32) -> Vec<(Option<usize>, u32)> {
    let here = interval.causes.iter().filter(|(other, ..)| *other == cohort);
    here.map(|(_, cause, count)| (*cause, *count)).collect()
}
