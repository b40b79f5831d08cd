//! What was really drawn, sample by sample. The oldest samples go when the trace is full.

use std::collections::VecDeque;

use directive::Watts;
use jiff::Timestamp;

use super::Power;

/// What was drawn at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    pub power: Power,
}

/// The least headroom in an interval, and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// What was left for the tenants; negative where mining and house alone were too much.
    pub watts: Watts,
    /// When it was least.
    pub at: Timestamp,
    /// How many samples lie in the interval.
    pub samples: usize,
}

/// Samples in order of time: two hours at ten a second.
#[derive(Debug, Default)]
pub struct Trace {
    samples: VecDeque<Sample>,
}

const SAMPLES_MAX: usize = 72_000;

impl Trace {
    /// Adds a sample; the oldest goes when there are too many.
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

    /// The least headroom (`usable` less everything but the tenants) in `from..=to`; `None` without
    /// a sample there.
    #[must_use]
    pub fn min_headroom(&self, usable: Watts, from: Timestamp, to: Timestamp) -> Option<Headroom> {
        let within = || self.samples.iter().filter(|sample| (from..=to).contains(&sample.at));
        let left = |sample: &Sample| usable - (sample.power.feed() - sample.power.tenants);
        let least = within().min_by_key(|sample| left(sample))?;
        Some(Headroom { watts: left(least), at: least.at, samples: within().count() })
    }
}
