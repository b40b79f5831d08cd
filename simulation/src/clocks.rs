//! The clocks that the roles are given: a monotonic one, which is the virtual time, and each role's
//! wall clock, which the world can step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::record::Role;

#[derive(Debug)]
pub(crate) struct Clocks {
    begins: Timestamp,
    origin: Instant,
    /// By how much each role's wall clock is ahead of the true time.
    ahead: BTreeMap<Role, SignedDuration>,
}

impl Clocks {
    /// Clocks that are right. The run begins at the true wall time `begins`.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    pub(crate) fn new(begins: Timestamp) -> Self {
        Self { begins, origin: Instant::now(), ahead: BTreeMap::new() }
    }

    /// The true wall time at virtual time `at`.
    pub(crate) fn truth(&self, at: Duration) -> Timestamp {
        self.begins.checked_add(at).unwrap_or(Timestamp::MAX)
    }

    /// What the wall clock of `role` shows.
    pub(crate) fn wall(&self, role: Role, at: Duration) -> Timestamp {
        let ahead = self.ahead.get(&role).copied().unwrap_or_default();
        self.truth(at).checked_add(ahead).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn monotonic(&self, at: Duration) -> Instant {
        self.origin + at
    }

    /// Virtual time of an instant that was made by [`Self::monotonic`].
    pub(crate) fn since_begin(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.origin)
    }

    /// Steps the wall clock of `role`.
    pub(crate) fn step(&mut self, role: Role, by: SignedDuration) {
        *self.ahead.entry(role).or_default() += by;
    }
}
