//! `tieline run` and `tieline proxy`: the roles of a configuration in one process, until SIGINT or
//! SIGTERM.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::core::Timing;
use anyhow::Context;
use daemon::admin::{Admin, Token};
use daemon::settings::log_warnings;
use daemon::tasks::Tasks;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use switchboard::reload::{Candidate, ReadPolicy, Reload};
use tracing::{error, info, warn};

use crate::announce;
use crate::configuration::{Configuration, Hangups};
use crate::devices::{Ties, devices};
use crate::failure::Failure;
use crate::files::{Equipment, Files, PolicyFile, Roles, SitePolicy, Sound};
use crate::settings::Settings;
use crate::site::{ControlConfig, Faults, Site, SiteConfig};

/// How long tasks may take to stop, in addition to the wait for the pools' answers.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Runs the roles until SIGINT or SIGTERM.
///
/// # Errors
/// [`Failure::Configuration`] before anything has started, [`Failure::Runtime`] afterwards.
pub fn run(path: &Path, roles: Roles) -> Result<(), Failure> {
    let files = Files::of_roles(path, roles);
    let sound = files.sound().map_err(|mistakes| Failure::of_files(&mistakes, path))?;
    let Sound { mut settings, policy, equipment, warnings } = sound;
    let left_out = select(&mut settings, roles, path)?;
    let configuration = Configuration::read(path, roles)?;
    let _logs = daemon::logging::init(settings.log_format, &settings.log_filter)
        .context("failed to start logging")?;
    announce::starting(path, &settings, policy.as_ref().map(|site| &site.policy));
    log_warnings(&warnings);
    if left_out {
        warn!(
            "the configuration has a switchboard, and this proxy follows no plan: it serves all machines"
        );
    }
    let runtime = start_runtime("miners")?;
    // The other tasks have a runtime of their own: a slow reader of metrics, a long list of
    // sessions, or a plan must not delay a share.
    let other = start_runtime("control")?;
    runtime.block_on(serve(
        settings,
        policy.map(|site| (site, equipment)),
        configuration,
        other.handle(),
    ))?;
    Ok(())
}

/// Leaves the roles that are to run. Returns whether a switchboard is left out.
fn select(settings: &mut Settings, roles: Roles, path: &Path) -> Result<bool, Failure> {
    match roles {
        Roles::Proxy if settings.proxy.is_none() => Err(Failure::Configuration(format!(
            "{}: describes no proxy: a proxy needs a [[server]] and a [[target]]",
            path.display()
        ))),
        Roles::Proxy => Ok(settings.switchboard.take().is_some()),
        Roles::All => Ok(false),
    }
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
    policy: Option<(SitePolicy, Equipment)>,
    configuration: Configuration,
    http: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let mut registry = Registry::default();
    let mut control = None;
    let mut in_force = None;
    if let Some((switchboard, (site, equipment))) = settings.switchboard.zip(policy) {
        let mut agent = settings.agent;
        agent.drivers.extend(site.former.drivers);
        agent.meters.extend(site.former.meters);
        let devices = devices(&site.policy, &agent)?;
        let policy = Arc::new(site.policy);
        let read = read_policy(equipment, site.ties);
        in_force = Some((switchboard.policy, policy.clone(), read));
        control = Some(ControlConfig {
            policy,
            ledger: switchboard.ledger,
            devices,
            timing: Timing::default(),
            runtime: Some(http.clone()),
        });
    }
    let answers = settings.proxy.as_ref().map(|proxy| proxy.shutdown_grace);
    let grace = answers.unwrap_or_default() + STOP_GRACE;
    let config = SiteConfig { proxy: settings.proxy, control, state_dir: settings.state_dir };
    let token = settings.token_file.as_deref().map(load_token).transpose()?;
    let site = Arc::new(Site::start(config, &mut registry, &tasks).await?);

    let followed = site.switchboard.clone().zip(in_force).map(|(switchboard, in_force)| {
        let (path, policy, read) = in_force;
        let (reload, handle) = Reload::new(path, policy, read, switchboard.clone());
        tasks.spawn("reload", reload.run(tasks.token()));
        (switchboard, handle)
    });
    let configuration_fault = Arc::new(Mutex::new(None));
    let readiness = {
        let (site, fault) = (site.clone(), configuration_fault.clone());
        let policy = followed.as_ref().map(|(_, handle)| handle.clone());
        move || {
            let policy = policy.as_ref().and_then(|policy| policy.fault());
            site.readiness(Faults { policy, configuration: fault.lock().clone() })
        }
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
    let hangups = Hangups {
        configuration: Arc::new(configuration),
        fault: configuration_fault,
        switchboard: followed,
    };
    tasks.spawn("hangups", hangups.run(tasks.token()));

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

/// How a changed policy is read: with the drivers and meters that the agent was started with.
fn read_policy(equipment: Equipment, ties: Ties) -> ReadPolicy {
    let equipment = equipment.in_force();
    Arc::new(move |path: &Path| {
        let file = PolicyFile::read(path, Some(&equipment));
        let tied_anew = file.policy.as_ref().is_ok_and(|site| site.ties != ties);
        let needs_restart = tied_anew.then(|| {
            "the drivers and patterns of groups, and meters that stand here, are set at the start: restart to change them"
                .to_owned()
        });
        let policy = file.policy.map(|site| site.policy);
        Candidate { policy, warnings: file.warnings, needs_restart }
    })
}

fn load_token(path: &Path) -> anyhow::Result<Token> {
    if let Some(folder) = path.parent() {
        daemon::private::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    Token::load_or_create(path).context("failed to load the token")
}
