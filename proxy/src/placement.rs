//! Which session works on which lane of which pool connection.
//!
//! All of it happens when sessions join or move and when jobs come, never per share, so a single
//! lock is enough. Sessions ask for a [`Seat`] when their directions change. A seat and a slot are
//! given back by dropping them. What a pool's messages change is in [`intake`].

mod connection;
mod intake;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use stratum::difficulty::Difficulty;
use stratum::job::Job;
use stratum::version::VersionMask;

use crate::lane::{LaneState, LaneView};
use crate::space::{ConnectionId, Space};
use crate::target::TargetId;
use crate::work::{OwnExtranonce, PoolJob, Upstream};
use connection::{Brought, SpaceKey};
use intake::{DoesNotFit, Inner, Layout, NewJob};

/// The placements of one set of pools.
#[derive(Debug)]
pub(crate) struct Placement {
    inner: Mutex<Inner>,
    layout: Layout,
    next_connection: AtomicU64,
}

/// Why there is no seat at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// No connection of the target has a job.
    NoJob,
    /// On every lane, this slot is taken or has had the current job: another connection is needed,
    /// or the next job.
    NoSpace,
}

/// A session's slot; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct SlotLease {
    pub(crate) slot: u8,
    /// How many sessions held the same value when it was taken, including this one.
    pub(crate) depth: u32,
    placement: Arc<Placement>,
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        self.placement.inner.lock().slots.give_back(self.slot);
    }
}

/// A session's place on a lane; dropping it gives it back.
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
    /// The target of the seat.
    pub(crate) const fn target(&self) -> TargetId {
        self.target
    }

    /// The connection that the seat's lane belongs to.
    pub(crate) const fn connection(&self) -> ConnectionId {
        self.connection
    }
}

/// The state of a target's connections, for its health and its view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TargetState {
    /// Connections with a job.
    pub(crate) ready: u32,
    /// Connections with a job whose pool has sent no further one for a long time.
    pub(crate) quiet: u32,
    /// Sessions seated on the target's connections.
    pub(crate) seated: u32,
}

impl Placement {
    pub(crate) fn new(miner_extranonce2_size: u8, lane_offset: u64) -> Arc<Self> {
        Self::with(Some(miner_extranonce2_size), lane_offset)
    }

    /// Makes a placement for one miner with a pool connection of its own: it has one seat and no
    /// lanes.
    pub(crate) fn of_one() -> Arc<Self> {
        Self::with(None, 0)
    }

    fn with(miner_extranonce2_size: Option<u8>, lane_offset: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            layout: Layout { miner_extranonce2_size, lane_offset },
            next_connection: AtomicU64::new(1),
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
            // The pool has changed our extranonce: shares of its current job are refused, so there
            // is no work until the next job.
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
        self.inner.lock().connection_up(self.layout, upstream, extranonce1, extranonce2_size)
    }

    /// Handles the pool's new extranonce: its jobs so far are retired, and all sessions move with
    /// the next job.
    pub(crate) fn extranonce(
        &self,
        upstream: &Upstream,
        extranonce1: &[u8],
        extranonce2_size: u8,
    ) -> Result<(), DoesNotFit> {
        self.inner.lock().extranonce(self.layout, upstream, extranonce1, extranonce2_size)
    }

    /// Removes a connection. All its sessions are told to move.
    pub(crate) fn connection_down(&self, id: ConnectionId) {
        let lanes = self.inner.lock().connection_down(id);
        // The lock is not held here: if the executor is closed already, the notified sessions end
        // at once and give back their seats, which takes the lock.
        for lane in lanes.values() {
            lane.lane.publish(LaneState::Vacate);
        }
    }

    /// Takes a pool's job and gives it to the lanes of its connection. Lanes with a session that
    /// has had the same work before are told to refresh instead; work that merely comes again is
    /// not given out anew. Returns `None` for a connection that is not up.
    pub(crate) fn job(
        &self,
        id: ConnectionId,
        job: Job,
        difficulty: Difficulty,
        mask: Option<VersionMask>,
        now: Instant,
    ) -> Option<NewJob> {
        let brought = Brought { job, difficulty, mask, at: now };
        self.inner.lock().job(self.layout, id, brought)
    }

    /// Moves all sessions on a connection to fresh lanes of the current job, if there are enough.
    /// This gives them fresh work while the pool sends none.
    pub(crate) fn refresh(&self, id: ConnectionId) {
        self.inner.lock().refresh(id);
    }

    /// The number of bytes of a lane number with a pool's extranonce2_size.
    pub(crate) fn lane_width(&self, extranonce2_size: u8) -> Result<usize, DoesNotFit> {
        self.layout.lane_width(extranonce2_size)
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

    /// The newest job of a connection.
    pub(crate) fn current(&self, id: ConnectionId) -> Option<Arc<PoolJob>> {
        self.inner.lock().connections.get(&id)?.current.clone()
    }

    /// The current state of a target's connections.
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

    /// The largest number of working sessions with the same slot: a target without lane bytes needs
    /// this many connections.
    pub(crate) fn depth(&self) -> u32 {
        let inner = self.inner.lock();
        let mut depths = [0; 256];
        for space in inner.spaces.values() {
            space.add_depths(&mut depths);
        }
        depths.into_iter().max().unwrap_or_default()
    }

    /// The extranonce of the passthrough miner, once its pool has given one.
    pub(crate) fn own_extranonce(&self) -> Option<OwnExtranonce> {
        let inner = self.inner.lock();
        inner
            .connections
            .values()
            .find_map(|connection| connection.next_key.as_ref().unwrap_or(&connection.key).own())
    }
}

#[cfg(test)]
mod tests;
