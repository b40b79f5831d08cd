//! What phase a lease is in, and whose machines are whose.

use super::*;
use crate::view::LeaseView;

fn view(world: &World, lease: &str) -> LeaseView {
    world.core.lease_view(&lease.into()).expect("it is known")
}

fn machines(world: &World, lease: &str) -> u32 {
    view(world, lease).machines_by_state.values().sum()
}

#[test]
fn a_lease_that_follows_another_has_its_machines_and_closes_when_they_are_back() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1440);
    world.commit("m", "a", 20_000, 1500, 2000);
    world.run_to(1445);
    assert_eq!((machines(&world, "l"), machines(&world, "m")), (0, 5));
    assert_eq!(world.phase("l"), Phase::Closed, "its machines are another lease's");
    let plan = world.core.plan.as_ref().unwrap();
    let whose: Vec<_> = plan.steps.iter().map(|step| step.lease.clone()).collect();
    assert!(whose.iter().all(|lease| *lease == Some("m".into())), "{whose:?}");
    world.run_to(2003);
    assert_eq!(world.phase("m"), Phase::Releasing);
    while world.phase("m") != Phase::Closed {
        assert!(world.secs < 2400, "it closes");
        world.step();
    }
    assert!(world.machines.iter().all(|machine| machine.draws), "at {}", world.secs);
}

fn off(world: &World) -> Vec<&str> {
    let off = world.machines.iter().filter(|machine| !machine.draws);
    off.map(|machine| machine.id.as_str()).collect()
}

fn returning(world: &World, lease: &str) -> Vec<String> {
    let lease = lease.into();
    world.core.selection.returning_from(&lease).map(ToString::to_string).collect()
}

#[test]
fn a_lease_is_closed_when_its_machines_mine_and_not_when_they_had_the_time_to() {
    let mut world = World::new(|id| match id {
        "old.001" | "old.003" => Manner::Stays,
        _ => Manner::Obeys,
    });
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    // All turns are over at 1560; restore_p95 is a minute.
    world.run_to(1800);
    assert_eq!(world.phase("l"), Phase::Releasing);
    assert_eq!(returning(&world, "l"), ["old.001", "old.003"]);
    assert_eq!(view(&world, "l").machines_by_state, [(MachineState::Returning, 2)].into());
    world.restart();
    world.run_to(1900);
    assert_eq!(world.phase("l"), Phase::Releasing, "a restart forgets none of them");
    assert_eq!(returning(&world, "l"), ["old.001", "old.003"]);
    let page = world.ask(Command::Machines { after: Some("old.000".into()), limit: 1 });
    assert!(
        matches!(&page, Answer::Machines(page) if page.machines[0].state == MachineState::Returning)
    );
    for machine in &mut world.machines {
        machine.manner = Manner::Obeys;
    }
    world.run_to(1902);
    assert_eq!((world.phase("l"), off(&world)), (Phase::Closed, vec![]));
}

#[test]
fn a_machine_that_falls_asleep_after_its_lease_was_cancelled_is_not_back() {
    let late = |id: &str| if id == "old.000" { Manner::Late } else { Manner::Obeys };
    let mut world = World::new(late);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(848);
    assert!(world.machines.iter().any(|machine| machine.told.is_some()), "it was told to sleep");
    world.ask(Command::Cancel { lease: "l".into(), force: false });
    // It reads awake and has work until it sleeps at last.
    world.run_to(1000);
    assert_eq!(off(&world), ["old.000"]);
    assert_eq!(
        (world.phase("l"), returning(&world, "l")),
        (Phase::Releasing, vec!["old.000".into()])
    );
}

#[test]
fn a_machine_that_another_lease_takes_keeps_no_lease_open() {
    let stays = |id: &str| if id == "old.001" { Manner::Stays } else { Manner::Obeys };
    let mut world = World::new(stays);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1700);
    assert_eq!(world.phase("l"), Phase::Releasing);
    world.commit("m", "a", 40_000, 4000, 4500);
    world.run_to(4000);
    assert_eq!((world.phase("l"), returning(&world, "l")), (Phase::Closed, vec![]));
}

#[test]
fn a_machine_that_leaves_the_policy_keeps_no_lease_open() {
    let stays = |id: &str| if id == "old.001" { Manner::Stays } else { Manner::Obeys };
    let mut world = World::new(stays);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1700);
    assert_eq!(world.phase("l"), Phase::Releasing);
    let mut policy = policy();
    policy.groups[1].matches = vec!["old.*2".into()];
    policy.digest = "another".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(1703);
    assert_eq!(world.phase("l"), Phase::Closed);
}
