use std::time::Duration;

use rand::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).expect("a plain instant")
}

fn after(start: Instant, millis: i64) -> Instant {
    start + Duration::from_millis(millis.unsigned_abs())
}

fn agreed(time: Timestamp) -> GuardedTime {
    GuardedTime { later: time, steady: time, stepped: None }
}

#[test]
fn f46_a_step_back_holds_schedules_where_they_were() {
    let (start, mut guard) = (origin(), WallGuard::default());
    assert_eq!(guard.read(at(0), start), agreed(at(0)));
    let off = SignedDuration::from_hours(-1);
    assert_eq!(
        guard.read(at(10_000 - 3_600_000), after(start, 10_000)),
        GuardedTime { later: at(10_000), steady: at(10_000), stepped: Some(off) }
    );
    assert_eq!(guard.read(at(20_000), after(start, 20_000)), agreed(at(20_000)));
}

#[test]
fn f46_a_step_forward_makes_no_lowering_late_and_says_to_raise_nothing() {
    let (start, mut guard) = (origin(), WallGuard::default());
    guard.read(at(0), start);
    let off = SignedDuration::from_hours(1);
    assert_eq!(
        guard.read(at(10_000 + 3_600_000), after(start, 10_000)),
        GuardedTime { later: at(3_610_000), steady: at(10_000), stepped: Some(off) }
    );
    assert_eq!(guard.read(at(20_000), after(start, 20_000)), agreed(at(20_000)));
}

#[test]
fn a_clock_that_drifts_is_followed() {
    let (start, mut guard) = (origin(), WallGuard::default());
    for minute in 0..600 {
        let drifted = at(minute * 61_000);
        assert_eq!(guard.read(drifted, after(start, minute * 60_000)), agreed(drifted));
    }
}

#[test]
fn a_step_of_a_second_jumps_no_schedule_and_is_followed_within_seconds() {
    for step in [-1_000, 1_000] {
        let (start, mut guard) = (origin(), WallGuard::default());
        guard.read(at(0), start);
        let mut last = guard.read(at(10_000), after(start, 10_000));
        for millis in (10_100..30_000).step_by(100) {
            let time = guard.read(at(millis + step), after(start, millis));
            assert_eq!(time.stepped, None);
            assert!(time.later >= last.later && time.steady >= last.steady, "{step}: {time:?}");
            assert!(time.later >= at(millis - 1_000) && time.later <= at(millis + 1_000));
            last = time;
        }
        assert_eq!(last, agreed(at(29_900 + step)), "{step}");
    }
}

#[test]
fn small_steps_do_not_add_up_unnoticed() {
    let (start, mut guard) = (origin(), WallGuard::default());
    let mut noticed = false;
    for second in 0..60 {
        // The clock is set back by 900 ms every second, so it takes ten times as long to advance.
        let time = guard.read(at(second * 100), after(start, second * 1_000));
        noticed |= time.stepped.is_some();
        assert!(time.later >= at(second * 900 - 2_000), "{second} s: {time:?}");
    }
    assert!(noticed);
}

#[test]
fn after_a_restart_a_clock_behind_what_was_seen_is_in_doubt_until_it_is_not() {
    let start = origin();
    let mut guard = WallGuard::resume(Some(at(0)));
    let off = SignedDuration::from_hours(-1);
    assert_eq!(
        guard.read(at(-3_600_000), start),
        GuardedTime { later: at(0), steady: at(0), stepped: Some(off) }
    );
    let later = guard.read(at(-3_590_000), after(start, 10_000));
    assert_eq!((later.later, later.stepped), (at(10_000), Some(off)));
    // A time server corrects the clock: the process was down for 20 minutes, which it could not
    // know.
    let right = at(1_200_000 + 20_000);
    assert_eq!(guard.read(right, after(start, 20_000)), agreed(right));
    let next = guard.read(at(1_230_000), after(start, 30_000));
    assert_eq!(next, agreed(at(1_230_000)));
    // From now on, a step is detected.
    assert!(guard.read(at(4_840_000), after(start, 40_000)).stepped.is_some());
}

#[test]
fn after_a_restart_a_clock_ahead_of_what_was_seen_is_believed() {
    for (seen, wall) in [(None, -3_600_000), (Some(at(0)), 0), (Some(at(0)), 86_400_000)] {
        assert_eq!(WallGuard::resume(seen).read(at(wall), origin()), agreed(at(wall)));
    }
    // The clock is behind by no more than an ordinary correction.
    let time = WallGuard::resume(Some(at(0))).read(at(-1_000), origin());
    assert_eq!(time, agreed(at(0)));
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let start = origin();
    for wall in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        for next in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            for seen in [None, Some(Timestamp::MIN), Some(Timestamp::MAX)] {
                let mut guard = WallGuard::resume(seen);
                guard.read(wall, start);
                let time = guard.read(next, after(start, 86_400_000));
                assert!(time.later >= time.steady && time.later >= next);
            }
        }
    }
}

/// With any wall clock, the steady time stays within ordinary corrections of the monotonic clock
/// and never runs backward, and a wall clock that is far off is reported.
#[test]
fn random_clocks_never_hold_a_schedule_back() {
    for seed in 0..500 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (start, mut guard) = (origin(), WallGuard::default());
        let (mut passed, mut off) = (0, 0);
        let mut last = guard.read(at(0), start);
        for _ in 0..200 {
            let wait = rng.random_range(1..2_000);
            passed += wait;
            if rng.random_bool(0.2) {
                let size = *[500, 1_500, 60_000, 3_600_000].choose(&mut rng).expect("not empty");
                off += rng.random_range(-size..=size);
            }
            if rng.random_bool(0.1) {
                off = 0;
            }
            let wall = at(passed + off);
            let time = guard.read(wall, after(start, passed));
            let went = time.steady.duration_since(last.steady).as_millis();
            let (wait, tenth) = (i128::from(wait), i128::from(wait / SLEW as i64 + 1));
            assert!((wait - tenth..=wait + tenth).contains(&went), "seed {seed}: {time:?}");
            assert!(time.later >= time.steady, "seed {seed}: {time:?}");
            assert!(time.later >= wall, "seed {seed}: {time:?}");
            if time.stepped.is_none() {
                assert!(wall.duration_since(time.steady).abs() <= STEP, "seed {seed}: {time:?}");
                assert!(time.later.duration_since(time.steady) <= STEP * 2, "seed {seed}");
            }
            if time.stepped.is_none() && last.stepped.is_none() {
                assert!(time.later >= last.later, "seed {seed}: {time:?}");
            }
            last = time;
        }
    }
}
