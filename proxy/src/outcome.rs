//! The possible outcomes of submits, and what a pool answers to a forwarded share. Every submit has
//! exactly one outcome; [`crate::books`] counts it.

use std::sync::Arc;

use stratum::error::RejectCode;

use crate::label::labels;

labels! {
    /// How a submit ended. The outcome of a forwarded share follows from the pool's answer
    /// ([`SettledAs`]).
    pub(crate) enum Outcome {
        /// The pool accepted the share.
        Accepted = "accepted",
        /// The share met the miner's difficulty but not the pool's. It was counted here and not
        /// sent to the pool.
        Local = "local",
        /// Like [`Outcome::Local`], but an answer from the pool was overdue at the time.
        AtRisk = "at_risk",
        /// The pool rejected the share.
        PoolRejected = "pool_rejected",
        /// The share did not reach its pool, or the pool did not answer: whether it was credited is
        /// unknown.
        Unresolved = "unresolved",
        /// The job is not known here, or not any more, or its pool has retired it.
        Stale = "stale",
        Duplicate = "duplicate",
        /// The hash misses the difficulty advertised with the job.
        LowDifficulty = "low_difficulty",
        /// The miner has not subscribed, or the worker is not authorized on this connection.
        Unauthorized = "unauthorized",
        /// The submit cannot be read, or breaks a rule of ntime, extranonce2 or version bits.
        Malformed = "malformed",
        /// So many shares of the miner are remembered that a new one cannot be told from a
        /// duplicate.
        Overflow = "overflow",
    }
}

impl Outcome {
    /// The number of outcomes. Arrays of counters are indexed by `outcome as usize`.
    pub(crate) const COUNT: usize = Self::LABELS.len();
}

/// The work that a share proves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worth {
    /// The difficulty advertised with its job.
    pub(crate) difficulty: f64,
    /// The highest difficulty that the share's hash meets.
    pub(crate) found: f64,
}

/// A forwarded share whose outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SettledAs {
    Accepted,
    Rejected,
    /// The share's pool retired the job while the share waited in the queue.
    Stale,
    Unresolved,
}

impl From<SettledAs> for Outcome {
    fn from(settled: SettledAs) -> Self {
        match settled {
            SettledAs::Accepted => Self::Accepted,
            SettledAs::Rejected => Self::PoolRejected,
            SettledAs::Stale => Self::Stale,
            SettledAs::Unresolved => Self::Unresolved,
        }
    }
}

/// The result of a forwarded share, as its session gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolVerdict {
    pub(crate) ticket: u32,
    pub(crate) outcome: PoolOutcome,
}

/// The pool's answer, or that there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PoolOutcome {
    Accepted,
    /// The pool's code and text, in the form that miners get.
    Rejected(RejectCode, Arc<str>),
    /// The pool connection was lost, or the pool did not answer in time: the outcome is unknown.
    Unresolved,
}

/// Who decided the answer to a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    Proxy,
    /// The share was forwarded, and the pool answered.
    Pool,
}
