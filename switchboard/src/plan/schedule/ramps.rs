//! The ramps of lowering: how much power may be shed in a minute at each feed with a ramp of its own,
//! and at the whole site. They count everything that is shed, whatever it is shed for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;

use crate::admit::ramp_time;
use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::lease::{earlier, later};
use crate::policy::Policy;

/// What may be shed in a minute.
pub(super) struct Ramps<'a> {
    feeds: &'a Feeds,
    per_min: PerFeed<Option<Watts>>,
    step_max: Option<Watts>,
}

/// About the maximum number of steps in which machines that go together are shed, so that a timeline
/// stays short.
const STEPS: u32 = 64;
/// The shortest time between two such steps.
const GRAIN_MIN: Duration = Duration::from_secs(1);

impl<'a> Ramps<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        let feeds = policy.facility.feeds();
        let per_min = PerFeed::each(feeds, |feed| policy.down_per_min(feed));
        Self { feeds, per_min, step_max: policy.ramp.step_max }
    }

    /// The feeds with a ramp that carry what is drawn at `feed`. Without a feed there are none: a
    /// machine whose group the policy no longer has frees nothing.
    fn on_path(
        &self,
        feed: Option<FeedNumber>,
    ) -> impl Iterator<Item = (FeedNumber, Watts)> + use<'_, 'a> {
        let path = feed.map_or(&[][..], |feed| self.feeds.path(feed));
        path.iter().filter_map(|&feed| Some((feed, self.per_min[feed]?)))
    }

    /// The time between two steps in which `machines` are shed.
    pub(super) fn grain(&self, machines: impl Iterator<Item = Load>) -> Duration {
        let mut sums: BTreeMap<FeedNumber, Watts> = BTreeMap::new();
        let (mut longest, mut largest) = (Duration::ZERO, Watts::ZERO);
        for (feed, watts) in machines {
            largest = largest.max(watts);
            for (feed, per_min) in self.on_path(feed) {
                let sum = sums.entry(feed).or_default();
                *sum += watts;
                longest = longest.max(ramp_time(*sum, per_min));
            }
        }
        let grain = (longest / STEPS).max(GRAIN_MIN);
        // A step may hold one machine more than the ramp allows in this time, so room for the
        // largest is left below `step_max`.
        let most = self.step_max.map(|step| step.saturating_sub(largest));
        let root = self.feeds.numbers().next().and_then(|root| self.per_min[root]);
        let most = most.zip(root).map(|(most, per_min)| ramp_time(most, per_min).max(GRAIN_MIN));
        most.map_or(grain, |most| grain.min(most))
    }
}

/// A machine's feed, and the power that it frees.
pub(super) type Load = (Option<FeedNumber>, Watts);

/// Gives times from deadlines backward.
pub(super) struct Backward<'a> {
    ramps: &'a Ramps<'a>,
    /// From when on each feed sheds what has been given a time for a later deadline.
    busy_from: PerFeed<Timestamp>,
    /// What each feed sheds for the present deadline from the last machine on.
    after: PerFeed<Watts>,
    touched: Vec<FeedNumber>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(ramps: &'a Ramps<'a>) -> Self {
        let busy_from = PerFeed::all(ramps.feeds, Timestamp::MAX);
        let after = PerFeed::all(ramps.feeds, Watts::ZERO);
        Self { ramps, busy_from, after, touched: Vec::new() }
    }

    /// The latest times of machines that must all go by `last`, in steps of `grain`, before those that
    /// were given a time: the first one goes last. Call with later deadlines first.
    ///
    /// A feed with a slow ramp spreads its machines over a long time, in which the feeds above shed
    /// others too. So the machines get their times in the order in which the feeds below the topmost one
    /// let them go, and each feed counts from the time of the machine before.
    pub(super) fn times(
        &mut self,
        machines: &[Load],
        last: Timestamp,
        grain: Duration,
    ) -> Vec<Timestamp> {
        let below: Vec<Timestamp> =
            machines.iter().map(|machine| self.time_below_top(*machine, last, grain)).collect();
        self.forget();
        let mut order: Vec<usize> = (0..machines.len()).collect();
        order.sort_by_key(|machine| Reverse(below[*machine]));
        let mut times = below;
        for machine in order {
            times[machine] = self.time(machines[machine], last, grain);
        }
        self.forget();
        times
    }

    /// The time that the feeds with a ramp would allow without the topmost one, which others share. It
    /// counts where it is the only one.
    fn time_below_top(
        &mut self,
        (feed, watts): Load,
        last: Timestamp,
        grain: Duration,
    ) -> Timestamp {
        let ramps = self.ramps;
        let count = ramps.on_path(feed).count();
        let mut time = last;
        // A feed comes before its parent.
        for (feed, per_min) in ramps.on_path(feed).take(count.saturating_sub(1).max(1)) {
            self.shed(feed, watts);
            let before = in_steps(ramp_time(self.after[feed], per_min), grain);
            time = time.min(earlier(self.free_until(feed, last), before));
        }
        time
    }

    /// The time that all feeds above allow.
    fn time(&mut self, (feed, watts): Load, last: Timestamp, grain: Duration) -> Timestamp {
        let ramps = self.ramps;
        let mut time = last;
        for (feed, per_min) in ramps.on_path(feed) {
            self.shed(feed, watts);
            let before = in_steps(ramp_time(self.after[feed], per_min), grain);
            time = time.min(earlier(self.free_until(feed, last), before));
        }
        // Where another feed made it go earlier, the next one counts from there. Rounding to steps
        // is not counted twice.
        for (feed, per_min) in ramps.on_path(feed) {
            let before = self.free_until(feed, last).duration_since(later(time, grain));
            let passed = per_min.scale(before.as_secs_f64().max(0.0) / 60.0);
            self.after[feed] = self.after[feed].max(passed);
        }
        time
    }

    fn shed(&mut self, feed: FeedNumber, watts: Watts) {
        self.after[feed] += watts;
        self.touched.push(feed);
    }

    /// Until when `feed` may shed what must go by `last`.
    fn free_until(&self, feed: FeedNumber, last: Timestamp) -> Timestamp {
        last.min(self.busy_from[feed])
    }

    /// Forgets what the feeds shed for one deadline.
    fn forget(&mut self) {
        for feed in self.touched.drain(..) {
            self.after[feed] = Watts::ZERO;
        }
    }

    /// A machine that goes at `at` keeps its feeds busy from then on.
    pub(super) fn keep_busy(&mut self, (feed, _): Load, at: Timestamp) {
        let ramps = self.ramps;
        for (feed, _) in ramps.on_path(feed) {
            self.busy_from[feed] = self.busy_from[feed].min(at);
        }
    }
}

/// Gives times from the present on, in the order of the times that machines should have.
pub(super) struct Forward<'a> {
    ramps: &'a Ramps<'a>,
    now: Timestamp,
    grain: Duration,
    /// From when on each feed may shed more.
    free_from: PerFeed<Timestamp>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(ramps: &'a Ramps<'a>, grain: Duration, now: Timestamp) -> Self {
        let free_from = PerFeed::all(ramps.feeds, Timestamp::MIN);
        Self { ramps, now, grain, free_from }
    }

    /// Counts a machine that went at `at`.
    pub(super) fn count(&mut self, (feed, watts): Load, at: Timestamp) {
        let ramps = self.ramps;
        for (feed, per_min) in ramps.on_path(feed) {
            let from = self.free_from[feed].max(at);
            self.free_from[feed] = later(from, ramp_time(watts, per_min));
        }
    }

    /// The time of a machine that should go at `at`: then, or when the ramps allow it. What goes in
    /// one step may run ahead of a ramp by as much as the ramp allows until the next step.
    pub(super) fn time(&mut self, (feed, watts): Load, at: Timestamp) -> Timestamp {
        let free = self.ramps.on_path(feed).map(|(feed, _)| self.free_from[feed]).max();
        let free = free.filter(|free| *free > later(at, self.grain));
        let time = free.map_or(at, |free| {
            let wait = earlier(free, self.grain).duration_since(self.now);
            let wait = Duration::try_from(wait).unwrap_or_default();
            later(self.now, in_steps(wait, self.grain))
        });
        let time = time.max(at);
        self.count((feed, watts), time);
        time
    }
}

/// `time`, rounded up to whole steps.
fn in_steps(time: Duration, grain: Duration) -> Duration {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let grain = millis(grain).max(1);
    Duration::from_millis(millis(time).div_ceil(grain).saturating_mul(grain))
}

#[cfg(test)]
mod tests;
