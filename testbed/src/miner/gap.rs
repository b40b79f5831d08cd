//! Measures how long a miner had no usable job while it wanted one.

use std::time::{Duration, Instant};

/// Measures gaps: call it when the miner begins or stops to want a job, and when it gets or loses
/// one. The longest gap of each kind is kept.
#[derive(Debug, Clone)]
pub(super) struct GapWatch {
    wants: bool,
    has: bool,
    kind: Kind,
    /// When the current gap began.
    since: Option<Instant>,
    longest: [Duration; 3],
}

/// What came before a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The start: the miner never had a job.
    First = 0,
    Wake = 1,
    /// A usable job.
    Lost = 2,
}

impl GapWatch {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            wants: true,
            has: false,
            kind: Kind::First,
            since: Some(now),
            longest: [Duration::ZERO; 3],
        }
    }

    /// Records that the miner wants a job, or no longer does.
    pub(super) fn wants(&mut self, wants: bool, now: Instant) {
        if wants && !self.wants && self.kind != Kind::First {
            self.kind = Kind::Wake;
        }
        self.wants = wants;
        self.update(now);
    }

    /// Records that the miner got a job, or lost it.
    pub(super) fn has(&mut self, has: bool, now: Instant) {
        self.has = has;
        self.update(now);
        if has && self.wants {
            self.kind = Kind::Lost;
        }
    }

    /// Returns the longest gap of a kind, including the current one.
    pub(super) fn longest(&self, kind: Kind, now: Instant) -> Duration {
        let running =
            self.since.filter(|_| self.kind == kind).map_or(Duration::ZERO, |since| now - since);
        self.longest[kind as usize].max(running)
    }

    fn update(&mut self, now: Instant) {
        let gap = self.wants && !self.has;
        match (self.since, gap) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                let longest = &mut self.longest[self.kind as usize];
                *longest = (*longest).max(now.saturating_duration_since(since));
                self.since = None;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn each_gap_counts_for_what_came_before_it() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = GapWatch::new(start);
        watch.has(true, at(100));
        watch.has(false, at(1000));
        watch.has(true, at(1300));
        watch.wants(false, at(2000));
        watch.has(false, at(2100));
        watch.wants(true, at(9000));
        watch.has(true, at(9050));
        watch.has(false, at(10_000));
        let ms = |kind| watch.longest(kind, at(10_200)).as_millis();
        assert_eq!((ms(Kind::First), ms(Kind::Wake), ms(Kind::Lost)), (100, 50, 300));
        assert_eq!(
            watch.longest(Kind::Lost, at(10_500)).as_millis(),
            500,
            "the running gap counts"
        );
    }

    #[test]
    fn sleep_is_no_gap() {
        let start = clock::now();
        let mut watch = GapWatch::new(start);
        watch.has(true, start);
        watch.wants(false, start);
        watch.has(false, start);
        assert_eq!(watch.longest(Kind::Lost, start + Duration::from_secs(60)), Duration::ZERO);
    }
}
