//! Counts recent events, for those that are tolerated once but not a hundred times a minute.

use std::time::{Duration, Instant};

/// Counts events in a window that begins with its first event.
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

    /// Counts an event, and returns the number of events in the current window.
    pub(super) fn add(&mut self, now: Instant) -> u32 {
        if self.since.is_none_or(|since| now >= since + self.length) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}
