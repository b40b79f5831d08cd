//! What a session wants done after an input.

use std::sync::Arc;
use std::time::Instant;

use stratum::share::{Proof, Share};

use crate::ends::Counted;
use crate::outcome::{AnsweredBy, Worth};
use crate::reasons::{CloseReason, Correction, Retarget};
use crate::work::{LaneWork, Record};

/// What the session wants done. Reused for the next input.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Bytes for the miner.
    pub(crate) bytes: Vec<u8>,
    /// Shares for the pool.
    pub(crate) forwards: Vec<Forward>,
    pub(crate) counts: Vec<Counted>,
    /// The answers among the bytes: who decided them, and when their submits were read.
    pub(crate) answered: Vec<(AnsweredBy, Instant)>,
    /// The miner has just become ready, has named a (further) worker, or has sent another
    /// configure.
    pub(crate) authorized: bool,
    /// All its shares have been bad for long: the step that was or must be taken.
    pub(crate) correction: Option<Correction>,
    /// Why the session was given another difficulty, if it was.
    pub(crate) retarget: Option<Retarget>,
    /// The difficulty is so wrong that its change should not wait for the next job: fresh work for
    /// the same job is needed.
    pub(crate) reissue: bool,
    /// Close the connection once the bytes are written.
    pub(crate) close: Option<CloseReason>,
}

impl Outbox {
    /// Empties it, and gives back memory beyond `kept` bytes.
    pub(crate) fn clear(&mut self, kept: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept);
        self.forwards.clear();
        self.counts.clear();
        self.answered.clear();
        self.authorized = false;
        self.correction = None;
        self.retarget = None;
        self.reissue = false;
        self.close = None;
    }
}

/// A share to forward.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) work: Arc<LaneWork>,
    pub(crate) share: Share,
    /// Version bits as the pool must get them.
    pub(crate) version_bits: Option<u32>,
    pub(crate) ticket: u32,
    pub(crate) worth: Worth,
    /// Present when the share meets the network target.
    pub(crate) block: Option<Box<Proof>>,
    /// Its part of the share log, where there is one.
    pub(crate) record: Option<Box<Record>>,
}
