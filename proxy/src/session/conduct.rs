//! Records what a miner did wrong recently, and decides what follows.
//!
//! Three records: requests that break the protocol (forgiven with time), names that were refused
//! (after which further names are refused unread for a while), and bad shares without a good one
//! between them (three steps: new work, a request to reconnect, a close). Most miners never have
//! any of them, so a session keeps this in a box that is created at the first fault and dropped
//! when everything is forgiven.

use std::time::{Duration, Instant};

use crate::reasons::Correction;

#[derive(Debug)]
pub(super) struct Conduct {
    faults: u32,
    forgiven_at: Instant,
    names_refused: u32,
    /// Worker names that come before this time are refused unread.
    names_from: Instant,
    streak: Option<Streak>,
}

/// Bad shares without a good one between them.
#[derive(Debug)]
struct Streak {
    since: Instant,
    shares: u32,
    climbed: usize,
}

/// Number of requests that break the protocol after which the session is closed.
const FAULTS_MAX: u32 = 16;
/// One request that breaks the protocol is forgiven each time this long passes.
const FORGIVE_EVERY: Duration = Duration::from_secs(10);
/// The first wait after a refused worker name; it doubles with each further refused name, as in
/// ckpool.
const NAME_WAIT: Duration = Duration::from_secs(3);
const NAME_WAIT_MAX: Duration = Duration::from_secs(600);
/// The steps, and how long all shares must have been invalid before each of them, as in ckpool.
const RUNGS: [(Duration, Correction); 3] = [
    (Duration::from_secs(60), Correction::Renew),
    (Duration::from_secs(120), Correction::Reconnect),
    (Duration::from_secs(180), Correction::Close),
];
/// Each step also needs this many bad shares, so that a slow miner is not judged by two shares.
const RUNG_SHARES: usize = 8;

impl Conduct {
    pub(super) fn new(now: Instant) -> Self {
        Self { faults: 0, forgiven_at: now, names_refused: 0, names_from: now, streak: None }
    }

    /// Records a request that breaks the protocol. Returns whether the limit is exceeded.
    pub(super) fn fault(&mut self, now: Instant) -> bool {
        let periods =
            now.saturating_duration_since(self.forgiven_at).as_secs() / FORGIVE_EVERY.as_secs();
        if periods > 0 || self.faults == 0 {
            self.faults = self.faults.saturating_sub(u32::try_from(periods).unwrap_or(u32::MAX));
            self.forgiven_at = now;
        }
        self.faults += 1;
        self.faults > FAULTS_MAX
    }

    /// Whether a worker name may be considered now.
    pub(super) fn hears_names(&self, now: Instant) -> bool {
        now >= self.names_from
    }

    /// Records that a worker name was considered and refused.
    pub(super) fn name_refused(&mut self, now: Instant) {
        let wait = NAME_WAIT.saturating_mul(1 << self.names_refused.min(16)).min(NAME_WAIT_MAX);
        self.names_refused = self.names_refused.saturating_add(1);
        self.names_from = now + wait;
    }

    /// Records a bad share. Returns the step that is due.
    pub(super) fn bad_share(&mut self, now: Instant) -> Option<Correction> {
        let streak = self.streak.get_or_insert(Streak { since: now, shares: 0, climbed: 0 });
        streak.shares = streak.shares.saturating_add(1);
        let (after, correction) = RUNGS.get(streak.climbed)?;
        let enough = streak.shares as usize >= RUNG_SHARES * (streak.climbed + 1);
        if !enough || now < streak.since + *after {
            return None;
        }
        streak.climbed += 1;
        Some(*correction)
    }

    /// Records a good share, which resets the ladder. Returns whether anything is left on record.
    pub(super) fn good_share(&mut self) -> bool {
        self.streak = None;
        self.faults > 0 || self.names_refused > 0
    }

    /// Whether the miner's work was renewed and no good share has come since, so that the miner
    /// must not keep its current work.
    pub(super) fn is_misled(&self) -> bool {
        self.streak.as_ref().is_some_and(|streak| streak.climbed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Sends bad shares at a rate for a time; every `good_every`th one is good. Returns the steps
    /// taken, and when.
    fn mine(per_sec: f64, secs: u64, good_every: Option<u64>) -> Vec<(u64, Correction)> {
        let start = origin();
        let mut conduct = Conduct::new(start);
        let mut done = Vec::new();
        let mut number = 0;
        loop {
            number += 1;
            let elapsed = Duration::from_secs_f64(number as f64 / per_sec);
            if elapsed > Duration::from_secs(secs) {
                return done;
            }
            if good_every.is_some_and(|every| number % every == 0) {
                conduct.good_share();
            } else if let Some(correction) = conduct.bad_share(start + elapsed) {
                done.push((elapsed.as_secs(), correction));
            }
        }
    }

    #[test]
    fn s45_only_bad_shares_climb_the_ladder_at_60_120_and_180_seconds() {
        use Correction::{Close, Reconnect, Renew};
        assert_eq!(mine(10.0, 400, None), [(60, Renew), (120, Reconnect), (180, Close)]);
        assert_eq!(
            mine(0.1, 400, None),
            [(80, Renew), (160, Reconnect), (240, Close)],
            "eight shares a rung at least"
        );
    }

    #[test]
    fn s45_a_machine_with_one_share_in_a_hundred_bad_is_not_punished() {
        for per_sec in [0.01, 1.0, 20.0] {
            let start = origin();
            let mut conduct = Conduct::new(start);
            for number in 1..20_000u32 {
                if number % 100 == 0 {
                    let now = start + Duration::from_secs_f64(f64::from(number) / per_sec);
                    assert_eq!(conduct.bad_share(now), None);
                } else {
                    assert!(!conduct.good_share(), "nothing is kept");
                }
            }
        }
        assert_eq!(mine(1.0, 3600, Some(10)), [], "nor one with nine in ten, if the tenth is good");
    }

    #[test]
    fn s22_each_refused_name_doubles_the_wait_up_to_ten_minutes() {
        let start = origin();
        let mut conduct = Conduct::new(start);
        let mut now = start;
        for wait in [3, 6, 12, 24, 48, 96, 192, 384, 600, 600] {
            assert!(conduct.hears_names(now));
            conduct.name_refused(now);
            assert!(
                !conduct.hears_names(now + Duration::from_secs(wait) - Duration::from_millis(1)),
                "{wait} s"
            );
            now += Duration::from_secs(wait);
        }
    }

    #[test]
    fn faults_are_forgiven_with_time_and_a_burst_is_not() {
        let start = origin();
        let mut conduct = Conduct::new(start);
        for hour in 0..1000 {
            assert!(
                !conduct.fault(start + Duration::from_secs(60 * hour)),
                "one a minute is nothing"
            );
        }
        let burst = start + Duration::from_secs(100_000);
        assert_eq!((0..20).position(|_| conduct.fault(burst)), Some(16));
    }
}
