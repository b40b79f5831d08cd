//! The possible outcomes of submits. Every submit has exactly one outcome, and each outcome has its
//! counter ([`crate::metrics`]); [`crate::books`] does the counting.

use std::sync::Arc;
use std::time::Duration;

use stratum::error::RejectCode;
use stratum::share::Proof;

use crate::label::labels;
use crate::machines::MachineStats;
use crate::reasons::Reject;
use crate::share_log::Record;

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

/// One submit's end that was decided here, with the difficulty it is worth.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) outcome: Outcome,
    /// Why it was refused, if it was.
    pub(crate) reject: Option<Reject>,
    /// What it proves, for outcomes that prove work.
    pub(crate) worth: Option<Worth>,
    /// Index of the target whose job it was, where one is known.
    pub(crate) target: Option<usize>,
    /// Its part of the share log, where there is one.
    pub(crate) record: Option<Box<Record>>,
}

impl Counted {
    /// A submit that is refused.
    pub(crate) fn refused(reject: Reject, target: Option<usize>) -> Self {
        let outcome = reject.outcome();
        Self { outcome, reject: Some(reject), worth: None, target, record: None }
    }
}

/// What a share proves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worth {
    /// The difficulty advertised with its job.
    pub(crate) difficulty: f64,
    /// The difficulty its hash would have met.
    pub(crate) found: f64,
}

/// How a forwarded share ended.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: SettledAs,
    /// The pool's code and words, where it said no.
    pub(crate) refusal: Option<(RejectCode, Arc<str>)>,
    pub(crate) pool_difficulty: f64,
    pub(crate) latency: Duration,
    /// The header, when it meets the network target.
    pub(crate) block: Option<Box<Proof>>,
    /// The machine it is counted for.
    pub(crate) machine: Option<Arc<MachineStats>>,
    /// Its part of the share log, where there is one.
    pub(crate) record: Option<Box<Record>>,
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
