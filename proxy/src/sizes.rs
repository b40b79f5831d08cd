//! Chooses the miners' extranonce2_size, which is the same for all shared targets, at each start.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daemon::state_file::StateFile;
use tracing::error;

use crate::config::{Config, Target};
use crate::error::StartError;
use crate::upstream;

/// How long to wait for the pools' sizes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Chooses the miners' extranonce2_size: 4 if every shared target has room for it, otherwise 3. A
/// target that never answered is assumed to give 4 bytes, unless the configuration has its size or
/// a former process has stored it.
pub(crate) async fn choose(config: &Config, state_dir: Option<&Path>) -> Result<u8, StartError> {
    let file = state_dir.map(|dir| StateFile::new(dir.join("extranonce.json")));
    let mut known: BTreeMap<String, u8> = match &file {
        Some(file) => file.load()?.unwrap_or_default(),
        None => BTreeMap::new(),
    };
    let address = |target: &Target| format!("{}:{}", target.host, target.port);
    let shared = config.targets.iter().filter(|(id, _)| config.use_of(*id).is_shared());
    let targets: Vec<Target> = shared.map(|(_, target)| target.clone()).collect();
    if targets.iter().any(|target| target.extranonce2_size.is_none()) {
        let probed = upstream::probe_sizes(&targets, PROBE_TIMEOUT).await;
        for (target, size) in targets.iter().zip(probed) {
            if let Some(size) = size {
                known.insert(address(target), size);
            }
        }
        if let Some(file) = &file {
            file.store(&known)?;
        }
    }
    let size =
        |target: &Target| target.extranonce2_size.or_else(|| known.get(&address(target)).copied());
    let sizes: Vec<u8> = targets.iter().map(|target| size(target).unwrap_or(UNKNOWN)).collect();
    settle(config.extranonce2_size, &targets, &sizes)
}

/// The assumed size of a target that never answered.
const UNKNOWN: u8 = 4;

/// The smallest extranonce2_size that leaves room for the slot and three bytes of the miner's.
const SMALLEST: u8 = 4;

/// Chooses the miners' size from the targets' `sizes`. A target without room for it is not used,
/// which is logged as an error. The start fails only if no target is left, or if the configuration
/// gives the size of a target that has no room.
fn settle(wanted: Option<u8>, targets: &[Target], sizes: &[u8]) -> Result<u8, StartError> {
    let usable = || sizes.iter().copied().filter(|size| *size >= SMALLEST);
    let miner = wanted.unwrap_or(if usable().all(|size| size > SMALLEST) { 4 } else { 3 });
    let none_fits = !sizes.iter().any(|size| *size > miner);
    for (target, &size) in targets.iter().zip(sizes) {
        if size > miner {
            continue;
        }
        if none_fits || target.extranonce2_size.is_some() {
            return Err(StartError::DoesNotFit { target: target.name.clone(), size, miner });
        }
        let need = miner + 1;
        error!(target = %target.name, extranonce2_size = size, need, "target left out: no room for slot and miner's bytes");
    }
    Ok(miner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Server;
    use crate::target::TargetId;

    fn targets(count: usize) -> Vec<Target> {
        (0..count).map(|index| Target::new(&format!("t{index}"), "pool", 1, "u")).collect()
    }

    #[test]
    fn miners_get_four_bytes_where_every_target_has_room_for_them() {
        for (sizes, want) in [
            (vec![8, 6], 4),
            (vec![5], 4),
            (vec![8, 4], 3),
            (vec![4], 3),
            (vec![8, 3], 4),
            (vec![], 4),
        ] {
            assert_eq!(
                settle(None, &targets(sizes.len()), &sizes).expect("one fits at least"),
                want,
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn one_small_pool_does_not_keep_the_others_from_being_mined_at_unless_the_operator_wrote_it_down()
     {
        assert!(matches!(
            settle(None, &targets(1), &[3]),
            Err(StartError::DoesNotFit { size: 3, miner: 4, .. })
        ));
        let mut written = targets(2);
        written[1].extranonce2_size = Some(3);
        let refused =
            settle(None, &written, &[8, 3]).expect_err("it cannot be as written").to_string();
        assert!(
            refused.contains("extranonce2_size 3 ") && refused.contains("4 bytes of the miner"),
            "{refused}"
        );
        assert!(refused.contains("passthrough"), "and what can be done about it: {refused}");
        assert!(settle(Some(4), &targets(1), &[4]).is_err(), "4 and 1 do not go into 4");
    }

    /// A pool that answers one subscribe and then closes every connection. It keeps its port, so
    /// that no other test's pool can answer there.
    async fn pool_of_size(size: u8) -> (u16, tokio::task::JoinHandle<()>) {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("asked");
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while !line.contains("mining.subscribe") {
                line.clear();
                stream.read_line(&mut line).await.expect("readable");
            }
            let answer = format!("{{\"id\":2,\"result\":[[],\"aabb\",{size}],\"error\":null}}\n");
            stream.write_all(answer.as_bytes()).await.expect("writable");
            drop(stream);
            while listener.accept().await.is_ok() {}
        });
        (port, serving)
    }

    #[tokio::test]
    async fn what_a_pool_once_said_is_remembered_and_what_was_never_said_counts_as_four() {
        let dir = tempfile::tempdir().expect("a folder");
        let server = Server::new("s", "127.0.0.1:0".parse().expect("an address"));
        let (port, serving) = pool_of_size(8).await;
        let config = Config::new(vec![server], vec![Target::new("a", "127.0.0.1", port, "u")]);
        assert_eq!(choose(&config, Some(dir.path())).await.expect("fits"), 4);
        // The pool no longer answers.
        assert_eq!(choose(&config, Some(dir.path())).await.expect("fits"), 4, "remembered");
        assert_eq!(choose(&config, None).await.expect("fits"), 3, "never heard: counts as four");
        let mut written = config.clone();
        written.targets[TargetId::nth(0)].extranonce2_size = Some(6);
        assert_eq!(choose(&written, None).await.expect("fits"), 4, "the configuration says more");
        let mut passed = config;
        passed.servers[0].passthrough = Some(TargetId::nth(0));
        assert_eq!(
            choose(&passed, None).await.expect("nobody is asked"),
            4,
            "a passthrough has no part in it"
        );
        serving.abort();
    }

    #[tokio::test]
    async fn a_disabled_target_is_not_asked_and_its_size_does_not_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let server = Server::new("s", "127.0.0.1:0".parse().expect("an address"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let on = Target { extranonce2_size: Some(8), ..Target::new("on", "127.0.0.1", 1, "u") };
        let off = Target { disabled: true, ..Target::new("off", "127.0.0.1", port, "u") };
        let mut config = Config::new(vec![server], vec![on, off]);
        assert_eq!(choose(&config, Some(dir.path())).await.expect("fits"), 4, "never heard: 4");
        let asked = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(asked.is_err(), "nobody connects");
        config.targets[TargetId::nth(1)].extranonce2_size = Some(4);
        assert_eq!(choose(&config, None).await.expect("fits"), 4, "written down");
        config.targets[TargetId::nth(1)].extranonce2_size = Some(2);
        assert_eq!(choose(&config, None).await.expect("no mistake"), 4, "and too small");
        config.targets[TargetId::nth(1)].disabled = false;
        assert!(choose(&config, None).await.is_err(), "it would count if it were not disabled");
    }
}
