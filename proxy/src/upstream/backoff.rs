//! How long to wait before the next attempt: full jitter, so that many proxies that lose one pool do not come back as one.

use std::time::Duration;

/// Shortest upper bound of a wait.
const FIRST: Duration = Duration::from_millis(500);
/// Longest upper bound.
const LONGEST: Duration = Duration::from_secs(30);

/// Attempts since the last that worked.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// A connection worked: the next wait is short again.
    pub(super) fn worked(&mut self) {
        self.attempts = 0;
    }

    /// The next wait; `random` is any number.
    pub(super) fn next(&mut self, random: u32) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        // Never quite zero: a pool that accepts and closes at once must not make us spin.
        let least = Duration::from_millis(100);
        least + ceiling.saturating_sub(least).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f07_waits_grow_to_half_a_minute_and_never_vanish() {
        let mut backoff = Backoff::default();
        let longest: Vec<Duration> = (0..10).map(|_| backoff.next(u32::MAX)).collect();
        assert_eq!(longest[0], FIRST);
        assert_eq!(longest[9], LONGEST);
        assert!(longest.windows(2).all(|pair| pair[0] <= pair[1]));
        backoff.worked();
        assert_eq!(backoff.next(0), Duration::from_millis(100));
    }
}
