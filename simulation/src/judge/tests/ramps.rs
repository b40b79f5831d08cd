use super::*;

/// All machines slept for a lease, and may run again from 1,000 s on.
fn asleep() -> Bench {
    let mut bench = Bench::new();
    let all: Vec<usize> = (0..10).collect();
    // 20 kW/min: a machine each nine seconds.
    let steps: Vec<_> = all
        .iter()
        .map(|machine| (turn(100, 9, *machine), Action::Drain, &all[*machine..=*machine]))
        .collect();
    bench.timeline(50, 1, &steps);
    for machine in 0..10 {
        bench.obeyed(turn(101, 9, machine), machine, Order::Sleep);
    }
    let shown: BTreeSet<MachineId> = (0..10).map(id).collect();
    bench.note(110, Event::Shown(Shown { wanted: shown.clone(), ..Shown::default() }));
    bench.timeline(1_000, 2, &[(1_009, Action::Run, &all)]);
    bench.note(1_001, Event::Shown(Shown { returning: shown, ..Shown::default() }));
    for at in (1_005..1_600).step_by(100) {
        bench.permit(at, 2);
    }
    bench
}

fn wake(bench: &mut Bench, every: u64) {
    for machine in 0..10 {
        bench.obeyed(turn(1_010, every, machine), machine, Order::Wake);
    }
}

/// The turn of machine number `machine`, where the first is at `from`.
fn turn(from: u64, every: u64, machine: usize) -> u64 {
    from + every * u64::try_from(machine).unwrap()
}

#[test]
fn a_fleet_that_comes_back_by_the_ramp_is_blameless() {
    let mut bench = asleep();
    wake(&mut bench, 30);
    bench.finds_nothing();
}

#[test]
fn a_fleet_that_comes_back_too_fast_is_found() {
    let mut bench = asleep();
    wake(&mut bench, 10);
    bench.finds(&[(Kind::RampUp, Cause::Decision)]);
}

#[test]
fn more_machines_at_once_than_a_step_has_are_found() {
    let mut bench = asleep();
    bench.terms.up_per_min = Watts(1_000_000);
    wake(&mut bench, 1);
    bench.finds(&[(Kind::StepUp, Cause::Decision)]);
}

#[test]
fn what_waited_through_an_outage_has_that_cause() {
    let mut bench = asleep();
    bench.down(Role::Switchboard, 960, 990, StateFound::Kept);
    wake(&mut bench, 10);
    bench.finds(&[(Kind::RampUp, Cause::Outage)]);
}

#[test]
fn raises_that_waited_for_a_permit_have_that_cause() {
    let mut bench = asleep();
    bench.record.entries.retain(|entry| {
        let is_permit = matches!(&entry.event, Event::Heard { message: Message::Permit(_), .. });
        !is_permit
    });
    bench.permit(1_200, 2);
    (0..10).for_each(|machine| bench.obeyed(1_201, machine, Order::Wake));
    bench.finds(&[(Kind::RampUp, Cause::Permit), (Kind::StepUp, Cause::Permit)]);
}

#[test]
fn turns_of_two_leases_that_meet_have_that_cause() {
    let mut bench = asleep();
    let mut steps = Vec::new();
    for (lease, machines) in [("a", 0..5), ("b", 5..10)] {
        steps.push(Step {
            at: bench.record.wall(secs(60)),
            group: "g".into(),
            action: Action::Drain,
            means: Means::Device,
            machines: machines.map(id).collect(),
            lease: Some(lease.into()),
            reason: String::new(),
        });
    }
    let timeline = Timeline {
        number: number(0),
        issued_at: bench.record.wall(secs(40)),
        horizon: bench.record.wall(secs(100_000)),
        ledger_head: None,
        steps,
        holds_taken: std::collections::BTreeMap::new(),
    };
    bench.note(40, Event::Issued(Arc::new(timeline)));
    wake(&mut bench, 10);
    bench.finds(&[(Kind::RampUp, Cause::Leases)]);
}

#[test]
fn a_fleet_that_goes_too_fast_is_found() {
    let mut bench = Bench::new();
    bench.terms.down_per_min = Watts(3_000);
    let all: Vec<usize> = (0..10).collect();
    bench.timeline(50, 1, &[(100, Action::Drain, &all)]);
    (0..10).for_each(|machine| bench.obeyed(101, machine, Order::Sleep));
    let wanted = all.iter().map(|machine| id(*machine)).collect();
    bench.note(110, Event::Shown(Shown { wanted, ..Shown::default() }));
    bench.finds(&[(Kind::RampDown, Cause::Decision)]);
    // A guard waits for no ramp, and acts on what its meter shows.
    let fault = crate::record::MeterFault::Factor(3_f64.sqrt());
    bench.spec.meters[1].faults = vec![(secs(90), Some(fault))];
    bench.finds_nothing();
}

/// Shed, restored and shed within its shortest times.
#[test]
fn a_machine_that_is_turned_to_and_fro_is_found_unless_a_lease_wants_it() {
    let flapping = || {
        let mut bench = Bench::new();
        let to_and_fro =
            [(100, Action::Drain, &[0][..]), (130, Action::Run, &[0]), (160, Action::Drain, &[0])];
        bench.timeline(50, 1, &to_and_fro);
        bench.permit(120, 1);
        bench.obeyed(101, 0, Order::Sleep);
        bench.obeyed(132, 0, Order::Wake);
        bench.obeyed(161, 0, Order::Sleep);
        bench.note(102, Event::Shown(Shown { wanted: [id(0)].into(), ..Shown::default() }));
        bench
    };
    flapping().finds(&[(Kind::Flapping, Cause::Decision)]);
    let mut guarded = flapping();
    guarded.house(155, 8_500);
    guarded.house(165, -8_500);
    guarded.finds_nothing();
    let mut wanted = flapping();
    wanted.promise("l", 1_000, 200, 3_000);
    wanted.record.entries.last_mut().unwrap().at = secs(140);
    wanted.phase(205, "l", Phase::Proven);
    wanted.finds_nothing();
}
