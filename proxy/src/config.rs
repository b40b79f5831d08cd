//! The proxy's configuration, in the words of Braiins Farm Proxy: `[[server]]` is a listener,
//! `[[target]]` a pool to mine at. The order of targets is their priority.
//!
//! A [`Config`] cannot be wrong; [`read()`] makes one from a settings file and reports every mistake
//! with its place.

mod address;
mod between;
mod read;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use daemon::settings::Secret;
use stratum::difficulty::Difficulty;

pub use address::HostPort;
pub use between::Taken;
pub use read::read;

pub use crate::tls::{Pin, Tls, TlsError, Trust};

use crate::share_log::ShareLogConfig;
use crate::target::{PerTarget, TargetId, TargetUse};

/// The complete configuration of a proxy.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in reports.
    pub name: String,
    /// Listeners, at least one.
    pub servers: Vec<Server>,
    /// Pools, in order of priority, at least one.
    pub targets: PerTarget<Target>,
    /// The miners' extranonce2_size; `None` lets the pools' sizes decide at start.
    pub extranonce2_size: Option<u8>,
    /// How long a better target must have held before it is returned to.
    pub failback_after: Duration,
    /// What happens when no target can be mined at.
    pub no_upstream: NoUpstream,
    /// Most sessions at a time; further ones are refused.
    pub sessions_max: usize,
    /// Threads that serve miners: one always, which serves pools as well, the others when there is
    /// much to do at once. The first is of the runtime that the proxy is started on.
    pub threads: usize,
    /// A miner that has not subscribed and authorized by then is closed.
    pub handshake_timeout: Duration,
    /// Each miner gets a line at least this often.
    pub ping_every: Duration,
    /// Miners get fresh work at least this often while a pool brings none.
    pub refresh_after: Duration,
    /// How often the switchboard hears of sessions.
    pub report_every: Duration,
    /// How long shares in flight are waited for at shutdown.
    pub shutdown_grace: Duration,
    /// When a pool counts as suspect, silent or quiet.
    pub pool: PoolPatience,
    /// The share log, if one is wanted.
    pub share_log: Option<ShareLogConfig>,
}

/// How long pools may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPatience {
    /// For the handshake, and for a probe.
    pub handshake: Duration,
    /// For a share's answer, before further local shares are marked `at_risk`.
    pub suspect: Duration,
    /// For a share's answer, before it is unresolved and a pool that answers nothing is left.
    pub answer: Duration,
    /// For the next job, before another connection asks whether the pool lives.
    pub quiet: Duration,
    /// Jobs that come faster are held, the newest replacing the one before. Zero holds none.
    pub job_every: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub name: String,
    pub listen: SocketAddr,
    /// Start difficulty of miners about which nothing better is known, a power of two.
    pub difficulty: Difficulty,
    /// Never advertise less, a power of two.
    pub min_difficulty: Difficulty,
    /// Never advertise more, a power of two.
    pub max_difficulty: Difficulty,
    /// Whether difficulties follow the miners' speed.
    pub vardiff: bool,
    /// How often a miner should find a share then.
    pub share_interval: Duration,
    /// Whether a known user agent overrides `difficulty` as the start difficulty.
    pub by_user_agent: bool,
    /// The target to which each of its miners has a connection of its own; `None` shares the
    /// connections of all other targets.
    pub passthrough: Option<TargetId>,
}

impl Server {
    /// A listener with everything but its address at its default.
    ///
    /// The share interval: a machine that stops is known to have stopped within a minute (six
    /// shares missing happen by chance once in 400 minutes), and 10,000 machines bring 1,000 shares
    /// a second.
    #[must_use]
    pub fn new(name: &str, listen: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            listen,
            difficulty: Difficulty::new(65_536.0).unwrap_or(Difficulty::ONE),
            min_difficulty: Difficulty::ONE,
            max_difficulty: Difficulty::CEILING,
            vardiff: true,
            share_interval: Duration::from_secs(10),
            by_user_agent: true,
            passthrough: None,
        }
    }
}

/// A pool to mine at.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// Our user name there.
    pub user: String,
    /// The password, often `x`.
    pub password: Secret,
    /// The user agent that we send: DATUM-like pools choose the size of the coinbase by it.
    pub user_agent: String,
    /// Its extranonce2_size, if the operator knows it.
    pub extranonce2_size: Option<u8>,
    /// Difficulty assumed until the pool says one.
    pub start_difficulty: Difficulty,
    /// Difficulty asked of it; `None` asks for what suits the fleet.
    pub suggest_difficulty: Option<Difficulty>,
    /// The number of shares a second that it should see; we ask for the difficulty that leads to
    /// it.
    pub shares_per_sec: f64,
    /// Most shares a second: while its difficulty would let more through, miners are held above it.
    pub shares_per_sec_max: f64,
    /// How long at most.
    pub hold_max: Duration,
    /// Most connections to it. More than one is used only where its extranonce2 has no lane bytes.
    pub max_connections: u32,
    /// How it is reached by TLS; `None` is plain. There is no way from the one to the other.
    pub tls: Option<Tls>,
    /// Where else it may send us by `client.reconnect`.
    pub reconnect_hosts: Vec<HostPort>,
    /// What happens when its jobs begin to pay somebody else.
    pub on_payout_change: OnPayoutChange,
}

/// What happens when a pool's jobs begin to pay somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPayoutChange {
    /// An alarm; the new payees are known from then on.
    Alarm,
    /// An alarm, and another target is mined at if there is one.
    FailOver,
    /// Nothing: for pools whose coinbase pays its miners.
    Ignore,
}

/// What happens to miners when no target can be mined at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoUpstream {
    Hold,
    /// Those that are not curtailed are closed after this time, to use their own backup pools.
    ReleaseAfter(Duration),
}

impl Target {
    /// A target with everything but its address at its default.
    #[must_use]
    pub fn new(name: &str, host: &str, port: u16, user: &str) -> Self {
        Self {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            password: Secret::new("x"),
            user_agent: USER_AGENT.to_owned(),
            extranonce2_size: None,
            start_difficulty: Difficulty::ONE,
            suggest_difficulty: None,
            shares_per_sec: 5.0,
            shares_per_sec_max: 1000.0,
            hold_max: Duration::from_secs(300),
            max_connections: 64,
            tls: None,
            reconnect_hosts: Vec::new(),
            on_payout_change: OnPayoutChange::Alarm,
        }
    }

    #[must_use]
    pub fn at(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }
}

impl Config {
    /// How this target is used.
    #[must_use]
    pub fn use_of(&self, target: TargetId) -> TargetUse {
        TargetUse::decide(self.servers.iter().any(|server| server.passthrough == Some(target)))
    }

    /// A configuration with everything but servers and targets at its default.
    #[must_use]
    pub fn new(servers: Vec<Server>, targets: Vec<Target>) -> Self {
        Self {
            name: "proxy".to_owned(),
            servers,
            targets: targets.into(),
            extranonce2_size: None,
            failback_after: Duration::from_secs(120),
            no_upstream: NoUpstream::ReleaseAfter(Duration::from_secs(120)),
            sessions_max: 10_000,
            threads: 1,
            handshake_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            refresh_after: Duration::from_secs(60),
            report_every: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(5),
            pool: PoolPatience::default(),
            share_log: None,
        }
    }
}

impl Default for PoolPatience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(20),
            suspect: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            quiet: Duration::from_secs(120),
            job_every: Duration::from_millis(200),
        }
    }
}

/// The user agent that we send, unless a target has its own. Pools that choose the size of their
/// coinbase by the user agent treat an unknown one as an old machine, which is what an S19 behind
/// us needs.
const USER_AGENT: &str = concat!("tieline/", env!("CARGO_PKG_VERSION"));
