//! The only place of this crate that reads a clock. Everything that decides takes the time as an argument.

use std::time::Instant;

use jiff::Timestamp;

/// The monotonic time: permits, deadlines and backoffs are measured by it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, UTC: timelines are read by it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}
