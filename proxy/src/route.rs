//! Chooses the target that is mined at: the order of the configuration is the priority, with
//! hysteresis for failback.
//!
//! Pure: takes the health of the targets and the time, and returns the order of usable targets.

use std::time::{Duration, Instant};

use stratum::version::VersionMask;

/// The present health of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TargetHealth {
    /// A connection has a job.
    pub(crate) ready: bool,
    /// It has misbehaved: mined at only when there is no other.
    pub(crate) quarantined: bool,
    /// It answers, but has brought no job for a long time.
    pub(crate) quiet: bool,
    /// Its difficulty is still too low for the fleet.
    pub(crate) low: bool,
    /// Version bits it lets us roll; `None` when it refuses to.
    pub(crate) mask: Option<VersionMask>,
}

/// A target that sessions may sit at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usable {
    pub(crate) target: usize,
    pub(crate) mask: Option<VersionMask>,
}

/// The result for sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Usable targets, the active one first; empty when all are down.
    pub(crate) usable: Vec<Usable>,
    /// Since when all have been down.
    pub(crate) down_since: Option<Instant>,
}

/// The order of targets and their history.
#[derive(Debug)]
pub(crate) struct Route {
    failback_after: Duration,
    active: Option<usize>,
    /// Since when it has been mined at.
    active_since: Instant,
    /// Since when each has been ready without a break.
    ready_since: Vec<Option<Instant>>,
    /// Which have failed after they had been ready.
    failed: Vec<bool>,
    down_since: Option<Instant>,
    started_at: Instant,
}

/// For this time after the start, the order in which pools answer does not matter: a better target
/// is used as soon as it is ready.
const STARTING: Duration = Duration::from_secs(10);

/// Extra delay before failing back to a target whose difficulty is still too low for the fleet.
const LOW_PATIENCE: Duration = Duration::from_secs(300);

impl Route {
    /// A route over `targets` targets, all of unknown health at `now`.
    pub(crate) fn new(targets: usize, failback_after: Duration, now: Instant) -> Self {
        Self {
            failback_after,
            active: None,
            active_since: now,
            ready_since: vec![None; targets],
            failed: vec![false; targets],
            down_since: Some(now),
            started_at: now,
        }
    }

    /// The target mined at.
    pub(crate) fn active(&self) -> Option<usize> {
        self.active
    }

    /// Takes the targets' health and decides.
    pub(crate) fn decide(&mut self, health: &[TargetHealth], now: Instant) -> Decision {
        for ((since, failed), health) in
            self.ready_since.iter_mut().zip(&mut self.failed).zip(health)
        {
            *failed |= since.is_some() && !health.ready;
            *since = if health.ready { since.or(Some(now)) } else { None };
        }
        let flaw = |target: usize| (health[target].quarantined, health[target].quiet);
        let rank = |target: &usize| (flaw(*target), *target);
        let ready = || (0..health.len()).filter(|target| health[*target].ready);
        let best = ready().min_by_key(rank);
        // A fleet that must leave goes to a target that credits it in full: at one with too low a
        // difficulty it would be held.
        let refuge = ready().min_by_key(|target| (flaw(*target), health[*target].low, *target));
        let keep =
            self.active.filter(|active| health.get(*active).is_some_and(|health| health.ready));
        let active = match (keep, best) {
            // A pool that misbehaves or is quiet is left at once if another is better. Failback to
            // a better target waits until that has held.
            (Some(active), Some(best)) if rank(&best) < rank(&active) => {
                let starting = now < self.started_at + STARTING
                    && !self.failed[best]
                    && flaw(best) == (false, false);
                // Failback to a target whose difficulty is still too low waits longer: it has been
                // asked for a higher one.
                let low = health[best].low;
                let patience =
                    self.failback_after + if low { LOW_PATIENCE } else { Duration::ZERO };
                // It may have been ready for long, but was passed over because of its difficulty.
                let since = self.ready_since[best]
                    .map(|since| if low { since.max(self.active_since) } else { since });
                let held = starting || since.is_some_and(|since| now >= since + patience);
                match flaw(best) < flaw(active) {
                    true => refuge,
                    false if held => Some(best),
                    false => Some(active),
                }
            }
            (Some(active), _) => Some(active),
            (None, _) => refuge,
        };
        if active != self.active {
            self.active_since = now;
        }
        self.active = active;
        self.down_since = if self.active.is_some() { None } else { self.down_since.or(Some(now)) };
        let mut order: Vec<usize> = ready().collect();
        order.sort_by_key(|target| (Some(*target) != self.active, rank(target)));
        let usable =
            order.into_iter().map(|target| Usable { target, mask: health[target].mask }).collect();
        Decision { usable, down_since: self.down_since }
    }

    /// When the decision may change by time alone.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        let active = self.active?;
        let since = self.ready_since[..active].iter().flatten();
        let due = since.flat_map(|since| {
            let due = *since + self.failback_after;
            [due, due.max(self.active_since + self.failback_after) + LOW_PATIENCE]
        });
        due.filter(|due| *due > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: TargetHealth =
        TargetHealth { ready: true, quarantined: false, quiet: false, low: false, mask: None };
    const DOWN: TargetHealth =
        TargetHealth { ready: false, quarantined: false, quiet: false, low: false, mask: None };
    const QUIET: TargetHealth =
        TargetHealth { ready: true, quarantined: false, quiet: true, low: false, mask: None };

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn order(decision: &Decision) -> Vec<usize> {
        decision.usable.iter().map(|usable| usable.target).collect()
    }

    #[test]
    fn the_first_ready_target_is_mined_at_and_lost_at_once() {
        let now = origin();
        let mut route = Route::new(2, Duration::from_secs(120), now);
        assert_eq!(order(&route.decide(&[UP, UP], now)), [0, 1]);
        assert_eq!(order(&route.decide(&[DOWN, UP], now)), [1]);
        assert_eq!(route.decide(&[DOWN, DOWN], now).down_since, Some(now));
    }

    #[test]
    fn at_the_start_it_does_not_matter_who_answers_first() {
        let now = origin();
        let mut route = Route::new(2, Duration::from_secs(120), now);
        assert_eq!(order(&route.decide(&[DOWN, UP], now)), [1]);
        assert_eq!(order(&route.decide(&[UP, UP], now + Duration::from_millis(5))), [0, 1]);
    }

    #[test]
    fn f15_the_primary_is_returned_to_after_it_has_held() {
        let now = origin();
        let mut route = Route::new(2, Duration::from_secs(120), now);
        route.decide(&[DOWN, UP], now);
        let back = now + Duration::from_secs(60);
        assert_eq!(order(&route.decide(&[UP, UP], back)), [1, 0]);
        assert_eq!(route.next_change(back), Some(back + Duration::from_secs(120)));
        assert_eq!(order(&route.decide(&[UP, UP], back + Duration::from_secs(119))), [1, 0]);
        assert_eq!(order(&route.decide(&[UP, UP], back + Duration::from_secs(120))), [0, 1]);
    }

    #[test]
    fn f14_a_flapping_primary_is_not_returned_to() {
        let start = origin();
        let mut route = Route::new(2, Duration::from_secs(120), start);
        let mut switches = 0;
        let mut active = None;
        for second in 0..600u64 {
            let primary = if (second / 5) % 2 == 0 { UP } else { DOWN };
            route.decide(&[primary, UP], start + Duration::from_secs(second));
            if route.active() != active {
                switches += 1;
                active = route.active();
            }
        }
        assert_eq!((switches, active), (2, Some(1)), "to the primary once, away once");
    }

    #[test]
    fn f13_a_target_that_failed_is_eligible_again() {
        let now = origin();
        let mut route = Route::new(1, Duration::from_secs(120), now);
        for _ in 0..2 {
            assert_eq!(order(&route.decide(&[UP], now)), [0]);
            assert_eq!(order(&route.decide(&[DOWN], now)), [0usize; 0]);
        }
    }

    #[test]
    fn u08_a_pool_that_misbehaves_is_left_when_there_is_another_and_returned_to_in_time() {
        const AWFUL: TargetHealth = TargetHealth { quarantined: true, ..UP };
        let now = origin();
        let mut route = Route::new(2, Duration::from_secs(120), now);
        route.decide(&[UP, UP], now);
        assert_eq!(order(&route.decide(&[AWFUL, UP], now)), [1, 0]);
        assert_eq!(order(&route.decide(&[AWFUL, QUIET], now)), [1, 0], "better than that");
        assert_eq!(order(&route.decide(&[AWFUL, DOWN], now)), [0], "better than nothing");
        assert_eq!(order(&route.decide(&[AWFUL, AWFUL], now)), [0, 1]);
    }

    #[test]
    fn a_quiet_pool_is_left_when_another_brings_work_and_kept_when_none_does() {
        let now = origin();
        let mut route = Route::new(2, Duration::from_secs(120), now);
        route.decide(&[UP, UP], now);
        assert_eq!(order(&route.decide(&[QUIET, UP], now)), [1, 0]);
        assert_eq!(order(&route.decide(&[QUIET, QUIET], now)), [1, 0], "no reason to go back");
        assert_eq!(order(&route.decide(&[QUIET, DOWN], now)), [0]);
    }

    #[test]
    fn a_better_target_whose_difficulty_is_too_low_is_returned_to_later() {
        let start = origin();
        let at = |secs| start + Duration::from_secs(secs);
        let low = TargetHealth { low: true, ..UP };
        let mut route = Route::new(2, Duration::from_secs(120), start);
        route.decide(&[DOWN, UP], at(20));
        assert_eq!(route.decide(&[low, UP], at(30)).usable[0].target, 1);
        assert_eq!(
            route.decide(&[low, UP], at(449)).usable[0].target,
            1,
            "it has been asked for more"
        );
        assert_eq!(route.next_change(at(449)), Some(at(450)));
        assert_eq!(
            route.decide(&[low, UP], at(450)).usable[0].target,
            0,
            "and is not waited for for ever"
        );
        let mut route = Route::new(2, Duration::from_secs(120), start);
        route.decide(&[DOWN, UP], at(20));
        route.decide(&[low, UP], at(30));
        assert_eq!(route.decide(&[UP, UP], at(150)).usable[0].target, 0, "it has given more");
        let mut route = Route::new(2, Duration::from_secs(120), start);
        route.decide(&[DOWN, UP], at(20));
        route.decide(&[low, UP], at(30));
        assert_eq!(route.decide(&[low, DOWN], at(31)).usable[0].target, 0, "better than none");
    }

    #[test]
    fn a_fleet_that_must_go_passes_over_a_pool_whose_difficulty_is_too_low_for_it() {
        const QUARANTINED: TargetHealth = TargetHealth { quarantined: true, ..UP };
        let start = origin();
        let at = |secs| start + Duration::from_secs(secs);
        let low = TargetHealth { low: true, ..UP };
        // The first is lost, or is left: the second has stood by for an hour.
        for first in [DOWN, QUIET, QUARANTINED] {
            let mut route = Route::new(3, Duration::from_secs(120), start);
            route.decide(&[UP, low, UP], start);
            assert_eq!(order(&route.decide(&[first, low, UP], at(3600)))[0], 2, "{first:?}");
            assert_eq!(order(&route.decide(&[first, low, UP], at(4019)))[0], 2);
            assert_eq!(route.next_change(at(4019)), Some(at(4020)));
            assert_eq!(
                order(&route.decide(&[first, low, UP], at(4020)))[0],
                1,
                "the order is the operator's after all"
            );
            assert_eq!(
                order(&route.decide(&[first, low, UP], at(4021)))[0],
                1,
                "and there it stays"
            );
        }
        // It is returned to as soon as its difficulty is high enough.
        let mut route = Route::new(3, Duration::from_secs(120), start);
        route.decide(&[UP, low, UP], start);
        route.decide(&[DOWN, low, UP], at(3600));
        assert_eq!(order(&route.decide(&[DOWN, UP, UP], at(3610)))[0], 1);
        // All are low, or the only other one misbehaves.
        for others in [[low, low], [low, QUARANTINED], [low, DOWN]] {
            let mut route = Route::new(3, Duration::from_secs(120), start);
            route.decide(&[UP, others[0], others[1]], start);
            assert_eq!(
                order(&route.decide(&[DOWN, others[0], others[1]], at(3600)))[0],
                1,
                "{others:?}"
            );
        }
    }
}
