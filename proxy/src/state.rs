//! What a proxy has once, whatever pools a miner's work comes from: the books, the lists of sessions
//! and machines, admission, and what runs and ends the sessions.
//!
//! What there is for each set of pools is in [`crate::upstream::PoolSet`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use daemon::tasks::Tasks;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::ConnectionAdmission;
use crate::books::Books;
use crate::config::{Config, PoolPatience};
use crate::executor::Executor;
use crate::handle::ConfiguredNames;
use crate::log_limit::LogLimit;
use crate::machines::Machines;
use crate::reasons::Correction;
use crate::recall::Recall;
use crate::sessions::Sessions;

/// The state that all sessions and pool connections of a proxy share.
#[derive(Debug)]
pub(crate) struct ProxyState {
    pub(crate) books: Books,
    pub(crate) names: ConfiguredNames,
    pub(crate) machines: Arc<Machines>,
    pub(crate) sessions: Arc<Sessions>,
    /// The number of the next session.
    pub(crate) next_session: AtomicU64,
    /// Work rates of machines that have left.
    pub(crate) recall: Mutex<Recall>,
    /// Limits the log lines about miners whose shares are all bad.
    pub(crate) corrections: Mutex<LogLimit<Correction>>,
    pub(crate) admission: Mutex<ConnectionAdmission>,
    /// Runs the sessions.
    pub(crate) executor: Arc<Executor>,
    /// Counts the sessions that have not ended, so that the shutdown can wait for them.
    pub(crate) tracker: TaskTracker,
    /// Counts the panics of sessions and connections. There are too many sessions to register each
    /// by name.
    pub(crate) tasks: Tasks,
    /// Cancelled when the proxy shuts down.
    pub(crate) cancel: CancellationToken,
    /// Set when the proxy shuts down: sessions get the answers that are owed to them, and end.
    pub(crate) ending: AtomicBool,
    /// How long a session may wait at shutdown for the answers that are owed to it.
    pub(crate) shutdown_grace: Duration,
    pub(crate) started_at: Instant,
    pub(crate) patience: PoolPatience,
    /// A connection whose pool brings no job for this long moves its sessions to fresh lanes.
    pub(crate) refresh_after: Duration,
}

impl ProxyState {
    pub(crate) fn new(config: &Config, books: Books, tasks: &Tasks, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            books,
            names: ConfiguredNames {
                targets: config.targets.map(|_, target| target.name.clone()),
                servers: config.servers.iter().map(|server| server.name.clone()).collect(),
            },
            machines: Arc::default(),
            sessions: Arc::default(),
            next_session: 1.into(),
            recall: Mutex::default(),
            corrections: Mutex::default(),
            admission: Mutex::new(ConnectionAdmission::new(config.sessions_max)),
            executor: Arc::default(),
            tracker: TaskTracker::new(),
            tasks: tasks.clone(),
            cancel: tasks.token(),
            ending: AtomicBool::new(false),
            shutdown_grace: config.shutdown_grace,
            started_at: now,
            patience: config.pool.clone(),
            refresh_after: config.refresh_after,
        })
    }

    /// Converts an instant to milliseconds since the proxy started.
    pub(crate) fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX)
    }
}
