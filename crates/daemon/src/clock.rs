//! The clocks. This is the only file that reads them: all other code takes `now` as an argument, so
//! that decisions can be simulated and replayed. Callers decide what to do about a clock that
//! jumps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tracing::{error, info};

/// Reads the monotonic clock: that of tokio, so that tests with paused time control it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Reads the wall clock, UTC. It may jump in both directions.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Whether the log says at present that the wall clock is stepped.
static STEPPED: AtomicBool = AtomicBool::new(false);

/// Logs that the wall clock was stepped by `off`, or that it is right again. Each role detects this
/// itself, but a process has only one clock, so only the first report of a change is logged.
pub fn tell_step(off: Option<SignedDuration>) {
    if STEPPED.swap(off.is_some(), Ordering::Relaxed) == off.is_some() {
        return;
    }
    match off {
        Some(off) => {
            error!(off_secs = off.as_secs(), "wall clock stepped, nothing rises until it is right");
        }
        None => info!("wall clock is right again"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn monotonic_time_follows_paused_time() {
        let before = now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(now() - before, Duration::from_secs(3600));
    }

    #[test]
    fn the_wall_clock_is_past_the_day_this_was_written() {
        assert!(wall() > "2025-01-01T00:00:00Z".parse().unwrap());
    }
}
