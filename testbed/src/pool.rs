//! The test pool: a Stratum V1 server that judges every share with its own arithmetic, and
//! misbehaves on request.
//!
//! A [`TestPool`] listens on a port of its own; its [`Counts`] are the pool's side of the books.
//! What it does wrong is chosen by [`PoolConfig`] at the start and by its methods, or [`Command`]s,
//! while it runs. It knows nothing of lanes, leases or proxies: every client is a miner to it.

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

/// How much a pool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Normal,
    /// It answers, but brings no job.
    Quiet,
    /// Nothing at all; TCP stays up, new connections are taken.
    Silent,
}

/// How true its answers to submits are. The counts are true in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdicts {
    Truthful,
    /// A refusal for every submit, unjudged.
    RejectAll,
    /// `true` for every submit.
    AcceptAll,
    /// An answer with a wrong id for every submit.
    WrongIds,
}

/// Why a test pool could not do as told.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Its settings cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        /// What the system says.
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
    /// [`PoolError`] for settings that cannot work and addresses that cannot be listened on.
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

    /// Returns the latest lines of a connection, open or closed.
    #[must_use]
    pub fn wire(&self, id: ConnectionId) -> Vec<(Direction, String)> {
        self.hub.read(|core| core.wire(id))
    }

    /// Waits until the counts are as wanted, and returns them.
    ///
    /// # Errors
    /// [`NotInTime`] with the counts as they were last.
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

    /// Takes connections again, on the same address, with the jobs and counts it had.
    pub async fn come_back(&self) {
        self.hub.set_alive(true).await;
    }

    /// Drops every connection; new ones are taken.
    pub fn drop_connections(&self) {
        self.hub.act(|core, _| core.close_all());
    }

    /// Changes how much it says. Becoming [`Mood::Normal`] again brings a clean job.
    pub fn set_mood(&self, mood: Mood) {
        self.hub.act(|core, now| core.set_mood(mood, now));
    }

    /// Changes how true its answers are.
    pub fn set_verdicts(&self, verdicts: Verdicts) {
        self.hub.act(|core, _| core.verdicts = verdicts);
    }

    /// Answers only after a while, from now on; jobs are not delayed.
    pub fn set_answer_delay(&self, delay: Duration) {
        self.hub.act(|core, _| core.answer_delay = delay);
    }

    /// Tells every connection a new difficulty; it holds for jobs from now on.
    ///
    /// # Errors
    /// [`ConfigError::Difficulty`].
    pub fn set_difficulty(&self, difficulty: f64) -> Result<(), ConfigError> {
        self.hub.act(|core, _| core.set_difficulty(difficulty))
    }

    /// Gives every connection a new extranonce1 (`None`: one of its own each) and size, then a
    /// clean job on it. Jobs from before are retired.
    ///
    /// # Errors
    /// [`ConfigError`] for lengths no client takes.
    pub fn set_extranonce(&self, value: Option<&[u8]>, size: usize) -> Result<(), ConfigError> {
        self.hub.act(|core, now| core.set_extranonce(value, size, now))
    }

    /// Changes the version mask at once; `None` forbids rolling. Connections that configured are
    /// told.
    pub fn set_version_mask(&self, mask: Option<u32>) {
        self.hub.act(|core, _| core.set_version_mask(mask));
    }

    /// Makes a job now. A clean one is on a new block.
    pub fn new_job(&self, clean: bool) {
        self.hub.act(|core, now| core.new_job(clean, now));
    }

    /// Makes the next jobs pay this key hash.
    pub fn set_payee(&self, payee: [u8; 20]) {
        self.hub.act(|core, _| core.payee = payee);
    }

    /// Changes who it says it is to new connections; `None` speaks plainly.
    pub fn set_tls(&self, identity: Option<Identity>) {
        self.hub.set_handshake(identity.map_or(Handshake::None, Handshake::Tls));
    }

    /// Meets new connections with silence.
    pub fn stall_handshakes(&self) {
        self.hub.set_handshake(Handshake::Stalled);
    }

    /// Makes the next jobs carry the latest job's id, with other contents.
    pub fn repeat_job_ids(&self, repeat: bool) {
        self.hub.act(|core, _| core.repeat_job_ids = repeat);
    }

    /// Gives a new connection the extranonce1 of the one that closed last.
    pub fn reuse_extranonce1(&self, reuse: bool) {
        self.hub.act(|core, _| core.reuse_extranonce1 = reuse);
    }

    /// Tells every connection to go to `host`; an empty host sends `client.reconnect []`.
    pub fn send_reconnect(&self, host: &str, port: u16, wait_secs: u32) {
        self.hub.act(|core, _| core.reconnect(host, port, wait_secs));
    }

    /// Shows every connection a text.
    pub fn show_message(&self, text: &str) {
        self.hub.act(|core, _| core.show_message(text));
    }

    /// Sends a line as it is, to one connection or to all.
    pub fn send_raw(&self, to: Option<ConnectionId>, line: &str) {
        self.hub.act(|core, _| match to {
            Some(id) => core.send(id, line.into()),
            None => core.send_all(line),
        });
    }

    /// Does what a control line says.
    ///
    /// # Errors
    /// [`ConfigError`] for values that cannot work.
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
