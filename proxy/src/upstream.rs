//! The tasks that carry work and shares between pools and sessions: they connect, move bytes, and try again.
//!
//! One task owns one connection. What a pool's lines mean and when a connection is dead is decided in
//! [`pool_session`]; who works on what is decided in [`crate::placement`].

mod backoff;
mod connect;
mod in_flight;
mod manners;
mod outgoing;
mod pace;
mod pool_session;
mod probe;
mod stream;
mod tripwire;
mod verdicts;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daemon::clock;
use parking_lot::Mutex;
use serde::Serialize;
use stratum::client_role::ClientConfig;
use stratum::difficulty::Difficulty;
use stratum::frame::{POOL_LINE_MAX, Splitter};
use stratum::job::Job;
use stratum::version::VersionMask;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

pub(crate) use in_flight::undelivered;
pub(crate) use pool_session::{Deadlines, PoolEvent, PoolSession};
pub(crate) use probe::probe_sizes;

use crate::books::Books;
use crate::config::{HostPort, OnPayoutChange, Target};
use crate::load::{self, Fleet, Load, LoadRules, Sizing};
use crate::outcome::{Settled, SettledAs};
use crate::placement::Placement;
use crate::route::TargetHealth;
use crate::session::suits_firmware;
use crate::tls::is_identity;
use crate::work::{SubmitQueues, Upstream, UpstreamShare};
use backoff::Backoff;
use manners::{Manners, Reaction, Redirect};
use outgoing::Outgoing;
use stream::{PoolStream, fault_reason};
use tripwire::Tripwire;

/// What all connections of one proxy share.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) targets: Vec<Arc<Pool>>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) books: Books,
    pub(crate) deadlines: Deadlines,
    /// Told when a target's health may have changed, or seats have become free.
    pub(crate) changed: Notify,
    pub(crate) refresh_after: Duration,
    /// How much all sessions hash that want work.
    pub(crate) fleet: Arc<Fleet>,
}

/// One target: its configuration and what is known of the pool just now.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) index: usize,
    pub(crate) config: Target,
    /// Connections wanted; tasks with a higher index rest.
    pub(crate) wanted: watch::Sender<u32>,
    /// A further connection was given the extranonce1 of another, and no lanes are left: it was of no use.
    adds_none: AtomicBool,
    /// Connections that miners have to themselves; `None` where they share them.
    own: Option<Mutex<OwnConnections>>,
    state: Mutex<PoolState>,
    tripwire: Mutex<Tripwire>,
}

/// The connections to a target that miners have to themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnConnections {
    pub(crate) count: u32,
    /// The last that was tried could be made, or none was tried.
    pub(crate) works: bool,
}

/// What is known of a pool.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct PoolState {
    /// Version bits it lets us roll, as last told.
    #[serde(skip)]
    pub(crate) mask: Option<VersionMask>,
    /// Its difficulty at the newest job.
    pub(crate) difficulty: Option<f64>,
    /// Length of its extranonce1.
    pub(crate) extranonce1_size: Option<usize>,
    /// Its extranonce2_size.
    pub(crate) extranonce2_size: Option<u8>,
    /// Why the last connection ended.
    pub(crate) last_fault: Option<String>,
    /// Until when others are mined at instead, if there are any.
    #[serde(skip)]
    quarantined_until: Option<Instant>,
}

/// How long a pool that misbehaves is put aside, each time.
const QUARANTINE: Duration = Duration::from_secs(600);

impl Pool {
    /// `is_own` where each miner gets a connection of its own.
    pub(crate) fn new(index: usize, config: Target, is_own: bool) -> Arc<Self> {
        Arc::new(Self {
            index,
            config,
            wanted: watch::Sender::new(1),
            adds_none: AtomicBool::new(false),
            own: is_own.then(|| Mutex::new(OwnConnections { count: 0, works: true })),
            state: Mutex::default(),
            tripwire: Mutex::default(),
        })
    }

    pub(crate) fn state(&self) -> PoolState {
        self.state.lock().clone()
    }

    /// What the target is to see of the fleet.
    pub(crate) fn load_rules(&self) -> LoadRules {
        let Target { shares_per_sec, shares_per_sec_max, hold_max, .. } = self.config;
        LoadRules { shares_per_sec, shares_per_sec_max, hold_max }
    }

    /// The connections that miners have to themselves, where they do.
    pub(crate) fn own_connections(&self) -> Option<OwnConnections> {
        self.own.as_ref().map(|own| *own.lock())
    }

    /// Takes the place of a connection that a miner will have to itself. `None` at the cap.
    pub(crate) fn own_place(self: &Arc<Self>) -> Option<OwnPlace> {
        let mut own = self.own.as_ref()?.lock();
        if own.count >= self.config.max_connections {
            return None;
        }
        own.count += 1;
        drop(own);
        Some(OwnPlace { pool: self.clone() })
    }

    /// Asks for one more connection, up to the target's cap. Returns whether there is room for one.
    pub(crate) fn want_another(&self, than: u32) -> bool {
        let cap = self.config.max_connections;
        self.wanted.send_if_modified(|wanted| {
            let more = (than + 1).min(cap);
            let changed = more > *wanted;
            *wanted = more.max(*wanted);
            changed
        });
        than < cap
    }
}

impl Pools {
    /// Whether some target can ever seat a session whose slot `depth` sessions hold. One that is not known yet may.
    pub(crate) fn have_room(&self, depth: u32) -> bool {
        self.targets.iter().any(|pool| {
            let Some(size) = pool.state.lock().extranonce2_size else { return true };
            match self.placement.lane_width(size) {
                Err(_) => false,
                Ok(0) if pool.adds_none.load(Ordering::Relaxed) => {
                    depth <= self.placement.target_state(pool.index).ready.max(1)
                }
                Ok(0) => depth <= pool.config.max_connections,
                Ok(_) => true,
            }
        })
    }

    /// The version bits to grant to a new session: those that all targets roll, as far as is known. Firmware without a handler
    /// for `set_version_mask` cannot be told of fewer later.
    pub(crate) fn common_mask(&self) -> VersionMask {
        common_mask(self.targets.iter().map(|pool| pool.state.lock().mask))
    }

    /// What the target's connections hold just now.
    pub(crate) fn health(&self, pool: &Pool) -> TargetHealth {
        let state = self.placement.target_state(pool.index);
        // One connection that still brings jobs is enough.
        let quiet = state.ready > 0 && state.quiet == state.ready;
        let rules = pool.load_rules();
        let pool = pool.state.lock();
        let quarantined = pool.quarantined_until.is_some_and(|until| clock::now() < until);
        let difficulty = pool.difficulty.and_then(Difficulty::new);
        let low = difficulty.is_some_and(|difficulty| load::is_low(&rules, &self.fleet, difficulty));
        TargetHealth { ready: state.ready > 0, quarantined, quiet, low, mask: pool.mask }
    }

    /// Puts a target aside for a while: others are mined at instead, if there are any.
    fn quarantine(&self, pool: &Pool, reason: &'static str, now: Instant) {
        let until = pool.state.lock().quarantined_until.replace(now + QUARANTINE);
        if until.is_none_or(|until| until <= now) {
            self.books.metrics.alarm("quarantined");
            error!(reason, "put aside: other targets are mined at, if there are any");
            self.changed.notify_one();
        }
    }

    /// Writes down how forwarded shares ended.
    fn count(&self, pool: &Pool, settled: &mut Vec<Settled>) {
        for mut settled in settled.drain(..) {
            self.books.settled(pool.index, &mut settled);
            if let (SettledAs::Unresolved, Some(proof)) = (settled.outcome, settled.block) {
                self.books.metrics.blocks_lost.inc();
                let header = const_hex::encode(proof.header);
                error!(%header, "block_lost: its upstream was lost before it answered");
            }
        }
    }
}

/// The place of a connection that a miner has to itself, given back by dropping it.
#[derive(Debug)]
pub(crate) struct OwnPlace {
    pool: Arc<Pool>,
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        if let Some(own) = &self.pool.own {
            own.lock().count -= 1;
        }
    }
}

/// Carries one connection that a miner has to itself to its end, and returns why it ended.
pub(crate) async fn run_own(pools: Arc<Pools>, pool: Arc<Pool>, cancel: CancellationToken) -> &'static str {
    let ended = attempt(&pools, &pool, &mut Course::default(), &cancel).await;
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

/// The bits of all `masks` (`None`: not known yet), but never so few that firmware would stop rolling: an S19 wants three
/// bits, an S17 bits 22 and 23 (PROTOCOL 2.6). A target that would leave less is passed over, and so is one that refuses
/// rolling, for it serves only miners that do not roll. Where all refuse, nobody is to roll: whoever does could not mine.
fn common_mask(masks: impl Iterator<Item = Option<VersionMask>>) -> VersionMask {
    let mut masks = masks.peekable();
    // A miner with a connection of its own shares no target.
    let (mut common, mut all_refuse) = (VersionMask::BIP320, masks.peek().is_some());
    for mask in masks {
        let mask = mask.unwrap_or(VersionMask::BIP320).and(VersionMask::BIP320);
        all_refuse &= mask.is_empty();
        let both = common.and(mask);
        if suits_firmware(both) {
            common = both;
        }
    }
    if all_refuse { VersionMask::NONE } else { common }
}

/// Why a connection ended.
#[derive(Debug)]
struct Ended {
    reason: &'static str,
    detail: String,
    /// It had a job: the next attempt may come soon.
    worked: bool,
}

/// Where a connection's task goes next, and what its pool has asked of it so far.
#[derive(Debug, Default)]
struct Course {
    manners: Manners,
    /// When to leave for the next connection, and where to.
    leave: Option<(Instant, Option<HostPort>)>,
    next: Option<HostPort>,
}

/// Keeps connection `index` of a target up for as long as it is wanted.
pub(crate) async fn run(pools: Arc<Pools>, pool: Arc<Pool>, index: u32, cancel: CancellationToken) {
    let mut wanted = pool.wanted.subscribe();
    let mut backoff = Backoff::default();
    let mut course = Course::default();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            enough = wanted.wait_for(|wanted| *wanted > index) => if enough.is_err() { return },
        }
        let span = info_span!("upstream", upstream = %pool.config.name, connection = index);
        let ended = attempt(&pools, &pool, &mut course, &cancel).instrument(span.clone()).await;
        if cancel.is_cancelled() {
            return;
        }
        let counters = pools.books.metrics.target(Some(pool.index));
        if ended.worked {
            counters.reconnects.inc();
            backoff.worked();
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
async fn attempt(pools: &Arc<Pools>, pool: &Arc<Pool>, course: &mut Course, cancel: &CancellationToken) -> Ended {
    let ended = |reason, detail| Ended { reason, detail, worked: false };
    // Only once: when that connection ends, it is the configured place again.
    let at = course.next.take().unwrap_or_else(|| pool.config.at());
    let stream = tokio::select! {
        () = cancel.cancelled() => return ended("shutdown", String::new()),
        connected = connect::connect(&pool.config, &at) => match connected {
            Ok(stream) => stream,
            Err(Fault { reason, detail }) => return ended(reason, detail),
        },
    };
    let id = pools.placement.next_connection_id();
    let load = Load::limited(pools.fleet.clone(), pool.config.shares_per_sec_max);
    let mut sizing = Sizing::new(pool.load_rules(), load.clone(), clock::now());
    let suggest = pool.config.suggest_difficulty.or_else(|| sizing.first_ask(clock::now()));
    let (upstream, queues) = Upstream::under(id, pool.index, load);
    let mut carrier = Carrier {
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
            pools.deadlines.clone(),
            pool.config.start_difficulty,
            clock::now(),
        ),
        has_job: false,
        refreshed_at: clock::now(),
        probing: false,
        tick_at: clock::now(),
        gather_until: clock::now(),
        course: std::mem::take(course),
        sizing,
        settled: Vec::new(),
    };
    let (reason, detail) = carrier.carry(cancel).await;
    let worked = carrier.has_job;
    *course = std::mem::take(&mut carrier.course);
    // A leave that was still to come belongs to the connection that is gone; its destination does not.
    course.next = course.next.take().or(course.leave.take().and_then(|(_, to)| to));
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

/// The state of one connection's task.
struct Carrier {
    pools: Arc<Pools>,
    pool: Arc<Pool>,
    upstream: Arc<Upstream>,
    queues: SubmitQueues,
    stream: PoolStream,
    splitter: Splitter,
    outgoing: Outgoing,
    session: PoolSession,
    has_job: bool,
    refreshed_at: Instant,
    probing: bool,
    /// When deadlines are next looked at.
    tick_at: Instant,
    /// Shares that come before go out together.
    gather_until: Instant,
    course: Course,
    sizing: Sizing,
    /// How shares have ended that are to be written down.
    settled: Vec<Settled>,
}

/// Most shares of one write.
const BATCH_MAX: usize = 256;
/// How long further shares are gathered after some were written. One that comes alone goes at once; of a crowd, each write
/// and each answer carries several. A block never waits.
const GATHER: Duration = Duration::from_millis(1);
/// Shares are not taken from the queue while so many bytes wait for the pool's socket.
const OUTGOING_FULL: usize = 16 * 1024;
/// A pool for which so many wait asks much and reads nothing: it is left.
const OUTGOING_MAX: usize = 256 * 1024;
/// Reads in a row: then shares, answers and other tasks have their turn, however much the pool says.
const READS_MAX: u32 = 8;

impl Carrier {
    /// Moves bytes until the connection ends, and says why it did.
    async fn carry(&mut self, cancel: &CancellationToken) -> (&'static str, String) {
        let mut first = Vec::new();
        self.session.start(&mut first);
        self.outgoing.push(&first);
        let (probed, mut probe_result) = mpsc::channel(1);
        let mut shares = Vec::with_capacity(BATCH_MAX);
        let mut reads = 0;
        loop {
            if let Err(failure) = self.outgoing.write(&mut self.stream) {
                return (fault_reason(&failure, "write"), failure.to_string());
            }
            if self.outgoing.len() > OUTGOING_MAX {
                self.pools.books.metrics.alarm("not_reading");
                return ("not_reading", format!("{} bytes wait for the pool to read them", self.outgoing.len()));
            }
            let now = clock::now();
            self.upstream.set_suspect(self.session.is_suspect(now));
            // By the clock and not by a pause: a busy connection never pauses.
            let look_at = self.session.held_until().map_or(self.tick_at, |held| held.min(self.tick_at));
            if now >= look_at {
                if let Err(end) = self.tick(&probed) {
                    return end;
                }
                self.tick_at = now + self.session.tick_every();
                continue;
            }
            let gathering = now < self.gather_until;
            let room = self.outgoing.len() < OUTGOING_FULL && !gathering;
            let wake_at = if gathering { look_at.min(self.gather_until) } else { look_at };
            let wake_at = tokio::time::Instant::from_std(wake_at);
            let in_a_row = std::mem::take(&mut reads);
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => return ("shutdown", String::new()),
                Some(share) = self.queues.urgent.recv() => { self.urgent(share); Ok(()) }
                ready = self.stream.readable(), if in_a_row < READS_MAX => match ready {
                    Ok(()) => {
                        reads = in_a_row + 1;
                        self.read()
                    }
                    Err(failure) => Err(("read", failure.to_string())),
                },
                _ = self.stream.writable(), if !self.outgoing.is_empty() || self.stream.wants_write() => Ok(()),
                _ = self.queues.submits.recv_many(&mut shares, BATCH_MAX), if room => { self.forward(&mut shares); Ok(()) }
                Some(alive) = probe_result.recv() => self.probed(alive),
                () = tokio::time::sleep_until(wake_at) => Ok(()),
                () = tokio::task::yield_now(), if in_a_row >= READS_MAX => Ok(()),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    fn forward(&mut self, shares: &mut Vec<UpstreamShare>) {
        let now = clock::now();
        let mut bytes = Vec::with_capacity(160 * shares.len());
        let mut settled = Vec::new();
        for share in shares.drain(..) {
            self.session.share(share, now, &mut bytes, &mut settled);
        }
        self.pools.count(&self.pool, &mut settled);
        self.outgoing.push(&bytes);
        self.gather_until = now + GATHER;
    }

    /// A share that meets the network target goes ahead of everything that is not yet on the wire.
    fn urgent(&mut self, share: UpstreamShare) {
        let mut bytes = Vec::new();
        let header = share.block.as_ref().map(|proof| const_hex::encode(proof.header)).unwrap_or_default();
        self.session.share(share, clock::now(), &mut bytes, &mut Vec::new());
        self.outgoing.push_first(&bytes);
        info!(%header, "share meets the network target: forwarded");
        if let Err(failure) = self.outgoing.write(&mut self.stream) {
            // The connection ends by it and settles the share, with the alarm.
            warn!(%failure, "its upstream's socket failed");
        }
    }

    /// Reads once, and hears each line.
    fn read(&mut self) -> Result<(), (&'static str, String)> {
        let mut scratch = [0; 16 * 1024];
        let read = match self.stream.try_read(&mut scratch) {
            Ok(0) => return Err(("closed", "the pool closed the connection".into())),
            Ok(read) => read,
            Err(failure) if failure.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(failure) => return Err((fault_reason(&failure, "read"), failure.to_string())),
        };
        let now = clock::now();
        let mut input = &scratch[..read];
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let fault = loop {
            match self.splitter.next_line(&mut input) {
                Ok(Some(line)) => {
                    #[cfg(test)]
                    tests::failpoint(line);
                    self.session.line(line, now, &mut out, &mut events, &mut self.settled);
                }
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        self.outgoing.push(&out);
        self.pools.count(&self.pool, &mut self.settled);
        for event in events {
            self.event(event, now)?;
        }
        let Some(fault) = fault else { return Ok(()) };
        self.pools.books.metrics.alarm("upstream_line_too_long");
        Err(("upstream_line_too_long", fault.to_string()))
    }

    fn event(&mut self, event: PoolEvent, now: Instant) -> Result<(), (&'static str, String)> {
        match event {
            PoolEvent::Subscribed { extranonce1, extranonce2_size } => {
                self.sized(&extranonce1, extranonce2_size)?;
                self.pools
                    .placement
                    .connection_up(&self.upstream, &extranonce1, extranonce2_size)
                    .map_err(|misfit| self.misfit(&misfit))?;
                if let Some(own) = &self.pool.own {
                    own.lock().works = true;
                    // The miner's subscribe waits for it.
                    self.pools.changed.notify_one();
                }
                Ok(())
            }
            PoolEvent::Authorized => {
                info!(user = ?self.pool.config.user, "authorized");
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
                self.refreshed_at = now;
                if let Some(new) = new {
                    self.has_job = true;
                    if let Some(after) = new.former_took {
                        self.pools.books.metrics.target(Some(self.pool.index)).fanned_out(after);
                    }
                    if new.first {
                        info!(difficulty = difficulty.get(), "upstream has work");
                    }
                    // Sessions that wait for a seat may find one on a new job.
                    if new.first || was_quiet || !new.repeated {
                        self.pools.changed.notify_one();
                    }
                }
                Ok(())
            }
            PoolEvent::Extranonce { extranonce1, extranonce2_size } => {
                info!(extranonce2_size, "pool changed our extranonce");
                self.sized(&extranonce1, extranonce2_size)?;
                self.pools
                    .placement
                    .extranonce(&self.upstream, &extranonce1, extranonce2_size)
                    .map_err(|misfit| self.misfit(&misfit))
            }
            PoolEvent::Alarm { what, detail } => {
                self.alarm(what, &detail, now);
                Ok(())
            }
            PoolEvent::Ignored(what) => {
                self.pools.books.metrics.ignored(what);
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
            PoolEvent::Dead { reason, detail } => {
                self.pools.books.metrics.alarm(reason);
                Err((reason, detail))
            }
        }
    }

    /// Counts something odd, and tells of it unless the like was told of just now.
    fn alarm(&mut self, what: &'static str, detail: &str, now: Instant) {
        self.pools.books.metrics.alarm(what);
        if self.course.manners.is_news(what, now) {
            warn!(what, ?detail, "pool did something odd");
        }
    }

    fn reconnect(&mut self, asked: &Redirect, now: Instant) {
        let config = &self.pool.config;
        let random = rand::random();
        match self.course.manners.reconnect(asked, &config.at(), &config.reconnect_hosts, random, now) {
            Reaction::Stay(alarm) => self.alarm(alarm, &format!("{asked:?}"), now),
            Reaction::Leave { to, at } => {
                info!(to = ?to.as_ref().map(ToString::to_string), wait = ?(at - now), "the pool asks us to connect anew");
                self.course.leave = Some((at, to));
            }
            Reaction::Quarantine => {
                self.alarm("reconnect_too_often", &format!("{asked:?}"), now);
                self.pools.quarantine(&self.pool, "reconnect_too_often", now);
            }
        }
    }

    /// Looks at what a job gives away of its pool.
    fn look(&mut self, job: &Job, now: Instant) {
        if tripwire::is_time_off(job.ntime, clock::wall().as_second()) {
            self.alarm("time_off", &format!("a job of {} by Unix time", job.ntime), now);
        }
        let policy = self.pool.config.on_payout_change;
        let Some(extranonce) = self.session.extranonce_len().filter(|_| policy != OnPayoutChange::Ignore) else {
            return;
        };
        let learn = policy == OnPayoutChange::Alarm;
        let Some(change) = self.pool.tripwire.lock().look(job, extranonce, learn, now) else { return };
        if change.news {
            self.pools.books.metrics.alarm("payout_fingerprint_changed");
            error!(detail = ?change.detail, "payout_fingerprint_changed");
        }
        if change.payees && policy == OnPayoutChange::FailOver {
            self.pools.quarantine(&self.pool, "payout_fingerprint_changed", now);
        }
    }

    /// Notes what the pool has assigned. An error where it brings no space that another connection does not have.
    fn sized(&self, extranonce1: &[u8], extranonce2_size: u8) -> Result<(), (&'static str, String)> {
        let mut state = self.pool.state.lock();
        state.extranonce1_size = Some(extranonce1.len());
        state.extranonce2_size = Some(extranonce2_size);
        drop(state);
        let adds = self.pools.placement.adds_space(&self.upstream, extranonce1, extranonce2_size);
        self.pool.adds_none.store(!adds, Ordering::Relaxed);
        if adds {
            return Ok(());
        }
        self.pools.books.metrics.alarm("no_search_space");
        Err(("adds_no_space", "same extranonce1 as another connection, and no lanes left".to_owned()))
    }

    fn misfit(&self, misfit: &crate::placement::DoesNotFit) -> (&'static str, String) {
        self.pools.books.metrics.alarm("does_not_fit");
        error!(%misfit, "target cannot be used");
        ("does_not_fit", misfit.to_string())
    }

    fn tick(&mut self, probed: &mpsc::Sender<bool>) -> Result<(), (&'static str, String)> {
        let now = clock::now();
        let mut events = Vec::new();
        let mut settled = Vec::new();
        self.session.tick(now, &mut events, &mut settled);
        self.pools.count(&self.pool, &mut settled);
        for event in events {
            self.event(event, now)?;
        }
        if let Some((_, to)) = self.course.leave.take_if(|(at, _)| now >= *at) {
            self.course.next = to;
            return Err(("reconnect", "the pool asked for it".into()));
        }
        if self.session.is_quiet(now) && !self.probing && !self.upstream.is_quiet() {
            self.probing = true;
            let target = self.pool.config.clone();
            let probed = probed.clone();
            let deadline = self.pools.deadlines.handshake;
            // Awaited through the channel; it ends by its own deadline.
            tokio::spawn(async move {
                let alive = probe::extranonce_size(&target, deadline).await.is_ok();
                let _ = probed.send(alive).await;
            });
        }
        if self.has_job && now >= self.refreshed_at + self.pools.refresh_after {
            self.refreshed_at = now;
            self.pools.placement.refresh(self.upstream.id);
        }
        self.size(now);
        Ok(())
    }

    /// Asks for the difficulty that suits the fleet, and counts what miners are held above.
    fn size(&mut self, now: Instant) {
        let state = self.pools.placement.target_state(self.pool.index);
        let may_ask = self.has_job && self.pool.config.suggest_difficulty.is_none();
        let look = self.sizing.look(self.session.difficulty(), state.seated > 0, may_ask, now);
        // Each connection of the target looks.
        let part = f64::from(state.ready.max(1));
        let counters = self.pools.books.metrics.target(Some(self.pool.index));
        counters.held(look.held.as_secs_f64() / part, look.uncredited / part);
        if let Some(difficulty) = look.ask {
            debug!(difficulty = difficulty.get(), "asking the pool for a difficulty");
            let mut bytes = Vec::new();
            self.session.suggest(difficulty, &mut bytes);
            self.outgoing.push(&bytes);
        }
    }

    /// The pool brought no job for long; another connection has asked whether it lives.
    fn probed(&mut self, alive: bool) -> Result<(), (&'static str, String)> {
        self.probing = false;
        if alive && !self.has_job {
            return Err(("no_job", "the pool lives, but this connection never got a job".into()));
        }
        if !alive {
            self.pools.books.metrics.alarm("silent");
            return Err(("silent", "no job for long, and a new connection got no answer".into()));
        }
        let state = self.pools.placement.target_state(self.pool.index);
        if state.ready > state.quiet + 1 {
            // Its neighbours have work: a new connection will too.
            return Err(("quiet", "no job for long, while other connections of the target had some".into()));
        }
        self.upstream.set_quiet(true);
        self.pools.books.metrics.alarm("quiet");
        self.pools.changed.notify_one();
        Ok(())
    }

    /// Lets everybody go: sessions move, shares in flight and in the queue stay unresolved.
    async fn end(&mut self) {
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

/// However its task ends, by a panic too (F76): its sessions must not sit on it for ever, nor wait for its answers.
impl Drop for Carrier {
    fn drop(&mut self) {
        if !self.upstream.is_alive() {
            return;
        }
        self.let_go();
        let mut settled = Vec::new();
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

/// Closes a queue and takes out what is in it, or is being put in just now: `try_recv` would miss the latter, and its
/// submit would never be answered.
async fn rest<T>(queue: &mut mpsc::Receiver<T>) -> Vec<T> {
    queue.close();
    let mut rest = Vec::new();
    while let Some(item) = queue.recv().await {
        rest.push(item);
    }
    rest
}

#[cfg(test)]
mod tests;
