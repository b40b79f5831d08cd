use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemon::tasks::Tasks;
use directive::InProcess;
use prometheus_client::registry::Registry;
use stratum::difficulty::Difficulty;
use stratum::share::{Proof, Rebuilt};
use stratum::version::VersionMask;
use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::{PoolConfig, TestPool};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::pool_session::tests::share_of;
use super::stream::PoolStream;
use super::*;
use crate::Proxy;
use crate::books::Books;
use crate::config::{Config, PoolPatience, Server, Target};
use crate::directions::Directions;
use crate::log_limit::tests::Log;
use crate::metrics::Metrics;
use crate::placement::Placement;
use crate::series::TargetLabels;
use crate::state::ProxyState;
use crate::target::{TargetId, TargetUse};
use crate::work::UpstreamShare;

/// A timeout that is longer than any step of these tests takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const EASY: f64 = 1.0 / (1u64 << 23) as f64;

/// A line, and a job id, at which the task that reads the line or submits a share of the job
/// panics. This happens only in test builds.
const PANIC: &str = r#"{"id":null,"method":"test.panic","params":[]}"#;
const PANIC_JOB: &str = "test.panic";

pub(super) fn failpoint(met: &[u8]) {
    assert!(
        met != PANIC.as_bytes() && met != PANIC_JOB.as_bytes(),
        "failpoint: this connection panics"
    );
}

async fn start(pools: &[std::net::SocketAddr]) -> (Proxy, Tasks) {
    let server = Server {
        difficulty: Difficulty::new(EASY).unwrap(),
        min_difficulty: Difficulty::new(EASY / 32.0).unwrap(),
        vardiff: false,
        ..Server::new("asics", "127.0.0.1:0".parse().unwrap())
    };
    let targets = pools.iter().enumerate();
    let targets = targets
        .map(|(n, at)| Target::new(&format!("pool-{n}"), &at.ip().to_string(), at.port(), "acme"));
    let (tasks, mut registry) = (Tasks::new(), Registry::default());
    let mut config = Config::new(vec![server], targets.collect());
    // Some of these pools answer nothing.
    config.shutdown_grace = Duration::from_millis(200);
    (Proxy::start(config, None::<InProcess>, None, &mut registry, &tasks).await.unwrap(), tasks)
}

/// A notification that has no meaning for us, and is not answered.
const GOAL: &str = r#"{"id":null,"method":"mining.goal","params":[]}"#;

/// Work that every miner can do.
fn job() -> String {
    let zeros = "0".repeat(64);
    format!(
        r#"{{"id":null,"method":"mining.notify","params":["1","{zeros}","01","02",[],"20000000","1703ffff","6b49d200",false]}}"#
    )
}

/// A pool that completes the handshake, sends a job, and then sends `lines` as fast as it can. With
/// `submits` it counts the submits that it reads; otherwise it reads nothing more. It serves one
/// connection at a time.
fn flood(lines: &str, submits: Option<Arc<AtomicU64>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lines = format!("{lines}\n").repeat(2000);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut requests =
                BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            for request in requests.by_ref() {
                let id = request
                    .split(['"', ':', ',', ' '])
                    .find(|word| word.parse::<u32>().is_ok())
                    .unwrap_or("0");
                let result = match &request {
                    request if request.contains("configure") => {
                        r#"{"version-rolling":true,"version-rolling.mask":"1fffe000"}"#
                    }
                    request if request.contains("subscribe") => r#"[[],"00000001",8]"#,
                    _ => "true",
                };
                let _ = writeln!(stream, r#"{{"id":{id},"result":{result},"error":null}}"#);
                if request.contains("authorize") {
                    break;
                }
            }
            let _ = writeln!(
                stream,
                r#"{{"id":null,"method":"mining.set_difficulty","params":[{EASY:e}]}}"#
            );
            let _ = writeln!(stream, "{}", job());
            if let Some(submits) = submits.clone() {
                std::thread::spawn(move || {
                    let submitted = requests.filter(|request| request.contains("submit"));
                    submitted.for_each(|_| _ = submits.fetch_add(1, Ordering::Relaxed));
                });
            }
            while stream.write_all(lines.as_bytes()).is_ok() {}
        }
    });
    address
}

async fn until(mut wanted: impl FnMut() -> bool) {
    let waited = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waited).await.expect("in time");
}

/// The proxy answers a pool's pings, one for each job, but not without limit: a pool that does not
/// read the answers is disconnected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_asks_and_does_not_read_is_left() {
    let ping = format!(r#"{{"id":"{}","method":"mining.ping","params":[]}}"#, "7".repeat(60));
    let (proxy, tasks) = start(&[flood(&[job(), ping].join("\n"), None)]).await;
    until(|| {
        proxy.targets()[0].last_fault.as_ref().is_some_and(|fault| fault.starts_with("not_reading"))
    })
    .await;
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// A pool that sends without a pause does not keep the shares of miners from being sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_go_out_to_a_pool_that_never_pauses() {
    let submits = Arc::<AtomicU64>::default();
    let (proxy, tasks) = start(&[flood(GOAL, Some(submits.clone()))]).await;
    let miner = TestMiner::start(MinerConfig::new(Model::Cgminer411, proxy.addrs()[0], "acme.rig"));
    until(|| submits.load(Ordering::Relaxed) >= 5).await;
    // The miner is dropped and not stopped, because a stop waits for answers, and none ever come.
    drop(miner);
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// B19: a pool that changes its extranonce without end causes one line in the log, and a line at
/// DEBUG for each change.
#[tokio::test]
async fn a_storm_of_extranonces_is_a_line_of_the_log() {
    let log = Log::new();
    let _logging = tracing::subscriber::set_default(log.clone());
    let changed = r#"{"id":null,"method":"mining.set_extranonce","params":["00000001",8]}"#;
    let (_proxy, tasks) = start(&[flood(changed, None)]).await;
    until(|| log.details("pool changed our extranonce") >= 2000).await;
    let shown = log.shown();
    let lines = shown.iter().filter(|line| *line == "pool changed our extranonce").count();
    assert_eq!(lines, 1, "{shown:#?}");
    assert!(shown.len() < 10, "{shown:#?}");
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// A pool that is only asked for its sizes and sends other lines without end is disconnected when
/// the time is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_of_a_pool_that_never_pauses_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let lines = format!("{GOAL}\n").repeat(20_000);
        while let Ok((mut stream, _)) = listener.accept() {
            while stream.write_all(lines.as_bytes()).is_ok() {}
        }
    });
    let target = Target::new("endless", &at.ip().to_string(), at.port(), "acme");
    let probe =
        tokio::spawn(
            async move { probe::extranonce_size(&target, Duration::from_millis(500)).await },
        );
    let fault = timeout(PATIENCE / 3, probe).await.expect("in time").unwrap().unwrap_err();
    assert_eq!(fault.end, End::HandshakeTimeout);
}

/// F76: the task of a pool's connection panics. Its miners continue at the next target, every share
/// is answered, and the pool is connected to again; it is mined at when there is no other target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_panic_of_a_connection_sends_its_miners_to_the_next_target() {
    let pool = async |seed| {
        TestPool::start(PoolConfig { difficulty: EASY, seed, ..PoolConfig::default() })
            .await
            .unwrap()
    };
    let (first, second) = (pool(1).await, pool(2).await);
    let (proxy, tasks) = start(&[first.addr(), second.addr()]).await;
    let miner = TestMiner::start(MinerConfig::new(Model::Cgminer411, proxy.addrs()[0], "acme.rig"));
    first.until(PATIENCE, |counts| counts.total.accepted >= 3).await.expect("mined at");
    first.set_answer_delay(Duration::from_secs(60));
    miner.until(PATIENCE, |counts| counts.outstanding >= 5).await.expect("shares are in flight");
    first.send_raw(None, PANIC);
    second
        .until(PATIENCE, |counts| counts.total.accepted >= 3)
        .await
        .expect("the next target is mined at");
    let counts = miner.stop().await;
    assert_eq!((counts.disconnects, counts.unanswered), (0, 0), "{counts:?}");
    assert_eq!(tasks.panics(), 1);
    let books = proxy.counts();
    assert_eq!(books.accepted, counts.answered_true, "{books:?}");
    assert!(books.unresolved > 0, "{books:?}");
    first.set_answer_delay(Duration::ZERO);
    until(|| proxy.targets()[0].up).await;
    assert!(proxy.targets()[0].quarantined, "put aside");

    second.die().await;
    let miner = TestMiner::start(MinerConfig::new(Model::Cgminer411, proxy.addrs()[0], "acme.rig"));
    let before = first.counts().total.accepted;
    first
        .until(PATIENCE, |counts| counts.total.accepted >= before + 3)
        .await
        .expect("mined at again");
    miner.stop().await;
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// F76: a pool whose lines cause a panic at each connection is connected to at growing intervals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f76_a_connection_that_panics_each_time_does_not_spin() {
    let started = clock::now();
    let (proxy, tasks) = start(&[flood(PANIC, None)]).await;
    until(|| tasks.panics() >= 4).await;
    // The sum of the shortest first three waits.
    let took = clock::now() - started;
    assert!(took >= Duration::from_millis(125 + 250 + 500), "{took:?}");
    until(|| {
        proxy.targets()[0].last_fault.as_ref().is_some_and(|fault| fault.starts_with("panicked"))
    })
    .await;
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
    assert!(tasks.panics() < 8, "{} panics", tasks.panics());
}

fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

const FIRST: TargetId = TargetId::nth(0);

/// The pool set of the one pool at this address.
fn pools_at(at: std::net::SocketAddr) -> (Arc<PoolSet>, Tasks) {
    let target = Target::new("pool", &at.ip().to_string(), at.port(), "acme");
    let (metrics, tasks) = (
        Metrics::register(&TargetLabels::shared(&["pool"]), &mut Registry::default()),
        Tasks::new(),
    );
    let mut config = Config::new(Vec::new(), vec![target.clone()]);
    config.refresh_after = PATIENCE;
    config.pool = PoolPatience {
        handshake: PATIENCE,
        suspect: PATIENCE,
        answer: PATIENCE,
        quiet: PATIENCE,
        job_every: Duration::ZERO,
    };
    let books = Books { metrics, log: None };
    let proxy = ProxyState::new(&config, books, &tasks, clock::now());
    let targets = vec![Pool::new(FIRST, target, TargetUse::Shared)].into();
    let directions = watch::channel(Directions::default()).1;
    (PoolSet::new(proxy, targets, Placement::new(4, 0), directions), tasks)
}

/// A disabled pool that would be the first choice is never connected to, has no metrics, and is
/// shown as what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_target_is_left_alone_and_shown_as_disabled() {
    let (silent, at) = listener();
    silent.set_nonblocking(true).unwrap();
    let pool = TestPool::start(PoolConfig { difficulty: EASY, ..PoolConfig::default() });
    let pool = pool.await.unwrap();
    let target =
        |name, at: std::net::SocketAddr| Target::new(name, &at.ip().to_string(), at.port(), "acme");
    let off =
        Target { disabled: true, tls: Some(crate::tls::Tls::unverified()), ..target("off", at) };
    let log = Log::new();
    let _logging = tracing::subscriber::set_default(log.clone());
    let server = Server {
        difficulty: Difficulty::new(EASY).unwrap(),
        min_difficulty: Difficulty::new(EASY / 32.0).unwrap(),
        ..Server::new("asics", "127.0.0.1:0".parse().unwrap())
    };
    let config = Config::new(vec![server], vec![off, target("on", pool.addr())]);
    let (tasks, mut registry) = (Tasks::new(), Registry::default());
    let proxy = Proxy::start(config, None::<InProcess>, None, &mut registry, &tasks).await.unwrap();
    let miner = TestMiner::start(MinerConfig::new(Model::Cgminer411, proxy.addrs()[0], "acme.rig"));
    pool.until(PATIENCE, |counts| counts.total.accepted >= 3).await.expect("mined at");
    let connected = silent.accept().map_err(|why| why.kind());
    assert!(
        matches!(connected, Err(std::io::ErrorKind::WouldBlock)),
        "neither probed nor connected to: {connected:?}"
    );
    let shown = log.shown();
    assert!(!shown.iter().any(|line| line.contains("tls_verify")), "in vain: {shown:#?}");
    let views = proxy.targets();
    assert!(views[0].disabled && !views[1].disabled, "{views:?}");
    assert_eq!(views[0].state(), crate::TargetState::Disabled);
    assert_eq!((views[0].last_fault.as_deref(), proxy.readiness().0), (None, true));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("target=\"on\"") && !text.contains("target=\"off\""), "{text}");
    miner.stop().await;
    assert!(tasks.shutdown(PATIENCE).await.is_empty());
}

/// What miners are granted suits the targets that are used: a disabled one, of which nothing is
/// known, is not assumed to roll, nor to have room.
#[tokio::test]
async fn a_disabled_target_grants_miners_nothing() {
    let (_listener, at) = listener();
    let (pools, _tasks) = pools_at(at);
    let pool = |id, used| Pool::new(id, Target::new("pool", "127.0.0.1", 1, "acme"), used);
    for (second, mask, room) in [
        (TargetUse::Shared, VersionMask::BIP320, true),
        (TargetUse::Disabled, VersionMask::NONE, false),
    ] {
        let targets = vec![pool(FIRST, TargetUse::Shared), pool(TargetId::nth(1), second)];
        let directions = watch::channel(Directions::default()).1;
        let pools =
            PoolSet::new(pools.proxy.clone(), targets.into(), Placement::new(4, 0), directions);
        let mut state = pools.targets[FIRST].state.lock();
        (state.mask, state.extranonce2_size) = (Some(VersionMask::NONE), Some(4));
        drop(state);
        assert_eq!((pools.common_mask(), pools.have_room(1)), (mask, room), "{second:?}");
    }
}

/// F76: several shares are taken from the queue together, and the task panics over one of them. The
/// others are all answered.
#[tokio::test]
async fn f76_a_panic_over_one_share_leaves_no_other_unanswered() {
    let (_listener, at) = listener();
    let (pools, tasks) = pools_at(at);
    let stream = PoolStream::plain(TcpStream::connect(at).await.unwrap());
    let mut plan = ConnectionPlan::default();
    let mut carrier = Carrier::new(&pools, &pools.targets[FIRST], stream, &mut plan);
    let (upstream, _) = carrier.parts();
    let reply = crate::handle::tests::handle(1);
    for (ticket, job) in (0..).zip(["a", "b", PANIC_JOB, "c", "d"]) {
        let share = UpstreamShare { ticket, ..share_of(job, &upstream, reply.clone()) };
        upstream.submits().try_send(share).expect("room");
    }
    let cancel = CancellationToken::new();
    let part = async move { carrier.carry(&cancel).await };
    assert!(
        timeout(PATIENCE, tasks.catch_panic("upstream", part)).await.expect("in time").is_none()
    );
    assert!(!upstream.is_alive() && tasks.panics() == 1);
    let mut answered: Vec<u32> =
        reply.mailbox.take().1.iter().map(|verdict| verdict.ticket).collect();
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 3, 4]);
    assert_eq!(pools.proxy.books.metrics.counts().unresolved, 4);
}

/// Shares beyond the maximum number in flight wait until the pool has answered some; a block does
/// not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_shares_are_sent_than_may_wait_for_the_pool() {
    const MAX: usize = 4;
    const SHARES: u32 = 10;
    let (listener, at) = listener();
    let (pools, _tasks) = pools_at(at);
    let stream = PoolStream::plain(TcpStream::connect(at).await.unwrap());
    let (mut pool, _) = listener.accept().unwrap();
    let mut plan = ConnectionPlan::default();
    let mut carrier = Carrier::new(&pools, &pools.targets[FIRST], stream, &mut plan);
    let (upstream, session) = carrier.parts();
    session.bound(MAX);
    let reply = crate::handle::tests::handle(1);
    let share = |ticket| UpstreamShare { ticket, ..share_of("j", &upstream, reply.clone()) };
    for ticket in 0..SHARES {
        upstream.submits().try_send(share(ticket)).expect("room");
    }
    let proof =
        Proof { header: [5; 80], hash: [0; 32], version_bits: None, rebuilt: Rebuilt::Plain };
    let block = UpstreamShare { block: Some(Box::new(proof)), ..share(SHARES) };

    // The pool reports how many shares it was sent when nothing has arrived for a while, because
    // then all shares have arrived.
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (order, orders) = std::sync::mpsc::channel();
    let late_pool = std::thread::spawn(move || {
        pool.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (mut lines, mut line, mut asked) =
            (BufReader::new(pool.try_clone().unwrap()), String::new(), Vec::new());
        loop {
            match lines.read_line(&mut line) {
                Ok(0) => return,
                Ok(_) => {
                    let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                    asked.extend(
                        (request["method"] == "mining.submit").then(|| request["id"].clone()),
                    );
                    line.clear();
                }
                Err(_) if asked.is_empty() => {}
                Err(_) => {
                    let _ = tell.send(asked.len());
                    if orders.recv().unwrap_or(Order::Answer) == Order::Answer {
                        for id in asked.drain(..) {
                            writeln!(pool, r#"{{"id":{id},"result":true,"error":null}}"#).unwrap();
                        }
                    }
                }
            }
        }
    });
    let cancel = CancellationToken::new();
    let watch = async {
        assert_eq!(told.recv().await, Some(MAX));
        upstream.urgent().try_send(block).expect("room");
        order.send(Order::ListenOn).unwrap();
        for asked in [MAX + 1, MAX, 2] {
            assert_eq!(told.recv().await, Some(asked));
            order.send(Order::Answer).unwrap();
        }
        until(|| pools.proxy.books.metrics.counts().accepted == u64::from(SHARES) + 1).await;
        cancel.cancel();
    };
    timeout(PATIENCE, async { tokio::join!(carrier.carry(&cancel), watch) })
        .await
        .expect("in time");
    drop(carrier);
    late_pool.join().unwrap();
}

#[derive(PartialEq)]
enum Order {
    ListenOn,
    Answer,
}
