//! The wall clock is stepped, while the receiver runs and while it is down. `a` is off from 60 s to
//! 120 s by the monotonic clock, which these tests take as the true time.

use super::*;

/// Ordinary corrections of a time server.
const SMALL: [i64; 2] = [-1, 1];
/// Steps of a minute, an hour and a day.
const LARGE: [i64; 6] = [-86_400, -3_600, -60, 60, 3_600, 86_400];

fn lease() -> Vec<Step> {
    vec![step(60, Action::Drain, &["a"]), step(120, Action::Run, &["a"])]
}

/// Returns when `a` was lowered and raised, with a wall clock that is wrong by `off(secs)` and a
/// permit renewed every 30 s.
fn played(mut receiver: Receiver, from: i64, off: impl Fn(i64) -> i64) -> (Vec<i64>, Vec<i64>) {
    let (mut lowered, mut raised) = (Vec::new(), Vec::new());
    let start = origin();
    for secs in from..400 {
        let wall = at(secs + off(secs));
        let now = start + Duration::from_secs(secs.unsigned_abs());
        if secs % 30 == 0 {
            receiver.permit(&permit(1, 1, secs.unsigned_abs() + 1), wall, now);
        }
        for change in receiver.advance(wall, now).changes {
            let raise = change.to.action < change.from.action;
            if raise { raised.push(secs) } else { lowered.push(secs) }
        }
    }
    (lowered, raised)
}

fn holding() -> Receiver {
    Bench::holding(lease()).receiver
}

#[test]
fn f46_a_small_step_changes_nothing() {
    for by in SMALL {
        for stepped_at in 1..200 {
            let off = |secs| if secs >= stepped_at { by } else { 0 };
            let (lowered, raised) = played(holding(), 0, off);
            assert_eq!((lowered.len(), raised.len()), (1, 1), "{by} s at {stepped_at} s");
            assert!((59..=61).contains(&lowered[0]), "{by} s at {stepped_at} s: {lowered:?}");
            assert!((119..=121).contains(&raised[0]), "{by} s at {stepped_at} s: {raised:?}");
        }
    }
}

#[test]
fn f46_a_large_step_makes_no_lowering_late_and_raises_nothing() {
    for by in LARGE {
        for stepped_at in 1..120 {
            let off = |secs| if secs >= stepped_at { by } else { 0 };
            let (lowered, raised) = played(holding(), 0, off);
            assert_eq!(lowered.len(), 1, "{by} s at {stepped_at} s");
            assert!(lowered[0] <= 60, "{by} s at {stepped_at} s: {lowered:?}");
            assert!(raised.is_empty(), "{by} s at {stepped_at} s: {raised:?}");
        }
    }
}

#[test]
fn f46_a_clock_that_comes_back_raises_on_time() {
    for by in LARGE {
        for stepped_at in 1..100 {
            let off = |secs| if (stepped_at..stepped_at + 10).contains(&secs) { by } else { 0 };
            let (lowered, raised) = played(holding(), 0, off);
            // A step forward into the lease, or past it, could be a correction, so `a` may be
            // lowered early.
            assert!(lowered[0] <= 60, "{by} s at {stepped_at} s: {lowered:?}");
            let last = *raised.last().expect("it is raised");
            assert!((120..=150).contains(&last), "{by} s at {stepped_at} s: {raised:?}");
            for raise in &raised[..raised.len() - 1] {
                // If a wrong clock lowered `a` too early, `a` may return before 60 s.
                assert!(*raise < 60, "{by} s at {stepped_at} s: {lowered:?} {raised:?}");
            }
        }
    }
}

/// The receiver runs until `down` and is restarted at `up`, with its clock off by `by` from then
/// on.
fn restarted(down: i64, up: i64, by: i64) -> (Vec<i64>, Vec<i64>) {
    let mut receiver = holding();
    let (start, mut lowered) = (origin(), Vec::new());
    for secs in 0..down {
        let now = start + Duration::from_secs(secs.unsigned_abs());
        for change in receiver.advance(at(secs), now).changes {
            assert_eq!(change.to.action, Action::Drain);
            lowered.push(secs);
        }
    }
    let saved = serde_json::to_string(receiver.saved()).expect("plain data");
    let receiver = Receiver::restore(serde_json::from_str(&saved).expect("what was written"));
    let (later, raised) = played(receiver, up, |_| by);
    lowered.extend(later);
    (lowered, raised)
}

#[test]
fn f46_a_clock_stepped_back_during_a_restart_raises_nothing_and_delays_by_the_outage_at_most() {
    for by in [-86_400, -3_600, -60] {
        for down in 1..115 {
            for outage in [0, 1, 5] {
                let up = down + outage;
                let (lowered, raised) = restarted(down, up, by);
                let case = format!("{by} s, down from {down} s to {up} s");
                assert_eq!(lowered.len(), 1, "{case}");
                // The receiver cannot know how long it was down. A lowering is not late if it comes
                // within the last time it saw plus the time it has run since.
                assert!(lowered[0] <= 60.max(up) + outage + 1, "{case}: {lowered:?}");
                // A clock that is off by a minute is right again before the test ends, and is then
                // accepted.
                let soonest = 120 - by - outage;
                assert!(
                    raised.iter().all(|raise| *raise >= soonest.min(120)),
                    "{case}: {raised:?}"
                );
                if by < -60 {
                    assert!(raised.is_empty(), "{case}: {raised:?}");
                }
            }
        }
    }
}

#[test]
fn f46_a_small_step_during_a_restart_changes_nothing() {
    for by in SMALL {
        for down in 1..200 {
            let (lowered, raised) = restarted(down, down + 1, by);
            assert_eq!(lowered.len(), 1, "{by} s at {down} s");
            assert!((59..=62).contains(&lowered[0]), "{by} s at {down} s: {lowered:?}");
            assert!(raised.iter().all(|raise| *raise >= 119), "{by} s at {down} s: {raised:?}");
        }
    }
}

#[test]
fn a_restart_with_a_clock_at_1970_lowers_what_was_due_and_follows_when_it_is_right() {
    let (lowered, raised) = restarted(70, 80, -1_800_000_000);
    assert_eq!((lowered, raised), (vec![60], vec![]));
    // A time server corrects the clock ten seconds after the start.
    let mut receiver = holding();
    receiver.advance(at(50), origin());
    let receiver = Receiver::restore(receiver.saved().clone());
    let (lowered, raised) = played(receiver, 80, |secs| if secs < 90 { -1_800_000_000 } else { 0 });
    assert_eq!(lowered, [90], "it saw 50 s, ran for 10 s, and then learns the time");
    assert_eq!(raised, [120]);
}

#[test]
fn a_state_without_the_time_loads_and_believes_the_clock() {
    let old = r#"{"timeline":null,"applied":{"a":{"action":"drain","means":"device"}}}"#;
    let mut receiver = Receiver::restore(serde_json::from_str(old).expect("an older version's"));
    assert_eq!(receiver.applied().len(), 1);
    receiver.offer(&timeline(1, 1, lease()));
    let (_, raised) = played(receiver, 0, |_| -3_600);
    assert_eq!(raised, [0], "by that clock it is long before the lease");
}

#[test]
fn a_permit_that_comes_while_the_clocks_disagree_is_used_up() {
    let mut receiver = holding();
    let start = origin();
    let after = |secs| start + Duration::from_secs(secs);
    receiver.advance(at(60), after(60));
    assert!(receiver.permit(&permit(1, 1, 1), at(61), after(61)));
    receiver.advance(at(3_662), after(62));
    assert!(!receiver.may_raise(&"a".into(), after(62)) && receiver.stepped().is_some());
    assert!(!receiver.permit(&permit(1, 1, 2), at(3_663), after(63)));
    receiver.advance(at(130), after(130));
    assert!(receiver.stepped().is_none() && !receiver.may_raise(&"a".into(), after(130)));
    assert!(!receiver.permit(&permit(1, 1, 2), at(131), after(131)), "it has been offered before");
    assert!(receiver.permit(&permit(1, 1, 3), at(131), after(131)));
    assert_eq!(receiver.advance(at(131), after(131)).changes.len(), 1);
}

/// The clock is two weeks ahead at the start and corrected at 20 s. At 40 s the process is
/// restarted, which makes it accept the corrected time.
#[test]
fn a_restart_accepts_a_clock_that_was_set_right_while_the_process_ran() {
    let mut receiver = Receiver::default();
    receiver.offer(&timeline(1, 1, lease()));
    let (start, wrong) = (origin(), 14 * 86_400);
    for secs in 0..40_i64 {
        let off = if secs < 20 { wrong } else { 0 };
        let now = start + Duration::from_secs(secs.unsigned_abs());
        receiver.advance(at(secs + off), now);
    }
    assert!(receiver.stepped().is_some());
    let receiver = Receiver::restore(receiver.saved().clone());
    assert_eq!(played(receiver, 41, |_| 0), (vec![60], vec![120]));
}

/// A clock that lost its time while the machine was off is not accepted by a second restart.
#[test]
fn a_second_restart_does_not_accept_a_clock_that_lost_its_time() {
    let mut receiver = holding();
    let start = origin();
    for secs in 0..80_i64 {
        receiver.advance(at(secs), start + Duration::from_secs(secs.unsigned_abs()));
    }
    for _ in 0..3 {
        receiver = Receiver::restore(receiver.saved().clone());
        for secs in 90..100_i64 {
            let now = start + Duration::from_secs(secs.unsigned_abs());
            let wall = at(secs - 40 * 365 * 86_400);
            assert_eq!(receiver.advance(wall, now).changes, [], "a sleeps on");
            assert!(receiver.stepped().is_some());
        }
    }
}
