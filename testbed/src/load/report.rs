//! What a run measured, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::pool::PoolCounts;

mod table;

/// One run: the peer, and the tool's own floor beside it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was measured: the peer, or with no peer the tool alone.
    pub measured: Figures,
    /// The same miners straight at a pool of the tool, in the same run.
    pub floor: Option<Figures>,
}

/// The figures of one set of miners.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Where the miners connected.
    pub connect: String,
    pub miners: usize,
    /// From the first connection until all were authorized with a job; with a slope, both parts
    /// together.
    pub ready_ms: f64,
    /// Shares and their fates, as the miners saw them.
    pub shares: Shares,
    /// Submit written until its answer was read.
    pub answer_ms: Percentiles,
    /// How late the tool itself wrote submits, against the schedule.
    pub send_late_ms: Percentiles,
    /// Jobs while no shares were sent.
    pub jobs_idle: Fanout,
    /// Jobs while shares were sent.
    pub jobs_loaded: Fanout,
    /// When any miner last read a job: a peer may have stopped handing out work.
    pub last_notify_at: Option<Timestamp>,
    /// Ready miners whose connection ended.
    pub disconnects: u64,
    /// What the pools counted.
    pub pools: Vec<PoolCounts>,
    /// CPU time of the peer while shares were sent, if its processes were named.
    pub cpu: Option<Cpu>,
    /// Memory of the peer, if its processes were named.
    pub memory: Option<Memory>,
    /// What happened when pools died, one by one.
    pub failovers: Vec<Failover>,
    /// Lines that could not be read, jobs that are none of ours, and requests to reconnect.
    pub oddities: Oddities,
}

/// Shares and their fates.
#[derive(Debug, Clone, Serialize)]
pub struct Shares {
    pub submitted: u64,
    /// Of these, the ones whose answers are judged below: those of the last phase.
    pub timed: u64,
    pub answered_true: u64,
    /// Answered otherwise, by code and words.
    pub refused: BTreeMap<String, u64>,
    /// Refused because their job was over.
    pub stale: u64,
    /// The same, of all submitted.
    pub stale_percent: f64,
    /// Not answered at all.
    pub unanswered: u64,
    /// Due, but there was no session left to send them on.
    pub unsendable: u64,
    /// Answers to nothing, to another miner, or a second time.
    pub odd_answers: u64,
}

/// Percentiles of some spans, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    pub max: f64,
}

/// How jobs spread, over the jobs that every miner has read.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Fanout {
    /// How many jobs that were.
    pub jobs: usize,
    /// Jobs that some miners never read.
    pub incomplete: usize,
    /// The pool writes the job until the last miner has read it: median over the jobs.
    pub last_median_ms: f64,
    /// The same, the worst job.
    pub last_max_ms: f64,
    /// The first miner has read it until the last has: median over the jobs.
    pub spread_median_ms: f64,
}

/// CPU time of the peer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cpu {
    /// User and system, while shares were sent; the jobs of that time are in it.
    pub seconds: f64,
    /// The same for 100,000 shares.
    pub per_100k_shares: f64,
}

/// Resident memory of the peer; what the kernel holds for its sockets is not in it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Before the first miner.
    pub before_kib: u64,
    /// After all have submitted.
    pub after_kib: u64,
    /// The difference, for each miner.
    pub kib_per_session: f64,
    /// Between two sizes, for each miner that made the difference.
    pub slope: Option<Slope>,
}

/// Memory between two sizes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Slope {
    /// Miners at the smaller size.
    pub from_miners: usize,
    /// Memory when these had all submitted.
    pub from_kib: u64,
    /// What each further one took.
    pub kib_per_session: f64,
}

/// The death of the first pool.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Failover {
    /// Miners that got a job of the second pool.
    pub moved: usize,
    /// From the death until the first of them had it.
    pub first_ms: f64,
    /// Until the last of them had it.
    pub last_ms: f64,
}

/// What should not be.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Oddities {
    /// Lines that are no message, or notifies that are no job.
    pub unreadable_lines: u64,
    /// Jobs that the tool's pools have not made in this run.
    pub foreign_jobs: u64,
    /// Requests to connect elsewhere.
    pub reconnects_asked: u64,
}

impl Figures {
    /// Tells whether every share was answered and every miner kept its connection.
    #[must_use]
    pub const fn nothing_lost(&self) -> bool {
        self.shares.unanswered == 0 && self.shares.unsendable == 0 && self.disconnects == 0
    }
}

impl Percentiles {
    /// Sorts, and picks the nearest rank.
    pub(super) fn of(mut spans: Vec<Duration>) -> Self {
        spans.sort_unstable();
        let at = |per_mille: usize| {
            let rank = (spans.len() * per_mille).div_ceil(1000).max(1);
            spans.get(rank - 1).map_or(0.0, |span| millis(*span))
        };
        Self { p50: at(500), p99: at(990), p999: at(999), max: at(1000) }
    }
}

impl Fanout {
    /// Of whole jobs: sent until the last has it, and first until last.
    pub(super) fn of(whole: &[(Duration, Duration)], incomplete: usize) -> Self {
        let (to_last, spread): (Vec<_>, Vec<_>) = whole.iter().copied().unzip();
        Self {
            jobs: whole.len(),
            incomplete,
            last_max_ms: to_last.iter().max().map_or(0.0, |span| millis(*span)),
            last_median_ms: Percentiles::of(to_last).p50,
            spread_median_ms: Percentiles::of(spread).p50,
        }
    }
}

pub(super) fn millis(span: Duration) -> f64 {
    // Whole microseconds: more digits would only look precise.
    f64::from(u32::try_from(span.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let spans = (1..=1000).rev().map(Duration::from_millis).collect();
        let Percentiles { p50, p99, p999, max } = Percentiles::of(spans);
        assert_eq!([p50, p99, p999, max], [500.0, 990.0, 999.0, 1000.0]);
        assert_eq!(Percentiles::of(vec![Duration::from_micros(1500)]).p50, 1.5);
        assert_eq!(Percentiles::of(Vec::new()).max, 0.0);
    }

    #[test]
    fn a_fanout_is_told_by_its_middle_and_its_worst_job() {
        let ms = Duration::from_millis;
        let fanout = Fanout::of(&[(ms(9), ms(8)), (ms(5), ms(4)), (ms(6), ms(1))], 1);
        let Fanout { jobs, incomplete, last_median_ms, last_max_ms, spread_median_ms } = fanout;
        assert_eq!((jobs, incomplete), (3, 1));
        assert_eq!([last_median_ms, last_max_ms, spread_median_ms], [6.0, 9.0, 4.0]);
    }
}
