//! Counts how often something happened recently, for events that are tolerated once but not a
//! hundred times a minute.

use std::time::{Duration, Instant};

/// Counts within a stretch of time that begins with the first event in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    length: Duration,
    since: Option<Instant>,
    count: u32,
}

impl Window {
    pub(super) const fn new(length: Duration) -> Self {
        Self { length, since: None, count: 0 }
    }

    /// Counts one event, and returns how many there have been in this stretch.
    pub(super) fn add(&mut self, now: Instant) -> u32 {
        if self.since.is_none_or(|since| now >= since + self.length) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}
