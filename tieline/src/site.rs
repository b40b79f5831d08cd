//! The roles of one process, joined by in-process links: a proxy, a switchboard with its agent, or all
//! three.
//!
//! They start in this order: the switchboard, whose ledger must be sound before anything is commanded;
//! the agent; and the proxy last, so that no miner is served before the rest runs.

use std::path::PathBuf;
use std::sync::Arc;

use agent::core::Timing;
use agent::{Agent, AgentConfig, Devices};
use anyhow::Context;
use daemon::clock;
use daemon::tasks::Tasks;
use directive::{Outlet, ReceiverRole, in_process};
use prometheus_client::registry::Registry;
use proxy::Proxy;
use serde_json::{Value, json};
use switchboard::ledger::SqliteLedger;
use switchboard::policy::Policy;
use switchboard::{Handle, Switchboard};

use crate::settings::AGENT;

/// The parts of a site.
pub struct SiteConfig {
    /// The proxy, if this process has one.
    pub proxy: Option<proxy::Config>,
    /// The control plane, if this process has one.
    pub control: Option<ControlConfig>,
    /// The folder for the state that must survive a restart.
    pub state_dir: PathBuf,
}

/// The parts of a control plane.
pub struct ControlConfig {
    /// The policy to start with.
    pub policy: Arc<Policy>,
    pub ledger: PathBuf,
    /// What the agent works with.
    pub devices: Devices,
    /// The agent's periods.
    pub timing: Timing,
    /// The runtime of the switchboard's task, apart from the threads of the miners: a plan may take
    /// tens of milliseconds. With `None` it is the caller's runtime.
    pub runtime: Option<tokio::runtime::Handle>,
}

/// Why the newest files are not in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    pub policy: Option<String>,
    pub configuration: Option<String>,
}

/// A running site. Its tasks end with the [`Tasks`] it was started on.
pub struct Site {
    /// The proxy, if there is one.
    pub proxy: Option<Proxy>,
    /// The control plane, if there is one.
    pub switchboard: Option<Handle>,
}

impl Site {
    /// Starts every role.
    ///
    /// # Errors
    /// When the ledger is in use, broken or tampered with, the agent's state cannot be read, or an
    /// address cannot be bound.
    pub async fn start(
        config: SiteConfig,
        registry: &mut Registry,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        daemon::private::create_dir_all(&config.state_dir)
            .with_context(|| format!("failed to make {}", config.state_dir.display()))?;
        daemon::process::register(registry, env!("CARGO_PKG_VERSION"));
        let (mut link, mut switchboard) = (None, None);
        if let Some(control) = config.control {
            let state = config.state_dir.join("agent.json");
            let mut outlets = Vec::new();
            if let Some(settings) = &config.proxy {
                let name = settings.name.as_str().into();
                let (proxy, outlet) = in_process(name, ReceiverRole::Proxy);
                link = Some(proxy);
                outlets.push(outlet);
            }
            switchboard = Some(start_control(control, outlets, state, registry, tasks)?);
        }
        let mut proxy = None;
        if let Some(settings) = config.proxy {
            let state = Some(config.state_dir);
            proxy = Some(Proxy::start(settings, link, state, registry, tasks).await?);
        }
        Ok(Self { proxy, switchboard })
    }

    /// The routes of all roles; those that change something are behind the token.
    pub fn router(&self) -> axum::Router {
        let proxy = self.proxy.iter().map(Proxy::router);
        let switchboard = self.switchboard.iter();
        let switchboard = switchboard.map(|handle| switchboard::api::router(handle.clone()));
        proxy.chain(switchboard).fold(axum::Router::new(), axum::Router::merge)
    }

    /// Whether the site is ready, with details for people. Without a proxy, a site is always ready.
    #[must_use]
    pub fn readiness(&self, faults: Faults) -> (bool, Value) {
        let proxy = self.proxy.as_ref().map(Proxy::readiness);
        let (ready, proxy) = proxy.unwrap_or((true, Value::Null));
        let Faults { policy, configuration } = faults;
        let detail =
            json!({ "proxy": proxy, "policy_fault": policy, "configuration_fault": configuration });
        (ready, detail)
    }
}

/// Starts the switchboard and the agent. `outlets` lead to the other roles of this process.
fn start_control(
    control: ControlConfig,
    mut outlets: Vec<Outlet>,
    agent_state: PathBuf,
    registry: &mut Registry,
    tasks: &Tasks,
) -> anyhow::Result<Handle> {
    let (store, ledger) = SqliteLedger::open(&control.ledger, clock::wall())
        .with_context(|| format!("failed to open ledger {}", control.ledger.display()))?;
    let (agent_link, outlet) = in_process(AGENT.into(), ReceiverRole::Agent);
    outlets.push(outlet);
    let (switchboard, handle) = Switchboard::new(control.policy, store, ledger, outlets, registry)
        .context("failed to start the ledger's thread")?;
    let runtime = control.runtime.unwrap_or_else(tokio::runtime::Handle::current);
    tasks.spawn_on("switchboard", switchboard.run(tasks.token()), &runtime);

    let metrics = agent::metrics::Metrics::default();
    metrics.register(registry);
    let mut agent = AgentConfig::new(AGENT, agent_state);
    agent.timing = control.timing;
    let agent = Agent::spawn(agent, control.devices, agent_link, metrics, tasks.token())?;
    tasks.spawn("agent", async move {
        if let Err(failure) = agent.ended().await {
            tracing::error!(%failure, "the agent ended badly");
        }
    });
    Ok(handle)
}
