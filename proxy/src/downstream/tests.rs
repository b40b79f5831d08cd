//! A session that ends because of our own error, or because its miner is silent, does not affect
//! other sessions.

use std::net::SocketAddr;
use std::time::Duration;

use daemon::tasks::Tasks;
use directive::InProcess;
use prometheus_client::registry::Registry;
use stratum::difficulty::Difficulty;
use testbed::miner::{MinerConfig, MinerCounts, Model, TestMiner};
use testbed::pool::{PoolConfig, TestPool};
use testbed::relay::{Relay, Way, Weather};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::Proxy;
use crate::config::{Config, Server, Target};

/// A timeout that is longer than any step of these tests takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const EASY: f64 = 1.0 / (1u64 << 23) as f64;

const HELLO: &str = concat!(
    r#"{"id":1,"method":"mining.subscribe","params":[]}"#,
    "\n",
    r#"{"id":2,"method":"mining.authorize","params":["acme.rig","x"]}"#,
    "\n"
);

/// A line at which the session that reads it panics. This happens only in test builds, and no real
/// peer sends the line.
const PANIC: &[u8] = br#"{"id":76,"method":"test.panic"}"#;

pub(super) fn failpoint(line: &[u8]) {
    assert!(line != PANIC, "failpoint: this session panics");
}

/// A pool, and a proxy with room for four sessions that mines at it.
async fn start(job_interval: Duration) -> (TestPool, Proxy, Tasks, Registry) {
    let pool = pool(job_interval).await;
    let (proxy, tasks, registry) = start_at(pool.addr()).await;
    (pool, proxy, tasks, registry)
}

async fn pool(job_interval: Duration) -> TestPool {
    TestPool::start(PoolConfig { difficulty: EASY, job_interval, ..PoolConfig::default() })
        .await
        .unwrap()
}

/// A proxy with room for four sessions that mines at the pool with this address.
async fn start_at(pool: SocketAddr) -> (Proxy, Tasks, Registry) {
    let server = Server {
        difficulty: Difficulty::new(EASY).unwrap(),
        min_difficulty: Difficulty::new(EASY / 32.0).unwrap(),
        // Without vardiff, the miner finds shares fast enough to have several in flight.
        vardiff: false,
        ..Server::new("asics", "127.0.0.1:0".parse().unwrap())
    };
    let target = Target::new("a", &pool.ip().to_string(), pool.port(), "acme");
    let mut config = Config::new(vec![server], vec![target]);
    config.sessions_max = 4;
    // Tests make jobs as fast as they can.
    config.pool.job_every = Duration::ZERO;
    let (tasks, mut registry) = (Tasks::new(), Registry::default());
    let proxy = Proxy::start(config, None::<InProcess>, None, &mut registry, &tasks).await.unwrap();
    (proxy, tasks, registry)
}

/// How many miners' connections were closed for this reason.
fn closes(registry: &Registry, reason: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = format!("tieline_proxy_session_closes_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// F36: a miner that reads nothing for 30 s is disconnected, and not earlier; one that reads stays
/// connected.
#[tokio::test]
async fn f36_a_miner_that_takes_nothing_is_dropped_after_thirty_seconds() {
    let (pool, proxy, tasks, registry) = start(Duration::ZERO).await;
    let connect = async |window: u32| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(window).unwrap();
        let mut stream = socket.connect(proxy.addrs()[0]).await.unwrap();
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        stream
    };
    let deaf = connect(2048).await;
    let mut reads = BufReader::new(connect(1 << 20).await);
    let mut line = String::new();
    let start = daemon::clock::now();
    // These jobs are far more bytes than the receive window of the miner that reads nothing and the
    // system's send buffer can hold.
    let mut jobs = 0;
    while jobs < 400 {
        pool.new_job(true);
        line.clear();
        while !line.contains("mining.notify") {
            line.clear();
            timeout(PATIENCE, reads.read_line(&mut line)).await.expect("a job").unwrap();
        }
        jobs += 1;
    }
    let pass = async |secs: u64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(secs)).await;
        tokio::time::resume();
    };
    pass(20).await;
    let (slow, sessions) = (closes(&registry, "slow_reader"), proxy.sessions().len());
    // On a machine that takes ten seconds to send those jobs, 30 s may have passed already.
    if daemon::clock::now() - start < Duration::from_secs(30) {
        assert_eq!((slow, sessions), (0, 2));
    }
    pass(11).await;
    let gone = async {
        while proxy.sessions().len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("dropped");
    assert_eq!((closes(&registry, "slow_reader"), proxy.sessions().len()), (1, 1));
    pool.new_job(true);
    line.clear();
    timeout(PATIENCE, reads.read_line(&mut line)).await.expect("the other is served").unwrap();
    drop(deaf);
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// A miner sends requests that are shorter than their answers. Requests that are not read because
/// answers wait are read as soon as the socket has accepted the answers, even if nothing else
/// happens.
#[tokio::test]
async fn what_is_not_read_for_its_answers_sake_is_read_once_they_are_written() {
    const REQUESTS: usize = 900;
    let (_pool, proxy, tasks, _registry) = start(Duration::from_secs(3600)).await;
    let socket = TcpSocket::new_v4().unwrap();
    // The send buffer holds all requests, so that they arrive at once.
    socket.set_send_buffer_size(1 << 20).unwrap();
    let (reads, mut writes) = socket.connect(proxy.addrs()[0]).await.unwrap().into_split();
    let mut lines = BufReader::new(reads).lines();
    // This is shorter than the time to the next ping, which would also wake the session.
    const SOON: Duration = Duration::from_secs(20);
    let mut hear =
        async || timeout(SOON, lines.next_line()).await.expect("a line").unwrap().expect("kept");
    writes.write_all(HELLO.as_bytes()).await.unwrap();
    while !hear().await.contains("mining.notify") {}
    // The events of the start would also wake the session, so they must be over.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let requests: String =
        (0..REQUESTS).map(|n| format!("{{\"id\":\"{n:060}\",\"method\":\"m\"}}\n")).collect();
    writes.write_all(requests.as_bytes()).await.unwrap();
    for number in 0..REQUESTS {
        while !hear().await.contains(&format!("{number:060}")) {}
    }
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// F76: a panic ends only its own session. The end is counted once, the seat and the slot of the
/// session are free again (the fleet has the maximum size, so the miner could not return
/// otherwise), and the pool's answers to the session's shares are still counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_panic_ends_one_session_and_frees_all_it_held() {
    let pool = pool(Duration::from_secs(1)).await;
    let answers = Relay::start(pool.addr(), 75).await.unwrap();
    let (proxy, tasks, registry) = start_at(answers.addr()).await;
    let relay = Relay::start(proxy.addrs()[0], 76).await.unwrap();
    let miner = |address: SocketAddr, worker: &str| {
        let retry = Duration::from_millis(200);
        TestMiner::start(MinerConfig {
            retry,
            ..MinerConfig::new(Model::Cgminer411, address, worker)
        })
    };
    let victim = miner(relay.addr(), "acme.victim");
    let others = ["acme.a", "acme.b", "acme.c"].map(|worker| miner(proxy.addrs()[0], worker));
    for miner in others.iter().chain([&victim]) {
        miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    }
    answers.set(Way::Back, Weather::STALLED);
    // Shares that the proxy answers itself are in flight for a moment only.
    loop {
        let in_flight = |counts: &MinerCounts| counts.outstanding >= 3;
        victim.until(PATIENCE, in_flight).await.expect("shares are in flight");
        tokio::time::sleep(Duration::from_millis(200)).await;
        if in_flight(&victim.counts()) {
            break;
        }
    }
    relay.inject(Way::There, &[PANIC, b"\n"].concat());
    let before = victim
        .until(PATIENCE, |counts| counts.disconnects == 1)
        .await
        .expect("closed")
        .answered_true;
    answers.set(Way::Back, Weather::FINE);
    let after = victim
        .until(PATIENCE, |counts| counts.answered_true >= before + 5)
        .await
        .expect("it is back, and mines");
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
    assert_eq!(closes(&registry, "panicked"), 1);
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// F76: the outcomes of submits that were judged in the turn that panicked are counted.
#[tokio::test]
async fn f76_what_was_decided_before_a_panic_is_counted() {
    const BEFORE: usize = 5;
    let (_pool, proxy, tasks, registry) = start(Duration::from_secs(3600)).await;
    let mut stream = tokio::net::TcpStream::connect(proxy.addrs()[0]).await.unwrap();
    stream.write_all(HELLO.as_bytes()).await.unwrap();
    let mut reads = BufReader::new(&mut stream);
    let mut line = String::new();
    while !line.contains("\"mining.notify\",\"params") {
        line.clear();
        timeout(PATIENCE, reads.read_line(&mut line)).await.expect("a job").unwrap();
    }
    // The submit names no job of ours, so it is refused at once.
    let submit = r#"{"id":7,"method":"mining.submit","params":["acme.rig","none","00000000","6b49d200","00000000"]}"#;
    let mut words = format!("{submit}\n").repeat(BEFORE).into_bytes();
    words.extend_from_slice(PANIC);
    words.push(b'\n');
    stream.write_all(&words).await.unwrap();
    let gone = async {
        while !proxy.sessions().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it ends");
    assert_eq!((tasks.panics(), closes(&registry, "panicked")), (1, 1));
    let books = proxy.counts();
    assert_eq!(books.stale as usize, BEFORE, "{books:?}");
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// A job that only gives a new id to the miner's current work is not sent to the miner, and so
/// neither counts as a delivery nor adds to the time that deliveries took.
#[tokio::test]
async fn a_job_by_another_name_is_not_delivered() {
    let (pool, proxy, tasks, registry) = start(Duration::from_secs(3600)).await;
    let mut stream = tokio::net::TcpStream::connect(proxy.addrs()[0]).await.unwrap();
    stream.write_all(HELLO.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(&mut stream).lines();
    let mut notified = async || {
        while !lines
            .next_line()
            .await
            .unwrap()
            .expect("kept")
            .contains("\"mining.notify\",\"params")
        {}
    };
    timeout(PATIENCE, notified()).await.expect("a job");
    pool.new_job(true);
    timeout(PATIENCE, notified()).await.expect("the next");
    let delivered = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let name = "tieline_proxy_job_delivery_seconds_count{target=\"a\"} ";
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok())
            .expect("registered")
    };
    let until = async |wanted: &dyn Fn() -> bool| {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, until(&|| delivered() == 1)).await.expect("counted");

    let (connection, _) =
        pool.connections().into_iter().find(|(_, counts)| counts.open).expect("connected");
    let wire = pool.wire(connection);
    let notify = |line: &str| line.contains("\"mining.notify\"") && !line.contains("result");
    let (_, line) = wire.iter().rev().find(|(_, line)| notify(line)).expect("it sent them");
    let mut renamed: serde_json::Value = serde_json::from_str(line).unwrap();
    renamed["params"][0] = "other".into();
    // At a higher difficulty, because that change shows when the job has arrived.
    pool.send_raw(
        None,
        &format!(r#"{{"id":null,"method":"mining.set_difficulty","params":[{:e}]}}"#, 2.0 * EASY),
    );
    pool.send_raw(None, &renamed.to_string());
    timeout(PATIENCE, until(&|| proxy.targets()[0].difficulty == Some(2.0 * EASY)))
        .await
        .expect("taken in");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(delivered(), 1);
    pool.new_job(true);
    timeout(PATIENCE, notified()).await.expect("a third");
    timeout(PATIENCE, until(&|| delivered() == 2)).await.expect("counted");
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// A runtime may be dropped while sessions are at work, when they take longer to stop than the
/// process waits for them. The drop returns, and the sessions end with the runtime.
#[test]
fn a_runtime_that_goes_first_takes_its_sessions_along() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    let (ours, theirs) = (runtime(), runtime());
    let pool = theirs.block_on(pool(Duration::from_secs(1)));
    let (proxy, _tasks, _registry) = ours.block_on(start_at(pool.addr()));
    let mut miners = Vec::new();
    theirs.block_on(async {
        for worker in ["acme.one", "acme.other"] {
            let miner =
                TestMiner::start(MinerConfig::new(Model::Cgminer411, proxy.addrs()[0], worker));
            miner.until(PATIENCE, |counts| counts.answered_true >= 1).await.expect("it mines");
            miners.push(miner);
        }
    });
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(ours);
        ended.send(()).expect("it is waited for");
    });
    end.recv_timeout(PATIENCE).expect("it ends");
    assert_eq!(proxy.sessions().len(), 0);
}

/// Options are set once on the listener instead of on each of ten thousand connections, and every
/// accepted connection has them.
#[tokio::test]
async fn accepted_connections_have_the_options_of_their_listener() {
    let listener = super::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let _miner = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
    assert_eq!(
        (socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap()),
        (Duration::from_secs(10), 3)
    );
}
