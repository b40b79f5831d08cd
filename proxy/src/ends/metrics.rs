//! Metrics of submits: how they ended, for which target, and how long the answer took.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use stratum::error::RejectCode;

use crate::histogram::Histogram;
use crate::label::Label as _;
use crate::outcome::{AnsweredBy, Outcome};
use crate::reasons::Reject;
use crate::series::{FloatCounter, Labels, NOWHERE, TargetLabels, registered};
use crate::target::{PerTarget, TargetId};

#[derive(Debug)]
pub(crate) struct ShareMetrics {
    targets: PerTarget<Option<TargetShares>>,
    /// Counters for submits whose job, and so target, is not known.
    nowhere: TargetShares,
    /// The counters of our refusals, indexed by reason, so that counting needs no look-up.
    rejects: [Counter; Reject::LABELS.len()],
    rejects_by_pool: Family<[(&'static str, &'static str); 2], Counter>,
    answered_here: Histogram,
    answered_by_pool: Histogram,
    pub(crate) blocks: Counter,
    pub(crate) blocks_lost: Counter,
}

/// The submits for one target. The counters are fetched once, so that counting needs no look-up.
#[derive(Debug)]
pub(crate) struct TargetShares {
    /// Counters of submits, indexed by their outcome.
    outcomes: [Counter; Outcome::COUNT],
    credited: FloatCounter,
    submit_duration: Histogram,
}

/// Times until a pool answers, in microseconds: from a pool in the same building to one that is
/// about to be given up.
const SUBMIT_BUCKETS: &[u32] = &[
    1000, 3000, 10_000, 30_000, 60_000, 100_000, 200_000, 500_000, 1_000_000, 3_000_000, 5_000_000,
    20_000_000,
];
/// Times until a miner is answered, in microseconds: from a share that is judged at once to one
/// that waits for its pool.
const ANSWER_BUCKETS: &[u32] = &[
    25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 20_000_000,
];

impl ShareMetrics {
    pub(crate) fn register(targets: &TargetLabels, registry: &mut Registry) -> Self {
        let shares: Family<Labels<2>, Counter> =
            registered(registry, "shares", "Submits by how they ended");
        let help = "Submits that were refused, by whom and why";
        let rejects: Family<[(&'static str, &'static str); 2], Counter> =
            registered(registry, "share_rejects", help);
        let help = "Summed difficulty of shares the pool took";
        let credited: Family<Labels<1>, FloatCounter> =
            registered(registry, "share_difficulty", help);
        let durations =
            Family::<Labels<1>, Histogram, fn() -> Histogram>::new_with_constructor(|| {
                Histogram::new(SUBMIT_BUCKETS)
            });
        let help = "From a share's forwarding to the pool's answer";
        registry.register("submit_duration_seconds", help, durations.clone());
        let answers =
            Family::<[(&'static str, &'static str); 1], Histogram, _>::new_with_constructor(|| {
                Histogram::new(ANSWER_BUCKETS)
            });
        let help =
            "From the reading of a submit to its answer's being written, by who knew the answer";
        registry.register("answer_duration_seconds", help, answers.clone());
        for reason in RejectCode::labels() {
            rejects.get_or_create_owned(&[("by", "pool"), ("reason", reason)]);
        }
        let series = |target: &str| {
            let label = [("target", target.to_owned())];
            TargetShares {
                outcomes: Outcome::LABELS.map(|outcome| {
                    let [target] = label.clone();
                    shares.get_or_create_owned(&[target, ("outcome", outcome.to_owned())])
                }),
                credited: credited.get_or_create_owned(&label),
                submit_duration: durations.get_or_create_owned(&label),
            }
        };
        Self {
            targets: targets.series(series),
            nowhere: series(NOWHERE),
            rejects: Reject::LABELS
                .map(|reason| rejects.get_or_create_owned(&[("by", "proxy"), ("reason", reason)])),
            rejects_by_pool: rejects,
            answered_here: answers.get_or_create_owned(&[("by", "proxy")]),
            answered_by_pool: answers.get_or_create_owned(&[("by", "pool")]),
            blocks: registered(registry, "blocks", "Shares that met the network target"),
            blocks_lost: registered(
                registry,
                "blocks_lost",
                "Such shares that were not delivered, or never answered",
            ),
        }
    }

    /// The submits for this target. `None` where the job, and so the target, is not known.
    pub(crate) fn of(&self, target: Option<TargetId>) -> &TargetShares {
        target.and_then(|target| self.targets.get(target)?.as_ref()).unwrap_or(&self.nowhere)
    }

    /// The submits with this outcome, for all targets and none.
    pub(crate) fn sum(&self, outcome: Outcome) -> u64 {
        let all = self.targets.values().flatten().chain([&self.nowhere]);
        all.map(|shares| shares.outcomes[outcome as usize].get()).sum()
    }

    /// Counts a refusal of ours.
    pub(crate) fn rejected(&self, reject: Reject) {
        self.rejects[reject as usize].inc();
    }

    /// Counts a refusal of a pool.
    pub(crate) fn rejected_by_pool(&self, code: RejectCode) {
        self.rejects_by_pool.get_or_create(&[("by", "pool"), ("reason", code.label())]).inc();
    }

    /// Records how long a miner waited for an answer.
    pub(crate) fn answered(&self, by: AnsweredBy, after: Duration) {
        match by {
            AnsweredBy::Proxy => self.answered_here.observe(after),
            AnsweredBy::Pool => self.answered_by_pool.observe(after),
        }
    }
}

impl TargetShares {
    /// Counts how a submit ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }

    /// Counts difficulty that the pool credits.
    pub(crate) fn credited(&self, difficulty: f64) {
        self.credited.inc_by(difficulty);
    }

    /// Records how long the pool took to answer.
    pub(crate) fn answered(&self, after: Duration) {
        self.submit_duration.observe(after);
    }
}
