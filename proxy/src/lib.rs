//! The data plane: carries work from pools to miners and shares back, and moves live miners between
//! pools without a reconnect.
//!
//! A miner keeps its extranonce1 (its *slot*) for the life of its connection; the pool's
//! extranonce1 and a *lane* go into coinb1. So moving a miner to another pool is one write of
//! difficulty and job (modules `placement` and `space`). `session` judges shares, `upstream` keeps
//! pool connections, `route` chooses the target that is mined at, and the switchboard's timeline
//! (`control`) says which machines may work. Everything else moves bytes.

mod admission;
mod api;
#[doc(hidden)]
pub mod bench_support;
mod books;
pub mod config;
mod control;
mod directions;
mod downstream;
mod ends;
mod error;
mod executor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handle;
mod histogram;
mod label;
mod lane;
mod level;
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
mod series;
mod session;
mod sessions;
mod share_log;
#[cfg(test)]
mod simulation;
mod sizes;
mod slot;
mod socket;
mod space;
mod state;
mod target;
mod target_metrics;
mod target_selector;
mod target_view;
mod tls;
mod upstream;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::clock;
use daemon::state_file::StateFile;
use daemon::tasks::Tasks;
use directive::Link;
use prometheus_client::registry::Registry;
use stratum::version::VersionMask;
use tokio::sync::watch;
use tracing::{error, info};

pub use api::{Listing, Rejects, WorkerView, Workers};
pub use config::Config;
pub use error::StartError;
pub use executor::EVENT_INTERVAL;
pub use handle::{SessionState, SessionView};
pub use machines::Hashrate;
pub use metrics::Counts;
pub use share_log::ShareLogConfig;
pub use target::{PerTarget, TargetId, TargetUse};
pub use target_view::TargetView;

use books::Books;
use config::Trust;
use control::{Control, Record};
use directions::{Directions, Orders};
use downstream::Service;
use level::Level;
use metrics::Metrics;
use placement::Placement;
use route::Route;
use series::TargetLabels;
use session::{DifficultyRules, SessionRules};
use share_log::ShareLog;
use state::ProxyState;
use target_selector::TargetSelector;
use upstream::{Pool, PoolSet};

/// A running proxy. Its tasks end with the [`Tasks`] it was started on.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it listens.
    addrs: Arc<[SocketAddr]>,
    pools: Arc<PoolSet>,
}

/// How often the machines' hashrates are brought up to date.
const FOLD_EVERY: Duration = Duration::from_secs(5);

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
        let names = config.targets.map(|_, target| target.name.clone());
        let labels = config.targets.map(|id, target| (target.name.clone(), config.use_of(id)));
        let metrics = Metrics::register(&TargetLabels::new(&labels), registry);
        let log = match &config.share_log {
            Some(wanted) => {
                let failed = |source| StartError::ShareLog { dir: wanted.dir.clone(), source };
                Some(
                    ShareLog::open(wanted, &config.name, names.clone(), metrics.share_log.clone())
                        .map_err(failed)?,
                )
            }
            None => None,
        };
        let books = Books { metrics: metrics.clone(), log: log.clone() };
        let extranonce2_size = sizes::choose(&config, state_dir.as_deref()).await?;
        let proxy = ProxyState::new(&config, books, tasks, clock::now());

        let state = state_dir.map(|dir| Arc::new(StateFile::new(dir.join("proxy.json"))));
        let saved = match (&link, &state) {
            (Some(_), Some(state)) => state.load()?,
            _ => None,
        };
        let (receiver, orders) = control::restore(saved);
        let orders = if link.is_some() { orders } else { Orders::default() };
        let orders = Arc::new(orders);
        let (directions, directed) =
            watch::channel(Directions { orders, ..Directions::default() });
        let directions = Arc::new(directions);
        let targets =
            config.targets.map(|id, target| Pool::new(id, target.clone(), config.use_of(id)));
        let placement = Placement::new(extranonce2_size, rand::random());
        let pools = PoolSet::new(proxy.clone(), targets, placement, directed);

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

        let executor = proxy.executor.clone();
        executor.start_helpers(config.threads.saturating_sub(1)).map_err(StartError::Thread)?;

        // Pool connections must outlive the last session that sends them shares.
        let pools_cancel = tokio_util::sync::CancellationToken::new();
        let mut upstreams = Vec::new();
        for pool in pools.targets.values() {
            if pool.config.tls.as_ref().is_some_and(|tls| tls.trust() == Trust::Anybody) {
                error!(target = %pool.config.name, "tls_verify is off: anybody in between can take this hashrate");
            }
        }
        for pool in pools.shared() {
            for index in 0..pool.config.max_connections {
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
            tasks.spawn(name, downstream::listen(listener, service, pools.clone()));
        }
        let route = Route::new(&config.targets, config.failback_after, clock::now());
        tasks.spawn("executor", executor.worker());
        tasks.spawn("signaller", downstream::signaller::run(pools.clone()));
        let selector =
            TargetSelector::new(route, config.no_upstream, pools.clone(), directions.clone());
        tasks.spawn("target selector", selector.run(tasks.token()));
        let (folded, ended) = (proxy.machines.clone(), tasks.token());
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
                machines: proxy.machines.clone(),
                metrics: metrics.control.clone(),
                report_every: config.report_every,
                stepped: false,
                refused: None,
                saved_at: None,
                unwritten: false,
                starved: control::Starved::default(),
            };
            tasks.spawn("control", control.run(link, tasks.token()));
        }
        let (ending, tracker) = (tasks.token(), proxy.tracker.clone());
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
        Ok(Self { addrs, pools })
    }

    /// Where miners connect to, in the order of the configuration.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// How all submits so far ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.pools.proxy.books.metrics.counts()
    }

    /// The targets as they are just now.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetView> {
        self.pools.target_views()
    }

    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        self.pools.proxy.sessions.views(&self.pools.proxy.names)
    }

    /// Routes that show all this.
    pub fn router(&self) -> axum::Router {
        api::router(self.pools.clone())
    }

    /// Whether miners have work, with details for people.
    #[must_use]
    pub fn readiness(&self) -> (bool, serde_json::Value) {
        let targets = self.targets();
        let up = targets.iter().any(|target| target.up);
        let sessions = self.pools.proxy.sessions.len();
        (up, serde_json::json!({ "targets": targets, "sessions": sessions }))
    }
}
