//! Remembers how fast machines were before they left, so that a fleet that reconnects after a
//! network outage does not start over.
//!
//! It has two generations instead of a list by age. New entries go into the younger one; when that
//! is full it becomes the older one, and the older one is dropped. So recent entries are kept,
//! memory is bounded, and no search is needed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Machines by the hash of their worker name. If several machines use the same name, the entry is
/// that of one of them, which is as good a guess as any.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    younger: HashMap<u64, Noted>,
    older: HashMap<u64, Noted>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    work_rate: f32,
    at: Instant,
}

/// The maximum number of machines in a generation; each takes about 40 bytes.
const GENERATION_MAX: usize = 50_000;
/// How long an entry may be used. After that, a different machine may have the name.
const KEPT: Duration = Duration::from_secs(86_400);

impl Recall {
    /// Records a machine's work rate.
    pub(crate) fn note(&mut self, worker: &str, work_rate: f32, now: Instant) {
        if self.younger.len() >= GENERATION_MAX {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(self.hasher.hash_one(worker), Noted { work_rate, at: now });
    }

    /// Returns the machine's work rate when it was last connected, if that was less than a day ago.
    pub(crate) fn of(&self, worker: &str, now: Instant) -> Option<f32> {
        let hash = self.hasher.hash_one(worker);
        let noted = self.younger.get(&hash).or_else(|| self.older.get(&hash))?;
        (now.saturating_duration_since(noted.at) < KEPT).then_some(noted.work_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_machine_is_remembered_for_a_day() {
        let (mut recall, now) = (Recall::default(), origin());
        recall.note("acme.1", 3.0, now);
        recall.note("acme.1", 4.0, now + Duration::from_secs(1));
        assert_eq!(recall.of("acme.1", now + Duration::from_secs(3600)), Some(4.0));
        assert_eq!(recall.of("acme.2", now), None);
        assert_eq!(recall.of("acme.1", now + Duration::from_secs(86_401)), None);
    }

    #[test]
    fn a_flood_of_names_forgets_the_oldest_and_stays_bounded() {
        let (mut recall, now) = (Recall::default(), origin());
        for number in 0..3 * GENERATION_MAX {
            recall.note(&number.to_string(), 1.0, now);
        }
        assert!(recall.younger.len() + recall.older.len() <= 2 * GENERATION_MAX);
        assert_eq!(recall.of("0", now), None);
        assert_eq!(recall.of(&(2 * GENERATION_MAX).to_string(), now), Some(1.0));
    }
}
