//! Tests of the proxy with external pools and miners, which are named by environment variables:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `TIELINE_TEST_POOL` | `host:port` of a pool to mine at with our test miners |
//! | `TIELINE_TEST_POOL_USER` | who we are there (`acme`) |
//! | `TIELINE_TEST_POOL_DIFFICULTY` | power of two that the test miners work at; at most the pool's (2^-23) |
//! | `TIELINE_TEST_MINERS_LISTEN` | address for miners to be pointed at, with two test pools behind it |
//! | `TIELINE_TEST_MINERS_SECONDS` | for how long (60) |
//! | `TIELINE_TEST_MINERS_DIFFICULTY` | power of two that those miners work at (2^-23) |
//!
//! Without these variables each test reports that it was skipped, and why.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use daemon::clock;
use daemon::tasks::Tasks;
use prometheus_client::registry::Registry;
use proxy::config::{Config, Target};
use proxy::{Counts, PerTarget, Proxy};
use stratum::difficulty::Difficulty;
use testbed::miner::{MinerConfig, MinerCounts, Model, SearchSpace, TestMiner};
use testbed::pool::{PoolConfig, TestPool};

use crate::harness::{self, EASY, PATIENCE, pool};

/// How long the test miners mine at the external pool.
const WORK: Duration = Duration::from_secs(20);

/// The value of a variable; `None` if it is not set or empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The parsed value of a variable. An invalid value fails the test instead of being ignored.
fn parsed<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = variable(name)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} cannot be read")))
}

fn difficulty(name: &str) -> Difficulty {
    let number = parsed(name).unwrap_or(EASY);
    let difficulty =
        Difficulty::new(number).unwrap_or_else(|| panic!("{name}: {number} is no difficulty"));
    assert_eq!(difficulty.power_of_two_at_or_below(), difficulty, "{name}: must be a power of two");
    difficulty
}

/// Runs a proxy with `config` until `during` ends, and returns its final counts.
async fn with_proxy(config: Config, during: impl AsyncFnOnce(&Proxy)) -> Counts {
    let tasks = Tasks::new();
    let state = tempfile::tempdir().expect("a folder");
    let alone: Option<directive::InProcess> = None;
    let proxy = Proxy::start(
        config,
        alone,
        Some(state.path().to_owned()),
        &mut Registry::default(),
        &tasks,
    )
    .await
    .expect("the proxy starts");
    during(&proxy).await;
    assert_eq!(tasks.panics(), 0, "no task panicked");
    let left = tasks.shutdown(PATIENCE).await;
    assert!(left.is_empty(), "tasks that did not stop: {left:?}");
    proxy.counts()
}

/// Every submit at an external pool is answered exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn an_external_pool_is_mined_at() {
    let Some(address) = variable("TIELINE_TEST_POOL") else {
        println!("skipped: TIELINE_TEST_POOL names no pool (host:port)");
        return;
    };
    let wrong = || panic!("TIELINE_TEST_POOL: {address:?} is not host:port");
    let (host, port) = address.rsplit_once(':').unwrap_or_else(wrong);
    let port = port.parse().unwrap_or_else(|_| panic!("TIELINE_TEST_POOL: {port:?} is no port"));
    let user = variable("TIELINE_TEST_POOL_USER").unwrap_or_else(|| "acme".to_owned());
    let difficulty = difficulty("TIELINE_TEST_POOL_DIFFICULTY");
    let mut config = harness::config(&[]);
    config.servers[0].difficulty = difficulty;
    config.targets = PerTarget::from(vec![Target {
        suggest_difficulty: Some(difficulty),
        ..Target::new("external", host, port, &user)
    }]);
    let mut fleet = MinerCounts::default();
    let counts = with_proxy(config, async |proxy| {
        let space = SearchSpace::default();
        let miner = |index: usize| {
            TestMiner::start(MinerConfig {
                space: space.clone(),
                retry: Duration::from_secs(1),
                ..MinerConfig::new(
                    Model::ALL[index % Model::ALL.len()],
                    proxy.addrs()[0],
                    format!("rig-{index}"),
                )
            })
        };
        let miners: Vec<TestMiner> = (0..8).map(miner).collect();
        for miner in &miners {
            miner
                .until(PATIENCE, |counts| counts.notifies > 0)
                .await
                .expect("every miner gets work");
        }
        tokio::time::sleep(WORK).await;
        for miner in &miners {
            fleet.merge(&miner.stop().await);
        }
    })
    .await;
    println!("{address}: the miners counted {fleet:#?}\nthe proxy counted {counts:#?}");
    assert!(fleet.submitted > 0, "no share was found: is the difficulty too high?");
    assert_eq!(fleet.submitted, fleet.answered_true + fleet.refused(), "every submit is answered");
    assert_eq!((fleet.double_answers, fleet.unknown_answers), (0, 0), "exactly once");
    assert_eq!(fleet.answered_true, counts.accepted + counts.local, "true only when it was true");
    let ours = (fleet.repeated_work, fleet.shared_work, fleet.disconnects, fleet.failed_handshakes);
    assert_eq!(ours, (0, 0, 0, 0), "no work twice, no connection lost");
}

/// With any external miners, the pools receive only valid shares, even while miners are switched
/// between the pools.
#[tokio::test(flavor = "multi_thread")]
async fn external_miners_are_carried() {
    let Some(listen) = parsed::<SocketAddr>("TIELINE_TEST_MINERS_LISTEN") else {
        println!(
            "skipped: TIELINE_TEST_MINERS_LISTEN names no address for miners (such as 0.0.0.0:3333)"
        );
        return;
    };
    let seconds = parsed("TIELINE_TEST_MINERS_SECONDS").unwrap_or(60);
    let difficulty = difficulty("TIELINE_TEST_MINERS_DIFFICULTY");
    let mut pools = Vec::new();
    for (size, seed) in [(8, 1), (6, 2)] {
        let config = PoolConfig { difficulty: difficulty.get(), ..pool(size, seed) };
        pools.push(TestPool::start(config).await.expect("a free port"));
    }
    let mut config = harness::config(&pools);
    config.servers[0].listen = listen;
    config.servers[0].difficulty = difficulty;
    let counts = with_proxy(config, async |_| {
        println!("miners may come to {listen} for {seconds} s");
        let end = clock::now() + Duration::from_secs(seconds);
        let turn = Duration::from_secs(seconds).div_f64(5.0);
        // The first pool is used, then the second one for a while, then the first one again.
        tokio::time::sleep(turn).await;
        pools[0].die().await;
        tokio::time::sleep(turn).await;
        pools[0].come_back().await;
        tokio::time::sleep_until(end.into()).await;
    })
    .await;
    let books: Vec<testbed::pool::Counts> = pools.iter().map(TestPool::counts).collect();
    println!("the pools counted {books:#?}\nthe proxy counted {counts:#?}");
    for pool in &books {
        let bad =
            (pool.total.duplicate, pool.total.low, pool.total.unknown_job, pool.total.malformed);
        assert_eq!(bad, (0, 0, 0, 0), "the pools see good shares only");
    }
    assert!(books.iter().map(|pool| pool.total.accepted).sum::<u64>() > 0, "no share came");
}
