//! The jobs that one miner was given. A difficulty belongs to a (session, job id) pair, as do the
//! shares found for it.
//!
//! Ten thousand sessions keep these for hours, so they are small: a share takes one word.

use std::collections::HashMap;
use std::sync::Arc;

use stratum::difficulty::Difficulty;
use stratum::version::VersionMask;

use crate::work::{LaneWork, parse_job_id};

/// One job, as this miner got it.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) work: Arc<LaneWork>,
    pub(super) difficulty: Difficulty,
    /// The bits that the miner may roll on this job, if it negotiated any.
    pub(super) mask: Option<VersionMask>,
    /// The job's tag in [`Seen`], unique among the jobs kept.
    tag: u8,
}

/// The newest jobs of one miner.
#[derive(Debug, Default)]
pub(super) struct Issues {
    issues: Vec<Issue>,
    next_tag: u8,
    seen: Seen,
}

/// Maximum number of jobs kept per miner; the oldest is dropped first.
const ISSUES_MAX: usize = 32;
/// Maximum number of retired jobs kept: a share of one still proves that the machine hashes, and
/// may be a block.
const RETIRED_MAX: usize = 2;

/// Whether a share was seen before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    New,
    Seen,
    Full,
}

impl Issues {
    pub(super) fn find(&self, job_id: &str) -> Option<&Issue> {
        let job_id = parse_job_id(job_id)?;
        self.issues.iter().rev().find(|issue| issue.work.job_id == job_id)
    }

    pub(super) fn newest(&self) -> Option<&LaneWork> {
        self.issues.last().map(|issue| &*issue.work)
    }

    /// Replaces a job that the miner has by the same job under the pool's newer id and difficulty.
    /// Returns `false` if the miner does not have it.
    pub(super) fn rename(&mut self, work: &Arc<LaneWork>) -> bool {
        let known = self.issues.iter_mut().rev().find(|issue| issue.work.job_id == work.job_id);
        known.map(|issue| issue.work = work.clone()).is_some()
    }

    pub(super) fn add(
        &mut self,
        work: Arc<LaneWork>,
        difficulty: Difficulty,
        mask: Option<VersionMask>,
    ) {
        let mut retired = self.issues.iter().filter(|issue| !issue.work.job.is_live()).count();
        while retired > RETIRED_MAX || self.issues.len() >= ISSUES_MAX {
            let oldest = self.issues.iter().position(|issue| !issue.work.job.is_live());
            let gone = self.issues.remove(oldest.unwrap_or(0));
            self.seen.forget(gone.tag);
            retired = retired.saturating_sub(1);
        }
        self.issues.reserve_exact(1);
        // At most 31 of the 256 tags are in use. They need not be the latest ones, because a job
        // lives until its pool sends a clean one.
        self.next_tag = self.next_tag.wrapping_add(1);
        while self.issues.iter().any(|issue| issue.tag == self.next_tag) {
            self.next_tag = self.next_tag.wrapping_add(1);
        }
        self.issues.push(Issue { work, difficulty, mask, tag: self.next_tag });
    }

    /// Remembers a share by its header's hash. It is compared with the shares of all jobs, because
    /// two job ids of ours may stand for the same job of the pool.
    pub(super) fn remember(&mut self, work: &LaneWork, hash: &[u8; 32]) -> Remembered {
        let tag = self
            .issues
            .iter()
            .rev()
            .find(|issue| issue.work.job_id == work.job_id)
            .map(|issue| issue.tag);
        tag.map_or(Remembered::New, |tag| self.seen.remember(tag, hash))
    }
}

/// The shares found: one word each, with 56 bits of the hash and the tag of the job.
#[derive(Debug)]
enum Seen {
    /// A list that is searched linearly.
    Few(Vec<u64>),
    /// A map from the bits to the tag.
    #[expect(
        clippy::box_collection,
        reason = "a map is six words, and nearly every session has few"
    )]
    Many(Box<HashMap<u64, u8>>),
}

/// Above this many shares a map is used.
const FEW_MAX: usize = 64;
/// Maximum number of shares remembered per miner. A miner with a share a second reaches it after
/// eighteen hours without a clean job.
const SEEN_MAX: usize = 65_536;

impl Default for Seen {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Seen {
    fn remember(&mut self, tag: u8, hash: &[u8; 32]) -> Remembered {
        let bits = u64::from_le_bytes(hash[..8].try_into().expect("eight of 32 bytes")) & !0xff;
        match self {
            Self::Few(few) if few.iter().any(|word| word & !0xff == bits) => Remembered::Seen,
            Self::Few(few) if few.len() < FEW_MAX => {
                few.push(bits | u64::from(tag));
                Remembered::New
            }
            Self::Few(few) => {
                let many = few.iter().map(|word| (word & !0xff, word.to_le_bytes()[0]));
                let mut many: HashMap<u64, u8> = many.collect();
                many.insert(bits, tag);
                *self = Self::Many(Box::new(many));
                Remembered::New
            }
            Self::Many(many) if many.contains_key(&bits) => Remembered::Seen,
            Self::Many(many) if many.len() >= SEEN_MAX => Remembered::Full,
            Self::Many(many) => {
                many.insert(bits, tag);
                Remembered::New
            }
        }
    }

    /// Forgets the shares of one job.
    fn forget(&mut self, tag: u8) {
        match self {
            Self::Few(few) => {
                few.retain(|word| word.to_le_bytes()[0] != tag);
                if few.is_empty() {
                    *few = Vec::new();
                }
            }
            Self::Many(many) => {
                many.retain(|_, of| *of != tag);
                if many.len() <= FEW_MAX / 2 {
                    let few = many.iter().map(|(bits, tag)| bits | u64::from(*tag)).collect();
                    *self = Self::Few(few);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> [u8; 32] {
        let mut hash = [0; 32];
        // The lowest byte is ignored.
        hash[1..9].copy_from_slice(&number.to_le_bytes());
        hash
    }

    #[test]
    fn shares_are_remembered_until_their_job_goes_few_or_many() {
        let mut seen = Seen::default();
        for number in 0..200 {
            let tag = u8::try_from(number % 2).expect("0 or 1");
            assert_eq!(seen.remember(tag, &hash(number)), Remembered::New, "{number}");
        }
        for number in 0..200 {
            assert_eq!(seen.remember(7, &hash(number)), Remembered::Seen, "{number}");
        }
        seen.forget(0);
        assert!(matches!(seen, Seen::Many(_)));
        assert_eq!(seen.remember(1, &hash(1)), Remembered::Seen);
        assert_eq!(seen.remember(0, &hash(0)), Remembered::New);
        seen.forget(1);
        assert!(matches!(seen, Seen::Few(_)), "few again");
        assert_eq!(seen.remember(0, &hash(0)), Remembered::Seen);
        assert_eq!(seen.remember(1, &hash(1)), Remembered::New);
    }

    #[test]
    fn at_the_bound_a_share_cannot_be_told_from_a_duplicate() {
        let mut seen = Seen::default();
        for number in 0..SEEN_MAX as u64 {
            assert_eq!(seen.remember(0, &hash(number)), Remembered::New);
        }
        assert_eq!(seen.remember(0, &hash(u64::MAX)), Remembered::Full);
        assert_eq!(seen.remember(0, &hash(5)), Remembered::Seen);
    }
}
