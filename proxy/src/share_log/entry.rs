//! What the share log is given: its settings, and an entry for each submit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stratum::error::RejectCode;

use crate::label::Label as _;
use crate::outcome::Outcome;
use crate::reasons::Reject;
use crate::work::Record;

/// The settings of the share log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareLogConfig {
    pub dir: PathBuf,
    /// A file that reaches this size is closed, and another is begun.
    pub rotate_bytes: u64,
    /// A file that belongs to an earlier interval of this length is closed too; intervals are
    /// counted from 1970 in UTC.
    pub rotate_every: Duration,
    /// How many closed files are kept; the oldest are deleted first.
    pub keep: usize,
}

/// A submit and its outcome.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    pub(crate) record: Box<Record>,
    pub(crate) verdict: Outcome,
    pub(crate) refusal: Option<ShareRefusal>,
    /// Time from reading the submit to its outcome.
    pub(crate) latency: Duration,
}

/// Why a submit was refused: our reason, or a pool's error code and text.
#[derive(Debug, Clone)]
pub(crate) enum ShareRefusal {
    Ours(Reject),
    Pools(RejectCode, Arc<str>),
}

impl ShareRefusal {
    pub(super) fn code(&self) -> RejectCode {
        match self {
            Self::Ours(reject) => reject.code(),
            Self::Pools(code, _) => *code,
        }
    }

    pub(super) fn words(&self) -> &str {
        match self {
            Self::Ours(reject) => reject.label(),
            Self::Pools(_, words) => words,
        }
    }
}

/// A message to the writing thread.
pub(super) enum Message {
    Entry(Entry),
    Close,
}
