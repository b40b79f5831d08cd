//! The data plane: carries work from pools to miners and shares back, and moves live miners between
//! pools without a reconnect.
//!
//! A miner keeps its extranonce1 (its *slot*) for the life of its connection; the pool's
//! extranonce1 and a *lane* go into coinb1. So moving a miner to another pool is one write of
//! difficulty and job (modules `placement` and `space`). `session` judges shares, `upstream` keeps
//! pool connections, `route` chooses the target that is mined at, and the switchboard's timeline
//! (`control`) says which machines may work. Everything else moves bytes.

mod api;
#[doc(hidden)]
pub mod bench_support;
mod books;
pub mod config;
mod control;
mod directions;
mod downstream;
mod executor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod label;
mod lane;
mod load;
mod log_limit;
mod machines;
mod mailbox;
mod metrics;
mod outcome;
mod placement;
mod reasons;
mod recall;
mod route;
mod seating;
mod session;
mod sessions;
mod share_log;
#[cfg(test)]
mod simulation;
mod sizes;
mod slot;
mod socket;
mod space;
mod target_selector;
mod tls;
mod upstream;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::clock;
use daemon::state_file::{StateError, StateFile};
use daemon::tasks::Tasks;
use directive::Link;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use stratum::version::VersionMask;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

pub use api::{Listing, Rejects, WorkerView, Workers};
pub use config::Config;
pub use executor::EVENT_INTERVAL;
pub use machines::Hashrate;
pub use metrics::Counts;
pub use sessions::{SessionState, SessionView};
pub use share_log::ShareLogConfig;

use books::Books;
use config::{Tls, Trust};
use control::{Control, Record};
use directions::{Directions, Orders};
use downstream::{Downstream, Service};
use executor::Executor;
use machines::Machines;
use metrics::Metrics;
use placement::Placement;
use route::Route;
use session::{DifficultyRules, Level, SessionRules};
use sessions::{ConfiguredNames, Sessions};
use share_log::ShareLog;
use target_selector::TargetSelector;
use upstream::{Deadlines, Pool, PoolState, Pools};

/// A running proxy. Its tasks end with the [`Tasks`] it was started on.
#[derive(Debug, Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    addrs: Vec<SocketAddr>,
    pools: Arc<Pools>,
    metrics: Arc<Metrics>,
    machines: Arc<Machines>,
    sessions: Arc<Sessions>,
    names: ConfiguredNames,
    active: Mutex<Option<usize>>,
}

/// How often the machines' hashrates are brought up to date.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is taken or not ours.
    #[error("server {name}: cannot listen on {listen}: {source}")]
    Listen { name: String, listen: SocketAddr, source: std::io::Error },
    /// The system gives us no further thread.
    #[error("cannot start a thread for miners: {0}")]
    Thread(#[source] std::io::Error),
    /// The state of the former process cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The share log's folder cannot be used.
    #[error("share log {}: {source}", dir.display())]
    ShareLog { dir: PathBuf, source: std::io::Error },
    /// A target's extranonce2 cannot hold the slot and the miners' bytes.
    #[error(
        "target {target}: extranonce2_size {size} leaves no room for {miner} bytes of the miner and 1 of the slot, together \
         {need}; leave it out, or give it a [[server]] of its own with passthrough = {target:?}, one connection a miner",
        need = miner + 1
    )]
    DoesNotFit {
        target: String,
        /// Its extranonce2_size.
        size: u8,
        /// The miners' extranonce2_size.
        miner: u8,
    },
}

/// A target as people see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetView {
    pub name: String,
    pub address: String,
    /// What its TLS trusts; `None` for a plain connection.
    pub tls: Option<Trust>,
    /// Miners are sent here first.
    pub active: bool,
    /// It has a job.
    pub up: bool,
    /// It answers, but has brought no job for a long time.
    pub quiet: bool,
    /// It has misbehaved: mined at only when there is no other.
    pub quarantined: bool,
    /// Connections with a job.
    pub connections: u32,
    /// Sessions that work for it.
    pub sessions: u32,
    /// Its difficulty at the newest job.
    pub difficulty: Option<f64>,
    /// Length of its extranonce1, in bytes.
    pub extranonce1_size: Option<usize>,
    /// Its extranonce2_size, in bytes.
    pub extranonce2_size: Option<u8>,
    /// Why its last lost connection ended.
    pub last_fault: Option<String>,
}

impl Proxy {
    /// Starts listening and connecting. With a `link`, no machine works until a timeline was heard
    /// (by this process or, if `state_dir` remembers it, a former one); without a link, all
    /// machines work.
    ///
    /// # Errors
    /// When an address cannot be bound, remembered state cannot be read, or a target cannot fit.
    pub async fn start(
        config: Config,
        link: Option<impl Link>,
        state_dir: Option<PathBuf>,
        registry: &mut Registry,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let names: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
        let metrics = Metrics::register(&names, registry);
        let log = match &config.share_log {
            Some(wanted) => {
                let targets = names.iter().map(|&name| name.to_owned()).collect();
                let failed = |source| StartError::ShareLog { dir: wanted.dir.clone(), source };
                Some(
                    ShareLog::open(wanted, &config.name, targets, metrics.clone())
                        .map_err(failed)?,
                )
            }
            None => None,
        };
        let books = Books { metrics: metrics.clone(), log: log.clone() };
        let extranonce2_size = sizes::choose(&config, state_dir.as_deref()).await?;
        let placement = Placement::new(extranonce2_size, rand::random());
        let executor = Arc::new(Executor::default());
        let pools = Arc::new(Pools {
            targets: config
                .targets
                .iter()
                .cloned()
                .enumerate()
                .map(|(index, target)| Pool::new(index, target, config.is_passthrough(index)))
                .collect(),
            placement: placement.clone(),
            books: books.clone(),
            deadlines: Deadlines {
                handshake: config.pool.handshake,
                suspect: config.pool.suspect,
                answer: config.pool.answer,
                quiet: config.pool.quiet,
                job_every: config.pool.job_every,
            },
            changed: Notify::new(),
            refresh_after: config.refresh_after,
            fleet: Arc::default(),
            executor: executor.clone(),
            tasks: tasks.clone(),
        });

        let state = state_dir.map(|dir| Arc::new(StateFile::new(dir.join("proxy.json"))));
        let saved = match (&link, &state) {
            (Some(_), Some(state)) => state.load()?,
            _ => None,
        };
        let (receiver, orders) = control::restore(saved);
        let orders = if link.is_some() { orders } else { Orders::default() };
        let (directions, directed) = watch::channel(Directions {
            usable: [].into(),
            orders: Arc::new(orders),
            release: false,
            seats: 0,
        });
        let directions = Arc::new(directions);

        let mut listeners = Vec::new();
        for (index, server) in config.servers.iter().enumerate() {
            let failed = |source| StartError::Listen {
                name: server.name.clone(),
                listen: server.listen,
                source,
            };
            let listener = downstream::bind(server.listen).map_err(failed)?;
            let rules = SessionRules {
                difficulty: DifficultyRules {
                    start: Level::at_or_below(server.difficulty),
                    min: Level::at_or_above(server.min_difficulty),
                    max: Level::at_or_below(server.max_difficulty),
                    interval: server.vardiff.then_some(server.share_interval.as_secs_f64()),
                    by_user_agent: server.by_user_agent,
                },
                handshake_timeout: config.handshake_timeout,
                ping_every: config.ping_every,
                offer: VersionMask::BIP320,
                extranonce2_size,
                server: u16::try_from(index).unwrap_or(u16::MAX),
                share_log: log.is_some(),
            };
            listeners.push((listener, Arc::new(rules)));
        }
        let addrs =
            listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();

        let machines = Arc::new(Machines::default());
        let sessions = Arc::new(Sessions::default());
        let tracker = TaskTracker::new();
        let downstream = Arc::new(Downstream {
            placement,
            pools: pools.clone(),
            books,
            machines: machines.clone(),
            sessions: sessions.clone(),
            recall: Arc::default(),
            corrections: Arc::default(),
            directions: directed,
            admission: Arc::new(Mutex::new(downstream::admission(config.sessions_max))),
            waiting: 0.into(),
            served: 0.into(),
            next_session: 1.into(),
            cancel: tasks.token(),
            ending: Arc::default(),
            started_at: clock::now(),
            tracker: tracker.clone(),
            tasks: tasks.clone(),
            shutdown_grace: config.shutdown_grace,
        });
        let shared = Arc::new(Shared {
            addrs,
            pools: pools.clone(),
            metrics: metrics.clone(),
            machines: machines.clone(),
            sessions,
            names: ConfiguredNames {
                targets: config.targets.iter().map(|target| target.name.clone()).collect(),
                servers: config.servers.iter().map(|server| server.name.clone()).collect(),
            },
            active: Mutex::new(None),
        });

        executor.start_helpers(config.threads.saturating_sub(1)).map_err(StartError::Thread)?;

        // Pool connections must outlive the last session that sends them shares.
        let pools_cancel = tokio_util::sync::CancellationToken::new();
        let mut upstreams = Vec::new();
        let own = |index: usize| config.is_passthrough(index);
        for pool in &pools.targets {
            if pool.config.tls.as_ref().is_some_and(|tls| tls.trust() == Trust::Anybody) {
                error!(upstream = %pool.config.name, "tls_verify is off: anybody in between can take this hashrate");
            }
            // A passthrough target gets a connection from each miner instead.
            for index in 0..if own(pool.index) { 0 } else { pool.config.max_connections } {
                let name = format!("upstream {} {index}", pool.config.name);
                let task = upstream::run(pools.clone(), pool.clone(), index, pools_cancel.clone());
                upstreams.push(tasks.spawn(name, task));
            }
        }
        for (server, (listener, rules)) in config.servers.iter().zip(listeners) {
            let passthrough =
                server.passthrough.and_then(|target| pools.targets.get(target).cloned());
            let listen = listener.local_addr().map(tracing::field::display).ok();
            let passthrough_to = passthrough.as_ref().map(|pool| pool.config.name.as_str());
            info!(
                server = %server.name,
                listen,
                extranonce2_size,
                passthrough = passthrough_to,
                "listening"
            );
            let name = format!("listener {}", server.name);
            let service = Service { rules, passthrough };
            tasks.spawn(name, downstream::listen(listener, service, downstream.clone()));
        }
        let route = Route::new(config.targets.len(), config.failback_after, clock::now());
        tasks.spawn("executor", executor.worker());
        tasks.spawn("signaller", downstream::signaller::run(downstream.clone()));
        let selector = TargetSelector::new(
            route,
            config.no_upstream,
            shared.clone(),
            downstream,
            directions.clone(),
        );
        tasks.spawn("target selector", selector.run(tasks.token()));
        let (folded, ended) = (machines.clone(), tasks.token());
        tasks.spawn("rates", async move {
            while ended.run_until_cancelled(tokio::time::sleep(FOLD_EVERY)).await.is_some() {
                folded.fold(clock::now());
                folded.forget(clock::wall());
            }
        });
        let held = directions.clone();
        if let Some(link) = link {
            let control = Control {
                name: config.name,
                record: Record::new(state, &receiver),
                reported: receiver.number(),
                receiver,
                directions,
                machines,
                metrics,
                report_every: config.report_every,
                stepped: false,
                refused: None,
                saved_at: None,
                unwritten: false,
                starved: control::Starved::default(),
            };
            tasks.spawn("control", control.run(link, tasks.token()));
        }
        let ending = tasks.token();
        tasks.spawn("sessions", async move {
            // The end of the directions ends the sessions, so it must come after their last answer.
            let _held = held;
            ending.cancelled().await;
            tracker.close();
            tracker.wait().await;
            // No session is left: the helpers end too.
            executor.close();
            pools_cancel.cancel();
            // By then the last outcomes have been counted.
            for upstream in upstreams {
                let _ = upstream.await;
            }
            if let Some(log) = log {
                log.close().await;
            }
        });
        Ok(Self { shared })
    }

    /// Where miners connect to, in the order of the configuration.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.shared.addrs
    }

    /// How all submits so far ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.metrics.counts()
    }

    /// The targets as they are just now.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetView> {
        self.shared.targets()
    }

    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        self.shared.sessions.views(&self.shared.names)
    }

    /// Routes that show all this.
    pub fn router(&self) -> axum::Router {
        api::router(self.shared.clone())
    }

    /// Whether miners have work, with details for people.
    #[must_use]
    pub fn readiness(&self) -> (bool, serde_json::Value) {
        let targets = self.targets();
        let up = targets.iter().any(|target| target.up);
        (up, serde_json::json!({ "targets": targets, "sessions": self.shared.sessions.len() }))
    }
}

impl Shared {
    fn targets(&self) -> Vec<TargetView> {
        let active = *self.active.lock();
        self.pools
            .targets
            .iter()
            .map(|pool| {
                let seats = self.pools.placement.target_state(pool.index);
                let health = self.pools.health(pool);
                let PoolState {
                    difficulty, extranonce1_size, extranonce2_size, last_fault, ..
                } = pool.state();
                let own = pool.own_connections();
                TargetView {
                    name: pool.config.name.clone(),
                    address: pool.config.at().to_string(),
                    tls: pool.config.tls.as_ref().map(Tls::trust),
                    active: active == Some(pool.index),
                    up: health.ready || own.is_some_and(|own| own.works),
                    quiet: health.quiet,
                    quarantined: health.quarantined,
                    connections: own.map_or(seats.ready, |own| own.count),
                    sessions: own.map_or(seats.seated, |own| own.count),
                    difficulty,
                    extranonce1_size,
                    extranonce2_size,
                    last_fault,
                }
            })
            .collect()
    }
}
