//! Tests with many miners, with misbehaving ones, and with pools that change their parameters: rows
//! F20-F34 of docs/faults.md.

use std::collections::HashSet;
use std::time::Duration;

use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::{Mood, PoolConfig};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Setup, Site, pool};

const SUBSCRIBE: &str = r#"{"id":1,"method":"mining.subscribe","params":["x"]}"#;
const AUTHORIZE: &str = r#"{"id":2,"method":"mining.authorize","params":["acme.churn","x"]}"#;

/// A pool that sends only its first job.
fn still(extranonce2_size: usize, seed: u64) -> PoolConfig {
    PoolConfig { job_interval: Duration::ZERO, ..pool(extranonce2_size, seed) }
}

/// Waits until the proxy has `count` sessions.
async fn sessions(site: &Site, count: usize) {
    let freed = async {
        while site.proxy.sessions().len() != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, freed)
        .await
        .unwrap_or_else(|_| panic!("{} sessions are left", site.proxy.sessions().len()));
}

/// F20: a miner that connects long after the last job gets the current job at once.
#[tokio::test(flavor = "multi_thread")]
async fn f20_a_late_comer_gets_the_present_job_at_once() {
    let site = Site::start(Setup { pools: vec![still(8, 1)], ..Setup::default() }).await;
    let first = site.miner(Model::Cgminer411, "acme.first");
    first.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let late = site.miner(Model::Cpuminer, "acme.late");
    let counts = late.until(PATIENCE, |counts| counts.notifies > 0).await.expect("a job");
    // The job comes within milliseconds. The pool never sends a second job, so the miner did not
    // wait for one.
    assert!(counts.first_job_ms <= 20_000, "{counts:?}");
    site.settle(vec![first, late]).await.check();
    site.stop().await;
}

/// F21: while a pool sends no job, pings keep the watchdogs of firmware quiet, and fresh work is
/// made under new job ids on lanes that nobody has searched.
#[tokio::test(flavor = "multi_thread")]
async fn f21_without_a_new_job_watchdogs_stay_quiet_and_no_work_is_repeated() {
    let setup = Setup {
        pools: vec![still(8, 1)],
        change: |config| {
            config.ping_every = Duration::from_millis(200);
            config.refresh_after = Duration::from_millis(500);
        },
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let watched = |(index, model): (usize, &Model)| {
        let config = site.miner_config(*model, &format!("acme.rig-{index}"));
        TestMiner::start(MinerConfig { idle_timeout: Some(Duration::from_secs(3)), ..config })
    };
    let miners: Vec<TestMiner> = Model::ALL.iter().enumerate().map(watched).collect();
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.notifies >= 5).await.expect("fresh work");
    }
    for miner in &miners {
        miner.set_hashrate(0.0);
    }
    let pings = miners[0].counts().pings;
    miners[0]
        .until(PATIENCE, |counts| counts.pings > pings)
        .await
        .expect("a ping where no share is answered");
    assert_eq!(site.pools[0].counts().jobs, 1, "all from one job");
    site.settle(miners).await.check();
    site.stop().await;
}

/// F22: ten thousand miners disconnect in the middle of the handshake, at every step of it. No
/// session and no seat of theirs remains.
#[tokio::test(flavor = "multi_thread")]
async fn f22_miners_that_vanish_in_the_handshake_leave_nothing() {
    let site = Site::start(Setup::default()).await;
    let honest = site.miner(Model::Cgminer411, "acme.honest");
    honest.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let addr = site.proxy.addrs()[0];
    let vanish = async |number: usize| {
        let mut stream = TcpStream::connect(addr).await.expect("it accepts");
        let said = match number % 4 {
            0 => String::new(),
            1 => SUBSCRIBE[..20].to_owned(),
            2 => format!("{SUBSCRIBE}\n"),
            _ => format!("{SUBSCRIBE}\n{AUTHORIZE}\n"),
        };
        stream.write_all(said.as_bytes()).await.expect("it reads");
        if (number / 4) % 4 < 3 {
            // This connection ends with a reset; the others close normally.
            stream.set_zero_linger().expect("a socket");
        }
    };
    let crowd = (0..16).map(|first| async move {
        for number in (first..10_000).step_by(16) {
            vanish(number).await;
        }
    });
    let tasks: Vec<_> = crowd.collect();
    futures_join(tasks).await;
    sessions(&site, 1).await;
    let seated: u32 = site.proxy.targets().iter().map(|target| target.sessions).sum();
    assert_eq!(seated, 1);
    let before = honest.counts().answered_true;
    honest.until(PATIENCE, |counts| counts.answered_true > before + 5).await.expect("it mines on");
    site.settle(vec![honest]).await.check();
    site.stop().await;
}

/// Miners that send nothing still get every job, even while others join and leave their lanes and
/// pools die. Nothing else would wake their sessions before the next ping, which is a minute away.
#[tokio::test(flavor = "multi_thread")]
async fn silent_miners_hear_every_job_without_being_woken_by_anything_else() {
    const MINERS: usize = 300;
    const SOON: Duration = Duration::from_secs(25);
    let setup = Setup {
        pools: vec![still(8, 1), still(8, 2)],
        change: |config| {
            config.ping_every = Duration::from_secs(60);
            config.refresh_after = Duration::from_secs(3600);
            config.failback_after = Duration::from_secs(3600);
            config.pool.job_every = Duration::ZERO;
        },
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let addr = site.proxy.addrs()[0];
    let join = async || {
        let mut miner = BufReader::new(TcpStream::connect(addr).await.expect("it accepts"));
        miner.write_all(format!("{SUBSCRIBE}\n{AUTHORIZE}\n").as_bytes()).await.expect("it reads");
        miner
    };
    let hear = async |miner: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        while !line.contains("mining.notify") {
            line.clear();
            let read = timeout(SOON, miner.read_line(&mut line))
                .await
                .expect("a job by itself")
                .expect("kept");
            assert!(read > 0, "kept");
        }
    };
    let mut miners = Vec::new();
    for _ in 0..MINERS {
        let mut miner = join().await;
        hear(&mut miner).await;
        miners.push(miner);
    }
    for round in 0..12 {
        let pool = &site.pools[round / 6];
        // Some miners leave and others join while the job is delivered. A new miner may get the job
        // as a notify, or had it as its first job.
        let leavers = miners.split_off(MINERS - 60);
        pool.new_job(true);
        drop(leavers);
        let mut comers = Vec::new();
        for _ in 0..60 {
            comers.push(join().await);
        }
        for miner in &mut miners {
            hear(miner).await;
        }
        for miner in &mut comers {
            hear(miner).await;
        }
        miners.append(&mut comers);
        if round == 5 {
            // All sessions must leave their lanes at once.
            site.pools[0].die().await;
            for miner in &mut miners {
                hear(miner).await;
            }
        }
        // Read what is left, so that a job that a new miner got twice is not taken for the next
        // one.
        quiet(&mut miners).await;
    }
    drop(miners);
    site.stop().await;
}

/// Reads everything that has already arrived.
async fn quiet(miners: &mut [BufReader<TcpStream>]) {
    for miner in miners {
        let mut line = String::new();
        while timeout(Duration::from_millis(2), miner.read_line(&mut line)).await.is_ok() {}
    }
}

/// Runs futures concurrently on this task.
async fn futures_join(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// F24: a pool removes version bits from the mask during operation, finally all of them. Firmware
/// that supports the notification rolls fewer; other firmware must reconnect within half a minute,
/// or its shares are refused with a reason. A share is answered `true` exactly if the pool accepted
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn f24_true_is_what_the_pool_said_while_its_mask_shrinks() {
    let site = Site::start(Setup { pools: vec![pool(8, 1)], ..Setup::default() }).await;
    let hears = site.miner(Model::StockS19, "acme.hears");
    let deaf = site.miner(Model::Cgminer411, "acme.deaf");
    let plain = site.miner(Model::Cpuminer, "acme.plain");
    let miners = [hears, deaf, plain];
    for mask in [Some(0x00ff_e000), Some(0x0000_6000), None] {
        site.pools[0].set_version_mask(mask);
        site.pools[0].new_job(true);
        let before: Vec<u64> = miners.iter().map(|miner| miner.counts().submitted).collect();
        for (miner, before) in miners.iter().zip(before) {
            miner
                .until(PATIENCE, |counts| counts.submitted >= before + 10)
                .await
                .expect("it goes on");
        }
    }
    let books = site.settle(miners.into()).await;
    let fleet = &books.fleet;
    let answered = fleet.answered_true + fleet.refused();
    assert_eq!(fleet.submitted, answered + fleet.unanswered, "no silent drop: {books:#?}");
    assert_eq!(
        fleet.answered_true,
        books.accepted() + books.proxy.local,
        "true where the pool said so: {books:#?}"
    );
    assert!(fleet.disconnects <= 1, "only the deaf one comes again: {books:#?}");
    assert_eq!((fleet.double_answers, books.pools[0].total.duplicate), (0, 0), "{books:#?}");
    site.stop().await;
}

/// F25: in five thousand joins and leaves during one job, no miner gets search space that a
/// different miner had.
#[tokio::test(flavor = "multi_thread")]
async fn f25_five_thousand_joins_on_one_job_get_space_of_their_own() {
    let site = Site::start(Setup { pools: vec![still(8, 1)], ..Setup::default() }).await;
    let honest = site.miner(Model::Cgminer411, "acme.honest");
    honest.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let addr = site.proxy.addrs()[0];
    let join = async || {
        let mut stream = BufReader::new(TcpStream::connect(addr).await.expect("it accepts"));
        stream.write_all(format!("{SUBSCRIBE}\n{AUTHORIZE}\n").as_bytes()).await.expect("it reads");
        let (mut slot, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            timeout(PATIENCE, stream.read_line(&mut line))
                .await
                .expect("in time")
                .expect("readable");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if value["id"] == 1 {
                value["result"][1].as_str().expect("extranonce1").clone_into(&mut slot);
            }
            if value["method"] == "mining.notify" {
                // coinb1, which ends with the pool's extranonce1 and the lane, is followed by the
                // slot.
                return format!("{}{slot}", value["params"][2].as_str().expect("coinb1"));
            }
        }
    };
    let had = std::cell::RefCell::new(HashSet::new());
    let crowd = (0..16).map(|_| async {
        for _ in 0..5000 / 16 + 1 {
            let space = join().await;
            assert!(had.borrow_mut().insert(space.clone()), "{space} was somebody else's");
        }
    });
    futures_join(crowd.collect()).await;
    assert!(had.borrow().len() >= 5000);
    sessions(&site, 1).await;
    site.settle(vec![honest]).await.check();
    site.stop().await;
}

/// F28: the next pool's extranonce2 is three bytes shorter; miners still see no change of
/// extranonce1 or size.
#[tokio::test(flavor = "multi_thread")]
async fn f28_a_pool_with_a_smaller_extranonce2_changes_nothing_for_miners() {
    let site = Site::start(Setup { pools: vec![pool(8, 1), pool(5, 2)], ..Setup::default() }).await;
    let miners = site.fleet(4);
    for dies in [0, 1] {
        let before = site.pools[dies].counts().total.accepted;
        site.pools[dies]
            .until(PATIENCE, |counts| counts.total.accepted > before + 10)
            .await
            .expect("it is mined at");
        site.pools[dies].die().await;
        site.pools[1 - dies].come_back().await;
    }
    let before = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > before + 10)
        .await
        .expect("it is mined at");
    let books = site.settle(miners).await;
    books.check();
    assert_eq!(books.proxy.malformed, 0, "{books:#?}");
    site.stop().await;
}

/// F31: a share that meets the network target reaches its pool in every case: late, for a retired
/// job, or after a switch.
#[tokio::test(flavor = "multi_thread")]
async fn f31_every_block_reaches_its_pool() {
    // One share in thirty-two is a block.
    let easy = |seed| {
        let job_interval = Duration::from_millis(200);
        PoolConfig { nbits: 0x1f03_ffff, job_interval, clean_every: 1, ..pool(8, seed) }
    };
    let setup = Setup {
        pools: vec![easy(1), easy(2)],
        change: |config| config.pool.quiet = Duration::from_millis(600),
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let late = |index: usize| {
        let config = site.miner_config(Model::ALL[index % 4], &format!("acme.rig-{index}"));
        TestMiner::start(MinerConfig { submit_delay: Duration::from_millis(150), ..config })
    };
    let miners: Vec<TestMiner> = (0..8).map(late).collect();
    let found = |counts: &testbed::pool::Counts| counts.total.blocks + counts.stale_blocks;
    site.pools[0].until(PATIENCE, |counts| found(counts) >= 3).await.expect("blocks");
    // The pool sends no more jobs, so it is left. Blocks found for its jobs still go to it.
    site.pools[0].set_mood(Mood::Quiet);
    site.pools[1].until(PATIENCE, |counts| found(counts) >= 3).await.expect("blocks");
    let books = site.settle(miners).await;
    let arrived: u64 = books.pools.iter().map(found).sum();
    assert_eq!((books.proxy.blocks, books.proxy.blocks_lost), (arrived, 0), "{books:#?}");
    assert!(
        books.pools.iter().any(|pool| pool.stale_blocks > 0),
        "some came late, and came: {books:#?}"
    );
    site.stop().await;
}

/// F33: one miner sends garbage as fast as it can, on ever new connections; all shares of the other
/// miners are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn f33_one_that_sends_garbage_harms_nobody() {
    let site = Site::start(Setup { pools: vec![pool(8, 1)], ..Setup::default() }).await;
    let others: Vec<TestMiner> = (0..199)
        .map(|index| {
            let config = site.miner_config(Model::ALL[index % 4], &format!("acme.rig-{index}"));
            TestMiner::start(MinerConfig { hashrate: 500.0, wire_lines: 0, ..config })
        })
        .collect();
    let addr = site.proxy.addrs()[0];
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let rude = tokio::spawn(async move {
        let submit =
            r#"{"id":7,"method":"mining.submit","params":["acme.churn","1","zz","1","2"]}"#;
        let garbage = [
            format!(
                "{SUBSCRIBE}\n{}",
                "{\"id\":1,\"method\":\"mining.foo\",\"params\":[]}\n".repeat(2000)
            ),
            "}{\n".repeat(2000),
            format!("{SUBSCRIBE}\n{AUTHORIZE}\n{}", [submit, "\n"].concat().repeat(2000)),
            "\n".repeat(4000),
        ];
        let flood = async {
            for text in garbage.iter().cycle() {
                let Ok(mut stream) = TcpStream::connect(addr).await else { continue };
                // The proxy reads slowly or closes the connection; both are right.
                let _ =
                    timeout(Duration::from_millis(100), stream.write_all(text.as_bytes())).await;
            }
        };
        tokio::select! { () = flood => {}, _ = stopped => {} }
    });
    for miner in &others {
        miner.until(PATIENCE, |counts| counts.answered_true >= 1).await.expect("it mines");
    }
    drop(stop);
    rude.await.expect("it only writes");
    let books = site.settle(others).await;
    books.check();
    // The submits of the miner that sends garbage are counted as malformed. The submits of the
    // others are accepted, except those that come late at a clean job.
    let stale: u64 = books.fleet.answered_error.get("21").copied().unwrap_or_default();
    assert_eq!(books.fleet.refused(), stale, "{books:#?}");
    site.stop().await;
}

/// F34: miners disconnect while a job is written to them. There is no loop and no panic, and
/// nothing of their sessions remains.
#[tokio::test(flavor = "multi_thread")]
async fn f34_miners_that_go_while_jobs_go_out_leave_nothing() {
    let site = Site::start(Setup::default()).await;
    let honest = site.miner(Model::Cgminer411, "acme.honest");
    honest.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let addr = site.proxy.addrs()[0];
    let crowd = (0..16).map(|number| async move {
        for _ in 0..20 {
            let mut stream = BufReader::new(TcpStream::connect(addr).await.expect("it accepts"));
            stream
                .write_all(format!("{SUBSCRIBE}\n{AUTHORIZE}\n").as_bytes())
                .await
                .expect("it reads");
            let mut line = String::new();
            timeout(PATIENCE, stream.read_line(&mut line))
                .await
                .expect("in time")
                .expect("readable");
            if number % 2 == 0 {
                stream.get_ref().set_zero_linger().expect("a socket");
            }
        }
    });
    let churn = futures_join(crowd.collect());
    let jobs = async {
        loop {
            site.pools[0].new_job(true);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! { () = churn => {}, () = jobs => {} }
    sessions(&site, 1).await;
    let before = honest.counts().answered_true;
    honest.until(PATIENCE, |counts| counts.answered_true > before + 5).await.expect("it mines on");
    let books = site.settle(vec![honest]).await;
    books.check();
    site.stop().await;
}
