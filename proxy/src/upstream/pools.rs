//! The state of each pool, and the rules for all connections of a target: health, quarantine, which
//! version bits are granted, how many connections are wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use daemon::clock;
use parking_lot::Mutex;
use serde::Serialize;
use stratum::difficulty::Difficulty;
use stratum::version::VersionMask;
use tokio::sync::{Notify, watch};
use tracing::error;

use super::known_addresses::KnownAddresses;
use super::news::{self, News, PoolNews};
use super::tripwire::Tripwire;
use crate::config::Target;
use crate::directions::Directions;
use crate::ends::Settled;
use crate::label::Label;
use crate::load::{self, Fleet, LoadRules};
use crate::outcome::SettledAs;
use crate::placement::Placement;
use crate::reasons::Alarm;
use crate::route::TargetHealth;
use crate::session::suits_firmware;
use crate::state::ProxyState;
use crate::target::{PerTarget, TargetId, TargetUse};

/// A set of pools and the sessions that work for it: their seats, their directions, and the sums
/// over them. A proxy has one set for all miners that share pool connections. Each miner with a
/// pool connection of its own has another, so that neither seats nor sums mix.
#[derive(Debug)]
pub(crate) struct PoolSet {
    pub(crate) proxy: Arc<ProxyState>,
    /// All targets of the configuration; none in the set of a single miner, whose one connection is
    /// kept by the miner's own task.
    pub(crate) targets: PerTarget<Arc<Pool>>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) directions: watch::Receiver<Directions>,
    /// Notified when a target's health may have changed, or when seats have become free.
    pub(crate) changed: Notify,
    /// The summed work rate of all sessions that want work.
    pub(crate) fleet: Arc<Fleet>,
    /// The number of sessions that want a seat, or a better one than they have.
    pub(crate) waiting: AtomicUsize,
    /// The number of sessions that want work.
    pub(crate) served: AtomicUsize,
}

/// One target: its configuration and the current state of the pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: TargetId,
    used: TargetUse,
    pub(crate) config: Target,
    /// Number of connections wanted. The tasks of further connections wait.
    pub(crate) wanted: watch::Sender<u32>,
    /// Whether further connections add no search space: one got the extranonce1 that another has,
    /// and there are no free lanes under it.
    pub(super) adds_none: AtomicBool,
    /// The connections with one miner each; `None` if miners share connections.
    pub(super) own: Option<Mutex<OwnConnections>>,
    pub(super) state: Mutex<PoolState>,
    pub(super) tripwire: Mutex<Tripwire>,
    pub(super) known_addresses: Mutex<KnownAddresses>,
    news: Mutex<PoolNews>,
}

/// The connections of a target that serve one miner each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnConnections {
    pub(crate) count: u32,
    /// Whether the last attempt to connect succeeded, or there was none.
    pub(crate) works: bool,
}

/// What the connections of a target are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Whether there is a job for miners. With one miner for each connection: the last attempt to
    /// connect succeeded, or there was none.
    pub(crate) up: bool,
    /// Connections with a job.
    pub(crate) connections: u32,
    /// Sessions that work on the target's connections.
    pub(crate) sessions: u32,
}

/// The state of a pool.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct PoolState {
    /// The version bits that the pool lets us roll, by its last message.
    #[serde(skip)]
    pub(crate) mask: Option<VersionMask>,
    /// The pool's difficulty at the newest job.
    pub(crate) difficulty: Option<f64>,
    /// The length of the pool's extranonce1, in bytes.
    pub(crate) extranonce1_size: Option<usize>,
    /// The pool's extranonce2_size.
    pub(crate) extranonce2_size: Option<u8>,
    /// Why the last connection ended.
    pub(crate) last_fault: Option<String>,
    /// Until when the pool is quarantined: it is mined at only if no other target is usable.
    #[serde(skip)]
    quarantined_until: Option<Instant>,
}

/// How long each quarantine of a misbehaving pool lasts.
const QUARANTINE: Duration = Duration::from_secs(600);

impl Pool {
    pub(crate) fn new(id: TargetId, config: Target, used: TargetUse) -> Arc<Self> {
        let is_own = used == TargetUse::Passthrough;
        Arc::new(Self {
            id,
            used,
            config,
            wanted: watch::Sender::new(1),
            adds_none: AtomicBool::new(false),
            own: is_own.then(|| Mutex::new(OwnConnections { count: 0, works: true })),
            state: Mutex::default(),
            tripwire: Mutex::default(),
            known_addresses: Mutex::default(),
            news: Mutex::default(),
        })
    }

    /// Whether the proxy does anything with the target.
    pub(crate) fn is_used(&self) -> bool {
        self.used.is_used()
    }

    pub(crate) fn state(&self) -> PoolState {
        self.state.lock().clone()
    }

    /// How many shares a second the target should get.
    pub(crate) fn load_rules(&self) -> LoadRules {
        let Target { shares_per_sec, shares_per_sec_max, hold_max, .. } = self.config;
        LoadRules { shares_per_sec, shares_per_sec_max, hold_max }
    }

    /// The connections with one miner each; `None` if miners share connections.
    pub(crate) fn own_connections(&self) -> Option<OwnConnections> {
        self.own.as_ref().map(|own| *own.lock())
    }

    /// Reserves a connection for one miner. Returns `None` if there are `max_connections` already.
    pub(crate) fn own_place(self: &Arc<Self>) -> Option<OwnPlace> {
        let mut own = self.own.as_ref()?.lock();
        if own.count >= self.config.max_connections {
            return None;
        }
        own.count += 1;
        drop(own);
        Some(OwnPlace { pool: self.clone() })
    }

    /// Records an event. Returns whether to log it now.
    pub(crate) fn is_news(&self, news: News, now: Instant) -> bool {
        self.news.lock().admits(news, 1, now)
    }

    /// Logs the events that were only counted so far.
    pub(crate) fn log_more(&self, now: Instant) {
        let due = self.news.lock().due(now);
        news::log_again(&self.config.name, due);
    }

    /// Requests one connection more `than` there are, up to `max_connections`. Returns whether there
    /// may be more.
    pub(crate) fn want_another(&self, than: u32) -> bool {
        let cap = self.config.max_connections;
        self.wanted.send_if_modified(|wanted| {
            let more = (than + 1).min(cap);
            let changed = more > *wanted;
            *wanted = more.max(*wanted);
            changed
        });
        than < cap
    }
}

impl PoolSet {
    /// The set of all miners that share connections.
    pub(crate) fn new(
        proxy: Arc<ProxyState>,
        targets: PerTarget<Arc<Pool>>,
        placement: Arc<Placement>,
        directions: watch::Receiver<Directions>,
    ) -> Arc<Self> {
        Arc::new(Self {
            proxy,
            targets,
            placement,
            directions,
            changed: Notify::new(),
            fleet: Arc::default(),
            waiting: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
        })
    }

    /// The set of one miner with a pool connection of its own.
    pub(crate) fn of_one(
        proxy: Arc<ProxyState>,
        directions: watch::Receiver<Directions>,
    ) -> Arc<Self> {
        Self::new(proxy, PerTarget::default(), Placement::of_one(), directions)
    }

    /// The targets whose connections are shared by miners.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.targets.values().filter(|pool| pool.used.is_shared())
    }

    /// Whether any shared target can ever seat a session whose slot is held by `depth` sessions. A
    /// target whose extranonce2_size is not known yet is assumed to have room.
    pub(crate) fn have_room(&self, depth: u32) -> bool {
        self.shared().any(|pool| {
            let Some(size) = pool.state.lock().extranonce2_size else { return true };
            match self.placement.lane_width(size) {
                Err(_) => false,
                Ok(0) if pool.adds_none.load(Ordering::Relaxed) => {
                    depth <= self.placement.target_state(pool.id).ready.max(1)
                }
                Ok(0) => depth <= pool.config.max_connections,
                Ok(_) => true,
            }
        })
    }

    /// The version bits to grant to a new session: those that all shared targets allow, as far as
    /// their masks are known. A smaller mask cannot be sent later to firmware that has no handler
    /// for `set_version_mask`.
    pub(crate) fn common_mask(&self) -> VersionMask {
        common_mask(self.shared().map(|pool| pool.state.lock().mask))
    }

    /// The present state of the target's connections.
    pub(crate) fn health(&self, pool: &Pool) -> TargetHealth {
        let state = self.placement.target_state(pool.id);
        // The target is quiet only if all of its connections are.
        let quiet = state.ready > 0 && state.quiet == state.ready;
        // Miners cannot be moved to connections that serve one miner each.
        let ready = pool.used.is_shared() && state.ready > 0;
        let rules = pool.load_rules();
        let pool = pool.state.lock();
        let quarantined = pool.quarantined_until.is_some_and(|until| clock::now() < until);
        let difficulty = pool.difficulty.and_then(Difficulty::new);
        let low =
            difficulty.is_some_and(|difficulty| load::is_low(&rules, &self.fleet, difficulty));
        TargetHealth { ready, quarantined, quiet, low, mask: pool.mask }
    }

    /// Asks for another connection to a target that has no space for a session. Raises the alarm
    /// if the target has as many as it may have.
    pub(crate) fn shortage(&self, target: TargetId) {
        let Some(pool) = self.targets.get(target) else { return };
        let ready = self.placement.target_state(target).ready;
        if !pool.want_another(ready) {
            self.proxy.books.metrics.alarm(Alarm::NoSearchSpace);
        }
    }

    /// What the target's connections are doing, for metrics and for people.
    pub(crate) fn activity(&self, pool: &Pool) -> Activity {
        if let Some(own) = pool.own_connections() {
            return Activity { up: own.works, connections: own.count, sessions: own.count };
        }
        let state = self.placement.target_state(pool.id);
        Activity { up: state.ready > 0, connections: state.ready, sessions: state.seated }
    }

    /// Quarantines a target: while it lasts, other targets are mined at if there are any.
    pub(super) fn quarantine(&self, pool: &Pool, reason: impl Label, now: Instant) {
        let until = pool.state.lock().quarantined_until.replace(now + QUARANTINE);
        if until.is_none_or(|until| until <= now) {
            self.proxy.books.metrics.alarm(Alarm::Quarantined);
            error!(reason = reason.label(), "target put aside");
            self.changed.notify_one();
        }
    }

    /// Counts the outcomes of forwarded shares.
    pub(super) fn count(&self, pool: &Pool, settled: &mut Vec<Settled>) {
        for mut settled in settled.drain(..) {
            self.proxy.books.settled(pool.id, &mut settled);
            if let (SettledAs::Unresolved, Some(proof)) = (settled.outcome, settled.block) {
                self.proxy.books.metrics.shares.blocks_lost.inc();
                let header = const_hex::encode(proof.header);
                error!(%header, "block lost: its upstream connection was lost before the pool answered");
            }
        }
    }
}

/// A reserved connection for one miner; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct OwnPlace {
    pool: Arc<Pool>,
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        if let Some(own) = &self.pool.own {
            own.lock().count -= 1;
        }
    }
}
/// The bits common to all `masks` (`None`: not known yet), but never so few that firmware would
/// stop rolling: an S19 needs three bits, an S17 bits 22 and 23 (docs/protocol.md 2.6). A target
/// that would leave fewer is ignored, and so is one that refuses rolling, because it serves only
/// miners that do not roll. If all targets refuse, no miner may roll, because those that do could
/// not mine.
fn common_mask(masks: impl Iterator<Item = Option<VersionMask>>) -> VersionMask {
    let mut masks = masks.peekable();
    // A passthrough miner's set has no targets: all bits are granted.
    let (mut common, mut all_refuse) = (VersionMask::BIP320, masks.peek().is_some());
    for mask in masks {
        let mask = mask.unwrap_or(VersionMask::BIP320).and(VersionMask::BIP320);
        all_refuse &= mask.is_empty();
        let both = common.and(mask);
        if suits_firmware(both) {
            common = both;
        }
    }
    if all_refuse { VersionMask::NONE } else { common }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/protocol.md 2.6: never a sub-mask that lacks bits 22 and 23, nor fewer than 3 bits.
    #[test]
    fn a_mask_that_all_targets_roll_is_granted_unless_firmware_would_stop_rolling() {
        for (masks, granted) in [
            (&[None][..], 0x1fff_e000),
            (&[Some(0x1fff_e000), Some(0x5fff_e000)], 0x1fff_e000),
            (&[Some(0x1fff_e000), Some(0x00ff_e000)], 0x00ff_e000),
            (&[Some(0x0001_e000), Some(0x00ff_e000)], 0x00ff_e000),
            (&[Some(0x00c0_0000)], 0x1fff_e000),
            (&[Some(0), None], 0x1fff_e000),
            (&[Some(0), Some(0x00ff_e000)], 0x00ff_e000),
            (&[Some(0), Some(0)], 0),
        ] {
            let common = common_mask(masks.iter().map(|mask| mask.map(VersionMask)));
            assert_eq!(common, VersionMask(granted), "{masks:08x?}");
        }
    }
}
