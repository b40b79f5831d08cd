//! The task that carries one connection: it moves bytes between a pool's socket, its
//! [`PoolSession`] and the queue of shares. What follows for the rest of the proxy is in
//! [`super::reactions`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::clock;
use stratum::client_role::ClientConfig;
use stratum::frame::{POOL_LINE_MAX, Splitter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::client_config::client_config;
use super::end::{End, Fault};
use super::in_flight::undelivered;
use super::outgoing::Outgoing;
use super::pool_requests::ConnectionPlan;
use super::pool_session::PoolSession;
use super::pools::{Pool, PoolSet};
use super::probe;
use super::reactions::Reactions;
use super::stream::{PoolStream, fault};
use crate::ends::Settled;
use crate::load::{Load, Sizing};
use crate::reasons::Alarm;
use crate::work::{SubmitQueues, Upstream, UpstreamShare};

/// The state of one connection's task.
pub(super) struct Carrier<'c> {
    reactions: Reactions<'c>,
    queues: SubmitQueues,
    stream: PoolStream,
    splitter: Splitter,
    outgoing: Outgoing,
    session: PoolSession,
    /// Another connection is asking whether the pool is alive.
    probing: bool,
    /// When [`Carrier::tick`] is next due.
    tick_at: Instant,
    /// Shares that come before this time are sent together.
    gather_until: Instant,
    /// Shares taken from the queue, the next one last.
    batch: Vec<UpstreamShare>,
    /// When [`Alarm::InFlightFull`] was last raised.
    full_at: Option<Instant>,
    /// Outcomes of shares that are not counted yet.
    settled: Vec<Settled>,
}

/// Maximum number of shares in one write: NOMP and similar pools treat more than 10 KiB at once as
/// an attack and close the connection.
const BATCH_MAX: usize = 64;
/// How long shares are gathered after some were written. A single share is written at once; when
/// many come, each write carries several, and so does each answer. A block never waits.
const GATHER: Duration = Duration::from_millis(1);
/// While more bytes than this wait for the pool's socket, no share is taken from the queue.
const OUTGOING_FULL: usize = 16 * 1024;
/// When more bytes than this wait, the pool asks for much and reads nothing: the connection ends.
const OUTGOING_MAX: usize = 256 * 1024;
/// Maximum number of reads in a row. After them, shares and other tasks get their turn, however
/// much the pool sends.
const READS_MAX: u32 = 8;
/// How often an alarm is raised while no further share may be sent, because too many wait for
/// answers.
const FULL_EVERY: Duration = Duration::from_secs(10);

impl<'c> Carrier<'c> {
    pub(super) fn new(
        pools: &Arc<PoolSet>,
        pool: &Arc<Pool>,
        stream: PoolStream,
        plan: &'c mut ConnectionPlan,
    ) -> Self {
        let id = pools.placement.next_connection_id();
        let load = Load::limited(pools.fleet.clone(), pool.config.shares_per_sec_max);
        let mut sizing = Sizing::new(pool.load_rules(), load.clone(), clock::now());
        let suggest = pool.config.suggest_difficulty.or_else(|| sizing.first_ask(clock::now()));
        let (upstream, queues) = Upstream::under(id, pool.id, load);
        Self {
            reactions: Reactions::new(pools, pool, upstream, plan, sizing),
            queues,
            stream,
            splitter: Splitter::new(POOL_LINE_MAX),
            outgoing: Outgoing::default(),
            session: PoolSession::new(
                id,
                ClientConfig { suggest, ..client_config(&pool.config) },
                pools.proxy.patience.clone(),
                pool.config.start_difficulty,
                clock::now(),
            ),
            probing: false,
            tick_at: clock::now(),
            gather_until: clock::now(),
            batch: Vec::with_capacity(BATCH_MAX),
            full_at: None,
            settled: Vec::new(),
        }
    }

    /// Whether the connection has had a job.
    pub(super) const fn has_worked(&self) -> bool {
        self.reactions.has_worked()
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> (Arc<Upstream>, &mut PoolSession) {
        (self.reactions.upstream.clone(), &mut self.session)
    }

    /// Moves bytes until the connection ends. Returns why it ended.
    pub(super) async fn carry(&mut self, cancel: &CancellationToken) -> Fault {
        let mut first = Vec::new();
        self.session.start(&mut first);
        self.outgoing.push(&first);
        let (probed, mut probe_result) = mpsc::channel(1);
        let mut reads = 0;
        loop {
            if let Err(failure) = self.outgoing.write(&mut self.stream) {
                return fault(&failure, End::Write);
            }
            if self.outgoing.len() > OUTGOING_MAX {
                let waiting = self.outgoing.len();
                let detail = format!("{waiting} bytes wait for the pool to read them");
                return Fault::new(End::NotReading, detail);
            }
            let now = clock::now();
            self.reactions.upstream.set_suspect(self.session.is_suspect(now));
            // The clock is checked in each round, because on a busy connection the timer below
            // never fires.
            let look_at =
                self.session.held_until().map_or(self.tick_at, |held| held.min(self.tick_at));
            if now >= look_at {
                if let Err(fault) = self.tick(&probed) {
                    return fault;
                }
                self.tick_at = now + self.session.tick_every();
                continue;
            }
            let gathering = now < self.gather_until;
            let in_flight = self.session.room();
            if in_flight == 0 && self.full_at.is_none_or(|at| now >= at + FULL_EVERY) {
                self.full_at = Some(now);
                let detail = format!("{} shares wait for answers", self.session.waiting());
                self.reactions.alarm(Alarm::InFlightFull, &detail, now);
            }
            let room = in_flight > 0 && self.outgoing.len() < OUTGOING_FULL && !gathering;
            let for_block = self.session.has_room_for_block();
            let wake_at = if gathering { look_at.min(self.gather_until) } else { look_at };
            let wake_at = tokio::time::Instant::from_std(wake_at);
            let in_a_row = std::mem::take(&mut reads);
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => return Fault::new(End::Shutdown, ""),
                Some(share) = self.queues.urgent.recv(), if for_block => { self.urgent(share); Ok(()) }
                ready = self.stream.readable(), if in_a_row < READS_MAX => match ready {
                    Ok(()) => {
                        reads = in_a_row + 1;
                        self.read()
                    }
                    Err(failure) => Err(Fault::new(End::Read, failure.to_string())),
                },
                _ = self.stream.writable(), if !self.outgoing.is_empty() || self.stream.wants_write() => Ok(()),
                _ = self.queues.submits.recv_many(&mut self.batch, BATCH_MAX.min(in_flight)), if room => { self.forward(); Ok(()) }
                Some(alive) = probe_result.recv() => {
                    self.probing = false;
                    self.reactions.probed(alive)
                }
                () = tokio::time::sleep_until(wake_at) => Ok(()),
                () = tokio::task::yield_now(), if in_a_row >= READS_MAX => Ok(()),
            };
            if let Err(fault) = outcome {
                return fault;
            }
        }
    }

    fn forward(&mut self) {
        let now = clock::now();
        let mut bytes = Vec::with_capacity(160 * self.batch.len());
        self.batch.reverse();
        while let Some(share) = self.batch.pop() {
            #[cfg(test)]
            super::tests::failpoint(share.work.job.job.job_id.as_bytes());
            self.session.share(share, now, &mut bytes, &mut self.settled);
        }
        self.reactions.count(&mut self.settled);
        self.outgoing.push(&bytes);
        self.gather_until = now + GATHER;
    }

    /// Writes a share that meets the network target ahead of all bytes that are not in the socket
    /// yet.
    fn urgent(&mut self, share: UpstreamShare) {
        let mut bytes = Vec::new();
        let header =
            share.block.as_ref().map(|proof| const_hex::encode(proof.header)).unwrap_or_default();
        self.session.share(share, clock::now(), &mut bytes, &mut Vec::new());
        self.outgoing.push_first(&bytes);
        info!(%header, "share meets the network target: forwarded");
        if let Err(failure) = self.outgoing.write(&mut self.stream) {
            // The next write fails as well and ends the connection, which counts the share and
            // raises the alarm.
            warn!(%failure, "the socket of its upstream connection failed");
        }
    }

    /// Reads once and handles each line.
    fn read(&mut self) -> Result<(), Fault> {
        let mut scratch = [0; 16 * 1024];
        let read = match self.stream.try_read(&mut scratch) {
            Ok(0) => return Err(Fault::new(End::Closed, "the pool closed the connection")),
            Ok(read) => read,
            Err(failure) if failure.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(failure) => return Err(fault(&failure, End::Read)),
        };
        let now = clock::now();
        let mut input = &scratch[..read];
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let too_long = loop {
            match self.splitter.next_line(&mut input) {
                Ok(Some(line)) => {
                    #[cfg(test)]
                    super::tests::failpoint(line);
                    self.session.line(line, now, &mut out, &mut events, &mut self.settled);
                }
                Ok(None) => break None,
                Err(too_long) => break Some(too_long),
            }
        };
        self.outgoing.push(&out);
        self.reactions.count(&mut self.settled);
        for event in events {
            self.reactions.event(event, &mut self.session, now)?;
        }
        too_long.map_or(Ok(()), |too_long| Err(Fault::new(End::LineTooLong, too_long.to_string())))
    }

    fn tick(&mut self, probed: &mpsc::Sender<bool>) -> Result<(), Fault> {
        let now = clock::now();
        let mut events = Vec::new();
        let mut settled = Vec::new();
        self.session.tick(now, &mut events, &mut settled);
        self.reactions.count(&mut settled);
        for event in events {
            self.reactions.event(event, &mut self.session, now)?;
        }
        self.reactions.leave(now)?;
        if self.session.is_quiet(now) && !self.probing && !self.reactions.upstream.is_quiet() {
            self.probing = true;
            let target = self.reactions.pool.config.clone();
            let probed = probed.clone();
            let deadline = self.reactions.pools.proxy.patience.handshake;
            let tasks = self.reactions.pools.proxy.tasks.clone();
            // The result comes through the channel. The task ends at its deadline at the latest.
            tokio::spawn(async move {
                let probe = probe::extranonce_size(&target, deadline);
                let alive =
                    tasks.catch_panic("probe", probe).await.is_some_and(|size| size.is_ok());
                let _ = probed.send(alive).await;
            });
        }
        self.reactions.refresh(now);
        if let Some(difficulty) = self.reactions.size(&self.session, now) {
            debug!(difficulty = difficulty.get(), "asking the pool for a difficulty");
            let mut bytes = Vec::new();
            self.session.suggest(difficulty, &mut bytes);
            self.outgoing.push(&bytes);
        }
        Ok(())
    }

    /// Ends the connection: its sessions move, and shares in flight or in the queue are unresolved.
    pub(super) async fn end(&mut self) {
        self.let_go();
        let mut settled = Vec::new();
        for share in rest(&mut self.queues.urgent).await {
            settled.push(undelivered(share));
        }
        for share in rest(&mut self.queues.submits).await {
            settled.push(undelivered(share));
        }
        self.reactions.count(&mut settled);
    }

    fn let_go(&mut self) {
        self.reactions.upstream.set_dead();
        self.reactions.pools.placement.connection_down(self.reactions.upstream.id);
        self.session.end(clock::now(), &mut self.settled);
        self.reactions.count(&mut self.settled);
    }
}

/// If the task is dropped or panics (F76), sessions must not keep their seats on this connection or
/// wait for its answers.
impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        if !self.reactions.upstream.is_alive() {
            return;
        }
        self.let_go();
        let mut settled: Vec<Settled> = self.batch.drain(..).map(undelivered).collect();
        for queue in [&mut self.queues.urgent, &mut self.queues.submits] {
            queue.close();
            while let Ok(share) = queue.try_recv() {
                settled.push(undelivered(share));
            }
        }
        self.reactions.count(&mut settled);
        self.reactions.pools.changed.notify_one();
    }
}

/// Closes a queue and returns what is in it, including what is being put in at this moment:
/// `try_recv` would miss that share, and its submit would never be answered.
async fn rest<T>(queue: &mut mpsc::Receiver<T>) -> Vec<T> {
    queue.close();
    let mut rest = Vec::new();
    while let Some(item) = queue.recv().await {
        rest.push(item);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_closing_queue_took_in_comes_out_again() {
        for round in 0..2000 {
            let (sender, mut queue) = mpsc::channel::<u32>(64);
            let sending = tokio::spawn(async move {
                (0..64).take_while(|item| sender.try_send(*item).is_ok()).count()
            });
            tokio::task::yield_now().await;
            let taken = rest(&mut queue).await.len();
            assert_eq!(taken, sending.await.expect("no panic"), "round {round}");
        }
    }
}
