//! One pool connection as placement keeps it: the space that it works in, its jobs, and its lanes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use stratum::difficulty::{Difficulty, Target};
use stratum::job::Job;
use stratum::server_message::render_notify;
use stratum::version::VersionMask;

use crate::lane::{Lane, LaneState};
use crate::space::Space;
use crate::target::TargetId;
use crate::work::{Arrival, LaneWork, OwnExtranonce, PoolJob, Upstream, fingerprint, job_id_text};

/// The key of a space. Connections with equal keys produce equal coinbases, so they share a space.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SpaceKey {
    pub(super) target: TargetId,
    pub(super) extranonce1: Arc<[u8]>,
    pub(super) extranonce2_size: u8,
}

impl SpaceKey {
    /// The extranonce of a miner that has this space to itself.
    pub(super) fn own(&self) -> Option<OwnExtranonce> {
        let extranonce1 = *self.extranonce1.last()?;
        Some(OwnExtranonce { extranonce1, extranonce2_size: self.extranonce2_size })
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) upstream: Arc<Upstream>,
    pub(super) key: SpaceKey,
    /// A number that changes with each extranonce of the connection. A seat that was taken under an
    /// earlier extranonce must not free a place in the present space.
    pub(super) sitting: u64,
    /// Set if the pool has changed our extranonce: the space from the next job on.
    pub(super) next_key: Option<SpaceKey>,
    pub(super) current: Option<Arc<PoolJob>>,
    pub(super) next_seq: u64,
    /// The pool's ids of its newest jobs, with their sequence numbers. Some pools use an id again.
    pub(super) names: VecDeque<(String, u64)>,
    pub(super) lanes: HashMap<usize, LaneChannel>,
    /// Whether the connection serves one miner, which has the pool's whole extranonce2.
    pub(super) is_of_one: bool,
}

/// A lane of the connection.
#[derive(Debug)]
pub(super) struct LaneChannel {
    /// Set if one miner has the pool's whole extranonce2.
    pub(super) own: Option<OwnExtranonce>,
    pub(super) lane: Arc<Lane>,
    /// The lane's number, as it stands in the coinbase.
    pub(super) bytes: Arc<[u8]>,
}

/// A job as the pool has sent it, and the settings that were in force then.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) job: Job,
    pub(super) difficulty: Difficulty,
    /// The version bits that the pool lets us roll.
    pub(super) mask: Option<VersionMask>,
    pub(super) at: Instant,
}

/// A job that has become a connection's current one.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) job: Arc<PoolJob>,
    /// The job that was current before.
    pub(super) former: Option<Arc<PoolJob>>,
    /// The job that was current before, if sessions keep its work: the pool has only sent it again
    /// under another id or at a higher difficulty.
    pub(super) renamed: Option<Arc<PoolJob>>,
}

/// How many job ids of the pool are remembered. If the pool uses an id again after more jobs than
/// this, nothing notices.
const NAMES_MAX: usize = 64;

impl Connection {
    /// Takes the pool's job as the current one. Returns `None` if it is identical to the current
    /// one.
    pub(super) fn take(&mut self, brought: Brought, has_lane_bytes: bool) -> Option<Taken> {
        let Brought { job, difficulty, mask, at } = brought;
        let fingerprint = fingerprint(&job, has_lane_bytes);
        let same_work = self.current.clone().filter(|current| {
            (current.fingerprint, current.job.ntime, current.mask) == (fingerprint, job.ntime, mask)
        });
        if let Some(current) = &same_work
            && (&current.job.job_id, current.difficulty) == (&job.job_id, difficulty)
            && !job.clean
        {
            return None;
        }
        let new_work = same_work.is_none();
        // If the same work comes again under another id or at a higher difficulty, sessions stay
        // where they are. For a lower difficulty they move to fresh lanes, if there are lane bytes.
        let renamed =
            same_work.filter(|current| difficulty >= current.difficulty || !has_lane_bytes);
        let seq = self.next_seq;
        self.next_seq += 1;
        // At a higher difficulty, the pool would refuse shares that were found at the former one,
        // so the job counts as different work.
        let same_terms = renamed.as_ref().filter(|current| difficulty <= current.difficulty);
        let work_seq = same_terms.map_or(seq, |current| current.work_seq);
        if job.clean {
            self.upstream.retire_below(work_seq);
        }
        self.name(&job.job_id, seq, new_work);
        let pool_target = difficulty.target();
        let job = Arc::new(PoolJob {
            extranonce1: self.extranonce1_in_coinb1(),
            difficulty,
            pool_target,
            block_target: block_target(job.network_target(), pool_target),
            mask,
            seq,
            work_seq,
            upstream: self.upstream.clone(),
            fingerprint,
            arrival: Arrival::new(at),
            job,
        });
        let former = self.current.replace(job.clone());
        Some(Taken { job, former, renamed })
    }

    /// The bytes of the pool's extranonce1 that are put into coinb1: all of them, except for the
    /// last one if a passthrough miner has that as its own extranonce1.
    fn extranonce1_in_coinb1(&self) -> Arc<[u8]> {
        match self.key.extranonce1.split_last() {
            Some((_, before)) if self.is_of_one => before.into(),
            _ => self.key.extranonce1.clone(),
        }
    }

    /// Records the pool's id for a job. If an earlier job had the same id, the pool would judge
    /// that job's shares by the new job: the earlier job and those before it are retired.
    fn name(&mut self, job_id: &str, seq: u64, new_work: bool) {
        if let Some((_, former)) = self.names.iter().rev().find(|(name, _)| name == job_id)
            && new_work
        {
            self.upstream.retire_below(former + 1);
        }
        if self.names.len() >= NAMES_MAX {
            self.names.pop_front();
        }
        self.names.push_back((job_id.to_owned(), seq));
    }

    /// Returns the lane of this index with `job` on it. A lane is made when it is first used.
    pub(super) fn lane_with(
        &mut self,
        lane: usize,
        space: &Space,
        job: &Arc<PoolJob>,
        next_job: &mut u64,
    ) -> &Arc<Lane> {
        let own = self.is_of_one.then(|| self.key.own()).flatten();
        let channel = self.lanes.entry(lane).or_insert_with(|| LaneChannel {
            own,
            lane: Lane::new(),
            bytes: space.lane_bytes(lane).into(),
        });
        let current = channel
            .lane
            .peek(|state| matches!(state, LaneState::Work(work) if Arc::ptr_eq(&work.job, job)));
        if !current {
            *next_job += 1;
            let work = channel.work(job, *next_job);
            channel.lane.publish(LaneState::Work(work));
        }
        &channel.lane
    }
}

impl LaneChannel {
    /// Replaces `former` by `job`, which is the same work under a newer id of the pool. Our job id
    /// stays, so nothing is sent to the miners, and their shares are submitted under the pool's
    /// newer id.
    pub(super) fn rename(&mut self, former: &Arc<PoolJob>, job: &Arc<PoolJob>) {
        let renamed = self.lane.peek(|state| match state {
            LaneState::Work(work) if Arc::ptr_eq(&work.job, former) => {
                Some(Arc::new(LaneWork { job: job.clone(), ..LaneWork::clone(work) }))
            }
            _ => None,
        });
        if let Some(renamed) = renamed {
            self.lane.publish(LaneState::Work(renamed));
        }
    }

    pub(super) fn work(&self, job: &Arc<PoolJob>, job_id: u64) -> Arc<LaneWork> {
        let tail = [&*job.extranonce1, &*self.bytes].concat();
        Arc::new(LaneWork {
            own: self.own,
            job_id,
            notify: render_notify(&job_id_text(job_id), &job.job, &tail),
            job: job.clone(),
            lane: self.bytes.clone(),
        })
    }
}

/// The target that makes a share a block: the network's, unless it is easier than the pool's. On a
/// test network every share would meet the network's target, and the pool would reject those below
/// its difficulty.
fn block_target(network: Target, pool: Target) -> Target {
    if network < pool { network } else { Target::NEVER }
}
