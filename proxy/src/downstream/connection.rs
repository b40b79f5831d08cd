//! One miner's connection: it owns the socket and the session, and only moves bytes between them and the rest.
//!
//! An idle connection holds no buffer: it waits for readiness and reads into the stack. Work is taken from the lane only
//! when the former has been written, so a slow reader gets the newest job and never a queue of old ones.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use daemon::clock;
use directive::MachineId;
use stratum::client_message::LineFault;
use stratum::frame::{MINER_LINE_MAX, Splitter};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, debug, error, info, info_span};

use super::Downstream;
use crate::directions::Directions;
use crate::machines::{Presence, SessionEntry, SessionView};
use crate::outcome::{Counted, Outcome, Worth};
use crate::seating::{Place, Said, Seating};
use crate::session::{Correction, Forward, Input, Outbox, Session, SessionRules};
use crate::socket;
use crate::work::{LaneWork, PoolOutcome, PoolVerdict, UpstreamShare};

/// Submits that may wait for a pool's word; then no more is read from this miner.
const UNANSWERED_MAX: usize = 256;
/// Bytes read at a time.
const READ_MAX: usize = 8 * 1024;
/// Verdicts that may wait for this task. A verdict that finds no room is lost and its submit never answered, so there is
/// room for all that can be out: what the bound lets wait, and all submits of the one read that passes it. The shortest
/// submit, `{"method":"mining.submit","params":["a","1","000000",0,0]}`, has more than 50 bytes.
const MAILBOX: usize = UNANSWERED_MAX + READ_MAX / 50 + 1;
/// Bytes that may wait for the miner; then no more is read from it.
const OUTGOING_MAX: usize = 64 * 1024;
/// A miner that takes none of them for so long is dropped.
const BLOCKED_MAX: Duration = Duration::from_secs(30);
/// How long a share may wait for room in its upstream's queue.
const QUEUE_PATIENCE: Duration = Duration::from_secs(2);
/// Lines a second that are read without delay, and how many at once.
const LINES_PER_SEC: f64 = 200.0;
const LINES_BURST: f64 = 1000.0;

/// Serves one miner until either side has enough.
pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    number: u64,
    rules: Arc<SessionRules>,
    shared: Arc<Downstream>,
) {
    if let Err(failure) = socket::tune(&stream, None) {
        debug!(%failure, "socket options not set");
    }
    let span = info_span!("session", session = number, peer = %peer);
    let now = clock::now();
    let slot = shared.placement.take_slot();
    let view = SessionView {
        session: number,
        peer,
        connected_at: clock::wall(),
        slot: slot.slot,
        state: "handshake",
        worker_name: None,
        user_agent: None,
        target: None,
        difficulty: None,
        version_mask: None,
    };
    let mut session = Session::new(rules, slot.slot, number, now);
    if !shared.pools.have_room(slot.depth) {
        shared.books.metrics.alarm("no_search_space");
        session.refuse();
    }
    let (verdicts, mailbox) = mpsc::channel(MAILBOX);
    let connection = Connection {
        stream,
        session,
        seating: Seating::new(slot),
        presence: None,
        entry: shared.sessions.enter(view),
        directions: shared.directions.clone(),
        verdicts,
        splitter: Splitter::new(MINER_LINE_MAX),
        out: Outbox::default(),
        written: 0,
        blocked_since: None,
        waiting: false,
        served: false,
        first_read: true,
        delivered: None,
        lines: LINES_BURST,
        lines_at: now,
        end_of_input: None,
        shared,
    };
    let end = End { shared: connection.shared.clone(), source: peer.ip(), reason: None, was_ready: false };
    async move {
        let mut end = end;
        let (reason, was_ready) = connection.carry(mailbox).await;
        (end.reason, end.was_ready) = (Some(reason), was_ready);
        debug!(reason, "session ended");
    }
    .instrument(span)
    .await;
}

/// Enters a connection's end in the books, however its task ends (F76).
struct End {
    shared: Arc<Downstream>,
    source: IpAddr,
    reason: Option<&'static str>,
    was_ready: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            self.shared.tasks.panicked("session");
        }
        let reason = self.reason.unwrap_or(if panicking { "panicked" } else { "aborted" });
        self.shared.books.metrics.closed(reason);
        // A panic is our failure, not the source's.
        let failed = !self.was_ready && !panicking;
        self.shared.admission.lock().left(self.source, failed, clock::now());
    }
}

struct Connection {
    stream: TcpStream,
    session: Session,
    seating: Seating,
    presence: Option<Presence>,
    entry: SessionEntry,
    directions: watch::Receiver<Directions>,
    verdicts: mpsc::Sender<PoolVerdict>,
    splitter: Splitter,
    out: Outbox,
    /// How much of `out.bytes` the socket has taken.
    written: usize,
    blocked_since: Option<Instant>,
    /// It counts among those that wait for a seat.
    waiting: bool,
    /// It counts among those that want work.
    served: bool,
    /// Nothing has been read yet.
    first_read: bool,
    /// A pool's new job that stands in the buffer.
    delivered: Option<Arc<LaneWork>>,
    /// The line bucket: it delays reading, it never closes.
    lines: f64,
    lines_at: Instant,
    /// The miner has closed its side (or we shut down): answers that are owed are still written until then.
    end_of_input: Option<(Instant, &'static str)>,
    shared: Arc<Downstream>,
}

impl Connection {
    /// Moves bytes until the connection ends. Returns why, and whether it had become a session.
    async fn carry(mut self, mut mailbox: mpsc::Receiver<PoolVerdict>) -> (&'static str, bool) {
        let shutdown = self.shared.cancel.clone();
        let (mut ending, mut drained) = (false, false);
        let reason = loop {
            self.flush_counts().await;
            if let Err(reason) = self.write() {
                break reason;
            }
            if let Some(reason) = self.out.close {
                break reason;
            }
            let now = clock::now();
            if self.blocked_since.is_some_and(|since| now >= since + BLOCKED_MAX) {
                break "slow_reader";
            }
            if let Some((until, reason)) = self.end_of_input
                && (now >= until || (self.session.unanswered() == 0 && self.out.bytes.is_empty()))
            {
                // What has come meanwhile is still answered, once: a miner that goes on would keep us for ever.
                if reason == "shutdown"
                    && now < until
                    && !std::mem::replace(&mut drained, true)
                    && self.read() == Ok(true)
                {
                    continue;
                }
                break reason;
            }
            self.refill(now);
            let idle = self.out.bytes.is_empty();
            let readable = self.end_of_input.is_none()
                && self.session.unanswered() < UNANSWERED_MAX
                && self.out.bytes.len() < OUTGOING_MAX
                && self.lines >= 1.0;
            let wake_at = tokio::time::Instant::from_std(self.wake_at(now));
            tokio::select! {
                ready = self.stream.readable(), if readable => match ready {
                    Ok(()) => if let Err(reason) = self.read() { break reason },
                    Err(_) => break "read_failed",
                },
                _ = self.stream.writable(), if !idle => {}
                changed = next_state(&mut self.seating), if idle => {
                    if !changed { self.seating.lose() }
                    self.take_work(true);
                }
                changed = self.directions.changed() => {
                    if changed.is_err() { break "shutdown" }
                    self.settle();
                }
                Some(verdict) = mailbox.recv() => self.verdict(verdict),
                () = shutdown.cancelled(), if !ending => {
                    ending = true;
                    let until = now + self.shared.shutdown_grace;
                    let sooner = self.end_of_input.filter(|(closed, _)| *closed <= until);
                    self.end_of_input = sooner.or(Some((until, "shutdown")));
                }
                () = tokio::time::sleep_until(wake_at) => {
                    self.session.handle(Input::Tick, clock::now(), &mut self.out);
                }
            }
        };
        // What stands in the buffer (an error, a last answer) goes out if the socket takes it.
        let _ = self.write();
        (reason, self.session.is_ready())
    }

    /// When something is due by time alone.
    fn wake_at(&self, now: Instant) -> Instant {
        let mut at = self.session.wake_at();
        if let Some(since) = self.blocked_since {
            at = at.min(since + BLOCKED_MAX);
        }
        if let Some((until, _)) = self.end_of_input {
            at = at.min(until);
        }
        if self.lines < 1.0 {
            at = at.min(now + Duration::from_secs_f64(1.0 / LINES_PER_SEC));
        }
        at
    }

    fn refill(&mut self, now: Instant) {
        let secs = now.saturating_duration_since(self.lines_at).as_secs_f64();
        self.lines = (self.lines + secs * LINES_PER_SEC).min(LINES_BURST);
        self.lines_at = now;
    }

    /// Reads what is there, a bounded amount at a time, and handles each line. Returns whether anything was there.
    fn read(&mut self) -> Result<bool, &'static str> {
        let mut scratch = [0; READ_MAX];
        let read = match self.stream.try_read(&mut scratch) {
            Ok(0) => {
                // The miner may have half-closed: what is owed is still written (S78).
                self.end_of_input.get_or_insert((clock::now() + Duration::from_secs(20), "closed_by_miner"));
                return Ok(false);
            }
            Ok(read) => read,
            Err(failure) if failure.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(failure) if failure.kind() == ErrorKind::ConnectionReset => return Err("reset_by_miner"),
            Err(_) => return Err("read_failed"),
        };
        let now = clock::now();
        let mut input = &scratch[..read];
        if std::mem::take(&mut self.first_read)
            && let Some(fault) = LineFault::sniff(input)
        {
            // A TLS hello may never bring a newline; bfgminer waits for our answer to it.
            return Err(fault.reason());
        }
        loop {
            match self.splitter.next_line(&mut input) {
                Ok(Some(line)) => {
                    #[cfg(test)]
                    super::tests::failpoint(line);
                    self.lines -= 1.0;
                    self.session.handle(Input::Line(line), now, &mut self.out);
                }
                Ok(None) => break,
                Err(_) => return Err("line_too_long"),
            }
            if self.out.close.is_some() {
                break;
            }
        }
        if std::mem::take(&mut self.out.authorized) {
            self.authorized();
        }
        if let Some(correction) = self.out.correction.take() {
            self.correct(correction);
        }
        Ok(true)
    }

    /// All of the miner's shares have been bad for long (S45).
    fn correct(&mut self, correction: Correction) {
        info!(?correction, worker = ?self.session.worker(), "only bad shares");
        self.shared.books.metrics.corrected(correction);
        if correction != Correction::Renew {
            return;
        }
        // Other work on another lane; where there is none, the next job must do.
        if self.seating.renew(&self.shared.placement) {
            self.take_work(false);
        }
    }

    /// The miner has said who it is: it is entered under that name, and given a seat.
    fn authorized(&mut self) {
        let Some(worker) = self.session.worker() else { return };
        let first = self.presence.is_none();
        if first {
            self.presence = Some(self.shared.machines.enter(MachineId::from(worker), clock::wall));
        }
        let mut view = self.entry.view.lock();
        view.worker_name = Some(worker.to_owned());
        view.user_agent = self.session.user_agent().map(str::to_owned);
        view.version_mask = self.session.version_mask().map(|mask| format!("{:08x}", mask.0));
        if first {
            view.state = "waiting";
        }
        drop(view);
        self.settle();
    }

    /// Finds the place that directions and seats allow.
    fn settle(&mut self) {
        let directions = self.directions.borrow_and_update().clone();
        let Some(presence) = &self.presence else { return };
        let (mask, live) = (self.session.version_mask(), self.session.has_live_work());
        let shared = &self.shared;
        let place = self.seating.settle(&shared.placement, &directions, &presence.machine, mask, live, |target| {
            shared.shortage(target);
        });
        self.set_waiting(self.seating.is_waiting());
        self.set_served(matches!(place, Place::Kept | Place::New | Place::Nowhere));
        match place {
            Place::Kept => {}
            Place::New => self.take_work(false),
            Place::Nowhere => self.show("waiting"),
            Place::Parked => self.show("parked"),
            Place::Released => self.out.close = Some("released"),
        }
    }

    /// Takes what the lane has to say. `awaited` when the session sat there before it was said.
    fn take_work(&mut self, awaited: bool) {
        match self.seating.listen() {
            Some(Said::Work(work)) => {
                self.delivered = awaited.then(|| work.clone());
                self.session.handle(Input::Work(&work), clock::now(), &mut self.out);
                self.show("working");
            }
            Some(Said::Settle) | None => self.settle(),
        }
    }

    fn show(&mut self, state: &'static str) {
        if let Some(presence) = &mut self.presence {
            presence.set_working(state == "working");
        }
        let mut view = self.entry.view.lock();
        let target = self.seating.target();
        view.state = state;
        view.difficulty = self.session.difficulty().map(stratum::difficulty::Difficulty::get);
        let name = target.and_then(|target| self.shared.pools.targets.get(target)).map(|pool| &pool.config.name);
        if view.target.as_ref() != name {
            view.target = name.cloned();
        }
    }

    fn verdict(&mut self, verdict: PoolVerdict) {
        if let PoolOutcome::Rejected(code, text) = &verdict.outcome {
            debug!(?code, ?text, "pool rejected a share");
        }
        self.session.handle(Input::Verdict(verdict), clock::now(), &mut self.out);
    }

    /// Counts what the session decided and brings its shares to their upstreams.
    async fn flush_counts(&mut self) {
        for index in 0..self.out.counts.len() {
            let counted = &self.out.counts[index];
            let machine = self.presence.as_ref().map(|presence| &*presence.stats);
            self.shared.books.ended(counted, machine);
            if let Some(worth) = counted.worth {
                self.proved(worth);
            }
        }
        self.out.counts.clear();
        let mut forwards = std::mem::take(&mut self.out.forwards);
        for forward in forwards.drain(..) {
            self.proved(forward.worth);
            self.forward(forward).await;
        }
        self.out.forwards = forwards;
    }

    /// Notes that the machine has done this much work.
    fn proved(&self, worth: Worth) {
        if let Some(presence) = &self.presence {
            let starved = self.directions.borrow().orders.starved(&presence.machine);
            presence.stats.share(worth, starved, clock::wall());
        }
    }

    /// Sends a share to the connection that issued its job. One that cannot be delivered is answered as unresolved.
    async fn forward(&mut self, forward: Forward) {
        let Forward { work, share, version_bits, ticket, block, worth: _ } = forward;
        let upstream = work.job.upstream.clone();
        let target = Some(upstream.target);
        let is_block = block.is_some();
        if is_block {
            self.shared.books.metrics.blocks.inc();
        }
        let share = UpstreamShare {
            slot: self.seating.slot(),
            extranonce2: share.extranonce2,
            ntime: share.ntime,
            nonce: share.nonce,
            version_bits,
            ticket,
            reply: self.verdicts.clone(),
            block,
            machine: self.presence.as_ref().map(|presence| presence.stats.clone()),
            work,
        };
        let share = if is_block {
            match upstream.urgent().try_send(share) {
                Ok(()) => return,
                // It takes its turn rather than be lost.
                Err(mpsc::error::TrySendError::Full(share) | mpsc::error::TrySendError::Closed(share)) => share,
            }
        } else {
            share
        };
        let undelivered = match upstream.submits().try_send(share) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Closed(share)) => Some(share),
            // The one place where a session waits: for a pool that takes shares slower than they come.
            Err(mpsc::error::TrySendError::Full(share)) => {
                match upstream.submits().send_timeout(share, QUEUE_PATIENCE).await {
                    Ok(()) => None,
                    Err(refused) => Some(refused.into_inner()),
                }
            }
        };
        let Some(share) = undelivered else { return };
        if let Some(proof) = &share.block {
            self.shared.books.metrics.blocks_lost.inc();
            error!(header = %const_hex::encode(proof.header), "block_lost: its upstream is gone");
        }
        let counted = Counted { outcome: Outcome::Unresolved, reason: Some("unresolved"), worth: None, target };
        self.shared.books.ended(&counted, share.machine.as_deref());
        let verdict = PoolVerdict { ticket: share.ticket, outcome: PoolOutcome::Unresolved };
        self.session.handle(Input::Verdict(verdict), clock::now(), &mut self.out);
    }

    /// Writes as much as the socket takes.
    fn write(&mut self) -> Result<(), &'static str> {
        while self.written < self.out.bytes.len() {
            match self.stream.try_write(&self.out.bytes[self.written..]) {
                Ok(written) => {
                    self.written += written;
                    self.blocked_since = None;
                }
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(clock::now);
                    return Ok(());
                }
                Err(_) => return Err("write_failed"),
            }
        }
        // An idle session keeps no buffer.
        self.out.bytes = Vec::new();
        self.written = 0;
        self.observe();
        Ok(())
    }

    /// Notes how long what has just been written was waited for.
    fn observe(&mut self) {
        if self.out.answered.is_empty() && self.delivered.is_none() {
            return;
        }
        let now = clock::now();
        let metrics = &self.shared.books.metrics;
        for (by, read_at) in self.out.answered.drain(..) {
            metrics.answered(by, now.saturating_duration_since(read_at));
        }
        if let Some(work) = self.delivered.take() {
            metrics.target(Some(work.job.upstream.target)).delivered(work.job.arrival.delivered(now));
        }
    }

    fn set_waiting(&mut self, waiting: bool) {
        if self.waiting != waiting {
            self.waiting = waiting;
            adjust(&self.shared.waiting, waiting);
        }
    }

    fn set_served(&mut self, served: bool) {
        if self.served != served {
            self.served = served;
            adjust(&self.shared.served, served);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.set_served(false);
    }
}

fn adjust(count: &std::sync::atomic::AtomicUsize, up: bool) {
    if up {
        count.fetch_add(1, Ordering::Relaxed);
    } else {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for the seat's lane to say something new; for ever without a seat. `false` when the lane is no more.
async fn next_state(seating: &mut Seating) -> bool {
    match &mut seating.seat {
        Some(seat) => seat.state.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

impl Downstream {
    /// A target has no space for a session: another connection is asked for, up to the cap.
    fn shortage(&self, target: usize) {
        let Some(pool) = self.pools.targets.get(target) else { return };
        let ready = self.placement.target_state(target).ready;
        if !pool.want_another(ready) {
            self.books.metrics.alarm("no_search_space");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S31: what one read can bring on top of a full table of unanswered submits still has room for its verdicts.
    #[test]
    fn the_mailbox_holds_a_verdict_for_every_submit_that_can_be_out() {
        let shortest = r#"{"method":"mining.submit","params":["a","1","000000",0,0]}"#.len() + 1;
        // The first line of a read may have begun in the one before.
        let in_one_read = READ_MAX / shortest + 1;
        assert!(UNANSWERED_MAX - 1 + in_one_read <= MAILBOX);
    }
}
