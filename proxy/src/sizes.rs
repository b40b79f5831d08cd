//! The miners' extranonce2_size: one for all targets, settled at each start.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daemon::state_file::StateFile;

use crate::config::{Config, Target};
use crate::{StartError, upstream};

/// How long the pools' sizes are waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Settles the miners' extranonce2_size: 4 where every target has room for it, else 3. A target that was never asked
/// counts as having 4 bytes, unless the configuration or a former life knows better.
pub(crate) async fn choose(config: &Config, state_dir: Option<&Path>) -> Result<u8, StartError> {
    let file = state_dir.map(|dir| StateFile::new(dir.join("extranonce.json")));
    let mut known: BTreeMap<String, u8> = match &file {
        Some(file) => file.load()?.unwrap_or_default(),
        None => BTreeMap::new(),
    };
    let address = |target: &Target| format!("{}:{}", target.host, target.port);
    if config.targets.iter().any(|target| target.extranonce2_size.is_none()) {
        let probed = upstream::probe_sizes(&config.targets, PROBE_TIMEOUT).await;
        for (target, size) in config.targets.iter().zip(probed) {
            if let Some(size) = size {
                known.insert(address(target), size);
            }
        }
        if let Some(file) = &file {
            file.store(&known)?;
        }
    }
    let sizes: Vec<u8> = config
        .targets
        .iter()
        .map(|target| target.extranonce2_size.or_else(|| known.get(&address(target)).copied()).unwrap_or(4))
        .collect();
    let miner = config.extranonce2_size.unwrap_or(if sizes.iter().all(|size| *size >= 5) { 4 } else { 3 });
    for (target, size) in config.targets.iter().zip(sizes) {
        if size <= miner {
            return Err(StartError::DoesNotFit { target: target.name.clone(), size, miner });
        }
    }
    Ok(miner)
}
