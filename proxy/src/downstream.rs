//! The side toward miners: listeners, and one task per connection.

mod connection;
mod passthrough;
pub(crate) mod signaller;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use daemon::clock;
use daemon::tasks::Tasks;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::admission::{ConnectionAdmission, ConnectionRefusal};
use crate::books::Books;
use crate::directions::Directions;
use crate::log_limit::LogLimit;
use crate::machines::Machines;
use crate::placement::Placement;
use crate::reasons::{Alarm, CloseReason, Correction};
use crate::recall::Recall;
use crate::session::SessionRules;
use crate::sessions::Sessions;
use crate::upstream::{Pool, Pools};
use connection::Accepted;

/// What all sessions of one proxy share.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) placement: Arc<Placement>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) books: Books,
    pub(crate) machines: Arc<Machines>,
    pub(crate) sessions: Arc<Sessions>,
    /// How fast machines were before they left.
    pub(crate) recall: Arc<Mutex<Recall>>,
    /// Limits the log of steps taken with miners whose shares are all bad.
    pub(crate) corrections: Arc<Mutex<LogLimit<Correction>>>,
    pub(crate) directions: watch::Receiver<Directions>,
    pub(crate) admission: Arc<Mutex<ConnectionAdmission>>,
    /// Sessions that want a seat, or a better one than they have.
    pub(crate) waiting: AtomicUsize,
    /// Sessions that want work.
    pub(crate) served: AtomicUsize,
    pub(crate) next_session: AtomicU64,
    /// Closed when the proxy shuts down.
    pub(crate) cancel: CancellationToken,
    /// The proxy shuts down: sessions finish the answers they owe.
    pub(crate) ending: Arc<AtomicBool>,
    /// When the proxy started.
    pub(crate) started_at: Instant,
    pub(crate) tracker: TaskTracker,
    /// Counts the panics of sessions. There are too many sessions to register each by name.
    pub(crate) tasks: Tasks,
    pub(crate) shutdown_grace: Duration,
}

impl Downstream {
    /// Converts an instant to milliseconds since the proxy started.
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Connections that may wait to be accepted: after an outage a whole farm reconnects at once.
const BACKLOG: i32 = 4096;
/// What the system keeps for a miner that does not read, in bytes (it doubles the figure for its
/// own book-keeping). By default it keeps up to several megabytes: ten thousand miners that do not
/// read would exhaust the machine's memory, and each would look alive for thousands of jobs (F36).
const SEND_BUFFER: usize = 64 * 1024;

/// Opens a listener with a long backlog. Its socket options are inherited by the connections it
/// accepts.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    crate::socket::tune(&socket, None)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What a listener's miners get.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) rules: Arc<SessionRules>,
    /// The target to which each miner gets its own connection; `None` shares the connections of all
    /// targets.
    pub(crate) passthrough: Option<Arc<Pool>>,
}

/// Accepts miners until shutdown.
pub(crate) async fn listen(listener: TcpListener, service: Service, shared: Arc<Downstream>) {
    let mut pause = Duration::from_millis(5);
    let mut failures = LogLimit::default();
    loop {
        let accepted = tokio::select! {
            () = shared.cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Duration::from_millis(5);
                admit(stream, peer, &service, &shared);
            }
            Err(failure) => {
                // Out of descriptors, most likely: trying again at once would spin (F38).
                shared.books.metrics.alarm(Alarm::AcceptFailed);
                let now = clock::now();
                let more = failures.due(now).first().map_or(0, |((), more)| *more);
                if more > 0 || failures.admits((), 1, now) {
                    warn!(%failure, more, "accept failed");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, service: &Service, shared: &Arc<Downstream>) {
    shared.books.metrics.sessions.accepts.inc();
    let verdict = shared.admission.lock().admit(peer.ip(), clock::now());
    if let Err(refusal) = verdict {
        shared.books.metrics.sessions.closes.count(match refusal {
            ConnectionRefusal::Full => CloseReason::Full,
            ConnectionRefusal::TooManyFailures => CloseReason::TooManyFailures,
        });
        return;
    }
    let number = shared.next_session.fetch_add(1, Ordering::Relaxed);
    let accepted =
        Accepted { stream, peer, number, rules: service.rules.clone(), shared: shared.clone() };
    match &service.passthrough {
        None => {
            let session = shared.tracker.track_future(connection::serve(accepted));
            shared.pools.executor.spawn(session);
        }
        Some(pool) => drop(shared.tracker.spawn(passthrough::serve(accepted, pool.clone()))),
    }
}

#[cfg(test)]
mod tests;
