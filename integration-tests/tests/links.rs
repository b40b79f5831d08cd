//! Connections to pools and miners that are broken, lost, slow or corrupted: rows F02-F06, F35,
//! F50-F52 of docs/faults.md. The deadlines are shorter than in operation, but in the same order.
//! The tests compare the counts of miners and pools.

use std::time::Duration;

use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::PoolConfig;
use testbed::relay::{Flow, Relay, Way, Weather};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Books, PATIENCE, Setup, Site, pool};

fn relayed() -> Setup {
    Setup {
        relayed: true,
        change: |config| {
            config.pool.handshake = Duration::from_secs(2);
            config.pool.suspect = Duration::from_millis(400);
            config.pool.answer = Duration::from_millis(1500);
        },
        ..Setup::default()
    }
}

impl Books {
    /// Checks what must hold even if a connection to a pool is lost: each submit is answered once,
    /// and every share answered `true` was accepted. Shares in transit at the loss count for no
    /// side.
    fn check_lossy(&self) {
        let fleet = &self.fleet;
        assert_eq!(
            fleet.submitted,
            fleet.answered_true + fleet.refused(),
            "every submit is answered: {self:#?}"
        );
        assert_eq!(
            (fleet.double_answers, fleet.unknown_answers),
            (0, 0),
            "exactly once: {self:#?}"
        );
        let taken = self.accepted() + self.proxy.local;
        assert!(fleet.answered_true <= taken, "true only when it was true: {self:#?}");
        assert!(
            taken <= fleet.answered_true + self.proxy.unresolved,
            "nothing good was refused: {self:#?}"
        );
        let duplicates: u64 =
            self.pools.iter().map(|pool| pool.total.duplicate + pool.total.low).sum();
        assert_eq!((duplicates, fleet.repeated_work, fleet.shared_work), (0, 0, 0), "{self:#?}");
        assert_eq!((fleet.disconnects, fleet.timeouts), (0, 0), "miners stay connected: {self:#?}");
    }
}

/// Waits until a pool has accepted `shares` more shares.
async fn mined(site: &Site, pool: usize, shares: u64) {
    let before = site.pools[pool].counts().total.accepted;
    let more = |counts: &testbed::pool::Counts| counts.total.accepted >= before + shares;
    site.pools[pool].until(PATIENCE, more).await.expect("it is mined at");
}

/// F02: a pool that closes its connection repeatedly is connected to once each time, and only
/// shares in transit are lost.
#[tokio::test(flavor = "multi_thread")]
async fn f02_a_pool_that_closes_again_and_again_sees_no_storm() {
    const CLOSES: u64 = 30;
    // The deadlines are those of operation, so that a late answer on a busy machine is not counted
    // as lost.
    let site =
        Site::start(Setup { pools: vec![pool(8, 1)], relayed: true, ..Setup::default() }).await;
    let miners = site.fleet(4);
    mined(&site, 0, 10).await;
    let first = site.relays[0].counts().connects;
    for closed in 1..=CLOSES {
        site.pools[0].drop_connections();
        site.relays[0]
            .until(PATIENCE, |counts| counts.connects == first + closed)
            .await
            .expect("it comes back");
        mined(&site, 0, 1).await;
    }
    assert_eq!(site.relays[0].counts().connects, first + CLOSES, "one attempt for each loss");
    site.settle(miners).await.check_lossy();
    site.stop().await;
}

/// The connection to the primary is lost without a close: unanswered shares reveal this, the backup
/// is used, and the primary is used again when its connection works.
async fn lost(break_it: impl Fn(&Relay)) {
    let site = Site::start(relayed()).await;
    let miners = site.fleet(4);
    mined(&site, 0, 20).await;
    break_it(&site.relays[0]);
    mined(&site, 1, 20).await;
    site.relays[0].set_both(Weather::FINE);
    mined(&site, 0, 20).await;
    let books = site.settle(miners).await;
    books.check_lossy();
    assert!(books.proxy.unresolved > 0, "shares on the way are nobody's: {books:#?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f03_a_black_hole_is_found_out_and_left() {
    lost(|relay| relay.set_both(Weather::LOST)).await;
}

/// F05: the pool receives our lines and accepts the shares, but its answers are lost.
#[tokio::test(flavor = "multi_thread")]
async fn f05_a_line_that_is_lost_one_way_is_found_out_and_left() {
    lost(|relay| relay.set(Way::Back, Weather::LOST)).await;
}

/// F04: a NAT forgets the connection; a new connection to the same pool works.
#[tokio::test(flavor = "multi_thread")]
async fn f04_a_forgotten_flow_is_replaced_by_a_new_one() {
    let site = Site::start(Setup { pools: vec![pool(8, 1)], ..relayed() }).await;
    let miners = site.fleet(4);
    mined(&site, 0, 20).await;
    let before = site.relays[0].counts().connects;
    site.relays[0].forget();
    site.relays[0]
        .until(PATIENCE, |counts| counts.connects > before)
        .await
        .expect("a new connection");
    mined(&site, 0, 20).await;
    let books = site.settle(miners).await;
    books.check_lossy();
    assert!(books.proxy.unresolved > 0, "{books:#?}");
    site.stop().await;
}

/// F06: the answers to fifty or more shares are delayed, then the connection is reset: exactly
/// these shares are unresolved, and their miners are told so.
#[tokio::test(flavor = "multi_thread")]
async fn f06_shares_in_flight_at_a_reset_are_unresolved_and_their_miners_are_told() {
    let site =
        Site::start(Setup { relayed: true, pools: vec![pool(8, 1)], ..Setup::default() }).await;
    let miners = site.fleet(8);
    mined(&site, 0, 20).await;
    site.relays[0].set(Way::Back, Weather::STALLED);
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.outstanding >= 8).await.expect("no answer comes");
        miner.set_hashrate(0.0);
    }
    site.relays[0].reset();
    site.relays[0].set_both(Weather::FINE);
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.outstanding == 0).await.expect("told");
        miner.set_hashrate(5000.0);
    }
    mined(&site, 0, 20).await;
    let books = site.settle(miners).await;
    books.check_lossy();
    let told = books.fleet.answered_error.get("20").copied().unwrap_or_default();
    assert_eq!(told, books.proxy.unresolved, "{books:#?}");
    assert!(told >= 50, "{books:#?}");
    site.stop().await;
}

/// F35: single bytes from time to time do not extend the deadline of the handshake.
#[tokio::test(flavor = "multi_thread")]
async fn f35_a_dribble_of_bytes_does_not_extend_the_handshake() {
    let site = Site::start(Setup {
        change: |config| config.handshake_timeout = Duration::from_secs(1),
        ..Setup::default()
    })
    .await;
    let relay = Relay::start(site.proxy.addrs()[0], 35).await.expect("a free port");
    relay.set(Way::There, Weather { cut: Some(1), rate: Some(4), ..Weather::FINE });
    let mut stream = TcpStream::connect(relay.addr()).await.expect("it accepts");
    let hello = [r#"{"id":1,"method":"mining.subscribe","params":[]}"#, "\n"].concat().repeat(100);
    stream.write_all(hello.as_bytes()).await.expect("the relay takes it all");
    let mut answer = Vec::new();
    // Only the close is expected: after a second, about four bytes of the first line have arrived.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed");
    assert_eq!(answer, b"");
    assert!(relay.counts().there < 48, "{:?}", relay.counts());
    let closed = "tieline_proxy_session_closes_total{reason=\"handshake_timeout\"}";
    let counted = async {
        while site.metric(closed) != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("counted under its reason");
    site.stop().await;
}

/// Stops hashing and waits until every submit is answered. On a slow link that takes longer than a
/// stopping miner waits.
async fn answered(miners: &[TestMiner]) {
    for miner in miners {
        miner.set_hashrate(0.0);
    }
    for miner in miners {
        miner
            .until(PATIENCE, |counts| counts.outstanding == 0)
            .await
            .expect("every submit is answered");
    }
}

/// Starts miners that connect through `relay`.
fn behind(site: &Site, relay: &Relay, count: usize) -> Vec<TestMiner> {
    (0..count)
        .map(|index| {
            let model = Model::ALL[index % Model::ALL.len()];
            let config = site.miner_config(model, &format!("acme.rig-{index}"));
            TestMiner::start(MinerConfig { addresses: vec![relay.addr().to_string()], ..config })
        })
        .collect()
}

/// F50: a slow link with stalls, to pools and to miners, makes everything slower, but causes no
/// wrong answer, no lost share and no repeated work.
#[tokio::test(flavor = "multi_thread")]
async fn f50_a_narrow_link_with_stalls_is_slower_and_not_wrong() {
    let site = Site::start(Setup { relayed: true, ..Setup::default() }).await;
    let downlink = Relay::start(site.proxy.addrs()[0], 50).await.expect("a free port");
    let narrow = Weather {
        rate: Some(32_000),
        jitter: Duration::from_millis(40),
        cut: Some(1400),
        ..Weather::FINE
    };
    let lines = [&site.relays[0], &site.relays[1], &downlink];
    for relay in lines {
        relay.set_both(narrow);
    }
    let miners = behind(&site, &downlink, 4);
    for way in [Way::There, Way::Back, Way::There] {
        mined(&site, 0, 10).await;
        for relay in lines {
            relay.set(way, Weather { flow: Flow::Stalled, ..narrow });
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        for relay in lines {
            relay.set(way, narrow);
        }
    }
    mined(&site, 0, 10).await;
    answered(&miners).await;
    let books = site.settle(miners).await;
    books.check_lossy();
    assert_eq!(books.proxy.unresolved, 0, "{books:#?}");
    assert!(books.fleet.gap_ms <= 10_000, "{books:#?}");
    site.stop().await;
}

/// F51: bytes arrive one by one or many together, in both directions, at pools and at miners; no
/// count differs because of it.
#[tokio::test(flavor = "multi_thread")]
async fn f51_bytes_cut_or_gathered_at_any_place_mean_the_same() {
    let gathered =
        Weather { gather: Some((64 * 1024, Duration::from_millis(30))), ..Weather::FINE };
    for weather in
        [Weather { cut: Some(1), ..Weather::FINE }, Weather { cut: Some(3), ..gathered }, gathered]
    {
        // The jobs are small, because each byte takes a system call at four places.
        let slow = PoolConfig { job_interval: Duration::from_secs(2), branches: 1, ..pool(8, 1) };
        let site =
            Site::start(Setup { pools: vec![slow], relayed: true, ..Setup::default() }).await;
        let downlink = Relay::start(site.proxy.addrs()[0], 51).await.expect("a free port");
        downlink.set_both(weather);
        site.relays[0].set_both(weather);
        let miners = behind(&site, &downlink, 2);
        for miner in &miners {
            miner.set_hashrate(2000.0);
            miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
        }
        answered(&miners).await;
        let books = site.settle(miners).await;
        books.check_lossy();
        assert_eq!(
            (books.proxy.unresolved, books.proxy.malformed, books.proxy.low),
            (0, 0, 0),
            "{weather:?}: {books:#?}"
        );
        site.stop().await;
    }
}

/// F52: one byte in ten thousand is changed, in both directions, to pools and to miners.
/// Connections end because of this, nothing panics, and credited shares are wrong by no more than
/// the changed bytes can cause.
#[tokio::test(flavor = "multi_thread")]
async fn f52_changed_bytes_end_connections_and_make_no_credit() {
    let site = Site::start(relayed()).await;
    let downlink = Relay::start(site.proxy.addrs()[0], 52).await.expect("a free port");
    let noisy = Weather { corrupt_one_in: Some(10_000), ..Weather::FINE };
    let lines = [&site.relays[0], &site.relays[1], &downlink];
    for relay in lines {
        relay.set_both(noisy);
    }
    let miners = behind(&site, &downlink, 8);
    let corrupted = || lines.iter().map(|relay| relay.counts().corrupted).sum::<u64>();
    let so_far =
        |miners: &[TestMiner]| miners.iter().map(|miner| miner.counts().answered_true).sum::<u64>();
    while so_far(&miners) < 200 || corrupted() < 10 {
        miners[0]
            .until(PATIENCE, {
                let seen = miners[0].counts().submitted;
                move |counts| counts.submitted > seen
            })
            .await
            .expect("mining goes on");
    }
    let books = site.settle(miners).await;
    let corrupted = corrupted();
    let fleet = &books.fleet;
    assert!(
        fleet.answered_true <= books.accepted() + books.proxy.local + corrupted,
        "{corrupted}: {books:#?}"
    );
    let duplicates: u64 = books.pools.iter().map(|pool| pool.total.duplicate).sum();
    assert!(duplicates <= corrupted, "{corrupted}: {books:#?}");
    site.stop().await;
}
