//! Builds a proxy from its configuration and starts its tasks.

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

use crate::books::Books;
use crate::config::Config;
use crate::config::Trust;
use crate::control::{Control, Record};
use crate::directions::{Directions, Orders};
use crate::downstream::Service;
use crate::error::StartError;
use crate::level::Level;
use crate::metrics::Metrics;
use crate::placement::Placement;
use crate::route::Route;
use crate::running::Proxy;
use crate::series::TargetLabels;
use crate::session::{DifficultyRules, SessionRules};
use crate::share_log::ShareLog;
use crate::state::ProxyState;
use crate::target_selector::TargetSelector;
use crate::upstream::{Pool, PoolSet};
use crate::{control, downstream, sizes, upstream};

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
        let (directions, directed) = watch::channel(Directions { orders, ..Directions::default() });
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
}
