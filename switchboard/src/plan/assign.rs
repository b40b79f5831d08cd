//! Names the machines: goes through the intervals and says which machines of each cohort are off in
//! which, and for which lease. It never changes a count. Machines that are off stay off before others
//! go, those chosen by an earlier plan are chosen again, and a machine that stays off when its lease
//! ends passes to a lease that needs it.

mod causes;
mod fallback;
mod pass_on;
mod places;
mod take_off;
mod why;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use directive::{MachineId, Watts};
use jiff::Timestamp;

use super::counts::{Change, Counts, Interval};
use super::input::Input;
use super::rooms::{Rooms, Span, Unleased};
use super::units::{Period, Unit, Units};
use super::{Chosen, Deficit};
use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::lease::Lease;
use crate::policy::Policy;
use crate::reservation::Reservation;
use causes::Causes;
use places::Places;
use why::Why;
pub(super) use why::off_now;

/// The machines with the periods for which they are off, in the order in which they are taken off.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) units: Vec<Unit>,
    pub(super) rooms: Rooms,
    pub(super) deficits: Vec<Deficit>,
    /// Machines that must go when the plan runs out, as indexes into `units`.
    pub(super) fallback: Vec<usize>,
}

/// The machines of `units` that are off at some time, with their periods.
pub(super) fn selected(units: Vec<Unit>) -> BTreeMap<MachineId, Vec<Chosen>> {
    let chosen = |period: Period| Chosen {
        group: period.group,
        cause: period.cause,
        at: period.at,
        until: period.until,
        edge: period.edge,
        means: period.means,
        passed_on: period.passed_on,
    };
    let off = units.into_iter().filter(|unit| !unit.periods.is_empty());
    off.map(|unit| (unit.id, unit.periods.into_iter().map(chosen).collect())).collect()
}

/// Where the leases stand at the moment under consideration.
struct Leases<'a> {
    all: &'a [Lease],
    reservations: &'a [Reservation],
    /// The feed of each, if the policy has it.
    feeds: Vec<Option<FeedNumber>>,
    running: BTreeSet<usize>,
    /// Whether each has ended since the plan begins.
    ended: Vec<bool>,
    /// The running leases at each feed, in the order in which they began.
    at: PerFeed<Vec<usize>>,
    /// Those of them whose machines free less than they need: when each began, in order, and its
    /// number.
    short: PerFeed<BTreeSet<(usize, usize)>>,
    /// When each began, by a number that rises.
    began: Vec<usize>,
    beginnings: usize,
    /// What the running leases at and below each feed reserve.
    committed: PerFeed<Watts>,
    /// What each that runs reserves now.
    reserves: Vec<Watts>,
    /// What the machines of each free.
    freed: Vec<Watts>,
    /// The machines that were off for each at some time: cohort and place.
    machines: Vec<Vec<(u32, u32)>>,
}

struct Assign<'a, 'f> {
    policy: &'a Policy,
    feeds: &'a Feeds,
    /// The load of the house, unassigned sessions and every machine at full draw.
    fixed: &'a PerFeed<Watts>,
    now: Timestamp,
    /// When the interval begins that is under consideration.
    at: Timestamp,
    units: Units<'f>,
    leases: Leases<'a>,
    /// The places of the machines of each cohort that are off.
    off: Vec<Places>,
    /// The machines of a cohort that an earlier plan chose to go later for a lease.
    chosen_before: HashMap<(u32, Option<usize>), VecDeque<usize>>,
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
    let mut rooms = Rooms::new(feeds.numbers().map(|feed| unleased(input, full, feed)).collect());
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
        if interval.from < interval.to && rooms.takes_more() {
            let (committed, freed) = (assign.leases.committed.clone(), assign.freed.clone());
            let usable = (!input.policy.facility.dated().is_empty())
                .then(|| PerFeed::each(feeds, |feed| feeds[feed].usable(interval.from)));
            rooms.push(Span { from: interval.from, to: interval.to, committed, freed, usable });
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

fn unleased(input: &Input<'_>, full: &PerFeed<Watts>, number: FeedNumber) -> Unleased {
    let feed = &input.policy.facility.feeds()[number];
    let usable = feed.usable(input.now);
    let left = usable - (input.fixed[number] - full[number]);
    Unleased { feed: feed.id.clone(), usable, left, full: full[number] }
}

impl<'a, 'f> Assign<'a, 'f> {
    fn new(input: &Input<'a>, units: Units<'f>) -> Self {
        let feeds = input.policy.facility.feeds();
        let leases = input.leases;
        Self {
            policy: input.policy,
            feeds,
            fixed: input.fixed,
            now: input.now,
            at: input.now,
            chosen_before: chosen_before(&units, input.now),
            off: vec![Places::default(); units.cohorts.len()],
            units,
            leases: Leases {
                all: leases,
                reservations: input.reservations,
                feeds: leases.iter().map(|lease| feeds.number(&lease.feed)).collect(),
                running: BTreeSet::new(),
                ended: vec![false; leases.len()],
                at: PerFeed::all(feeds, Vec::new()),
                short: PerFeed::all(feeds, BTreeSet::new()),
                began: vec![0; leases.len()],
                beginnings: 0,
                committed: PerFeed::all(feeds, Watts::ZERO),
                reserves: vec![Watts::ZERO; leases.len()],
                freed: vec![Watts::ZERO; leases.len()],
                machines: vec![Vec::new(); leases.len()],
            },
            freed: PerFeed::all(feeds, Watts::ZERO),
        }
    }

    /// The first interval: decides which of the machines that are off stay off, and what for.
    fn begin(&mut self, interval: &Interval, next: &[Interval]) {
        for &lease in &interval.begun {
            self.leases.begin(self.feeds, lease, interval.from);
        }
        for unit in self.units.without.clone() {
            self.begin_without(unit);
        }
        let last_end = self.leases.all.iter().map(Lease::ends).filter(|end| *end <= self.now).max();
        // First what stays, so that it is known what each lease has.
        let mut left: Vec<(Change, Vec<usize>, usize)> = Vec::new();
        let mut off: Vec<Vec<usize>> = vec![Vec::new(); self.units.cohorts.len()];
        for (number, unit) in self.units.units.iter().enumerate() {
            if let (Some((cohort, _)), true) = (unit.place, unit.active.is_some()) {
                off[cohort as usize].push(number);
            }
        }
        for &change in &interval.changes {
            let cohort = change.cohort;
            let units = std::mem::take(&mut off[cohort as usize]).into_iter();
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
        let causes = Causes::new(interval);
        for (Change { cohort, off, needed }, without, running) in left {
            let for_running = (needed as usize).saturating_sub(running);
            let alone = causes.alone(cohort) + self.coming_alone(cohort, interval, next);
            // What went for a limit may be off for a lease at another feed below it now.
            let mut going = Vec::new();
            if !self.policy.facility.dated().is_empty() {
                going = self.missing(cohort, &causes);
                going.retain(|(lease, _)| lease.is_some());
            }
            self.pass_on((cohort, &without), (for_running, alone), &mut going, interval, next);
            let present = self.off[cohort as usize].len();
            if off as usize > present {
                let missing = self.missing(cohort, &causes);
                self.take_off(cohort, off as usize - present, missing, interval, next);
            }
        }
    }

    /// For what machines of `cohort` go, beyond those that are off for it.
    fn missing(&self, cohort: u32, causes: &Causes) -> Vec<(Option<usize>, u32)> {
        let mut has: BTreeMap<Option<usize>, u32> = BTreeMap::new();
        for unit in self.off_units(cohort) {
            *has.entry(self.lease_of(unit)).or_default() += 1;
        }
        let mut causes = causes.of(cohort);
        for (cause, count) in &mut causes {
            *count = count.saturating_sub(has.get(cause).copied().unwrap_or(0));
        }
        causes
    }

    /// Every further interval.
    fn go_on(&mut self, interval: &Interval, next: &[Interval]) {
        self.at = interval.from;
        let mut over: BTreeMap<u32, Vec<usize>> =
            interval.changes.iter().map(|change| (change.cohort, Vec::new())).collect();
        if !interval.raised.is_empty() {
            // A lease may begin with as many machines as went for the limit.
            let begun = interval.causes.iter().map(|(cohort, ..)| (*cohort, Vec::new()));
            over.extend(begun);
        }
        for &lease in &interval.ended {
            self.leases.end(self.feeds, lease);
            for (cohort, place) in std::mem::take(&mut self.leases.machines[lease]) {
                let unit = self.units.at(cohort, place);
                if let Some(unit) = unit.filter(|unit| self.lease_of(*unit) == Some(lease)) {
                    over.entry(cohort).or_default().push(unit);
                }
            }
            self.release_without(lease, interval.from);
        }
        for &lease in &interval.begun {
            self.leases.begin(self.feeds, lease, interval.from);
        }
        let causes = Causes::new(interval);
        for (cohort, mut over) in over {
            over.sort_unstable_by_key(|unit| self.units.units[*unit].place);
            over.dedup();
            let present = self.off[cohort as usize].len();
            let change = interval.changes.binary_search_by_key(&cohort, |change| change.cohort);
            let (off, needed) = change.map_or((present, present), |place| {
                let change = interval.changes[place];
                (change.off as usize, change.needed as usize)
            });
            // The ones that earn most and go last come back first; of one cohort, those of ended
            // leases before others.
            let released = present.saturating_sub(off);
            let for_running = needed.saturating_sub(present - over.len());
            let mut back = over.split_off(over.len().saturating_sub(released));
            // Then those that went for a limit which is higher now.
            let mut eased = self.eased(cohort, interval);
            let keep = eased.len().saturating_sub(released - back.len());
            back.extend(eased.split_off(keep));
            if back.len() < released {
                let others = self.off_units(cohort).rev().filter(|unit| !self.is_over(*unit));
                let others = others.filter(|unit| !back.contains(unit));
                let others: Vec<usize> = others.take(released - back.len()).collect();
                back.extend(others);
            }
            for unit in back {
                self.give_back(cohort, unit, interval.from);
            }
            let (mut going, alone) = (causes.of(cohort), causes.alone(cohort));
            self.pass_on((cohort, &over), (for_running, alone), &mut going, interval, next);
            // Leases that begin now take what they need of the others.
            let for_leases = going.iter().filter(|(lease, _)| lease.is_some());
            let for_leases: usize = for_leases.map(|(_, count)| *count as usize).sum();
            let alone = eased.len().saturating_sub(for_leases);
            let begins = (eased.len(), alone);
            self.pass_on((cohort, &eased), begins, &mut going, interval, next);
            if off > present {
                self.take_off(cohort, off - present, going, interval, next);
            }
        }
    }

    /// The machines of `cohort` that are off for no lease below a feed whose limit is higher from the
    /// beginning of `interval` on, in the order in which they go.
    fn eased(&self, cohort: u32, interval: &Interval) -> Vec<usize> {
        let feed = self.units.cohorts[cohort as usize].feed;
        if !interval.raised.iter().any(|raised| self.feeds.is_below(feed, *raised)) {
            return Vec::new();
        }
        let is_alone = |unit: &usize| {
            let unit = &self.units.units[*unit];
            unit.active.is_some_and(|active| unit.periods[active].cause.lease().is_none())
        };
        self.off_units(cohort).filter(is_alone).collect()
    }

    fn why(&self, unit: usize) -> Why {
        let unit = &self.units.units[unit];
        unit.active
            .map_or(Why::Left, |active| Why::of(&unit.periods[active], self.leases.all, self.now))
    }

    /// The lease that a machine is off for, if it is open.
    fn lease_of(&self, unit: usize) -> Option<usize> {
        let unit = &self.units.units[unit];
        unit.periods[unit.active?].number
    }

    /// Whether a machine is off for a lease that has ended.
    fn is_over(&self, unit: usize) -> bool {
        self.lease_of(unit).is_some_and(|lease| self.leases.ended[lease])
    }

    /// The machines of `cohort` that are off, in the order of their places.
    fn off_units(&self, cohort: u32) -> impl DoubleEndedIterator<Item = usize> {
        let places = self.off[cohort as usize].iter();
        places.filter_map(move |place| self.units.at(cohort, place))
    }

    fn count_off(&mut self, cohort: u32, unit: usize) {
        let of = &self.units.cohorts[cohort as usize];
        self.feeds.add(&mut self.freed, of.feed, of.frees);
        if let Some((_, place)) = self.units.units[unit].place {
            self.off[cohort as usize].insert(place);
        }
        if let Some(lease) = self.lease_of(unit) {
            let frees = of.frees;
            self.serve(lease, unit, frees);
        }
    }

    /// Counts a machine for `lease`, which it is off for from now on.
    fn serve(&mut self, lease: usize, unit: usize, frees: Watts) {
        self.leases.free(lease, frees);
        self.leases.machines[lease].extend(self.units.units[unit].place);
    }

    fn give_back(&mut self, cohort: u32, unit: usize, edge: Timestamp) {
        let of = &self.units.cohorts[cohort as usize];
        self.feeds.add(&mut self.freed, of.feed, Watts(-of.frees.0));
        if let Some((_, place)) = self.units.units[unit].place {
            self.off[cohort as usize].remove(place);
        }
        if let Some(lease) = self.lease_of(unit) {
            self.leases.free(lease, Watts(-of.frees.0));
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
    /// The lease begins at `at`, or needs more power from then on.
    fn begin(&mut self, feeds: &Feeds, lease: usize, at: Timestamp) {
        let is_new = self.running.insert(lease);
        let watts = self.reservations[lease].at(at);
        let more = watts - std::mem::replace(&mut self.reserves[lease], watts);
        if let Some(feed) = self.feeds[lease] {
            if is_new {
                self.at[feed].push(lease);
                self.beginnings += 1;
                self.began[lease] = self.beginnings;
            }
            self.free(lease, Watts::ZERO);
            feeds.add(&mut self.committed, feed, more);
        }
    }

    /// Counts `watts` more that the machines of `lease` free.
    fn free(&mut self, lease: usize, watts: Watts) {
        self.freed[lease] += watts;
        if let Some(feed) = self.feeds[lease].filter(|_| self.running.contains(&lease)) {
            let place = (self.began[lease], lease);
            if self.is_short(lease) {
                self.short[feed].insert(place);
            } else {
                self.short[feed].remove(&place);
            }
        }
    }

    /// Whether the machines of `lease` free less than it needs. One that comes will need all.
    fn is_short(&self, lease: usize) -> bool {
        let runs = self.running.contains(&lease);
        let needs = if runs { self.reserves[lease] } else { self.all[lease].gross };
        self.freed[lease] < needs
    }

    fn end(&mut self, feeds: &Feeds, lease: usize) {
        self.running.remove(&lease);
        self.ended[lease] = true;
        if let Some(feed) = self.feeds[lease] {
            self.at[feed].retain(|other| *other != lease);
            self.short[feed].remove(&(self.began[lease], lease));
            let watts = std::mem::take(&mut self.reserves[lease]);
            feeds.add(&mut self.committed, feed, Watts(-watts.0));
        }
    }
}

/// The machines that an earlier plan chose to go later, in the order in which they are taken off.
fn chosen_before(
    units: &Units<'_>,
    now: Timestamp,
) -> HashMap<(u32, Option<usize>), VecDeque<usize>> {
    let mut chosen: HashMap<_, VecDeque<usize>> = HashMap::new();
    for (number, unit) in units.units.iter().enumerate() {
        let Some((cohort, _)) = unit.place else { continue };
        for period in unit.periods.iter().filter(|period| period.at > now) {
            let is_open = period.cause.lease().is_some() == period.number.is_some();
            let units = chosen.entry((cohort, period.number)).or_default();
            if is_open && units.back() != Some(&number) {
                units.push_back(number);
            }
        }
    }
    chosen
}
