//! The proxy's configuration, with the keys of Braiins Farm Proxy: `[[server]]` is a listener,
//! `[[target]]` a pool to mine at. The order of targets is their priority.
//!
//! A [`Config`] is always valid. [`read()`] makes one from a settings file, and reports every
//! mistake with its place.

mod address;
mod between;
mod read;
mod target;
mod tls;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use stratum::difficulty::Difficulty;

pub use address::HostPort;
pub use between::Taken;
pub use read::read;
pub use target::{OnPayoutChange, Target, TargetSummary};

pub use crate::tls::{Pin, Tls, TlsError, Trust};

use crate::share_log::ShareLogConfig;
use crate::target::{PerTarget, TargetId};

/// The complete configuration of a proxy.
#[derive(Debug, Clone)]
pub struct Config {
    /// The proxy's name in reports.
    pub name: String,
    /// Listeners, at least one.
    pub servers: Vec<Server>,
    /// Pools, in order of priority, at least one.
    pub targets: PerTarget<Target>,
    /// The miners' extranonce2_size; `None` lets the pools' sizes decide at start.
    pub extranonce2_size: Option<u8>,
    /// How long a better target must have had jobs without a break before miners return to it.
    pub failback_after: Duration,
    /// What happens when no target can be mined at.
    pub no_upstream: NoUpstream,
    /// Maximum number of sessions at a time; further connections are refused.
    pub sessions_max: usize,
    /// Number of threads that serve miners. The first is the thread of the runtime that the proxy
    /// is started on, and serves pools as well. The others help while many sessions have something
    /// to do at once.
    pub threads: usize,
    /// A miner that has not subscribed and authorized within this time is closed.
    pub handshake_timeout: Duration,
    /// Each miner is sent a line at least this often; if there is nothing else, a ping.
    pub ping_every: Duration,
    /// While a pool sends no new job, miners get the current one again this often, on a different
    /// lane, so that they search something new.
    pub refresh_after: Duration,
    /// How often sessions are reported to the switchboard.
    pub report_every: Duration,
    /// How long a shutdown waits for the answers to shares in flight.
    pub shutdown_grace: Duration,
    /// When a pool counts as suspect, silent or quiet.
    pub pool: PoolPatience,
    /// The share log, if one is wanted.
    pub share_log: Option<ShareLogConfig>,
}

/// How long a pool may take to answer, or to send a job, before the proxy reacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPatience {
    /// Limit for the handshake, and for a probe (another connection that asks whether the pool
    /// still answers).
    pub handshake: Duration,
    /// When the answer to a share takes longer, further local shares are marked `at_risk`.
    pub suspect: Duration,
    /// When the answer to a share takes longer, the share is counted `unresolved`, and the
    /// connection ends if the pool has answered nothing else.
    pub answer: Duration,
    /// When the next job takes longer, a probe asks whether the pool still answers.
    pub quiet: Duration,
    /// Shortest time between two jobs that are passed on. A job that comes sooner waits, and is
    /// dropped if a newer one comes meanwhile. Zero passes on all of them.
    pub job_every: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub name: String,
    pub listen: SocketAddr,
    /// Start difficulty of miners about which nothing better is known, a power of two.
    pub difficulty: Difficulty,
    /// Lowest difficulty that is advertised, a power of two.
    pub min_difficulty: Difficulty,
    /// Highest difficulty that is advertised, a power of two.
    pub max_difficulty: Difficulty,
    /// Whether a miner's difficulty is adjusted to its hashrate.
    pub vardiff: bool,
    /// With `vardiff`, the desired average time between two shares of a miner.
    pub share_interval: Duration,
    /// Whether a known user agent overrides `difficulty` as the start difficulty.
    pub by_user_agent: bool,
    /// The target to which each miner of this listener gets its own connection. With `None`, the
    /// miners share the connections of the targets that are not used like this.
    pub passthrough: Option<TargetId>,
}

impl Server {
    /// A listener with all settings but name and address at their defaults.
    ///
    /// The share interval is 10 s: then a machine that stops is noticed within a minute (six missing
    /// shares happen by chance once in 400 minutes), and 10,000 machines send 1,000 shares a second.
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

/// What to do with miners when no target can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoUpstream {
    Hold,
    /// Miners that are not curtailed are closed after this time, so that they can use their own
    /// backup pools.
    ReleaseAfter(Duration),
}

impl Config {
    /// A configuration with all settings but servers and targets at their defaults.
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
