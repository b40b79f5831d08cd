//! `tieline run`: all roles in one process, until told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::core::Timing;
use anyhow::Context;
use daemon::admin::{Admin, Token};
use daemon::settings::Mistakes;
use daemon::tasks::Tasks;
use daemon::watch_file::FileWatch;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use switchboard::Handle;
use switchboard::core::Answer;
use switchboard::facility::Policy;
use tracing::{error, info, warn};

use crate::announce;
use crate::drivers::Registered;
use crate::failure::Failure;
use crate::files::{Files, Sound};
use crate::settings::Settings;
use crate::site::{ControlConfig, Site, SiteConfig};

/// How long tasks may take to stop, beside what miners' answers are waited for.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// [`Failure::Configuration`] before anything has started, [`Failure::Runtime`] afterwards.
pub fn run(path: &Path) -> Result<(), Failure> {
    let Sound { settings, policy, warnings } = Files::read(path).sound()?;
    let _logs = daemon::logging::init(settings.log_format, &settings.log_filter)
        .context("failed to start logging")?;
    announce::starting(path, &settings, policy.as_ref());
    log_warnings(&warnings);
    let runtime = start_runtime("miners")?;
    // A runtime of its own: a slow reader of metrics, a long list of sessions, or a plan must not
    // delay a share.
    let other = start_runtime("control")?;
    runtime.block_on(serve(settings, policy, other.handle()))?;
    Ok(())
}

/// One line for each warning that `tieline check` would show.
fn log_warnings(warnings: &Mistakes) {
    for line in warnings.to_string().lines() {
        warn!("{line}");
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
    policy: Option<Policy>,
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

    let fault = Arc::new(Mutex::new(None));
    let readiness = {
        let (site, fault) = (site.clone(), fault.clone());
        move || site.readiness(fault.lock().as_deref())
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
    if let (Some(handle), Some(control), Some(policy)) =
        (&site.switchboard, &settings.switchboard, policy)
    {
        let reload =
            Reload { path: control.policy.clone(), current: policy, handle: handle.clone(), fault };
        tasks.spawn("policy", reload.run(tasks.token()));
    }

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

/// Puts a changed policy into force, whole or not at all.
struct Reload {
    path: PathBuf,
    current: Arc<Policy>,
    handle: Handle,
    /// Why the newest file is not in force.
    fault: Arc<Mutex<Option<String>>>,
}

impl Reload {
    async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        let mut watch = FileWatch::new(&self.path);
        let mut hangup = match daemon::signals::hangup() {
            Ok(hangup) => hangup,
            Err(failure) => {
                error!(%failure, "SIGHUP cannot be watched: the policy is read again only when its file changes");
                return self.follow(watch, stop).await;
            }
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => {}
                () = hangup.recv() => {}
            }
            self.reload().await;
        }
    }

    async fn follow(&mut self, mut watch: FileWatch, stop: tokio_util::sync::CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => {}
            }
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        let refused = self.attempt().await.err();
        // What does not carry the leases is put on record, and told, by the switchboard.
        if let Some(refused) = refused.as_ref().filter(|refused| !refused.told) {
            for line in refused.why.lines() {
                error!(mistake = line, "policy refused, the former one stays");
            }
        }
        *self.fault.lock() = refused.map(|refused| refused.why);
    }

    async fn attempt(&mut self) -> Result<(), Refusal> {
        let path = self.path.clone();
        let here = |why: &dyn ToString| Refusal { why: why.to_string(), told: false };
        let loaded = tokio::task::spawn_blocking(move || switchboard::policy::check(&path)).await;
        let checked = loaded.map_err(|failure| here(&failure))?;
        let policy = checked.policy.map_err(|mistakes| here(&mistakes))?;
        if policy.digest == self.current.digest {
            return Ok(());
        }
        if drivers_differ(&self.current, &policy) {
            return Err(here(
                &"actuators, meters and what they match are made at the start: restart to change them",
            ));
        }
        let policy = Arc::new(policy);
        match self.handle.change_policy(policy.clone()).await {
            Ok(Answer::Refused(refused)) => Err(Refusal { why: refused.to_string(), told: true }),
            Ok(_) => {
                self.current = policy;
                log_warnings(&checked.warnings);
                Ok(())
            }
            Err(stopped) => Err(here(&stopped)),
        }
    }
}

/// Why a policy is not put into force.
#[derive(Debug)]
struct Refusal {
    why: String,
    /// Whether the log has it already.
    told: bool,
}

/// Whether the agent would need other drivers.
fn drivers_differ(one: &Policy, other: &Policy) -> bool {
    let reached = |policy: &Policy| -> Vec<_> {
        policy
            .groups
            .iter()
            .map(|group| (group.id.clone(), group.matches.clone(), group.actuator.clone()))
            .collect()
    };
    one.meters != other.meters || reached(one) != reached(other)
}
