//! Targets, their connections, lanes, and the sessions seated on them.
//!
//! Everything here happens at joins, moves and new jobs, never per share, so a single lock is
//! enough. Sessions *pull*: they ask for a [`Seat`] when their directions change; a seat and a slot
//! are given back by dropping them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratum::difficulty::{Difficulty, Target};
use stratum::job::Job;
use stratum::server_message::render_notify;
use stratum::version::VersionMask;

use crate::lane::{Lane, LaneState, LaneView, Untold};
use crate::slot::Slots;
use crate::space::{ConnectionId, Space};
use crate::target::TargetId;
use crate::work::{Arrival, LaneWork, OwnExtranonce, PoolJob, Upstream, fingerprint, job_id_text};

/// All placements of one proxy.
#[derive(Debug)]
pub(crate) struct Placement {
    inner: Mutex<Inner>,
    /// The miner's extranonce2_size, the same on every target; `None` leaves one miner the whole of
    /// the pool's.
    miner_extranonce2_size: Option<u8>,
    next_connection: AtomicU64,
    /// Random at each process start: lane numbers count from here.
    lane_offset: u64,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Slots,
    spaces: HashMap<SpaceKey, Space>,
    /// Spaces that no connection uses, the most recently left one last.
    left: VecDeque<SpaceKey>,
    connections: HashMap<ConnectionId, Connection>,
    next_job: u64,
    next_sitting: u64,
}

/// A space is keyed by what makes coinbases equal, not by connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SpaceKey {
    target: TargetId,
    extranonce1: Arc<[u8]>,
    extranonce2_size: u8,
}

impl SpaceKey {
    /// The extranonce of a miner that has this space to itself.
    fn own(&self) -> Option<OwnExtranonce> {
        let extranonce1 = *self.extranonce1.last()?;
        Some(OwnExtranonce { extranonce1, extranonce2_size: self.extranonce2_size })
    }
}

#[derive(Debug)]
struct Connection {
    upstream: Arc<Upstream>,
    key: SpaceKey,
    /// Numbers (connection, extranonce) pairs, so that a seat taken before a `set_extranonce` frees
    /// nothing after it.
    sitting: u64,
    /// The space from the next job on: the pool has changed our extranonce.
    next_key: Option<SpaceKey>,
    current: Option<Arc<PoolJob>>,
    next_seq: u64,
    /// The pool's ids of its newest jobs, with their sequence. Some pools use an id twice.
    names: VecDeque<(String, u64)>,
    lanes: HashMap<usize, LaneChannel>,
    /// It serves one miner, which has the whole of it.
    is_of_one: bool,
}

#[derive(Debug)]
struct LaneChannel {
    /// For the one miner that has the pool's whole extranonce2.
    own: Option<OwnExtranonce>,
    lane: Arc<Lane>,
    bytes: Arc<[u8]>,
}

/// Why a pool's extranonce sizes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "extranonce2_size {size} leaves no room: miners use {miner} bytes and the slot 1, together {need}; \
     leave this target out, or give it a server of its own with `passthrough`",
    need = miner + 1
)]
pub(crate) struct DoesNotFit {
    pub(crate) size: u8,
    pub(crate) miner: u8,
}

/// Why there is no seat just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// No connection of the target has a job.
    NoJob,
    /// Every lane is taken or has been searched: another connection is needed, or the next job.
    NoSpace,
}

/// A session's slot, given back by dropping it.
#[derive(Debug)]
pub(crate) struct SlotLease {
    pub(crate) slot: u8,
    /// How many sessions held the value when it was taken, this one among them.
    pub(crate) depth: u32,
    placement: Arc<Placement>,
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        self.placement.inner.lock().slots.give_back(self.slot);
    }
}

/// A session's place on a lane, given back by dropping it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The lane's newest announcement.
    pub(crate) lane: LaneView,
    connection: ConnectionId,
    sitting: u64,
    index: u32,
    target: TargetId,
    slot: u8,
    placement: Arc<Placement>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.placement.inner.lock();
        let inner = &mut *inner;
        let Some(connection) = inner.connections.get(&self.connection) else { return };
        if connection.sitting == self.sitting
            && let Some(space) = inner.spaces.get_mut(&connection.key)
        {
            space.leave(self.index as usize, self.slot);
        }
    }
}

impl Seat {
    /// The target it is at.
    pub(crate) const fn target(&self) -> TargetId {
        self.target
    }

    /// The connection whose lane it is on.
    pub(crate) const fn connection(&self) -> ConnectionId {
        self.connection
    }
}

/// What a target's connections hold, for health and for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TargetState {
    /// Connections with a job.
    pub(crate) ready: u32,
    /// Connections that have brought no job for a long time.
    pub(crate) quiet: u32,
    /// Sessions seated on them.
    pub(crate) seated: u32,
}

/// How many job ids of a connection are remembered. An id that is used again after more jobs than
/// this is not noticed.
const NAMES_MAX: usize = 64;

/// Spaces kept; beyond it the one that has been without a connection for longest is forgotten, with
/// what was searched there.
const SPACES_MAX: usize = 256;

impl Placement {
    pub(crate) fn new(miner_extranonce2_size: u8, lane_offset: u64) -> Arc<Self> {
        Self::with(Some(miner_extranonce2_size), lane_offset)
    }

    /// A placement for one miner that has a pool connection of its own: there is one seat, and no
    /// lanes.
    pub(crate) fn of_one() -> Arc<Self> {
        Self::with(None, 0)
    }

    fn with(miner_extranonce2_size: Option<u8>, lane_offset: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            miner_extranonce2_size,
            next_connection: AtomicU64::new(1),
            lane_offset,
        })
    }

    pub(crate) fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes the slot for a new session.
    pub(crate) fn take_slot(self: &Arc<Self>) -> SlotLease {
        let (slot, depth) = self.inner.lock().slots.take();
        SlotLease { slot, depth, placement: self.clone() }
    }

    /// Seats `slot` at `target`, on a lane where it may work on the current job.
    pub(crate) fn seat(self: &Arc<Self>, target: TargetId, slot: u8) -> Result<Seat, NoSeat> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let mut refusal = NoSeat::NoJob;
        let mut ids: Vec<ConnectionId> = inner
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection.upstream.target == target && connection.upstream.is_alive()
            })
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        for id in ids {
            let connection =
                inner.connections.get_mut(&id).expect("listed above under the same lock");
            // The pool has changed our extranonce: its job so far is dead, and the next is on its
            // way.
            if connection.next_key.is_some() {
                continue;
            }
            let Some(job) = connection.current.clone() else { continue };
            let Some(space) = inner.spaces.get_mut(&connection.key) else { continue };
            let Some(lane) = space.seat(id, slot, job.fingerprint) else {
                refusal = NoSeat::NoSpace;
                continue;
            };
            let next_job = &mut inner.next_job;
            let view = connection.lane_with(lane, space, &job, next_job).view();
            let sitting = connection.sitting;
            return Ok(Seat {
                lane: view,
                connection: id,
                sitting,
                index: u32::try_from(lane).expect("a space has at most 2^14 lanes"),
                target,
                slot,
                placement: self.clone(),
            });
        }
        Err(refusal)
    }

    /// Adds a connection, once the pool has given its extranonce.
    pub(crate) fn connection_up(
        &self,
        upstream: &Arc<Upstream>,
        extranonce1: &[u8],
        extranonce2_size: u8,
    ) -> Result<(), DoesNotFit> {
        self.lane_width(extranonce2_size)?;
        let key =
            SpaceKey { target: upstream.target, extranonce1: extranonce1.into(), extranonce2_size };
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        self.open_space(inner, &key);
        inner.next_sitting += 1;
        let connection = Connection {
            upstream: upstream.clone(),
            key,
            sitting: inner.next_sitting,
            next_key: None,
            current: None,
            next_seq: 1,
            names: VecDeque::new(),
            lanes: HashMap::new(),
            is_of_one: self.miner_extranonce2_size.is_none(),
        };
        inner.connections.insert(upstream.id, connection);
        Ok(())
    }

    /// Makes the space of `key` if it is new; forgets those longest without a connection when there
    /// are too many.
    fn open_space(&self, inner: &mut Inner, key: &SpaceKey) {
        inner.left.retain(|left| left != key);
        while inner.spaces.len() >= SPACES_MAX
            && !inner.spaces.contains_key(key)
            && let Some(oldest) = inner.left.pop_front()
        {
            inner.spaces.remove(&oldest);
        }
        let width = self.lane_width(key.extranonce2_size).unwrap_or_default();
        inner.spaces.entry(key.clone()).or_insert_with(|| Space::new(width, self.lane_offset));
    }

    /// Whether `upstream` adds any space with this extranonce1. It does not if another connection
    /// has the same one and there are no lane bytes or no lanes left.
    pub(crate) fn adds_space(
        &self,
        upstream: &Upstream,
        extranonce1: &[u8],
        extranonce2_size: u8,
    ) -> bool {
        let inner = self.inner.lock();
        let taken = inner.connections.values().any(|connection| {
            let key = connection.next_key.as_ref().unwrap_or(&connection.key);
            connection.upstream.id != upstream.id
                && connection.upstream.is_alive()
                && (key.target, &*key.extranonce1, key.extranonce2_size)
                    == (upstream.target, extranonce1, extranonce2_size)
        });
        let key =
            SpaceKey { target: upstream.target, extranonce1: extranonce1.into(), extranonce2_size };
        !taken || inner.spaces.get(&key).is_none_or(Space::has_room)
    }

    /// Takes the pool's new extranonce: its former jobs are dead, and all sessions move with the
    /// next job.
    pub(crate) fn extranonce(
        &self,
        upstream: &Arc<Upstream>,
        extranonce1: &[u8],
        extranonce2_size: u8,
    ) -> Result<(), DoesNotFit> {
        self.lane_width(extranonce2_size)?;
        let mut inner = self.inner.lock();
        if let Some(connection) = inner.connections.get_mut(&upstream.id) {
            upstream.retire_below(connection.next_seq);
            connection.next_key = Some(SpaceKey {
                target: upstream.target,
                extranonce1: extranonce1.into(),
                extranonce2_size,
            });
        }
        Ok(())
    }

    /// Removes a connection. All sessions on it are told to move.
    pub(crate) fn connection_down(&self, id: ConnectionId) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(connection) = inner.connections.remove(&id) else { return };
        inner.leave_space(id, connection.key);
        drop(guard);
        // Without the lock: if the executor is closed already, notified sessions end at once and
        // give back their seats.
        for lane in connection.lanes.values() {
            lane.lane.publish(LaneState::Vacate);
        }
    }

    /// Takes a pool's job and hands it to every lane of its connection. Returns whether it is the
    /// connection's first.
    pub(crate) fn job(
        &self,
        id: ConnectionId,
        job: Job,
        difficulty: Difficulty,
        mask: Option<VersionMask>,
        now: Instant,
    ) -> Option<NewJob> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let first = inner.connections.get(&id)?.current.is_none();
        let left = self.change_space(inner, id);
        let connection = inner.connections.get_mut(&id)?;
        let space = inner.spaces.get_mut(&connection.key)?;
        let fingerprint = fingerprint(&job, space.has_lane_bytes());
        let same_work = connection.current.as_ref().filter(|current| {
            (current.fingerprint, current.job.ntime, current.mask) == (fingerprint, job.ntime, mask)
        });
        if let Some(current) = same_work
            && (&current.job.job_id, current.difficulty) == (&job.job_id, difficulty)
            && !job.clean
        {
            return Some(NewJob {
                first,
                repeated: true,
                former_took: None,
                untold: Untold::default(),
            });
        }
        // The same work again, under another id or on harder terms: no session needs to move for
        // it. Easier terms are worth a move, if there are lanes to move to.
        let same_work = same_work.cloned();
        let renamed = same_work
            .clone()
            .filter(|current| difficulty >= current.difficulty || !space.has_lane_bytes());
        let seq = connection.next_seq;
        connection.next_seq += 1;
        // On harder terms, shares that met the former terms would be refused.
        let same_terms = renamed.as_ref().filter(|current| difficulty <= current.difficulty);
        let work_seq = same_terms.map_or(seq, |current| current.work_seq);
        if job.clean {
            connection.upstream.retire_below(work_seq);
        }
        connection.name(&job.job_id, seq, same_work.is_none());
        let pool_target = difficulty.target();
        let job = Arc::new(PoolJob {
            extranonce1: match (
                self.miner_extranonce2_size,
                connection.key.extranonce1.split_last(),
            ) {
                (None, Some((_, before))) => before.into(),
                _ => connection.key.extranonce1.clone(),
            },
            difficulty,
            pool_target,
            block_target: block_target(job.network_target(), pool_target),
            mask,
            seq,
            work_seq,
            upstream: connection.upstream.clone(),
            fingerprint,
            arrival: Arrival::new(now),
            job,
        });
        let former_took =
            connection.current.replace(job.clone()).and_then(|former| former.arrival.longest());
        for lane in left.values() {
            lane.lane.publish(LaneState::Vacate);
        }
        let mut untold = Untold::default();
        if let Some(former) = renamed {
            for lane in connection.lanes.values_mut() {
                lane.rename(&former, &job);
            }
            return Some(NewJob { first, repeated: false, former_took, untold });
        }
        let lanes = space.job(id, fingerprint);
        for (index, lane) in &mut connection.lanes {
            if lanes.stale.contains(index) {
                lane.lane.publish(LaneState::Refresh);
            } else if lanes.fresh.contains(index) {
                inner.next_job += 1;
                untold.announce(&lane.lane, LaneState::Work(lane.work(&job, inner.next_job)));
            }
        }
        Some(NewJob { first, repeated: false, former_took, untold })
    }

    /// The job that a connection's pool brought last.
    pub(crate) fn current(&self, id: ConnectionId) -> Option<Arc<PoolJob>> {
        self.inner.lock().connections.get(&id)?.current.clone()
    }

    /// Moves a connection into the space of the pool's new extranonce. Returns the lanes that it
    /// leaves behind.
    fn change_space(&self, inner: &mut Inner, id: ConnectionId) -> HashMap<usize, LaneChannel> {
        let Some(connection) = inner.connections.get_mut(&id) else { return HashMap::new() };
        let Some(key) = connection.next_key.take() else { return HashMap::new() };
        inner.next_sitting += 1;
        connection.sitting = inner.next_sitting;
        let former = std::mem::replace(&mut connection.key, key.clone());
        connection.current = None;
        let left = std::mem::take(&mut connection.lanes);
        inner.leave_space(id, former);
        self.open_space(inner, &key);
        left
    }

    /// Moves all sessions on a connection to fresh lanes for the same job, if there are enough:
    /// fresh work while a pool brings none.
    pub(crate) fn refresh(&self, id: ConnectionId) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(connection) = inner.connections.get(&id) else { return };
        let Some(space) = inner.spaces.get_mut(&connection.key) else { return };
        if connection.next_key.is_none() && space.refresh(id) {
            for lane in connection.lanes.values() {
                lane.lane.publish(LaneState::Refresh);
            }
        }
    }

    /// What a target's connections hold just now.
    pub(crate) fn target_state(&self, target: TargetId) -> TargetState {
        let inner = self.inner.lock();
        let mut state = TargetState::default();
        for (id, connection) in &inner.connections {
            if connection.upstream.target == target
                && connection.upstream.is_alive()
                && connection.current.is_some()
            {
                state.ready += 1;
                state.quiet += u32::from(connection.upstream.is_quiet());
                state.seated +=
                    inner.spaces.get(&connection.key).map_or(0, |space| space.seated(*id));
            }
        }
        state
    }

    /// The largest number of working sessions that hold one slot: a target without lane bytes needs
    /// this many connections.
    pub(crate) fn depth(&self) -> u32 {
        let inner = self.inner.lock();
        let mut depths = [0; 256];
        for space in inner.spaces.values() {
            space.add_depths(&mut depths);
        }
        depths.into_iter().max().unwrap_or_default()
    }

    /// Bytes of a lane number under a pool's extranonce2_size.
    pub(crate) fn lane_width(&self, extranonce2_size: u8) -> Result<usize, DoesNotFit> {
        let Some(miner) = self.miner_extranonce2_size else { return Ok(0) };
        match extranonce2_size.checked_sub(miner + 1) {
            Some(width) => Ok(usize::from(width)),
            None => Err(DoesNotFit { size: extranonce2_size, miner }),
        }
    }

    /// The extranonce of the one miner, once its pool has given it.
    pub(crate) fn own_extranonce(&self) -> Option<OwnExtranonce> {
        let inner = self.inner.lock();
        inner
            .connections
            .values()
            .find_map(|connection| connection.next_key.as_ref().unwrap_or(&connection.key).own())
    }
}

/// What a notify changed.
#[derive(Debug)]
pub(crate) struct NewJob {
    /// It is the connection's first: the target can be used from now on.
    pub(crate) first: bool,
    /// It is identical to the current job: nothing was sent.
    pub(crate) repeated: bool,
    /// How long the last of its sessions took to have the job before this one.
    pub(crate) former_took: Option<Duration>,
    /// Sessions that are to be told of it.
    pub(crate) untold: Untold,
}

impl Inner {
    /// Records that a connection has left its space.
    fn leave_space(&mut self, id: ConnectionId, key: SpaceKey) {
        let Some(space) = self.spaces.get_mut(&key) else { return };
        space.connection_gone(id);
        if self.connections.values().all(|connection| connection.key != key) {
            self.left.push_back(key);
        }
    }
}

impl Connection {
    /// Records the pool's id for a job. If the id was another job's before, the pool would misjudge
    /// shares of that job: it is retired, with those before it.
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

    /// The lane of this index, made when it is first used, with `job` on it.
    fn lane_with(
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
    /// Continues `former` as `job` under our own job id: the miners are sent nothing, and their
    /// shares are submitted under the pool's newer id.
    fn rename(&mut self, former: &Arc<PoolJob>, job: &Arc<PoolJob>) {
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

    fn work(&self, job: &Arc<PoolJob>, job_id: u64) -> Arc<LaneWork> {
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

/// The network's target, unless it is easier than the pool's. On a test network every share would
/// be a block, also shares below the pool's difficulty, which the pool would only reject.
fn block_target(network: Target, pool: Target) -> Target {
    if network < pool { network } else { Target::NEVER }
}

#[cfg(test)]
mod tests;
