//! Builds a proxy from its configuration and starts its tasks.
//!
//! [`Parts::new`] builds all that needs no file, socket, thread or task. [`Proxy::start`] does what
//! may fail: it opens the share log, asks pools for their sizes, reads the state of the former
//! process and opens the listeners. [`Parts::spawn`] then starts the tasks, which cannot fail.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::clock;
use daemon::state_file::StateFile;
use daemon::tasks::Tasks;
use directive::{Link, ReportSender};
use prometheus_client::registry::Registry;
use stratum::version::VersionMask;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::books::Books;
use crate::config::{Config, Server, Trust};
use crate::control::Control;
use crate::control::core::ControlCore;
use crate::directions::{Directions, Orders};
use crate::downstream::Service;
use crate::error::StartError;
use crate::level::Level;
use crate::machines::Machines;
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
        let books = open_books(&config, registry)?;
        let extranonce2_size = sizes::choose(&config, state_dir.as_deref()).await?;
        let file = state_dir.map(|dir| Arc::new(StateFile::new(dir.join("proxy.json"))));
        let saved = match (&link, &file) {
            (Some(_), Some(file)) => file.load()?,
            _ => None,
        };
        let core = ControlCore::new(saved, file.is_some(), config.report_every, clock::now());
        let orders = if link.is_some() { core.orders().clone() } else { Arc::default() };
        let found = Found { extranonce2_size, orders, lane_offset: rand::random() };
        let parts = Parts::new(config, books, found, tasks, clock::now());
        let listeners = parts.listen()?;
        let helpers = parts.config.threads.saturating_sub(1);
        parts.pools.proxy.executor.start_helpers(helpers).map_err(StartError::Thread)?;
        let addrs = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let proxy = Self { addrs, pools: parts.pools.clone() };
        let control = link.map(|link| (parts.control(core, file), link));
        parts.spawn(listeners, control);
        Ok(proxy)
    }
}

/// Registers the metrics, and opens the share log if one is configured.
fn open_books(config: &Config, registry: &mut Registry) -> Result<Books, StartError> {
    let names = config.targets.map(|_, target| target.name.clone());
    let labels = config.targets.map(|id, target| (target.name.clone(), config.use_of(id)));
    let metrics = Metrics::register(&TargetLabels::new(&labels), registry);
    let Some(wanted) = &config.share_log else { return Ok(Books { metrics, log: None }) };
    let log = ShareLog::open(wanted, &config.name, names, metrics.share_log.clone())
        .map_err(|source| StartError::ShareLog { dir: wanted.dir.clone(), source })?;
    Ok(Books { metrics, log: Some(log) })
}

/// What the start determined before it built the proxy.
struct Found {
    /// The miners' extranonce2_size.
    extranonce2_size: u8,
    /// What machines may do at first.
    orders: Arc<Orders>,
    /// Where lane numbers begin: a random number, so that a restart does not repeat work.
    lane_offset: u64,
}

/// A proxy that has no tasks yet.
struct Parts {
    config: Config,
    pools: Arc<PoolSet>,
    directions: Arc<watch::Sender<Directions>>,
    /// How each listener serves its miners.
    services: Vec<Service>,
    route: Route,
}

impl Parts {
    fn new(config: Config, books: Books, found: Found, tasks: &Tasks, now: Instant) -> Self {
        let proxy = ProxyState::new(&config, books, tasks, now);
        let directions = Directions { orders: found.orders, ..Directions::default() };
        let (directions, directed) = watch::channel(directions);
        let targets =
            config.targets.map(|id, target| Pool::new(id, target.clone(), config.use_of(id)));
        let placement = Placement::new(found.extranonce2_size, found.lane_offset);
        let pools = PoolSet::new(proxy, targets, placement, directed);
        let service = |(index, server): (usize, &Server)| Service {
            rules: Arc::new(session_rules(&config, server, index, found.extranonce2_size)),
            passthrough: server.passthrough.and_then(|target| pools.targets.get(target).cloned()),
        };
        Self {
            services: config.servers.iter().enumerate().map(service).collect(),
            route: Route::new(&config.targets, config.failback_after, now),
            directions: Arc::new(directions),
            pools,
            config,
        }
    }

    /// Opens a listener for each `[[server]]`, in their order.
    fn listen(&self) -> Result<Vec<TcpListener>, StartError> {
        let listen = |server: &Server| {
            downstream::bind(server.listen).map_err(|source| StartError::Listen {
                name: server.name.clone(),
                listen: server.listen,
                source,
            })
        };
        self.config.servers.iter().map(listen).collect()
    }

    /// The task that follows the switchboard.
    fn control(&self, core: ControlCore, file: Option<Arc<StateFile>>) -> Control {
        Control::new(control::Setup {
            core,
            sender: ReportSender::started(clock::wall()),
            file,
            directions: self.directions.clone(),
            machines: self.pools.proxy.machines.clone(),
            metrics: self.pools.proxy.books.metrics.control.clone(),
        })
    }

    /// Starts all tasks.
    fn spawn(self, listeners: Vec<TcpListener>, control: Option<(Control, impl Link)>) {
        let Self { config, pools, directions, services, route } = self;
        let proxy = &pools.proxy;
        let tasks = &proxy.tasks;
        // Pool connections must outlive the last session that sends them shares.
        let pools_cancel = CancellationToken::new();
        let upstreams = spawn_upstreams(&pools, &pools_cancel);
        for ((server, service), listener) in config.servers.iter().zip(services).zip(listeners) {
            log_listening(&server.name, &listener, &service);
            let name = format!("listener {}", server.name);
            tasks.spawn(name, downstream::listen(listener, service, pools.clone()));
        }
        tasks.spawn("executor", proxy.executor.worker());
        tasks.spawn("signaller", downstream::signaller::run(pools.clone()));
        let selector =
            TargetSelector::new(route, config.no_upstream, pools.clone(), directions.clone());
        tasks.spawn("target selector", selector.run(tasks.token()));
        tasks.spawn("rates", keep_rates(proxy.machines.clone(), tasks.token()));
        if let Some((control, link)) = control {
            tasks.spawn("control", control.run(link, tasks.token()));
        }
        let end = end_sessions(proxy.clone(), directions, upstreams, pools_cancel);
        tasks.spawn("sessions", end);
    }
}

/// The rules for the sessions of a listener.
fn session_rules(
    config: &Config,
    server: &Server,
    index: usize,
    extranonce2_size: u8,
) -> SessionRules {
    SessionRules {
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
        share_log: config.share_log.is_some(),
    }
}

/// Starts a task for each connection that a shared target may have. A passthrough target gets its
/// connections from its miners' tasks.
fn spawn_upstreams(pools: &Arc<PoolSet>, cancel: &CancellationToken) -> Vec<JoinHandle<()>> {
    for pool in pools.targets.values().filter(|pool| pool.is_used()) {
        if pool.config.tls.as_ref().is_some_and(|tls| tls.trust() == Trust::Anybody) {
            error!(target = %pool.config.name, "tls_verify is off: anybody in between can take this hashrate");
        }
    }
    let mut upstreams = Vec::new();
    for pool in pools.shared() {
        for index in 0..pool.config.max_connections {
            let name = format!("upstream connection {index} to {}", pool.config.name);
            let task = upstream::run(pools.clone(), pool.clone(), index, cancel.clone());
            upstreams.push(pools.proxy.tasks.spawn(name, task));
        }
    }
    upstreams
}

fn log_listening(server: &str, listener: &TcpListener, service: &Service) {
    let listen = listener.local_addr().map(tracing::field::display).ok();
    let extranonce2_size = service.rules.extranonce2_size;
    let passthrough = service.passthrough.as_ref().map(|pool| pool.config.name.as_str());
    info!(%server, listen, extranonce2_size, passthrough, "listening");
}

/// How often the hashrates of machines are updated.
const RATES_EVERY: Duration = Duration::from_secs(5);

/// Brings the machines' hashrates up to date, and forgets machines that are long gone.
async fn keep_rates(machines: Arc<Machines>, cancel: CancellationToken) {
    while cancel.run_until_cancelled(tokio::time::sleep(RATES_EVERY)).await.is_some() {
        machines.fold(clock::now());
        machines.forget(clock::wall());
    }
}

/// At shutdown, waits until the last session has ended, then ends what sessions stand on: the
/// executor's threads, the pool connections, and the share log once the last outcome is counted.
async fn end_sessions(
    proxy: Arc<ProxyState>,
    // Sessions end when nobody can direct them any more, so this is kept until their last answer.
    _directions: Arc<watch::Sender<Directions>>,
    upstreams: Vec<JoinHandle<()>>,
    pools_cancel: CancellationToken,
) {
    proxy.cancel.cancelled().await;
    proxy.tracker.close();
    proxy.tracker.wait().await;
    proxy.executor.close();
    pools_cancel.cancel();
    for upstream in upstreams {
        let _ = upstream.await;
    }
    if let Some(log) = &proxy.books.log {
        log.close().await;
    }
}
