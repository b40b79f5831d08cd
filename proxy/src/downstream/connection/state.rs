//! What is kept of one miner's connection, and how it begins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use daemon::clock;
use stratum::frame::{MINER_LINE_MAX, Splitter};
use tokio::net::TcpStream;

use super::stuck::Stuck;
use crate::handle::SessionHandle;
use crate::machines::Presence;
use crate::placement::SlotLease;
use crate::reasons::{Alarm, CloseReason};
use crate::seating::Seating;
use crate::session::{Session, SessionRules};
use crate::sessions::SessionEntry;
use crate::upstream::PoolSet;
use crate::work::LaneWork;

/// A connection that has just been accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) number: u64,
    pub(crate) rules: Arc<SessionRules>,
    pub(crate) pools: Arc<PoolSet>,
}

/// A miner's connection: a future that completes when the connection has ended.
pub(crate) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) session: Session,
    pub(super) seating: Seating,
    pub(super) presence: Option<Presence>,
    pub(super) entry: SessionEntry,
    pub(super) splitter: Splitter,
    /// Bytes that the socket has not accepted yet.
    pub(super) pending: Vec<u8>,
    pub(super) blocked_since: Option<Instant>,
    /// Shares for which the queue of their upstream had no room.
    pub(super) stuck: Option<Box<Stuck>>,
    /// The time up to which the lines read so far use the rate limit; see [`super::LINES_AHEAD`].
    pub(super) lines_paid: Instant,
    /// Set when the miner has closed its side, or at shutdown: until when outstanding answers are
    /// still written, and why the connection ends.
    pub(super) ending: Option<Box<(Instant, CloseReason)>>,
    /// The pool's new job, while its bytes wait in the buffer.
    pub(super) delivered: Option<Arc<LaneWork>>,
    /// The session's part of the fleet's work rate.
    pub(super) hashing: f32,
    /// Whether the session is counted in [`PoolSet::waiting`].
    pub(super) waiting: bool,
    /// Whether the session is counted in [`PoolSet::served`].
    pub(super) served: bool,
    /// Whether the miner's machine should not hash; a share then shows that it still does.
    pub(super) starved: bool,
    /// Whether nothing has been read from the miner yet.
    pub(super) first_read: bool,
    /// Whether the lines that arrived during the shutdown have been read.
    pub(super) drained: bool,
    /// Whether the miner has ever subscribed and authorized on this connection.
    pub(super) was_ready: bool,
    pub(super) reason: Option<CloseReason>,
    pub(super) pools: Arc<PoolSet>,
}

/// Creates the connection of a miner with the given extranonce1. If there is no room, its subscribe
/// will be refused.
pub(crate) fn open(
    accepted: Accepted,
    slot: SlotLease,
    extranonce1: u8,
    has_room: bool,
) -> Connection {
    let Accepted { stream, peer, number, rules, pools } = accepted;
    let now = clock::now();
    let handle = SessionHandle::new(number, peer, clock::wall(), extranonce1, rules.server);
    let mut session = Session::new(rules, extranonce1, number, now);
    session.narrow(pools.common_mask());
    if !has_room {
        pools.proxy.books.metrics.alarm(Alarm::NoSearchSpace);
        session.refuse();
    }
    Connection {
        stream,
        session,
        seating: Seating::new(slot),
        presence: None,
        entry: pools.proxy.sessions.enter(handle),
        splitter: Splitter::new(MINER_LINE_MAX),
        pending: Vec::new(),
        blocked_since: None,
        stuck: None,
        lines_paid: now,
        ending: None,
        delivered: None,
        hashing: 0.0,
        waiting: false,
        served: false,
        starved: false,
        first_read: true,
        drained: false,
        was_ready: false,
        reason: None,
        pools,
    }
}
