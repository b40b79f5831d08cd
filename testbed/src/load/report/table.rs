//! The report as a table for people: a row for each figure, with the floor beside the measured
//! value.

use std::fmt;

use super::{Fanout, Figures, Report};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&Figures> = std::iter::once(&self.measured).chain(&self.floor).collect();
        if self.floor.is_some() {
            writeln!(f, "{:<NAME$} {:>CELL$} {:>CELL$}", "", "measured", "the tool alone")?;
        }
        for (name, cell) in ROWS {
            let cells: Vec<String> =
                columns.iter().map(|figures| cell(figures).unwrap_or_default()).collect();
            // A row without a value is left out.
            if cells.iter().any(|cell| !cell.is_empty()) {
                write!(f, "{name:<NAME$}")?;
                cells.iter().try_for_each(|cell| write!(f, " {cell:>CELL$}"))?;
                writeln!(f)?;
            }
        }
        for (name, figures) in
            [("", Some(&self.measured)), ("the tool alone: ", self.floor.as_ref())]
        {
            for (why, count) in figures.iter().flat_map(|figures| &figures.shares.refused) {
                writeln!(f, "{name}refused {count}: {why}")?;
            }
        }
        Ok(())
    }
}

type Cell = fn(&Figures) -> Option<String>;

const ROWS: &[(&str, Cell)] = &[
    ("miners", |of| Some(of.miners.to_string())),
    ("all connected, authorized, with a job (ms)", |of| Some(format!("{:.0}", of.ready_ms))),
    ("answer p50 (ms)", |of| Some(format!("{:.2}", of.answer_ms.p50))),
    ("answer p99 (ms)", |of| Some(format!("{:.2}", of.answer_ms.p99))),
    ("answer p99.9 (ms)", |of| Some(format!("{:.2}", of.answer_ms.p999))),
    ("answer max (ms)", |of| Some(format!("{:.2}", of.answer_ms.max))),
    ("the tool's own lateness p99 / max (ms)", |of| {
        Some(format!("{:.2} / {:.2}", of.send_late_ms.p99, of.send_late_ms.max))
    }),
    ("idle: pool -> last miner, med. / max (ms)", |of| fanout(&of.jobs_idle)),
    ("idle: first -> last miner, median (ms)", |of| spread(&of.jobs_idle)),
    ("loaded: pool -> last miner, med. / max (ms)", |of| fanout(&of.jobs_loaded)),
    ("loaded: first -> last miner, median (ms)", |of| spread(&of.jobs_loaded)),
    ("CPU seconds / 100,000 shares", |of| Some(format!("{:.2}", of.cpu?.per_100k_shares))),
    ("RSS before / after (KiB)", |of| {
        Some(format!("{} / {}", of.memory?.before_kib, of.memory?.after_kib))
    }),
    ("RSS per session (KiB)", |of| Some(format!("{:.2}", of.memory?.kib_per_session))),
    ("RSS slope per further session (KiB)", |of| {
        Some(format!("{:.2}", of.memory?.slope?.kib_per_session))
    }),
    ("shares submitted", |of| Some(of.shares.submitted.to_string())),
    ("answered true", |of| Some(of.shares.answered_true.to_string())),
    ("refused", |of| Some(of.shares.refused.values().sum::<u64>().to_string())),
    ("stale", |of| Some(format!("{} ({:.3} %)", of.shares.stale, of.shares.stale_percent))),
    ("unanswered / not sendable", |of| {
        Some(format!("{} / {}", of.shares.unanswered, of.shares.unsendable))
    }),
    ("answers to nothing or twice", |of| some(of.shares.odd_answers)),
    ("disconnects", |of| Some(of.disconnects.to_string())),
    ("pool: accepted", |of| {
        Some(of.pools.iter().map(|pool| pool.accepted).sum::<u64>().to_string())
    }),
    ("pool: stale", |of| some(of.pools.iter().map(|pool| pool.stale).sum())),
    ("pool: low / duplicate", |of| {
        let (low, twice) =
            of.pools.iter().fold((0, 0), |sum, pool| (sum.0 + pool.low, sum.1 + pool.duplicate));
        (low + twice > 0).then(|| format!("{low} / {twice}"))
    }),
    ("pool: unknown job / malformed", |of| {
        let (unknown, bad) = of
            .pools
            .iter()
            .fold((0, 0), |sum, pool| (sum.0 + pool.unknown, sum.1 + pool.malformed));
        (unknown + bad > 0).then(|| format!("{unknown} / {bad}"))
    }),
    ("pool: connections", |of| {
        Some(of.pools.iter().map(|pool| pool.connections).sum::<u64>().to_string())
    }),
    ("pools that died", |of| some(of.failovers.len() as u64)),
    ("pool dies -> first / last moved, worst (ms)", |of| {
        let worst =
            of.failovers.iter().max_by(|one, other| one.last_ms.total_cmp(&other.last_ms))?;
        Some(format!("{:.1} / {:.1}", worst.first_ms, worst.last_ms))
    }),
    ("miners moved, fewest", |of| {
        Some(of.failovers.iter().map(|failover| failover.moved).min()?.to_string())
    }),
    ("lines that could not be read", |of| some(of.oddities.unreadable_lines)),
    ("jobs that no pool of this run has made", |of| some(of.oddities.foreign_jobs)),
    ("requests to connect elsewhere", |of| some(of.oddities.reconnects_asked)),
];

fn fanout(jobs: &Fanout) -> Option<String> {
    let incomplete = if jobs.incomplete > 0 {
        format!(" ({} incomplete)", jobs.incomplete)
    } else {
        String::new()
    };
    (jobs.jobs + jobs.incomplete > 0)
        .then(|| format!("{:.1} / {:.1}{incomplete}", jobs.last_median_ms, jobs.last_max_ms))
}

fn spread(jobs: &Fanout) -> Option<String> {
    (jobs.jobs > 0).then(|| format!("{:.1}", jobs.spread_median_ms))
}

fn some(count: u64) -> Option<String> {
    (count > 0).then(|| count.to_string())
}

/// The width of a name. With two cells and the spaces between them it fills 80 columns.
const NAME: usize = 44;
const CELL: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_beside_the_tool_alone_fits_80_columns() {
        assert_eq!(NAME + 2 * (1 + CELL), 80);
        for (name, _) in ROWS {
            assert!(name.len() <= NAME, "{name}");
        }
    }
}
