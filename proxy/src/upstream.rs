//! The tasks that carry work and shares between pools and sessions: they connect, move bytes, and
//! try again.
//!
//! One task owns one connection: it makes it here and moves its bytes in [`carrier`]. What a pool's
//! lines mean and when a connection is dead is decided in [`pool_session`]; what is known of each
//! pool stands in [`pools`]; who works on what is decided in [`crate::placement`].

mod backoff;
mod carrier;
mod connect;
mod in_flight;
mod manners;
mod names;
mod outgoing;
mod pace;
mod pool_session;
mod pools;
mod probe;
mod stream;
mod tripwire;
mod verdicts;
mod window;

use std::sync::Arc;
use std::time::Instant;

use daemon::clock;
use stratum::client_role::ClientConfig;
use stratum::version::VersionMask;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

#[cfg(test)]
pub(crate) use in_flight::undelivered;
pub(crate) use pool_session::Deadlines;
#[cfg(test)]
pub(crate) use pool_session::tests::share;
#[cfg(test)]
pub(crate) use pool_session::{PoolEvent, PoolSession};
pub(crate) use pools::{Pool, PoolState, Pools};
pub(crate) use probe::probe_sizes;

use crate::config::{HostPort, Target};
use crate::tls::is_identity;
use backoff::Backoff;
use carrier::Carrier;
use manners::Manners;

/// Carries one connection that a miner has to itself to its end, and returns why it ended.
pub(crate) async fn run_own(
    pools: Arc<Pools>,
    pool: Arc<Pool>,
    cancel: CancellationToken,
) -> &'static str {
    let mut course = Course::default();
    let name = format!("upstream {} of one miner", pool.config.name);
    let attempt = attempt(&pools, &pool, &mut course, &cancel);
    let ended = pools.tasks.catch_panic(&name, attempt).await.unwrap_or_else(Ended::by_panic);
    if cancel.is_cancelled() {
        return ended.reason;
    }
    if let Some(own) = &pool.own {
        own.lock().works = ended.worked;
    }
    pool.state.lock().last_fault = Some(format!("{}: {}", ended.reason, ended.detail));
    if ended.reason.starts_with("tls_") {
        pools.books.metrics.alarm(ended.reason);
    }
    if is_identity(ended.reason) {
        error!(upstream = %pool.config.name, reason = ended.reason, detail = ?ended.detail, "this is not our pool");
    } else {
        warn!(upstream = %pool.config.name, reason = ended.reason, detail = ?ended.detail, "a miner's own upstream lost");
    }
    ended.reason
}

/// Why a connection ended.
#[derive(Debug)]
struct Ended {
    reason: &'static str,
    detail: String,
    /// It had a job: the next attempt may come soon.
    worked: bool,
}

impl Ended {
    fn by_panic() -> Self {
        Self { reason: PANICKED, detail: "our own failure: see the log".to_owned(), worked: false }
    }
}

/// Our own failure, most likely over something the pool said.
const PANICKED: &str = "panicked";

/// Where a connection's task goes next, and what its pool has asked of it so far.
#[derive(Debug, Default)]
struct Course {
    manners: Manners,
    /// When to leave for the next connection, and where to.
    leave: Option<(Instant, Option<HostPort>)>,
    next: Option<HostPort>,
}

/// Keeps connection `index` of a target up for as long as it is wanted. What a panic ends is a
/// connection, not the target: a pool that says one thing we fail over is connected to again, and
/// put aside meanwhile if there are others (F76).
pub(crate) async fn run(pools: Arc<Pools>, pool: Arc<Pool>, index: u32, cancel: CancellationToken) {
    let name = format!("upstream {} {index}", pool.config.name);
    let mut wanted = pool.wanted.subscribe();
    let mut backoff = Backoff::default();
    let mut course = Course::default();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            enough = wanted.wait_for(|wanted| *wanted > index) => if enough.is_err() { return },
        }
        let span = info_span!("upstream", upstream = %pool.config.name, connection = index);
        let attempt = attempt(&pools, &pool, &mut course, &cancel).instrument(span.clone());
        let ended = pools.tasks.catch_panic(&name, attempt).await.unwrap_or_else(Ended::by_panic);
        if cancel.is_cancelled() {
            return;
        }
        let counters = pools.books.metrics.target(Some(pool.index));
        if ended.worked {
            counters.reconnects.inc();
            backoff.worked();
        }
        if ended.reason == PANICKED {
            span.in_scope(|| pools.quarantine(&pool, PANICKED, clock::now()));
        }
        pools.changed.notify_one();
        pool.state.lock().last_fault = Some(format!("{}: {}", ended.reason, ended.detail));
        if ended.reason.starts_with("tls_") {
            pools.books.metrics.alarm(ended.reason);
        }
        let wait = backoff.after(ended.reason, rand::random());
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        span.in_scope(|| {
            if is_identity(ended.reason) {
                error!(reason = ended.reason, detail = ?ended.detail, retry_ms = millis, "this is not our pool");
            } else {
                warn!(reason = ended.reason, detail = ?ended.detail, retry_ms = millis, "upstream lost");
            }
        });
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Connects and carries one connection to its end.
async fn attempt(
    pools: &Arc<Pools>,
    pool: &Arc<Pool>,
    course: &mut Course,
    cancel: &CancellationToken,
) -> Ended {
    let ended = |reason, detail| Ended { reason, detail, worked: false };
    // A leave that was still to come belonged to the connection that is gone; its destination did
    // not.
    let asked = course.leave.take().and_then(|(_, to)| to);
    // Only once: when that connection ends, it is the configured place again.
    let at = course.next.take().or(asked).unwrap_or_else(|| pool.config.at());
    let stream = tokio::select! {
        () = cancel.cancelled() => return ended("shutdown", String::new()),
        connected = connect::connect(&pool.config, &at, &pool.names) => match connected {
            Ok(stream) => stream,
            Err(Fault { reason, detail }) => return ended(reason, detail),
        },
    };
    let mut carrier = Carrier::new(pools, pool, stream, course);
    let (reason, detail) = carrier.carry(cancel).await;
    let worked = carrier.has_job;
    carrier.end().await;
    Ended { reason, detail, worked }
}

/// How we introduce ourselves to a target.
fn client_config(target: &Target) -> ClientConfig {
    ClientConfig {
        user_agent: target.user_agent.clone(),
        worker: target.user.clone(),
        password: target.password.reveal().to_owned(),
        mask: Some(VersionMask::BIP320),
        suggest: target.suggest_difficulty,
    }
}

/// Why a connection could not be made.
#[derive(Debug)]
struct Fault {
    reason: &'static str,
    detail: String,
}

impl Fault {
    const fn new(reason: &'static str, detail: String) -> Self {
        Self { reason, detail }
    }
}

#[cfg(test)]
mod tests;
