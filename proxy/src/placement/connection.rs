//! One pool connection as placement keeps it: the space that it works in, its jobs, and its lanes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stratum::server_message::render_notify;

use crate::lane::{Lane, LaneState};
use crate::space::Space;
use crate::target::TargetId;
use crate::work::{LaneWork, OwnExtranonce, PoolJob, Upstream, job_id_text};

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
    /// It serves one miner, which has the pool's whole extranonce2.
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

/// How many job ids of the pool are remembered. If the pool uses an id again after more jobs than
/// this, nothing notices.
const NAMES_MAX: usize = 64;

impl Connection {
    /// Records the pool's id for a job. If an earlier job had the same id, the pool would judge
    /// that job's shares by the new job: the earlier job and those before it are retired.
    pub(super) fn name(&mut self, job_id: &str, seq: u64, new_work: bool) {
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
