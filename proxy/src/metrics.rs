//! Every metric of the proxy. Their meaning stands in docs/metrics.md.
//!
//! Labels come from the configuration (targets) and from lists in the code (outcomes, reasons):
//! never from peers. Series that are known at the start are created at the start, so that a first
//! event shows as an increase.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use stratum::error::RejectCode;

use crate::handle::SessionState;
use crate::histogram::Histogram;
use crate::label::{Label, labels};
use crate::outcome::{AnsweredBy, Outcome};
use crate::reasons::{Alarm, CloseReason, Correction, IgnoredLine, Reject, Retarget};
use crate::target::{PerTarget, TargetId};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    target: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectLabels {
    by: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLabel {
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabels {
    target: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// Counters of one target. They are fetched once, so that counting needs no look-up.
#[derive(Debug)]
pub(crate) struct TargetCounters {
    /// Submits by how they ended.
    ends: [Counter; Outcome::COUNT],
    work: Counter<f64, AtomicU64>,
    submit_duration: Histogram,
    job_delivery: Histogram,
    job_fanout: Histogram,
    working: Gauge,
    pub(crate) up: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) reconnects: Counter,
    held_seconds: Counter<f64, AtomicU64>,
    held_work: Counter<f64, AtomicU64>,
}

type Histograms = Family<TargetLabel, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub(crate) struct Metrics {
    targets: PerTarget<Arc<TargetCounters>>,
    /// For submits whose job, and so target, is not known.
    nowhere: Arc<TargetCounters>,
    /// Our refusals, indexed by their reason, so that counting needs no look-up.
    rejects: [Counter; Reject::LABELS.len()],
    rejects_by_pool: Family<RejectLabels, Counter>,
    answered_here: Histogram,
    answered_by_pool: Histogram,
    sessions: Family<SessionLabels, Gauge>,
    closes: Family<ReasonLabel, Counter>,
    corrections: Family<StepLabel, Counter>,
    alarms: Family<ReasonLabel, Counter>,
    retargets: Family<ReasonLabel, Counter>,
    ignored: Family<ReasonLabel, Counter>,
    pub(crate) accepts: Counter,
    pub(crate) switches: Counter,
    pub(crate) blocks: Counter,
    pub(crate) blocks_lost: Counter,
    pub(crate) generation: Gauge,
    pub(crate) machines_shed: Gauge,
    pub(crate) reports_dropped: Counter,
    share_log_dropped: Family<ReasonLabel, Counter>,
    pub(crate) share_log_failing: Gauge,
}

labels! {
    /// Why a line of the share log is missing.
    pub(crate) enum Lost {
        /// Its thread was too slow, or had ended.
        QueueFull = "queue_full",
        /// The disk has taken nothing for long.
        WriteFailed = "write_failed",
    }
}

/// Answer latencies of pools, in microseconds: from a pool in the same building to one that is
/// about to be given up.
const SUBMIT_BUCKETS: &[u32] = &[
    1000, 3000, 10_000, 30_000, 60_000, 100_000, 200_000, 500_000, 1_000_000, 3_000_000, 5_000_000,
    20_000_000,
];
/// Our own latencies: from a share judged at once to one that waited for its pool.
const ANSWER_BUCKETS: &[u32] = &[
    25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 20_000_000,
];
/// Times until sessions have a job: from the first of a few to the last of very many.
const DELIVERY_BUCKETS: &[u32] = &[
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 150_000, 200_000, 300_000,
    500_000, 1_000_000, 5_000_000,
];
/// Where sessions without a target stand.
const NOWHERE: &str = "none";

impl Metrics {
    pub(crate) fn register(targets: &PerTarget<String>, registry: &mut Registry) -> Arc<Self> {
        let registry = registry.sub_registry_with_prefix("tieline_proxy");
        let shares = Family::<OutcomeLabels, Counter>::default();
        registry.register("shares", "Submits by how they ended", shares.clone());
        let rejects = Family::<RejectLabels, Counter>::default();
        registry.register(
            "share_rejects",
            "Submits that were refused, by whom and why",
            rejects.clone(),
        );
        let work = Family::<TargetLabel, Counter<f64, AtomicU64>>::default();
        registry.register(
            "share_difficulty",
            "Summed difficulty of shares the pool took",
            work.clone(),
        );
        let durations = Histograms::new_with_constructor(|| Histogram::new(SUBMIT_BUCKETS));
        let help = "From a share's forwarding to the pool's answer";
        registry.register("submit_duration_seconds", help, durations.clone());
        let answers = Family::<ByLabel, Histogram, _>::new_with_constructor(|| {
            Histogram::new(ANSWER_BUCKETS)
        });
        let help =
            "From the reading of a submit to its answer's being written, by who knew the answer";
        registry.register("answer_duration_seconds", help, answers.clone());
        let deliveries = Histograms::new_with_constructor(|| Histogram::new(DELIVERY_BUCKETS));
        let help =
            "From the reading of a pool's job to its being written to a session that worked there";
        registry.register("job_delivery_seconds", help, deliveries.clone());
        let fanouts = Histograms::new_with_constructor(|| Histogram::new(DELIVERY_BUCKETS));
        let help = "The longest such time of each job";
        registry.register("job_fanout_seconds", help, fanouts.clone());
        let up = Family::<TargetLabel, Gauge>::default();
        registry.register("target_up", "1 when the target has a job to give", up.clone());
        let connections = Family::<TargetLabel, Gauge>::default();
        registry.register(
            "target_connections",
            "Connections to the target that have a job",
            connections.clone(),
        );
        let held_seconds = Family::<TargetLabel, Counter<f64, AtomicU64>>::default();
        let help = "Time in which miners were held above the target's difficulty";
        registry.register("held_difficulty_seconds", help, held_seconds.clone());
        let held_work = Family::<TargetLabel, Counter<f64, AtomicU64>>::default();
        let help =
            "Work that the target did not credit for it, in hashes of difficulty 1, estimated";
        registry.register("held_difficulty_work", help, held_work.clone());
        let reconnects = Family::<TargetLabel, Counter>::default();
        registry.register(
            "target_reconnects",
            "Connections to the target that ended",
            reconnects.clone(),
        );
        let sessions = Family::<SessionLabels, Gauge>::default();
        registry.register("sessions", "Miners' connections by state and target", sessions.clone());
        let closes = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "session_closes",
            "Miners' connections that ended, by reason",
            closes.clone(),
        );
        let corrections = Family::<StepLabel, Counter>::default();
        registry.register(
            "corrections",
            "Steps taken with miners whose shares were all bad",
            corrections.clone(),
        );
        let alarms = Family::<ReasonLabel, Counter>::default();
        registry.register("alarms", "What somebody should look at, by reason", alarms.clone());
        let retargets = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "retargets",
            "Difficulties that sessions were given, by reason",
            retargets.clone(),
        );
        let ignored = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "pool_lines_ignored",
            "Lines of pools that mean nothing to us, by reason",
            ignored.clone(),
        );
        let accepts = Counter::default();
        registry.register("accepts", "Connections accepted from miners", accepts.clone());
        let switches = Counter::default();
        registry.register("target_switches", "Changes of the target mined at", switches.clone());
        let blocks = Counter::default();
        registry.register("blocks", "Shares that met the network target", blocks.clone());
        let blocks_lost = Counter::default();
        registry.register(
            "blocks_lost",
            "Such shares that were not delivered, or never answered",
            blocks_lost.clone(),
        );
        let generation = Gauge::default();
        registry.register(
            "directive_generation",
            "Generation of the timeline held",
            generation.clone(),
        );
        let machines_shed = Gauge::default();
        registry.register(
            "machines_shed",
            "Machines that may not run just now",
            machines_shed.clone(),
        );
        let reports_dropped = Counter::default();
        registry.register(
            "reports_dropped",
            "Reports the switchboard was too slow to take",
            reports_dropped.clone(),
        );
        let share_log_dropped = Family::<ReasonLabel, Counter>::default();
        registry.register(
            "share_log_dropped",
            "Lines missing in the share log, by reason",
            share_log_dropped.clone(),
        );
        let share_log_failing = Gauge::default();
        registry.register(
            "share_log_failing",
            "1 while the share log cannot be written",
            share_log_failing.clone(),
        );

        for reason in Lost::labels() {
            share_log_dropped.get_or_create_owned(&ReasonLabel { reason });
        }
        for reason in CloseReason::labels() {
            closes.get_or_create_owned(&ReasonLabel { reason });
        }
        for reason in Alarm::labels() {
            alarms.get_or_create_owned(&ReasonLabel { reason });
        }
        for reason in IgnoredLine::labels() {
            ignored.get_or_create_owned(&ReasonLabel { reason });
        }
        for reason in RejectCode::labels() {
            rejects.get_or_create_owned(&RejectLabels { by: "pool", reason });
        }
        for step in Correction::labels() {
            corrections.get_or_create_owned(&StepLabel { step });
        }
        for reason in Retarget::labels() {
            retargets.get_or_create_owned(&ReasonLabel { reason });
        }
        for state in STATES_NOWHERE {
            let state = state.name();
            sessions.get_or_create_owned(&SessionLabels { target: NOWHERE.to_owned(), state });
        }
        let counters = |target: &str| {
            let count = |outcome| {
                shares.get_or_create_owned(&OutcomeLabels { target: target.to_owned(), outcome })
            };
            let label = TargetLabel { target: target.to_owned() };
            let working =
                SessionLabels { target: target.to_owned(), state: SessionState::Working.name() };
            Arc::new(TargetCounters {
                ends: Outcome::LABELS.map(count),
                work: work.get_or_create_owned(&label),
                submit_duration: durations.get_or_create_owned(&label),
                job_delivery: deliveries.get_or_create_owned(&label),
                job_fanout: fanouts.get_or_create_owned(&label),
                working: sessions.get_or_create_owned(&working),
                up: up.get_or_create_owned(&label),
                connections: connections.get_or_create_owned(&label),
                reconnects: reconnects.get_or_create_owned(&label),
                held_seconds: held_seconds.get_or_create_owned(&label),
                held_work: held_work.get_or_create_owned(&label),
            })
        };
        Arc::new(Self {
            targets: targets.map(|_, name| counters(name)),
            nowhere: counters(NOWHERE),
            rejects: Reject::LABELS
                .map(|reason| rejects.get_or_create_owned(&RejectLabels { by: "proxy", reason })),
            rejects_by_pool: rejects,
            answered_here: answers.get_or_create_owned(&ByLabel { by: "proxy" }),
            answered_by_pool: answers.get_or_create_owned(&ByLabel { by: "pool" }),
            sessions,
            closes,
            corrections,
            alarms,
            retargets,
            ignored,
            accepts,
            switches,
            blocks,
            blocks_lost,
            generation,
            machines_shed,
            reports_dropped,
            share_log_dropped,
            share_log_failing,
        })
    }

    /// The counters of a target.
    pub(crate) fn target(&self, target: Option<TargetId>) -> &Arc<TargetCounters> {
        target.and_then(|target| self.targets.get(target)).unwrap_or(&self.nowhere)
    }

    /// Counts a refusal of ours.
    pub(crate) fn rejected(&self, reject: Reject) {
        self.rejects[reject as usize].inc();
    }

    /// Counts a refusal of a pool's.
    pub(crate) fn rejected_by_pool(&self, code: RejectCode) {
        let labels = RejectLabels { by: "pool", reason: code.label() };
        self.rejects_by_pool.get_or_create(&labels).inc();
    }

    /// Notes how long a miner has waited for an answer.
    pub(crate) fn answered(&self, by: AnsweredBy, after: Duration) {
        match by {
            AnsweredBy::Proxy => self.answered_here.observe(after),
            AnsweredBy::Pool => self.answered_by_pool.observe(after),
        }
    }

    /// Counts a closed session.
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closes.get_or_create(&ReasonLabel { reason: reason.label() }).inc();
    }

    /// Counts a step taken with a miner whose shares were all bad.
    pub(crate) fn corrected(&self, correction: Correction) {
        self.corrections.get_or_create(&StepLabel { step: correction.label() }).inc();
    }

    /// Counts a line that the share log lacks.
    pub(crate) fn share_lost(&self, lost: Lost) {
        self.share_log_dropped.get_or_create(&ReasonLabel { reason: lost.label() }).inc();
    }

    /// Counts a pool's line that is ignored.
    pub(crate) fn ignored(&self, line: IgnoredLine) {
        self.ignored.get_or_create(&ReasonLabel { reason: line.label() }).inc();
    }

    /// Counts an alarm.
    pub(crate) fn alarm(&self, alarm: Alarm) {
        self.alarms.get_or_create(&ReasonLabel { reason: alarm.label() }).inc();
    }

    /// Counts a session that was given another difficulty.
    pub(crate) fn retargeted(&self, retarget: Retarget) {
        self.retargets.get_or_create(&ReasonLabel { reason: retarget.label() }).inc();
    }

    /// Shows how many sessions without a target are in a state.
    pub(crate) fn sessions_nowhere(&self, state: SessionState, count: i64) {
        self.sessions
            .get_or_create(&SessionLabels { target: NOWHERE.to_owned(), state: state.name() })
            .set(count);
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for target in self.targets.values().chain([&self.nowhere]) {
            let ended = |outcome: Outcome| target.ends[outcome as usize].get();
            counts.accepted += ended(Outcome::Accepted);
            // `at_risk` is a marked part of `local`, not a third count.
            counts.local += ended(Outcome::Local) + ended(Outcome::AtRisk);
            counts.at_risk += ended(Outcome::AtRisk);
            counts.pool_rejected += ended(Outcome::PoolRejected);
            counts.unresolved += ended(Outcome::Unresolved);
            counts.stale += ended(Outcome::Stale);
            counts.duplicate += ended(Outcome::Duplicate);
            counts.low += ended(Outcome::LowDifficulty);
            counts.malformed +=
                ended(Outcome::Malformed) + ended(Outcome::Unauthorized) + ended(Outcome::Overflow);
            counts.reconnects += target.reconnects.get();
        }
        counts.switches = self.switches.get();
        counts.blocks = self.blocks.get();
        counts.blocks_lost = self.blocks_lost.get();
        counts
    }
}

/// States of sessions that have no target.
pub(crate) const STATES_NOWHERE: [SessionState; 3] =
    [SessionState::Handshake, SessionState::Waiting, SessionState::Parked];

impl TargetCounters {
    /// Counts time in which miners were held above the target's difficulty, and what it did not
    /// credit for it.
    pub(crate) fn held(&self, seconds: f64, work: f64) {
        if seconds > 0.0 {
            self.held_seconds.inc_by(seconds);
            self.held_work.inc_by(work);
        }
    }

    /// Counts a submit's end.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.ends[outcome as usize].inc();
    }

    /// Counts difficulty that the pool credits.
    pub(crate) fn credited(&self, difficulty: f64) {
        self.work.inc_by(difficulty);
    }

    /// Notes how long the pool took to answer.
    pub(crate) fn answered(&self, after: Duration) {
        self.submit_duration.observe(after);
    }

    /// Notes how long a session waited for a job.
    pub(crate) fn delivered(&self, after: Duration) {
        self.job_delivery.observe(after);
    }

    /// Notes how long the last of a job's sessions waited for it.
    pub(crate) fn fanned_out(&self, after: Duration) {
        self.job_fanout.observe(after);
    }

    /// Shows how many sessions work for the target.
    pub(crate) fn working(&self, count: i64) {
        self.working.set(count);
    }
}

/// How all submits so far ended, over all targets.
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
    /// The upstream died or kept silent with the share in flight.
    pub unresolved: u64,
    /// For a job not held any more, or retired by its pool.
    pub stale: u64,
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

#[cfg(test)]
mod tests;
