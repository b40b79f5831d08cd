//! The test pool: a Stratum V1 server that judges every share with its own arithmetic, and
//! misbehaves on request.
//!
//! A [`TestPool`] listens on a port of its own. Its [`Counts`] are compared with those of the proxy
//! and the miners. What it does wrong is set by [`PoolConfig`] at the start, and by its methods or
//! [`Command`]s while it runs. It knows nothing of lanes, leases or proxies: every client is a
//! miner to it.

mod command;
mod config;
mod core;
mod counts;
mod http;
mod job;
mod judge;
mod serve;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use self::command::{Command, CommandError};
pub use self::config::{
    Authorize, ConfigError, DIFFICULTY_MAX, DIFFICULTY_MIN, DifficultyOrder, ErrorForm,
    Extranonce1, ExtranonceSubscribe, FirstJob, Like, PoolConfig, Rolling, SubscribeReply,
};
pub use self::counts::{ConnectionCounts, Counts, SubmitOutcome, Tally};
use self::serve::{Handshake, Hub};
use crate::tls::Identity;
use crate::wait;
pub use crate::wait::NotInTime;
use crate::wire::Direction;

/// Numbers a pool's connections in the order they came, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which messages a pool sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Normal,
    /// The pool answers requests, but sends no job.
    Quiet,
    /// The pool sends nothing. Connections stay open, and new ones are accepted.
    Silent,
}

/// How a pool answers submits. The pool's counts are true in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdicts {
    Truthful,
    /// The pool refuses every submit without judging it.
    RejectAll,
    /// The pool answers `true` to every submit.
    AcceptAll,
    /// The pool answers every submit with a wrong id.
    WrongIds,
}

/// Why a test pool could not start or carry out a command.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The pool's settings are invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system does not let the pool listen on its address.
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// A running test pool. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct TestPool {
    hub: Arc<Hub>,
    addr: SocketAddr,
}

impl TestPool {
    /// Starts a pool.
    ///
    /// # Errors
    /// [`PoolError`] if the settings are invalid or the address cannot be used.
    pub async fn start(config: PoolConfig) -> Result<Self, PoolError> {
        config.check()?;
        let wanted = config.listen;
        let failed = |source| PoolError::Listen { addr: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self { hub: Hub::start(config, listener, addr), addr })
    }

    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns everything counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.hub.read(|core| core.counts())
    }

    /// Returns the connections, closed ones included, in the order they came.
    #[must_use]
    pub fn connections(&self) -> Vec<(ConnectionId, ConnectionCounts)> {
        self.counts()
            .connections
            .into_iter()
            .map(|(id, counts)| (ConnectionId(id), counts))
            .collect()
    }

    /// Returns the newest lines of a connection, open or closed.
    #[must_use]
    pub fn wire(&self, id: ConnectionId) -> Vec<(Direction, String)> {
        self.hub.read(|core| core.wire(id))
    }

    /// Waits until `wanted` is true of the counts, and returns them.
    ///
    /// # Errors
    /// [`NotInTime`] with the last counts.
    pub async fn until(
        &self,
        limit: Duration,
        wanted: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, NotInTime> {
        wait::until(self.hub.changes(), limit, || self.counts(), wanted).await
    }

    /// Drops every connection and refuses new ones until [`Self::come_back`].
    pub async fn die(&self) {
        self.hub.set_alive(false).await;
    }

    /// Accepts connections again, on the same address. The jobs and counts are kept.
    pub async fn come_back(&self) {
        self.hub.set_alive(true).await;
    }

    /// Closes every connection; new ones are accepted.
    pub fn drop_connections(&self) {
        self.hub.act(|core, _| core.close_all());
    }

    /// Changes which messages the pool sends. A change to [`Mood::Normal`] makes a clean job.
    pub fn set_mood(&self, mood: Mood) {
        self.hub.act(|core, now| core.set_mood(mood, now));
    }

    /// Changes how the pool answers submits.
    pub fn set_verdicts(&self, verdicts: Verdicts) {
        self.hub.act(|core, _| core.verdicts = verdicts);
    }

    /// Delays every answer from now on; jobs are not delayed.
    pub fn set_answer_delay(&self, delay: Duration) {
        self.hub.act(|core, _| core.answer_delay = delay);
    }

    /// Sends every connection a new difficulty, which applies to jobs from now on.
    ///
    /// # Errors
    /// [`ConfigError::Difficulty`].
    pub fn set_difficulty(&self, difficulty: f64) -> Result<(), ConfigError> {
        self.hub.act(|core, _| core.set_difficulty(difficulty))
    }

    /// Gives every connection a new extranonce1 (`None`: each one its own) and size, and then a
    /// clean job with it. Earlier jobs are retired.
    ///
    /// # Errors
    /// [`ConfigError`] for lengths that no client accepts.
    pub fn set_extranonce(&self, value: Option<&[u8]>, size: usize) -> Result<(), ConfigError> {
        self.hub.act(|core, now| core.set_extranonce(value, size, now))
    }

    /// Changes the version mask at once; `None` forbids rolling. Connections that sent a configure
    /// are notified.
    pub fn set_version_mask(&self, mask: Option<u32>) {
        self.hub.act(|core, _| core.set_version_mask(mask));
    }

    /// Makes a job now. A clean one is for a new block.
    pub fn new_job(&self, clean: bool) {
        self.hub.act(|core, now| core.new_job(clean, now));
    }

    /// Sets the key hash that the coinbase of later jobs pays.
    pub fn set_payee(&self, payee: [u8; 20]) {
        self.hub.act(|core, _| core.payee = payee);
    }

    /// Changes the TLS identity for new connections; `None` switches TLS off.
    pub fn set_tls(&self, identity: Option<Identity>) {
        self.hub.set_handshake(identity.map_or(Handshake::None, Handshake::Tls));
    }

    /// Makes the pool stop answering new connections.
    pub fn stall_handshakes(&self) {
        self.hub.set_handshake(Handshake::Stalled);
    }

    /// Gives later jobs the id of the latest job, with other contents.
    pub fn repeat_job_ids(&self, repeat: bool) {
        self.hub.act(|core, _| core.repeat_job_ids = repeat);
    }

    /// Gives a new connection the extranonce1 of the connection that closed last.
    pub fn reuse_extranonce1(&self, reuse: bool) {
        self.hub.act(|core, _| core.reuse_extranonce1 = reuse);
    }

    /// Sends every connection a `client.reconnect` to `host`; an empty host sends `client.reconnect
    /// []`.
    pub fn send_reconnect(&self, host: &str, port: u16, wait_secs: u32) {
        self.hub.act(|core, _| core.reconnect(host, port, wait_secs));
    }

    /// Sends every connection a `client.show_message`.
    pub fn show_message(&self, text: &str) {
        self.hub.act(|core, _| core.show_message(text));
    }

    /// Sends a line unchanged, to one connection or to all.
    pub fn send_raw(&self, to: Option<ConnectionId>, line: &str) {
        self.hub.act(|core, _| match to {
            Some(id) => core.send(id, line.into()),
            None => core.send_all(line),
        });
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// [`ConfigError`] for invalid values.
    pub async fn perform(&self, command: Command) -> Result<(), ConfigError> {
        match command {
            Command::Die => self.die().await,
            Command::Live => self.come_back().await,
            Command::Drop => self.drop_connections(),
            Command::Mood(mood) => self.set_mood(mood),
            Command::Verdicts(verdicts) => self.set_verdicts(verdicts),
            Command::Delay(delay) => self.set_answer_delay(delay),
            Command::Difficulty(difficulty) => self.set_difficulty(difficulty)?,
            Command::Extranonce(value, size) => self.set_extranonce(value.as_deref(), size)?,
            Command::VersionMask(mask) => self.set_version_mask(mask),
            Command::Job { clean } => self.new_job(clean),
            Command::RepeatJobIds(repeat) => self.repeat_job_ids(repeat),
            Command::ReuseExtranonce1(reuse) => self.reuse_extranonce1(reuse),
            Command::Reconnect(None) => self.send_reconnect("", 0, 0),
            Command::Reconnect(Some((host, port, wait))) => self.send_reconnect(&host, port, wait),
            Command::Message(text) => self.show_message(&text),
            Command::Raw(line) => self.send_raw(None, &line),
        }
        Ok(())
    }

    /// Serves `GET /counts` and `POST /control` (command lines) as plain HTTP until the pool ends.
    /// Returns the address.
    ///
    /// # Errors
    /// [`PoolError::Listen`].
    pub async fn serve_http(self: &Arc<Self>, addr: SocketAddr) -> Result<SocketAddr, PoolError> {
        http::serve(self, addr).await
    }

    /// Closes the port and every connection, and waits until they are closed.
    pub async fn stop(&self) {
        self.hub.stop().await;
    }
}

impl Drop for TestPool {
    fn drop(&mut self) {
        self.hub.cancel();
    }
}
