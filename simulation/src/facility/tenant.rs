//! What a tenant draws over time, given what it was promised and how it behaves.

use std::time::Duration;

use directive::Watts;
use rand::Rng;
use rand::rngs::StdRng;

/// How a tenant keeps to its lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// It draws what it reserved, from start to end.
    #[default]
    Punctual,
    /// It begins this long before its start.
    Early(Duration),
    /// It begins this long after its start.
    Late(Duration),
    /// It stays this long after its end.
    Stays(Duration),
    /// It draws this many percent of what it reserved.
    Takes(i64),
    NeverComes,
}

/// A manner by chance: half of the tenants are punctual, and `troubled` of a hundred of the others
/// may harm the facility.
#[must_use]
pub fn manner(troubled: u32, rng: &mut StdRng) -> Manner {
    let harmful = troubled > 0 && rng.random_ratio(troubled.min(100), 100);
    let span = Duration::from_secs(rng.random_range(30..=900));
    match (harmful, rng.random_range(0..6)) {
        (false, 0) => Manner::Late(span),
        (false, 1) => Manner::Takes(rng.random_range(40..100)),
        (false, 2) => Manner::NeverComes,
        (false, _) => Manner::Punctual,
        (true, 0 | 1) => Manner::Early(span),
        (true, 2 | 3) => Manner::Stays(span),
        (true, _) => Manner::Takes(rng.random_range(105..=140)),
    }
}

/// Steps in which a ramp is drawn.
const RAMP_STEPS: u32 = 5;

/// What a tenant draws of `reserved` between `start` and `end`: from each time on, this much. It
/// takes `ramp` up, and as long down.
#[must_use]
pub fn draws(
    manner: Manner,
    reserved: Watts,
    start: Duration,
    end: Duration,
    ramp: Duration,
) -> Vec<(Duration, Watts)> {
    let (from, to, peak) = match manner {
        Manner::NeverComes => return Vec::new(),
        Manner::Punctual => (start, end, reserved),
        Manner::Early(by) => (start.saturating_sub(by), end, reserved),
        Manner::Late(by) => ((start + by).min(end), end, reserved),
        Manner::Stays(by) => (start, end + by, reserved),
        Manner::Takes(percent) => (start, end, Watts(reserved.0 * percent / 100)),
    };
    // It is down at its end, so it begins to go down before that.
    let ramp = ramp.min((to.saturating_sub(from)) / 2);
    let part = |step: u32| Watts(peak.0 * i64::from(step) / i64::from(RAMP_STEPS));
    let up = (1..=RAMP_STEPS).map(|step| (from + ramp * (step - 1) / RAMP_STEPS, part(step)));
    let down = (0..RAMP_STEPS).rev().map(|step| (to - ramp * step / RAMP_STEPS, part(step)));
    up.chain(down).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_punctual_tenant_draws_nothing_outside_its_lease() {
        let draws = draws(Manner::Punctual, Watts(1_000), secs(100), secs(200), secs(20));
        assert_eq!(draws.first(), Some(&(secs(100), Watts(200))));
        assert_eq!(draws.last(), Some(&(secs(200), Watts::ZERO)));
        assert_eq!(draws.iter().map(|(_, watts)| *watts).max(), Some(Watts(1_000)));
        assert!(draws.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn manners_move_the_edges_and_the_height() {
        let of = |manner| draws(manner, Watts(1_000), secs(100), secs(200), secs(0));
        assert_eq!(of(Manner::Early(secs(30)))[0].0, secs(70));
        assert_eq!(of(Manner::Late(secs(30)))[0].0, secs(130));
        assert_eq!(of(Manner::Stays(secs(30))).last().unwrap().0, secs(230));
        assert!(of(Manner::Takes(130)).iter().any(|(_, watts)| *watts == Watts(1_300)));
        assert!(of(Manner::NeverComes).is_empty());
    }
}
