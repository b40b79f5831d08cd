//! The possible outcomes of submits. Every submit has exactly one outcome, and each outcome has its
//! counter ([`crate::metrics`]); [`crate::books`] does the counting.

use std::sync::Arc;

use stratum::error::RejectCode;

use crate::label::labels;

labels! {
    /// How a submit ended. One that was forwarded ends as its pool says ([`SettledAs`]).
    pub(crate) enum Outcome {
        /// The pool said true.
        Accepted = "accepted",
        /// Good, but below the pool's difficulty, so it is not sent.
        Local = "local",
        /// As [`Outcome::Local`], while an answer of the upstream was overdue.
        AtRisk = "at_risk",
        /// The pool said no.
        PoolRejected = "pool_rejected",
        /// It did not reach its pool, or the pool did not answer: the outcome is unknown.
        Unresolved = "unresolved",
        /// A job we no longer hold, or that its pool has retired.
        Stale = "stale",
        Duplicate = "duplicate",
        /// The hash misses the difficulty advertised with the job.
        LowDifficulty = "low_difficulty",
        /// Not authorized, or not for this worker.
        Unauthorized = "unauthorized",
        /// It cannot be read, or breaks a rule of ntime, extranonce2 or version bits.
        Malformed = "malformed",
        /// Too many shares of one job to tell whether it is new.
        Overflow = "overflow",
    }
}

impl Outcome {
    /// How many outcomes there are. Counters of outcomes stand at `outcome as usize`.
    pub(crate) const COUNT: usize = Self::LABELS.len();
}

/// What a share proves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worth {
    /// The difficulty advertised with its job.
    pub(crate) difficulty: f64,
    /// The difficulty its hash would have met.
    pub(crate) found: f64,
}

/// The ends of a forwarded share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SettledAs {
    Accepted,
    Rejected,
    /// Its pool retired the job while it waited in the queue.
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

/// What became of a forwarded share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolVerdict {
    pub(crate) ticket: u32,
    pub(crate) outcome: PoolOutcome,
}

/// The pool's verdict, or that there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PoolOutcome {
    Accepted,
    /// The pool's code and text, normalised.
    Rejected(RejectCode, Arc<str>),
    /// The upstream died or kept silent with the share in flight: the outcome is unknown.
    Unresolved,
}

/// Who knew the answer to a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    Proxy,
    /// The pool was asked.
    Pool,
}
