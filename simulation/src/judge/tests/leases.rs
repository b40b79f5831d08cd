use super::*;

/// A lease of 15 kW from 1,000 s to 2,000 s, with three machines asleep for it.
fn kept() -> Bench {
    let mut bench = Bench::new();
    bench.promise("l", 15_000, 1_000, 2_000);
    bench.timeline(20, 1, &[(800, Action::Drain, &[0, 1, 2])]);
    for machine in 0..3 {
        bench.obeyed(802, machine, Order::Sleep);
    }
    let shown = Shown { wanted: (0..3).map(id).collect(), ..Shown::default() };
    bench.note(810, Event::Shown(shown));
    bench.phase(801, "l", Phase::Shedding);
    bench.tenant(1_000, "l", 15_000);
    bench.tenant(2_000, "l", -15_000);
    bench
}

fn proven(bench: &mut Bench, at: u64) {
    bench.phase(at, "l", Phase::Proven);
    bench.phase(1_000, "l", Phase::Active);
    bench.phase(2_000, "l", Phase::Releasing);
}

#[test]
fn a_lease_that_is_kept_is_blameless() {
    let mut bench = kept();
    proven(&mut bench, 850);
    bench.finds_nothing();
}

#[test]
fn a_proof_before_the_power_was_free_is_found() {
    let mut bench = kept();
    proven(&mut bench, 790);
    bench.finds(&[(Kind::ProvenNotFree, Cause::Decision)]);
}

#[test]
fn a_proof_by_a_wrong_meter_is_the_meters() {
    let mut bench = kept();
    proven(&mut bench, 790);
    for meter in &mut bench.spec.meters {
        let fault = crate::record::MeterFault::Factor(0.001);
        meter.faults = vec![(secs(700), Some(fault)), (secs(900), None)];
    }
    bench.finds(&[(Kind::ProvenNotFree, Cause::Meter)]);
}

#[test]
fn power_that_goes_missing_is_put_on_record() {
    let mut silent = kept();
    proven(&mut silent, 850);
    silent.house(1_400, 4_000);
    silent.house(1_600, -4_000);
    let kinds: BTreeSet<Kind> = silent.found().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, BTreeSet::from([Kind::AboveUsable, Kind::MissingUnrecorded]));

    silent.breach(1_430, "l", 1_402, 2_090, Side::Facility);
    silent.finds(&[(Kind::AboveUsable, Cause::House)]);
}

#[test]
fn a_breach_of_nothing_is_found() {
    let mut bench = kept();
    proven(&mut bench, 850);
    bench.breach(1_500, "l", 1_400, 58_000_000, Side::Facility);
    bench.finds(&[(Kind::BreachOfNothing, Cause::Decision)]);
    for meter in &mut bench.spec.meters {
        let fault = crate::record::MeterFault::Factor(1_000.0);
        meter.faults = vec![(secs(1_390), Some(fault)), (secs(1_450), None)];
    }
    bench.finds(&[(Kind::BreachOfNothing, Cause::Meter)]);
}

#[test]
fn a_breach_by_the_tenant_is_not_the_facilitys() {
    let mut bench = kept();
    proven(&mut bench, 850);
    bench.tenant(1_400, "l", 4_500);
    bench.tenant(1_800, "l", -4_500);
    bench.breach(1_450, "l", 1_405, 2_590, Side::Facility);
    let found = bench.found();
    assert!(found.contains(&(Kind::BreachOfWrongSide, Cause::TenantOver)), "{found:?}");

    let mut right = kept();
    proven(&mut right, 850);
    right.tenant(1_400, "l", 4_500);
    right.tenant(1_800, "l", -4_500);
    right.breach(1_450, "l", 1_405, 2_590, Side::Tenant);
    right.finds(&[(Kind::AboveUsable, Cause::TenantOver)]);
}

#[test]
fn a_lease_whose_power_was_free_and_that_is_not_proven_is_found() {
    let mut bench = kept();
    bench.phase(1_000, "l", Phase::Planned);
    bench.finds(&[(Kind::FreeNotProven, Cause::Decision)]);
    bench.down(Role::Switchboard, 930, 990, StateFound::Kept);
    bench.finds(&[(Kind::FreeNotProven, Cause::Outage)]);
}

/// The feed's meter shows the tenant before the tenant's own meter does.
#[test]
fn a_breach_seen_between_two_meters_is_the_settle_times() {
    let mut bench = kept();
    proven(&mut bench, 850);
    bench.terms.settle = secs(5);
    bench.breach(1_006, "l", 1_001, 12_000, Side::Facility);
    bench.finds(&[(Kind::BreachOfNothing, Cause::Settle)]);
}

/// The next lease begins when this one ends, and takes over its machines.
#[test]
fn a_lease_that_is_over_by_then_does_not_count_against_the_next() {
    let mut bench = kept();
    proven(&mut bench, 850);
    bench.promise("next", 15_000, 2_060, 2_500);
    bench.phase(1_900, "next", Phase::Proven);
    bench.phase(2_500, "next", Phase::Closed);
    bench.finds_nothing();

    let mut beside = kept();
    proven(&mut beside, 850);
    beside.promise("beside", 15_000, 1_960, 2_500);
    beside.phase(1_890, "beside", Phase::Proven);
    beside.phase(2_500, "beside", Phase::Closed);
    let found = beside.found();
    assert!(found.contains(&(Kind::ProvenNotFree, Cause::Decision)), "{found:?}");
}

#[test]
fn what_was_missing_before_a_breach_is_not_held_against_a_side() {
    let mut bench = kept();
    proven(&mut bench, 850);
    // The house takes the power until a second before the breach begins.
    bench.house(1_395, 4_500);
    bench.house(1_404, -4_500);
    bench.breach(1_450, "l", 1_405, 2_590, Side::Tenant);
    bench.finds_nothing();
}

#[test]
fn a_switchboard_that_hears_nothing_records_nothing() {
    let mut bench = kept();
    proven(&mut bench, 850);
    bench.house(1_400, 5_000);
    bench.house(1_900, -5_000);
    bench.note(1_390, Event::Link { receiver: Role::Agent, works: false });
    let found = bench.found();
    assert!(found.contains(&(Kind::MissingUnrecorded, Cause::Outage)), "{found:?}");
}
