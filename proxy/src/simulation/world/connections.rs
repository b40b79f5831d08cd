//! The connections of the simulated proxy: to miners and to pools.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use directive::MachineId;
use stratum::version::VersionMask;

use crate::handle::SessionHandle;
use crate::outcome::PoolVerdict;
use crate::seating::Seating;
use crate::session::{Outbox, Session};
use crate::target::TargetId;
use crate::upstream::PoolSession;
use crate::work::{SubmitQueues, Upstream};

/// The state that the task of a miner's connection holds.
pub(super) struct Served {
    pub(super) session: Session,
    pub(super) seating: Seating,
    pub(super) handle: Arc<SessionHandle>,
    /// Verdicts in its mailbox that it has not handled yet.
    pub(super) verdicts: VecDeque<PoolVerdict>,
    pub(super) out: Outbox,
    /// Lines in transit to the miner.
    pub(super) lines: VecDeque<String>,
    pub(super) machine: Option<MachineId>,
    /// The job ids that the miner was given.
    pub(super) given: HashSet<u64>,
    /// Whether the session's directions have changed since it last read them.
    pub(super) unread: bool,
}

/// The proxy's state of a pool connection, as the connection's task has it.
pub(super) struct Carrier {
    pub(super) target: TargetId,
    pub(super) upstream: Arc<Upstream>,
    pub(super) queues: SubmitQueues,
    pub(super) session: PoolSession,
    pub(super) mask: Option<VersionMask>,
    /// Lines on their way to the pool. With each, how many of the pool's lines had been read when
    /// it was written.
    pub(super) lines: VecDeque<(String, u64)>,
    pub(super) read: u64,
}

/// Work as the pool sees it: the target, all bytes before the miner's own, and the parts of the job.
pub(super) type Searched = (TargetId, Vec<u8>, [u8; 32], Vec<u8>, Vec<[u8; 32]>, u32, Option<u32>);
