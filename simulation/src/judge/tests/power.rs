use super::*;

#[test]
fn a_house_that_grows_is_named() {
    let mut bench = Bench::new();
    bench.house(1_000, 15_000);
    bench.house(1_300, -15_000);
    bench.finds(&[(Kind::AboveUsable, Cause::House)]);
    let found = bench.verdict();
    assert_eq!((found.len(), found[0].watts), (2, Watts(6_000)), "at both feeds");
    assert_eq!((found[0].span.from, found[0].span.to), (secs(1_000), secs(1_300)));
}

#[test]
fn what_is_shed_in_time_is_no_violation() {
    let mut bench = Bench::new();
    bench.house(1_000, 15_000);
    bench.mining(1_025, -9_000);
    bench.finds_nothing();
}

#[test]
fn mining_that_nobody_else_explains_is_a_decision() {
    let mut bench = Bench::new();
    bench.mining(1_000, 15_000);
    bench.mining(1_300, -15_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Decision)]);
}

/// 6 kW above usable, of which the house explains 3.
#[test]
fn a_cause_that_explains_only_a_part_excuses_nothing() {
    let mut bench = Bench::new();
    bench.house(1_000, 3_000);
    bench.mining(1_000, 12_000);
    bench.mining(1_300, -15_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Decision)]);
}

#[test]
fn tenants_are_told_apart_by_their_promise() {
    let mut over = Bench::new();
    over.promise("l", 5_000, 1_000, 2_000);
    over.tenant(1_000, "l", 14_000);
    over.tenant(2_000, "l", -14_000);
    over.finds(&[(Kind::AboveUsable, Cause::TenantOver)]);

    let mut late = Bench::new();
    late.promise("l", 5_000, 1_000, 2_000);
    late.phase(990, "l", Phase::Proven);
    late.tenant(1_000, "l", 5_000);
    late.mining(2_010, 5_000);
    late.tenant(2_500, "l", -5_000);
    late.finds(&[(Kind::AboveUsable, Cause::TenantOutside)]);
}

#[test]
fn a_machine_that_was_told_to_sleep_and_draws_is_the_devices() {
    let mut bench = Bench::new();
    bench.promise("l", 10_000, 1_000, 2_000);
    bench.timeline(20, 1, &[(900, Action::Drain, &[0, 1])]);
    bench.command(901, 0, Order::Sleep);
    bench.command(901, 1, Order::Sleep);
    bench.tenant(1_000, "l", 10_000);
    bench.tenant(2_000, "l", -10_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Device)]);
}

#[test]
fn machines_that_draw_more_than_their_nameplate_are_named() {
    let mut bench = Bench::new();
    bench.spec.machines.iter_mut().for_each(|machine| machine.awake = Watts(4_000));
    bench.mining(1_000, 10_000);
    bench.mining(1_300, -10_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Nameplate)]);
}

#[test]
fn an_agent_that_is_down_is_an_outage_and_not_a_decision() {
    let mut bench = Bench::new();
    bench.promise("l", 10_000, 1_000, 1_400);
    bench.timeline(20, 1, &[(900, Action::Drain, &[0, 1])]);
    bench.down(Role::Agent, 800, 1_500, StateFound::Kept);
    bench.tenant(1_000, "l", 10_000);
    bench.tenant(1_400, "l", -10_000);
    bench.command(1_501, 0, Order::Sleep);
    bench.command(1_501, 1, Order::Sleep);
    bench.finds(&[(Kind::AboveUsable, Cause::Outage)]);
}

#[test]
fn a_lowered_limit_is_named() {
    let mut bench = Bench::new();
    bench.usable(1_000, 25_000);
    bench.usable(2_000, 40_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Derate)]);
}

#[test]
fn machines_that_nothing_but_the_proxy_reaches_are_named() {
    let mut bench = Bench::new();
    bench.spec.groups[0].reachable = false;
    bench.usable(0, 25_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Starved)]);
}

#[test]
fn a_meter_that_hides_an_excess_is_named() {
    let mut bench = Bench::new();
    bench.mining(1_000, 10_000);
    bench.mining(1_300, -10_000);
    bench.finds(&[(Kind::AboveUsable, Cause::Decision)]);
    for meter in &mut bench.spec.meters {
        let fault = crate::record::MeterFault::Factor(0.6);
        meter.faults = vec![(secs(990), Some(fault)), (secs(1_450), None)];
    }
    bench.finds(&[(Kind::AboveUsable, Cause::Meter)]);
}
