//! The harness of the suite: test pools, a proxy, test miners, and the comparison of their counts.

use std::net::SocketAddr;
use std::time::Duration;

use daemon::tasks::Tasks;
use directive::{InProcess, Outlet, ReceiverRole, Replica, SessionReport, in_process};
use prometheus_client::registry::Registry;
use proxy::config::{Config, NoUpstream, Server, Target};
use proxy::{Counts, Proxy, ShareLogConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use stratum::difficulty::Difficulty;
use testbed::miner::{MinerConfig, MinerCounts, Model, SearchSpace, TestMiner};
use testbed::pool::{PoolConfig, TestPool};
use testbed::relay::Relay;

/// The deadline of every wait, long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A difficulty that a test miner of 5 kH/s meets about ten times a second.
pub(crate) const EASY: f64 = 1.0 / (1u64 << 23) as f64;

/// A proxy under test, with its pools.
pub(crate) struct Site {
    pub(crate) pools: Vec<TestPool>,
    /// The relays between the proxy and each pool, if the setup has them.
    pub(crate) relays: Vec<Relay>,
    pub(crate) proxy: Proxy,
    pub(crate) tasks: Tasks,
    /// The switchboard's end of the link, if the setup has one.
    pub(crate) outlet: Option<Outlet>,
    /// What the proxy has reported.
    pub(crate) reported: Replica<SessionReport>,
    registry: Registry,
    state: tempfile::TempDir,
    space: SearchSpace,
}

/// The settings of a site.
pub(crate) struct Setup {
    pub(crate) pools: Vec<PoolConfig>,
    pub(crate) linked: bool,
    /// Put a relay between the proxy and each pool.
    pub(crate) relayed: bool,
    pub(crate) change: fn(&mut Config),
    /// Whether the proxy keeps a share log, in [`Site::share_log`].
    pub(crate) share_log: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pools: vec![pool(8, 1), pool(6, 2)],
            linked: false,
            relayed: false,
            change: |_| {},
            share_log: false,
        }
    }
}

/// Raises this process's limit of open files as far as allowed: both ends of every connection are
/// in this process, and many systems allow only 1,024.
pub(crate) fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If the system refuses, the present limit may be enough.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The settings of a test pool: a new job each second, every third one clean, and easy shares.
pub(crate) fn pool(extranonce2_size: usize, seed: u64) -> PoolConfig {
    PoolConfig {
        extranonce2_size,
        seed,
        difficulty: EASY,
        job_interval: Duration::from_secs(1),
        clean_every: 3,
        ..PoolConfig::default()
    }
}

/// The proxy's configuration for these pools.
pub(crate) fn config(pools: &[TestPool]) -> Config {
    let addrs: Vec<SocketAddr> = pools.iter().map(TestPool::addr).collect();
    config_for(&addrs)
}

/// The proxy's configuration for pools at these addresses.
pub(crate) fn config_for(pools: &[SocketAddr]) -> Config {
    let small = Difficulty::new(1.0 / (1u64 << 28) as f64).expect("positive");
    let easy = Difficulty::new(EASY).expect("positive");
    // Vardiff is switched on only in its own tests; all others need a steady number of shares.
    let server = Server {
        difficulty: easy,
        min_difficulty: small,
        vardiff: false,
        // Test miners hash a thousand million times slower than the devices in their user agents.
        by_user_agent: false,
        ..Server::new("asics", "127.0.0.1:0".parse().expect("an address"))
    };
    let targets = pools
        .iter()
        .zip(["a", "b", "c"])
        .map(|(pool, name)| Target::new(name, &pool.ip().to_string(), pool.port(), "acme"));
    let mut config = Config::new(vec![server], targets.collect());
    config.failback_after = Duration::from_secs(2);
    config.report_every = Duration::from_millis(100);
    config.no_upstream = NoUpstream::Hold;
    config.threads = 3;
    config
}

impl Site {
    pub(crate) async fn start(setup: Setup) -> Self {
        let mut pools = Vec::new();
        for config in setup.pools {
            pools.push(TestPool::start(config).await.expect("a free port"));
        }
        let mut config = config(&pools);
        let mut relays = Vec::new();
        for (pool, target) in
            pools.iter().zip(config.targets.values_mut()).filter(|_| setup.relayed)
        {
            let relay =
                Relay::start(pool.addr(), u64::from(target.port)).await.expect("a free port");
            target.port = relay.addr().port();
            relays.push(relay);
        }
        config.share_log = setup.share_log.then(|| ShareLogConfig {
            dir: "shares".into(),
            rotate_bytes: 2000,
            rotate_every: Duration::from_secs(86_400),
            keep: 1000,
        });
        (setup.change)(&mut config);
        Self { relays, ..Self::with(pools, config, setup.linked).await }
    }

    /// A site with these pools and exactly this configuration.
    pub(crate) async fn with(pools: Vec<TestPool>, mut config: Config, linked: bool) -> Self {
        raise_open_files();
        let state = tempfile::tempdir().expect("a folder");
        if let Some(log) = &mut config.share_log {
            log.dir = state.path().join(&log.dir);
        }
        let (link, outlet): (Option<InProcess>, Option<Outlet>) = if linked {
            let (link, outlet) = in_process("proxy".into(), ReceiverRole::Proxy);
            (Some(link), Some(outlet))
        } else {
            (None, None)
        };
        let tasks = Tasks::new();
        let mut registry = Registry::default();
        let proxy =
            Proxy::start(config, link, Some(state.path().to_owned()), &mut registry, &tasks)
                .await
                .expect("the proxy starts");
        let (relays, space) = (Vec::new(), SearchSpace::default());
        let reported = Replica::default();
        Self { pools, relays, proxy, tasks, outlet, reported, registry, state, space }
    }

    /// How often an alarm was raised.
    pub(crate) fn alarms(&self, reason: &str) -> u64 {
        self.metric(&format!("tieline_proxy_alarms_total{{reason=\"{reason}\"}}"))
    }

    /// The value of a metric, by its name with labels; 0 if it does not exist.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let line = format!("{name} ");
        self.metrics()
            .lines()
            .find_map(|found| found.strip_prefix(&line)?.parse().ok())
            .unwrap_or(0)
    }

    /// All metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes every byte");
        text
    }

    /// Waits until the last connection of a target has ended for this reason.
    pub(crate) async fn fault(&self, target: usize, reason: &str) -> String {
        let wanted = format!("{reason}: ");
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let fault = self.proxy.targets().swap_remove(target).last_fault;
                match fault {
                    Some(fault) if fault.starts_with(&wanted) => return fault,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        match waited.await {
            Ok(fault) => fault,
            Err(_) => {
                panic!("{reason} was waited for: {:#?}", self.proxy.targets().swap_remove(target))
            }
        }
    }

    /// The settings of a miner of this site. All its miners share one record of work.
    pub(crate) fn miner_config(&self, model: Model, worker: &str) -> MinerConfig {
        MinerConfig {
            space: self.space.clone(),
            retry: Duration::from_millis(200),
            ..MinerConfig::new(model, self.proxy.addrs()[0], worker)
        }
    }

    pub(crate) fn miner(&self, model: Model, worker: &str) -> TestMiner {
        TestMiner::start(self.miner_config(model, worker))
    }

    /// One miner of each model.
    pub(crate) fn fleet(&self, count: usize) -> Vec<TestMiner> {
        (0..count)
            .map(|index| {
                self.miner(Model::ALL[index % Model::ALL.len()], &format!("acme.rig-{index}"))
            })
            .collect()
    }

    /// Stops the miners, waits for their answers, and returns all counts: the sum of the miners,
    /// the sum of the pools, and those of the proxy.
    pub(crate) async fn settle(&self, miners: Vec<TestMiner>) -> Books {
        let mut fleet = MinerCounts::default();
        for miner in &miners {
            fleet.merge(&miner.stop().await);
        }
        let pools: Vec<testbed::pool::Counts> = self.pools.iter().map(TestPool::counts).collect();
        Books { fleet, pools, proxy: self.proxy.counts() }
    }

    /// The lines of the share log so far, from all its files.
    pub(crate) fn share_log(&self) -> Vec<Value> {
        let folder =
            std::fs::read_dir(self.state.path().join("shares")).expect("the folder is there");
        let mut files: Vec<_> = folder.map(|file| file.expect("readable").path()).collect();
        // The closed files in order of time, then the current one.
        files.sort();
        files.sort_by_key(|path| path.ends_with("shares.jsonl"));
        let lines = files.iter().flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("text");
            text.lines()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect::<Vec<Value>>()
        });
        lines.collect()
    }

    /// Stops the proxy. Its files can still be read.
    pub(crate) async fn halt(&self) {
        assert_eq!(self.tasks.panics(), 0, "no task panicked");
        let left = self.tasks.shutdown(PATIENCE).await;
        assert!(left.is_empty(), "tasks that did not stop: {left:?}");
    }

    pub(crate) async fn stop(self) {
        self.halt().await;
    }
}

/// The counts of all sides after all traffic has ended.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) fleet: MinerCounts,
    pub(crate) pools: Vec<testbed::pool::Counts>,
    pub(crate) proxy: Counts,
}

impl Books {
    pub(crate) fn accepted(&self) -> u64 {
        self.pools.iter().map(|pool| pool.total.accepted).sum()
    }

    /// Checks what must hold after every test (docs/faults.md, P01 to P03).
    pub(crate) fn check(&self) {
        let fleet = &self.fleet;
        assert!(fleet.submitted > 0, "nothing was tested: {self:#?}");
        assert_eq!(
            fleet.submitted,
            fleet.answered_true + fleet.refused(),
            "every submit is answered: {self:#?}"
        );
        assert_eq!(
            (fleet.double_answers, fleet.unknown_answers),
            (0, 0),
            "exactly once: {self:#?}"
        );
        let taken = self.accepted() + self.proxy.local;
        assert!(fleet.answered_true <= taken, "true only when it was true: {self:#?}");
        assert!(
            taken <= fleet.answered_true + self.proxy.unresolved,
            "nothing good was refused: {self:#?}"
        );
        for pool in &self.pools {
            let bad = (
                pool.total.duplicate,
                pool.total.low,
                pool.total.unknown_job,
                pool.total.malformed,
            );
            assert_eq!(bad, (0, 0, 0, 0), "the pool never sees a bad share: {self:#?}");
            // The simulation tests how soon this happens; on a busy machine a miner may read late.
            assert!(pool.stale_age_ms_max <= 10_000, "stale only after a clean job: {self:#?}");
        }
        assert_eq!((fleet.repeated_work, fleet.shared_work), (0, 0), "no work twice: {self:#?}");
        assert_eq!((fleet.repeated_job_ids, fleet.extranonce_changes), (0, 0), "{self:#?}");
        assert_eq!(
            (fleet.configure_repeats, fleet.passed_over),
            (0, 0),
            "nothing firmware stumbles over: {self:#?}"
        );
        assert_eq!(
            (fleet.disconnects, fleet.failed_handshakes, fleet.timeouts),
            (0, 0, 0),
            "{self:#?}"
        );
    }
}
