//! Pools that die, fall silent, return, change their extranonce or send the same job again: no
//! miner loses its connection or a share because of them.

use std::time::Duration;

use proxy::TargetId;
use proxy::config::NoUpstream;
use testbed::miner::Model;
use testbed::pool::{Mood, PoolConfig, Verdicts};

use crate::harness::{PATIENCE, Setup, Site, pool};

#[tokio::test(flavor = "multi_thread")]
async fn f01_f15_a_dead_pool_is_left_and_returned_to_without_a_lost_connection() {
    let site = Site::start(Setup::default()).await;
    let miners = site.fleet(8);
    for _ in 0..2 {
        let before = site.pools[0].counts().total.accepted;
        site.pools[0]
            .until(PATIENCE, |counts| counts.total.accepted > before + 20)
            .await
            .expect("the primary is mined at");
        site.pools[0].die().await;
        let before = site.pools[1].counts().total.accepted;
        site.pools[1]
            .until(PATIENCE, |counts| counts.total.accepted > before + 20)
            .await
            .expect("the backup is mined at");
        site.pools[0].come_back().await;
    }
    let before = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("the primary is back");
    let books = site.settle(miners).await;
    books.check();
    // The switch takes milliseconds; the bound allows for busy machines.
    assert!(books.fleet.gap_ms <= 10_000, "a job at once: {books:#?}");
    assert_eq!(books.fleet.reconnects, 0);
    site.stop().await;
}

/// F11, U56: a host name that cannot be resolved is skipped. This one is longer than any valid
/// name, so that no name server is asked.
#[tokio::test(flavor = "multi_thread")]
async fn f11_u56_a_name_that_does_not_resolve_is_passed_over() {
    let setup = Setup {
        change: |config| config.targets[TargetId::nth(0)].host = "x".repeat(64),
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners = site.fleet(2);
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > 10)
        .await
        .expect("the next one is mined at");
    let fault = site.fault(0, "connect").await;
    assert!(fault.contains(&"x".repeat(64)), "{fault}");
    site.settle(miners).await.check();
    site.stop().await;
}

/// docs/protocol.md 3.1, runs Z and V: after the return to a pool with an unchanged job, no work is
/// repeated.
#[tokio::test(flavor = "multi_thread")]
async fn returning_to_an_unchanged_job_repeats_nothing() {
    let still = |size, seed| PoolConfig { job_interval: Duration::ZERO, ..pool(size, seed) };
    let site =
        Site::start(Setup { pools: vec![still(8, 1), still(6, 2)], ..Setup::default() }).await;
    let miners = site.fleet(8);
    for _ in 0..3 {
        let before = site.pools[0].counts().total.accepted;
        site.pools[0]
            .until(PATIENCE, |counts| counts.total.accepted > before + 30)
            .await
            .expect("mined at");
        // The connection to the pool stays open, so that the miners return to the same job; the
        // pool only sends no new jobs for a while.
        site.pools[0].drop_connections();
        let before = site.pools[1].counts().total.accepted;
        site.pools[1]
            .until(PATIENCE, |counts| counts.total.accepted > before + 30)
            .await
            .expect("mined at");
    }
    site.settle(miners).await.check();
    site.stop().await;
}

/// Returning repeats no work even at a pool that gives a reconnecting client the same extranonce1
/// and the same job again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_repeats_its_extranonce1_gets_no_duplicates() {
    let still = PoolConfig { job_interval: Duration::ZERO, ..pool(8, 1) };
    let site = Site::start(Setup { pools: vec![still], ..Setup::default() }).await;
    site.pools[0].reuse_extranonce1(true);
    let miners = site.fleet(4);
    for _ in 0..4 {
        let before = site.pools[0].counts().total.accepted;
        site.pools[0]
            .until(PATIENCE, |counts| counts.total.accepted > before + 20)
            .await
            .expect("mined at");
        site.pools[0].drop_connections();
    }
    let before = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("mined at");
    site.settle(miners).await.check();
    site.stop().await;
}

/// docs/protocol.md 3.1, run X1: a miner that reconnects during a job gets a different slot or a
/// new lane, and never its old work.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_miner_repeats_nothing() {
    let still = PoolConfig { job_interval: Duration::ZERO, ..pool(8, 1) };
    let site = Site::start(Setup { pools: vec![still], ..Setup::default() }).await;
    let mut fleet = Vec::new();
    for round in 0..6 {
        let miner = site.miner(Model::ALL[round % 4], "acme.rig");
        miner
            .until(PATIENCE, |counts| counts.answered_true >= 10)
            .await
            .expect("shares are answered");
        miner.stop().await;
        fleet.push(miner);
    }
    site.settle(fleet).await.check();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_equal_job_ids_and_a_changed_extranonce_confuse_nobody() {
    // The pools use the same job ids for different jobs: with the same coinbase, they would be the
    // same pool.
    let site = Site::start(Setup { pools: vec![pool(8, 7), pool(8, 8)], ..Setup::default() }).await;
    site.pools[0].repeat_job_ids(true);
    let miners = site.fleet(4);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 10)
        .await
        .expect("shares are answered");
    for size in [6, 8, 5] {
        site.pools[0].set_extranonce(None, size).expect("in range");
        site.pools[0].new_job(true);
        let before = site.pools[0].counts().total.accepted;
        site.pools[0]
            .until(PATIENCE, |counts| counts.total.accepted > before + 10)
            .await
            .expect("shares arrive");
    }
    let books = site.settle(miners).await;
    assert_eq!(
        (books.fleet.disconnects, books.fleet.repeated_work, books.fleet.extranonce_changes),
        (0, 0, 0),
        "{books:#?}"
    );
    site.stop().await;
}

/// F03, F09: a pool that no longer sends anything is detected by its unanswered shares.
#[tokio::test(flavor = "multi_thread")]
async fn f03_a_silent_pool_is_left_when_its_answers_stay_out() {
    let setup = Setup {
        change: |config| {
            config.pool.suspect = Duration::from_millis(500);
            config.pool.answer = Duration::from_secs(2);
        },
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners = site.fleet(4);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 10)
        .await
        .expect("shares are answered");
    site.pools[0].set_mood(Mood::Silent);
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("the backup is mined at");
    let books = site.settle(miners).await;
    let fleet = &books.fleet;
    assert_eq!(fleet.submitted, fleet.answered_true + fleet.refused(), "{books:#?}");
    assert!(books.proxy.unresolved > 0, "the shares in flight are nobody's: {books:#?}");
    assert_eq!(fleet.disconnects, 0);
    site.stop().await;
}

/// F17: a pool that rejects every share is left, and miners move to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_pool_that_takes_nothing_is_left() {
    let site = Site::start(Setup::default()).await;
    let miners = site.fleet(4);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 10)
        .await
        .expect("shares are answered");
    site.pools[0].set_verdicts(Verdicts::RejectAll);
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("the backup is mined at");
    let books = site.settle(miners).await;
    assert_eq!(
        books.fleet.submitted,
        books.fleet.answered_true + books.fleet.refused(),
        "{books:#?}"
    );
    assert!(books.pools[0].rejected_by_order >= 10, "{books:#?}");
    site.stop().await;
}

/// F12: without any usable pool, miners are held: they get pings, and no share is answered `true`.
/// When a pool returns, they continue.
#[tokio::test(flavor = "multi_thread")]
async fn f12_without_any_pool_miners_are_held() {
    let setup = Setup {
        change: |config| config.ping_every = Duration::from_millis(500),
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners = site.fleet(4);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 10)
        .await
        .expect("shares are answered");
    for pool in &site.pools {
        pool.die().await;
    }
    for miner in &miners {
        miner.set_hashrate(0.0);
    }
    let pings = miners[0].counts().pings;
    miners[0]
        .until(PATIENCE, |counts| counts.pings >= pings + 3)
        .await
        .expect("pings while nothing else comes");
    for miner in &miners {
        miner.set_hashrate(5000.0);
    }
    site.pools[1].come_back().await;
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 10)
        .await
        .expect("mining goes on");
    let books = site.settle(miners).await;
    books.check();
    site.stop().await;
}

/// F58, U01: a pool cannot redirect the miners or the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn f58_redirects_and_messages_are_not_passed_on() {
    let site = Site::start(Setup::default()).await;
    let thief = testbed::pool::TestPool::start(pool(8, 9)).await.expect("a free port");
    let miners = site.fleet(2);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 5)
        .await
        .expect("shares are answered");
    site.pools[0].send_reconnect("127.0.0.1", thief.addr().port(), 0);
    site.pools[0].show_message("\u{1b}[2Jyour farm is mine");
    site.pools[0].send_raw(None, r#"{"id":null,"method":"client.exec","params":["rm"]}"#);
    let before = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("mining goes on here");
    for miner in &miners {
        for (_, line) in miner.wire() {
            assert!(
                !line.contains("reconnect")
                    && !line.contains("farm is mine")
                    && !line.contains("exec"),
                "{line}"
            );
        }
    }
    site.settle(miners).await.check();
    assert_eq!(thief.counts().connects, 0);
    site.stop().await;
}

/// A pool that answers but sends no job is quiet, and is left when a different pool has work.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_pool_is_left_for_one_that_brings_work() {
    let setup =
        Setup { change: |config| config.pool.quiet = Duration::from_secs(2), ..Setup::default() };
    let site = Site::start(setup).await;
    let miners = site.fleet(4);
    miners[0]
        .until(PATIENCE, |counts| counts.answered_true >= 10)
        .await
        .expect("shares are answered");
    site.pools[0].set_mood(Mood::Quiet);
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 10)
        .await
        .expect("the backup is mined at");
    let primary = site.proxy.targets().remove(0);
    assert!(primary.up && primary.quiet, "alive, and known to be quiet: {primary:?}");
    site.settle(miners).await.check();
    site.stop().await;
}

/// After `release_after` without any pool, miners are disconnected, so that they can use their own
/// backup pools.
#[tokio::test(flavor = "multi_thread")]
async fn without_any_pool_for_long_miners_are_released() {
    let setup = Setup {
        change: |config| config.no_upstream = NoUpstream::ReleaseAfter(Duration::from_secs(1)),
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let backup = testbed::pool::TestPool::start(pool(8, 9)).await.expect("a free port");
    let mut config = site.miner_config(Model::Cgminer411, "acme.rig");
    config.addresses.push(backup.addr().to_string());
    let miner = testbed::miner::TestMiner::start(config);
    miner.until(PATIENCE, |counts| counts.answered_true >= 10).await.expect("shares are answered");
    for pool in &site.pools {
        pool.die().await;
    }
    backup
        .until(PATIENCE, |counts| counts.total.accepted > 10)
        .await
        .expect("the miner's own backup has it");
    miner.stop().await;
    site.stop().await;
}
