use super::*;

/// Three machines sleep from 800 s to 2,500 s for a lease of 15 kW that ends at 2,000 s.
fn shed(machines: usize) -> Bench {
    let mut bench = Bench::new();
    bench.surplus = true;
    bench.terms.up_per_min = Watts(60_000);
    bench.terms.up_step_machines = 10;
    bench.promise("l", 15_000, 1_000, 2_000);
    let all: Vec<usize> = (0..machines).collect();
    bench.timeline(20, 1, &[(800, Action::Drain, &all), (2_010, Action::Run, &all)]);
    bench.permit(2_005, 1);
    for machine in 0..machines {
        bench.obeyed(802, machine, Order::Sleep);
        bench.obeyed(2_012, machine, Order::Wake);
    }
    let wanted = all.iter().map(|machine| id(*machine)).collect();
    bench.note(810, Event::Shown(Shown { wanted, ..Shown::default() }));
    bench.phase(850, "l", Phase::Proven);
    bench.phase(2_000, "l", Phase::Closed);
    bench.terms.down_per_min = Watts(60_000);
    bench.terms.up_step_interval = secs(1);
    bench
}

#[test]
fn machines_that_a_lease_needs_are_not_too_many() {
    let mut bench = shed(3);
    bench.tenant(1_000, "l", 5_000);
    bench.tenant(2_000, "l", -5_000);
    bench.finds_nothing();
}

#[test]
fn machines_that_no_lease_needs_are_found() {
    let bench = shed(6);
    bench.finds(&[(Kind::ShedTooMuch, Cause::Decision)]);
    assert_eq!(bench.verdict()[0].place, super::super::Place::Machine(id(0)));
}

/// The machines draw less than their nameplates, so the plan takes one more than needed.
#[test]
fn what_the_policys_figures_ask_for_is_known_as_such() {
    let mut bench = shed(4);
    bench.mining(0, -10_000);
    bench.finds(&[(Kind::ShedTooMuch, Cause::Nameplate)]);
}

#[test]
fn what_replaces_a_machine_that_disobeys_is_known_as_such() {
    let mut bench = shed(6);
    bench.spec.machines[0].habits.lies = true;
    bench.finds(&[(Kind::ShedTooMuch, Cause::Device)]);
}
