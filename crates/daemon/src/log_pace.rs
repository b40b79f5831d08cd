//! Limits how often collected events are logged: the first one soon, later ones less and less
//! often. Events that go on for an hour give some dozens of lines; a single event is logged within
//! a second. The callers collect the events.

use std::time::{Duration, Instant};

/// The time from the first event to its log line.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest time between two lines while events go on. After this time without an event, the
/// next one counts as the first again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Call [`LogPace::note`] for each event. When [`LogPace::is_due`] is true, log what was collected
/// and call [`LogPace::told`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LogPace {
    due: Option<Instant>,
    told: Option<Instant>,
    pause: Duration,
}

impl LogPace {
    /// Records that an event happened.
    pub fn note(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        let recent = self.told.filter(|told| now.saturating_duration_since(*told) < PAUSE_MAX);
        self.pause = recent.map_or(PAUSE_MIN, |_| (self.pause * 2).min(PAUSE_MAX));
        let first = now + PAUSE_MIN;
        self.due = Some(recent.map_or(first, |told| first.max(told + self.pause)));
    }

    /// Whether it is time to log the collected events.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Records that the events were logged.
    pub fn told(&mut self, now: Instant) {
        self.due = None;
        self.told = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which lines are logged if `news` says at which seconds events happen.
    fn told(news: impl Fn(u64) -> bool, seconds: u64) -> Vec<u64> {
        let (start, mut pace) = (crate::clock::now(), LogPace::default());
        let tells = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            if news(*second) {
                pace.note(now);
            }
            let due = pace.is_due(now);
            if due {
                pace.told(now);
            }
            due
        };
        (0..seconds).filter(tells).collect()
    }

    #[test]
    fn what_goes_on_is_told_ever_less_often() {
        let told = told(|_| true, 3600);
        assert_eq!(told[..8], [1, 3, 7, 15, 31, 63, 123, 183]);
        assert!(told.len() <= 66, "an hour has {} lines", told.len());
    }

    #[test]
    fn after_a_minute_of_quiet_news_is_told_within_a_second() {
        assert_eq!(told(|second| [0, 70, 300].contains(&second), 400), [1, 71, 301]);
    }

    #[test]
    fn nothing_is_told_of_nothing() {
        assert_eq!(told(|_| false, 100), [0; 0]);
    }
}
