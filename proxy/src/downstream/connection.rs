//! One miner's connection. It owns the socket and the session, and moves bytes between them and the
//! rest of the proxy.
//!
//! It is a future written by hand, because ten thousand of them are alive at once. It has one waker
//! for everything it waits for (the socket and its [`crate::mailbox::Mailbox`]), no timer of its
//! own ([`super::signaller`] signals it when time has passed), and no buffer while it is idle (a
//! turn reads and writes in the thread's [`Scratch`]). New work is taken from the lane only when
//! the former work has been written, so a slow reader gets the newest job and never a queue of old
//! ones.

mod delivery;
mod place;
mod state;
mod stuck;

use std::cell::RefCell;
use std::future::Future;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use daemon::clock;
use stratum::client_message::LineFault;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

use crate::handle::SessionHandle;
use crate::label::Label as _;
use crate::mailbox::Signal;
use crate::outcome::{PoolOutcome, PoolVerdict};
use crate::reasons::CloseReason;
use crate::session::{Input, Outbox};
pub(super) use state::{Accepted, Connection, open};

/// Maximum number of submits that wait for a pool's verdict. Beyond it nothing more is read from
/// this miner.
const UNANSWERED_MAX: usize = 256;
/// Maximum number of bytes in one read.
const READ_MAX: usize = 8 * 1024;
/// Maximum number of reads in one turn, after which other sessions get their turns.
const READS_MAX: usize = 8;
/// Maximum number of bytes that wait to be written to the miner. Beyond it nothing more is read
/// from it.
const OUTGOING_MAX: usize = 64 * 1024;
/// A miner that accepts none of the waiting bytes for this long is closed.
const BLOCKED_MAX: Duration = Duration::from_secs(30);
/// A miner for which more bytes than this wait is closed, too: pings, jobs and verdicts are written
/// even when nothing is read from it.
const PENDING_MAX: usize = 4 * OUTGOING_MAX;
/// The rate limit for lines: each line costs this much time, and a miner may be ahead of the clock
/// by [`LINES_AHEAD`]. So 200 lines a second are read without delay, and 1000 at once. A miner
/// above the limit is read more slowly; it is never closed for that.
const LINE_COST: Duration = Duration::from_millis(5);
const LINES_AHEAD: Duration = Duration::from_secs(5);
/// How long a miner that has closed its side of the connection still gets answers.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(20);

/// Serves one miner until either side closes.
pub(super) fn serve(accepted: Accepted) -> Connection {
    let slot = accepted.pools.placement.take_slot();
    let has_room = accepted.pools.have_room(slot.depth);
    let extranonce1 = slot.slot;
    open(accepted, slot, extranonce1, has_room)
}

/// Counts the end of the connection, however its task ends (F76).
impl Drop for Connection {
    fn drop(&mut self) {
        let (panicking, now) = (std::thread::panicking(), clock::now());
        if panicking {
            self.pools.proxy.tasks.panicked("session");
        }
        if panicking {
            self.settle_accounts(now);
        }
        let reason = self.reason.unwrap_or(if panicking {
            CloseReason::Panicked
        } else {
            CloseReason::Aborted
        });
        self.pools.proxy.books.metrics.sessions.closes.count(reason);
        // A panic is our failure, not one of the miner's address.
        let failed = !self.was_ready && !panicking;
        self.pools.proxy.admission.lock().left(self.entry.handle.peer.ip(), failed, now);
        if let (Some(presence), Some(work_rate)) = (&self.presence, self.session.measured_rate()) {
            self.pools.proxy.recall.lock().note(presence.machine.as_str(), work_rate, now);
        }
        self.abandon();
        self.set_waiting(false);
        self.set_served(false);
        self.set_hashing(0.0);
    }
}

/// Buffers for one turn, empty between turns. There is one per thread.
struct Scratch {
    out: Outbox,
    read: Box<[u8; READ_MAX]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { out: Outbox::default(), read: Box::new([0; READ_MAX]) });
}

/// Capacity a thread's scratch keeps between turns.
const SCRATCH_KEPT: usize = 64 * 1024;

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            // Emptied here because the last turn may have panicked.
            scratch.out.clear(SCRATCH_KEPT);
            match self.turn(cx, scratch) {
                Ok(()) => Poll::Pending,
                Err(reason) => {
                    // The last line (an error or an answer) is written if the socket accepts it.
                    let _ = self.write(cx, &mut scratch.out);
                    self.reason = Some(reason);
                    debug!(
                        session = self.entry.handle.number,
                        reason = reason.label(),
                        "session ended"
                    );
                    Poll::Ready(())
                }
            }
        })
    }
}

impl Connection {
    /// Counts and forwards what was decided in a turn before it panicked, because the shares judged
    /// by then are good. The thread's scratch holds nothing of other sessions, because each turn
    /// leaves it empty.
    fn settle_accounts(&mut self, now: Instant) {
        let decided = SCRATCH
            .try_with(|scratch| Some(std::mem::take(&mut scratch.try_borrow_mut().ok()?.out)));
        let Ok(Some(mut decided)) = decided else { return };
        // Forwarding may panic as well, and a panic inside a `drop` would abort the process.
        let delivered = catch_unwind(AssertUnwindSafe(|| self.deliver(now, &mut decided)));
        if delivered.is_err() {
            self.pools.proxy.tasks.panicked("session");
        }
    }

    /// Takes one turn. Returns why the connection ends, if it does.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), CloseReason> {
        let Scratch { out, read } = scratch;
        self.entry.handle.mailbox.register(cx.waker());
        let (signals, verdicts) = self.entry.handle.mailbox.take();
        let now = clock::now();
        for verdict in verdicts {
            self.verdict(verdict, now, out);
        }
        if self.pools.proxy.ending.load(Ordering::Relaxed) {
            self.shut_down(now);
        }
        if signals.has(Signal::Directions) {
            self.settle(now, out);
        }
        if now >= self.session.wake_at() {
            self.session.handle(Input::Tick, now, out);
        }
        self.unstick(now, out);
        let more = self.read(cx, read, now, out)?;
        self.deliver(now, out);
        if std::mem::take(&mut out.reissue) {
            self.set_hashing(self.session.fleet_rate());
            self.renew(now, out);
        }
        self.write(cx, out)?;
        // The newest work is taken when the former work has been written, and again if it was
        // replaced meanwhile.
        while self.pending.is_empty() && out.close.is_none() && self.seating.hears() {
            self.take_work(true, now, out);
            self.write(cx, out)?;
        }
        self.observe(out);
        if let Some(reason) = out.close {
            return Err(reason);
        }
        if is_slow(self.blocked_since, self.pending.len(), now) {
            return Err(CloseReason::SlowReader);
        }
        self.end(cx, now, out)?;
        if more && self.is_readable(now, out) {
            // The socket reports readiness only once. If we may not read now, we are woken as soon
            // as we may.
            cx.waker().wake_by_ref();
        }
        self.entry.handle.wake_at(self.pools.proxy.millis(self.wake_at(now)));
        Ok(())
    }

    /// The handle of the session.
    pub(super) fn handle(&self) -> Arc<SessionHandle> {
        self.entry.handle.clone()
    }

    /// Handles bytes that were read before the connection was opened. They are answered in its
    /// first turn.
    pub(super) fn begin(&mut self, said: &[u8]) -> Result<(), CloseReason> {
        let (mut out, now) = (Outbox::default(), clock::now());
        let heard = self.hear(said, now, &mut out);
        self.deliver(now, &mut out);
        self.pending = out.bytes;
        match out.close {
            // A refusal must still be written.
            Some(reason) => self.ending = Some(Box::new((now + HALF_CLOSED_MAX, reason))),
            None => {
                self.reason = heard.err();
                heard?;
            }
        }
        Ok(())
    }

    /// When the connection must next be woken because time has passed.
    fn wake_at(&self, now: Instant) -> Instant {
        let mut at = self.session.wake_at();
        if let Some(since) = self.blocked_since {
            at = at.min(since + BLOCKED_MAX);
        }
        if let Some(ending) = &self.ending {
            at = at.min(ending.0);
        }
        if self.stuck.is_some() || !self.may_read_lines(now) {
            at = now;
        }
        at
    }

    fn shut_down(&mut self, now: Instant) {
        let until = now + self.pools.proxy.shutdown_grace;
        match &self.ending {
            Some(ending) if ending.1 == CloseReason::Shutdown || ending.0 <= until => {}
            _ => self.ending = Some(Box::new((until, CloseReason::Shutdown))),
        }
    }

    /// Ends a connection that must end, when everything is answered and written or its deadline has
    /// passed.
    fn end(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), CloseReason> {
        let Some(ending) = &self.ending else { return Ok(()) };
        let (until, reason) = **ending;
        let owes =
            self.session.unanswered() > 0 || !self.pending.is_empty() || self.stuck.is_some();
        if now < until && owes {
            return Ok(());
        }
        // Lines that have arrived meanwhile are still answered, but only once: a miner that keeps
        // sending would hold up the shutdown.
        if reason == CloseReason::Shutdown
            && now < until
            && !std::mem::replace(&mut self.drained, true)
        {
            let mut read = [0; READ_MAX];
            if self.read_once(cx, &mut read, now, out)?.is_some() {
                self.deliver(now, out);
                self.write(cx, out)?;
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
        Err(reason)
    }

    /// Whether more may be read from the miner at present.
    fn is_readable(&self, now: Instant, out: &Outbox) -> bool {
        self.ending.is_none()
            && !self.stuck.as_ref().is_some_and(|stuck| stuck.holds_up(self.seating.connection()))
            && self.session.unanswered() < UNANSWERED_MAX
            && self.pending.len() + out.bytes.len() < OUTGOING_MAX
            && self.may_read_lines(now)
    }

    /// Reads as much as one turn allows. Returns whether there may be more to read, which the
    /// socket will not report again.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8; READ_MAX],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<bool, CloseReason> {
        for _ in 0..READS_MAX {
            if out.close.is_some() || !self.is_readable(now, out) {
                return Ok(true);
            }
            if self.read_once(cx, buffer, now, out)?.is_none() {
                return Ok(false);
            }
            self.deliver(now, out);
        }
        Ok(true)
    }

    fn may_read_lines(&self, now: Instant) -> bool {
        self.lines_paid <= now + LINES_AHEAD
    }

    /// Reads a bounded amount and handles each line. Returns `None` when there was nothing to read.
    fn read_once(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8; READ_MAX],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<Option<()>, CloseReason> {
        let mut read = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(None),
            Poll::Ready(Ok(())) if read.filled().is_empty() => {
                // The miner may have half-closed: outstanding answers are still written (S78).
                self.ending.get_or_insert_with(|| {
                    Box::new((now + HALF_CLOSED_MAX, CloseReason::ClosedByMiner))
                });
                return Ok(None);
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(failure)) if failure.kind() == ErrorKind::ConnectionReset => {
                return Err(CloseReason::ResetByMiner);
            }
            Poll::Ready(Err(_)) => return Err(CloseReason::ReadFailed),
        }
        self.hear(read.filled(), now, out)?;
        Ok(Some(()))
    }

    /// Handles each line of the bytes that were read.
    fn hear(
        &mut self,
        mut input: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), CloseReason> {
        if std::mem::take(&mut self.first_read)
            && let Some(fault) = LineFault::sniff(input)
        {
            // A TLS hello may contain no newline, and bfgminer waits for our answer to it.
            return Err(CloseReason::Line(fault));
        }
        while out.close.is_none() {
            match self.splitter.next_line(&mut input) {
                Ok(Some(line)) => {
                    #[cfg(test)]
                    super::tests::failpoint(line);
                    self.lines_paid = self.lines_paid.max(now) + LINE_COST;
                    self.session.handle(Input::Line(line), now, out);
                }
                Ok(None) => break,
                Err(_) => return Err(CloseReason::LineTooLong),
            }
        }
        if std::mem::take(&mut out.authorized) {
            self.authorized(now, out);
        }
        if let Some(correction) = out.correction.take() {
            self.correct(correction, now, out);
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: PoolVerdict, now: Instant, out: &mut Outbox) {
        if verdict.outcome != PoolOutcome::Accepted {
            self.entry.handle.tally.reject();
        }
        if let PoolOutcome::Rejected(code, text) = &verdict.outcome {
            debug!(session = self.entry.handle.number, ?code, ?text, "pool rejected a share");
        }
        self.session.handle(Input::Verdict(verdict), now, out);
    }

    /// Writes as much as the socket accepts, and keeps the rest.
    fn write(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        if !self.pending.is_empty() {
            self.pending.append(&mut out.bytes);
            let taken = push(&mut self.stream, cx, &self.pending)?;
            self.pending.drain(..taken);
            if self.pending.is_empty() {
                // An idle session keeps no buffer.
                self.pending = Vec::new();
            }
            self.took(taken);
            return Ok(());
        }
        if out.bytes.is_empty() {
            return Ok(());
        }
        let taken = push(&mut self.stream, cx, &out.bytes)?;
        if taken < out.bytes.len() {
            self.pending = out.bytes[taken..].to_vec();
        }
        self.took(taken);
        out.bytes.clear();
        Ok(())
    }

    /// Records the latencies of answers and jobs. An answer counts as delivered when it is in the
    /// buffer, a job when all bytes have been written to the socket.
    fn observe(&mut self, out: &mut Outbox) {
        if out.answered.is_empty() && self.delivered.is_none() {
            return;
        }
        let now = clock::now();
        let metrics = &self.pools.proxy.books.metrics;
        for (by, read_at) in out.answered.drain(..) {
            metrics.shares.answered(by, now.saturating_duration_since(read_at));
        }
        if self.pending.is_empty()
            && let Some(work) = self.delivered.take()
        {
            let target = work.job.upstream.target;
            metrics.targets.delivered(target, work.job.arrival.delivered(now));
        }
    }

    /// Records that the miner's socket accepted `bytes` bytes.
    fn took(&mut self, bytes: usize) {
        self.blocked_since =
            blocked_since(self.blocked_since, bytes, self.pending.len(), clock::now);
    }
}

/// Returns when the miner stopped reading, given that `taken` bytes were just written and `left`
/// remain; `None` if nothing remains.
fn blocked_since(
    former: Option<Instant>,
    taken: usize,
    left: usize,
    now: impl FnOnce() -> Instant,
) -> Option<Instant> {
    match (left, taken) {
        (0, _) => None,
        (_, 0) => former.or_else(|| Some(now())),
        _ => Some(now()),
    }
}

/// Whether a miner reads too little to be kept.
fn is_slow(blocked_since: Option<Instant>, pending: usize, now: Instant) -> bool {
    pending > PENDING_MAX || blocked_since.is_some_and(|since| now >= since + BLOCKED_MAX)
}

/// Writes until everything is written or the socket accepts no more. Returns how many bytes it
/// accepted.
fn push(stream: &mut TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, CloseReason> {
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *stream).poll_write(cx, &bytes[written..]) {
            Poll::Ready(Ok(more)) => written += more,
            Poll::Ready(Err(_)) => return Err(CloseReason::WriteFailed),
            Poll::Pending => break,
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F36: time counts from the first partial write, even if nothing else happens, and reading a
    /// little does not make up for it.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn f36_a_miner_is_slow_from_the_first_byte_it_does_not_take() {
        let start = Instant::now();
        let (soon, late) = (start + Duration::from_secs(10), start + BLOCKED_MAX);
        let since = blocked_since(None, 60, 40, || start);
        assert_eq!(since, Some(start), "more was taken than is left");
        assert_eq!(blocked_since(since, 0, 40, || soon), since);
        assert!(!is_slow(since, 40, soon) && is_slow(since, 40, late));
        assert_eq!(blocked_since(since, 1, 39, || soon), Some(soon));
        assert_eq!(blocked_since(since, 40, 0, || soon), None);
        assert!(!is_slow(since, PENDING_MAX, soon) && is_slow(since, PENDING_MAX + 1, soon));
    }

    /// Ten thousand connections are alive at once (ADR 8: 2 kB per session in all). With what the
    /// runtime adds, 648 bytes become a task of 768.
    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 648, "{} bytes", size_of::<Connection>());
        assert!(size_of::<SessionHandle>() <= 208, "{} bytes", size_of::<SessionHandle>());
    }
}
