//! Decides whether a miner may connect: up to the configured number of sessions, and not from an
//! address whose handshakes keep failing.
//!
//! A whole farm can be behind one address, so successful connections are not limited: only failed
//! or unfinished handshakes count against an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionRefusal {
    /// The configured number of sessions is reached.
    Full,
    /// Too many handshakes from the miner's address failed recently.
    TooManyFailures,
}

#[derive(Debug)]
pub(crate) struct ConnectionAdmission {
    sessions_max: usize,
    sessions: usize,
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    failures: f64,
    updated: Instant,
}

/// Maximum number of addresses remembered. Beyond it, those without recent failures are forgotten;
/// if there are none, all are.
const SOURCES_MAX: usize = 65_536;
/// The number of failures that an address is allowed at least, however small the fleet.
const FAILURES_MIN: f64 = 100.0;

impl ConnectionAdmission {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self { sessions_max, sessions: 0, buckets: HashMap::new() }
    }

    /// The number of failures that an address is allowed within a minute.
    #[expect(clippy::cast_precision_loss, reason = "a fleet has far fewer than 2^52 machines")]
    fn failures_max(&self) -> f64 {
        (self.sessions_max as f64).max(FAILURES_MIN)
    }

    /// Admits a connection. Call [`Self::left`] when it ends.
    pub(crate) fn admit(&mut self, source: IpAddr, now: Instant) -> Result<(), ConnectionRefusal> {
        if self.sessions >= self.sessions_max {
            return Err(ConnectionRefusal::Full);
        }
        let most = self.failures_max();
        if let Some(bucket) = self.buckets.get_mut(&source)
            && bucket.drain(now, most) >= most
        {
            return Err(ConnectionRefusal::TooManyFailures);
        }
        self.sessions += 1;
        Ok(())
    }

    /// Records the end of a connection; `failed` if its handshake was never completed.
    pub(crate) fn left(&mut self, source: IpAddr, failed: bool, now: Instant) {
        self.sessions = self.sessions.saturating_sub(1);
        if !failed {
            return;
        }
        let most = self.failures_max();
        if self.buckets.len() >= SOURCES_MAX {
            self.buckets.retain(|_, bucket| bucket.drain(now, most) > 0.0);
            if self.buckets.len() >= SOURCES_MAX {
                self.buckets.clear();
            }
        }
        let bucket = self.buckets.entry(source).or_insert(Bucket { failures: 0.0, updated: now });
        bucket.drain(now, most);
        bucket.failures += 1.0;
    }
}

impl Bucket {
    /// Forgives failures by the time that has passed, and returns how many are left.
    fn drain(&mut self, now: Instant, most: f64) -> f64 {
        let secs = now.saturating_duration_since(self.updated).as_secs_f64();
        self.failures = (self.failures - secs * most / 60.0).max(0.0);
        self.updated = now;
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_farm_behind_one_address_reconnects_as_it_likes() {
        let now = origin();
        let source = IpAddr::from([10, 0, 0, 1]);
        let mut admission = ConnectionAdmission::new(50);
        for _ in 0..10_000 {
            assert_eq!(admission.admit(source, now), Ok(()));
            admission.left(source, false, now);
        }
    }

    #[test]
    fn a_source_that_only_fails_is_refused_until_it_has_waited() {
        let now = origin();
        let source = IpAddr::from([10, 0, 0, 1]);
        let mut admission = ConnectionAdmission::new(50);
        for _ in 0..100 {
            assert_eq!(admission.admit(source, now), Ok(()));
            admission.left(source, true, now);
        }
        assert_eq!(admission.admit(source, now), Err(ConnectionRefusal::TooManyFailures));
        assert_eq!(
            admission.admit(IpAddr::from([10, 0, 0, 2]), now),
            Ok(()),
            "others are not concerned"
        );
        assert_eq!(admission.admit(source, now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn at_the_cap_the_newest_is_refused() {
        let now = origin();
        let source = IpAddr::from([10, 0, 0, 1]);
        let mut admission = ConnectionAdmission::new(1);
        assert_eq!(admission.admit(source, now), Ok(()));
        assert_eq!(admission.admit(source, now), Err(ConnectionRefusal::Full));
        admission.left(source, false, now);
        assert_eq!(admission.admit(source, now), Ok(()));
    }
}
