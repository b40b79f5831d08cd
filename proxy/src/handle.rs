//! The handle to a live session. Other tasks use it to signal the session, to pass it pools'
//! verdicts, and to read what it shows of itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use directive::MachineId;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stratum::difficulty::Difficulty;
use stratum::version::VersionMask;

use crate::level::HASHES;
use crate::mailbox::Mailbox;
use crate::target::{PerTarget, TargetId};

/// The handle to a session.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    /// The session's number, unique for the life of the process.
    pub(crate) number: u64,
    pub(crate) mailbox: Mailbox,
    /// When the session must next be signalled because time has passed, in milliseconds since the
    /// proxy started. `u64::MAX` if never.
    wake_at_ms: AtomicU64,
    pub(crate) peer: SocketAddr,
    connected_at_ms: i64,
    slot: u8,
    /// Index of the session's listener.
    pub(crate) server: u16,
    pub(crate) tally: Tally,
    pub(crate) shown: Mutex<Shown>,
}

impl SessionHandle {
    /// Makes a handle for a connection that was just accepted.
    pub(crate) fn new(
        number: u64,
        peer: SocketAddr,
        connected_at: Timestamp,
        slot: u8,
        server: u16,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            mailbox: Mailbox::default(),
            wake_at_ms: AtomicU64::new(u64::MAX),
            peer,
            connected_at_ms: connected_at.as_millisecond(),
            slot,
            server,
            tally: Tally::default(),
            shown: Mutex::default(),
        })
    }

    /// Makes the signaller signal the session once `at_ms` has passed.
    pub(crate) fn wake_at(&self, at_ms: u64) {
        self.wake_at_ms.store(at_ms, Ordering::Relaxed);
    }

    /// Whether the session must be signalled because time has passed.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.wake_at_ms.load(Ordering::Relaxed) <= now_ms
    }

    pub(crate) fn connected_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.connected_at_ms).expect("made from one")
    }

    /// When the last good share came.
    pub(crate) fn last_share_at(&self) -> Option<Timestamp> {
        let tenths = self.tally.last_share.load(Ordering::Relaxed).checked_sub(1)?;
        Timestamp::from_millisecond(self.connected_at_ms + i64::from(tenths) * 100).ok()
    }

    pub(crate) fn view(&self, names: &ConfiguredNames) -> SessionView {
        let shown = self.shown.lock();
        SessionView {
            session: self.number,
            peer: self.peer,
            connected_at: self.connected_at(),
            server: names.servers.get(usize::from(self.server)).cloned().unwrap_or_default(),
            slot: self.slot,
            state: shown.state,
            worker_name: shown.worker.as_ref().map(|worker| worker.as_str().to_owned()),
            user_agent: shown.user_agent.as_deref().map(str::to_owned),
            target: shown.target.and_then(|target| names.targets.get(target).cloned()),
            difficulty: shown.difficulty(),
            hashrate: shown.work_rate.map(|work_rate| f64::from(work_rate) * HASHES),
            version_mask: shown.version_mask.map(|mask| format!("{:08x}", mask.0)),
            shares: self.tally.shares(),
            rejects: self.tally.rejects(),
            last_share_at: self.last_share_at(),
        }
    }
}

/// The part of a session's view that changes during its life.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) state: SessionState,
    pub(crate) worker: Option<MachineId>,
    pub(crate) user_agent: Option<Arc<str>>,
    /// The target that the session works for.
    pub(crate) target: Option<TargetId>,
    /// The difficulty last sent to the miner; 0 before the first.
    difficulty: f64,
    /// The machine's work rate, as measured when the session got its newest job.
    pub(crate) work_rate: Option<f32>,
    pub(crate) version_mask: Option<VersionMask>,
}

impl Shown {
    /// Records the difficulty last sent to the miner.
    pub(crate) fn set_difficulty(&mut self, difficulty: Option<Difficulty>) {
        self.difficulty = difficulty.map_or(0.0, Difficulty::get);
    }

    pub(crate) fn difficulty(&self) -> Option<f64> {
        Some(self.difficulty).filter(|difficulty| *difficulty > 0.0)
    }
}

/// Counts of a session's submits. Only the session's own task writes them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    shares: AtomicU32,
    rejects: AtomicU32,
    /// When the last good share came, in tenths of a second since the session connected, plus one.
    /// 0 before the first.
    last_share: AtomicU32,
}

impl Tally {
    /// Counts a share that met the difficulty advertised to the miner.
    pub(crate) fn share(&self, connected_at: Timestamp, wall: Timestamp) {
        let tenths = (wall.as_millisecond() - connected_at.as_millisecond()).max(0) / 100 + 1;
        self.last_share.store(u32::try_from(tenths).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.shares.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a submit that was refused, by us or by a pool.
    pub(crate) fn reject(&self) {
        self.rejects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn shares(&self) -> u32 {
        self.shares.load(Ordering::Relaxed)
    }

    pub(crate) fn rejects(&self) -> u32 {
        self.rejects.load(Ordering::Relaxed)
    }
}

/// The configured names of targets, and of servers by their number.
#[derive(Debug)]
pub(crate) struct ConfiguredNames {
    pub(crate) targets: PerTarget<String>,
    pub(crate) servers: Vec<String>,
}

/// The state of a miner's session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Not yet subscribed and authorized.
    #[default]
    Handshake,
    /// The miner has work.
    Working,
    /// The miner wants work, but no target has a free seat for it.
    Waiting,
    /// The miner's machine may not run: the miner keeps its connection and gets no work.
    Parked,
}

impl SessionState {
    pub(crate) const ALL: [Self; 4] = [Self::Handshake, Self::Working, Self::Waiting, Self::Parked];

    /// The name of the state in metrics and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
        }
    }
}

/// A session as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    pub session: u64,
    /// The miner's address.
    pub peer: SocketAddr,
    pub connected_at: Timestamp,
    /// The name of the listener that accepted it.
    pub server: String,
    /// The slot, which the miner has as its extranonce1.
    pub slot: u8,
    pub state: SessionState,
    /// The miner's worker name.
    pub worker_name: Option<String>,
    /// The user agent from its subscribe, shortened and escaped.
    pub user_agent: Option<String>,
    /// The target that the session works for.
    pub target: Option<String>,
    pub difficulty: Option<f64>,
    /// Hashes a second, as measured when the session got its newest job.
    pub hashrate: Option<f64>,
    /// The version bits that the miner may roll, in hex.
    pub version_mask: Option<String>,
    /// Shares that met the difficulty advertised to the miner.
    pub shares: u32,
    /// Submits that were refused, by the proxy or by a pool.
    pub rejects: u32,
    /// When the last good share came, to a tenth of a second.
    pub last_share_at: Option<Timestamp>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A handle without a session.
    pub(crate) fn handle(number: u64) -> Arc<SessionHandle> {
        let at = Timestamp::from_second(1_800_000_000).expect("a plain instant");
        SessionHandle::new(number, "10.0.0.1:5000".parse().expect("an address"), at, 7, 0)
    }

    /// The API's filter `?state=` and the metrics use `name`; the API's answers use serde.
    #[test]
    fn a_state_has_one_name() {
        for state in SessionState::ALL {
            assert_eq!(serde_json::to_value(state).expect("plain data"), state.name());
        }
    }
}
