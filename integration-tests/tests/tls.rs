//! Tests of pools with TLS: an impostor receives nothing of ours, and no miner loses its
//! connection.
//!
//! The tests judge by the bytes of Stratum that the pools read or, for servers that cannot speak
//! TLS, by all bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proxy::TargetId;
use proxy::config::{Target, Tls};
use testbed::miner::Model;
use testbed::pool::{PoolConfig, TestPool};
use testbed::tls::{Authority, Identity, Validity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{PATIENCE, Site, config, pool};

/// The host name of all pools here.
const HOST: &str = "127.0.0.1";

fn authority() -> (Authority, Tls) {
    let authority = Authority::new("test authority").expect("made");
    let tls = Tls::authorities(authority.pem().as_bytes()).expect("readable");
    (authority, tls)
}

fn pinned(identity: &Identity) -> Tls {
    Tls::pinned(vec![identity.pin().expect("readable").parse().expect("a pin")])
}

async fn start(identity: Option<Identity>, seed: u64) -> TestPool {
    TestPool::start(PoolConfig { tls: identity, ..pool(8, seed) }).await.expect("a free port")
}

fn target(name: &str, port: u16, tls: Option<Tls>) -> Target {
    Target { tls, ..Target::new(name, HOST, port, "acme") }
}

/// A server that reads the first bytes, answers with fixed bytes, and records everything it reads.
struct Scripted {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let mut answer = Some(&answer);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    record.lock().extend_from_slice(&buffer[..read]);
                    if let Some(answer) = answer.take() {
                        let _ = stream.write_all(answer).await;
                    }
                }
            }
        });
        Self { port, heard }
    }

    fn heard(&self, text: &str) -> bool {
        self.heard.lock().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// A ServerHello of TLS 1.1, as from a server that supports nothing newer.
fn server_hello_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let mut record = vec![22, 3, 2, 0, u8::try_from(hello.len() + 4).expect("short"), 2, 0, 0];
    record.push(u8::try_from(hello.len()).expect("short"));
    record.extend(hello);
    record
}

/// U50 to U54, P06: each of these connections ends before a byte of subscribe or authorize is
/// written, with a reason of its own, and is not tried again for a minute. The target behind them
/// is used.
#[tokio::test(flavor = "multi_thread")]
async fn u50_to_u54_who_is_not_the_pool_hears_nothing_of_ours() {
    let (authority, trusted) = authority();
    let (stranger, _) = self::authority();
    let (self_signed, _) = Identity::self_signed(&[HOST]).expect("made");
    let issue = |validity| authority.issue(&[HOST], validity).expect("issued");
    let good = issue(Validity::Now);
    let cases = [
        ("tls_untrusted", stranger.issue(&[HOST], Validity::Now).expect("issued"), trusted.clone()),
        ("tls_untrusted", self_signed.clone(), trusted.clone()),
        (
            "tls_wrong_name",
            authority.issue(&["pool.example"], Validity::Now).expect("issued"),
            trusted.clone(),
        ),
        ("tls_expired", issue(Validity::Past), trusted.clone()),
        ("tls_not_yet_valid", issue(Validity::Future), trusted.clone()),
        // The chain is valid, but with a pin it is not checked.
        ("tls_pin_mismatch", good.clone(), pinned(&self_signed)),
        // U53: more than a megabyte of certificates.
        ("tls_failed", good.padded(3000).expect("made"), trusted.clone()),
    ];
    let mut pools = Vec::new();
    let mut targets = Vec::new();
    let mut wanted = Vec::new();
    for (reason, identity, tls) in cases {
        let pool = start(Some(identity), 10 + pools.len() as u64).await;
        targets.push(target(&format!("bad-{}", targets.len()), pool.addr().port(), Some(tls)));
        pools.push(pool);
        wanted.push(reason);
    }
    // U54: a handshake that does not end is given up.
    let stalled = start(Some(good), 30).await;
    stalled.stall_handshakes();
    targets.push(target("stalled", stalled.addr().port(), Some(trusted.clone())));
    pools.push(stalled);
    wanted.push("tls_handshake_timeout");
    // U52: a server without TLS. U51: a server that supports no TLS version that we accept.
    let text =
        b"{\"id\":null,\"method\":\"client.show_message\",\"params\":[\"this port is plain\"]}\n"
            .to_vec();
    let version_alert = vec![21, 3, 1, 0, 2, 2, 70];
    let mut scripted = Vec::new();
    for (reason, answer) in [
        ("tls_not_spoken", text),
        ("tls_incompatible", server_hello_1_1()),
        ("tls_incompatible", version_alert),
    ] {
        let server = Scripted::start(answer).await;
        targets.push(target(&format!("bad-{}", targets.len()), server.port, Some(trusted.clone())));
        scripted.push(server);
        wanted.push(reason);
    }
    let plain = start(None, 40).await;
    targets.push(target("plain", plain.addr().port(), None));

    let mut config = config(&[]);
    config.targets = targets.into();
    // The size is configured, so that no probe is needed and every connection counted is one for
    // mining.
    config.targets.values_mut().for_each(|target| target.extranonce2_size = Some(8));
    let start = daemon::clock::now();
    let site = Site::with(pools, config, false).await;
    let miner = site.miner(Model::Cgminer411, "acme.rig");
    plain
        .until(PATIENCE, |counts| counts.total.accepted > 20)
        .await
        .expect("the plain one is mined at");
    for (index, reason) in wanted.iter().enumerate() {
        let fault = site.fault(index, reason).await;
        let view = site.proxy.targets().swap_remove(index);
        assert!(!view.up && view.tls.is_some(), "{fault}: {view:?}");
    }
    for reason in [
        "tls_untrusted",
        "tls_expired",
        "tls_pin_mismatch",
        "tls_handshake_timeout",
        "tls_not_spoken",
    ] {
        assert!(site.alarms(reason) > 0, "{reason} is an alarm");
    }
    for (pool, reason) in site.pools.iter().zip(&wanted) {
        let counts = pool.counts();
        assert_eq!(counts.received_bytes, 0, "{reason}: not a byte of Stratum: {counts:#?}");
        // A handshake that was aborted or did not finish may succeed in a second; a wrong identity
        // does not change so soon.
        let soon = matches!(*reason, "tls_failed" | "tls_handshake_timeout");
        let again = daemon::clock::now() - start > Duration::from_secs(60);
        assert!(
            soon || again || counts.connects == 1,
            "{reason}: not again within a minute: {counts:#?}"
        );
    }
    for server in &scripted {
        assert!(!server.heard("mining.") && !server.heard("acme"), "nothing in the clear");
    }
    assert_eq!(miner.counts().disconnects, 0);
    miner.stop().await;
    site.stop().await;
}

/// F19: a certificate that changes during operation fails at the next handshake, and the miners are
/// moved at once. When the right key is back, they return: the pool is tried again, not banned.
#[tokio::test(flavor = "multi_thread")]
async fn f19_a_changed_key_fails_closed_and_costs_the_miners_nothing() {
    let (first, _) = Identity::self_signed(&["pool.example"]).expect("made");
    let (other, _) = Identity::self_signed(&["pool.example"]).expect("made");
    let pools = vec![start(Some(first.clone()), 1).await, start(None, 2).await];
    let mut config = config(&pools);
    config.targets[TargetId::nth(0)].tls = Some(pinned(&first));
    let site = Site::with(pools, config, false).await;
    let miners = site.fleet(4);
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > 20)
        .await
        .expect("mined at by TLS");

    site.pools[0].set_tls(Some(other));
    site.pools[0].drop_connections();
    let fault = site.fault(0, "tls_pin_mismatch").await;
    assert!(
        fault.contains("the pool's key is sha256/"),
        "the new key is named, for an operator who expected it: {fault}"
    );
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("the backup is mined at");
    let at_first = site.pools[0].counts();
    assert!(at_first.received_bytes > 0, "it would be counted");
    let books = site.settle(miners).await;
    books.check();
    assert_eq!(site.pools[0].counts().received_bytes, at_first.received_bytes, "nothing since");
    assert!(site.alarms("tls_pin_mismatch") > 0);
    site.stop().await;
}

/// F60: bytes changed in transit end the connection with a reason of their own, at most once a
/// second, and a different pool is used.
#[tokio::test(flavor = "multi_thread")]
async fn f60_changed_bytes_are_noticed_and_not_fought_over() {
    let (authority, trusted) = authority();
    let identity = authority.issue(&[HOST], Validity::Now).expect("issued");
    let busy =
        PoolConfig { tls: Some(identity), job_interval: Duration::from_millis(100), ..pool(8, 1) };
    let pools = vec![TestPool::start(busy).await.expect("a free port"), start(None, 2).await];
    let relay = Relay::start(pools[0].addr().port(), 6000).await;
    let mut config = config(&pools);
    config.targets[TargetId::nth(0)].tls = Some(trusted);
    config.targets[TargetId::nth(0)].port = relay.port;
    config.targets[TargetId::nth(0)].extranonce2_size = Some(8);
    config.targets[TargetId::nth(1)].extranonce2_size = Some(8);
    let start = daemon::clock::now();
    let site = Site::with(pools, config, false).await;
    let miners = site.fleet(4);
    site.fault(0, "tls_tampered").await;
    site.pools[0].until(PATIENCE, |counts| counts.connects >= 3).await.expect("tried again");
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("the backup is mined at");
    // On a busy machine, two connections may be seen closer together than they were made.
    let (connects, lasted) = (*relay.connects.lock(), daemon::clock::now() - start);
    assert!(connects <= lasted.as_secs() + 1, "at most one a second: {connects} in {lasted:?}");
    assert!(site.alarms("tls_tampered") >= 2);
    let books = site.settle(miners).await;
    let fleet = &books.fleet;
    assert_eq!(fleet.submitted, fleet.answered_true + fleet.refused(), "{books:#?}");
    assert_eq!(
        (fleet.disconnects, fleet.repeated_work, fleet.shared_work),
        (0, 0, 0),
        "{books:#?}"
    );
    assert!(books.accepted() <= fleet.answered_true + books.proxy.unresolved, "{books:#?}");
    site.stop().await;
}

/// U55: a connection that ends without a `close_notify` has ended, and its unanswered shares are
/// unresolved, as without TLS.
#[tokio::test(flavor = "multi_thread")]
async fn u55_a_missing_close_notify_is_an_end_and_leaves_shares_unresolved() {
    let (authority, trusted) = authority();
    let identity = authority.issue(&[HOST], Validity::Now).expect("issued");
    let pools = vec![start(Some(identity), 1).await, start(None, 2).await];
    let mut config = config(&pools);
    config.targets[TargetId::nth(0)].tls = Some(trusted);
    let site = Site::with(pools, config, false).await;
    let miners = site.fleet(4);
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > 20)
        .await
        .expect("mined at by TLS");
    site.pools[0].set_answer_delay(Duration::from_secs(60));
    let before = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > before + 5)
        .await
        .expect("shares without answers");
    // The test pool drops the connection without a TLS `close_notify`.
    site.pools[0].die().await;
    site.fault(0, "closed").await;
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 10)
        .await
        .expect("the backup is mined at");
    let books = site.settle(miners).await;
    assert!(books.proxy.unresolved >= 5, "{books:#?}");
    let fleet = &books.fleet;
    assert_eq!(fleet.submitted, fleet.answered_true + fleet.refused(), "{books:#?}");
    assert_eq!(fleet.disconnects, 0);
    site.stop().await;
}

/// Relays bytes, and changes one byte from the pool, at a given position of each connection.
struct Relay {
    port: u16,
    connects: Arc<Mutex<u64>>,
}

impl Relay {
    async fn start(to: u16, change_at: u64) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let connects = Arc::new(Mutex::new(0));
        let record = connects.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                *record.lock() += 1;
                let Ok(far) = TcpStream::connect((HOST, to)).await else { continue };
                tokio::spawn(relay(near, far, change_at));
            }
        });
        Self { port, connects }
    }
}

async fn relay(near: TcpStream, far: TcpStream, change_at: u64) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let passed = AtomicU64::new(0);
    let back = async {
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = far_read.read(&mut buffer).await {
            let before = passed.fetch_add(read as u64, Ordering::Relaxed);
            if (before..before + read as u64).contains(&change_at) {
                buffer[usize::try_from(change_at - before).expect("within the buffer")] ^= 1;
            }
            if near_write.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = back => {}
        _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
    }
}
