//! How submits end. Every submit ends in exactly one way, and each way has its counter
//! ([`crate::metrics`]); where an end is written down is left to [`crate::books`].

use std::sync::Arc;
use std::time::Duration;

use stratum::error::RejectCode;
use stratum::share::Proof;

use crate::machines::MachineStats;
use crate::share_log::Record;

/// How a submit ended. One that was forwarded ends as its pool says ([`SettledAs`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The pool said true.
    Accepted,
    /// Below the pool's difficulty: good for us, not for it.
    Local,
    /// As [`Outcome::Local`], while the upstream owed an answer.
    AtRisk,
    /// The pool said no.
    PoolRejected,
    /// It could not be brought to its pool, or the pool said nothing: nobody knows.
    Unresolved,
    /// A job we no longer hold, or that its pool has retired.
    Stale,
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

impl Outcome {
    /// Every way, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Local,
        Self::AtRisk,
        Self::PoolRejected,
        Self::Unresolved,
        Self::Stale,
        Self::Duplicate,
        Self::LowDifficulty,
        Self::Unauthorized,
        Self::Malformed,
        Self::Overflow,
    ];

    /// Its name in metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Local => "local",
            Self::AtRisk => "at_risk",
            Self::PoolRejected => "pool_rejected",
            Self::Unresolved => "unresolved",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::LowDifficulty => "low_difficulty",
            Self::Unauthorized => "unauthorized",
            Self::Malformed => "malformed",
            Self::Overflow => "overflow",
        }
    }
}

/// One submit's end that was decided here, with the difficulty it is worth.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) outcome: Outcome,
    /// Why it was refused, as a label.
    pub(crate) reason: Option<&'static str>,
    /// What it proves, for outcomes that prove work.
    pub(crate) worth: Option<Worth>,
    /// Index of the target whose job it was, where one is known.
    pub(crate) target: Option<usize>,
    /// Its part of the share log, where there is one.
    pub(crate) record: Option<Box<Record>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_stands_at_the_place_of_its_number() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.as_str());
        }
    }
}
