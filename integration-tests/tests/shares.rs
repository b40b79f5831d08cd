//! Tests of handshakes, shares, difficulty and version rolling, with every firmware model.

use std::time::Duration;

use testbed::miner::{Model, Rounding, TestMiner};
use testbed::pool::{Extranonce1, PoolConfig, Rolling};

use crate::harness::{EASY, PATIENCE, Setup, Site, pool};

async fn mine(setup: Setup, models: &[Model], at_least: u64) -> crate::harness::Books {
    let site = Site::start(setup).await;
    let miners: Vec<TestMiner> = models
        .iter()
        .enumerate()
        .map(|(index, model)| site.miner(*model, &format!("acme.rig-{index}")))
        .collect();
    for miner in &miners {
        miner
            .until(PATIENCE, |counts| counts.answered_true >= at_least)
            .await
            .expect("shares are answered");
    }
    let books = site.settle(miners).await;
    books.check();
    site.stop().await;
    books
}

#[tokio::test(flavor = "multi_thread")]
async fn every_firmware_mines_and_every_share_is_accounted_for() {
    let books = mine(Setup::default(), &[Model::ALL, Model::ALL].concat(), 20).await;
    assert_eq!(
        books.fleet.refused(),
        books.pools[0].total.stale + books.proxy.stale,
        "only stale ones: {books:#?}"
    );
}

/// Shares with rolled version bits are accepted by pools that replace bits and by pools that OR
/// them, with a job that has a bit set inside the mask (docs/protocol.md 2.6).
#[tokio::test(flavor = "multi_thread")]
async fn version_rolling_goes_through_to_pools_of_either_kind() {
    for rolling in [Rolling::MaskReplace, Rolling::Or] {
        let config = PoolConfig { rolling, job_version: 0x2000_0000, ..pool(8, 1) };
        let setup = Setup { pools: vec![config], ..Setup::default() };
        let books = mine(setup, &[Model::StockS19, Model::Cgminer411], 20).await;
        assert!(books.accepted() > 30, "{rolling:?}: {books:#?}");
    }
    // The chip keeps the job's bit, so only a header with that bit is right, and pools of both
    // kinds rebuild it.
    let config =
        PoolConfig { rolling: Rolling::MaskReplace, job_version: 0x2040_0000, ..pool(8, 1) };
    mine(Setup { pools: vec![config], ..Setup::default() }, &[Model::StockS19], 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_refuses_rolling_serves_only_miners_that_do_not_roll() {
    let refusing = PoolConfig { version_mask: None, ..pool(8, 1) };
    let site = Site::start(Setup { pools: vec![refusing, pool(8, 2)], ..Setup::default() }).await;
    let rolling = site.miner(Model::StockS19, "acme.rolling");
    let plain = site.miner(Model::Cpuminer, "acme.plain");
    for miner in [&rolling, &plain] {
        miner.until(PATIENCE, |counts| counts.answered_true >= 10).await.expect("both mine");
    }
    let books = site.settle(vec![rolling, plain]).await;
    books.check();
    assert!(
        books.pools[0].total.accepted > 0 && books.pools[1].total.accepted > 0,
        "each at its own: {books:#?}"
    );
    site.stop().await;
}

/// The pool's difficulty is not a power of two and is above that of the miners. Shares between the
/// two difficulties are answered by the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn shares_between_two_difficulties_are_local() {
    let setup = Setup {
        pools: vec![PoolConfig { difficulty: EASY * 3.0, ..pool(8, 1) }],
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miner = TestMiner::start(testbed::miner::MinerConfig {
        rounding: Rounding::PowerOfTwoFloor,
        ..site.miner_config(Model::Cgminer411, "acme.rig")
    });
    miner.until(PATIENCE, |counts| counts.answered_true >= 60).await.expect("shares are answered");
    let books = site.settle(vec![miner]).await;
    books.check();
    assert!(books.proxy.local > 0 && books.accepted() > 0, "{books:#?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_change_of_difficulty_rides_on_the_next_job() {
    let site = Site::start(Setup::default()).await;
    let miners = site.fleet(4);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 5)
        .await
        .expect("shares are answered");
    for factor in [4.0, 0.5, 2.0] {
        let before = site.pools[0].counts().total.accepted;
        site.pools[0].set_difficulty(EASY * factor).expect("in range");
        site.pools[0].new_job(false);
        site.pools[0]
            .until(PATIENCE, |counts| counts.total.accepted >= before + 5)
            .await
            .expect("shares arrive");
    }
    site.settle(miners).await.check();
    site.stop().await;
}

/// Miners work at a pool with the same extranonce1 for all connections, and at one with room for
/// only the slot and three bytes.
#[tokio::test(flavor = "multi_thread")]
async fn odd_extranonce_sizes_are_absorbed() {
    let braiins = PoolConfig {
        extranonce1: Extranonce1::Fixed(vec![0]),
        configure_first: true,
        ..pool(6, 1)
    };
    mine(
        Setup { pools: vec![braiins], ..Setup::default() },
        &[Model::StockS19, Model::Cpuminer],
        10,
    )
    .await;
    let tight = pool(4, 2);
    let books = mine(
        Setup { pools: vec![tight], ..Setup::default() },
        &[Model::Cgminer411, Model::StockS19],
        10,
    )
    .await;
    assert!(books.accepted() > 0);
}

/// F27: 257 sessions at a pool whose connection has room for 256: a second connection is opened,
/// and no session is refused.
#[tokio::test(flavor = "multi_thread")]
async fn f27_a_full_connection_brings_another() {
    let site = Site::start(Setup { pools: vec![pool(4, 1)], ..Setup::default() }).await;
    let miners: Vec<TestMiner> = (0..260)
        .map(|index| {
            TestMiner::start(testbed::miner::MinerConfig {
                hashrate: 100.0,
                ..site.miner_config(Model::Cgminer411, &format!("acme.rig-{index}"))
            })
        })
        .collect();
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.notifies > 0).await.expect("everybody gets work");
    }
    assert_eq!(site.pools[0].counts().open, 2);
    site.settle(miners).await.check();
    site.stop().await;
}

/// A pool that gives every connection the same extranonce1 and no lane bytes has room for 256
/// sessions. The others get work from the next target.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_without_room_at_the_first_target_work_at_the_next() {
    let full = PoolConfig { extranonce1: Extranonce1::Fixed(vec![0]), ..pool(4, 1) };
    let site = Site::start(Setup { pools: vec![full, pool(8, 2)], ..Setup::default() }).await;
    let miners: Vec<TestMiner> = (0..260)
        .map(|index| {
            TestMiner::start(testbed::miner::MinerConfig {
                hashrate: 100.0,
                ..site.miner_config(Model::Cgminer411, &format!("acme.rig-{index}"))
            })
        })
        .collect();
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.notifies > 0).await.expect("everybody gets work");
    }
    site.settle(miners).await.check();
    site.stop().await;
}

/// F42: at shutdown, the proxy waits for the answers to forwarded shares, and the miners get them.
#[tokio::test(flavor = "multi_thread")]
async fn f42_shares_in_flight_at_shutdown_are_answered() {
    let site = Site::start(Setup { pools: vec![pool(8, 1)], ..Setup::default() }).await;
    let miner = site.miner(Model::Cgminer411, "acme.rig");
    miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    site.pools[0].set_answer_delay(Duration::from_secs(1));
    miner.until(PATIENCE, |counts| counts.outstanding >= 3).await.expect("shares are in flight");
    let left = site.tasks.shutdown(PATIENCE).await;
    assert!(left.is_empty(), "tasks that did not stop: {left:?}");
    assert_eq!(site.proxy.counts().unresolved, 0, "{:#?}", site.proxy.counts());
}
