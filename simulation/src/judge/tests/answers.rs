use super::*;
use crate::record::MeterFault;

/// The house grows by 15 kW at 700 s, so that both feeds carry 6 kW too much; meters and agent are as
/// they should be, and all machines run.
fn grown() -> Bench {
    let mut bench = Bench::new();
    bench.guard = true;
    bench.timeline(50, 1, &[]);
    bench.house(700, 15_000);
    bench
}

/// Whether it is found that `bench` has a feed whose excess nobody answered.
fn is_found(bench: &Bench) -> bool {
    bench.verdict().iter().any(|found| found.kind == Kind::Unanswered)
}

#[test]
fn an_excess_that_no_command_answers_is_found() {
    assert!(is_found(&grown()));
    // 3 kW of 6 kW, and the rest too late.
    let mut bench = grown();
    bench.obeyed(705, 0, Order::Sleep);
    bench.obeyed(760, 1, Order::Sleep);
    bench.obeyed(760, 2, Order::Sleep);
    assert!(is_found(&bench));
}

#[test]
fn a_device_that_hangs_is_named() {
    let mut bench = grown();
    bench.spec.machines[0].habits.hangs_percent = 50;
    let found = bench.found();
    assert!(found.contains(&(Kind::Unanswered, Cause::Device)), "{found:?}");
}

#[test]
fn an_excess_that_is_answered_at_once_or_is_short_is_not() {
    let mut answered = grown();
    for machine in 0..3 {
        answered.command(706, machine, Order::Sleep);
    }
    assert!(!is_found(&answered));
    let mut short = grown();
    short.house(705, -15_000);
    assert!(!is_found(&short));
}

#[test]
fn an_agent_that_cannot_know_it_is_not_blamed() {
    let mut unheard = Bench::new();
    unheard.guard = true;
    unheard.house(700, 15_000);
    assert!(!is_found(&unheard));
    let mut down = grown();
    down.down(Role::Agent, 690, 720, StateFound::Kept);
    assert!(!is_found(&down));
    let mut lost = grown();
    lost.down(Role::Agent, 200, 210, StateFound::Lost);
    assert!(!is_found(&lost));
    let mut blind = grown();
    for meter in &mut blind.spec.meters {
        meter.faults = vec![(secs(695), Some(MeterFault::Frozen))];
    }
    assert!(!is_found(&blind));
    let mut nobody_left = grown();
    nobody_left.spec.groups[0].reachable = false;
    assert!(!is_found(&nobody_left));
}
