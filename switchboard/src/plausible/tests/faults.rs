//! Meters that are wrong are found, in the time that it takes to be sure, and believed again.

use super::*;

pub(super) fn factor(factor: f64) -> Option<Fault> {
    Some(Box::new(move |watts| Some((watts as f64 * factor) as i64)))
}

#[test]
fn a_thousand_times_too_much_is_found_by_the_second_sample() {
    let mut bench = one(58_180);
    bench.run_to(20);
    bench.faults[0] = factor(1_000.0);
    bench.run_to(21);
    assert!(!bench.is_believed(0), "not even the first one is used");
    assert_eq!(bench.state(0), MeterState::Ok);
    bench.run_to(22);
    assert_eq!(bench.state(0), MeterState::ScaledUp);
    let feed = bench.number(0);
    assert_eq!(
        bench.plausible.why(&bench.feeds, feed),
        "shows 58,180 kW where at most 180 kW are possible"
    );
    bench.faults[0] = None;
    bench.run_to(24);
    assert_eq!(bench.state(0), MeterState::ScaledUp);
    bench.run_to(25);
    assert_eq!((bench.state(0), bench.is_believed(0)), (MeterState::Ok, true));
    assert_eq!(bench.changes.len(), 2, "each change is told once");
}

/// 50 kW on a feed of 20 MW: a thousand times as much is not impossible.
#[test]
fn a_thousand_times_what_it_was_is_found_where_the_feed_could_carry_it() {
    let mut bench = Bench::new(vec![place(None, 20_000_000, EXACT, |_| 12_000)]);
    bench.run_to(20);
    bench.faults[0] = factor(1_000.0);
    bench.run_to(22);
    assert_eq!(bench.state(0), MeterState::ScaledUp);
    bench.run_to(500);
    assert_eq!(bench.state(0), MeterState::ScaledUp, "it stays so");
    bench.faults[0] = None;
    bench.run_to(503);
    assert_eq!(bench.state(0), MeterState::Ok);
}

#[test]
fn one_wrong_sample_is_not_used_and_not_told() {
    let mut bench = one(40_000);
    bench.run_to(20);
    bench.faults[0] = factor(1_000.0);
    bench.run_to(21);
    assert!(!bench.is_believed(0));
    bench.faults[0] = None;
    bench.run_to(23);
    assert!(bench.is_believed(0));
    assert_eq!(bench.changes, []);
    let feed = bench.number(0);
    let was_wrong =
        bench.plausible.was_wrong_or_silent(feed, Duration::from_mins(5), origin_plus(bench.secs));
    assert!(!was_wrong, "a breach soon after is not blamed on it");
}

#[test]
fn a_thousandth_is_found_at_once_by_what_it_was() {
    let mut bench = one(27_480);
    bench.run_to(20);
    bench.faults[0] = factor(0.001);
    bench.run_to(21);
    assert!(!bench.is_believed(0));
    bench.run_to(22);
    assert_eq!(bench.state(0), MeterState::ScaledDown);
    bench.run_to(300);
    assert_eq!(bench.state(0), MeterState::ScaledDown);
    bench.faults[0] = None;
    bench.run_to(303);
    assert_eq!(bench.state(0), MeterState::Ok);
}

/// After a start nothing is known of what it showed before.
#[test]
fn a_thousandth_from_the_start_is_found_by_shares() {
    let mut bench = one(50_000);
    (bench.machines[0], bench.hashing[0]) = (48_000, 48_000);
    bench.faults[0] = factor(0.001);
    bench.run_to(30);
    assert_eq!(bench.state(0), MeterState::ScaledDown);
    let feed = bench.number(0);
    assert_eq!(
        bench.plausible.why(&bench.feeds, feed),
        "shows 0.05 kW where at least 16 kW are drawn"
    );
}

/// A site without a proxy: devices say that they are awake, and nothing else is known.
#[test]
fn a_thousandth_from_the_start_is_found_by_devices_that_say_they_are_awake() {
    let mut bench = one(50_000);
    (bench.machines[0], bench.awake[0]) = (48_000, 48_000);
    bench.faults[0] = factor(0.001);
    bench.run_to(3);
    assert!(!bench.is_believed(0), "from the first sample on");
    bench.run_to(30);
    assert_eq!(bench.state(0), MeterState::ScaledDown);
}

#[test]
fn a_feed_that_is_really_dead_is_doubted_for_a_minute() {
    let mut bench =
        Bench::new(vec![place(None, 60_000, EXACT, |secs| if secs < 30 { 50_000 } else { 0 })]);
    bench.machines[0] = 48_000;
    bench.run_to(31);
    assert!(!bench.is_believed(0));
    bench.run_to(120);
    assert!(bench.is_believed(0));
    assert_eq!(bench.changes, []);
}

/// Firmware that goes down to 200 W when it has no pool.
#[test]
fn machines_without_a_pool_are_no_fault_of_the_meter() {
    let mut bench = Bench::new(vec![place(None, 60_000, EXACT, |secs| {
        if secs < 30 { 50_000 } else { 2_000 + 16 * 200 }
    })]);
    (bench.machines[0], bench.awake[0]) = (48_000, 48_000);
    bench.run_to(300);
    bench.assert_honest();
}

#[test]
fn a_value_that_stays_while_machines_fall_asleep_is_frozen() {
    let mut bench = one(50_000);
    bench.run_to(60);
    bench.faults[0] = Some(Box::new(|_| Some(50_000)));
    // Seven machines are confirmed to be asleep.
    bench.known[0] = -20_790;
    bench.run_to(90);
    assert_eq!(bench.state(0), MeterState::Frozen);
    assert_eq!(bench.plausible.figures(bench.number(0)), Some((Watts(50_000), Watts(20_790))));
    // They come back, and the value is what it should be; it still is the same value.
    bench.known[0] = 0;
    bench.run_to(200);
    assert_eq!(bench.state(0), MeterState::Frozen);
    bench.faults[0] = Some(Box::new(|_| Some(49_990)));
    bench.run_to(201);
    bench.faults[0] = None;
    bench.run_to(204);
    assert_eq!(bench.state(0), MeterState::Ok);
}

#[test]
fn a_quiet_site_is_not_frozen() {
    let mut bench = one(50_000);
    bench.run_to(4_000);
    // Two of the largest machines at most: some say that they sleep and draw on.
    bench.known[0] = -5_940;
    bench.run_to(8_000);
    bench.assert_honest();
}

#[test]
fn a_parent_that_stays_while_its_children_change_is_frozen() {
    let below = |secs: i64| if secs < 100 { 40_000 } else { 20_000 };
    let mut bench = Bench::new(vec![
        place(None, 100_000, EXACT, move |secs| below(secs) + 4_000),
        place(Some(0), 50_000, EXACT, below),
    ]);
    bench.run_to(60);
    bench.faults[0] = Some(Box::new(|_| Some(44_000)));
    bench.run_to(140);
    assert_eq!((bench.state(0), bench.state(1)), (MeterState::Frozen, MeterState::Ok));
}

#[test]
fn a_meter_without_samples_is_silent_until_the_first_one() {
    let mut bench = one(50_000);
    bench.awaited_until = 15;
    bench.faults[0] = Some(Box::new(|_| None));
    bench.run_to(14);
    assert_eq!(bench.plausible.since(bench.number(0)), None, "it is awaited");
    bench.run_to(15);
    assert_eq!(bench.state(0), MeterState::Silent);
    bench.faults[0] = None;
    bench.run_to(16);
    assert_eq!((bench.state(0), bench.is_believed(0)), (MeterState::Ok, true));
}

/// Its agent restarts.
#[test]
fn a_meter_that_was_wrong_before_it_fell_silent_is_wrong_after_it() {
    let mut bench = one(27_480);
    bench.run_to(20);
    bench.faults[0] = factor(0.001);
    bench.run_to(40);
    bench.faults[0] = Some(Box::new(|_| None));
    bench.run_to(50);
    assert_eq!(
        (bench.state(0), bench.plausible.figures(bench.number(0))),
        (MeterState::Silent, None)
    );
    bench.faults[0] = factor(0.001);
    bench.run_to(51);
    assert_eq!((bench.state(0), bench.is_believed(0)), (MeterState::ScaledDown, false));
    bench.run_to(200);
    assert_eq!(bench.state(0), MeterState::ScaledDown);
    bench.faults[0] = None;
    bench.run_to(203);
    assert_eq!(bench.state(0), MeterState::Ok);
}

/// A parent of 42 kW over one child of 40 kW.
pub(super) fn two() -> Bench {
    let mut bench = Bench::new(vec![
        place(None, 100_000, EXACT, |secs| 42_000 + secs % 3),
        place(Some(0), 50_000, EXACT, |secs| 40_000 + secs % 3),
    ]);
    bench.own_most[0] = 2_500;
    bench
}

#[test]
fn of_two_that_contradict_each_other_the_one_that_is_off_is_named() {
    // The child shows twice as much.
    let mut bench = two();
    bench.run_to(30);
    bench.faults[1] = factor(2.0);
    bench.run_to(45);
    assert_eq!((bench.state(0), bench.state(1)), (MeterState::Ok, MeterState::AboveParent));
    let feed = bench.number(1);
    let why = bench.plausible.why(&bench.feeds, feed);
    assert!(why.starts_with("shows 80.0"), "{why}");
    assert!(why.contains(", and the meter of f0 above it 42.0"), "{why}");
    bench.faults[1] = None;
    bench.run_to(70);
    assert_eq!(bench.state(1), MeterState::Ok);
    // The parent shows half.
    bench.faults[0] = factor(0.5);
    bench.run_to(90);
    assert_eq!((bench.state(0), bench.state(1)), (MeterState::BelowChildren, MeterState::Ok));
}

#[test]
fn two_that_cannot_be_told_apart_are_both_not_believed() {
    let mut bench = two();
    bench.expected = vec![Some(52_000), Some(52_000)];
    bench.run_to(30);
    bench.faults[1] = factor(1.5);
    bench.run_to(45);
    assert_eq!(
        (bench.state(0), bench.state(1)),
        (MeterState::BelowChildren, MeterState::AboveParent)
    );
}

#[test]
fn a_wrong_phase_is_told_from_other_faults_in_both_directions() {
    let root_3 = 3_f64.sqrt();
    for (place, by, when) in [(0, root_3, 100), (0, 1.0 / root_3, 50), (1, root_3, 50)] {
        let mut bench = two();
        bench.run_to(30);
        bench.faults[place] = factor(by);
        bench.run_to(30 + when);
        assert_eq!(bench.state(place), MeterState::Phase, "{place} by {by}");
        assert_eq!(bench.state(1 - place), MeterState::Ok, "{place} by {by}");
    }
    // The child is off downward: the parent seems to carry what nobody declared.
    let mut bench = two();
    bench.run_to(30);
    bench.faults[1] = factor(1.0 / root_3);
    bench.run_to(130);
    assert_eq!((bench.state(0), bench.state(1)), (MeterState::Ok, MeterState::Phase));
}

/// What is between the meters may be any part of the load.
#[test]
fn a_parent_that_carries_undeclared_load_is_not_off_by_phase() {
    let mut bench = Bench::new(vec![
        place(None, 100_000, EXACT, |secs| if secs < 30 { 44_000 } else { 70_000 }),
        place(Some(0), 50_000, EXACT, |_| 40_000),
    ]);
    bench.run_to(400);
    bench.assert_honest();
}
