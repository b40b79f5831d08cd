//! Every miner model at every pool model: one proxy for each pool model, all miner models at the
//! same time; the counts of all sides are compared.

use std::time::Duration;

use stratum::difficulty::Difficulty;
use testbed::miner::{MinerConfig, Model, TestMiner};
use testbed::pool::{Like, PoolConfig};
use tokio::task::JoinSet;

use crate::harness::{PATIENCE, Setup, Site};

/// Hashes per second of each miner. It is low because a whole fleet runs for each pool at the same
/// time.
const HASHRATE: f64 = 500.0;
/// A difficulty at which each miner finds about four shares a second.
const EASY: f64 = 1.0 / (1u64 << 25) as f64;
/// How many answered shares each miner must have.
const SHARES: u64 = 4;
/// How many pools are tested at the same time.
const SITES: usize = 3;

/// A pool that imitates `like`, with frequent jobs and easy shares.
fn pool(like: Like) -> PoolConfig {
    // The difficulties of OCEAN are not powers of two.
    let difficulty = if like == Like::Ocean { EASY * 1.5 } else { EASY };
    PoolConfig { difficulty, job_interval: Duration::from_secs(1), clean_every: 3, ..like.config() }
}

/// Tests one pool model with every miner model that supports the extranonce2_size that the proxy
/// can leave to miners at this pool.
async fn every_firmware_at(like: Like) {
    let config = pool(like);
    // The slot takes one byte of the pool's extranonce2, and the lane one more if there is room.
    let size = if config.extranonce2_size > 4 { 4 } else { 3 };
    let setup = Setup {
        pools: vec![config],
        change: |config| config.servers[0].difficulty = Difficulty::new(EASY).expect("positive"),
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let models: Vec<Model> =
        Model::ALL.into_iter().filter(|model| model.takes_extranonce2(size)).collect();
    let miners: Vec<TestMiner> = models
        .iter()
        .map(|model| {
            let config = site.miner_config(*model, &format!("acme.{model:?}"));
            TestMiner::start(MinerConfig { hashrate: HASHRATE, ..config })
        })
        .collect();
    for (model, miner) in models.iter().zip(&miners) {
        if let Err(late) = miner.until(PATIENCE, |counts| counts.answered_true >= SHARES).await {
            panic!("{model:?} at {like:?}: {late}\n{:#?}\n{:#?}", miner.counts(), miner.wire());
        }
    }
    let books = site.settle(miners).await;
    books.check();
    let fleet = &books.fleet;
    assert_eq!(
        fleet.refused(),
        books.pools[0].total.stale + books.proxy.stale,
        "{like:?}: only stale ones: {books:#?}"
    );
    assert_eq!(
        (fleet.reconnects, fleet.rolling_off, fleet.withheld, fleet.bad_lines),
        (0, 0, 0, 0),
        "{like:?}"
    );
    site.stop().await;
}

/// Every firmware of docs/protocol.md 2.3 at every pool of 2.4. NiceHash is left out: its 3 bytes
/// are enough for one miner only, which is passthrough.
#[tokio::test(flavor = "multi_thread")]
async fn every_firmware_mines_at_every_pool_and_no_share_is_lost() {
    let mut sites = JoinSet::new();
    for like in Like::ALL.into_iter().filter(|like| *like != Like::Nicehash) {
        if sites.len() == SITES
            && let Some(done) = sites.join_next().await
        {
            done.expect("every firmware mines there");
        }
        sites.spawn(every_firmware_at(like));
    }
    sites.join_all().await;
}

/// Switches between pools that differ in everything: no firmware loses its connection or
/// misunderstands what is sent at a switch (docs/protocol.md 2.8).
#[tokio::test(flavor = "multi_thread")]
async fn every_firmware_follows_switches_between_unlike_pools() {
    let likes = [Like::Braiins, Like::Ocean, Like::Ckpool];
    let setup = Setup {
        pools: likes
            .iter()
            .zip(1..)
            .map(|(like, seed)| PoolConfig { seed, ..pool(*like) })
            .collect(),
        change: |config| config.servers[0].difficulty = Difficulty::new(EASY).expect("positive"),
        ..Setup::default()
    };
    let site = Site::start(setup).await;
    let miners: Vec<TestMiner> = Model::ALL
        .iter()
        .map(|model| {
            let config = site.miner_config(*model, &format!("acme.{model:?}"));
            TestMiner::start(MinerConfig { hashrate: HASHRATE, ..config })
        })
        .collect();
    // The pools die one by one down to the last, and come back in turn.
    for (dies, comes_back, at) in
        [(None, None, 0), (Some(0), None, 1_usize), (Some(1), None, 2), (None, Some(0), 0)]
    {
        if let Some(pool) = dies {
            site.pools[pool].die().await;
        }
        if let Some(pool) = comes_back {
            site.pools[pool].come_back().await;
        }
        let before: Vec<u64> = miners.iter().map(|miner| miner.counts().answered_true).collect();
        let accepted = site.pools[at].counts().total.accepted;
        let enough = accepted + SHARES * u64::try_from(miners.len()).expect("a few");
        site.pools[at]
            .until(PATIENCE, |counts| counts.total.accepted > enough)
            .await
            .expect("the pool is mined at");
        for ((model, miner), before) in Model::ALL.iter().zip(&miners).zip(before) {
            let mined = miner.until(PATIENCE, |counts| counts.answered_true > before + 2).await;
            assert!(
                mined.is_ok(),
                "{model:?} at {:?}: {:#?}\n{:#?}",
                likes[at],
                miner.counts(),
                miner.wire()
            );
        }
    }
    let books = site.settle(miners).await;
    books.check();
    let fleet = &books.fleet;
    assert_eq!(
        (fleet.reconnects, fleet.rolling_off, fleet.withheld, fleet.bad_lines),
        (0, 0, 0, 0),
        "{books:#?}"
    );
    site.stop().await;
}
