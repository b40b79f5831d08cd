//! Judges a share: finds its job, rebuilds its header, and compares the hash with what the miner, the
//! pool and the network ask for.

use stratum::client_message::Submit;
use stratum::difficulty::difficulty_of;
use stratum::share::{ShareFault, decode, mask_for, proof_of, prove};

use super::issues::{Issues, Remembered};
use super::outbox::Forward;
use crate::ends::Counted;
use crate::outcome::{Outcome, Worth};
use crate::reasons::Reject;
use crate::target::TargetId;
use crate::work::Record;

/// The result of [`judge`].
pub(super) enum Judgement {
    /// The share meets the pool's target, and is forwarded.
    Forward(Forward),
    /// The share is good, but does not meet the pool's target.
    Credit(Counted),
    Reject {
        reject: Reject,
        target: Option<TargetId>,
        /// The work that the share proves although it is refused.
        worth: Option<Worth>,
    },
}

impl Judgement {
    fn reject(reject: Reject, target: Option<TargetId>) -> Self {
        Self::Reject { reject, target, worth: None }
    }
}

/// Judges a share of a miner with this slot and extranonce2_size. It only remembers the share and
/// fills in the record; nothing is answered or sent.
pub(super) fn judge(
    issues: &mut Issues,
    slot: u8,
    extranonce2_size: u8,
    submit: &Submit<'_>,
    ticket: u32,
    mut record: Option<&mut Record>,
) -> Judgement {
    let Some(issue) = issues.find(&submit.job_id) else {
        return Judgement::reject(Reject::JobNotFound, None);
    };
    let work = issue.work.clone();
    let target = Some(work.job.upstream.target);
    if let Some(record) = &mut record {
        record.work = Some(work.clone());
        record.difficulty = Some(issue.difficulty.get());
    }
    let (slot, size) = match work.own {
        Some(own) => (own.extranonce1, own.extranonce2_size),
        None => (slot, extranonce2_size),
    };
    let share = match decode(submit, size) {
        Ok(share) => share,
        Err(fault) => return Judgement::reject(fault.into(), target),
    };
    let mask = mask_for(issue.mask, work.job.mask, &share);
    let middle: [&[u8]; 3] = [&work.job.extranonce1, &work.lane, &[slot]];
    let proof = match prove(&work.job.job, &middle, &share, mask, &issue.difficulty.target()) {
        Ok(proof) => proof,
        Err(fault) => {
            if fault == ShareFault::LowDifficulty
                && let Some(record) = record
            {
                let proof = proof_of(&work.job.job, &middle, &share, mask).ok();
                record.found = proof.map(|proof| difficulty_of(&proof.hash));
            }
            return Judgement::reject(fault.into(), target);
        }
    };
    let worth = Worth { difficulty: issue.difficulty.get(), found: difficulty_of(&proof.hash) };
    let is_block = work.job.block_target.is_met_by(&proof.hash);
    if let Some(record) = record {
        record.found = Some(worth.found);
        record.block = is_block;
    }
    match issues.remember(&work, &proof.hash) {
        Remembered::New => {}
        Remembered::Seen => {
            return Judgement::reject(Reject::Duplicate, target);
        }
        Remembered::Full if is_block => {}
        Remembered::Full => {
            return Judgement::reject(Reject::TooManyShares, target);
        }
    }
    if !work.job.is_live() && !is_block {
        // The pool does not credit it, but it proves that the machine hashes, although it may have
        // been told to sleep.
        return Judgement::Reject { reject: Reject::JobStale, target, worth: Some(worth) };
    }
    if is_block || work.job.pool_target.is_met_by(&proof.hash) {
        // The pool rebuilds the header with its own mask, so it must get all bits of that mask,
        // also those that this miner does not roll. Some pools refuse a share without version bits
        // once rolling was agreed (DATUM); others clear bits of the job's version that are missing.
        let version_bits =
            work.job.mask.filter(|mask| !mask.is_empty()).map(|mask| proof.version() & mask.0);
        let block = is_block.then(|| Box::new(proof));
        return Judgement::Forward(Forward {
            work,
            share,
            version_bits,
            ticket,
            worth,
            block,
            record: None,
        });
    }
    let outcome = if work.job.upstream.is_suspect() { Outcome::AtRisk } else { Outcome::Local };
    Judgement::Credit(Counted { outcome, reject: None, worth: Some(worth), target, record: None })
}
