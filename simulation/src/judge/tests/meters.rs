use super::*;
use crate::record::{MeterFault, MeterShown};

/// The feed's meter is off by `factor` from 700 s to 1,000 s.
fn off_by(factor: f64) -> Bench {
    let mut bench = Bench::new();
    bench.spec.meters[0].faults =
        vec![(secs(700), Some(MeterFault::Factor(factor))), (secs(1_000), None)];
    bench
}

fn shown(bench: &mut Bench, at: u64, shown: MeterShown) {
    let meter = bench.spec.meters[0].id.clone();
    bench.note(at, Event::MeterShown { meter, shown });
}

#[test]
fn a_meter_that_is_off_by_far_and_believed_is_found() {
    let mut bench = off_by(0.001);
    shown(&mut bench, 5, MeterShown::Believed);
    bench.finds(&[(Kind::ImplausibleBelieved, Cause::Decision)]);

    let mut found = off_by(0.001);
    shown(&mut found, 5, MeterShown::Believed);
    shown(&mut found, 720, MeterShown::Doubted);
    shown(&mut found, 1_010, MeterShown::Believed);
    found.finds_nothing();
}

#[test]
fn a_small_error_need_not_be_found() {
    let mut bench = off_by(1.5);
    shown(&mut bench, 5, MeterShown::Believed);
    bench.finds_nothing();
}

#[test]
fn a_meter_that_is_right_and_called_wrong_is_found() {
    let mut bench = Bench::new();
    shown(&mut bench, 5, MeterShown::Believed);
    shown(&mut bench, 700, MeterShown::Doubted);
    shown(&mut bench, 730, MeterShown::Believed);
    bench.finds(&[(Kind::HonestDoubted, Cause::Decision)]);
    bench.down(Role::Switchboard, 600, 650, StateFound::Kept);
    bench.finds(&[(Kind::HonestDoubted, Cause::Outage)]);
}
