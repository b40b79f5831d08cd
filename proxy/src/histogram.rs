//! A histogram of durations into which many threads count without a lock. The one of
//! prometheus-client locks a mutex for each observation; this one does two additions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A histogram. Clones are the same histogram.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The upper bounds of the buckets in microseconds, in ascending order.
    bounds: &'static [u32],
    /// The counts, one more than bounds: the last one is for values above all bounds.
    counts: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Makes an empty histogram with these upper bounds, in microseconds and in ascending order.
    pub(crate) fn new(bounds: &'static [u32]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { inner: Arc::new(Inner { bounds, counts, sum_us: AtomicU64::new(0) }) }
    }

    pub(crate) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let Inner { bounds, counts, sum_us } = &*self.inner;
        let index = bounds.iter().position(|bound| us <= u64::from(*bound)).unwrap_or(bounds.len());
        counts[index].fetch_add(1, Relaxed);
        sum_us.fetch_add(us, Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let Inner { bounds, counts, sum_us } = &*self.inner;
        let uppers = bounds.iter().map(|bound| f64::from(*bound) / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            uppers.zip(counts.iter().map(|count| count.load(Relaxed))).collect();
        // Summed from what is shown, so that the last bucket and the count are one number.
        let count = buckets.iter().map(|(_, count)| count).sum();
        #[expect(clippy::cast_precision_loss, reason = "fifteen digits of a sum are enough")]
        let sum = sum_us.load(Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn buckets_are_cumulative_and_hold_their_bound() {
        let histogram = Histogram::new(&[1000, 20_000_000]);
        for duration in
            [Duration::from_micros(1000), Duration::from_micros(1001), Duration::from_secs(60)]
        {
            histogram.observe(duration);
        }
        let mut registry = Registry::default();
        registry.register("wait_seconds", "Waits", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "# TYPE wait_seconds histogram",
            "wait_seconds_sum 60.002001",
            "wait_seconds_count 3",
            "wait_seconds_bucket{le=\"0.001\"} 1",
            "wait_seconds_bucket{le=\"20.0\"} 2",
            "wait_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
        }
    }
}
