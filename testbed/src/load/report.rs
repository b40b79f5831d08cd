//! The results of a run, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::pool::PoolCounts;

mod table;

/// The results of one run: the peer and, beside it, the floor.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The figures of the peer or, without a peer, of the tool alone.
    pub measured: Figures,
    /// The floor: the same miners connected directly to a pool of the tool, in the same run.
    pub floor: Option<Figures>,
}

/// The figures of one set of miners.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Where the miners connected.
    pub connect: String,
    pub miners: usize,
    /// The time from the first connection until all miners were authorized with a job. If the slope
    /// is measured, both parts together.
    pub ready_ms: f64,
    /// The shares by what became of them, as the miners saw it.
    pub shares: Shares,
    /// The time from writing a submit until its answer was read.
    pub answer_ms: Percentiles,
    /// How late the tool wrote submits, compared with its schedule.
    pub send_late_ms: Percentiles,
    /// The delivery of jobs while no shares were sent.
    pub jobs_idle: Fanout,
    /// The delivery of jobs while shares were sent.
    pub jobs_loaded: Fanout,
    /// When any miner last received a job. If this is early, the peer stopped sending jobs.
    pub last_notify_at: Option<Timestamp>,
    /// How many ready miners lost their connection.
    pub disconnects: u64,
    /// What the pools counted.
    pub pools: Vec<PoolCounts>,
    /// CPU time of the peer while shares were sent, if its processes were named.
    pub cpu: Option<Cpu>,
    /// The memory of the peer, if its processes were named.
    pub memory: Option<Memory>,
    /// For each death of a pool, how the miners moved.
    pub failovers: Vec<Failover>,
    /// Counts of what should not happen.
    pub oddities: Oddities,
}

/// Shares by what became of them.
#[derive(Debug, Clone, Serialize)]
pub struct Shares {
    pub submitted: u64,
    /// How many of the shares are in the figures below: those of the last phase.
    pub timed: u64,
    pub answered_true: u64,
    /// Shares refused, by the error's code and message.
    pub refused: BTreeMap<String, u64>,
    /// Shares refused because their job was stale.
    pub stale: u64,
    /// The stale shares in percent of all shares submitted.
    pub stale_percent: f64,
    /// Shares without an answer.
    pub unanswered: u64,
    /// Shares that were due when no session was left to send them.
    pub unsendable: u64,
    /// Answers to a submit that was not sent, was another miner's, or was answered before.
    pub odd_answers: u64,
}

/// Percentiles of durations, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    pub max: f64,
}

/// How long jobs take to reach all miners, over the jobs that every miner received.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Fanout {
    /// The number of jobs that every miner received.
    pub jobs: usize,
    /// The number of jobs that some miner never received.
    pub incomplete: usize,
    /// The time from the pool's first write of a job until the last miner has read it: the median
    /// over the jobs.
    pub last_median_ms: f64,
    /// The time from the pool's first write of a job until the last miner has read it: the maximum
    /// over the jobs.
    pub last_max_ms: f64,
    /// The time from the first miner that has read a job to the last: the median over the jobs.
    pub spread_median_ms: f64,
}

/// CPU time of the peer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cpu {
    /// User and system time while shares were sent. Jobs sent in that time are included.
    pub seconds: f64,
    /// User and system time per 100,000 shares.
    pub per_100k_shares: f64,
}

/// Resident memory of the peer, without the kernel's memory for its sockets.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Memory before the first miner connected.
    pub before_kib: u64,
    /// Memory after every miner has submitted.
    pub after_kib: u64,
    /// The growth of the memory from before to after, per miner.
    pub kib_per_session: f64,
    /// The memory per additional miner, measured between two sizes of the fleet.
    pub slope: Option<Slope>,
}

/// The memory per additional miner, measured between two sizes of the fleet.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Slope {
    /// The number of miners at the smaller size.
    pub from_miners: usize,
    /// Memory after each miner of the smaller size has submitted.
    pub from_kib: u64,
    /// Memory per additional miner.
    pub kib_per_session: f64,
}

/// How the miners moved when a pool died.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Failover {
    /// How many miners got a job of the other pool.
    pub moved: usize,
    /// The time from the death until the first miner had such a job.
    pub first_ms: f64,
    /// The time from the death until the last miner had such a job.
    pub last_ms: f64,
}

/// Counts of what should not happen.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Oddities {
    /// Lines that are not a message, and notifies that are not a job.
    pub unreadable_lines: u64,
    /// Jobs that the tool's pools did not send in this run.
    pub foreign_jobs: u64,
    /// `client.reconnect` messages.
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
    /// Computes the percentiles by nearest rank.
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
    /// Computes the figures from the jobs that every miner received: for each, the time from sent
    /// to last, and from first to last.
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
    // The value is rounded to microseconds: more digits would suggest a precision that is not
    // there.
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
