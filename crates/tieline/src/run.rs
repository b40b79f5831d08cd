//! run
use std::path::Path;
use std::time::Duration;

use daemon::tasks::Tasks;
use prometheus_client::registry::Registry;
use proxy::Proxy;

use crate::settings::Settings;

/// Runs
pub fn run(path: &Path) -> anyhow::Result<()> {
    let settings = Settings::load(path)?;
    daemon::logging::init(settings.log_format, &settings.log_filter)?;
    std::fs::create_dir_all(&settings.state_dir)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async move {
        let tasks = Tasks::new();
        let mut registry = Registry::default();
        let proxy = Proxy::start(settings.proxy, None::<directive::InProcess>, Some(settings.state_dir), &mut registry, &tasks).await?;
        let signal = daemon::signals::shutdown_requested().await;
        tracing::info!(signal, "stopping");
        tasks.shutdown(Duration::from_secs(10)).await;
        println!("{}", serde_json::to_string(&proxy.counts())?);
        Ok(())
    })
}
