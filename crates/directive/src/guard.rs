//! The time for schedules: the wall clock, guarded against steps.
//!
//! Schedules are in wall time, and wall clocks get stepped: by a time server, or by hand. A step
//! must neither make a lowering late nor a raise early. So a lowering is due as soon as either
//! clock says so, a raise only when both do, and while the two clocks disagree nothing is raised.
//!
//! Steps within [`STEP`] are what time servers do every day. They are followed slowly, so that no
//! schedule jumps, and raises go on.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// The clocks disagree when they differ by more than this: the wall clock was stepped.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// A wall clock within [`STEP`] is followed at one part in this many of the time that passes, which
/// is faster than time servers slew. Without this bound, many small steps would add up to a large
/// one that nobody notices.
const SLEW: i32 = 10;

/// Follows both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallGuard {
    /// A time that has certainly passed, from a former process.
    floor: Option<Timestamp>,
    anchor: Option<Anchor>,
    /// The latest time given out while the clocks agreed.
    latest: Timestamp,
}

/// What the monotonic clock counts from.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    at: Timestamp,
    since: Instant,
    /// It may have been later than `at`: the wall clock was behind the floor, and nobody knows how
    /// long the process was down.
    or_later: bool,
}

/// What time it is for schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardedTime {
    /// The later of the two clocks. What is lowered by this time is not lowered too late.
    pub later: Timestamp,
    /// The time by the monotonic clock, counted from when the two last agreed. It never runs
    /// backward and is never after `later`.
    pub steady: Timestamp,
    /// By how much the wall clock is off, if it was stepped: nothing may be raised.
    pub stepped: Option<SignedDuration>,
}

impl WallGuard {
    /// Begins after a restart; a former process saw the time `seen`. A wall clock that is behind it
    /// was stepped while the process was down. One that is ahead of it is believed, because nobody
    /// knows how long that was.
    #[must_use]
    pub fn resume(seen: Option<Timestamp>) -> Self {
        Self { floor: seen, ..Self::default() }
    }

    /// Takes the reading of both clocks.
    pub fn read(&mut self, wall: Timestamp, now: Instant) -> GuardedTime {
        let mut anchor = self.anchor.unwrap_or_else(|| self.begin(wall, now));
        let passed = SignedDuration::try_from(now.saturating_duration_since(anchor.since))
            .unwrap_or(SignedDuration::MAX);
        let steady = anchor.at.checked_add(passed).unwrap_or(Timestamp::MAX);
        let off = wall.duration_since(steady);
        if anchor.or_later && off >= SignedDuration::ZERO {
            anchor = Anchor { at: wall, since: now, or_later: false };
        } else if off.abs() <= STEP {
            let slew = passed / SLEW;
            let at = steady.checked_add(off.clamp(-slew, slew)).unwrap_or(steady);
            anchor = Anchor { at, since: now, or_later: anchor.or_later };
        } else {
            self.anchor = Some(Anchor { at: steady, since: now, ..anchor });
            let later = wall.max(steady).max(self.latest);
            return GuardedTime { later, steady, stepped: Some(off) };
        }
        self.anchor = Some(anchor);
        self.latest = self.latest.max(anchor.at).max(wall);
        GuardedTime { later: self.latest, steady: anchor.at, stepped: None }
    }

    /// The time that has passed for certain, for [`Self::resume`], where `time` is what was read last,
    /// with the wall clock at `wall`. While a clock is stepped that was right when the process began,
    /// both of them are in doubt, and a restart accepts the wall clock. One that was behind when the
    /// process began is not accepted by yet another restart.
    #[must_use]
    pub fn passed(&self, time: GuardedTime, wall: Timestamp) -> Timestamp {
        let resumed = self.anchor.is_some_and(|anchor| anchor.or_later);
        if time.stepped.is_some() && !resumed { time.steady.min(wall) } else { time.steady }
    }

    fn begin(&self, wall: Timestamp, now: Instant) -> Anchor {
        match self.floor {
            Some(floor) if wall < floor => Anchor { at: floor, since: now, or_later: true },
            _ => Anchor { at: wall, since: now, or_later: false },
        }
    }
}

#[cfg(test)]
mod tests;
