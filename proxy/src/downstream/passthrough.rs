//! Passthrough: each miner gets a pool connection of its own. It is for pools whose extranonce2 is
//! too small to be shared, such as the 3 bytes of NiceHash.
//!
//! Everything else is as for other miners: nothing is passed on unparsed, job ids are ours, shares
//! are judged here, and curtailment is followed. The miner's extranonce1 is the last byte of the
//! pool's; the bytes before it are put into coinb1. The miner's extranonce2_size is the pool's.
//!
//! ```text
//! pool's coinbase     coinb1 | extranonce1                           | extranonce2 | coinb2
//! miner sees          [ coinb1'                  ] [ extranonce1 (1) ] [ extranonce2 ] [ coinb2 ]
//! ```
//!
//! So the miner's subscribe is answered only after the pool has answered ours. If the pool changes
//! that byte or the size, the miner gets `mining.set_extranonce`; if its firmware has not
//! subscribed to that, it must reconnect. If the pool connection is lost, the miner is closed,
//! unless its machine must not run.

use std::sync::Arc;

use daemon::clock;
use stratum::client_message::{ClientLine, LineFault, parse_client};
use stratum::frame::MINER_LINE_MAX;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::{self, Accepted};
use crate::directions::Directions;
use crate::mailbox::Signal;
use crate::reasons::{Alarm, CloseReason};
use crate::route::Usable;
use crate::session::SessionRules;
use crate::upstream::{self, News, Pool, PoolSet};
use crate::work::OwnExtranonce;

/// Serves one miner on a connection of its own to `pool`.
pub(super) async fn serve(accepted: Accepted, pool: Arc<Pool>) {
    let deadline = Instant::from_std(clock::now() + accepted.rules.handshake_timeout);
    let mut newcomer = Newcomer { accepted: Some(accepted), reason: CloseReason::Aborted };
    // No pool connection is made for a port scan or a client of another protocol.
    let said = match timeout_at(deadline, first_words(newcomer.stream())).await {
        Ok(Ok(said)) => said,
        Ok(Err(reason)) => return newcomer.reason = reason,
        Err(_) => return newcomer.reason = CloseReason::HandshakeTimeout,
    };
    let Some(_place) = pool.own_place() else {
        let accepted = newcomer.opened();
        let slot = accepted.pools.placement.take_slot();
        let mut connection = connection::open(accepted, slot, 0, false);
        if connection.begin(&said).is_ok() {
            connection.await;
        }
        return;
    };
    let proxy = newcomer.pools().proxy.clone();
    let (directions, directed) = watch::channel(Directions::default());
    let pools = PoolSet::of_one(proxy.clone(), directed);
    let cancel = CancellationToken::new();
    let _ends_with_us = cancel.clone().drop_guard();
    let mut upstream = tokio::spawn(upstream::run_own(pools.clone(), pool.clone(), cancel.clone()));
    match extranonce(&pools, &mut upstream, deadline, &proxy.cancel).await {
        Ok(own) => {
            if !(3..=8).contains(&own.extranonce2_size) {
                // With two bytes a fast machine runs out of work between jobs; with more than
                // eight, much firmware submits nothing.
                proxy.books.metrics.alarm(Alarm::OddExtranonce2Size);
                if pool.is_news(News::Odd(Alarm::OddExtranonce2Size), clock::now()) {
                    let (target, extranonce2_size) = (&pool.config.name, own.extranonce2_size);
                    warn!(%target, extranonce2_size, "few miners can use this extranonce2_size");
                }
            }
            carry(newcomer.opened(), &said, own, &pools, &directions, &pool, &mut upstream).await;
        }
        Err(reason) => newcomer.reason = reason,
    }
    cancel.cancel();
    if !upstream.is_finished() {
        // The task of the pool connection has recorded why it ended.
        let _ = upstream.await;
    }
}

/// A miner that was admitted and has no session yet. If it never gets one, dropping this counts its
/// end.
struct Newcomer {
    accepted: Option<Accepted>,
    reason: CloseReason,
}

impl Newcomer {
    fn stream(&mut self) -> &mut TcpStream {
        &mut self.accepted.as_mut().expect("taken only by `opened`, which ends it").stream
    }

    fn pools(&self) -> &Arc<PoolSet> {
        &self.accepted.as_ref().expect("taken only by `opened`, which ends it").pools
    }

    /// Hands the miner over to a session, which counts its own end.
    fn opened(mut self) -> Accepted {
        self.accepted.take().expect("taken only here")
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let Some(Accepted { peer, pools, .. }) = self.accepted.take() else { return };
        pools.proxy.books.metrics.sessions.closes.count(self.reason);
        // A pool that is down does not count as a failure of the miner's address.
        let failed = !matches!(
            self.reason,
            CloseReason::TargetLost | CloseReason::Shutdown | CloseReason::Aborted
        );
        pools.proxy.admission.lock().left(peer.ip(), failed, clock::now());
    }
}

/// Reads until there is one complete and valid line.
async fn first_words(stream: &mut TcpStream) -> Result<Vec<u8>, CloseReason> {
    let mut said = Vec::new();
    loop {
        if stream.read_buf(&mut said).await.map_err(|_| CloseReason::ReadFailed)? == 0 {
            return Err(CloseReason::ClosedByMiner);
        }
        if let Some(fault) = LineFault::sniff(&said) {
            return Err(CloseReason::Line(fault));
        }
        if let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            return match parse_client(&said[..end]) {
                Ok(Some(ClientLine::Call { call: Ok(_), .. })) => Ok(said),
                Ok(_) => Err(CloseReason::Malformed),
                Err(fault) => Err(CloseReason::Line(fault)),
            };
        }
        if said.len() > MINER_LINE_MAX {
            return Err(CloseReason::LineTooLong);
        }
    }
}

/// Waits for the pool's extranonce.
async fn extranonce(
    pools: &PoolSet,
    upstream: &mut JoinHandle<()>,
    deadline: Instant,
    shutdown: &CancellationToken,
) -> Result<OwnExtranonce, CloseReason> {
    loop {
        if let Some(own) = pools.placement.own_extranonce() {
            return Ok(own);
        }
        tokio::select! {
            () = pools.changed.notified() => {}
            _ = &mut *upstream => return Err(CloseReason::TargetLost),
            () = tokio::time::sleep_until(deadline) => return Err(CloseReason::HandshakeTimeout),
            () = shutdown.cancelled() => return Err(CloseReason::Shutdown),
        }
    }
}

/// Serves the miner until it disconnects or its pool connection ends.
async fn carry(
    mut accepted: Accepted,
    said: &[u8],
    own: OwnExtranonce,
    pools: &Arc<PoolSet>,
    directions: &watch::Sender<Directions>,
    pool: &Arc<Pool>,
    upstream: &mut JoinHandle<()>,
) {
    let mut common = accepted.pools.directions.clone();
    let orders = common.borrow_and_update().orders.clone();
    directions.send_replace(Directions { orders, ..Directions::default() });
    let extranonce2_size = own.extranonce2_size;
    accepted.rules =
        Arc::new(SessionRules { extranonce2_size, ..SessionRules::clone(&accepted.rules) });
    accepted.pools = pools.clone();
    let slot = pools.placement.take_slot();
    let mut connection = connection::open(accepted, slot, own.extranonce1, true);
    if connection.begin(said).is_err() {
        return;
    }
    let handle = connection.handle();
    let (mut lost, mut ending) = (false, false);
    loop {
        let ready = !lost && pools.placement.target_state(pool.id).ready > 0;
        let usable: Vec<Usable> = ready
            .then(|| Usable { target: pool.id, mask: pool.state().mask })
            .into_iter()
            .collect();
        let orders = common.borrow_and_update().orders.clone();
        directions.send_replace(Directions {
            usable: usable.into(),
            orders,
            release: lost,
            seats: 0,
        });
        handle.mailbox.signal(Signal::Directions);
        tokio::select! {
            () = &mut connection => return,
            () = pools.changed.notified() => {}
            changed = common.changed(), if !ending => ending = changed.is_err(),
            _ = &mut *upstream, if !lost => lost = true,
        }
    }
}
