//! What a pool's messages change: a connection comes up, gets another extranonce, brings a job, goes
//! down.
//!
//! All of it happens under the one lock of [`super::Placement`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Brought, Connection, LaneChannel, SpaceKey, Taken};
use crate::lane::{LaneState, Untold};
use crate::slot::Slots;
use crate::space::{ConnectionId, Space};
use crate::work::Upstream;

/// How a pool's extranonce2 is divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The miners' extranonce2_size, the same on every target; `None` if one miner has the pool's
    /// whole extranonce2.
    pub(super) miner_extranonce2_size: Option<u8>,
    /// The first lane number. It is random at each start of the process.
    pub(super) lane_offset: u64,
}

impl Layout {
    /// The number of bytes of a lane number with a pool's extranonce2_size.
    pub(super) fn lane_width(self, extranonce2_size: u8) -> Result<usize, DoesNotFit> {
        let Some(miner) = self.miner_extranonce2_size else { return Ok(0) };
        match extranonce2_size.checked_sub(miner + 1) {
            Some(width) => Ok(usize::from(width)),
            None => Err(DoesNotFit { size: extranonce2_size, miner }),
        }
    }
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

/// What the lock of [`super::Placement`] guards.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) slots: Slots,
    pub(super) spaces: HashMap<SpaceKey, Space>,
    /// Spaces that no connection uses, the one that was used last at the end.
    pub(super) unused: VecDeque<SpaceKey>,
    pub(super) connections: HashMap<ConnectionId, Connection>,
    pub(super) next_job: u64,
    pub(super) next_sitting: u64,
}

/// What a notify changed.
#[derive(Debug)]
pub(crate) struct NewJob {
    /// The connection had no job before.
    pub(crate) first: bool,
    /// Whether the job is identical to the current one, so that nothing was sent.
    pub(crate) repeated: bool,
    /// How long the delivery of the previous job to all its sessions took.
    pub(crate) former_took: Option<Duration>,
    /// Sessions that must be notified of the job.
    pub(crate) untold: Untold,
}

/// Maximum number of spaces kept. Beyond it, the space that has been unused for longest is forgotten,
/// with the record of what was searched there.
pub(super) const SPACES_MAX: usize = 256;

impl Inner {
    /// Adds a connection, once the pool has given its extranonce.
    pub(super) fn connection_up(
        &mut self,
        layout: Layout,
        upstream: &Arc<Upstream>,
        extranonce1: &[u8],
        extranonce2_size: u8,
    ) -> Result<(), DoesNotFit> {
        layout.lane_width(extranonce2_size)?;
        let key =
            SpaceKey { target: upstream.target, extranonce1: extranonce1.into(), extranonce2_size };
        self.open_space(&key, layout);
        self.next_sitting += 1;
        let connection = Connection {
            upstream: upstream.clone(),
            key,
            sitting: self.next_sitting,
            next_key: None,
            current: None,
            next_seq: 1,
            names: VecDeque::new(),
            lanes: HashMap::new(),
            is_of_one: layout.miner_extranonce2_size.is_none(),
        };
        self.connections.insert(upstream.id, connection);
        Ok(())
    }

    /// Takes the pool's new extranonce: its former jobs are retired, and all sessions move with the
    /// next job.
    pub(super) fn extranonce(
        &mut self,
        layout: Layout,
        upstream: &Upstream,
        extranonce1: &[u8],
        extranonce2_size: u8,
    ) -> Result<(), DoesNotFit> {
        layout.lane_width(extranonce2_size)?;
        if let Some(connection) = self.connections.get_mut(&upstream.id) {
            upstream.retire_below(connection.next_seq);
            connection.next_key = Some(SpaceKey {
                target: upstream.target,
                extranonce1: extranonce1.into(),
                extranonce2_size,
            });
        }
        Ok(())
    }

    /// Removes a connection. The caller tells the sessions on its lanes, which are returned, to move.
    pub(super) fn connection_down(&mut self, id: ConnectionId) -> HashMap<usize, LaneChannel> {
        let Some(connection) = self.connections.remove(&id) else { return HashMap::new() };
        self.leave_space(id, connection.key);
        connection.lanes
    }

    /// Takes a pool's job and hands it to every lane of its connection. Returns `None` for a
    /// connection that is not up.
    pub(super) fn job(
        &mut self,
        layout: Layout,
        id: ConnectionId,
        brought: Brought,
    ) -> Option<NewJob> {
        let first = self.connections.get(&id)?.current.is_none();
        let vacated = self.change_space(layout, id);
        let connection = self.connections.get_mut(&id)?;
        let space = self.spaces.get_mut(&connection.key)?;
        let mut untold = Untold::default();
        let Some(taken) = connection.take(brought, space.has_lane_bytes()) else {
            return Some(NewJob { first, repeated: true, former_took: None, untold });
        };
        let Taken { job, former, renamed } = taken;
        let former_took = former.and_then(|former| former.arrival.longest());
        for lane in vacated.values() {
            lane.lane.publish(LaneState::Vacate);
        }
        if let Some(former) = renamed {
            for lane in connection.lanes.values_mut() {
                lane.rename(&former, &job);
            }
            return Some(NewJob { first, repeated: false, former_took, untold });
        }
        let lanes = space.job(id, job.fingerprint);
        for (index, lane) in &mut connection.lanes {
            if lanes.stale.contains(index) {
                lane.lane.publish(LaneState::Refresh);
            } else if lanes.fresh.contains(index) {
                self.next_job += 1;
                untold.announce(&lane.lane, LaneState::Work(lane.work(&job, self.next_job)));
            }
        }
        Some(NewJob { first, repeated: false, former_took, untold })
    }

    /// Moves a connection to the space of the pool's new extranonce, if the pool has changed it.
    /// Returns the lanes that the connection had before.
    fn change_space(&mut self, layout: Layout, id: ConnectionId) -> HashMap<usize, LaneChannel> {
        let Some(connection) = self.connections.get_mut(&id) else { return HashMap::new() };
        let Some(key) = connection.next_key.take() else { return HashMap::new() };
        self.next_sitting += 1;
        connection.sitting = self.next_sitting;
        let former = std::mem::replace(&mut connection.key, key.clone());
        connection.current = None;
        let vacated = std::mem::take(&mut connection.lanes);
        self.leave_space(id, former);
        self.open_space(&key, layout);
        vacated
    }

    /// Moves all sessions on a connection to fresh lanes of the current job, if there are enough.
    pub(super) fn refresh(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Some(space) = self.spaces.get_mut(&connection.key) else { return };
        if connection.next_key.is_none() && space.refresh(id) {
            for lane in connection.lanes.values() {
                lane.lane.publish(LaneState::Refresh);
            }
        }
    }

    /// Makes the space of `key` if it is new. If there are too many, the spaces that have been unused
    /// for longest are forgotten.
    fn open_space(&mut self, key: &SpaceKey, layout: Layout) {
        self.unused.retain(|unused| unused != key);
        while self.spaces.len() >= SPACES_MAX
            && !self.spaces.contains_key(key)
            && let Some(oldest) = self.unused.pop_front()
        {
            self.spaces.remove(&oldest);
        }
        let width = layout.lane_width(key.extranonce2_size).unwrap_or_default();
        self.spaces.entry(key.clone()).or_insert_with(|| Space::new(width, layout.lane_offset));
    }

    /// Records that a connection has left its space.
    fn leave_space(&mut self, id: ConnectionId, key: SpaceKey) {
        let Some(space) = self.spaces.get_mut(&key) else { return };
        space.connection_gone(id);
        if self.connections.values().all(|connection| connection.key != key) {
            self.unused.push_back(key);
        }
    }
}
