//! The kinds of commands, and the periods and time limits.

use std::fmt;
use std::time::Duration;

use crate::claims::Assignment;

/// The minimum of every period and time limit.
const PERIOD_MIN: Duration = Duration::from_millis(10);
/// The maximum of every period and time limit.
const PERIOD_MAX: Duration = Duration::from_secs(86_400);
/// A command for one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Put it to sleep.
    Sleep,
    Wake,
    Read,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sleep => "sleep",
            Self::Wake => "wake",
            Self::Read => "read",
        })
    }
}

/// Periods and time limits. Values outside 10 ms to one day are clamped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often a machine is read when it is in its wanted state.
    pub read_at_rest: Duration,
    /// How often a machine is read when it has not followed its last command yet.
    pub read_in_doubt: Duration,
    /// How long after the driver's answer a machine may take to be asleep.
    pub follow_sleep: Duration,
    /// How long after the driver's answer a machine may take to be awake.
    pub follow_wake: Duration,
    /// The wait before the second attempt; it doubles with each further one.
    pub retry_first: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// The longest time between two reports.
    pub report_every: Duration,
    /// The shortest time between two reports; changes within it are reported together.
    pub report_gap: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            read_at_rest: Duration::from_secs(10),
            read_in_doubt: Duration::from_secs(1),
            follow_sleep: Duration::from_secs(20),
            follow_wake: Duration::from_secs(60),
            retry_first: Duration::from_secs(2),
            retry_max: Duration::from_secs(60),
            report_every: Duration::from_secs(1),
            report_gap: Duration::from_millis(100),
        }
    }
}

impl Timing {
    /// Clamps all values to 10 ms to one day: periods of zero would cause a busy loop, and endless
    /// ones would overflow.
    pub(super) fn bounded(self) -> Self {
        let bound = |period: Duration| period.clamp(PERIOD_MIN, PERIOD_MAX);
        Self {
            read_at_rest: bound(self.read_at_rest),
            read_in_doubt: bound(self.read_in_doubt),
            follow_sleep: bound(self.follow_sleep),
            follow_wake: bound(self.follow_wake),
            retry_first: bound(self.retry_first),
            retry_max: bound(self.retry_max),
            report_every: bound(self.report_every),
            report_gap: bound(self.report_gap),
        }
    }

    /// The same periods and limits, with the longer times to follow that the machines of
    /// `assignment` need.
    pub(super) fn of(&self, assignment: &Assignment) -> Self {
        Self {
            follow_sleep: self.follow_sleep.max(assignment.sleeps_within),
            follow_wake: self.follow_wake.max(assignment.wakes_within),
            ..self.clone()
        }
        .bounded()
    }

    pub(super) fn follow(&self, kind: Kind) -> Duration {
        if kind == Kind::Wake { self.follow_wake } else { self.follow_sleep }
    }

    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.retry_first.saturating_mul(1 << doublings).min(self.retry_max)
    }
}
