//! `tieline run`: all roles in one process, until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::core::Timing;
use anyhow::Context;
use daemon::admin::{Admin, Token};
use daemon::tasks::Tasks;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use switchboard::facility::Policy;
use tracing::{error, info, warn};

use crate::announce;
use crate::drivers::Registered;
use crate::failure::Failure;
use crate::files::{Files, Sound};
use crate::reload::{Configuration, Faults, PolicyInForce, Reload, log_warnings};
use crate::settings::Settings;
use crate::site::{ControlConfig, Site, SiteConfig};

/// How long tasks may take to stop, beside what miners' answers are waited for.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// [`Failure::Configuration`] before anything has started, [`Failure::Runtime`] afterwards.
pub fn run(path: &Path) -> Result<(), Failure> {
    let Sound { settings, policy, warnings } =
        Files::read(path).sound().map_err(|mistakes| Failure::of_files(&mistakes, path))?;
    let configuration = Configuration::read(path)?;
    let _logs = daemon::logging::init(settings.log_format, &settings.log_filter)
        .context("failed to start logging")?;
    announce::starting(path, &settings, policy.as_ref());
    log_warnings(&warnings);
    let runtime = start_runtime("miners")?;
    // A runtime of its own: a slow reader of metrics, a long list of sessions, or a plan must not
    // delay a share.
    let other = start_runtime("control")?;
    runtime.block_on(serve(settings, policy, configuration, other.handle()))?;
    Ok(())
}

fn start_runtime(name: &str) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .event_interval(proxy::EVENT_INTERVAL)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("failed to start the thread of {name}"))
}

async fn serve(
    settings: Settings,
    policy: Option<Policy>,
    configuration: Configuration,
    http: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let mut registry = Registry::default();
    let policy = policy.map(Arc::new);
    let control =
        settings.switchboard.as_ref().zip(policy.clone()).map(|(control, policy)| ControlConfig {
            policy,
            ledger: control.ledger.clone(),
            registered: Registered::default(),
            timing: Timing::default(),
            runtime: Some(http.clone()),
        });
    let grace = settings.proxy.shutdown_grace + STOP_GRACE;
    let config = SiteConfig { proxy: settings.proxy, control, state_dir: settings.state_dir };
    let token = settings.token_file.as_deref().map(load_token).transpose()?;
    let site = Arc::new(Site::start(config, &mut registry, &tasks).await?);

    let faults = Arc::new(Mutex::new(Faults::default()));
    let readiness = {
        let (site, faults) = (site.clone(), faults.clone());
        move || site.readiness(&faults.lock())
    };
    let networks =
        settings.admin_plain_from.iter().filter_map(|network| network.parse().ok()).collect();
    let admin = http
        .spawn(Admin::bind(settings.admin_listen, token, site.router()))
        .await
        .context("failed to start http")??
        .hosts(settings.admin_hosts)
        .allow_plain_from(networks)
        .metrics(Arc::new(std::sync::Mutex::new(registry)))
        .readiness(readiness);
    let serving = http.spawn(admin.run(tasks.token()));
    let policy = site.switchboard.clone().zip(settings.switchboard).zip(policy).map(
        |((switchboard, control), policy)| PolicyInForce {
            path: control.policy,
            policy,
            switchboard,
        },
    );
    let reload = Reload { configuration, policy, faults };
    tasks.spawn("reload", reload.run(tasks.token()));

    let (watched, stop) = (site.clone(), tasks.token());
    tasks.spawn("readiness", async move { announce::watch_readiness(&watched, stop).await });

    daemon::signals::shutdown_requested().await;
    let left = tasks.shutdown(grace).await;
    if let Err(failure) = serving.await {
        error!(%failure, "http ended badly");
    }
    if !left.is_empty() {
        warn!(?left, "tasks that did not stop in time");
    }
    info!("stopped");
    Ok(())
}

fn load_token(path: &Path) -> anyhow::Result<Token> {
    if let Some(folder) = path.parent() {
        daemon::private::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    Token::load_or_create(path).context("failed to load the token")
}
