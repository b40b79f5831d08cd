//! What a session wants done after an input.

use std::sync::Arc;
use std::time::Instant;

use stratum::share::{Proof, Share};

use crate::ends::Counted;
use crate::outcome::{AnsweredBy, Worth};
use crate::reasons::{CloseReason, Correction, Retarget};
use crate::work::{LaneWork, Record};

/// The output of [`super::Session::handle`]. It is emptied and reused for the next input.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Bytes for the miner.
    pub(crate) bytes: Vec<u8>,
    /// Shares for the pool.
    pub(crate) forwards: Vec<Forward>,
    pub(crate) counts: Vec<Counted>,
    /// For each answer among the bytes: who decided it, and when its submit was read.
    pub(crate) answered: Vec<(AnsweredBy, Instant)>,
    /// The miner has just become ready, has authorized another worker, or has sent configure again.
    pub(crate) authorized: bool,
    /// Set when all shares have been bad for long: the step that is taken.
    pub(crate) correction: Option<Correction>,
    /// Why the session's difficulty changed, if it did.
    pub(crate) retarget: Option<Retarget>,
    /// The difficulty is so wrong that its change should not wait for the pool's next job: the
    /// present job is handed out again on another lane.
    pub(crate) reissue: bool,
    /// Close the connection once the bytes are written.
    pub(crate) close: Option<CloseReason>,
}

impl Outbox {
    /// Empties it, and frees the buffer's memory beyond `kept` bytes.
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
    /// The version bits to submit to the pool.
    pub(crate) version_bits: Option<u32>,
    pub(crate) ticket: u32,
    pub(crate) worth: Worth,
    /// The header, if it meets the network target.
    pub(crate) block: Option<Box<Proof>>,
    /// The data for the share log, if one is kept.
    pub(crate) record: Option<Box<Record>>,
}
