//! Why machines are off, as views show it: every machine that is off has one answer, and the counts
//! by cause are those of the machines.

use directive::GuardState;

use super::meters::guard;
use super::*;
use crate::cause::{Cause, OffBy};
use crate::view::{MachineView, StatusView};

fn machines(world: &mut World) -> Vec<MachineView> {
    match world.ask(Command::Machines { after: None, limit: 1000 }) {
        Answer::Machines(answer) => answer.machines,
        other => panic!("{other:?}"),
    }
}

fn status(world: &mut World) -> StatusView {
    match world.ask(Command::Status) {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

/// How many machines are off by each cause. The counts of the status are those of the machines.
fn off(world: &mut World) -> Vec<(OffBy, u32)> {
    let mut counts: BTreeMap<OffBy, u32> = BTreeMap::new();
    for view in machines(world) {
        if let Some(off) = &view.off {
            assert!(!off.why.is_empty(), "{view:?}");
            *counts.entry(off.cause).or_insert(0) += 1;
        }
    }
    let by_cause = status(world).machines_off_by_cause;
    let shown: BTreeMap<OffBy, u32> = by_cause.iter().map(|(by, off)| (*by, off.count)).collect();
    assert_eq!(shown, counts, "at {}", world.secs);
    counts.into_iter().collect()
}

fn why(world: &mut World, machine: &str) -> String {
    let view = machines(world).into_iter().find(|view| view.machine.as_str() == machine);
    view.and_then(|view| view.off).map(|off| off.why).unwrap_or_default()
}

#[test]
fn a_machine_is_off_for_its_lease_and_then_waits_for_room() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    assert_eq!(off(&mut world), [], "nothing is due");
    world.run_to(930);
    assert_eq!(off(&mut world), [(OffBy::Lease, 5)]);
    assert_eq!(
        why(&mut world, "old.000"),
        "lease l needs 20 kW at a from 2027-01-15 08:15:40",
        "before it reserves its power"
    );
    world.run_to(1100);
    assert_eq!(off(&mut world), [(OffBy::Lease, 5)]);
    assert_eq!(status(&mut world).machines_off_by_cause[&OffBy::Lease].off, Watts(14_850));
    assert_eq!(why(&mut world, "old.000"), "lease l needs 20 kW at a until 2027-01-15 08:25");
    world.run_to(1505);
    let counts = off(&mut world);
    assert!(matches!(counts[..], [(OffBy::Room, 4..=5)]), "{counts:?}");
    world.run_to(2000);
    assert_eq!(off(&mut world), []);
}

#[test]
fn between_two_leases_a_machine_stays_off_for_the_next() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1400);
    world.commit("m", "a", 20_000, 1600, 2400);
    world.run_to(1450);
    assert_eq!(off(&mut world), [(OffBy::Stays, 5)]);
    let reason = why(&mut world, "old.000");
    assert!(reason.starts_with("lease m needs 20 kW at a from"), "{reason}");
    assert!(reason.ends_with("too soon for the machine to come back before"), "{reason}");
    world.run_to(1700);
    assert_eq!(off(&mut world), [(OffBy::Lease, 5)]);
}

#[test]
fn a_machine_that_a_guard_put_to_sleep_is_shown_with_its_feed_and_is_so_in_the_ledger() {
    let mut world = obedient();
    world.meter_adds = Watts(20_000);
    world.run_to(23);
    let held = ["new.000", "new.001", "new.002", "new.003", "old.009"];
    guard(&mut world, 7, &held, GuardState::Tripped);
    world.run_to(60);
    assert_eq!(off(&mut world), [(OffBy::Guard, 5)]);
    let view = machines(&mut world).into_iter().find(|view| view.machine.as_str() == "new.000");
    let view = view.expect("it is off");
    assert_eq!(view.off.as_ref().and_then(|off| off.feed.clone()), Some("a".into()));
    let recorded = &world.core.state.selection.off["new.000"];
    assert_eq!(recorded[0].cause, Cause::Guard("a".into()));
    let plan = world.core.plan.as_ref().expect("there is one");
    let reasons: Vec<&str> = plan.steps.iter().map(|step| step.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("the guard of feed a")), "{reasons:?}");
    // A restart continues with the same answer.
    world.restart();
    world.run_to(90);
    assert_eq!(off(&mut world), [(OffBy::Guard, 5)]);
    world.meter_adds = Watts::ZERO;
    world.run_to(600);
    assert_eq!(off(&mut world), []);
}

#[test]
fn a_feed_whose_load_is_too_high_is_the_cause_itself() {
    let mut world = obedient();
    world.meter_adds = Watts(20_000);
    world.run_to(200);
    let counts = off(&mut world);
    assert!(matches!(counts[..], [(OffBy::Load, 1..)]), "{counts:?}");
    assert_eq!(
        why(&mut world, "old.000"),
        "feed a would carry too much with it, even without leases"
    );
}

#[test]
fn a_machine_that_somebody_else_put_to_sleep_is_not_off_by_us() {
    let mut world = obedient();
    let machine = world.machines.iter_mut().find(|one| one.id.as_str() == "far.003").unwrap();
    machine.manner = Manner::Stays;
    (machine.asleep_says, machine.draws, machine.slept_says) = (true, false, None);
    world.run_to(30);
    assert_eq!(off(&mut world), [(OffBy::NotByUs, 1)]);
    assert!(why(&mut world, "far.003").contains("tieline machine adopt"));
}

#[test]
fn each_machine_has_one_answer_at_every_moment_of_two_leases() {
    let mut world = obedient();
    world.commit("l", "a", 40_000, 1000, 1400);
    world.commit("m", "b", 9_000, 1300, 1900);
    while world.secs < 2_300 {
        world.run_to(world.secs + 7);
        off(&mut world);
        for view in machines(&mut world) {
            let is_to_be_off = world.core.states.contains_key(&view.machine);
            let is_off = is_to_be_off || view.state == MachineState::Returning;
            assert!(view.off.is_some() || !is_off, "{view:?} at {}", world.secs);
        }
    }
}
