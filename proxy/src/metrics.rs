//! Every metric of the proxy. Their meaning stands in docs/metrics.md.
//!
//! Labels come from the configuration (targets) and from lists in the code (outcomes, reasons): never from peers.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::outcome::{Outcome, Settled, SettledAs};
use crate::session::Correction;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    upstream: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// Counters of one target, taken once and counted on without a look-up.
#[derive(Debug)]
pub(crate) struct TargetCounters {
    accepted: Counter,
    local: Counter,
    at_risk: Counter,
    pool_rejected: Counter,
    unresolved: Counter,
    stale: Counter,
    duplicate: Counter,
    low_difficulty: Counter,
    unauthorized: Counter,
    malformed: Counter,
    overflow: Counter,
    work: Counter<f64, AtomicU64>,
    submit_duration: Histogram,
    pub(crate) up: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) reconnects: Counter,
}

/// The proxy's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    targets: Vec<Arc<TargetCounters>>,
    /// For submits whose job, and so target, is not known.
    nowhere: Arc<TargetCounters>,
    sessions: Family<StateLabel, Gauge>,
    closes: Family<ReasonLabel, Counter>,
    corrections: Family<StepLabel, Counter>,
    alarms: Family<ReasonLabel, Counter>,
    pub(crate) accepts: Counter,
    pub(crate) switches: Counter,
    pub(crate) blocks: Counter,
    pub(crate) blocks_lost: Counter,
    pub(crate) generation: Gauge,
    pub(crate) machines_shed: Gauge,
    pub(crate) reports_dropped: Counter,
}

/// Answer latencies: from a pool in the next room to one that is about to be given up.
const SUBMIT_BUCKETS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.2, 0.5, 1.0, 3.0, 5.0, 20.0];

impl Metrics {
    pub(crate) fn register(targets: &[&str], registry: &mut Registry) -> Arc<Self> {
        let registry = registry.sub_registry_with_prefix("tieline_proxy");
        let shares = Family::<OutcomeLabels, Counter>::default();
        registry.register("shares", "Submits by how they ended", shares.clone());
        let work = Family::<UpstreamLabel, Counter<f64, AtomicU64>>::default();
        registry.register("share_difficulty", "Summed difficulty of shares the pool took", work.clone());
        let durations = Family::<UpstreamLabel, Histogram>::new_with_constructor(|| Histogram::new(SUBMIT_BUCKETS));
        registry.register(
            "submit_duration_seconds",
            "From a share's forwarding to the pool's answer",
            durations.clone(),
        );
        let up = Family::<UpstreamLabel, Gauge>::default();
        registry.register("upstream_up", "1 when the target has a job to give", up.clone());
        let connections = Family::<UpstreamLabel, Gauge>::default();
        registry.register("upstream_connections", "Connections to the target that have a job", connections.clone());
        let reconnects = Family::<UpstreamLabel, Counter>::default();
        registry.register("upstream_reconnects", "Connections to the target that ended", reconnects.clone());
        let sessions = Family::<StateLabel, Gauge>::default();
        registry.register("sessions", "Miners' connections by state", sessions.clone());
        let closes = Family::<ReasonLabel, Counter>::default();
        registry.register("session_closes", "Miners' connections that ended, by reason", closes.clone());
        let corrections = Family::<StepLabel, Counter>::default();
        registry.register("corrections", "Steps taken with miners whose shares were all bad", corrections.clone());
        let alarms = Family::<ReasonLabel, Counter>::default();
        registry.register("alarms", "What somebody should look at, by reason", alarms.clone());
        let accepts = Counter::default();
        registry.register("accepts", "Connections accepted from miners", accepts.clone());
        let switches = Counter::default();
        registry.register("target_switches", "Changes of the target mined at", switches.clone());
        let blocks = Counter::default();
        registry.register("blocks", "Shares that met the network target", blocks.clone());
        let blocks_lost = Counter::default();
        registry.register("blocks_lost", "Such shares that were not delivered, or never answered", blocks_lost.clone());
        let generation = Gauge::default();
        registry.register("directive_generation", "Generation of the timeline held", generation.clone());
        let machines_shed = Gauge::default();
        registry.register("machines_shed", "Machines that may not run just now", machines_shed.clone());
        let reports_dropped = Counter::default();
        registry.register("reports_dropped", "Reports the switchboard was too slow to take", reports_dropped.clone());

        let counters = |upstream: &str| {
            let count =
                |outcome| shares.get_or_create(&OutcomeLabels { upstream: upstream.to_owned(), outcome }).clone();
            let label = UpstreamLabel { upstream: upstream.to_owned() };
            Arc::new(TargetCounters {
                accepted: count("accepted"),
                local: count("local"),
                at_risk: count("at_risk"),
                pool_rejected: count("pool_rejected"),
                unresolved: count("unresolved"),
                stale: count("stale"),
                duplicate: count("duplicate"),
                low_difficulty: count("low_difficulty"),
                unauthorized: count("unauthorized"),
                malformed: count("malformed"),
                overflow: count("overflow"),
                work: work.get_or_create(&label).clone(),
                submit_duration: durations.get_or_create(&label).clone(),
                up: up.get_or_create(&label).clone(),
                connections: connections.get_or_create(&label).clone(),
                reconnects: reconnects.get_or_create(&label).clone(),
            })
        };
        Arc::new(Self {
            targets: targets.iter().map(|name| counters(name)).collect(),
            nowhere: counters("none"),
            sessions,
            closes,
            corrections,
            alarms,
            accepts,
            switches,
            blocks,
            blocks_lost,
            generation,
            machines_shed,
            reports_dropped,
        })
    }

    /// The counters of a target.
    pub(crate) fn target(&self, target: Option<usize>) -> &Arc<TargetCounters> {
        target.and_then(|target| self.targets.get(target)).unwrap_or(&self.nowhere)
    }

    /// Counts a closed session.
    pub(crate) fn closed(&self, reason: &'static str) {
        self.closes.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a step taken with a miner whose shares were all bad.
    pub(crate) fn corrected(&self, correction: Correction) {
        let step = match correction {
            Correction::Renew => "renew",
            Correction::Reconnect => "reconnect",
            Correction::Close => "close",
        };
        self.corrections.get_or_create(&StepLabel { step }).inc();
    }

    /// Counts something that somebody should look at.
    pub(crate) fn alarm(&self, reason: &'static str) {
        self.alarms.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Shows how many sessions are in a state.
    pub(crate) fn sessions(&self, state: &'static str) -> Gauge {
        self.sessions.get_or_create(&StateLabel { state }).clone()
    }

    /// Sums all targets.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for target in self.targets.iter().chain([&self.nowhere]) {
            counts.accepted += target.accepted.get();
            // `at_risk` is a marked part of `local`, not a third count.
            counts.local += target.local.get() + target.at_risk.get();
            counts.at_risk += target.at_risk.get();
            counts.pool_rejected += target.pool_rejected.get();
            counts.unresolved += target.unresolved.get();
            counts.stale += target.stale.get();
            counts.duplicate += target.duplicate.get();
            counts.low += target.low_difficulty.get();
            counts.malformed += target.malformed.get() + target.unauthorized.get() + target.overflow.get();
            counts.reconnects += target.reconnects.get();
        }
        counts.switches = self.switches.get();
        counts.blocks = self.blocks.get();
        counts.blocks_lost = self.blocks_lost.get();
        counts
    }
}

impl TargetCounters {
    /// Counts a submit that ended here.
    pub(crate) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Local => &self.local,
            Outcome::AtRisk => &self.at_risk,
            Outcome::Stale => &self.stale,
            Outcome::Duplicate => &self.duplicate,
            Outcome::LowDifficulty => &self.low_difficulty,
            Outcome::Unauthorized => &self.unauthorized,
            Outcome::Malformed => &self.malformed,
            Outcome::Overflow => &self.overflow,
            Outcome::Unresolved => &self.unresolved,
        };
        counter.inc();
    }

    /// Counts a submit whose fate the pool decided, or left open.
    pub(crate) fn settle(&self, settled: &Settled) {
        match settled.outcome {
            SettledAs::Accepted => {
                self.accepted.inc();
                self.work.inc_by(settled.pool_difficulty);
            }
            SettledAs::Rejected => {
                self.pool_rejected.inc();
            }
            SettledAs::Stale => {
                self.stale.inc();
                return;
            }
            SettledAs::Unresolved => {
                self.unresolved.inc();
                return;
            }
        }
        self.submit_duration.observe(settled.latency.as_secs_f64());
    }
}

/// How all submits so far ended, over all targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The pool said true.
    pub accepted: u64,
    /// Below the pool's difficulty: answered true here.
    pub local: u64,
    /// The part of `local` that came while the upstream owed an answer.
    pub at_risk: u64,
    /// The pool said no.
    pub pool_rejected: u64,
    /// The upstream died or kept silent with the share in flight.
    pub unresolved: u64,
    /// For a job not held any more, or retired by its pool.
    pub stale: u64,
    /// Searched before.
    pub duplicate: u64,
    /// Missed the advertised difficulty.
    pub low: u64,
    /// Unreadable, against a rule, or not authorized.
    pub malformed: u64,
    /// Upstream connections that ended.
    pub reconnects: u64,
    /// Changes of the target mined at.
    pub switches: u64,
    /// Shares that met the network target.
    pub blocks: u64,
    /// Those of them that were not delivered, or never answered.
    pub blocks_lost: u64,
}
