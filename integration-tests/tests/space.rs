//! Search space as seen from outside: more connections when lanes run out, and a clear refusal when
//! there can be no more.

use testbed::miner::Model;
use testbed::pool::{Counts, Extranonce1, PoolConfig};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Setup, Site, pool};

/// A miner that takes a seat and never submits a share, because the test machine could not run so
/// many miners that hash.
struct Idler(BufReader<TcpStream>);

impl Idler {
    /// Connects, subscribes and authorizes.
    async fn join(site: &Site, index: usize) -> Self {
        let mut stream =
            BufReader::new(TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts"));
        let hello = format!(
            "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"idler\"]}}\n\
             {{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"acme.idler-{index}\",\"x\"]}}\n"
        );
        stream.write_all(hello.as_bytes()).await.expect("it reads");
        Self(stream)
    }

    /// Waits for a line that contains `word`, and returns it.
    async fn hears(&mut self, word: &str) -> String {
        let wanted = async {
            loop {
                let mut line = String::new();
                assert!(
                    self.0.read_line(&mut line).await.expect("readable") > 0,
                    "closed before {word:?}"
                );
                if line.contains(word) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("never heard {word:?}"))
    }
}

async fn crowd(site: &Site, count: usize) -> Vec<Idler> {
    let mut crowd = Vec::new();
    for index in 0..count {
        crowd.push(Idler::join(site, index).await);
    }
    crowd
}

/// The number of connections that were ever sent a job, which excludes probes.
fn mined_on(counts: &Counts) -> usize {
    counts.connections.values().filter(|connection| connection.jobs > 0).count()
}

/// F27: a standby without lane bytes opens as many connections as the sessions need before a
/// switch, so that it can take all of them.
#[tokio::test(flavor = "multi_thread")]
async fn f27_a_standby_has_the_connections_it_needs_before_it_is_needed() {
    let still = PoolConfig { job_interval: std::time::Duration::ZERO, ..pool(8, 1) };
    let site = Site::start(Setup { pools: vec![still, pool(4, 2)], ..Setup::default() }).await;
    let mut idlers = crowd(&site, 600).await;
    let miners = site.fleet(2);
    for idler in &mut idlers {
        idler.hears("mining.notify").await;
    }
    site.pools[1]
        .until(PATIENCE, |counts| mined_on(counts) == 3)
        .await
        .expect("three connections for 602 miners");
    assert_eq!(site.pools[1].counts().total.accepted, 0, "nobody mines there yet");
    site.pools[0].die().await;
    for idler in &mut idlers {
        idler.hears("mining.notify").await;
    }
    site.pools[1].until(PATIENCE, |counts| counts.total.accepted > 10).await.expect("mined at");
    let view = &site.proxy.targets()[1];
    assert_eq!((view.connections, view.sessions), (3, 602));
    let books = site.settle(miners).await;
    books.check();
    assert_eq!((books.fleet.reconnects, books.fleet.extranonce_size_changes), (0, 0), "{books:#?}");
    site.stop().await;
}

/// F27, S12: at the maximum number of connections, the next miner is refused with the reason, and
/// the other miners are not affected.
#[tokio::test(flavor = "multi_thread")]
async fn f27_s12_at_the_cap_of_connections_the_next_miner_is_refused() {
    let setup = Setup {
        pools: vec![pool(4, 1)],
        change: |config| config.targets[proxy::TargetId::nth(0)].max_connections = 1,
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners = site.fleet(2);
    let mut idlers = crowd(&site, 254).await;
    for idler in &mut idlers {
        idler.hears("mining.notify").await;
    }
    let refusal = Idler::join(&site, 999).await.hears("\"id\":1,").await;
    assert!(refusal.contains("[20,\"no search space\""), "{refusal}");
    // The seat of a miner that leaves is free again.
    drop(idlers.pop());
    loop {
        let mut next = Idler::join(&site, 1000).await;
        if next.hears("\"id\":1,").await.contains("mining.notify") {
            next.hears("\"method\":\"mining.notify\"").await;
            break;
        }
    }
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > 10)
        .await
        .expect("the others mine");
    site.settle(miners).await.check();
    site.stop().await;
}

/// Braiins gives `00` to all connections. Without lane bytes, a second connection would search the
/// same space, so it is not used.
#[tokio::test(flavor = "multi_thread")]
async fn f27_a_connection_with_the_extranonce1_of_another_and_no_lane_bytes_is_not_used() {
    let same = PoolConfig { extranonce1: Extranonce1::Fixed(vec![0]), ..pool(4, 1) };
    let site = Site::start(Setup { pools: vec![same], ..Setup::default() }).await;
    let miners = site.fleet(2);
    let _idlers = crowd(&site, 270).await;
    // Three connections: the probe, the one in use, and the one that cannot be used.
    site.pools[0]
        .until(PATIENCE, |counts| counts.connects >= 3 && counts.open == 1)
        .await
        .expect("tried and left");
    assert_eq!(mined_on(&site.pools[0].counts()), 1);
    let refusal = Idler::join(&site, 999).await.hears("\"id\":1,").await;
    assert!(refusal.contains("no search space"), "it is known by now: {refusal}");
    site.pools[0].until(PATIENCE, |counts| counts.total.accepted > 10).await.expect("mined at");
    site.settle(miners).await.check();
    site.stop().await;
}

/// A pool like NiceHash: three bytes of extranonce2 for the miner, and a longer extranonce1.
fn nicehash() -> PoolConfig {
    PoolConfig { extranonce1: Extranonce1::PerConnection(5), ..pool(3, 1) }
}

fn passed_through(config: &mut proxy::config::Config) {
    config.servers[0].passthrough = Some(proxy::TargetId::nth(0));
}

/// U13 and ADR 7: a target with an extranonce2 of 3 bytes or fewer is used only as an explicit 1:1
/// passthrough.
#[tokio::test(flavor = "multi_thread")]
async fn u13_a_pool_with_three_bytes_gives_each_miner_a_connection_of_its_own() {
    let site =
        Site::start(Setup { pools: vec![nicehash()], change: passed_through, ..Setup::default() })
            .await;
    assert_eq!(site.pools[0].counts().connects, 0, "nothing is asked and nothing stands by");
    // A connection that is not a miner opens no connection to the pool.
    let mut probe = TcpStream::connect(site.proxy.addrs()[0]).await.expect("it accepts");
    probe.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("writable");
    let miners = site.fleet(8);
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.answered_true >= 10).await.expect("mines");
    }
    let counts = site.pools[0].counts();
    assert_eq!((counts.connects, counts.open), (8, 8));
    assert!(
        counts.connections.values().all(|one| one.total.accepted > 0 && one.workers == ["acme"]),
        "{counts:#?}"
    );
    let view = &site.proxy.targets()[0];
    assert_eq!((view.up, view.connections, view.sessions), (true, 8, 8));
    let shown = async {
        let [up, connections] = ["target_up", "target_connections"]
            .map(|name| format!("tieline_proxy_{name}{{target=\"{}\"}}", view.name));
        while (site.metric(&up), site.metric(&connections)) != (1, 8) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, shown).await.expect("the metrics follow within a second");
    let books = site.settle(miners).await;
    books.check();
    site.pools[0]
        .until(PATIENCE, |counts| counts.open == 0)
        .await
        .expect("the connection goes with its miner");
    site.stop().await;
}

/// U14: a miner that supports `set_extranonce` gets the new extranonce; a miner that does not
/// support it must reconnect.
#[tokio::test(flavor = "multi_thread")]
async fn u14_a_passed_through_miner_follows_its_pools_extranonce() {
    let site =
        Site::start(Setup { pools: vec![nicehash()], change: passed_through, ..Setup::default() })
            .await;
    let mut follows = Idler::join(&site, 1).await;
    follows
        .0
        .write_all(b"{\"id\":3,\"method\":\"mining.extranonce.subscribe\",\"params\":[]}\n")
        .await
        .expect("writable");
    follows.hears("\"id\":3,\"result\":true").await;
    follows.hears("mining.notify").await;
    let comes_again = site.miner(Model::Cgminer411, "acme.rig");
    comes_again.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("mines");
    site.pools[0].set_extranonce(None, 3).expect("in range");
    let told = follows.hears("mining.set_extranonce").await;
    assert!(told.ends_with(",3]}\n"), "{told}");
    follows.hears("mining.notify").await;
    comes_again
        .until(PATIENCE, |counts| counts.disconnects == 1)
        .await
        .expect("closed to come again");
    let before = comes_again.counts().answered_true;
    comes_again
        .until(PATIENCE, |counts| counts.answered_true >= before + 5)
        .await
        .expect("mines again");
    // The size of extranonce2 changes too.
    site.pools[0].set_extranonce(None, 4).expect("in range");
    assert!(follows.hears("mining.set_extranonce").await.ends_with(",4]}\n"));
    let books = site.settle(vec![comes_again]).await;
    let pool = &books.pools[0].total;
    assert_eq!((pool.low, pool.duplicate, pool.malformed), (0, 0, 0), "{books:#?}");
    assert!(books.pools[0].stale_age_ms_max <= 10_000, "{books:#?}");
    site.stop().await;
}

/// At the maximum number of connections, the next miner is refused with the reason. When the pool
/// is lost, its miners are disconnected, except those that are curtailed.
#[tokio::test(flavor = "multi_thread")]
async fn passed_through_miners_are_capped_and_go_with_their_pool() {
    let setup = Setup {
        pools: vec![nicehash()],
        change: |config| {
            passed_through(config);
            config.targets[proxy::TargetId::nth(0)].max_connections = 2;
        },
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners = site.fleet(2);
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("mines");
    }
    let refusal = Idler::join(&site, 3).await.hears("\"id\":1,").await;
    assert!(refusal.contains("[20,\"no search space\""), "{refusal}");
    site.pools[0].die().await;
    for miner in &miners {
        miner
            .until(PATIENCE, |counts| counts.disconnects >= 1)
            .await
            .expect("closed with its pool");
    }
    site.pools[0].come_back().await;
    for miner in &miners {
        let before = miner.counts().answered_true;
        miner
            .until(PATIENCE, |counts| counts.answered_true >= before + 5)
            .await
            .expect("mines again");
    }
    let books = site.settle(miners).await;
    let pool = &books.pools[0].total;
    assert_eq!((pool.low, pool.duplicate, pool.malformed), (0, 0, 0), "{books:#?}");
    let fleet = &books.fleet;
    assert_eq!(
        fleet.submitted,
        fleet.answered_true + fleet.refused() + fleet.unanswered,
        "{books:#?}"
    );
    site.stop().await;
}
