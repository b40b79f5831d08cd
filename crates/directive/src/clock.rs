//! The time for schedules: the wall clock, protected against steps.
//!
//! Schedules use the wall clock, which can be stepped by a time server or by hand. A step must
//! neither delay a lowering nor cause an early raise. So a lowering is due as soon as one of the
//! two clocks says so, a raise only when both do, and nothing is raised while they disagree.
//!
//! Steps up to [`STEP`] are ordinary corrections of time servers. They are followed slowly, so that
//! no schedule jumps, and raises continue.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// If the clocks differ by more than this, the wall clock was stepped.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// A wall clock within [`STEP`] is followed by at most one part in this many of the time that
/// passes, which is faster than time servers correct clocks. Without this bound, many small steps
/// could add up to a large one without being noticed.
const SLEW: i32 = 10;

/// Compares the wall clock with the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallGuard {
    /// A time that has certainly passed, stored by an earlier process.
    floor: Option<Timestamp>,
    anchor: Option<Anchor>,
    /// The latest time returned while the clocks agreed.
    latest: Timestamp,
}

/// The time from which the monotonic clock is counted.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    at: Timestamp,
    since: Instant,
    /// Whether the true time may have been later than `at`: the wall clock was behind the floor,
    /// and it is not known how long the process was down.
    or_later: bool,
}

/// The current time for schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardedTime {
    /// The later of the two clocks. A lowering by this time is never late.
    pub later: Timestamp,
    /// The time by the monotonic clock, counted from the moment when the two clocks last agreed. It
    /// never runs backward and is never after `later`.
    pub steady: Timestamp,
    /// By how much the wall clock is off, if it was stepped: nothing may be raised.
    pub stepped: Option<SignedDuration>,
}

impl WallGuard {
    /// Begins after a restart; an earlier process saw the time `seen`. A wall clock behind this
    /// time was stepped while the process was down. A wall clock ahead of it is accepted, because
    /// it is not known how long the process was down.
    #[must_use]
    pub fn resume(seen: Option<Timestamp>) -> Self {
        Self { floor: seen, ..Self::default() }
    }

    /// Handles a reading of both clocks.
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

    /// The time that has certainly passed, for [`Self::resume`]; `time` is the last reading, at
    /// `wall`. If a clock that was right at the start is stepped now, both clocks are in doubt, and
    /// a restart accepts the wall clock. If the wall clock was behind at the start, a further
    /// restart does not accept it.
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
