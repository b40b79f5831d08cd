//! A small histogram of answer times that can be merged, with a precision of about a tenth.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times from submit to answer. It is serialized as count, p50, p99 and the exact maximum, in ms.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(from = "Summary", into = "Summary")]
pub struct Latencies {
    /// Eight buckets for each doubling, in microseconds.
    buckets: Vec<u64>,
    max_us: u64,
}

/// What is serialized.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Summary {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    #[serde(default)]
    buckets: Vec<(usize, u64)>,
}

/// 2^40 us is twelve days; longer times are in the last bucket.
const BUCKETS: usize = 8 * 40;

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], max_us: 0 }
    }
}

impl Latencies {
    pub fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)] += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Adds the times of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Returns the number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the longest time, in ms.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "times of interest are far below 2^53 us")]
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1000.0
    }

    /// Returns the time that a fraction `share` (0 to 1) of all times did not exceed, in ms,
    /// rounded up to the end of its bucket.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of interest are far below 2^53")]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = self.count() as f64 * share;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen > 0 && seen as f64 >= wanted {
                return (bucket_end_us(index) / 1000.0).min(self.max_ms());
            }
        }
        0.0
    }
}

fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let doubling = us.ilog2();
    // The three bits after the leading one.
    let part = (us << 3 >> doubling) & 7;
    usize::try_from(u64::from(doubling) * 8 + part)
        .map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

fn bucket_end_us(index: usize) -> f64 {
    let (doubling, part) = (index / 8, index % 8);
    let doubling = i32::try_from(doubling).expect("below BUCKETS / 8");
    let part = u32::try_from(part).expect("below 8");
    2_f64.powi(doubling) * (1.0 + (f64::from(part) + 1.0) / 8.0)
}

impl From<Latencies> for Summary {
    fn from(times: Latencies) -> Self {
        Self {
            count: times.count(),
            p50_ms: times.quantile_ms(0.5),
            p99_ms: times.quantile_ms(0.99),
            max_ms: times.max_ms(),
            buckets: times
                .buckets
                .into_iter()
                .enumerate()
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

impl From<Summary> for Latencies {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float-to-int casts saturate"
    )]
    fn from(summary: Summary) -> Self {
        let mut times =
            Self { max_us: (summary.max_ms * 1000.0).round() as u64, ..Self::default() };
        for (index, count) in summary.buckets {
            times.buckets[index.min(BUCKETS - 1)] += count;
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_good_to_an_eighth() {
        let mut times = Latencies::default();
        for ms in 1..=1000 {
            times.add(Duration::from_millis(ms));
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = times.quantile_ms(share);
            assert!(told >= exact && told <= exact * 1.125, "{share}: {told}");
        }
        assert!((times.max_ms() - 1000.0).abs() < 1e-9);
        assert_eq!(times.count(), 1000);
        times.add(Duration::MAX);
        times.add(Duration::ZERO);
        assert_eq!(times.count(), 1002);
    }

    #[test]
    fn they_merge_and_survive_json() {
        let (mut one, mut two) = (Latencies::default(), Latencies::default());
        one.add(Duration::from_millis(3));
        two.add(Duration::from_millis(70));
        one.merge(&two);
        let json = serde_json::to_value(&one).unwrap();
        assert_eq!(json["count"], 2);
        assert_eq!(json["max_ms"], 70.0);
        assert_eq!(serde_json::from_value::<Latencies>(json).unwrap(), one);
    }
}
