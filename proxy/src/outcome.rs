//! How submits end. Every submit ends in exactly one way, and each way has its counter ([`crate::metrics`]).

use std::time::Duration;

use stratum::share::Proof;

/// How a submit ended that was not forwarded. One that was ends as its pool says ([`SettledAs`]); every
/// submit ends in exactly one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Below the pool's difficulty: good for us, not for it.
    Local,
    /// As [`Outcome::Local`], while the upstream owed an answer.
    AtRisk,
    /// It could not be brought to its pool: nobody knows.
    Unresolved,
    /// A job we no longer hold, or that its pool has retired.
    Stale,
    /// Searched before.
    Duplicate,
    /// The hash misses the difficulty advertised with the job.
    LowDifficulty,
    /// Not authorized, or not for this worker.
    Unauthorized,
    /// It cannot be read, or breaks a rule of ntime, extranonce2 or version bits.
    Malformed,
    /// Too many shares of one job to tell whether it is new.
    Overflow,
}

/// How a forwarded share ended, for the counters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settled {
    pub(crate) outcome: SettledAs,
    pub(crate) pool_difficulty: f64,
    pub(crate) latency: Duration,
    /// The header, when it meets the network target.
    pub(crate) block: Option<Box<Proof>>,
}

/// The ends of a forwarded share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettledAs {
    Accepted,
    Rejected,
    /// Its pool retired the job while it waited in the queue.
    Stale,
    Unresolved,
}
