//! A meter that was found to be wrong is not believed again before something could have contradicted it:
//! neither a restart nor a silence is evidence.

use super::faults::{factor, two};
use super::*;

/// The places that are wrong, by how much, and what they are called.
const WRONG: [(usize, f64, MeterState); 4] = [
    (1, 2.0, MeterState::AboveParent),
    (0, 0.5, MeterState::BelowChildren),
    (0, 1.732, MeterState::Phase),
    (1, 0.577, MeterState::Phase),
];

/// A site on which the meter of `place` was found to be off `by` a factor.
fn wrong((place, by, state): (usize, f64, MeterState)) -> Bench {
    let mut bench = two();
    bench.run_to(30);
    bench.faults[place] = factor(by);
    bench.run_to(130);
    assert_eq!(bench.state(place), state);
    bench
}

fn assert_stays(bench: &mut Bench, (place, by, state): (usize, f64, MeterState), until: i64) {
    while bench.secs < until {
        bench.step();
        assert_eq!(bench.state(place), state, "by {by} at {} s", bench.secs);
        assert!(!bench.is_believed(place), "by {by} at {} s", bench.secs);
    }
}

#[test]
fn a_contradiction_between_meters_outlasts_a_restart() {
    for wrong_one in WRONG {
        let mut bench = wrong(wrong_one);
        bench.restart();
        assert_stays(&mut bench, wrong_one, 400);
        bench.faults[wrong_one.0] = None;
        bench.run_to(480);
        assert_eq!(bench.state(wrong_one.0), MeterState::Ok, "{wrong_one:?}");
    }
}

/// The meter is repaired during the restart.
#[test]
fn a_meter_that_is_right_after_a_restart_is_believed_once_it_was_compared() {
    for wrong_one in WRONG {
        let mut bench = wrong(wrong_one);
        bench.restart();
        bench.faults[wrong_one.0] = None;
        assert_stays(&mut bench, wrong_one, 132);
        bench.run_to(200);
        assert_eq!(bench.state(wrong_one.0), MeterState::Ok, "{wrong_one:?}");
    }
}

#[test]
fn a_contradiction_between_meters_outlasts_the_silence_of_both() {
    for wrong_one in WRONG {
        let mut bench = wrong(wrong_one);
        for place in [0, 1] {
            bench.faults[place] = Some(Box::new(|_| None));
        }
        bench.run_to(430);
        assert_eq!(bench.state(wrong_one.0), MeterState::Silent);
        bench.faults = vec![None, None];
        bench.faults[wrong_one.0] = factor(wrong_one.1);
        assert_stays(&mut bench, wrong_one, 700);
        for place in [0, 1] {
            let gap = bench.plausible.gap(bench.number(place));
            assert_eq!(gap, Duration::from_secs(1), "a silence is not the distance of samples");
        }
    }
}

#[test]
fn a_contradiction_between_meters_outlasts_the_silence_of_the_other_one() {
    for wrong_one in WRONG {
        let mut bench = wrong(wrong_one);
        bench.faults[1 - wrong_one.0] = Some(Box::new(|_| None));
        assert_stays(&mut bench, wrong_one, 430);
        bench.faults[1 - wrong_one.0] = None;
        assert_stays(&mut bench, wrong_one, 700);
    }
}

/// A feed whose parent has no meter any more has nothing that could contradict it.
#[test]
fn a_meter_that_nothing_can_contradict_any_more_is_believed() {
    let mut bench = wrong(WRONG[0]);
    let mut feeds = bench.feeds.as_slice().to_vec();
    feeds[0].meter = None;
    let feeds = Feeds::new(feeds).expect("they are as before");
    bench.plausible = bench.plausible.carried(&bench.feeds, &feeds);
    bench.feeds = feeds;
    bench.run_to(140);
    assert_eq!(bench.state(1), MeterState::Ok);
}

#[test]
fn a_frozen_meter_is_so_after_a_restart_and_after_a_silence() {
    let mut bench = one(50_000);
    bench.run_to(60);
    bench.known[0] = -20_790;
    bench.run_to(100);
    let frozen = (0, 1.0, MeterState::Frozen);
    assert_eq!(bench.state(0), MeterState::Frozen);
    bench.restart();
    assert_stays(&mut bench, frozen, 300);
    assert_eq!(bench.plausible.figures(bench.number(0)), Some((Watts(50_000), Watts(20_790))));
    bench.faults[0] = Some(Box::new(|_| None));
    bench.run_to(600);
    bench.faults[0] = None;
    assert_stays(&mut bench, frozen, 700);
    // It shows another value in its first sample after the next restart.
    bench.restart();
    bench.faults[0] = factor(0.6);
    bench.run_to(703);
    assert_eq!((bench.state(0), bench.is_believed(0)), (MeterState::Ok, true));
}
