//! Counts over time: goes through the starts and ends of obligations, and has the [`Shape`] fitted at
//! each. The result says how many machines of each cohort are off in each interval, and for which
//! lease each change is made.
//!
//! A machine that would have to go again before it has been awake for its shortest time stays off in
//! between. Each cohort has its own times for this.

use std::collections::BTreeMap;
use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;

use super::Deficit;
use super::input::{Input, Off};
use super::needs::Committed;
use super::obligations::{Edge, Obligation, edges};
use super::shape::{Kept, Shape};
use crate::admit::ramp_time;
use crate::facility::FeedNumber;
use crate::lease::later;

/// A change of one cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) cohort: u32,
    /// How many of its machines are off from now on.
    pub(super) off: u32,
    /// How many of these the feeds need now. The others stay off for what comes.
    pub(super) needed: u32,
}

/// From one instant to the next nothing begins or ends.
#[derive(Debug, Clone)]
pub(super) struct Interval {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// The leases that end when it begins, as indexes.
    pub(super) ended: Vec<usize>,
    /// The leases that begin when it begins, or reserve more from then on. In the first interval: all
    /// that run.
    pub(super) begun: Vec<usize>,
    /// The feeds whose limits are higher from then on.
    pub(super) raised: Vec<FeedNumber>,
    /// What asks for more from then on, in order: the leases of `begun`, and limits that are lower.
    pub(super) more: Vec<Obligation>,
    /// The cohorts whose counts change. The first interval has all that have machines off.
    pub(super) changes: Vec<Change>,
    /// For what machines go: the cohort, the lease (`None`: the feed is short without any, or its
    /// limit is lower), and how many.
    pub(super) causes: Vec<(u32, Option<usize>, u32)>,
    /// Whether it begins after the plan's horizon.
    pub(super) beyond: bool,
}

impl Interval {
    /// Whether a limit is lower from its beginning on.
    pub(super) fn has_lower_limit(&self) -> bool {
        self.more.iter().any(|obligation| matches!(obligation, Obligation::Limit(_)))
    }
}

#[derive(Debug)]
pub(super) struct Counts {
    /// The first begins now.
    pub(super) intervals: Vec<Interval>,
    pub(super) deficits: Vec<Deficit>,
}

pub(super) fn counts(input: &Input<'_>) -> Counts {
    let mut intervals = intervals(input);
    let (mut going, deficits) = Going::fit(input, &mut intervals);
    for cohort in 0..input.cohorts.len() {
        going.keep_off(input, &intervals, cohort);
    }
    for (number, interval) in intervals.iter_mut().enumerate() {
        interval.changes = std::mem::take(&mut going.changes[number]);
    }
    Counts { intervals, deficits }
}

/// The intervals, without changes.
fn intervals(input: &Input<'_>) -> Vec<Interval> {
    let first = Interval {
        from: input.now,
        to: input.horizon,
        ended: Vec::new(),
        begun: Vec::new(),
        raised: Vec::new(),
        more: Vec::new(),
        changes: Vec::new(),
        causes: Vec::new(),
        beyond: false,
    };
    let mut intervals = vec![first.clone()];
    for Edge { at, asks_more, obligation } in edges(input) {
        let last = intervals.len() - 1;
        if intervals[last].from < at {
            intervals[last].to = at.min(input.horizon);
            intervals.push(Interval { from: at, beyond: at > input.horizon, ..first.clone() });
        }
        let interval = intervals.last_mut().expect("there is the first");
        match obligation {
            Obligation::Lease(number) if asks_more => interval.begun.push(number),
            Obligation::Lease(number) => interval.ended.push(number),
            Obligation::Limit(_) if asks_more => {}
            Obligation::Limit(feed) => interval.raised.push(feed),
        }
        if asks_more {
            interval.more.push(obligation);
        }
    }
    intervals
}

/// The counts while they are made.
struct Going {
    /// By cohort: the intervals in which its count changes, and the count. If any machine of it is
    /// off now or later, the first entry is that of the first interval.
    series: Vec<Vec<(usize, u32)>>,
    /// By interval: how long it takes until all has gone that goes at its beginning.
    ramps: Vec<Duration>,
    /// The first interval that begins with the end of a lease.
    first_end: Option<usize>,
    /// By lease: the interval with which it begins.
    begins: BTreeMap<usize, usize>,
    /// By interval.
    changes: Vec<Vec<Change>>,
}

impl Going {
    /// Fits the shape at the beginning of each interval.
    fn fit(input: &Input<'_>, intervals: &mut [Interval]) -> (Self, Vec<Deficit>) {
        let feeds = input.policy.facility.feeds();
        let mut shape = Shape::new(feeds, input.cohorts);
        let mut committed = Committed::new(input);
        let mut going = Self {
            series: vec![Vec::new(); input.cohorts.len()],
            ramps: vec![Duration::ZERO; intervals.len()],
            first_end: intervals.iter().position(|interval| !interval.ended.is_empty()),
            begins: BTreeMap::new(),
            changes: vec![Vec::new(); intervals.len()],
        };
        // The machines that are chosen for each lease: off early, or to go later.
        let mut chosen: BTreeMap<usize, Vec<(Timestamp, u32, u32)>> = BTreeMap::new();
        for (cohort, off) in (0_u32..).zip(input.off) {
            let early = off.early.iter().map(|&(lease, count)| ((lease, input.now), count));
            for ((lease, from), count) in early.chain(off.chosen.iter().copied()) {
                chosen.entry(lease).or_default().push((from, cohort, count));
            }
            shape.keep(cohort, Kept::Wanted, off.running);
            shape.keep(cohort, Kept::Left, off.left);
            let returning = u32::try_from(off.returning.len()).unwrap_or(u32::MAX);
            shape.keep(cohort, Kept::Returning, returning);
        }
        let running =
            |(cohort, off): (u32, &Off)| (off.running > 0).then_some((cohort, off.running));
        let running: Vec<(u32, u32)> = (0..).zip(input.off).filter_map(running).collect();
        let mut deficits = Vec::new();
        for (number, interval) in intervals.iter_mut().enumerate() {
            if number > 0 && going.first_end.is_none_or(|end| number < end) {
                // What running leases have beyond their need stays off, so it serves those that begin.
                for &(cohort, running) in &running {
                    let spare = running.saturating_sub(shape.off()[cohort as usize]);
                    shape.keep(cohort, Kept::Wanted, spare);
                }
            }
            let mut fitted: Vec<FeedNumber> = Vec::new();
            if number == 0 {
                fitted = feeds.bottom_up();
                let more = shape.fit(&fitted, |feed| committed.need(feed));
                interval.causes.extend(more.into_iter().map(|(cohort, more)| (cohort, None, more)));
            }
            if !interval.ended.is_empty() || !interval.raised.is_empty() {
                for &lease in &interval.ended {
                    committed.end(lease);
                    fitted.extend(feeds.path_of(&input.leases[lease].feed));
                }
                for &feed in &interval.raised {
                    committed.limit(feed, interval.from);
                    fitted.extend(feeds.path(feed));
                }
                fitted.sort_by_key(|feed| (std::cmp::Reverse(feeds.path(*feed).len()), *feed));
                fitted.dedup();
                shape.fit(&fitted, |feed| committed.need(feed));
            }
            if interval.has_lower_limit() {
                going.keep_ahead(input, interval.from, &mut shape);
            }
            for &obligation in &interval.more {
                let number_of = match obligation {
                    Obligation::Lease(number) => number,
                    Obligation::Limit(feed) => {
                        committed.limit(feed, interval.from);
                        fitted.extend(feeds.path(feed));
                        let more = shape.fit(feeds.path(feed), |feed| committed.need(feed));
                        let more = more.into_iter().map(|(cohort, more)| (cohort, None, more));
                        interval.causes.extend(more);
                        continue;
                    }
                };
                let lease = &input.leases[number_of];
                going.begins.entry(number_of).or_insert(number);
                committed.begin(number_of, interval.from);
                // Those that it needs later, when it reserves more, wait until then.
                let of_lease = chosen.entry(number_of).or_default();
                let has_all = committed.has_all(number_of);
                for (_, cohort, count) in
                    of_lease.extract_if(.., |(from, ..)| has_all || *from <= interval.from)
                {
                    shape.keep(cohort, Kept::Wanted, count);
                }
                let path = feeds.path_of(&lease.feed);
                fitted.extend(path);
                // A machine that can only be starved of work goes for a lease that accepts it, which
                // may be another one than the one that makes the feed short.
                let is_for_it = |cohort: u32| {
                    lease.accept_unverified || !input.cohorts[cohort as usize].can_only_be_starved()
                };
                let more = shape.fit(path, |feed| committed.need(feed));
                let more = more.into_iter().filter(|(cohort, _)| is_for_it(*cohort));
                interval.causes.extend(more.map(|(cohort, more)| (cohort, Some(number_of), more)));
            }
            fitted.sort_unstable();
            fitted.dedup();
            for feed in fitted {
                let short = committed.need(feed).over.saturating_sub(shape.freed(feed));
                if short > Watts::ZERO {
                    let (feed, from) = (feeds[feed].id.clone(), interval.from);
                    deficits.push(Deficit { feed, from, short });
                }
            }
            going.note(input, number, interval, &mut shape);
        }
        (going, deficits)
    }

    /// Has those machines go for a limit that is lower from `from` on that are off for it already, or
    /// were chosen to be.
    fn keep_ahead(&self, input: &Input<'_>, from: Timestamp, shape: &mut Shape<'_>) {
        for (cohort, off) in (0_u32..).zip(input.off) {
            let ahead = off.ahead.iter().find(|(at, _)| *at == from);
            let ahead = ahead.map_or(0, |(_, count)| *count);
            // Those that are off until then are kept anyway.
            let kept = ahead.saturating_sub(shape.off()[cohort as usize]);
            shape.keep(cohort, Kept::Wanted, kept);
        }
    }

    /// Notes the counts of the interval `number`.
    fn note(
        &mut self,
        input: &Input<'_>,
        number: usize,
        interval: &Interval,
        shape: &mut Shape<'_>,
    ) {
        if number == 0 {
            let is_off = |off: &Off| off.staying() > 0 || !off.returning.is_empty();
            for (cohort, count) in shape.off().iter().enumerate() {
                if *count > 0 || is_off(&input.off[cohort]) {
                    self.series[cohort].push((0, *count));
                }
            }
        }
        let mut more = Watts::ZERO;
        for (cohort, before) in shape.settle() {
            let (cohort, off) = (cohort as usize, shape.off()[cohort as usize]);
            more += Watts(input.cohorts[cohort].frees.0 * i64::from(off.saturating_sub(before)));
            if number > 0 {
                if self.series[cohort].is_empty() {
                    self.series[cohort].push((0, 0));
                }
                self.series[cohort].push((number, off));
            }
        }
        self.ramps[number] = ramp_time(more, input.policy.ramp.down_per_min);
        if interval.has_lower_limit() {
            // Machines that go early for a limit have no lease that keeps them off until then.
            let feeds = input.policy.facility.feeds();
            let slowest = |feed: &FeedNumber| input.policy.slowest_down_per_min(&feeds[*feed].id);
            let lowered = interval.more.iter().filter_map(|obligation| match obligation {
                Obligation::Limit(feed) => Some(feed),
                Obligation::Lease(_) => None,
            });
            let slowest = lowered.map(slowest).min().unwrap_or_default();
            self.ramps[number] = self.ramps[number]
                .max(ramp_time(more, slowest))
                .saturating_add(input.most_dispatch);
        }
    }

    /// Decides how many machines of `cohort` are off in each interval: those needed, and those that
    /// stay off because they would be needed again too soon, or for other reasons.
    fn keep_off(&mut self, input: &Input<'_>, intervals: &[Interval], cohort: usize) {
        let mut series = std::mem::take(&mut self.series[cohort]);
        let Some(&(_, needed_now)) = series.first() else { return };
        let off = &input.off[cohort];
        let mut wanted = self.wanted(off, needed_now, &mut series);
        let pause = input.pauses[cohort].0;
        let latest = self.ramps.iter().max().copied().unwrap_or_default();
        // The most that is needed before a machine that wakes at `at` has been awake long enough.
        let soon = |from: usize, at: Timestamp, wanted: &[u32]| {
            let coming = series.iter().zip(wanted).skip(from);
            let near = coming.take_while(|((number, _), _)| {
                intervals[*number].from <= later(at, pause.saturating_add(latest))
            });
            let too_near = near.filter(|((number, _), _)| {
                intervals[*number].from <= later(at, pause.saturating_add(self.ramps[*number]))
            });
            too_near.map(|(_, wanted)| *wanted).max().unwrap_or(0)
        };
        let since = (0..off.staying()).map(|_| input.now).chain(off.returning.iter().copied());
        for (place, since) in (1_u32..).zip(since) {
            if wanted[0] < place && soon(1, since, &wanted) >= place {
                wanted[0] = place;
            }
        }
        for place in 1..series.len() {
            let before = wanted[place - 1];
            if wanted[place] < before {
                let again = soon(place + 1, intervals[series[place].0].from, &wanted);
                wanted[place] = wanted[place].max(again.min(before));
            }
        }
        let cohort = u32::try_from(cohort).unwrap_or(u32::MAX);
        for ((number, needed), off) in series.into_iter().zip(wanted) {
            self.changes[number].push(Change { cohort, off, needed });
        }
    }

    /// How many machines are wanted off at each entry of `series`: those needed; those that are off
    /// early for a lease, until it begins; and those that running leases have beyond what is needed,
    /// until the next lease ends. Entries are added where that changes.
    fn wanted(&self, off: &Off, needed_now: u32, series: &mut Vec<(usize, u32)>) -> Vec<u32> {
        // What is needed may look less only because a report has not come.
        let spare_until = match self.first_end {
            _ if off.running <= needed_now => 0,
            Some(end) => end,
            None => usize::MAX,
        };
        let begins = |lease: usize| self.begins.get(&lease).copied().unwrap_or(usize::MAX);
        let mut early: Vec<(usize, u32)> =
            off.early.iter().map(|(lease, count)| (begins(*lease), *count)).collect();
        early.sort_unstable();
        for at in early.iter().map(|(at, _)| *at).chain([spare_until]) {
            if at > 0
                && at < self.ramps.len()
                && let Err(place) = series.binary_search_by_key(&at, |(number, _)| *number)
            {
                let same = series[place - 1].1;
                series.insert(place, (at, same));
            }
        }
        let needed_at = |at: usize| {
            let place = series.partition_point(|(number, _)| *number <= at);
            series[place - 1].1
        };
        let wanted = |(number, needed): &(usize, u32)| {
            let mut wanted = *needed;
            if *number < spare_until {
                let early = early.iter().filter(|(begins, _)| *number < *begins);
                wanted = wanted.max(off.running + early.map(|(_, count)| *count).sum::<u32>());
            }
            for (begins, count) in early.iter().filter(|(begins, _)| *number < *begins) {
                let then = needed_at(*begins);
                wanted = wanted.max(*count).max((wanted + count).min(then));
            }
            wanted
        };
        series.iter().map(wanted).collect()
    }
}
