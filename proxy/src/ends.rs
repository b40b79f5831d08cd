//! What is known of a submit once its outcome is known: one type for submits that the proxy
//! decided, and one for forwarded shares. [`crate::books`] counts both.

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

/// A submit whose outcome was decided here.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) outcome: Outcome,
    /// The reason, if the submit was refused.
    pub(crate) reject: Option<Reject>,
    /// The work that the share proves, if it proves any.
    pub(crate) worth: Option<Worth>,
    /// The target that issued the job, if the job is known.
    pub(crate) target: Option<TargetId>,
    /// The data for the share log, if one is kept.
    pub(crate) record: Option<Box<Record>>,
}

impl Counted {
    /// A refused submit that proves no work.
    pub(crate) fn refused(reject: Reject, target: Option<TargetId>) -> Self {
        let outcome = reject.outcome();
        Self { outcome, reject: Some(reject), worth: None, target, record: None }
    }
}

/// A forwarded share and its outcome.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: SettledAs,
    /// The pool's error code and text, if the pool rejected the share.
    pub(crate) refusal: Option<(RejectCode, Arc<str>)>,
    pub(crate) pool_difficulty: f64,
    pub(crate) latency: Duration,
    /// The header, if it meets the network target.
    pub(crate) block: Option<Box<Proof>>,
    /// The machine for which the share is counted.
    pub(crate) machine: Option<Arc<MachineStats>>,
    /// The data for the share log, if one is kept.
    pub(crate) record: Option<Box<Record>>,
}
