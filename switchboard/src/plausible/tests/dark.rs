//! Feeds without power: their meters show nothing, and are right.

use super::faults::factor;
use super::*;

/// Sixteen machines find shares, as far as anybody has heard.
fn at_work() -> Bench {
    let mut bench = one(50_000);
    (bench.hashing[0], bench.machines[0]) = (48_000, 48_000);
    bench.run_to(120);
    bench
}

#[test]
fn a_meter_whose_feed_may_have_lost_its_power_is_not_judged_until_that_is_known() {
    let mut bench = at_work();
    bench.faults[0] = factor(0.001);
    bench.judging[0] = Judging::Waits;
    bench.run_to(240);
    assert_eq!((bench.state(0), bench.is_believed(0)), (MeterState::Ok, true));
    bench.judging[0] = Judging::Usual;
    bench.run_to(243);
    assert_eq!(bench.state(0), MeterState::ScaledDown, "what it showed before is not forgotten");
}

#[test]
fn nothing_is_held_against_a_meter_when_the_power_of_its_feed_is_back() {
    let mut bench = at_work();
    bench.faults[0] = factor(0.001);
    bench.judging[0] = Judging::Rests;
    bench.run_to(240);
    assert_eq!((bench.state(0), bench.is_believed(0)), (MeterState::Ok, true));
    bench.hashing[0] = 0;
    bench.judging[0] = Judging::Usual;
    bench.run_to(400);
    assert_eq!(bench.changes, []);
}
