//! A feed that carries too much although the guard has no machine left: how long that lasts, and when
//! somebody else is called for it.

use std::time::{Duration, Instant};

use directive::{FeedId, Watts};
use jiff::Timestamp;

/// A feed that carries too much, and of which the guard can take no further machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedOver {
    pub feed: FeedId,
    pub reason: OverReason,
    /// The newest sample of the feed's meter.
    pub metered: Watts,
    pub usable: Watts,
    pub rating: Watts,
    /// When the first of the samples in a row was taken that are above usable.
    pub since: Timestamp,
    /// When the newest sample was taken.
    pub at: Timestamp,
}

/// What the feed has been above for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverReason {
    /// Two samples in a row are above the rating by more than all commands cover.
    AboveRating,
    /// The samples are above usable by more than all commands cover, for longer than machines take to
    /// fall asleep and a meter to show it.
    AboveUsable,
}

impl OverReason {
    /// The word for programs and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AboveRating => "above_rating",
            Self::AboveUsable => "above_usable",
        }
    }
}

/// For how long a feed has been above its limits with no machine left.
#[derive(Debug, Default)]
pub(super) struct Bare {
    /// When the first sample in a row was taken that is above usable, by the meter.
    pub(super) over_since: Option<Timestamp>,
    /// When the first sample in a row was taken with which no machine was left.
    since: Option<Instant>,
    /// How many samples in a row were also above the rating.
    above_rating: u32,
    /// When somebody was last called.
    called: Option<Instant>,
}

/// How many samples in a row must be above the rating before somebody is called: one alone may be
/// wrong.
const ABOVE_RATING: u32 = 2;

impl Bare {
    /// The feed is within its limit, or there are machines that can still go.
    pub(super) fn end(&mut self) {
        (self.since, self.above_rating) = (None, 0);
    }

    /// What is on its way covers the newest sample. Whether it is enough is seen later: for a moment
    /// the meter already shows machines that still count as on their way.
    pub(super) fn pause(&mut self) {
        self.above_rating = 0;
    }

    /// The newest sample was taken at `taken`, and no machine is left. `patience` is how long machines
    /// and meters take. Returns why somebody must be called now, at most once in `every`.
    pub(super) fn note(
        &mut self,
        taken: Instant,
        is_above_rating: bool,
        patience: Duration,
        every: Duration,
        now: Instant,
    ) -> Option<OverReason> {
        let since = *self.since.get_or_insert(taken);
        self.above_rating = if is_above_rating { self.above_rating.saturating_add(1) } else { 0 };
        let reason = if self.above_rating >= ABOVE_RATING {
            OverReason::AboveRating
        } else if taken.saturating_duration_since(since) > patience {
            OverReason::AboveUsable
        } else {
            return None;
        };
        if self.called.is_some_and(|called| now < called + every) {
            return None;
        }
        self.called = Some(now);
        Some(reason)
    }
}
