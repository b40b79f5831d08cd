//! What is known of a submit at its end, for [`crate::books`] to count: one that was decided here,
//! or one that the pool decided.

pub(crate) mod metrics;

use std::sync::Arc;
use std::time::Duration;

use stratum::error::RejectCode;
use stratum::share::Proof;

use crate::machines::MachineStats;
use crate::outcome::{Outcome, SettledAs, Worth};
use crate::reasons::Reject;
use crate::target::TargetId;
use crate::work::Record;

/// One submit's end that was decided here, with the difficulty it is worth.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) outcome: Outcome,
    /// Why it was refused, if it was.
    pub(crate) reject: Option<Reject>,
    /// What it proves, for outcomes that prove work.
    pub(crate) worth: Option<Worth>,
    /// The target whose job it was, where that is known.
    pub(crate) target: Option<TargetId>,
    /// Its part of the share log, where there is one.
    pub(crate) record: Option<Box<Record>>,
}

impl Counted {
    /// A submit that is refused.
    pub(crate) fn refused(reject: Reject, target: Option<TargetId>) -> Self {
        let outcome = reject.outcome();
        Self { outcome, reject: Some(reject), worth: None, target, record: None }
    }
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
