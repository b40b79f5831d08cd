//! The miners' extranonce2_size: one for all targets, settled at each start.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daemon::state_file::StateFile;
use tracing::error;

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
    settle(config, &sizes)
}

/// The smallest extranonce2_size that leaves room for the slot and three bytes of the miner's.
const SMALLEST: u8 = 4;

/// Settles the miners' size. A target without room for it is left out, loudly; only if none is left, or the operator has
/// written down what cannot be, nothing is started.
fn settle(config: &Config, sizes: &[u8]) -> Result<u8, StartError> {
    let usable = || sizes.iter().copied().filter(|size| *size >= SMALLEST);
    let miner = config.extranonce2_size.unwrap_or(if usable().all(|size| size > SMALLEST) { 4 } else { 3 });
    let none_fits = !sizes.iter().any(|size| *size > miner);
    for (target, &size) in config.targets.iter().zip(sizes) {
        if size > miner {
            continue;
        }
        if none_fits || target.extranonce2_size.is_some() {
            return Err(StartError::DoesNotFit { target: target.name.clone(), size, miner });
        }
        let need = miner + 1;
        error!(upstream = %target.name, extranonce2_size = size, need, "target left out: no room for slot and miner's bytes");
    }
    Ok(miner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Server;

    fn config(targets: usize) -> Config {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = Server::new("s", listen);
        let targets = (0..targets).map(|index| Target::new(&format!("t{index}"), "pool", 1, "u")).collect();
        Config::new(vec![server], targets)
    }

    #[test]
    fn miners_get_four_bytes_where_every_target_has_room_for_them() {
        for (sizes, want) in [(vec![8, 6], 4), (vec![5], 4), (vec![8, 4], 3), (vec![4], 3), (vec![8, 3], 4)] {
            assert_eq!(settle(&config(sizes.len()), &sizes).expect("one fits at least"), want, "{sizes:?}");
        }
    }

    #[test]
    fn one_small_pool_does_not_keep_the_others_from_being_mined_at_unless_the_operator_wrote_it_down() {
        assert!(matches!(settle(&config(1), &[3]), Err(StartError::DoesNotFit { size: 3, miner: 4, .. })));
        let mut written = config(2);
        written.targets[1].extranonce2_size = Some(3);
        assert!(matches!(settle(&written, &[8, 3]), Err(StartError::DoesNotFit { size: 3, .. })));
    }
}
