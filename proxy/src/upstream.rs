//! The tasks that pass work and shares between pools and sessions: they connect, move bytes, and
//! reconnect.
//!
//! One task owns one connection: it connects here and moves bytes in [`carrier`]. [`pool_session`]
//! decides what a pool's lines mean and when a connection counts as lost, [`reactions`] does what
//! follows in the rest of the proxy, and [`pools`] has the state of each pool.

mod backoff;
mod carrier;
mod client_config;
mod connect;
mod end;
mod in_flight;
mod known_addresses;
mod news;
mod outgoing;
mod pace;
mod pool_requests;
mod pool_session;
mod pools;
mod probe;
mod reactions;
mod stream;
mod tripwire;
mod verdicts;
mod window;

use std::sync::Arc;

use daemon::clock;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

pub(crate) use end::End;
#[cfg(test)]
pub(crate) use in_flight::undelivered;
pub(crate) use news::News;
#[cfg(test)]
pub(crate) use pool_session::tests::share;
#[cfg(test)]
pub(crate) use pool_session::{PoolEvent, PoolSession};
pub(crate) use pools::{Activity, Pool, PoolSet, PoolState};
pub(crate) use probe::probe_sizes;

use crate::label::Label as _;
use backoff::Backoff;
use carrier::Carrier;
use end::Fault;
use pool_requests::ConnectionPlan;

/// Connects once for a passthrough miner, and carries that connection to its end.
pub(crate) async fn run_own(pools: Arc<PoolSet>, pool: Arc<Pool>, cancel: CancellationToken) {
    let mut plan = ConnectionPlan::default();
    let name = format!("upstream connection of one miner to {}", pool.config.name);
    let span = info_span!("pool", target = %pool.config.name);
    let attempt = attempt(&pools, &pool, &mut plan, &cancel).instrument(span.clone());
    let ended = pools.proxy.tasks.catch_panic(&name, attempt).await.unwrap_or_else(Ended::by_panic);
    if cancel.is_cancelled() {
        return;
    }
    if let Some(own) = &pool.own {
        own.lock().works = ended.worked;
    }
    note(&pools, &pool, &ended.fault);
    span.in_scope(|| lost(&pool, &ended.fault, None));
}

/// Logs that a connection was lost; only at DEBUG if a loss for the same reason was logged
/// recently.
fn lost(pool: &Pool, fault: &Fault, retry_ms: Option<u64>) {
    if pool.is_news(News::Lost(fault.end), clock::now()) {
        news::log_lost(fault, retry_ms);
    } else {
        debug!(reason = fault.end.label(), detail = ?fault.detail, retry_ms, "upstream connection lost");
    }
}

/// Raises a fault's alarm, and records the fault for the target's view.
fn note(pools: &PoolSet, pool: &Pool, fault: &Fault) {
    if let Some(alarm) = fault.end.alarm() {
        pools.proxy.books.metrics.alarm(alarm);
    }
    pool.state.lock().last_fault = Some(format!("{}: {}", fault.end.label(), fault.detail));
}

/// How a connection ended.
#[derive(Debug)]
struct Ended {
    fault: Fault,
    /// Whether the connection had a job, so that the next attempt may come soon.
    worked: bool,
}

impl Ended {
    fn by_panic() -> Self {
        let fault = Fault::new(End::Panicked, "our own failure: see the log");
        Self { fault, worked: false }
    }
}

/// Keeps connection `index` of a target up for as long as it is wanted. A panic ends one connection
/// and not the task: the pool is connected to again, and meanwhile quarantined, as its lines may
/// have caused the panic (F76).
pub(crate) async fn run(
    pools: Arc<PoolSet>,
    pool: Arc<Pool>,
    index: u32,
    cancel: CancellationToken,
) {
    let name = format!("upstream connection {index} to {}", pool.config.name);
    let mut wanted = pool.wanted.subscribe();
    let mut backoff = Backoff::default();
    let mut plan = ConnectionPlan::default();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            enough = wanted.wait_for(|wanted| *wanted > index) => if enough.is_err() { return },
        }
        let span = info_span!("pool", target = %pool.config.name, connection = index);
        let attempt = attempt(&pools, &pool, &mut plan, &cancel).instrument(span.clone());
        let ended =
            pools.proxy.tasks.catch_panic(&name, attempt).await.unwrap_or_else(Ended::by_panic);
        if cancel.is_cancelled() {
            return;
        }
        if ended.worked {
            pools.proxy.books.metrics.targets.reconnected(pool.id);
            backoff.worked();
        }
        let end = ended.fault.end;
        if end == End::Panicked {
            span.in_scope(|| pools.quarantine(&pool, end, clock::now()));
        }
        note(&pools, &pool, &ended.fault);
        pools.changed.notify_one();
        let wait = backoff.after(end.retry(), rand::random());
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        span.in_scope(|| lost(&pool, &ended.fault, Some(millis)));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Connects, and runs the connection until it ends.
async fn attempt(
    pools: &Arc<PoolSet>,
    pool: &Arc<Pool>,
    plan: &mut ConnectionPlan,
    cancel: &CancellationToken,
) -> Ended {
    let unmade = |fault| Ended { fault, worked: false };
    // A reconnect that was still due has happened with the loss of the connection. Only its
    // destination is still needed.
    let asked = plan.leave.take().and_then(|(_, to)| to);
    // The destination holds for one connection. After that, the configured address is used again.
    let at = plan.next.take().or(asked).unwrap_or_else(|| pool.config.at());
    let stream = tokio::select! {
        () = cancel.cancelled() => return unmade(Fault::new(End::Shutdown, "")),
        connected = connect::connect(&pool.config, &at, &pool.known_addresses) => match connected {
            Ok(stream) => stream,
            Err(fault) => return unmade(fault),
        },
    };
    let mut carrier = Carrier::new(pools, pool, stream, plan);
    let fault = carrier.carry(cancel).await;
    let worked = carrier.has_worked();
    carrier.end().await;
    Ended { fault, worked }
}

#[cfg(test)]
mod tests;
