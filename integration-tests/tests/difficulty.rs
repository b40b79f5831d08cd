//! Tests of vardiff, and of pools whose difficulty is too low for the fleet.

use std::time::Duration;

use daemon::clock;
use stratum::difficulty::Difficulty;
use testbed::miner::{Model, TestMiner};
use testbed::pool::PoolConfig;

use crate::harness::{PATIENCE, Setup, Site, pool};

/// Two to the power of `exponent`.
fn power(exponent: i32) -> f64 {
    2f64.powi(exponent)
}

/// The difficulty of the site's only session.
fn advertised(site: &Site) -> f64 {
    site.proxy.sessions().first().and_then(|session| session.difficulty).unwrap_or_default()
}

/// Waits until the difficulty of the session is as `wanted` says, while the miner submits shares.
async fn until_advertised(site: &Site, miner: &TestMiner, wanted: impl Fn(f64) -> bool) -> f64 {
    let found = miner.until(2 * PATIENCE, |_| wanted(advertised(site))).await;
    assert!(found.is_ok(), "still at 2^{}", advertised(site).log2());
    advertised(site)
}

/// F29: a machine becomes sixteen times faster and slow again. No share that met the difficulty of
/// its job is refused.
#[tokio::test(flavor = "multi_thread")]
async fn f29_a_machine_that_changes_its_speed_is_followed_without_a_refusal() {
    let hard = PoolConfig { difficulty: power(-14), ..pool(8, 1) };
    let site = Site::start(Setup {
        pools: vec![hard],
        change: |config| {
            config.servers[0].vardiff = true;
            config.servers[0].share_interval = Duration::from_secs(1);
            config.targets[proxy::TargetId::nth(0)].suggest_difficulty =
                Difficulty::new(power(-14));
        },
        ..Setup::default()
    })
    .await;
    // The right difficulty for 5 kH/s is 2^-19.7.
    let miner = site.miner(Model::StockS19, "acme.rig");
    let settled =
        until_advertised(&site, &miner, |level| (power(-21)..=power(-18)).contains(&level)).await;
    miner.set_hashrate(80_000.0);
    let raised = until_advertised(&site, &miner, |level| level >= settled * 4.0).await;
    miner.set_hashrate(5_000.0);
    until_advertised(&site, &miner, |level| level <= raised / 4.0).await;
    let books = site.settle(vec![miner]).await;
    books.check();
    assert_eq!((books.proxy.low, books.proxy.pool_rejected), (0, 0), "{books:#?}");
    site.stop().await;
}

/// The maximum number of shares a second at each pool.
const MOST: f64 = 20.0;

/// Two pools whose difficulty starts 10,000 times too low for the fleet. No storm of shares
/// follows. The first pool follows suggestions; the second ignores them, and gets the whole fleet
/// at once when the first dies.
#[tokio::test(flavor = "multi_thread")]
async fn pools_that_start_ten_thousand_times_too_low_see_no_storm() {
    let low = power(-27);
    let first = PoolConfig { difficulty: low, ..pool(8, 1) };
    let second = PoolConfig { difficulty: low, honour_suggestions: false, ..pool(6, 2) };
    let site = Site::start(Setup {
        pools: vec![first, second],
        change: |config| {
            config.servers[0].vardiff = true;
            config.servers[0].share_interval = Duration::from_secs(1);
            config.servers[0].difficulty = Difficulty::new(power(-17)).expect("positive");
            for target in config.targets.values_mut() {
                target.shares_per_sec = 1.0;
                target.shares_per_sec_max = MOST;
            }
        },
        ..Setup::default()
    })
    .await;
    // 320 kH/s are 10,000 shares a second at 2^-27, and one share a second at 2^-13.7.
    let miners: Vec<TestMiner> = (0..8)
        .map(|index| {
            let model = [Model::Cgminer411, Model::StockS19, Model::Cpuminer][index % 3];
            let config = site.miner_config(model, &format!("acme.rig-{index}"));
            TestMiner::start(testbed::miner::MinerConfig { hashrate: 40_000.0, ..config })
        })
        .collect();
    for miner in &miners {
        miner
            .until(PATIENCE, |counts| counts.answered_true >= 3)
            .await
            .expect("shares are answered");
    }
    let difficulty_at = |pool: usize| {
        let connections = site.pools[pool].connections();
        connections.iter().map(|(_, connection)| connection.difficulty).fold(0.0, f64::max)
    };
    let asked =
        miners[0].until(PATIENCE, |_| (power(-16)..=power(-12)).contains(&difficulty_at(0))).await;
    assert!(
        asked.is_ok(),
        "it was asked, and has raised its difficulty: 2^{}",
        difficulty_at(0).log2()
    );

    site.pools[0].die().await;
    let before = clock::now();
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.judged() >= 60)
        .await
        .expect("the fleet has moved");
    let secs = clock::now().duration_since(before).as_secs_f64();
    for (session, held) in
        site.proxy.sessions().iter().map(|session| (session.session, session.difficulty))
    {
        assert!(held >= Some(power(-19)), "session {session} is at {held:?}");
    }
    // The pool's own vardiff catches up, to ten shares a second from this fleet; then the miners'
    // difficulty is at or below the pool's again.
    site.pools[1].set_difficulty(power(-17)).expect("in range");
    site.pools[1].new_job(false);
    let caught_up = |_: &testbed::miner::MinerCounts| {
        site.proxy.sessions().iter().all(|session| session.difficulty <= Some(power(-17)))
    };
    miners[0].until(PATIENCE, caught_up).await.expect("no longer held");
    let books = site.settle(miners).await;
    for pool in &books.pools {
        // Measured over the whole test, with a margin for chance. A storm would be 10,000 shares a
        // second.
        assert!((pool.total.judged() as f64) < 3.0 * MOST * (secs + 10.0), "{books:#?}");
    }
    assert!(60.0 / secs < 2.0 * MOST, "{secs} s for 60 shares");
    books.check();
    site.stop().await;
}
