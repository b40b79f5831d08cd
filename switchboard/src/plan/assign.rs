//! Names the machines: goes through the intervals and says which machines of each cohort are off in
//! which, and for which lease. It never changes a count. Machines that are off stay off before others
//! go, those chosen by an earlier plan are chosen again, and a machine that stays off when its lease
//! ends passes to a lease that needs it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use directive::{LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::counts::{Change, Counts, Input, Interval, Off};
use super::units::{Period, Unit, Units};
use super::{Chosen, Deficit, Room};
use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::lease::{Lease, later};
use crate::policy::Policy;

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

/// Sorts the machines that are off now by why they are, for [`super::counts`]: by cohort.
pub(super) fn off_now(units: &mut Units<'_>, leases: &[Lease], now: Timestamp) -> Vec<Off> {
    let numbers: HashMap<&LeaseId, usize> =
        leases.iter().enumerate().map(|(number, lease)| (&lease.id, number)).collect();
    let mut all = vec![Off::default(); units.cohorts.len()];
    for unit in &mut units.units {
        if let Some(period) = unit.periods.iter().rposition(|period| period.at <= now) {
            unit.active = Some(period);
            unit.periods[period].used = true;
        }
    }
    for (off, cohort) in all.iter_mut().zip(0_u32..) {
        for unit in units.of(cohort).map(|unit| &units.units[unit]) {
            for period in unit.periods.iter().filter(|period| period.at > now && !period.passed_on)
            {
                if let Some(lease) = period.lease.as_ref().and_then(|lease| numbers.get(lease)) {
                    add(&mut off.chosen, *lease);
                }
            }
            match unit.active.map(|active| Why::of(&unit.periods[active], leases, &numbers, now)) {
                None => {}
                Some(Why::Running) => off.running += 1,
                Some(Why::Early(lease)) => add(&mut off.early, lease),
                Some(Why::Left) => off.left += 1,
                Some(Why::Returning(since)) => off.returning.push(since),
            }
        }
        off.returning.sort_by(|a, b| b.cmp(a));
    }
    all
}

/// Counts one more machine for `lease`.
fn add(counts: &mut Vec<(usize, u32)>, lease: usize) {
    match counts.iter_mut().find(|(other, _)| *other == lease) {
        Some((_, count)) => *count += 1,
        None => counts.push((lease, 1)),
    }
}

/// Why a machine is off now. The order is that in which machines stay off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// For a lease that has not begun.
    Early(usize),
    /// For a lease that runs.
    Running,
    /// For none that is open, and it is not on its way back.
    Left,
    /// It is on its way back since then.
    Returning(Timestamp),
}

impl Why {
    fn of(
        period: &Period,
        leases: &[Lease],
        numbers: &HashMap<&LeaseId, usize>,
        now: Timestamp,
    ) -> Self {
        let edge = period.held.as_ref().and_then(|held| held.edge).filter(|edge| *edge <= now);
        let number = period.lease.as_ref().and_then(|lease| numbers.get(lease)).copied();
        match (edge, number.map(|number| &leases[number])) {
            (Some(edge), _) => Self::Returning(edge),
            (None, Some(lease)) if lease.reserves(now) => Self::Running,
            (None, Some(lease)) if now < lease.ends() => Self::Early(number.unwrap_or_default()),
            _ => Self::Left,
        }
    }
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

    /// Takes off `count` more machines of `cohort` for `causes`.
    fn take_off(
        &mut self,
        cohort: u32,
        count: usize,
        causes: Vec<(Option<usize>, u32)>,
        interval: &Interval,
        next: &[Interval],
    ) {
        let mut fresh: Vec<u32> = self.units.on(cohort).take(count).collect();
        fresh.reverse();
        let mut left = count;
        for (cause, most) in causes {
            let most = left.min(most as usize);
            for unit in self.choose(cohort, cause, most, &mut fresh) {
                self.open(unit, cause, interval.from);
                self.count_off(cohort, unit);
                left -= 1;
            }
        }
        for _ in 0..left {
            let heir = self.heir(cohort, true, interval, next);
            for unit in self.choose(cohort, heir, 1, &mut fresh) {
                self.open(unit, heir, interval.from);
                self.count_off(cohort, unit);
            }
        }
    }

    /// The `count` machines of `cohort` that go next for `lease`: those that an earlier plan chose for
    /// it, and then the first that are on. `fresh` has the latter, the first one last.
    fn choose(
        &mut self,
        cohort: u32,
        lease: Option<usize>,
        count: usize,
        fresh: &mut Vec<u32>,
    ) -> Vec<usize> {
        let is_on = |unit: &usize| self.units.units[*unit].active.is_none();
        let before = self.chosen_before[cohort as usize].iter().copied();
        let before = before.filter(is_on).filter(|unit| self.planned(*unit, lease).is_some());
        let mut chosen: Vec<usize> = before.take(count).collect();
        let from_before: BTreeSet<usize> = chosen.iter().copied().collect();
        while chosen.len() < count
            && let Some(place) = fresh.pop()
        {
            let unit = self.units.unit(cohort, place);
            if self.units.units[unit].active.is_none() && !from_before.contains(&unit) {
                chosen.push(unit);
            }
        }
        chosen
    }

    /// The period that an earlier plan gave this machine for `lease`, if it comes and is not taken up
    /// yet.
    fn planned(&self, unit: usize, lease: Option<usize>) -> Option<usize> {
        let id = lease.map(|lease| &self.leases.all[lease].id);
        self.units.units[unit].periods.iter().position(|period| {
            period.at > self.now && period.lease.as_ref() == id && !period.passed_on && !period.used
        })
    }

    fn open(&mut self, unit: usize, lease: Option<usize>, at: Timestamp) {
        let period = self.planned(unit, lease);
        let of = &mut self.units.units[unit];
        let Some(group) = of.group.map(|group| &self.policy.facility.groups()[group]) else {
            return;
        };
        let period = period.unwrap_or_else(|| {
            of.periods.push(Period {
                lease: lease.map(|lease| self.leases.all[lease].id.clone()),
                held: None,
                edge: None,
                due: None,
                at: Timestamp::MAX,
                until: None,
                means: if group.backs_firm() { Means::Device } else { Means::Starve },
                group: group.id.clone(),
                used: true,
                passed_on: false,
            });
            of.periods.len() - 1
        });
        let begins = lease.map(|lease| self.leases.all[lease].reserved_from());
        of.periods[period].used = true;
        let is_later = at > self.now && begins.is_none_or(|begins| begins < at);
        of.periods[period].due = is_later.then_some(at);
        of.active = Some(period);
    }

    /// Assigns machines that stay off without their lease to other leases: `for_running` of them to
    /// those that run, of these first to those that begin now (`causes`), the others to those that come.
    fn pass_on(
        &mut self,
        cohort: u32,
        units: &[usize],
        for_running: usize,
        causes: &mut [(Option<usize>, u32)],
        interval: &Interval,
        next: &[Interval],
    ) {
        let frees = self.units.cohorts[cohort as usize].frees;
        let alone =
            interval.causes.iter().filter(|(other, cause, _)| *other == cohort && cause.is_none());
        let by_itself = alone.map(|(.., count)| *count as usize).sum::<usize>();
        for (place, &unit) in units.iter().enumerate() {
            // A feed that is short without any lease keeps its machines.
            let of = &self.units.units[unit];
            let own = of.active.is_some_and(|active| of.periods[active].lease.is_none());
            if own && place < by_itself {
                continue;
            }
            let given = self.given_before(unit, cohort, interval, next);
            let begins = causes.iter_mut().filter(|(_, count)| *count > 0 && place < for_running);
            let mut begins = begins.filter(|(lease, _)| given.is_none() || *lease == given);
            let first = begins.next().and_then(|(lease, count)| {
                *count -= 1;
                *lease
            });
            let heir = given.or(first);
            let heir = heir.or_else(|| self.heir(cohort, place < for_running, interval, next));
            if let Some(lease) = self.lease_of(unit) {
                self.leases.freed[lease] = self.leases.freed[lease] - frees;
            }
            self.hand_over(unit, interval.from, heir);
            if let Some(lease) = heir {
                self.leases.freed[lease] += frees;
                self.leases.cohorts[lease].insert(cohort);
            }
        }
    }

    /// The lease that an earlier plan gave this machine at this time.
    fn given_before(
        &self,
        unit: usize,
        cohort: u32,
        interval: &Interval,
        next: &[Interval],
    ) -> Option<usize> {
        let given = self.units.units[unit].periods.iter().find(|period| {
            period.passed_on && !period.used && period.at == interval.from && period.lease.is_some()
        })?;
        let lease = *self.leases.numbers.get(given.lease.as_ref()?)?;
        let is_candidate = self.leases.running.contains(&lease)
            || self.coming(cohort, interval, next).any(|coming| coming == lease);
        (is_candidate && self.is_near(cohort, lease)).then_some(lease)
    }

    fn is_near(&self, cohort: u32, lease: usize) -> bool {
        let feed = self.feeds.number(&self.leases.all[lease].feed);
        feed.is_some_and(|feed| self.feeds.is_below(self.units.cohorts[cohort as usize].feed, feed))
    }

    /// The leases that begin so soon that machines of `cohort` may stay off for them. This looks further
    /// ahead than the counts do, which also know the ramp, so that every machine kept finds its lease.
    fn coming<'n>(
        &'n self,
        cohort: u32,
        interval: &Interval,
        next: &'n [Interval],
    ) -> impl Iterator<Item = usize> + 'n {
        let pause = self.units.pauses[cohort as usize].0;
        let until = later(interval.from, pause.saturating_mul(4));
        let soon = next.iter().take_while(move |interval| interval.from <= until);
        soon.flat_map(|interval| interval.begun.iter().copied())
    }

    /// The lease that a machine of `cohort` goes to: of those that run first, or of those that come
    /// first. The first whose machines free less than it needs, else the first at all.
    fn heir(
        &self,
        cohort: u32,
        running_first: bool,
        interval: &Interval,
        next: &[Interval],
    ) -> Option<usize> {
        let feed = self.units.cohorts[cohort as usize].feed;
        // A machine that can only be starved of work goes only for a lease that accepts it.
        let starved = self.units.cohorts[cohort as usize].can_only_be_starved();
        let takes = |lease: &usize| !starved || self.leases.all[*lease].accept_unverified;
        let running = || {
            let path = self.feeds.path(feed).iter();
            path.flat_map(|feed| &self.leases.at[*feed]).copied().filter(takes)
        };
        let coming = || {
            let coming = self.coming(cohort, interval, next).filter(takes);
            coming.filter(|lease| self.is_near(cohort, *lease))
        };
        let needs = |lease: &usize| self.leases.freed[*lease] < self.leases.all[*lease].gross;
        let of_running = || running().find(needs).or_else(|| running().next());
        let of_coming = || coming().find(needs).or_else(|| coming().next());
        if running_first {
            of_running().or_else(of_coming)
        } else {
            of_coming().or_else(of_running)
        }
    }

    fn hand_over(&mut self, unit: usize, at: Timestamp, heir: Option<usize>) {
        let id = heir.map(|lease| self.leases.all[lease].id.clone());
        let of = &mut self.units.units[unit];
        let Some(active) = of.active else { return };
        if at <= self.now {
            // The machine is already off; only the lease it serves changes.
            of.periods[active].lease = id;
            return;
        }
        let ended = &mut of.periods[active];
        let (means, group) = (ended.means, ended.group.clone());
        // It was not released by an end. With an edge here, all machines would return at this one
        // instant if the new lease is cancelled.
        ended.until = Some(at);
        // An earlier plan may have passed it on in the same way.
        let alike = |period: &&mut Period| {
            period.passed_on && !period.used && period.at == at && period.lease == id
        };
        let held = of.periods.iter_mut().find(alike).and_then(|period| period.held.take());
        of.periods.push(Period {
            lease: id,
            held,
            edge: None,
            due: None,
            at,
            until: None,
            means,
            group,
            used: true,
            passed_on: true,
        });
        of.active = Some(of.periods.len() - 1);
    }

    /// The machines that go when the plan runs out: below a feed with a running firm lease, load falls
    /// to the feed's default constraint.
    fn fallback(&mut self, input: &Input<'_>) -> Vec<usize> {
        let mut freed = self.freed.clone();
        let mut taken = vec![0_usize; self.units.cohorts.len()];
        let committed = &self.leases.committed;
        for node in self.feeds.bottom_up() {
            let feed = &self.feeds[node];
            let Some(ceiling) = feed.default_constraint else { continue };
            if committed[node] == Watts::ZERO {
                continue;
            }
            let ceiling = ceiling.min(feed.usable());
            let over = (input.fixed[node] + committed[node]).saturating_sub(ceiling);
            for (number, cohort) in self.units.cohorts.iter().enumerate() {
                if freed[node] >= over {
                    break;
                }
                if !self.feeds.is_below(cohort.feed, node) {
                    continue;
                }
                let left = cohort.machines as usize - self.off[number].len() - taken[number];
                let missing = (over - freed[node]).0;
                let count = usize::try_from((missing + cohort.frees.0 - 1) / cohort.frees.0);
                let count = count.unwrap_or(usize::MAX).min(left);
                taken[number] += count;
                let watts = Watts(cohort.frees.0 * i64::try_from(count).unwrap_or(0));
                self.feeds.add(&mut freed, cohort.feed, watts);
            }
        }
        let mut picked = Vec::new();
        for (cohort, count) in (0_u32..).zip(taken).filter(|(_, count)| *count > 0) {
            let places: Vec<u32> = self.units.on(cohort).take(count).collect();
            picked.extend(places.into_iter().map(|place| self.units.unit(cohort, place)));
        }
        picked
    }

    fn room(
        &self,
        node: FeedNumber,
        interval: &Interval,
        input: &Input<'_>,
        full: &PerFeed<Watts>,
    ) -> Room {
        let feed = &self.feeds[node];
        let committed = self.leases.committed[node];
        Room {
            feed: feed.id.clone(),
            from: interval.from,
            to: interval.to,
            committed,
            left: feed.usable() - (input.fixed[node] - full[node]) - committed,
            mining: full[node] - self.freed[node],
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

impl Why {
    /// Of two reasons, the one for which a machine stays off first. Of machines on their way back,
    /// the last ones to be released stay first.
    fn stays_before(self, other: Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Returning(a), Self::Returning(b)) => b.cmp(&a),
            (Self::Early(_), Self::Early(_)) => std::cmp::Ordering::Equal,
            _ => self.cmp(&other),
        }
    }
}

/// For what machines of `cohort` go when `interval` begins.
fn causes_of(interval: &Interval, cohort: u32) -> Vec<(Option<usize>, u32)> {
    let here = interval.causes.iter().filter(|(other, ..)| *other == cohort);
    here.map(|(_, cause, count)| (*cause, *count)).collect()
}
