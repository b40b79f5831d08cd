//! The power that was really drawn, sample by sample. When the trace is full, the oldest sample is
//! dropped.

use std::collections::VecDeque;

use directive::Watts;
use jiff::Timestamp;

use super::Power;

/// The power drawn at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    pub power: Power,
}

/// The lowest headroom in an interval, and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// The power left for the tenants; negative if mining and house alone exceeded the limit.
    pub watts: Watts,
    /// When the headroom was lowest.
    pub at: Timestamp,
    /// The number of samples in the interval.
    pub samples: usize,
}

/// Samples in order of time: two hours at ten a second.
#[derive(Debug, Default)]
pub struct Trace {
    samples: VecDeque<Sample>,
}

const SAMPLES_MAX: usize = 72_000;

impl Trace {
    /// Adds a sample; when there are too many, the oldest is dropped.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The lowest headroom (`usable` minus everything but the tenants) in `from..=to`; `None` if
    /// there is no sample in it.
    #[must_use]
    pub fn min_headroom(&self, usable: Watts, from: Timestamp, to: Timestamp) -> Option<Headroom> {
        let within = || self.samples.iter().filter(|sample| (from..=to).contains(&sample.at));
        let left = |sample: &Sample| usable - (sample.power.feed() - sample.power.tenants);
        let least = within().min_by_key(|sample| left(sample))?;
        Some(Headroom { watts: left(least), at: least.at, samples: within().count() })
    }
}
