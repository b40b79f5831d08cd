//! The list of live sessions: reaching them, and their views for people.
//!
//! The map holds handles. It is touched when a session joins or leaves, never per share; views are
//! made on request.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use directive::MachineId;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stratum::difficulty::Difficulty;
use stratum::version::VersionMask;

use crate::mailbox::{Mailbox, Signal};
use crate::session::HASHES;

/// The handle to a session.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    /// Its number, unique for the life of the process.
    pub(crate) number: u64,
    pub(crate) mailbox: Mailbox,
    /// When something of its own is due, in milliseconds of the proxy's life; the largest number when
    /// nothing is.
    wake_at_ms: AtomicU64,
    pub(crate) peer: SocketAddr,
    connected_at_ms: i64,
    slot: u8,
    /// Index of its listener.
    pub(crate) server: u16,
    pub(crate) tally: Tally,
    pub(crate) shown: Mutex<Shown>,
}

/// The part of a session's view that changes.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) state: SessionState,
    pub(crate) worker: Option<MachineId>,
    pub(crate) user_agent: Option<Arc<str>>,
    /// Index of the target it works for.
    pub(crate) target: Option<u16>,
    /// Difficulty last advertised; 0 before the first.
    difficulty: f64,
    /// Its work rate, as shown by its shares when it got the newest job.
    pub(crate) work_rate: Option<f32>,
    pub(crate) version_mask: Option<VersionMask>,
}

impl Shown {
    /// Shows the difficulty last advertised.
    pub(crate) fn set_difficulty(&mut self, difficulty: Option<Difficulty>) {
        self.difficulty = difficulty.map_or(0.0, Difficulty::get);
    }

    pub(crate) fn difficulty(&self) -> Option<f64> {
        Some(self.difficulty).filter(|difficulty| *difficulty > 0.0)
    }
}

/// Counts of its submits. Only its own task counts; others read.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    shares: AtomicU32,
    rejects: AtomicU32,
    /// Tenths of a second from connecting to the last share, plus one; zero before the first.
    last_share: AtomicU32,
}

impl Tally {
    /// Counts a share that met the difficulty it was asked for.
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

/// The names behind indices.
#[derive(Debug)]
pub(crate) struct ConfiguredNames {
    pub(crate) targets: Vec<String>,
    pub(crate) servers: Vec<String>,
}

/// The state of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Not yet subscribed and authorized.
    #[default]
    Handshake,
    /// It has a job.
    Working,
    /// It waits for a seat.
    Waiting,
    /// It keeps its connection and gets no work.
    Parked,
}

impl SessionState {
    pub(crate) const ALL: [Self; 4] = [Self::Handshake, Self::Working, Self::Waiting, Self::Parked];

    /// Its name in metrics and answers.
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

/// A session as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    pub session: u64,
    /// Where the miner comes from.
    pub peer: SocketAddr,
    pub connected_at: Timestamp,
    /// The listener it came to.
    pub server: String,
    /// Its slot: the extranonce1 it was given.
    pub slot: u8,
    pub state: SessionState,
    /// Its worker name.
    pub worker_name: Option<String>,
    /// Its user agent, cut and escaped.
    pub user_agent: Option<String>,
    /// The target it works for.
    pub target: Option<String>,
    pub difficulty: Option<f64>,
    /// Hashes a second, as shown by its shares when it got the newest job.
    pub hashrate: Option<f64>,
    /// Version bits it may roll, hex.
    pub version_mask: Option<String>,
    /// Shares that met the difficulty they were asked for.
    pub shares: u32,
    /// Submits refused, by us or by a pool.
    pub rejects: u32,
    /// When the last such share came, to a tenth of a second.
    pub last_share_at: Option<Timestamp>,
}

impl SessionHandle {
    /// A handle for a connection that has just been accepted.
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

    pub(crate) fn connected_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.connected_at_ms).expect("made from one")
    }

    /// When its last share came.
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
            target: shown.target.and_then(|target| names.targets.get(usize::from(target)).cloned()),
            difficulty: shown.difficulty(),
            hashrate: shown.work_rate.map(|work_rate| f64::from(work_rate) * HASHES),
            version_mask: shown.version_mask.map(|mask| format!("{:08x}", mask.0)),
            shares: self.tally.shares(),
            rejects: self.tally.rejects(),
            last_share_at: self.last_share_at(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_number: DashMap<u64, Arc<SessionHandle>>,
    user_agents: Mutex<HashSet<Arc<str>>>,
    /// All sessions there have been.
    entered: AtomicU64,
}

/// How many user agents are shared between sessions: a fleet has a handful. Beyond this number each
/// session keeps its own copy.
const USER_AGENTS_MAX: usize = 256;

impl Sessions {
    /// Enters a session; dropping the entry removes it.
    pub(crate) fn enter(self: &Arc<Self>, handle: Arc<SessionHandle>) -> SessionEntry {
        self.by_number.insert(handle.number, handle.clone());
        self.entered.fetch_add(1, Ordering::Relaxed);
        SessionEntry { handle, sessions: self.clone() }
    }

    /// The text of a user agent, shared with other sessions that have it.
    pub(crate) fn user_agent(&self, text: Box<str>) -> Arc<str> {
        let mut known = self.user_agents.lock();
        if let Some(shared) = known.get(&*text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        if known.len() < USER_AGENTS_MAX {
            known.insert(shared.clone());
        }
        shared
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// How many sessions have been entered since the start.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Looks at every session.
    pub(crate) fn each(&self, mut look: impl FnMut(&SessionHandle)) {
        for entry in &self.by_number {
            look(entry.value());
        }
    }

    /// Leaves a signal with every session.
    pub(crate) fn signal_all(&self, signal: Signal) {
        self.each(|session| session.mailbox.signal(signal));
    }

    /// Signals the sessions for which something is due.
    pub(crate) fn signal_due(&self, now_ms: u64) {
        self.each(|session| {
            if session.wake_at_ms.load(Ordering::Relaxed) <= now_ms {
                session.mailbox.signal(Signal::Time);
            }
        });
    }

    /// Returns handles to every session, so that the caller can look at them without blocking
    /// sessions that join and leave.
    pub(crate) fn handles(&self) -> Vec<Arc<SessionHandle>> {
        self.by_number.iter().map(|entry| entry.value().clone()).collect()
    }

    /// All views, by number.
    pub(crate) fn views(&self, names: &ConfiguredNames) -> Vec<SessionView> {
        let mut handles = self.handles();
        handles.sort_unstable_by_key(|handle| handle.number);
        handles.iter().map(|handle| handle.view(names)).collect()
    }
}

/// A session's entry in [`Sessions`].
#[derive(Debug)]
pub(crate) struct SessionEntry {
    pub(crate) handle: Arc<SessionHandle>,
    sessions: Arc<Sessions>,
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        self.sessions.by_number.remove(&self.handle.number);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A handle of a session that does not exist.
    pub(crate) fn handle(number: u64) -> Arc<SessionHandle> {
        let at = Timestamp::from_second(1_800_000_000).expect("a plain instant");
        SessionHandle::new(number, "10.0.0.1:5000".parse().expect("an address"), at, 7, 0)
    }

    /// The filter `?state=` and metrics know a state by its name, answers by what serde makes of it.
    #[test]
    fn a_state_has_one_name() {
        for state in SessionState::ALL {
            assert_eq!(serde_json::to_value(state).expect("plain data"), state.name());
        }
    }

    #[test]
    fn only_sessions_with_something_due_are_told_of_the_time() {
        let sessions = Arc::new(Sessions::default());
        let (early, late, idle) = (handle(1), handle(2), handle(3));
        let _entries = [&early, &late, &idle].map(|handle| sessions.enter(handle.clone()));
        early.wake_at(1000);
        late.wake_at(1001);
        sessions.signal_due(1000);
        assert!(early.mailbox.take().0.has(Signal::Time));
        assert!(
            !late.mailbox.take().0.has(Signal::Time) && !idle.mailbox.take().0.has(Signal::Time)
        );
    }

    #[test]
    fn a_session_that_ends_is_gone_from_the_list() {
        let sessions = Arc::new(Sessions::default());
        let entry = sessions.enter(handle(1));
        entry.handle.shown.lock().target = Some(1);
        let names = ConfiguredNames { targets: vec!["a".into(), "b".into()], servers: vec![] };
        assert_eq!(sessions.views(&names)[0].target.as_deref(), Some("b"));
        drop(entry);
        assert_eq!(sessions.len(), 0);
    }
}
