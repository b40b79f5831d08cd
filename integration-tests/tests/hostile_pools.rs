//! Pools that try to redirect our hashrate, or send more than a proxy can read: docs/faults.md,
//! rows U, as miners and pools see it. Decisions within one connection are tested in
//! `proxy::upstream`, with the ids of their rows.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proxy::TargetId;
use proxy::config::{HostPort, OnPayoutChange, Tls};
use testbed::miner::Model;
use testbed::pool::{PoolConfig, TestPool};
use testbed::tls::Identity;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::harness::{PATIENCE, Setup, Site, config, pool};

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

/// U07, F58, P05: a host that is not listed is never connected to. A listed one is connected to
/// with the TLS settings of the target or not at all; if that fails, the configured address is used
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn u07_f58_a_redirect_never_leads_out_of_tls() {
    let (identity, _) = Identity::self_signed(&["pool.example"]).expect("made");
    let trusted = Tls::pinned(vec![identity.pin().expect("readable").parse().expect("a pin")]);
    let secured = PoolConfig { tls: Some(identity), ..pool(8, 1) };
    let pools = vec![
        TestPool::start(secured).await.expect("a free port"),
        TestPool::start(pool(8, 2)).await.expect("a free port"),
    ];
    let thief = TestPool::start(pool(8, 9)).await.expect("a free port");
    let (trap, heard) = plain_trap().await;
    let mut config = config(&pools);
    config.targets[TargetId::nth(0)].tls = Some(trusted);
    config.targets[TargetId::nth(0)].reconnect_hosts = vec![at("127.0.0.1", trap)];
    let site = Site::with(pools, config, false).await;
    let miners = site.fleet(4);
    site.pools[0].until(PATIENCE, |counts| counts.total.accepted > 10).await.expect("mined at");

    site.pools[0].send_reconnect("127.0.0.1", thief.addr().port(), 0);
    site.pools[0].send_reconnect("127.0.0.1", trap, 0);
    site.fault(0, "tls_closed").await;
    let before = site.pools[0].counts();
    site.pools[0]
        .until(PATIENCE, |counts| counts.connects > before.connects)
        .await
        .expect("home again");
    assert_eq!(thief.counts().connects, 0, "not listed");
    assert!(site.alarms("redirect_refused") > 0);
    let heard = heard.lock().clone();
    assert_eq!(heard.first(), Some(&22), "a TLS greeting, and nothing else");
    assert!(
        !heard.windows(4).any(|window| window == b"mini" || window == b"acme"),
        "nothing in the clear"
    );
    let books = site.settle(miners).await;
    assert_eq!((books.fleet.disconnects, books.fleet.extranonce_changes), (0, 0), "{books:#?}");
    site.stop().await;
}

/// Accepts connections one by one, records the first bytes of each, and closes it.
async fn plain_trap() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let record = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            if let Ok(read) = stream.read(&mut buffer).await {
                record.lock().extend_from_slice(&buffer[..read]);
            }
        }
    });
    (port, heard)
}

/// U06: a redirect to an address that the operator has listed is followed. When the pool there
/// dies, the next connection is to the configured address.
#[tokio::test(flavor = "multi_thread")]
async fn u06_a_listed_place_is_followed_and_left_for_home() {
    let twin = TestPool::start(pool(8, 3)).await.expect("a free port");
    let pools = vec![TestPool::start(pool(8, 1)).await.expect("a free port")];
    let mut config = config(&pools);
    config.targets[TargetId::nth(0)].reconnect_hosts = vec![at("127.0.0.1", twin.addr().port())];
    let site = Site::with(pools, config, false).await;
    let miners = site.fleet(4);
    site.pools[0].until(PATIENCE, |counts| counts.total.accepted > 10).await.expect("mined at");
    site.pools[0].send_reconnect("127.0.0.1", twin.addr().port(), 0);
    twin.until(PATIENCE, |counts| counts.total.accepted > 10).await.expect("followed");
    twin.die().await;
    let before = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > before + 10)
        .await
        .expect("home again");
    let books = site.settle(miners).await;
    assert_eq!((books.fleet.disconnects, books.fleet.repeated_work), (0, 0), "{books:#?}");
    site.stop().await;
}

/// U08: a pool that redirects without end is not mined at while there is a different target. U10: a
/// pool that sends a line without end is not mined at, either.
#[tokio::test(flavor = "multi_thread")]
async fn u08_u10_a_pool_that_does_not_stop_is_put_aside() {
    let site = Site::start(Setup::default()).await;
    let miners = site.fleet(4);
    site.pools[0].until(PATIENCE, |counts| counts.total.accepted > 10).await.expect("mined at");
    for _ in 0..100 {
        site.pools[0].send_reconnect("", 0, 0);
    }
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 10)
        .await
        .expect("the backup is mined at");
    let primary = site.proxy.targets().remove(0);
    assert!(primary.quarantined && !primary.active, "{primary:?}");
    assert_eq!(site.alarms("quarantined"), 1, "told once");
    // One of the hundred redirects is followed, within two seconds, so the pool does not count as
    // flapping.
    site.pools[0]
        .until(PATIENCE, |counts| counts.connects >= 3)
        .await
        .expect("probe, first and second");
    site.settle(miners).await.check();

    let miner = site.miner(Model::Cgminer411, "acme.rig");
    site.pools[1].send_raw(None, &"x".repeat(100_000));
    site.fault(1, "upstream_line_too_long").await;
    assert!(site.alarms("upstream_line_too_long") > 0);
    miner.until(PATIENCE, |counts| counts.answered_true > 5).await.expect("mining goes on");
    miner.stop().await;
    site.stop().await;
}

/// U40: jobs with unknown payees raise an alarm, and the pool that sent them is left if the
/// operator has configured this.
#[tokio::test(flavor = "multi_thread")]
async fn u40_jobs_that_pay_somebody_else_are_left() {
    let setup = Setup {
        change: |config| {
            config.targets[TargetId::nth(0)].on_payout_change = OnPayoutChange::FailOver;
        },
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners = site.fleet(4);
    for pool in &site.pools {
        pool.until(PATIENCE, |counts| counts.connections.values().any(|made| made.jobs > 1))
            .await
            .expect("has jobs");
    }
    assert_eq!(site.alarms("payout_fingerprint_changed"), 0, "jobs change, the payee does not");
    site.pools[0].set_payee([0xee; 20]);
    let before = site.pools[1].counts().total.accepted;
    site.pools[1]
        .until(PATIENCE, |counts| counts.total.accepted > before + 20)
        .await
        .expect("the backup is mined at");
    assert_eq!(site.alarms("payout_fingerprint_changed"), 1, "told once");
    assert!(site.proxy.targets()[0].quarantined);
    site.settle(miners).await.check();
    site.stop().await;
}

/// U30, F79: of a thousand jobs a second, miners get only a few, and the last job is among them.
#[tokio::test(flavor = "multi_thread")]
async fn u30_f79_a_flood_of_jobs_reaches_the_miners_as_a_handful() {
    let still = PoolConfig { job_interval: Duration::ZERO, ..pool(8, 1) };
    let site = Site::start(Setup { pools: vec![still], ..Setup::default() }).await;
    let miners = site.fleet(4);
    for miner in &miners {
        miner
            .until(PATIENCE, |counts| counts.answered_true >= 5)
            .await
            .expect("shares are answered");
    }
    let notifies = miners[0].counts().notifies;
    let start = daemon::clock::now();
    for _ in 0..2000 {
        site.pools[0].new_job(false);
        tokio::task::yield_now().await;
    }
    let accepted = site.pools[0].counts().total.accepted;
    site.pools[0]
        .until(PATIENCE, |counts| counts.total.accepted > accepted + 40)
        .await
        .expect("mined on");
    let lasted = daemon::clock::now() - start;
    let came = miners[0].counts().notifies - notifies;
    let most = 6 + 5 * (lasted.as_secs() + 1);
    assert!((1..=most).contains(&came), "{came} of 2,000 in {lasted:?}");
    // The pool remembers only its last few hundred jobs, so its count of unknown jobs says nothing
    // here.
    let books = site.settle(miners).await;
    let fleet = &books.fleet;
    assert_eq!(fleet.submitted, fleet.answered_true + fleet.refused(), "{books:#?}");
    assert!(fleet.answered_true <= books.accepted() + books.proxy.local, "{books:#?}");
    assert_eq!(
        (fleet.disconnects, fleet.repeated_work, fleet.shared_work),
        (0, 0, 0),
        "{books:#?}"
    );
    site.stop().await;
}
