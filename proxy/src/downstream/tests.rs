//! What a session's end by our own mistake costs the others: nothing.

use std::time::Duration;

use daemon::tasks::Tasks;
use directive::InProcess;
use prometheus_client::registry::Registry;
use stratum::difficulty::Difficulty;
use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::{PoolConfig, TestPool};
use testbed::relay::{Relay, Way};

use crate::Proxy;
use crate::config::{Config, Server, Target};

const PATIENCE: Duration = Duration::from_secs(30);
const EASY: f64 = 1.0 / (1u64 << 23) as f64;

/// A line that no peer sends in earnest, and at which the session that reads it panics. It is in test builds only.
const PANIC: &[u8] = br#"{"id":76,"method":"test.panic"}"#;

pub(super) fn failpoint(line: &[u8]) {
    assert!(line != PANIC, "failpoint: this session panics");
}

/// F76: a panic ends its session only. It is counted once, what the session held is free again (the fleet is as large as
/// may be: a lost place would keep the miner out), and the pool's answers to its shares are counted all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_panic_ends_one_session_and_frees_all_it_held() {
    let pool = PoolConfig { difficulty: EASY, job_interval: Duration::from_secs(1), ..PoolConfig::default() };
    let pool = TestPool::start(pool).await.unwrap();
    let server = Server {
        difficulty: Difficulty::new(EASY).unwrap(),
        min_difficulty: Difficulty::new(EASY / 32.0).unwrap(),
        ..Server::new("asics", "127.0.0.1:0".parse().unwrap())
    };
    let target = Target::new("a", &pool.addr().ip().to_string(), pool.addr().port(), "acme");
    let mut config = Config::new(vec![server], vec![target]);
    config.sessions_max = 4;
    let (tasks, mut registry) = (Tasks::new(), Registry::default());
    let proxy = Proxy::start(config, None::<InProcess>, None, &mut registry, &tasks).await.unwrap();
    let relay = Relay::start(proxy.addrs()[0], 76).await.unwrap();
    let start = |address: std::net::SocketAddr, worker: &str| {
        let retry = Duration::from_millis(200);
        TestMiner::start(MinerConfig { retry, ..MinerConfig::new(Model::Cgminer411, address, worker) })
    };
    let victim = start(relay.addr(), "acme.victim");
    let others = ["acme.a", "acme.b", "acme.c"].map(|worker| start(proxy.addrs()[0], worker));
    for miner in others.iter().chain([&victim]) {
        miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    }
    pool.set_answer_delay(Duration::from_millis(500));
    victim.until(PATIENCE, |counts| counts.outstanding >= 3).await.expect("shares are in flight");
    relay.inject(Way::There, &[PANIC, b"\n"].concat());
    let before = victim.until(PATIENCE, |counts| counts.disconnects == 1).await.expect("closed").answered_true;
    pool.set_answer_delay(Duration::ZERO);
    let after =
        victim.until(PATIENCE, |counts| counts.answered_true >= before + 5).await.expect("it is back, and mines");
    assert!(after.unanswered > 0, "the answers of the lost session are lost: {after:?}");

    assert_eq!((tasks.panics(), proxy.sessions().len()), (1, 4));
    assert_eq!(proxy.targets()[0].sessions, 4, "seats");
    let mut fleet = victim.stop().await;
    for miner in &others {
        let counts = miner.stop().await;
        assert_eq!((counts.disconnects, counts.unanswered), (0, 0), "nobody else noticed");
        fleet.merge(&counts);
    }
    let (books, pool) = (proxy.counts(), pool.counts());
    assert_eq!(pool.total.accepted, books.accepted, "{books:?}");
    assert_eq!((pool.total.duplicate, fleet.repeated_work, fleet.shared_work), (0, 0, 0));
    let refused = books.stale + books.duplicate + books.low + books.malformed;
    let ended = books.accepted + books.local + books.pool_rejected + books.unresolved + refused;
    let answered = fleet.submitted - fleet.unanswered;
    assert!(
        answered <= ended && ended <= fleet.submitted,
        "but for what the lost session never read: {books:?} {fleet:?}"
    );
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("session_closes_total{reason=\"panicked\"} 1"), "{text}");
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}
