//! The load tool with a proxy between its miners and its pools: the counts of the miners, the proxy
//! and the pools must agree.

use std::time::Duration;

use proxy::config::{Config, Target};
use stratum::difficulty::Difficulty;
use testbed::load::{Bench, LoadConfig, PoolSettings, Report};

use crate::harness::{Site, config};

fn load(second: bool) -> LoadConfig {
    let any = "127.0.0.1:0".parse().expect("an address");
    LoadConfig {
        pool: PoolSettings {
            listen: any,
            second: second.then_some(any),
            difficulty: Difficulty::FLOOR.get(),
            job_every: Duration::from_millis(700),
            extranonce2_size: 8,
            branches: 12,
            validate: true,
        },
        miners: 50,
        connect_window: 20,
        rate: 300.0,
        span: Duration::from_millis(2500),
        idle: Duration::from_millis(1500),
        slope_from: None,
        version_rolling: true,
        worker: "bench.".into(),
        password: "x".into(),
        pids: Vec::new(),
        wait: Duration::from_secs(60),
        kill_pool_at: second.then_some(Duration::from_millis(1000)),
        pool_dies_every: None,
        with_floor: false,
    }
}

/// Runs the load tool against a new proxy. Returns its report and the counts of the proxy.
async fn play(load: LoadConfig) -> (Report, proxy::Counts) {
    let bench = Bench::open(load).expect("free ports");
    let addrs = bench.pool_addrs().iter().zip(["a", "b"]);
    let targets = addrs
        .map(|(addr, name)| Target::new(name, &addr.ip().to_string(), addr.port(), "acme"))
        .collect();
    let mut server = config(&[]).servers.swap_remove(0);
    server.difficulty = Difficulty::FLOOR;
    let site =
        Site::with(Vec::new(), Config { targets, ..Config::new(vec![server], Vec::new()) }, false)
            .await;
    let connect = site.proxy.addrs()[0];
    let ran = tokio::task::spawn_blocking(move || bench.run(Some(connect), |_| ()));
    let report = ran.await.expect("no panic").expect("the proxy serves");
    let counts = site.proxy.counts();
    site.stop().await;
    (report, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_proxy_and_pool_agree_on_every_share() {
    let (report, proxy) = play(load(false)).await;
    let (measured, pool) = (&report.measured, report.measured.pools[0]);
    // How many shares are sent depends on the machine.
    assert!(measured.shares.submitted >= 50, "{report:#?}");
    assert!(measured.nothing_lost() && measured.shares.odd_answers == 0, "{report:#?}");
    assert_eq!(
        measured.shares.answered_true,
        pool.accepted + proxy.local,
        "{report:#?} {proxy:#?}"
    );
    assert_eq!(
        measured.shares.refused.values().sum::<u64>(),
        measured.shares.stale,
        "only stale ones: {report:#?}"
    );
    assert_eq!(measured.shares.stale, pool.stale + proxy.stale, "{report:#?} {proxy:#?}");
    assert_eq!(
        (pool.low, pool.duplicate, pool.unknown, pool.malformed),
        (0, 0, 0, 0),
        "{report:#?}"
    );
    assert!(measured.jobs_idle.jobs >= 1 && measured.jobs_loaded.jobs >= 1, "{report:#?}");
    assert_eq!(
        measured.oddities.unreadable_lines + measured.oddities.foreign_jobs,
        0,
        "{report:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_first_pool_dies_every_miner_gets_to_the_second_on_its_connection() {
    let (report, proxy) = play(load(true)).await;
    let measured = &report.measured;
    assert_eq!((measured.disconnects, measured.shares.unanswered), (0, 0), "{report:#?}");
    let failover = measured.failovers.first().expect("the first pool was closed");
    assert_eq!(failover.moved, 50, "{report:#?}");
    assert!(failover.first_ms <= failover.last_ms, "{report:#?}");
    // Shares that the dead pool accepted but could not answer are unresolved: refused by the proxy,
    // counted as accepted by the pool.
    let accepted: u64 = measured.pools.iter().map(|pool| pool.accepted).sum();
    let told_true = measured.shares.answered_true;
    assert!(
        (told_true..=told_true + proxy.unresolved).contains(&(accepted + proxy.local)),
        "{report:#?} {proxy:#?}"
    );
    assert!(measured.pools[1].accepted > 0, "the second pool was mined at: {report:#?}");
}
