//! Tests of miners that connect directly to a pool: their counts, and that they agree with the
//! pool's.

use std::time::Duration;

use super::*;
use crate::pool::{ConnectionId, Counts, Extranonce1, Mood, PoolConfig, TestPool, Verdicts};

/// The deadline of every wait: far longer than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(120);
/// A difficulty at which 20 kH/s give about 80 shares a second.
const DIFFICULTY: f64 = 1.0 / 16_777_216.0;

async fn pool(config: PoolConfig) -> TestPool {
    TestPool::start(config).await.unwrap()
}

fn easy() -> PoolConfig {
    PoolConfig { difficulty: DIFFICULTY, job_interval: Duration::ZERO, ..PoolConfig::default() }
}

fn config(model: Model, pool: &TestPool) -> MinerConfig {
    let retry = Duration::from_millis(20);
    MinerConfig { retry, hashrate: 20_000.0, ..MinerConfig::new(model, pool.addr(), "acme.rig-1") }
}

/// Checks that the counts of pool and miner agree after the miner stopped.
fn agree(pool: &Counts, miner: &MinerCounts) {
    assert!(miner.balanced(), "{miner:?}");
    assert_eq!(
        miner.submitted,
        pool.total.judged() + pool.rejected_by_order + pool.ignored_submits,
        "{miner:?}\n{pool:?}"
    );
    assert_eq!(miner.answered_true, pool.total.accepted, "{miner:?}\n{pool:?}");
}

/// Runs a check for all models at the same time.
async fn each_model<F: Future<Output = ()> + Send + 'static>(check: fn(Model) -> F) {
    let mut checks = tokio::task::JoinSet::new();
    for model in Model::ALL {
        checks.spawn(check(model));
    }
    checks.join_all().await;
}

/// A pool at which every model mines as configured.
fn neutral() -> PoolConfig {
    PoolConfig { unasked_rolling: true, short_nonces: true, honour_suggestions: false, ..easy() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_mines_and_the_books_agree() {
    each_model(|model| async move {
        let unasked_rolling = model == Model::MiningRigRentals;
        let busy =
            PoolConfig { job_interval: Duration::from_millis(150), clean_every: 3, ..neutral() };
        let pool = pool(PoolConfig { unasked_rolling, ..busy }).await;
        let miner = TestMiner::start(config(model, &pool));
        pool.until(LIMIT, |counts| counts.total.accepted >= 20 && counts.jobs >= 8).await.unwrap();
        let (mined, judged) = (miner.stop().await, pool.counts());
        agree(&judged, &mined);
        assert_eq!(
            (judged.total.low, judged.total.malformed, judged.total.unknown_job),
            (0, 0, 0),
            "{model:?}"
        );
        assert_eq!(
            (judged.total.duplicate, mined.repeated_work, mined.repeated_job_ids),
            (0, 0, 0),
            "{model:?}"
        );
        assert_eq!(
            (mined.disconnects, mined.failed_handshakes, mined.timeouts),
            (0, 0, 0),
            "{model:?}"
        );
        // The pool sends the new job at once, but on a busy machine the miner may read it late.
        assert!(judged.stale_age_ms_max <= 20_000, "{judged:?}");
        assert_eq!(judged.connections[&1].user_agent.as_deref(), Some(model.user_agent()));
        assert!((mined.work - judged.total.work).abs() < 1e-12);
        assert_eq!(
            (mined.rolling_off, mined.configure_repeats, mined.passed_over),
            (0, 0, 0),
            "{model:?}"
        );
        pool.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_dies_is_missed_and_found_again() {
    let pool = pool(easy()).await;
    let miner = TestMiner::start(config(Model::Cgminer411, &pool));
    pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    pool.die().await;
    assert!(tokio::net::TcpStream::connect(pool.addr()).await.is_err());
    let counts = miner.until(LIMIT, |counts| counts.connect_errors > 1).await.unwrap();
    assert_eq!((counts.disconnects, counts.mining), (1, 0));
    pool.come_back().await;
    let accepted = pool.counts().total.accepted;
    pool.until(LIMIT, |counts| counts.total.accepted > accepted).await.unwrap();
    let counts = miner.stop().await;
    assert!(counts.gap_ms > 0 && counts.reconnects == 1, "{counts:?}");
    assert!(counts.balanced());
}

#[tokio::test]
async fn a_dropped_connection_is_made_again() {
    let pool = pool(easy()).await;
    let miner = TestMiner::start(config(Model::Cpuminer, &pool));
    pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    pool.drop_connections();
    let counts = pool
        .until(LIMIT, |counts| counts.connects == 2 && counts.connections[&2].total.accepted > 0)
        .await
        .unwrap();
    assert_ne!(counts.connections[&1].extranonce1, counts.connections[&2].extranonce1);
    assert_eq!(miner.stop().await.disconnects, 1);
}

#[tokio::test]
async fn a_silent_pool_is_given_up() {
    let pool = pool(easy()).await;
    let idle_timeout = Some(Duration::from_millis(300));
    let miner = TestMiner::start(MinerConfig { idle_timeout, ..config(Model::StockS19, &pool) });
    pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    pool.set_mood(Mood::Silent);
    let counts = miner.until(LIMIT, |counts| counts.timeouts > 0).await.unwrap();
    assert_eq!(counts.disconnects, 0);
    // The pool may not have read the last lines of the miner yet.
    pool.until(LIMIT, |counts| !counts.connections[&1].open).await.unwrap();
    pool.set_mood(Mood::Normal);
    let accepted = pool.counts().total.accepted;
    pool.until(LIMIT, |counts| counts.total.accepted > accepted).await.unwrap();
    let mined = miner.stop().await;
    assert_eq!(mined.unanswered, pool.counts().ignored_submits);
    agree(&pool.counts(), &mined);
}

#[tokio::test]
async fn a_quiet_pool_answers_but_brings_no_job() {
    let pool = pool(PoolConfig { job_interval: Duration::from_millis(50), ..easy() }).await;
    let miner = TestMiner::start(config(Model::Cgminer411, &pool));
    miner.until(LIMIT, |counts| counts.notifies > 2).await.unwrap();
    pool.set_mood(Mood::Quiet);
    let (jobs, accepted) = (pool.counts().jobs, pool.counts().total.accepted);
    let counts = pool.until(LIMIT, |counts| counts.total.accepted > accepted + 10).await.unwrap();
    assert_eq!(counts.jobs, jobs);
    pool.set_mood(Mood::Normal);
    pool.until(LIMIT, |counts| counts.jobs > jobs).await.unwrap();
    assert_eq!(miner.stop().await.disconnects, 0);
}

/// Runs on one thread, so that the difficulty and the job after it are sent together: a Bitaxe
/// applies a new difficulty at once.
#[tokio::test]
async fn a_changed_difficulty_costs_no_share_of_any_model() {
    each_model(|model| async move {
        let pool = pool(neutral()).await;
        let miner = TestMiner::start(config(model, &pool));
        for difficulty in [DIFFICULTY, DIFFICULTY / 4.0, DIFFICULTY * 2.0] {
            pool.set_difficulty(difficulty).unwrap();
            pool.new_job(false);
            let accepted = pool.counts().total.accepted;
            pool.until(LIMIT, |counts| counts.total.accepted > accepted + 5).await.unwrap();
        }
        let mined = miner.stop().await;
        assert_eq!(pool.counts().total.low, 0, "{model:?}");
        agree(&pool.counts(), &mined);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_extranonce_is_followed_by_those_that_know_it() {
    each_model(|model| async move {
        let pool = pool(neutral()).await;
        let miner = TestMiner::start(config(model, &pool));
        pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
        pool.set_extranonce(Some(&[8, 0, 0, 2, 1]), 4).unwrap();
        let before = pool.counts().total;
        let counts = pool
            .until(LIMIT, |counts| {
                counts.total.accepted > before.accepted + 5 || counts.total.malformed > 5
            })
            .await
            .unwrap();
        let follows = model.follows_set_extranonce();
        assert_eq!(counts.total.malformed == 0, follows, "{model:?}");
        assert_eq!(miner.stop().await.extranonce_changes, u64::from(follows), "{model:?}");
    })
    .await;
}

#[tokio::test]
async fn a_shrunk_mask_is_followed_by_an_s19_and_refused_to_a_cgminer() {
    for (model, follows) in [(Model::StockS19, true), (Model::Cgminer411, false)] {
        let pool = pool(easy()).await;
        let miner = TestMiner::start(MinerConfig { wire_lines: 100_000, ..config(model, &pool) });
        pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
        pool.set_version_mask(Some(0x00c0_0000));
        let since = || {
            let wire = miner.wire();
            let news = wire
                .iter()
                .position(|(_, line)| line.contains("set_version_mask"))
                .unwrap_or(wire.len());
            let submits = wire
                .into_iter()
                .skip(news)
                .map(|(_, line)| line)
                .filter(|line| line.contains("submit"));
            submits.collect::<Vec<_>>()
        };
        // The few shares of a cgminer that the pool accepts are those without rolled bits.
        miner.until(LIMIT, |_| since().len() > 40).await.unwrap();
        let mined = miner.stop().await;
        let inside = ["\"00000000\"]", "\"00400000\"]", "\"00800000\"]", "\"00c00000\"]"];
        let (within, beyond): (Vec<_>, Vec<_>) =
            since().into_iter().partition(|line| inside.iter().any(|bits| line.contains(bits)));
        let rolled = within.iter().any(|line| !line.contains(inside[0]));
        assert_eq!(rolled, follows, "{model:?}");
        // The S19 loses only the work it had begun before the change.
        assert_eq!(beyond.len() > 3, !follows, "{model:?} {beyond:?}");
        assert!(mined.balanced());
    }
}

#[tokio::test]
async fn a_pool_that_refuses_rolling_gets_plain_shares() {
    let pool = pool(PoolConfig { version_mask: None, ..easy() }).await;
    let miner = TestMiner::start(config(Model::StockS19, &pool));
    pool.until(LIMIT, |counts| counts.total.accepted > 5).await.unwrap();
    agree_after(&pool, &miner).await;
}

async fn agree_after(pool: &TestPool, miner: &TestMiner) {
    let mined = miner.stop().await;
    agree(&pool.counts(), &mined);
    assert_eq!(pool.counts().total.judged(), pool.counts().total.accepted);
}

#[tokio::test]
async fn repeated_job_ids_are_noticed() {
    let pool = pool(easy()).await;
    let miner = TestMiner::start(config(Model::Bfgminer, &pool));
    miner.until(LIMIT, |counts| counts.notifies == 1).await.unwrap();
    pool.repeat_job_ids(true);
    pool.new_job(true);
    let counts = miner.until(LIMIT, |counts| counts.notifies == 2).await.unwrap();
    assert_eq!((counts.repeated_job_ids, counts.repeated_work), (1, 0));
}

#[tokio::test]
async fn the_same_work_twice_is_noticed_and_every_share_of_it_a_duplicate() {
    let pool = pool(easy()).await;
    let miner = TestMiner::start(config(Model::Cgminer411, &pool));
    pool.until(LIMIT, |counts| counts.total.accepted > 15).await.unwrap();
    let lines = pool.wire(ConnectionId(1));
    let notify = lines
        .iter()
        .find(|(_, line)| line.contains(r#""method":"mining.notify""#))
        .unwrap()
        .1
        .clone();
    pool.send_raw(None, &notify);
    let counts = pool.until(LIMIT, |counts| counts.total.duplicate > 10).await.unwrap();
    assert_eq!(counts.total.stale + counts.total.low, 0);
    let mined = miner.stop().await;
    assert_eq!((mined.repeated_work, mined.shared_work), (1, 0));
    assert!(mined.answered_error["22"] > 10);
    agree(&pool.counts(), &mined);
}

#[tokio::test]
async fn two_miners_on_one_extranonce1_are_noticed() {
    let pool = pool(PoolConfig { extranonce1: Extranonce1::Fixed(vec![0]), ..easy() }).await;
    let space = SearchSpace::default();
    let miners: Vec<_> = (0..2)
        .map(|_| {
            TestMiner::start(MinerConfig { space: space.clone(), ..config(Model::Cpuminer, &pool) })
        })
        .collect();
    pool.until(LIMIT, |counts| counts.total.duplicate > 5).await.unwrap();
    let mut fleet = MinerCounts::default();
    for miner in &miners {
        fleet.merge(&miner.stop().await);
    }
    assert_eq!((fleet.miners, fleet.shared_work), (2, 1));
    agree(&pool.counts(), &fleet);
}

#[tokio::test]
async fn a_reused_extranonce1_repeats_work_after_a_reconnect() {
    let pool = pool(easy()).await;
    pool.reuse_extranonce1(true);
    let miner = TestMiner::start(config(Model::Cpuminer, &pool));
    pool.until(LIMIT, |counts| counts.total.accepted > 10).await.unwrap();
    pool.drop_connections();
    pool.until(LIMIT, |counts| counts.total.duplicate > 5).await.unwrap();
    assert_eq!(miner.stop().await.repeated_work, 1);
}

#[tokio::test]
async fn sleep_stops_the_hashing_and_keeps_the_connection() {
    let pool = pool(PoolConfig { job_interval: Duration::from_millis(100), ..easy() }).await;
    let miner = TestMiner::start(config(Model::StockS19, &pool));
    miner.until(LIMIT, |counts| counts.answered_true > 0).await.unwrap();
    miner.set_awake(false);
    let asleep = miner.until(LIMIT, |counts| counts.sleeps == 1).await.unwrap();
    let notifies = asleep.notifies;
    pool.send_raw(None, r#"{"id":77,"method":"mining.ping","params":[]}"#);
    let later = miner
        .until(LIMIT, |counts| counts.pings == 1 && counts.notifies > notifies + 3)
        .await
        .unwrap();
    assert_eq!(later.hashes, asleep.hashes);
    assert!(
        pool.wire(ConnectionId(1))
            .iter()
            .any(|(_, line)| line == r#"{"id":77,"result":"pong","error":null}"#)
    );
    miner.set_awake(true);
    miner.until(LIMIT, |counts| counts.answered_true > later.answered_true).await.unwrap();
    let counts = miner.stop().await;
    assert_eq!((counts.connects, counts.disconnects), (1, 0));
}

#[tokio::test]
async fn sleep_that_drops_tcp_is_no_disconnect() {
    let pool = pool(easy()).await;
    let switch = PowerSwitch::new(SleepKind::DropsTcp);
    let miner = TestMiner::start(MinerConfig {
        switch: switch.clone(),
        ..config(Model::Cgminer411, &pool)
    });
    pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    switch.set_awake(false);
    pool.until(LIMIT, |counts| counts.open == 0).await.unwrap();
    switch.set_awake(true);
    pool.until(LIMIT, |counts| counts.connects == 2 && counts.connections[&2].total.accepted > 0)
        .await
        .unwrap();
    let counts = miner.stop().await;
    assert_eq!((counts.disconnects, counts.reconnects, counts.sleeps, counts.gap_ms), (0, 1, 1, 0));
}

#[tokio::test]
async fn a_backup_pool_takes_over_and_gives_back() {
    let (first, backup) = (pool(easy()).await, pool(PoolConfig { seed: 2, ..easy() }).await);
    let mut settings = config(Model::Cgminer411, &first);
    settings.addresses.push(backup.addr().to_string());
    settings.failback = Duration::from_millis(100);
    let miner = TestMiner::start(settings);
    first.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    first.die().await;
    backup.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    first.come_back().await;
    let accepted = first.counts().total.accepted;
    first.until(LIMIT, |counts| counts.total.accepted > accepted).await.unwrap();
    assert_eq!(miner.stop().await.disconnects, 1, "the way back was its own choice");
}

#[tokio::test]
async fn slow_and_lying_pools_are_seen_through() {
    let pool = pool(easy()).await;
    let miner = TestMiner::start(config(Model::Cgminer411, &pool));
    pool.set_answer_delay(Duration::from_millis(200));
    let counts = miner.until(LIMIT, |counts| counts.answered_true > 3).await.unwrap();
    assert!(
        counts.latency.max_ms() >= 200.0 && counts.latency.quantile_ms(0.5) >= 200.0,
        "{counts:?}"
    );
    pool.set_answer_delay(Duration::ZERO);
    pool.set_verdicts(Verdicts::RejectAll);
    miner.until(LIMIT, |counts| counts.answered_error.contains_key("20")).await.unwrap();
    pool.set_verdicts(Verdicts::WrongIds);
    let counts = miner.until(LIMIT, |counts| counts.unknown_answers > 0).await.unwrap();
    assert_eq!((counts.double_answers, counts.disconnects), (0, 0));
    assert!(pool.counts().rejected_by_order > 0);
}

#[tokio::test]
async fn late_shares_are_stale_and_their_age_is_known() {
    let pool = pool(easy()).await;
    let submit_delay = Duration::from_millis(300);
    let miner = TestMiner::start(MinerConfig { submit_delay, ..config(Model::Cgminer411, &pool) });
    pool.until(LIMIT, |counts| counts.total.accepted > 3).await.unwrap();
    pool.new_job(true);
    let counts = pool.until(LIMIT, |counts| counts.total.stale > 0).await.unwrap();
    let accepted = counts.total.accepted;
    let counts = pool.until(LIMIT, |counts| counts.total.accepted > accepted).await.unwrap();
    assert_eq!(counts.total.unknown_job, 0);
    let mined = miner.stop().await;
    agree(&pool.counts(), &mined);
    assert_eq!(mined.answered_error["21"], pool.counts().total.stale);
}

#[tokio::test]
async fn hostile_words_change_nothing() {
    let pool = pool(easy()).await;
    let miner = TestMiner::start(config(Model::StockS19, &pool));
    pool.until(LIMIT, |counts| counts.total.accepted > 0).await.unwrap();
    pool.send_reconnect("evil.example", 3333, 0);
    pool.show_message("buy now");
    pool.send_raw(None, r#"{"id":5,"method":"client.get_version","params":[]}"#);
    miner.until(LIMIT, |counts| counts.reconnects_refused == 1).await.unwrap();
    let accepted = pool.counts().total.accepted;
    pool.until(LIMIT, |counts| counts.total.accepted > accepted).await.unwrap();
    pool.send_reconnect("", 0, 0);
    pool.until(LIMIT, |counts| counts.connects == 2).await.unwrap();
    let counts = miner.stop().await;
    assert_eq!((counts.reconnects_followed, counts.disconnects), (1, 0));
    assert!(
        miner
            .wire()
            .iter()
            .any(|(_, line)| line.contains("Antminer S19 Pro") && line.contains("\"id\":5"))
    );
}
