//! The summary of the demo: all counts at its end, compared with the promises.

use jiff::Timestamp;
use serde::Serialize;
use switchboard::commitment::Phase;

use crate::figures::grouped;
use crate::output::{LEAST_WIDTH, wrapped};

#[derive(Debug, Serialize)]
pub(super) struct Books {
    pub(super) miners: u64,
    pub(super) miners_counts: MinerBooks,
    pub(super) pools_counts: PoolBooks,
    pub(super) proxy_counts: ProxyBooks,
    /// Connections that were closed by the other side.
    pub(super) miner_disconnects: u64,
    pub(super) pool_switch: PoolSwitch,
    pub(super) lease: LeaseBooks,
    /// Whether every machine draws its power and every miner works again.
    pub(super) restored: bool,
}

/// The miners' own counts.
#[derive(Debug, Serialize)]
pub(super) struct MinerBooks {
    pub(super) submitted: u64,
    pub(super) answered_true: u64,
    pub(super) answered_error: u64,
    pub(super) unanswered: u64,
}

/// The sum of the pools' own counts.
#[derive(Debug, Default, Serialize)]
pub(super) struct PoolBooks {
    pub(super) accepted: u64,
    pub(super) stale: u64,
    pub(super) duplicate: u64,
    pub(super) low: u64,
    pub(super) unknown_job: u64,
    pub(super) malformed: u64,
    /// Stale shares that came more than a second after the retirement of their job.
    pub(super) stale_late: u64,
}

impl PoolBooks {
    pub(super) fn sum(pools: impl Iterator<Item = testbed::pool::Counts>) -> Self {
        pools.fold(Self::default(), |sum, pool| Self {
            accepted: sum.accepted + pool.total.accepted,
            stale: sum.stale + pool.total.stale,
            duplicate: sum.duplicate + pool.total.duplicate,
            low: sum.low + pool.total.low,
            unknown_job: sum.unknown_job + pool.total.unknown_job,
            malformed: sum.malformed + pool.total.malformed,
            stale_late: sum.stale_late + pool.stale_late,
        })
    }
}

/// The proxy's own counts.
#[derive(Debug, Serialize)]
pub(super) struct ProxyBooks {
    pub(super) local: u64,
    pub(super) at_risk: u64,
    pub(super) unresolved: u64,
    pub(super) stale: u64,
}

impl From<proxy::Counts> for ProxyBooks {
    fn from(counts: proxy::Counts) -> Self {
        let proxy::Counts { local, at_risk, unresolved, stale, .. } = counts;
        Self { local, at_risk, unresolved, stale }
    }
}

/// The effect of the pool's death on miners.
#[derive(Debug, Default, Serialize)]
pub(super) struct PoolSwitch {
    /// How many miners reconnected between the death and the return.
    pub(super) reconnects: u64,
    /// The longest time for which an unparked miner had no job of a live pool.
    pub(super) gap_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaseBooks {
    pub(super) committed_kw: f64,
    /// The lowest headroom by the simulated meter, from `ready_before` the start until the end.
    pub(super) headroom_min_kw: f64,
    pub(super) ready_before_met: bool,
    pub(super) proven_at: Option<Timestamp>,
    pub(super) state: Phase,
    pub(super) breached: bool,
    /// The number of the lease's machines that could only be starved of work.
    pub(super) unverified_machines: u32,
}

impl Books {
    /// The broken promises, as text.
    pub(super) fn broken(&self) -> Vec<String> {
        let (miners, pools, proxy, lease) =
            (&self.miners_counts, &self.pools_counts, &self.proxy_counts, &self.lease);
        let taken = pools.accepted + proxy.local;
        let checks = [
            (miners.submitted > 0, "somebody mined"),
            (
                miners.submitted == miners.answered_true + miners.answered_error,
                "every submit is answered",
            ),
            (miners.answered_true <= taken, "true is said only when it is true"),
            (taken <= miners.answered_true + proxy.unresolved, "nothing good is refused"),
            (pools.duplicate == 0, "no pool sees a duplicate"),
            (pools.low + pools.unknown_job + pools.malformed == 0, "no pool sees a bad share"),
            (pools.stale_late == 0, "shares are stale only within a second of a clean job"),
            (
                self.miner_disconnects == 0 && self.pool_switch.reconnects == 0,
                "no miner loses its connection",
            ),
            (
                lease.headroom_min_kw >= lease.committed_kw,
                "the power is free from ready_before to the end",
            ),
            (lease.ready_before_met, "it is proven in time"),
            (!lease.breached, "no breach"),
            (lease.unverified_machines == 0, "nothing rests on starving"),
            (self.restored, "the fleet comes back"),
        ];
        checks
            .into_iter()
            .filter(|(kept, _)| !kept)
            .map(|(_, promise)| promise.to_owned())
            .collect()
    }

    /// The summary as text for people.
    pub(super) fn told(&self) -> String {
        let (miners, pools, proxy, lease) =
            (&self.miners_counts, &self.pools_counts, &self.proxy_counts, &self.lease);
        let facts = [
            (
                "miners",
                format!(
                    "{} submitted, {} answered true, {} refused",
                    grouped(miners.submitted),
                    grouped(miners.answered_true),
                    grouped(miners.answered_error)
                ),
            ),
            (
                "pools",
                format!(
                    "{} accepted, {} stale, {} duplicate, {} low, {} unknown, {} malformed",
                    grouped(pools.accepted),
                    pools.stale,
                    pools.duplicate,
                    pools.low,
                    pools.unknown_job,
                    pools.malformed
                ),
            ),
            (
                "proxy",
                format!(
                    "{} local ({} at risk), {} stale, {} unresolved",
                    grouped(proxy.local),
                    proxy.at_risk,
                    proxy.stale,
                    proxy.unresolved
                ),
            ),
            (
                "pool switch",
                format!(
                    "{} reconnects, at most {} ms without a job; {} connections lost in all",
                    self.pool_switch.reconnects, self.pool_switch.gap_ms, self.miner_disconnects
                ),
            ),
            (
                "lease",
                format!(
                    "{:.1} kW committed, never less than {:.1} kW free; proven {} ({})",
                    lease.committed_kw,
                    lease.headroom_min_kw,
                    lease.proven_at.map_or_else(
                        || "never".into(),
                        |at| at.strftime("at %H:%M:%S UTC").to_string()
                    ),
                    if lease.ready_before_met { "in time" } else { "TOO LATE" }
                ),
            ),
            (
                "fleet",
                if self.restored {
                    "every machine mines again"
                } else {
                    "NOT ALL machines are back"
                }
                .to_owned(),
            ),
        ];
        let mut told = "\nThe books of all sides:\n".to_owned();
        for (whose, books) in facts {
            let books = wrapped(&books, LEAST_WIDTH, 14);
            told.push_str(&format!("{whose:<14}{}\n", books.trim()));
        }
        told
    }
}
