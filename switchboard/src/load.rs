//! Corrects the figures of the policy by what the feeds' meters show. The load of a feed with a meter
//! is what the meter shows plus what a plan changes; so the plan works with the figures, and with one
//! correction for each feed: by how much more its meter shows than the figures say is drawn now.
//!
//! What is drawn now is known only within bounds: a machine that was told to sleep may still draw,
//! and a tenant without a meter may draw anything up to its reservation. A correction changes only
//! as far as measurements contradict it within these bounds, and only if they do so for a few
//! measurements in a row, because the meters of a feed and of its tenants are not read at the same
//! moment. The correction that plans use follows a higher one beyond a margin, and a lower one when it
//! has been lower for two minutes. Present excess is left to the guard of the agent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use directive::Watts;
use jiff::Timestamp;

use crate::facility::{FeedNumber, Feeds, PerFeed};

/// What a feed's meter shows, and what the figures say is drawn at and below the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The power that the meter shows.
    pub(crate) metered: Watts,
    pub(crate) taken_at: Timestamp,
    /// The least and the most that the figures allow to be drawn at the time of the measurement.
    pub(crate) least: Watts,
    pub(crate) most: Watts,
    /// What was assumed before the first measurement, which is believed as far as the meter allows.
    pub(crate) assumed: Watts,
    /// By how much a correction must be lower before plans use the lower value.
    pub(crate) fall_margin: Watts,
    /// By how much it must be higher before plans use the higher value.
    pub(crate) rise_margin: Watts,
    /// Whether a higher load counts as soon as enough measurements show it, however short the time:
    /// the guard has already acted on it.
    pub(crate) is_urgent: bool,
    /// Whether the plan has just taken machines over from the guard: then at least what is assumed
    /// counts at once, as far as the meter allows.
    pub(crate) is_taken_over: bool,
}

/// The corrections of all feeds.
#[derive(Debug)]
pub(crate) struct Corrections {
    feeds: PerFeed<Correction>,
    planned: PerFeed<Watts>,
}

#[derive(Debug, Clone, Default)]
struct Correction {
    /// The correction by the measurements so far. `None` if the meter was never read.
    last: Option<Watts>,
    /// A correction that contradicts `last`, and has not lasted long enough yet.
    other: Option<Other>,
    taken_at: Option<Timestamp>,
    /// The last values, each with the time from which it was valid, the newest last.
    recent: VecDeque<(Instant, Watts)>,
    planned: Watts,
}

/// A correction by measurements that contradict the one so far in the same direction.
#[derive(Debug, Clone, Copy)]
struct Other {
    is_higher: bool,
    /// The value that is nearest to the correction so far.
    nearest: Watts,
    since: Instant,
    measurements: u32,
}

/// Measurements must contradict a correction for this long, and as many of them, before it changes.
const LASTS: Duration = Duration::from_secs(10);
const MEASUREMENTS: u32 = 2;
/// A lower load must last this long before plans use it.
const FALL: Duration = Duration::from_secs(120);
/// The maximum number of values kept of one feed. With more in [`FALL`], the oldest are dropped.
const RECENT: usize = 256;
/// Changes of the correction below this part of the usable power are not worth a new plan.
pub(crate) const NEGLIGIBLE: f64 = 0.002;

impl Corrections {
    /// No meter has been read.
    pub(crate) fn new(feeds: &Feeds) -> Self {
        Self {
            feeds: PerFeed::all(feeds, Correction::default()),
            planned: PerFeed::all(feeds, Watts::ZERO),
        }
    }

    /// Carries corrections over to a new policy: `former` gives what is known of a feed.
    pub(crate) fn carried(
        feeds: &Feeds,
        now: Instant,
        former: impl Fn(FeedNumber) -> Option<Watts>,
    ) -> Self {
        let mut corrections = Self::new(feeds);
        for feed in feeds.numbers() {
            if let Some(value) = former(feed) {
                let recent = VecDeque::from([(now, value)]);
                let last = Some(value);
                corrections.feeds[feed] =
                    Correction { last, recent, planned: value, ..Correction::default() };
                corrections.planned[feed] = value;
            }
        }
        corrections
    }

    /// The corrections that plans use.
    pub(crate) fn planned(&self) -> &PerFeed<Watts> {
        &self.planned
    }

    /// The correction of `feed` by the last measurement of its own meter.
    pub(crate) fn last(&self, feed: FeedNumber) -> Option<Watts> {
        self.feeds[feed].last
    }

    /// The figures count `watts` from now on that the meter of `feed` has shown beyond them so far.
    pub(crate) fn count_in_figures(&mut self, feed: FeedNumber, watts: Watts) {
        let correction = &mut self.feeds[feed];
        let Some(last) = correction.last else { return };
        correction.other = None;
        correction.planned = correction.planned - watts;
        correction.last = Some(last - watts);
        for (_, value) in &mut correction.recent {
            *value = *value - watts;
        }
    }

    /// Takes what the meters show at `now`; `shown` gives `None` for a feed without a fresh
    /// measurement, whose correction then stays.
    ///
    /// A feed whose meter was never read takes the sum of the corrections below it.
    pub(crate) fn read(
        &mut self,
        feeds: &Feeds,
        now: Instant,
        shown: impl Fn(FeedNumber) -> Option<Shown>,
    ) {
        let mut sums = PerFeed::all(feeds, Watts::ZERO);
        // Children come after their parents.
        for feed in feeds.numbers().rev() {
            let correction = &mut self.feeds[feed];
            if let Some(shown) = shown(feed) {
                correction.read(&shown, feeds[feed].most_usable(), now);
            } else {
                correction.other = None;
            }
            if correction.last.is_some() {
                sums[feed] = correction.planned;
            }
            if let Some(&parent) = feeds.path(feed).get(1) {
                let below = sums[feed];
                sums[parent] += below;
            }
        }
        self.planned = sums;
    }
}

impl Correction {
    fn read(&mut self, shown: &Shown, usable: Watts, now: Instant) {
        let (low, high) = (shown.metered - shown.most, shown.metered - shown.least);
        let is_new = self.taken_at != Some(shown.taken_at);
        self.taken_at = Some(shown.taken_at);
        let Some(last) = self.last else {
            let first = shown.assumed.clamp(low, high.max(low));
            (self.last, self.planned) = (Some(first), first);
            self.recent.push_back((now, first));
            return;
        };
        let assumed = shown.assumed.clamp(low, high.max(low));
        let last = if shown.is_taken_over { last.max(assumed) } else { last };
        if self.last != Some(last) {
            self.last = Some(last);
            self.recent.push_back((now, last));
        }
        if let Some(value) = self.contradicted(last, (low, high.max(low)), is_new, shown, now) {
            self.last = Some(value);
            self.recent.push_back((now, value));
        }
        let negligible = usable.scale(NEGLIGIBLE);
        self.plan(shown.fall_margin.max(negligible), shown.rise_margin.max(negligible), now);
    }

    /// The new value, if what contradicts the last one has lasted long enough.
    fn contradicted(
        &mut self,
        last: Watts,
        (low, high): (Watts, Watts),
        is_new: bool,
        shown: &Shown,
        now: Instant,
    ) -> Option<Watts> {
        let value = last.clamp(low, high);
        if value == last {
            self.other = None;
            return None;
        }
        let is_higher = value > last;
        let other = match self.other.filter(|other| other.is_higher == is_higher) {
            Some(other) => Other {
                nearest: if is_higher {
                    other.nearest.min(value)
                } else {
                    other.nearest.max(value)
                },
                measurements: other.measurements.saturating_add(u32::from(is_new)),
                ..other
            },
            None => Other { is_higher, nearest: value, since: now, measurements: 1 },
        };
        let has_lasted =
            now.saturating_duration_since(other.since) >= LASTS || (is_higher && shown.is_urgent);
        // One measurement may show a tenant that its own meter does not show yet.
        if has_lasted && other.measurements >= MEASUREMENTS {
            self.other = None;
            return Some(other.nearest);
        }
        self.other = Some(other);
        None
    }

    /// Brings the correction for plans up to date.
    fn plan(&mut self, fall_margin: Watts, rise_margin: Watts, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        // A value counts until the next one; so the one before the oldest recent one is kept.
        while self.recent.len() > RECENT
            || self.recent.get(1).is_some_and(|(at, _)| age(*at) >= FALL)
        {
            self.recent.pop_front();
        }
        let (Some(&(first, _)), Some(&(_, newest))) = (self.recent.front(), self.recent.back())
        else {
            return;
        };
        if newest > self.planned + rise_margin {
            self.planned = newest;
            return;
        }
        let highest = self.recent.iter().map(|(_, value)| *value).max();
        if age(first) >= FALL
            && let Some(highest) = highest
            && highest + fall_margin < self.planned
        {
            self.planned = highest;
        }
    }
}

#[cfg(test)]
mod tests;
