//! Runs the load tool without a peer: the counts of its miners and its pool must agree.

use super::*;

fn config(miners: usize) -> LoadConfig {
    LoadConfig {
        pool: PoolSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            second: None,
            difficulty: 2_f64.powi(-28),
            job_every: Duration::from_millis(400),
            extranonce2_size: 8,
            branches: 12,
            validate: true,
        },
        miners,
        connect_window: 20,
        rate: 500.0,
        span: Duration::from_millis(1500),
        idle: Duration::from_millis(900),
        slope_from: None,
        version_rolling: true,
        worker: "bench.".into(),
        password: "x".into(),
        pids: Vec::new(),
        wait: Duration::from_secs(60),
        kill_pool_at: None,
        pool_dies_every: None,
        with_floor: false,
    }
}

#[test]
fn miners_and_pool_agree_on_every_share() {
    for version_rolling in [true, false] {
        let bench = Bench::open(LoadConfig { version_rolling, ..config(50) }).unwrap();
        let Report { measured, floor } = bench.run(None, |_| ()).unwrap();
        assert!(floor.is_none());
        let (shares, pool) = (&measured.shares, &measured.pools[0]);
        // How many shares are sent depends on the machine.
        assert!(shares.submitted >= 50, "{measured:#?}");
        assert_eq!(
            shares.submitted,
            shares.answered_true + shares.refused.values().sum::<u64>(),
            "{measured:#?}"
        );
        assert_eq!(
            (shares.answered_true, shares.stale),
            (pool.accepted, pool.stale),
            "{measured:#?}"
        );
        assert_eq!(
            (pool.low, pool.duplicate, pool.unknown, pool.malformed),
            (0, 0, 0, 0),
            "{measured:#?}"
        );
        assert_eq!(pool.connections, 51, "the miners' and the one that came before");
        assert!(measured.nothing_lost() && shares.odd_answers == 0, "{measured:#?}");
        assert!(measured.jobs_idle.jobs >= 1 && measured.jobs_loaded.jobs >= 1, "{measured:#?}");
        assert_eq!(measured.jobs_idle.incomplete, 0, "{measured:#?}");
        assert!(
            measured.answer_ms.p50 > 0.0 && measured.answer_ms.p50 <= measured.answer_ms.max,
            "{measured:#?}"
        );
    }
}

#[test]
fn a_slope_is_measured_between_two_sizes() {
    let config = LoadConfig { slope_from: Some(5), pids: vec![std::process::id()], ..config(20) };
    let measured = Bench::open(config).unwrap().run(None, |_| ()).unwrap().measured;
    let memory = measured.memory.unwrap();
    let slope = memory.slope.unwrap();
    assert_eq!(slope.from_miners, 5);
    assert!(slope.from_kib > 0 && memory.after_kib > 0, "{memory:?}");
    assert!(measured.cpu.unwrap().seconds >= 0.0);
    assert!(
        measured.shares.timed < measured.shares.submitted,
        "the first five had submitted before"
    );
}

#[test]
fn a_dead_pool_loses_its_miners() {
    let mut config = LoadConfig { kill_pool_at: Some(Duration::from_millis(300)), ..config(10) };
    config.pool.second = Some("127.0.0.1:0".parse().unwrap());
    let measured = Bench::open(config).unwrap().run(None, |_| ()).unwrap().measured;
    assert_eq!(measured.disconnects, 10, "{measured:#?}");
    assert!(measured.shares.unsendable > 0 && !measured.nothing_lost(), "{measured:#?}");
    assert_eq!(measured.failovers[0].moved, 0, "nobody was there to move them");
}

#[test]
fn what_cannot_be_measured_is_said() {
    // Keep the port, so that no other test listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = held.local_addr().unwrap();
    let bench = Bench::open(LoadConfig { wait: Duration::ZERO, ..config(1) }).unwrap();
    let error = bench.run(Some(nobody), |_| ()).unwrap_err();
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    let error = Bench::open(config(1 << 40)).unwrap_err();
    assert!(matches!(error, LoadError::OpenFiles { .. }), "{error}");
    let mut hard = config(1);
    hard.pool.difficulty = 1.0;
    let error = Bench::open(hard).unwrap().run(None, |_| ()).unwrap_err();
    assert!(matches!(error, LoadError::TooHard { .. }), "{error}");
}
