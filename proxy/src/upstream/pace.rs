//! Limits how fast a pool's jobs are passed on: a pool that sends a thousand a second must not
//! cause a thousand writes a second to each miner (U30, F79).
//!
//! Jobs that are at least the configured time apart are passed on at once. Faster ones are held:
//! the newest replaces the one before, and the `clean` flag of a skipped job applies to the next
//! one. Some jobs do not wait: one on a new block, because everything mined meanwhile is lost; a
//! clean job, a job under an id in use, and the first one under another mask, because shares of the
//! jobs before would be refused. But such jobs do not come every second, so only a few are passed
//! on at once, and a flood of them is held like any other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stratum::difficulty::Difficulty;
use stratum::job::Job;
use stratum::version::VersionMask;

/// A job, with the difficulty and mask that were in force when it came.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) job: Job,
    pub(super) difficulty: Difficulty,
    pub(super) mask: Option<VersionMask>,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    /// The minimum time between ordinary jobs; zero holds none.
    every: Duration,
    handed_at: Option<Instant>,
    prev_hash: [u8; 32],
    mask: Option<VersionMask>,
    /// The ids of the jobs passed on last.
    ids: VecDeque<String>,
    held: Option<Box<Terms>>,
    /// How many urgent jobs may still be passed on at once.
    hurried: u32,
    earned_at: Instant,
}

/// How many urgent jobs may follow each other at once, as at a reorganisation, or when a pool
/// catches up.
const AT_ONCE: u32 = 5;
/// The time after which one more urgent job is allowed.
const ONE_MORE: Duration = Duration::from_secs(1);
/// How many job ids are remembered.
const IDS_MAX: usize = 16;

impl Pace {
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self {
            every,
            handed_at: None,
            prev_hash: [0; 32],
            mask: None,
            ids: VecDeque::new(),
            held: None,
            hurried: AT_ONCE,
            earned_at: now,
        }
    }

    /// Handles a job. Returns it if it is passed on now.
    pub(super) fn take(&mut self, mut terms: Terms, now: Instant) -> Option<Terms> {
        if let Some(skipped) = self.held.take() {
            terms.job.clean |= skipped.job.clean;
        }
        let calm = self.handed_at.is_none_or(|last| now >= last + self.every);
        let Job { job_id, prev_hash, clean, .. } = &terms.job;
        let other_rules = terms.mask != self.mask || self.ids.contains(job_id);
        let hurries = *clean || *prev_hash != self.prev_hash || other_rules;
        if calm || (hurries && self.hurry(now)) {
            return Some(self.hand(terms, now));
        }
        self.held = Some(Box::new(terms));
        None
    }

    /// When the held job is passed on.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref()?;
        self.handed_at.map(|last| last + self.every)
    }

    /// Returns the held job, once it is due.
    pub(super) fn release(&mut self, now: Instant) -> Option<Terms> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let terms = *self.held.take()?;
        Some(self.hand(terms, now))
    }

    /// Drops the held job. Called when its extranonce is no longer valid.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    fn hand(&mut self, terms: Terms, now: Instant) -> Terms {
        self.handed_at = Some(now);
        if self.ids.len() >= IDS_MAX {
            self.ids.pop_front();
        }
        self.ids.push_back(terms.job.job_id.clone());
        self.prev_hash = terms.job.prev_hash;
        self.mask = terms.mask;
        terms
    }

    fn hurry(&mut self, now: Instant) -> bool {
        while self.hurried < AT_ONCE && now >= self.earned_at + ONE_MORE {
            self.hurried += 1;
            self.earned_at += ONE_MORE;
        }
        if self.hurried == AT_ONCE {
            self.earned_at = now;
        }
        self.hurried.checked_sub(1).map(|left| self.hurried = left).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const EVERY: Duration = Duration::from_millis(200);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn terms(number: u32, block: u32, clean: bool) -> Terms {
        let mut prev_hash = [0; 32];
        prev_hash[..4].copy_from_slice(&(block + 1).to_be_bytes());
        let job = Job {
            job_id: number.to_string(),
            prev_hash,
            coinb1: vec![1],
            coinb2: vec![2],
            branches: vec![],
            version: 0x2000_0000,
            nbits: 0x1703_ffff,
            ntime: 1_800_000_000,
            clean,
        };
        Terms { job, difficulty: Difficulty::ONE, mask: None }
    }

    /// Sends `count` jobs a millisecond apart, and returns which were passed on, and when.
    fn flood(count: u32, job: impl Fn(u32) -> Terms) -> Vec<(u32, String, bool)> {
        let start = origin();
        let mut pace = Pace::new(EVERY, start);
        let mut handed = Vec::new();
        for ms in 0..count {
            let now = start + ms * MS;
            let out =
                pace.release(now).into_iter().chain(pace.take(job(ms), now)).collect::<Vec<_>>();
            handed.extend(out.into_iter().map(|terms| (ms, terms.job.job_id, terms.job.clean)));
        }
        let due = pace.due().map(|due| due.max(start + count * MS));
        let last = due.and_then(|due| pace.release(due));
        handed.extend(last.map(|terms| (count, terms.job.job_id, terms.job.clean)));
        handed
    }

    #[test]
    fn u30_f79_a_thousand_jobs_a_second_go_on_as_five_and_the_newest_is_among_them() {
        let handed = flood(10_000, |n| terms(n, 0, false));
        assert!(handed.len() <= 52, "{}", handed.len());
        assert_eq!(handed.last().map(|(_, id, _)| id.as_str()), Some("9999"));
        assert!(
            handed.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 200 || pair[1].0 == 10_000),
            "{handed:?}"
        );
    }

    #[test]
    fn f79_a_flood_of_new_blocks_is_held_as_well() {
        let handed = flood(10_000, |n| terms(n, n, true));
        assert!(handed.len() <= 52 + 5 + 10, "{}", handed.len());
        assert_eq!(handed.last().map(|(_, id, _)| id.as_str()), Some("9999"));
    }

    #[test]
    fn a_pace_of_zero_holds_nothing() {
        let start = origin();
        let mut pace = Pace::new(Duration::ZERO, start);
        assert!((0..1000).all(|n| pace.take(terms(n, 0, false), start).is_some()));
    }

    #[test]
    fn a_new_block_does_not_wait_and_a_calm_pool_waits_for_nothing() {
        let start = origin();
        let mut pace = Pace::new(EVERY, start);
        assert!(pace.take(terms(1, 0, true), start).is_some());
        assert!(pace.take(terms(1, 0, true), start + MS).is_some(), "what was before it is stale");
        assert!(
            pace.take(terms(2, 0, false), start + MS).is_none(),
            "another template of the same block may wait"
        );
        assert!(pace.take(terms(3, 1, true), start + 2 * MS).is_some(), "a new block may not");
        assert!(pace.due().is_none(), "and it replaces the one that waited");
        for n in 0..20 {
            assert!(pace.take(terms(n, 1, false), start + (n + 2) * EVERY).is_some());
        }
    }

    /// The pool judges shares of that id by its newest content, and refuses shares of the content
    /// before.
    #[test]
    fn u28_a_job_under_an_id_in_use_does_not_wait() {
        let start = origin();
        let mut pace = Pace::new(EVERY, start);
        assert!(pace.take(terms(1, 0, true), start).is_some());
        assert!(pace.take(terms(2, 0, false), start + EVERY).is_some());
        assert!(pace.take(terms(1, 0, false), start + EVERY + MS).is_some());
        assert!(pace.take(terms(3, 0, false), start + EVERY + 2 * MS).is_none());
        let narrower = Terms { mask: Some(VersionMask(0x6000)), ..terms(4, 0, false) };
        assert!(
            pace.take(narrower, start + EVERY + 3 * MS).is_some(),
            "nor one whose mask is another"
        );
        assert!(flood(10_000, |_| terms(1, 0, false)).len() <= 52 + 5 + 10);
    }

    #[test]
    fn what_was_skipped_stays_clean() {
        let start = origin();
        let mut pace = Pace::new(EVERY, start);
        for n in 0..6 {
            assert!(pace.take(terms(n, 0, true), start).is_some());
        }
        assert!(pace.take(terms(7, 0, true), start + MS).is_none(), "enough for now");
        assert!(pace.take(terms(3, 0, false), start + 2 * MS).is_none());
        assert!(pace.release(start + 199 * MS).is_none(), "not yet");
        let out = pace.release(start + EVERY).expect("due");
        assert_eq!((out.job.job_id.as_str(), out.job.clean), ("3", true));
        pace.take(terms(4, 0, false), start + EVERY + MS);
        pace.forget();
        assert_eq!(pace.due(), None);
    }
}
