//! Work as it travels from a pool's notify to the sessions, shared and immutable.
//!
//! A [`PoolJob`] is one notify of one connection, with the settings that were in force when it
//! came. A [`LaneWork`] is that job on one lane, rendered once for all sessions there. What changes
//! later (is the connection alive, has the pool retired the job) is in atomics of the [`Upstream`]
//! handle, so that judging a share takes no lock.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratum::difficulty::{Difficulty, Target};
use stratum::job::Job;
use stratum::share::Proof;
use stratum::version::VersionMask;
use tokio::sync::mpsc;

use crate::handle::SessionHandle;
use crate::load::Load;
use crate::machines::MachineStats;
use crate::space::{ConnectionId, Fingerprint};
use crate::target::TargetId;

/// What sessions know of a pool connection.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) id: ConnectionId,
    pub(crate) target: TargetId,
    alive: AtomicBool,
    /// A share has waited too long for its answer: local shares are marked `at_risk`.
    suspect: AtomicBool,
    /// The pool answers, but has sent no job for a long time.
    quiet: AtomicBool,
    /// The pool has retired all jobs with a lower sequence number.
    retired_below: AtomicU64,
    /// Compares the pool's difficulty with what the fleet needs.
    load: Arc<Load>,
    /// Shares on their way to the pool.
    submits: mpsc::Sender<UpstreamShare>,
    /// Shares that meet the network target: written ahead of any queue.
    urgent: mpsc::Sender<UpstreamShare>,
}

/// Maximum number of shares that wait for one pool connection. When it is reached, sessions keep
/// further shares and read no more from their miners.
pub(crate) const SUBMITS_QUEUED: usize = 8192;
/// Maximum number of block shares that wait ahead of the others. Further ones wait with the others;
/// the whole network finds one block in ten minutes.
pub(crate) const URGENT_QUEUED: usize = 64;

/// The receiving ends that a connection's task holds.
#[derive(Debug)]
pub(crate) struct SubmitQueues {
    pub(crate) submits: mpsc::Receiver<UpstreamShare>,
    pub(crate) urgent: mpsc::Receiver<UpstreamShare>,
}

impl Upstream {
    /// A connection whose pool is never asked for a difficulty.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn new(id: ConnectionId, target: TargetId) -> (Arc<Self>, SubmitQueues) {
        Self::under(id, target, Load::none())
    }

    pub(crate) fn under(
        id: ConnectionId,
        target: TargetId,
        load: Arc<Load>,
    ) -> (Arc<Self>, SubmitQueues) {
        let (submits, submits_rx) = mpsc::channel(SUBMITS_QUEUED);
        let (urgent, urgent_rx) = mpsc::channel(URGENT_QUEUED);
        let upstream = Self {
            id,
            target,
            alive: AtomicBool::new(true),
            suspect: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            retired_below: AtomicU64::new(0),
            load,
            submits,
            urgent,
        };
        (Arc::new(upstream), SubmitQueues { submits: submits_rx, urgent: urgent_rx })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(crate) fn set_dead(&self) {
        self.alive.store(false, Ordering::Release);
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    pub(crate) fn set_suspect(&self, suspect: bool) {
        self.suspect.store(suspect, Ordering::Relaxed);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Sets whether the pool is quiet. Returns the former value.
    pub(crate) fn set_quiet(&self, quiet: bool) -> bool {
        self.quiet.swap(quiet, Ordering::Relaxed)
    }

    /// Retires every job with a sequence below `seq`.
    pub(crate) fn retire_below(&self, seq: u64) {
        self.retired_below.fetch_max(seq, Ordering::AcqRel);
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn submits(&self) -> &mpsc::Sender<UpstreamShare> {
        &self.submits
    }

    pub(crate) fn urgent(&self) -> &mpsc::Sender<UpstreamShare> {
        &self.urgent
    }
}

/// A job that one notify of one connection brought.
#[derive(Debug)]
pub(crate) struct PoolJob {
    pub(crate) job: Job,
    /// The pool's extranonce1 when the job came.
    pub(crate) extranonce1: Arc<[u8]>,
    /// The pool's difficulty when the job came.
    pub(crate) difficulty: Difficulty,
    pub(crate) pool_target: Target,
    /// A share whose hash meets this target is a block: it is the network's target, if that is
    /// harder than the pool's.
    pub(crate) block_target: Target,
    /// Version bits the pool lets us roll.
    pub(crate) mask: Option<VersionMask>,
    /// Sequence number of the job on its connection.
    pub(crate) seq: u64,
    /// Sequence number of the first notify with the same work and difficulty. If it is lower than
    /// `seq`, the pool has sent the same work again under other ids; shares found under any of them
    /// are submitted under the newest.
    pub(crate) work_seq: u64,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) arrival: Arrival,
}

/// When a job came, and how long its delivery to the waiting sessions took.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// The longest delivery so far, in microseconds; 0 before the first.
    longest_us: AtomicU64,
}

impl Arrival {
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, longest_us: AtomicU64::new(0) }
    }

    /// Records that the job was delivered to one more session. Returns how long that took.
    pub(crate) fn delivered(&self, now: Instant) -> Duration {
        let after = now.saturating_duration_since(self.at);
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).max(1);
        if us > self.longest_us.load(Ordering::Relaxed) {
            self.longest_us.fetch_max(us, Ordering::Relaxed);
        }
        after
    }

    /// The longest delivery. `None` if no session was waiting for the job.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let us = self.longest_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }
}

impl PoolJob {
    /// Whether this is the same job as `former` under a different id.
    pub(crate) fn renames(&self, former: &Self) -> bool {
        self.seq > former.seq
            && self.work_seq == former.work_seq
            && Arc::ptr_eq(&self.upstream, &former.upstream)
    }

    /// Whether the pool still accepts shares of this job, under its id or a newer one. A clean job
    /// of the pool, its set_extranonce or the loss of the connection ends that.
    pub(crate) fn is_live(&self) -> bool {
        self.upstream.is_alive() && self.seq >= self.upstream.retired_below.load(Ordering::Acquire)
    }
}

/// Identifies the work of a job, whatever id the pool gives it. With lane bytes a later ntime is
/// not new work, because miners may roll it. Without lane bytes it must count as new work: there is
/// no fresh lane for the job.
pub(crate) fn fingerprint(job: &Job, has_lane_bytes: bool) -> Fingerprint {
    let hash_of = |parts: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        parts(&mut hasher);
        hasher.finish()
    };
    Fingerprint {
        prev_hash: hash_of(&|hasher| job.prev_hash.hash(hasher)),
        content: hash_of(&|hasher| {
            (&job.coinb1, &job.coinb2, &job.branches, job.version, job.nbits).hash(hasher);
            (!has_lane_bytes).then_some(job.ntime).hash(hasher);
        }),
    }
}

/// Our job id as miners see it.
pub(crate) fn job_id_text(job_id: u64) -> String {
    format!("{job_id:x}")
}

/// Parses a job id of ours. Any spelling of the number other than that of [`job_id_text`] is
/// refused.
pub(crate) fn parse_job_id(text: &str) -> Option<u64> {
    let job_id = u64::from_str_radix(text, 16).ok()?;
    (job_id_text(job_id) == text).then_some(job_id)
}

/// A job on a lane, as all sessions on the lane get it.
#[derive(Debug, Clone)]
pub(crate) struct LaneWork {
    /// Set for a passthrough miner, which has the pool's whole extranonce2; `None` for miners with
    /// a slot and the common extranonce2_size.
    pub(crate) own: Option<OwnExtranonce>,
    /// Our own job id, unique for the life of the process.
    pub(crate) job_id: u64,
    pub(crate) job: Arc<PoolJob>,
    pub(crate) lane: Arc<[u8]>,
    /// The notify without its last part, `clean_jobs`.
    pub(crate) notify: Bytes,
}

/// The extranonce of a passthrough miner: the last byte of the pool's extranonce1, and the pool's
/// extranonce2_size. The bytes before that one are put into coinb1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnExtranonce {
    pub(crate) extranonce1: u8,
    pub(crate) extranonce2_size: u8,
}

/// What is known of a submit before its outcome, for the share log.
#[derive(Debug)]
pub(crate) struct Record {
    /// When the submit was read.
    pub(crate) read_at: Instant,
    pub(crate) session: u64,
    /// The worker that the submit names; if it cannot be parsed, the session's worker.
    pub(crate) worker_name: Option<Box<str>>,
    /// The job, if it was found.
    pub(crate) work: Option<Arc<LaneWork>>,
    /// The difficulty advertised with the job.
    pub(crate) difficulty: Option<f64>,
    /// The highest difficulty that the share's hash meets.
    pub(crate) found: Option<f64>,
    /// Whether the share meets the network target.
    pub(crate) block: bool,
}

impl Record {
    /// A record with what is known when the submit has been read.
    pub(crate) fn new(session: u64, worker_name: Option<&str>, read_at: Instant) -> Self {
        let worker_name = worker_name.map(Into::into);
        Self {
            read_at,
            session,
            worker_name,
            work: None,
            difficulty: None,
            found: None,
            block: false,
        }
    }
}

/// A share on its way to a pool.
#[derive(Debug)]
pub(crate) struct UpstreamShare {
    pub(crate) work: Arc<LaneWork>,
    pub(crate) slot: u8,
    pub(crate) extranonce2: stratum::share::SmallBytes,
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
    pub(crate) version_bits: Option<u32>,
    /// The number by which the session identifies the share.
    pub(crate) ticket: u32,
    /// The session that gets the verdict.
    pub(crate) reply: Arc<SessionHandle>,
    /// The header of a share that meets the network target: it is logged if the share cannot be
    /// delivered.
    pub(crate) block: Option<Box<Proof>>,
    /// The machine for which the share is counted.
    pub(crate) machine: Option<Arc<MachineStats>>,
    /// The data for the share log, if one is kept.
    pub(crate) record: Option<Box<Record>>,
}
