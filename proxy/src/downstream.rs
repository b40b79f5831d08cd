//! The miners' side: listeners, and one task per connection.

mod connection;
mod passthrough;
pub(crate) mod signaller;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::clock;
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::admission::ConnectionRefusal;
use crate::log_limit::LogLimit;
use crate::reasons::{Alarm, CloseReason};
use crate::session::SessionRules;
use crate::upstream::{Pool, PoolSet};
use connection::Accepted;

/// Maximum number of connections that wait to be accepted: after an outage a whole farm reconnects
/// at once.
const BACKLOG: i32 = 4096;
/// Size of a miner's send buffer in the system, in bytes (the system doubles the figure for its own
/// book-keeping). The default is up to several megabytes: ten thousand miners that do not read
/// would exhaust the machine's memory, and each would look alive for thousands of jobs (F36).
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

/// How the miners of a listener are served.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) rules: Arc<SessionRules>,
    /// The target to which each miner gets its own connection; `None` shares the connections of all
    /// targets.
    pub(crate) passthrough: Option<Arc<Pool>>,
}

/// Accepts miners until shutdown.
pub(crate) async fn listen(listener: TcpListener, service: Service, pools: Arc<PoolSet>) {
    let mut pause = Duration::from_millis(5);
    let mut failures = LogLimit::default();
    loop {
        let accepted = tokio::select! {
            () = pools.proxy.cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Duration::from_millis(5);
                admit(stream, peer, &service, &pools);
            }
            Err(failure) => {
                // Most likely no file descriptors are left: trying again at once would loop (F38).
                pools.proxy.books.metrics.alarm(Alarm::AcceptFailed);
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

fn admit(stream: TcpStream, peer: SocketAddr, service: &Service, pools: &Arc<PoolSet>) {
    pools.proxy.books.metrics.sessions.accepts.inc();
    let verdict = pools.proxy.admission.lock().admit(peer.ip(), clock::now());
    if let Err(refusal) = verdict {
        pools.proxy.books.metrics.sessions.closes.count(match refusal {
            ConnectionRefusal::Full => CloseReason::Full,
            ConnectionRefusal::TooManyFailures => CloseReason::TooManyFailures,
        });
        return;
    }
    let number = pools.proxy.next_session.fetch_add(1, Ordering::Relaxed);
    let accepted =
        Accepted { stream, peer, number, rules: service.rules.clone(), pools: pools.clone() };
    match &service.passthrough {
        None => {
            let session = pools.proxy.tracker.track_future(connection::serve(accepted));
            pools.proxy.executor.spawn(session);
        }
        Some(pool) => drop(pools.proxy.tracker.spawn(passthrough::serve(accepted, pool.clone()))),
    }
}

#[cfg(test)]
mod tests;
