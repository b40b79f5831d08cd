//! The testbed's clocks: both clocks in one reading, and durations as text.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub at: Instant,
    /// The wall clock, for `ntime` and for people.
    pub wall: Timestamp,
}

impl Moment {
    /// Returns the moment `span` later; a wall clock at its limit stays there.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self { at: self.at + span, wall: self.wall.checked_add(span).unwrap_or(Timestamp::MAX) }
    }

    /// Returns the wall clock as a header's `ntime`.
    #[must_use]
    pub fn ntime(self) -> u32 {
        u32::try_from(self.wall.as_second().max(0)).unwrap_or(u32::MAX)
    }
}

#[must_use]
pub fn moment() -> Moment {
    Moment { at: now(), wall: wall() }
}

/// Reads the monotonic clock.
#[must_use]
pub fn now() -> Instant {
    daemon::clock::now()
}

/// Reads the wall clock.
#[must_use]
pub fn wall() -> Timestamp {
    daemon::clock::wall()
}

/// Reads a duration such as `5s`, `250ms` or `2m`, as options and commands write it.
///
/// # Errors
/// What is wrong, in words: the text is not a duration, or is negative.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|error| format!("span `{text}`: {error}"))?;
    Duration::try_from(span).map_err(|_| format!("span `{text}` is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        assert_eq!(parse_span("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_span("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_span("-5s").unwrap_err().contains("negative"));
        assert!(parse_span("soon").unwrap_err().contains("`soon`"));
    }
}
