//! All roles in one process: proxy, switchboard and agent, joined by in-process links.
//!
//! The order of starting is the order of caution: the ledger first (what is promised), then the
//! receivers with what they remember, and the listeners for miners last.

use std::path::PathBuf;
use std::sync::Arc;

use agent::core::Timing;
use agent::{Agent, AgentConfig, Devices};
use anyhow::Context;
use daemon::clock;
use daemon::tasks::Tasks;
use directive::in_process;
use prometheus_client::registry::Registry;
use proxy::Proxy;
use serde_json::{Value, json};
use switchboard::ledger::SqliteLedger;
use switchboard::policy::Policy;
use switchboard::{Handle, Switchboard};

/// What a site is made of.
pub struct SiteConfig {
    pub proxy: proxy::Config,
    /// The control plane, if this process has one.
    pub control: Option<ControlConfig>,
    /// Where what must survive a restart is kept.
    pub state_dir: PathBuf,
}

/// What a control plane is made of.
pub struct ControlConfig {
    /// The policy to start with.
    pub policy: Arc<Policy>,
    pub ledger: PathBuf,
    /// What the agent works with.
    pub devices: Devices,
    /// The agent's periods.
    pub timing: Timing,
    /// The runtime of the switchboard's task, apart from the threads of the miners: a plan may take
    /// tens of milliseconds. `None`: the caller's runtime.
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
    pub proxy: Proxy,
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
        let Some(control) = config.control else {
            let alone: Option<directive::InProcess> = None;
            let proxy =
                Proxy::start(config.proxy, alone, Some(config.state_dir), registry, tasks).await?;
            return Ok(Self { proxy, switchboard: None });
        };

        let (store, ledger) = SqliteLedger::open(&control.ledger, clock::wall())
            .with_context(|| format!("failed to open ledger {}", control.ledger.display()))?;
        let (proxy_link, proxy_outlet) = in_process();
        let (agent_link, agent_outlet) = in_process();
        let outlets = vec![proxy_outlet, agent_outlet];
        let (switchboard, handle) =
            Switchboard::new(control.policy, store, ledger, outlets, registry)
                .context("failed to start the ledger's thread")?;
        let runtime = control.runtime.unwrap_or_else(tokio::runtime::Handle::current);
        tasks.spawn_on("switchboard", switchboard.run(tasks.token()), &runtime);

        let metrics = agent::metrics::Metrics::default();
        metrics.register(registry);
        let mut agent = AgentConfig::new("agent", config.state_dir.join("agent.json"));
        agent.timing = control.timing;
        let agent = Agent::spawn(agent, control.devices, agent_link, metrics, tasks.token())?;
        tasks.spawn("agent", async move {
            if let Err(failure) = agent.ended().await {
                tracing::error!(%failure, "the agent ended badly");
            }
        });
        let proxy =
            Proxy::start(config.proxy, Some(proxy_link), Some(config.state_dir), registry, tasks)
                .await?;
        Ok(Self { proxy, switchboard: Some(handle) })
    }

    /// The routes of all roles; those that change something are behind the token.
    pub fn router(&self) -> axum::Router {
        let routes = self.proxy.router();
        match &self.switchboard {
            Some(handle) => routes.merge(switchboard::api::router(handle.clone())),
            None => routes,
        }
    }

    /// Whether the site is ready, with details for people.
    #[must_use]
    pub fn readiness(&self, faults: Faults) -> (bool, Value) {
        let (ready, proxy) = self.proxy.readiness();
        let Faults { policy, configuration } = faults;
        let detail =
            json!({ "proxy": proxy, "policy_fault": policy, "configuration_fault": configuration });
        (ready, detail)
    }
}
