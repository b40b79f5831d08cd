//! Metrics of targets and of the connections to them.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::histogram::Histogram;
use crate::reasons::IgnoredLine;
use crate::series::{CounterBy, FloatCounter, Labels, TargetLabels, registered};
use crate::target::{PerTarget, TargetId};

#[derive(Debug)]
pub(crate) struct TargetMetrics {
    targets: PerTarget<Option<TargetSeries>>,
    pub(crate) switches: Counter,
    pub(crate) ignored_lines: CounterBy<IgnoredLine>,
}

/// The series of one target. They are fetched once, so that counting needs no look-up.
#[derive(Debug)]
struct TargetSeries {
    up: Gauge,
    connections: Gauge,
    reconnects: Counter,
    job_delivery: Histogram,
    job_fanout: Histogram,
    held_seconds: FloatCounter,
    held_work: FloatCounter,
}

/// Times until sessions have a job, in microseconds: from the first of a few to the last of very
/// many.
const DELIVERY_BUCKETS: &[u32] = &[
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 150_000, 200_000, 300_000,
    500_000, 1_000_000, 5_000_000,
];

type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

impl TargetMetrics {
    pub(crate) fn register(targets: &TargetLabels, registry: &mut Registry) -> Self {
        let deliveries = Histograms::new_with_constructor(|| Histogram::new(DELIVERY_BUCKETS));
        let help =
            "From the reading of a pool's job to its being written to a session that worked there";
        registry.register("job_delivery_seconds", help, deliveries.clone());
        let fanouts = Histograms::new_with_constructor(|| Histogram::new(DELIVERY_BUCKETS));
        let help = "The longest such time of each job";
        registry.register("job_fanout_seconds", help, fanouts.clone());
        let up: Family<Labels<1>, Gauge> =
            registered(registry, "target_up", "1 when the target has a job to give");
        let help = "Connections to the target that have a job";
        let connections: Family<Labels<1>, Gauge> =
            registered(registry, "target_connections", help);
        let help = "Connections to the target that ended";
        let reconnects: Family<Labels<1>, Counter> =
            registered(registry, "target_reconnects", help);
        let help = "Time in which miners were held above the target's difficulty";
        let held_seconds: Family<Labels<1>, FloatCounter> =
            registered(registry, "held_difficulty_seconds", help);
        let help =
            "Work that the target did not credit for it, in hashes of difficulty 1, estimated";
        let held_work: Family<Labels<1>, FloatCounter> =
            registered(registry, "held_difficulty_work", help);
        let series = |target: &str| {
            let label = [("target", target.to_owned())];
            TargetSeries {
                up: up.get_or_create_owned(&label),
                connections: connections.get_or_create_owned(&label),
                reconnects: reconnects.get_or_create_owned(&label),
                job_delivery: deliveries.get_or_create_owned(&label),
                job_fanout: fanouts.get_or_create_owned(&label),
                held_seconds: held_seconds.get_or_create_owned(&label),
                held_work: held_work.get_or_create_owned(&label),
            }
        };
        let help = "Lines of pools that mean nothing to us, by reason";
        Self {
            targets: targets.series(series),
            switches: registered(registry, "target_switches", "Changes of the target mined at"),
            ignored_lines: CounterBy::register(registry, "pool_lines_ignored", help, "reason"),
        }
    }

    fn of(&self, target: TargetId) -> Option<&TargetSeries> {
        self.targets.get(target)?.as_ref()
    }

    /// Shows whether the target has a job to give, and how many connections have one.
    pub(crate) fn show(&self, target: TargetId, up: bool, connections: u32) {
        if let Some(series) = self.of(target) {
            series.up.set(i64::from(up));
            series.connections.set(i64::from(connections));
        }
    }

    /// Counts a connection that had a job and ended.
    pub(crate) fn reconnected(&self, target: TargetId) {
        if let Some(series) = self.of(target) {
            series.reconnects.inc();
        }
    }

    /// The connections that had a job and ended, of all targets.
    pub(crate) fn reconnects(&self) -> u64 {
        self.targets.values().flatten().map(|series| series.reconnects.get()).sum()
    }

    /// Records how long a session waited for a job.
    pub(crate) fn delivered(&self, target: TargetId, after: Duration) {
        if let Some(series) = self.of(target) {
            series.job_delivery.observe(after);
        }
    }

    /// Records how long the last session of a job waited for the job.
    pub(crate) fn fanned_out(&self, target: TargetId, after: Duration) {
        if let Some(series) = self.of(target) {
            series.job_fanout.observe(after);
        }
    }

    /// Counts time in which miners were held above the target's difficulty, and the work that the
    /// target did not credit because of this.
    pub(crate) fn held(&self, target: TargetId, seconds: f64, work: f64) {
        if let Some(series) = self.of(target)
            && seconds > 0.0
        {
            series.held_seconds.inc_by(seconds);
            series.held_work.inc_by(work);
        }
    }
}
