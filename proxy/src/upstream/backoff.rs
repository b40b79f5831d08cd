//! How long to wait before the next connection attempt. A random part of up to three quarters of
//! the wait spreads the attempts of many proxies that lose the same pool.
//!
//! What does not change within seconds is not tried every second (F10, F17, F19): a pool that
//! refuses our user, rejects all our shares or fails its identity check is tried again after a
//! minute.

use std::time::Duration;

use super::end::Retry;

/// The upper bound of the first wait.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// The upper bound of the wait if the pool, or its identity, is the cause.
const PATIENT: Duration = Duration::from_secs(60);
/// The minimum wait after bytes were changed in transit: the attacker can do that again at once
/// (F60).
const TAMPERED: Duration = Duration::from_secs(1);

/// The number of attempts since the last successful one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Records a successful connection: the next wait is short again.
    pub(super) fn worked(&mut self) {
        self.attempts = 0;
    }

    /// Returns the wait before the next attempt; `random` is any number.
    pub(super) fn after(&mut self, retry: Retry, random: u32) -> Duration {
        let jittered = self.next(random);
        match retry {
            Retry::Soon => jittered,
            Retry::Tampered => TAMPERED + jittered,
            Retry::Patient => PATIENT + jittered / 2,
        }
    }

    fn next(&mut self, random: u32) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        // At least a quarter of the bound: with random waits near zero there could be many attempts
        // in a minute (F07), and a pool that accepts and closes at once would cause a busy loop.
        let least = ceiling / 4;
        least + (ceiling - least).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFault;
    use crate::upstream::end::End;
    use rand::prelude::*;

    #[test]
    fn f07_waits_grow_to_half_a_minute_and_never_vanish() {
        let mut backoff = Backoff::default();
        let longest: Vec<Duration> = (0..10).map(|_| backoff.next(u32::MAX)).collect();
        assert_eq!(longest[0], FIRST);
        assert_eq!(longest[9], LONGEST);
        assert!(longest.windows(2).all(|pair| pair[0] <= pair[1]));
        backoff.worked();
        assert_eq!(backoff.next(0), FIRST / 4);
    }

    /// The times of the attempts in the minute after a pool was lost, in seconds.
    fn minute(mut random: impl FnMut() -> u32) -> Vec<f64> {
        let mut backoff = Backoff::default();
        let waits = std::iter::repeat_with(|| backoff.next(random()).as_secs_f64());
        waits
            .scan(0.0, |at, wait| {
                *at += wait;
                Some(*at)
            })
            .take_while(|at| *at <= 60.0)
            .collect()
    }

    #[test]
    fn f07_a_pool_that_is_down_for_a_minute_sees_twelve_attempts_at_most() {
        assert_eq!(minute(|| 0).len(), 12, "with the worst of luck");
        assert_eq!(minute(|| u32::MAX).len(), 6, "with the best");
    }

    /// Ten proxies lose the same pool at the same moment. The first waits are short, because most
    /// pools that close a connection are back at once (at most two attempts of each in the first
    /// second). Then attempts are spread: from the eighth second on, four in one second are rare.
    #[test]
    fn f08_ten_proxies_do_not_come_back_as_one() {
        let mut crowded = 0;
        for seed in 0..100 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut bins = [0u32; 61];
            for at in (0..10).flat_map(|_| minute(|| rng.random())) {
                bins[at as usize] += 1;
            }
            assert!(bins[8..].iter().all(|attempts| *attempts < 8), "seed {seed}: {bins:?}");
            crowded += bins[8..].iter().filter(|attempts| **attempts > 3).count();
        }
        assert!(crowded <= 53, "of 5,300 seconds, {crowded} with more than three attempts");
    }

    #[test]
    fn f10_f17_f19_f60_what_will_not_change_is_not_asked_each_second() {
        for (end, least) in [
            (End::AuthFailed, 60),
            (End::RejectsAll, 60),
            (End::AddsNoSpace, 60),
            (End::DoesNotFit, 60),
            (End::Tls(TlsFault::PinMismatch), 60),
            (End::Tls(TlsFault::WrongName), 60),
            (End::Tls(TlsFault::Untrusted), 60),
            (End::Tls(TlsFault::Expired), 60),
            (End::Tls(TlsFault::NotYetValid), 60),
            (End::Tls(TlsFault::NotSpoken), 60),
            (End::Tls(TlsFault::Incompatible), 60),
            (End::Tls(TlsFault::Tampered), 1),
        ] {
            let wait = Backoff::default().after(end.retry(), 0);
            assert!(wait >= Duration::from_secs(least), "{end:?}: {wait:?}");
        }
        for end in [End::Closed, End::Tls(TlsFault::Closed), End::Tls(TlsFault::HandshakeTimeout)] {
            let wait = Backoff::default().after(end.retry(), u32::MAX);
            assert!(wait <= FIRST, "a pool that was restarted is asked soon: {end:?}");
        }
    }
}
