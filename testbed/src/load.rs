//! The load tool: thousands of miners and a pool, to measure the Stratum V1 proxy between them.
//!
//! The pool runs on one thread and the miners on another, without an async runtime, so that the
//! tool adds as little as possible to what it measures. Shares are real, and no two are alike; they
//! are sent by the clock, whether or not answers come. A run without a peer, the *floor*, shows
//! what the tool itself adds to the figures.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

mod job;
mod line;
mod miner;
mod miners;
mod pool;
mod proc;
mod report;

pub use pool::{PoolCounts, PoolSettings};
pub use report::{
    Cpu, Failover, Fanout, Figures, Memory, Oddities, Percentiles, Report, Shares, Slope,
};

use job::Mark;
use miner::Habits;
use miners::Fleet;
use pool::{PoolBooks, Pools};
use proc::Usage;
use report::millis;

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// The pools of the tool; the peer must be configured to connect to them.
    pub pool: PoolSettings,
    pub miners: usize,
    /// How many miners connect at a time.
    pub connect_window: usize,
    /// Shares a second, of all miners together.
    pub rate: f64,
    /// How long shares are sent.
    pub span: Duration,
    /// How long only jobs are sent, before shares.
    pub idle: Duration,
    /// Also measure the memory of the peer when this many miners have connected and submitted.
    pub slope_from: Option<usize>,
    /// Roll version bits, if the peer grants them.
    pub version_rolling: bool,
    /// A worker's name is this and a number.
    pub worker: String,
    /// The password of all miners.
    pub password: String,
    pub pids: Vec<u32>,
    /// How long the peer may take to pass on its first job.
    pub wait: Duration,
    /// Close the first pool this long after the first share.
    pub kill_pool_at: Option<Duration>,
    /// Close the pool in use once per this time, the first and the second in turn. It listens again
    /// after half of that time.
    pub pool_dies_every: Option<Duration>,
    /// Whether to measure the floor first.
    pub with_floor: bool,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address of a pool is in use, or is not ours.
    #[error("the pool cannot listen on {listen}: {source}")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("cannot connect to {connect}: {source}")]
    Unreachable { connect: SocketAddr, source: io::Error },
    /// The peer disconnected a miner before that miner was ready.
    #[error("{connect}: {fault} ({ready} miners were ready)")]
    Handshake {
        connect: SocketAddr,
        fault: String,
        /// How many miners were ready when it did.
        ready: usize,
    },
    /// The peer sets a difficulty that a load tool cannot meet.
    #[error(
        "{connect} sets a difficulty above 2^-18: configure it to 2^-26 or easier, so that a share costs about 64 hashes"
    )]
    TooHard { connect: SocketAddr },
    /// The run needs more connections than this process may open.
    #[error(
        "{miners} miners need {needed} open files (the pool's side included), and this process may have {limit}"
    )]
    OpenFiles {
        /// The number of miners of the run.
        miners: usize,
        needed: u64,
        limit: u64,
    },
    /// A process of the peer does not exist, or cannot be read by us.
    #[error("cannot read the CPU time and memory of process {pids:?}")]
    Process { pids: Vec<u32> },
    /// The system reported an error to the tool.
    #[error("cannot {doing}: {source}")]
    Tool { doing: &'static str, source: io::Error },
}

/// A run whose pools already listen, so that a peer can be started with their addresses.
#[derive(Debug)]
pub struct Bench {
    config: LoadConfig,
    pools: Pools,
}

impl Bench {
    /// Opens the pools.
    ///
    /// # Errors
    /// When an address is in use, or when this process cannot open enough connections.
    pub fn open(config: LoadConfig) -> Result<Self, LoadError> {
        let limit = proc::raise_open_files();
        let needed = 2 * config.miners as u64 + OTHER_FILES;
        if needed > limit {
            return Err(LoadError::OpenFiles { miners: config.miners, needed, limit });
        }
        let pools = Pools::open(&config.pool)?;
        Ok(Self { config, pools })
    }

    /// Where the pools listen.
    #[must_use]
    pub fn pool_addrs(&self) -> &[SocketAddr] {
        &self.pools.addrs
    }

    /// Runs the miners against `connect` or, without one, directly against the tool's own pool.
    /// Progress is reported to `tell`.
    ///
    /// # Errors
    /// When the peer cannot be reached or does not serve the miners. Lost shares are no error: they
    /// are counted in the report.
    pub fn run(
        self,
        connect: Option<SocketAddr>,
        mut tell: impl FnMut(&str),
    ) -> Result<Report, LoadError> {
        let Self { config, pools } = self;
        let floor = match connect {
            Some(_) if config.with_floor => Some(floor(&config, &mut tell)?),
            _ => None,
        };
        let run =
            Run { config: &config, connect: connect.unwrap_or(pools.addrs[0]), tell: &mut tell };
        Ok(Report { measured: run.measure(pools)?, floor })
    }
}

/// Measures the floor, with a pool of its own, so that the peer's pool is not disturbed.
fn floor(config: &LoadConfig, tell: &mut dyn FnMut(&str)) -> Result<Figures, LoadError> {
    let any = SocketAddr::new(config.pool.listen.ip(), 0);
    let pool = PoolSettings { listen: any, second: None, ..config.pool.clone() };
    let alone = LoadConfig {
        pids: Vec::new(),
        slope_from: None,
        kill_pool_at: None,
        pool_dies_every: None,
        ..config.clone()
    };
    let pools = Pools::open(&pool)?;
    tell("the tool alone");
    Run { config: &alone, connect: pools.addrs[0], tell }.measure(pools)
}

struct Run<'a> {
    config: &'a LoadConfig,
    connect: SocketAddr,
    tell: &'a mut dyn FnMut(&str),
}

/// Intermediate results of a run.
struct Notes {
    ready: Duration,
    before: Option<Usage>,
    slope: Option<(usize, Usage)>,
    idle_from: Instant,
    mined_from: Instant,
    /// The number of the first share of the last phase.
    first_timed: u64,
    at_first_share: Option<Usage>,
    at_last_answer: Option<Usage>,
}

impl Run<'_> {
    fn measure(mut self, pools: Pools) -> Result<Figures, LoadError> {
        let config = self.config;
        self.probe(&pools)?;
        let before = self.usage()?;
        let mut fleet = self.fleet(&pools)?;
        let mut ready = Duration::ZERO;
        let mut slope = None;
        if let Some(first) = config.slope_from.filter(|first| *first < config.miners) {
            ready = fleet.join(first)?;
            self.say(format!("{first} miners ready after {:.0} ms", millis(ready)));
            // The rate is scaled, so that each of these miners gets as many jobs and shares as
            // later in the whole fleet.
            #[expect(clippy::cast_precision_loss, reason = "miners are bounded by open files")]
            let rate = config.rate * first as f64 / config.miners as f64;
            fleet.mine(rate, config.pool.job_every * 2, |_| ())?;
            fleet.drain(DRAIN, |_, _| true)?;
            slope = self.usage()?.map(|usage| (first, usage));
        }
        ready += fleet.join(config.miners)?;
        self.say(format!("{} miners ready after {:.0} ms", config.miners, millis(ready)));
        let idle_from = now();
        fleet.idle(config.idle)?;
        let mined_from = now();
        let first_timed = fleet.books.submitted();
        let at_first_share = self.usage()?;
        let mut deaths = Deaths::of(config);
        self.say(format!("{} shares/s for {:.0} s", config.rate, config.span.as_secs_f64()));
        fleet.mine(config.rate, config.span, |passed| {
            deaths.pass(passed, &pools);
        })?;
        fleet.drain(CATCH_UP, |books, miners| books.newest_was_read_by(miners))?;
        fleet.drain(DRAIN, |_, _| true)?;
        let at_last_answer = self.usage()?;
        let notes = Notes {
            ready,
            before,
            slope,
            idle_from,
            mined_from,
            first_timed,
            at_first_share,
            at_last_answer,
        };
        let books = pools.stop()?;
        Ok(self.figures(fleet, books, &notes))
    }

    /// Waits until the peer passes a job on: it may have just started, or may connect to its pool
    /// only now.
    fn probe(&mut self, pools: &Pools) -> Result<(), LoadError> {
        let until = now() + self.config.wait;
        loop {
            let mut fleet = self.fleet(pools)?;
            match fleet.join(1) {
                Ok(_) => return Ok(()),
                Err(error) if now() >= until => return Err(error),
                Err(LoadError::Handshake { .. } | LoadError::Unreachable { .. }) => {
                    std::thread::sleep(RETRY);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn fleet(&self, pools: &Pools) -> Result<Fleet, LoadError> {
        let LoadConfig { worker, password, version_rolling, .. } = self.config;
        let habits = Habits {
            worker: worker.clone(),
            password: password.clone(),
            version_rolling: *version_rolling,
        };
        Fleet::new(self.connect, pools.run, self.config.connect_window, habits)
    }

    fn usage(&self) -> Result<Option<Usage>, LoadError> {
        let pids = &self.config.pids;
        if pids.is_empty() {
            return Ok(None);
        }
        Usage::read(pids).map(Some).ok_or_else(|| LoadError::Process { pids: pids.clone() })
    }

    fn say(&mut self, words: String) {
        (self.tell)(&words);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run stay far below 2^52")]
    fn figures(&self, fleet: Fleet, pool: PoolBooks, notes: &Notes) -> Figures {
        let config = self.config;
        let books = &fleet.books;
        let spans = books.spans(notes.first_timed);
        let submitted = books.submitted();
        let timed = submitted - notes.first_timed;
        let cpu = notes.at_first_share.zip(notes.at_last_answer).map(|(from, until)| {
            let seconds = until.cpu_seconds - from.cpu_seconds;
            Cpu { seconds, per_100k_shares: seconds * 100_000.0 / timed.max(1) as f64 }
        });
        let memory = notes.before.zip(notes.at_last_answer).map(|(before, after)| {
            let each = |from: Usage, miners: usize| {
                (after.rss_kib as f64 - from.rss_kib as f64) / miners as f64
            };
            let slope = notes.slope.map(|(from_miners, from)| Slope {
                from_miners,
                from_kib: from.rss_kib,
                kib_per_session: each(from, config.miners - from_miners),
            });
            Memory {
                before_kib: before.rss_kib,
                after_kib: after.rss_kib,
                kib_per_session: each(before, config.miners),
                slope,
            }
        });
        let fanout = |from: Instant, until: Option<Instant>| {
            let (mut whole, mut incomplete) = (Vec::new(), 0);
            let sent_then = |sent: Instant| sent >= from && until.is_none_or(|until| sent < until);
            for sent in pool.jobs.iter().filter(|sent| sent_then(sent.from)) {
                let read = books.job(sent.mark);
                if !is_wanted(sent.mark, sent.from, &pool.deaths) {
                    continue;
                }
                match (read.first, read.last) {
                    (Some(first), Some(last)) if read.miners == config.miners => {
                        whole.push((last.saturating_duration_since(sent.from), last - first));
                    }
                    _ => incomplete += 1,
                }
            }
            Fanout::of(&whole, incomplete)
        };
        let failovers: Vec<Failover> = pool
            .deaths
            .iter()
            .map(|&(dead, died)| {
                let mut moves = books.moves().filter(|(to, _)| *to != dead).map(|(_, read)| read);
                let read = moves
                    .find(|read| read.first.is_some_and(|first| first >= died))
                    .unwrap_or_default();
                let since = |at: Option<Instant>| {
                    at.map_or(0.0, |at| millis(at.saturating_duration_since(died)))
                };
                Failover {
                    moved: read.miners,
                    first_ms: since(read.first),
                    last_ms: since(read.last),
                }
            })
            .collect();
        Figures {
            connect: self.connect.to_string(),
            miners: config.miners,
            ready_ms: millis(notes.ready),
            shares: Shares {
                submitted,
                timed,
                answered_true: books.answered_true,
                refused: books.refused.clone(),
                stale: books.stale,
                stale_percent: books.stale as f64 * 100.0 / submitted.max(1) as f64,
                unanswered: books.unanswered(),
                unsendable: books.unsendable,
                odd_answers: books.odd_answers,
            },
            answer_ms: Percentiles::of(spans.answers),
            send_late_ms: Percentiles::of(spans.late),
            jobs_idle: fanout(notes.idle_from, Some(notes.mined_from)),
            jobs_loaded: fanout(notes.mined_from, None),
            last_notify_at: books.last_notify.map(wall_of),
            disconnects: books.disconnects,
            pools: pool.counts[..1 + usize::from(config.pool.second.is_some())].to_vec(),
            cpu,
            memory,
            failovers,
            oddities: Oddities {
                unreadable_lines: books.unreadable,
                foreign_jobs: books.foreign_jobs,
                reconnects_asked: books.reconnects_asked,
            },
        }
    }
}

/// Whether every miner should have received this job: it must be from the first pool before that
/// died, then from the second pool before that died, and so on.
fn is_wanted(mark: Mark, sent: Instant, deaths: &[(usize, Instant)]) -> bool {
    let near = |died: Instant| sent < died + SETTLE && died < sent + SETTLE;
    let live = deaths.iter().rfind(|(_, died)| *died <= sent).map_or(0, |(dead, _)| 1 - dead);
    usize::from(mark.pool) == live && !deaths.iter().any(|(_, died)| near(*died))
}

/// When pools die and come back.
struct Deaths {
    at: Option<Duration>,
    every: Option<Duration>,
    /// How many have died.
    count: u32,
    /// The pool that is closed and will listen again.
    dead: Option<usize>,
}

impl Deaths {
    fn of(config: &LoadConfig) -> Self {
        let every = config.pool_dies_every;
        Self { at: config.kill_pool_at.or(every), every, count: 0, dead: None }
    }

    fn pass(&mut self, passed: Duration, pools: &Pools) {
        if let (Some(dead), Some(every)) = (self.dead, self.every)
            && passed >= every * self.count + every / 2
        {
            self.dead = None;
            pools.revive(dead);
        }
        if self.at.is_some_and(|at| passed >= at) {
            let pool = self.count as usize % pool::POOLS;
            pools.kill(pool);
            self.count += 1;
            self.dead = Some(pool);
            self.at = self.every.map(|every| every * (self.count + 1));
        }
    }
}

/// The wall clock time of `at`.
fn wall_of(at: Instant) -> Timestamp {
    let moment = crate::clock::moment();
    moment.wall.checked_sub(moment.at.saturating_duration_since(at)).unwrap_or(Timestamp::MIN)
}

fn now() -> Instant {
    crate::clock::now()
}

/// How many files are open besides the connections.
const OTHER_FILES: u64 = 64;
/// The longest wait for answers after the last share. Proxies give a share up after about twenty
/// seconds.
const DRAIN: Duration = Duration::from_secs(25);
/// The longest wait until every miner has read the newest job.
const CATCH_UP: Duration = Duration::from_secs(2);
/// The pause before connecting to the peer is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Jobs sent within this time of a pool's death need not reach every miner.
const SETTLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
