//! All metrics of the proxy, a struct for each table of docs/metrics.md. Each struct stands beside
//! what it measures; here they are put together.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

use crate::control::metrics::ControlMetrics;
use crate::ends::metrics::ShareMetrics;
use crate::outcome::Outcome;
use crate::reasons::Alarm;
use crate::reasons::metrics::Alarms;
use crate::series::TargetLabels;
use crate::sessions::metrics::SessionMetrics;
use crate::share_log::metrics::ShareLogMetrics;
use crate::target_metrics::TargetMetrics;

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) shares: ShareMetrics,
    pub(crate) targets: TargetMetrics,
    pub(crate) sessions: SessionMetrics,
    pub(crate) control: ControlMetrics,
    pub(crate) share_log: ShareLogMetrics,
    pub(crate) alarms: Alarms,
}

impl Metrics {
    pub(crate) fn register(targets: &TargetLabels, registry: &mut Registry) -> Arc<Self> {
        let registry = registry.sub_registry_with_prefix("tieline_proxy");
        let alarms = Alarms::register(registry);
        Arc::new(Self {
            shares: ShareMetrics::register(targets, registry),
            targets: TargetMetrics::register(targets, registry),
            sessions: SessionMetrics::register(targets, registry),
            control: ControlMetrics::register(&alarms, registry),
            share_log: ShareLogMetrics::register(&alarms, registry),
            alarms,
        })
    }

    /// Counts an alarm.
    pub(crate) fn alarm(&self, alarm: Alarm) {
        self.alarms.raise(alarm);
    }

    pub(crate) fn counts(&self) -> Counts {
        let ended = |outcome: Outcome| self.shares.sum(outcome);
        let at_risk = ended(Outcome::AtRisk);
        Counts {
            accepted: ended(Outcome::Accepted),
            // `at_risk` is a marked part of `local`, not a third count.
            local: ended(Outcome::Local) + at_risk,
            at_risk,
            pool_rejected: ended(Outcome::PoolRejected),
            unresolved: ended(Outcome::Unresolved),
            stale: ended(Outcome::Stale),
            duplicate: ended(Outcome::Duplicate),
            low: ended(Outcome::LowDifficulty),
            malformed: ended(Outcome::Malformed)
                + ended(Outcome::Unauthorized)
                + ended(Outcome::Overflow),
            reconnects: self.targets.reconnects(),
            switches: self.targets.switches.get(),
            blocks: self.shares.blocks.get(),
            blocks_lost: self.shares.blocks_lost.get(),
        }
    }
}

/// The counts of all submits so far by outcome, over all targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The pool said true.
    pub accepted: u64,
    /// Below the pool's difficulty: answered true here.
    pub local: u64,
    /// The part of `local` that came while an answer of the upstream was overdue.
    pub at_risk: u64,
    /// The pool said no.
    pub pool_rejected: u64,
    /// The upstream died, or did not answer, with the share in flight.
    pub unresolved: u64,
    /// Shares for a job that is no longer held, or was retired by its pool.
    pub stale: u64,
    pub duplicate: u64,
    /// Missed the advertised difficulty.
    pub low: u64,
    /// Unreadable, against a rule, or not authorized.
    pub malformed: u64,
    /// Upstream connections that ended.
    pub reconnects: u64,
    /// Changes of the active target.
    pub switches: u64,
    /// Shares that met the network target.
    pub blocks: u64,
    /// Blocks that were not delivered, or never answered.
    pub blocks_lost: u64,
}

#[cfg(test)]
mod tests;
