//! The jobs one miner was given: difficulty belongs to the (session, job id) pair, and so does what was found on it.

use std::collections::HashSet;
use std::sync::Arc;

use stratum::difficulty::{Difficulty, Target};
use stratum::version::VersionMask;

use crate::placement::parse_job_id;
use crate::work::LaneWork;

/// One job as this miner got it.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) work: Arc<LaneWork>,
    pub(super) difficulty: Difficulty,
    pub(super) target: Target,
    /// Bits the miner may roll on it, if it negotiated any.
    pub(super) mask: Option<VersionMask>,
    /// Shortened hashes of the shares that were found.
    seen: HashSet<u64>,
}

/// The newest jobs of one miner.
#[derive(Debug, Default)]
pub(super) struct Issues {
    issues: Vec<Issue>,
}

/// Jobs kept per miner; the oldest goes first, those already dead before it.
const ISSUES_MAX: usize = 32;
/// Shares remembered per job. A miner at one share a second reaches it after eighteen hours on one job.
const SEEN_MAX: usize = 65_536;

/// Whether a share was there before.
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

    /// Takes the pool's newer name and terms for a job the miner has. `false` for one it has not.
    pub(super) fn rename(&mut self, work: &Arc<LaneWork>) -> bool {
        let known = self.issues.iter_mut().rev().find(|issue| issue.work.job_id == work.job_id);
        known.map(|issue| issue.work = work.clone()).is_some()
    }

    pub(super) fn add(&mut self, work: Arc<LaneWork>, difficulty: Difficulty, mask: Option<VersionMask>) {
        if self.issues.len() >= ISSUES_MAX {
            let oldest = self.issues.iter().position(|issue| !issue.work.job.is_live()).unwrap_or(0);
            self.issues.remove(oldest);
        }
        self.issues.push(Issue { work, difficulty, target: difficulty.target(), mask, seen: HashSet::new() });
    }

    /// Remembers a share by its header's hash, among all jobs of its pool: two job ids of ours may be one header there.
    pub(super) fn remember(&mut self, work: &LaneWork, hash: &[u8; 32]) -> Remembered {
        let short = u64::from_le_bytes(hash[..8].try_into().expect("eight of 32 bytes"));
        let upstream = work.job.upstream.id;
        if self.issues.iter().any(|issue| issue.work.job.upstream.id == upstream && issue.seen.contains(&short)) {
            return Remembered::Seen;
        }
        let Some(issue) = self.issues.iter_mut().find(|issue| issue.work.job_id == work.job_id) else {
            return Remembered::New;
        };
        if issue.seen.len() >= SEEN_MAX {
            return Remembered::Full;
        }
        issue.seen.insert(short);
        Remembered::New
    }
}
