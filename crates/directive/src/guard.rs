//! Time for schedules: the wall clock, guarded against its jumps.
//!
//! Schedules stand in wall time, and wall clocks get stepped: by a time server that comes back, or
//! by a hand. A step must neither make a lowering late nor an end come early. So while the wall
//! clock disagrees with the monotonic one, schedules go by the later of the two (nothing is lowered
//! late), and whoever asks is told to raise nothing (nothing ends early).

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A wall clock may drift this far from the monotonic one between two looks: more is a step.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// Follows both clocks.
#[derive(Debug, Default)]
pub struct WallGuard {
    /// When the two last agreed.
    anchor: Option<(Timestamp, Instant)>,
}

/// What time it is for schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardedTime {
    /// The time that lowerings go by.
    pub at: Timestamp,
    /// By how much the wall clock has been stepped and not come back: raise nothing.
    pub stepped: Option<SignedDuration>,
}

impl WallGuard {
    /// Takes both clocks' reading. Small differences are followed, as time servers make them.
    pub fn read(&mut self, wall: Timestamp, now: Instant) -> GuardedTime {
        let (agreed, since) = *self.anchor.get_or_insert((wall, now));
        let passed: Duration = now.saturating_duration_since(since);
        let steady = agreed.checked_add(passed).unwrap_or(Timestamp::MAX);
        let off = wall.duration_since(steady);
        if off.abs() <= STEP {
            self.anchor = Some((wall, now));
            return GuardedTime { at: wall, stepped: None };
        }
        GuardedTime { at: wall.max(steady), stepped: Some(off) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
    }

    #[test]
    fn f46_a_step_back_holds_schedules_where_they_were() {
        let (start, mut guard) = (origin(), WallGuard::default());
        assert_eq!(guard.read(at(0), start), GuardedTime { at: at(0), stepped: None });
        let later = guard.read(at(10 - 3600), start + Duration::from_secs(10));
        assert_eq!(
            later,
            GuardedTime { at: at(10), stepped: Some(SignedDuration::from_hours(-1)) }
        );
        let back = guard.read(at(20), start + Duration::from_secs(20));
        assert_eq!(back, GuardedTime { at: at(20), stepped: None });
    }

    #[test]
    fn f46_a_step_forward_makes_no_lowering_late_and_says_to_raise_nothing() {
        let (start, mut guard) = (origin(), WallGuard::default());
        guard.read(at(0), start);
        let later = guard.read(at(10 + 3600), start + Duration::from_secs(10));
        assert_eq!(
            later,
            GuardedTime { at: at(3610), stepped: Some(SignedDuration::from_hours(1)) }
        );
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let (start, mut guard) = (origin(), WallGuard::default());
        for minute in 0..600 {
            let drifted = at(minute * 60 + minute);
            let reading =
                guard.read(drifted, start + Duration::from_secs(60 * minute.unsigned_abs()));
            assert_eq!(reading, GuardedTime { at: drifted, stepped: None });
        }
    }
}
