//! Chooses the active target: the order of the configuration is the priority, with hysteresis for
//! failback.
//!
//! It is pure: the health of the targets and the time go in, the order of usable targets comes out.

use std::time::{Duration, Instant};

use stratum::version::VersionMask;

use crate::target::{PerTarget, TargetId};

/// The present health of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TargetHealth {
    /// Whether a connection has a job.
    pub(crate) ready: bool,
    /// Whether the target has misbehaved: it is mined at only if no other target is ready.
    pub(crate) quarantined: bool,
    /// Whether the target answers, but has sent no job for a long time.
    pub(crate) quiet: bool,
    /// Whether the target's difficulty is still too low for the fleet.
    pub(crate) low: bool,
    /// The version bits it allows; `None` if it refuses rolling.
    pub(crate) mask: Option<VersionMask>,
}

/// A target that sessions may work for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usable {
    pub(crate) target: TargetId,
    pub(crate) mask: Option<VersionMask>,
}

/// Which targets sessions may work for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Usable targets, the active one first; empty when all are down.
    pub(crate) usable: Vec<Usable>,
    /// Since when all targets have been down.
    pub(crate) down_since: Option<Instant>,
}

/// The order of targets and their history.
#[derive(Debug)]
pub(crate) struct Route {
    failback_after: Duration,
    active: Option<TargetId>,
    /// When the active target became the active one.
    active_since: Instant,
    history: PerTarget<History>,
    down_since: Option<Instant>,
    started_at: Instant,
}

/// What is remembered of one target.
#[derive(Debug, Clone, Copy, Default)]
struct History {
    /// Since when it has been ready without a break.
    ready_since: Option<Instant>,
    /// Whether the target has failed after it had been ready.
    failed: bool,
}

/// For this time after the start, the order in which pools answer does not matter: a better target
/// is used as soon as it is ready.
const STARTING: Duration = Duration::from_secs(10);

/// Extra delay before failing back to a target whose difficulty is still too low for the fleet.
const LOW_PATIENCE: Duration = Duration::from_secs(300);

impl Route {
    /// A route over `targets`, all of unknown health at `now`.
    pub(crate) fn new<T>(targets: &PerTarget<T>, failback_after: Duration, now: Instant) -> Self {
        Self {
            failback_after,
            active: None,
            active_since: now,
            history: targets.map(|_, _| History::default()),
            down_since: Some(now),
            started_at: now,
        }
    }

    /// The active target.
    pub(crate) fn active(&self) -> Option<TargetId> {
        self.active
    }

    /// Decides by the current health of the targets.
    pub(crate) fn decide(&mut self, health: &PerTarget<TargetHealth>, now: Instant) -> Decision {
        for (history, health) in self.history.values_mut().zip(health.values()) {
            history.failed |= history.ready_since.is_some() && !health.ready;
            history.ready_since =
                if health.ready { history.ready_since.or(Some(now)) } else { None };
        }
        let flaw = |target: TargetId| (health[target].quarantined, health[target].quiet);
        let rank = |target: &TargetId| (flaw(*target), *target);
        let ready = || health.ids().filter(|target| health[*target].ready);
        let best = ready().min_by_key(rank);
        // Miners that must leave go to a target that credits all their work. At a target whose
        // difficulty is too low they would be kept at a higher one, and the difference is not paid.
        let refuge = ready().min_by_key(|target| (flaw(*target), health[*target].low, *target));
        let keep =
            self.active.filter(|active| health.get(*active).is_some_and(|health| health.ready));
        let active = match (keep, best) {
            // A target that misbehaves or is quiet is left at once if another does not. Failback to
            // a target of higher priority waits until the better target has been ready for some
            // time.
            (Some(active), Some(best)) if rank(&best) < rank(&active) => {
                let starting = now < self.started_at + STARTING
                    && !self.history[best].failed
                    && flaw(best) == (false, false);
                // Failback to a target whose difficulty is too low waits longer: the pool has been
                // asked for a higher difficulty, and may still grant it.
                let low = health[best].low;
                let patience =
                    self.failback_after + if low { LOW_PATIENCE } else { Duration::ZERO };
                // The better target may have been ready for a long time, but was not chosen because
                // of its difficulty. So the wait begins when a different target was chosen instead.
                let since = self.history[best]
                    .ready_since
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
        let mut order: Vec<TargetId> = ready().collect();
        order.sort_by_key(|target| (Some(*target) != self.active, rank(target)));
        let usable =
            order.into_iter().map(|target| Usable { target, mask: health[target].mask }).collect();
        Decision { usable, down_since: self.down_since }
    }

    /// When the decision may next change only because time passes.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        let active = self.active?;
        let better = self.history.iter().filter(|(target, _)| *target < active);
        let due = better.filter_map(|(_, history)| history.ready_since).flat_map(|since| {
            let due = since + self.failback_after;
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

    fn decide<const N: usize>(
        route: &mut Route,
        health: [TargetHealth; N],
        now: Instant,
    ) -> Decision {
        route.decide(&health.to_vec().into(), now)
    }

    const FIRST: TargetId = TargetId::nth(0);
    const SECOND: TargetId = TargetId::nth(1);
    const THIRD: TargetId = TargetId::nth(2);

    fn order(decision: &Decision) -> Vec<TargetId> {
        decision.usable.iter().map(|usable| usable.target).collect()
    }

    #[test]
    fn the_first_ready_target_is_mined_at_and_lost_at_once() {
        let now = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), now);
        assert_eq!(order(&decide(&mut route, [UP, UP], now)), [FIRST, SECOND]);
        assert_eq!(order(&decide(&mut route, [DOWN, UP], now)), [SECOND]);
        assert_eq!(decide(&mut route, [DOWN, DOWN], now).down_since, Some(now));
    }

    #[test]
    fn at_the_start_it_does_not_matter_who_answers_first() {
        let now = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), now);
        assert_eq!(order(&decide(&mut route, [DOWN, UP], now)), [SECOND]);
        assert_eq!(
            order(&decide(&mut route, [UP, UP], now + Duration::from_millis(5))),
            [FIRST, SECOND]
        );
    }

    #[test]
    fn f15_the_primary_is_returned_to_after_it_has_held() {
        let now = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), now);
        decide(&mut route, [DOWN, UP], now);
        let back = now + Duration::from_secs(60);
        assert_eq!(order(&decide(&mut route, [UP, UP], back)), [SECOND, FIRST]);
        assert_eq!(route.next_change(back), Some(back + Duration::from_secs(120)));
        assert_eq!(
            order(&decide(&mut route, [UP, UP], back + Duration::from_secs(119))),
            [SECOND, FIRST]
        );
        assert_eq!(
            order(&decide(&mut route, [UP, UP], back + Duration::from_secs(120))),
            [FIRST, SECOND]
        );
    }

    #[test]
    fn f14_a_flapping_primary_is_not_returned_to() {
        let start = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), start);
        let mut switches = 0;
        let mut active = None;
        for second in 0..600u64 {
            let primary = if (second / 5) % 2 == 0 { UP } else { DOWN };
            decide(&mut route, [primary, UP], start + Duration::from_secs(second));
            if route.active() != active {
                switches += 1;
                active = route.active();
            }
        }
        assert_eq!((switches, active), (2, Some(SECOND)), "to the primary once, away once");
    }

    #[test]
    fn f13_a_target_that_failed_is_eligible_again() {
        let now = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 1]), Duration::from_secs(120), now);
        for _ in 0..2 {
            assert_eq!(order(&decide(&mut route, [UP], now)), [FIRST]);
            assert_eq!(order(&decide(&mut route, [DOWN], now)), []);
        }
    }

    #[test]
    fn u08_a_pool_that_misbehaves_is_left_when_there_is_another_and_returned_to_in_time() {
        const AWFUL: TargetHealth = TargetHealth { quarantined: true, ..UP };
        let now = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), now);
        decide(&mut route, [UP, UP], now);
        assert_eq!(order(&decide(&mut route, [AWFUL, UP], now)), [SECOND, FIRST]);
        assert_eq!(
            order(&decide(&mut route, [AWFUL, QUIET], now)),
            [SECOND, FIRST],
            "better than that"
        );
        assert_eq!(order(&decide(&mut route, [AWFUL, DOWN], now)), [FIRST], "better than nothing");
        assert_eq!(order(&decide(&mut route, [AWFUL, AWFUL], now)), [FIRST, SECOND]);
    }

    #[test]
    fn a_quiet_pool_is_left_when_another_brings_work_and_kept_when_none_does() {
        let now = origin();
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), now);
        decide(&mut route, [UP, UP], now);
        assert_eq!(order(&decide(&mut route, [QUIET, UP], now)), [SECOND, FIRST]);
        assert_eq!(
            order(&decide(&mut route, [QUIET, QUIET], now)),
            [SECOND, FIRST],
            "no reason to go back"
        );
        assert_eq!(order(&decide(&mut route, [QUIET, DOWN], now)), [FIRST]);
    }

    #[test]
    fn a_better_target_whose_difficulty_is_too_low_is_returned_to_later() {
        let start = origin();
        let at = |secs| start + Duration::from_secs(secs);
        let low = TargetHealth { low: true, ..UP };
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), start);
        decide(&mut route, [DOWN, UP], at(20));
        assert_eq!(decide(&mut route, [low, UP], at(30)).usable[0].target, SECOND);
        assert_eq!(
            decide(&mut route, [low, UP], at(449)).usable[0].target,
            SECOND,
            "it has been asked for more"
        );
        assert_eq!(route.next_change(at(449)), Some(at(450)));
        assert_eq!(
            decide(&mut route, [low, UP], at(450)).usable[0].target,
            FIRST,
            "and is not waited for for ever"
        );
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), start);
        decide(&mut route, [DOWN, UP], at(20));
        decide(&mut route, [low, UP], at(30));
        assert_eq!(
            decide(&mut route, [UP, UP], at(150)).usable[0].target,
            FIRST,
            "it has given more"
        );
        let mut route = Route::new(&PerTarget::from(vec![(); 2]), Duration::from_secs(120), start);
        decide(&mut route, [DOWN, UP], at(20));
        decide(&mut route, [low, UP], at(30));
        assert_eq!(
            decide(&mut route, [low, DOWN], at(31)).usable[0].target,
            FIRST,
            "better than none"
        );
    }

    #[test]
    fn a_fleet_that_must_go_passes_over_a_pool_whose_difficulty_is_too_low_for_it() {
        const QUARANTINED: TargetHealth = TargetHealth { quarantined: true, ..UP };
        let start = origin();
        let at = |secs| start + Duration::from_secs(secs);
        let low = TargetHealth { low: true, ..UP };
        // The first target is lost, or is left; the second one has been on standby for an hour.
        for first in [DOWN, QUIET, QUARANTINED] {
            let mut route =
                Route::new(&PerTarget::from(vec![(); 3]), Duration::from_secs(120), start);
            decide(&mut route, [UP, low, UP], start);
            assert_eq!(
                order(&decide(&mut route, [first, low, UP], at(3600)))[0],
                THIRD,
                "{first:?}"
            );
            assert_eq!(order(&decide(&mut route, [first, low, UP], at(4019)))[0], THIRD);
            assert_eq!(route.next_change(at(4019)), Some(at(4020)));
            assert_eq!(
                order(&decide(&mut route, [first, low, UP], at(4020)))[0],
                SECOND,
                "the order is the operator's after all"
            );
            assert_eq!(
                order(&decide(&mut route, [first, low, UP], at(4021)))[0],
                SECOND,
                "and there it stays"
            );
        }
        // Miners return to the first target as soon as its difficulty is high enough.
        let mut route = Route::new(&PerTarget::from(vec![(); 3]), Duration::from_secs(120), start);
        decide(&mut route, [UP, low, UP], start);
        decide(&mut route, [DOWN, low, UP], at(3600));
        assert_eq!(order(&decide(&mut route, [DOWN, UP, UP], at(3610)))[0], SECOND);
        // The difficulty of all targets is too low, or the only other target misbehaves.
        for others in [[low, low], [low, QUARANTINED], [low, DOWN]] {
            let mut route =
                Route::new(&PerTarget::from(vec![(); 3]), Duration::from_secs(120), start);
            decide(&mut route, [UP, others[0], others[1]], start);
            assert_eq!(
                order(&decide(&mut route, [DOWN, others[0], others[1]], at(3600)))[0],
                SECOND,
                "{others:?}"
            );
        }
    }
}
