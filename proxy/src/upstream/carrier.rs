//! The task that carries one connection: it moves bytes between a pool's socket, its
//! [`PoolSession`] and the queue of shares, and does what the pool's lines ask of the rest of the
//! proxy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use daemon::clock;
use stratum::client_role::ClientConfig;
use stratum::frame::{POOL_LINE_MAX, Splitter};
use stratum::job::Job;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::end::{End, Fault};
use super::in_flight::undelivered;
use super::news::News;
use super::outgoing::Outgoing;
use super::pool_requests::{Reaction, Redirect};
use super::pool_session::{PoolEvent, PoolSession};
use super::pools::{Pool, PoolSet};
use super::stream::{PoolStream, fault};
use super::{ConnectionPlan, client_config, probe, tripwire};
use crate::config::OnPayoutChange;
use crate::ends::Settled;
use crate::label::Label as _;
use crate::load::{Load, Sizing};
use crate::reasons::Alarm;
use crate::work::{SubmitQueues, Upstream, UpstreamShare};

/// The state of one connection's task.
pub(super) struct Carrier<'c> {
    pools: Arc<PoolSet>,
    pool: Arc<Pool>,
    upstream: Arc<Upstream>,
    queues: SubmitQueues,
    stream: PoolStream,
    splitter: Splitter,
    outgoing: Outgoing,
    session: PoolSession,
    /// It has had work: the pool is of use.
    pub(super) has_job: bool,
    refreshed_at: Instant,
    probing: bool,
    /// When deadlines are next looked at.
    tick_at: Instant,
    /// Shares that come before go out together.
    gather_until: Instant,
    /// Shares taken from the queue, the next one last.
    batch: Vec<UpstreamShare>,
    /// It outlives the connection.
    plan: &'c mut ConnectionPlan,
    sizing: Sizing,
    /// When it last had no room for a share.
    full_at: Option<Instant>,
    /// How shares have ended that are to be written down.
    settled: Vec<Settled>,
}

/// Most shares of one write: some pools (NOMP and its kin) take more than 10 KiB at once for an
/// attack, and hang up.
const BATCH_MAX: usize = 64;
/// How long further shares are gathered after some were written. One that comes alone goes at once;
/// of a crowd, each write and each answer carries several. A block never waits.
const GATHER: Duration = Duration::from_millis(1);
/// Shares are not taken from the queue while so many bytes wait for the pool's socket.
const OUTGOING_FULL: usize = 16 * 1024;
/// A pool for which so many wait asks much and reads nothing: it is left.
const OUTGOING_MAX: usize = 256 * 1024;
/// Reads in a row: then shares, answers and other tasks have their turn, however much the pool
/// says.
const READS_MAX: u32 = 8;
/// A pool that owes as many answers as may be owed is counted this often.
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
            pools: pools.clone(),
            pool: pool.clone(),
            upstream,
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
            has_job: false,
            refreshed_at: clock::now(),
            probing: false,
            tick_at: clock::now(),
            gather_until: clock::now(),
            batch: Vec::with_capacity(BATCH_MAX),
            plan,
            sizing,
            full_at: None,
            settled: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> (Arc<Upstream>, &mut PoolSession) {
        (self.upstream.clone(), &mut self.session)
    }

    /// Moves bytes until the connection ends, and says why it did.
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
            self.upstream.set_suspect(self.session.is_suspect(now));
            // By the clock and not by a pause: a busy connection never pauses.
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
                self.alarm(Alarm::InFlightFull, &detail, now);
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
                Some(alive) = probe_result.recv() => self.probed(alive),
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
        self.pools.count(&self.pool, &mut self.settled);
        self.outgoing.push(&bytes);
        self.gather_until = now + GATHER;
    }

    /// A share that meets the network target goes ahead of everything that is not yet on the wire.
    fn urgent(&mut self, share: UpstreamShare) {
        let mut bytes = Vec::new();
        let header =
            share.block.as_ref().map(|proof| const_hex::encode(proof.header)).unwrap_or_default();
        self.session.share(share, clock::now(), &mut bytes, &mut Vec::new());
        self.outgoing.push_first(&bytes);
        info!(%header, "share meets the network target: forwarded");
        if let Err(failure) = self.outgoing.write(&mut self.stream) {
            // The connection ends by it and settles the share, with the alarm.
            warn!(%failure, "its upstream's socket failed");
        }
    }

    /// Reads once, and hears each line.
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
        self.pools.count(&self.pool, &mut self.settled);
        for event in events {
            self.event(event, now)?;
        }
        too_long.map_or(Ok(()), |too_long| Err(Fault::new(End::LineTooLong, too_long.to_string())))
    }

    fn event(&mut self, event: PoolEvent, now: Instant) -> Result<(), Fault> {
        match event {
            PoolEvent::Subscribed { extranonce1, extranonce2_size } => {
                self.sized(&extranonce1, extranonce2_size)?;
                self.pools
                    .placement
                    .connection_up(&self.upstream, &extranonce1, extranonce2_size)
                    .map_err(|misfit| Fault::new(End::DoesNotFit, misfit.to_string()))?;
                if let Some(own) = &self.pool.own {
                    own.lock().works = true;
                    // The miner's subscribe waits for it.
                    self.pools.changed.notify_one();
                }
                Ok(())
            }
            PoolEvent::Authorized => {
                debug!(user = ?self.pool.config.user, "authorized");
                Ok(())
            }
            PoolEvent::Job { job, difficulty, mask } => {
                self.look(&job, now);
                {
                    let mut state = self.pool.state.lock();
                    state.mask = mask;
                    state.difficulty = Some(difficulty.get());
                }
                let was_quiet = self.upstream.set_quiet(false);
                let new = self.pools.placement.job(self.upstream.id, job, difficulty, mask, now);
                self.session.note_name(self.pools.placement.current(self.upstream.id));
                self.refreshed_at = now;
                if let Some(new) = new {
                    self.pools.proxy.executor.tell(new.untold);
                    self.has_job = true;
                    if let Some(after) = new.former_took {
                        self.pools.proxy.books.metrics.targets.fanned_out(self.pool.id, after);
                    }
                    if new.first {
                        let difficulty = difficulty.get();
                        if self.pool.is_news(News::Work, now) {
                            info!(difficulty, "upstream has work");
                        } else {
                            debug!(difficulty, "upstream has work");
                        }
                    }
                    // Sessions that wait for a seat may find one on a new job.
                    if new.first || was_quiet || !new.repeated {
                        self.pools.changed.notify_one();
                    }
                }
                Ok(())
            }
            PoolEvent::Extranonce { extranonce1, extranonce2_size } => {
                if self.pool.is_news(News::Extranonce, now) {
                    info!(extranonce2_size, "pool changed our extranonce");
                } else {
                    debug!(extranonce2_size, "pool changed our extranonce");
                }
                self.sized(&extranonce1, extranonce2_size)?;
                self.pools
                    .placement
                    .extranonce(&self.upstream, &extranonce1, extranonce2_size)
                    .map_err(|misfit| Fault::new(End::DoesNotFit, misfit.to_string()))
            }
            PoolEvent::Alarm { alarm, detail } => {
                self.alarm(alarm, &detail, now);
                Ok(())
            }
            PoolEvent::Ignored(line) => {
                self.pools.proxy.books.metrics.targets.ignored_lines.count(line);
                Ok(())
            }
            PoolEvent::Quarantine { reason } => {
                self.pools.quarantine(&self.pool, reason, now);
                Ok(())
            }
            PoolEvent::Reconnect(asked) => {
                self.reconnect(&asked, now);
                Ok(())
            }
            PoolEvent::Dead { end, detail } => Err(Fault::new(end, detail)),
        }
    }

    /// Counts something odd, and tells of it unless the like was told of just now.
    fn alarm(&self, alarm: Alarm, detail: &str, now: Instant) {
        self.pools.proxy.books.metrics.alarm(alarm);
        let what = alarm.label();
        if self.pool.is_news(News::Odd(alarm), now) {
            warn!(what, ?detail, "pool did something odd");
        } else {
            debug!(what, ?detail, "pool did something odd");
        }
    }

    fn reconnect(&mut self, asked: &Redirect, now: Instant) {
        let config = &self.pool.config;
        let random = rand::random();
        match self.plan.requests.reconnect(
            asked,
            &config.at(),
            &config.reconnect_hosts,
            random,
            now,
        ) {
            Reaction::Stay(alarm) => self.alarm(alarm, &format!("{asked:?}"), now),
            Reaction::Leave { to, at } => {
                let (host, wait_ms) =
                    (to.as_ref().map(ToString::to_string), (at - now).as_millis());
                if self.pool.is_news(News::Reconnect, now) {
                    info!(to = host, wait_ms, "pool asked to reconnect");
                } else {
                    debug!(to = host, wait_ms, "pool asked to reconnect");
                }
                self.plan.leave = Some((at, to));
            }
            Reaction::Quarantine => {
                self.alarm(Alarm::ReconnectTooOften, &format!("{asked:?}"), now);
                self.pools.quarantine(&self.pool, Alarm::ReconnectTooOften, now);
            }
        }
    }

    /// Looks at what a job gives away of its pool.
    fn look(&mut self, job: &Job, now: Instant) {
        if tripwire::is_time_off(job.ntime, clock::wall().as_second()) {
            self.alarm(Alarm::TimeOff, &format!("a job of {} by Unix time", job.ntime), now);
        }
        let policy = self.pool.config.on_payout_change;
        let Some(extranonce) =
            self.session.extranonce_len().filter(|_| policy != OnPayoutChange::Ignore)
        else {
            return;
        };
        let learn = policy == OnPayoutChange::Alarm;
        let Some(change) = self.pool.tripwire.lock().look(job, extranonce, learn, now) else {
            return;
        };
        if change.news {
            self.pools.proxy.books.metrics.alarm(Alarm::PayoutFingerprintChanged);
            error!(detail = ?change.detail, "coinbase changed");
        }
        if change.payees && policy == OnPayoutChange::FailOver {
            self.pools.quarantine(&self.pool, Alarm::PayoutFingerprintChanged, now);
        }
    }

    /// Notes what the pool has assigned. An error where it brings no space that another connection
    /// does not have.
    fn sized(&self, extranonce1: &[u8], extranonce2_size: u8) -> Result<(), Fault> {
        let mut state = self.pool.state.lock();
        state.extranonce1_size = Some(extranonce1.len());
        state.extranonce2_size = Some(extranonce2_size);
        drop(state);
        let adds = self.pools.placement.adds_space(&self.upstream, extranonce1, extranonce2_size);
        self.pool.adds_none.store(!adds, Ordering::Relaxed);
        if adds {
            return Ok(());
        }
        let detail = "same extranonce1 as another connection, and no lanes left";
        Err(Fault::new(End::AddsNoSpace, detail))
    }

    fn tick(&mut self, probed: &mpsc::Sender<bool>) -> Result<(), Fault> {
        let now = clock::now();
        let mut events = Vec::new();
        let mut settled = Vec::new();
        self.session.tick(now, &mut events, &mut settled);
        self.pools.count(&self.pool, &mut settled);
        for event in events {
            self.event(event, now)?;
        }
        if let Some((_, to)) = self.plan.leave.take_if(|(at, _)| now >= *at) {
            self.plan.next = to;
            return Err(Fault::new(End::Reconnect, "the pool asked for it"));
        }
        if self.session.is_quiet(now) && !self.probing && !self.upstream.is_quiet() {
            self.probing = true;
            let target = self.pool.config.clone();
            let probed = probed.clone();
            let deadline = self.pools.proxy.patience.handshake;
            let tasks = self.pools.proxy.tasks.clone();
            // Awaited through the channel; it ends by its own deadline.
            tokio::spawn(async move {
                let probe = probe::extranonce_size(&target, deadline);
                let alive =
                    tasks.catch_panic("probe", probe).await.is_some_and(|size| size.is_ok());
                let _ = probed.send(alive).await;
            });
        }
        if self.has_job && now >= self.refreshed_at + self.pools.proxy.refresh_after {
            self.refreshed_at = now;
            self.pools.placement.refresh(self.upstream.id);
        }
        self.size(now);
        Ok(())
    }

    /// Asks for the difficulty that suits the fleet, and counts what miners are held above.
    fn size(&mut self, now: Instant) {
        let state = self.pools.placement.target_state(self.pool.id);
        let may_ask = self.session.is_settled(now) && self.pool.config.suggest_difficulty.is_none();
        let look = self.sizing.look(self.session.difficulty(), state.seated > 0, may_ask, now);
        // Each connection of the target looks.
        let part = f64::from(state.ready.max(1));
        let metrics = &self.pools.proxy.books.metrics.targets;
        metrics.held(self.pool.id, look.held.as_secs_f64() / part, look.uncredited / part);
        if let Some(difficulty) = look.ask {
            debug!(difficulty = difficulty.get(), "asking the pool for a difficulty");
            let mut bytes = Vec::new();
            self.session.suggest(difficulty, &mut bytes);
            self.outgoing.push(&bytes);
        }
    }

    /// The pool brought no job for long; another connection has asked whether it lives.
    fn probed(&mut self, alive: bool) -> Result<(), Fault> {
        self.probing = false;
        if alive && !self.has_job {
            let detail = "the pool lives, but this connection never got a job";
            return Err(Fault::new(End::NoJob, detail));
        }
        if !alive {
            let detail = "no job for long, and a new connection got no answer";
            return Err(Fault::new(End::Silent, detail));
        }
        let state = self.pools.placement.target_state(self.pool.id);
        if state.ready > state.quiet + 1 {
            // Its neighbours have work: a new connection will too.
            let detail = "no job for long, while other connections of the target had some";
            return Err(Fault::new(End::Quiet, detail));
        }
        self.upstream.set_quiet(true);
        self.pools.proxy.books.metrics.alarm(Alarm::Quiet);
        self.pools.changed.notify_one();
        Ok(())
    }

    /// Lets everybody go: sessions move, shares in flight and in the queue stay unresolved.
    pub(super) async fn end(&mut self) {
        self.let_go();
        let mut settled = Vec::new();
        for share in rest(&mut self.queues.urgent).await {
            settled.push(undelivered(share));
        }
        for share in rest(&mut self.queues.submits).await {
            settled.push(undelivered(share));
        }
        self.pools.count(&self.pool, &mut settled);
    }

    fn let_go(&mut self) {
        self.upstream.set_dead();
        self.pools.placement.connection_down(self.upstream.id);
        self.session.end(clock::now(), &mut self.settled);
        self.pools.count(&self.pool, &mut self.settled);
    }
}

/// However its task ends, by a panic too (F76): its sessions must not sit on it for ever, nor wait
/// for its answers.
impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        if !self.upstream.is_alive() {
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
        self.pools.count(&self.pool, &mut settled);
        self.pools.changed.notify_one();
    }
}

/// Closes a queue and takes out what is in it, or is being put in just now: `try_recv` would miss
/// the latter, and its submit would never be answered.
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
