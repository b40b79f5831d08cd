//! Who put machines to sleep: what the ledger keeps of it, what an agent without memory is told, and
//! what a person is shown and may do.

use super::*;
use crate::ledger::Sleeper;
use crate::view::{AdoptedAnswer, AdoptedState, StatusView};

/// A lease on `a` takes five machines at about 850 s.
fn shed() -> World {
    let mut world = obedient();
    assert!(matches!(world.commit("l", "a", 20_000, 1000, 1500), Answer::Committed(_)));
    world.run_to(1100);
    assert_eq!(world.phase("l"), Phase::Active);
    world
}

/// A person puts `machine` to sleep at its device, where it stays.
fn put_off(world: &mut World, machine: &str) {
    let machine = world.machines.iter_mut().find(|one| one.id.as_str() == machine).unwrap();
    machine.manner = Manner::Stays;
    (machine.asleep_says, machine.draws, machine.slept_says) = (true, false, None);
}

fn owned(world: &World) -> Vec<MachineId> {
    world.owned.keys().cloned().collect()
}

fn asleep(world: &World) -> Vec<MachineId> {
    let asleep = world.machines.iter().filter(|machine| machine.asleep_says);
    let mut asleep: Vec<MachineId> = asleep.map(|machine| machine.id.clone()).collect();
    asleep.sort();
    asleep
}

fn status(world: &mut World) -> StatusView {
    match world.ask(Command::Status) {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn adopt(world: &mut World, machines: &[&str], wake: bool) -> AdoptedAnswer {
    let machines = machines.iter().map(|name| MachineId::from(*name)).collect();
    let by = Some("kari".to_owned());
    match world.ask(Command::Adopt { machines, wake, by }) {
        Answer::Adopted(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn machines_are_ours_in_the_ledger_from_their_shed_until_they_are_awake() {
    let mut world = shed();
    assert_eq!(asleep(&world).len(), 5);
    assert_eq!(owned(&world), asleep(&world));
    let entries = world.ledger.iter().filter(|one| matches!(one.event, Event::Sleepers { .. }));
    assert!(entries.count() <= 5, "not one for each machine and look");
    world.run_to(1700);
    assert_eq!(world.phase("l"), Phase::Closed);
    assert!(owned(&world).is_empty(), "{:?}", world.owned);
    assert!(world.core.state.sleepers.is_empty());
    assert_eq!(world.told_owned, 0, "the agent knew all the time");
}

/// The ledger has the machines before any report of the agent says that it put them to sleep.
#[test]
fn the_ledger_has_a_machine_when_it_is_due_to_go() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    while world.core.states.is_empty() {
        world.step();
    }
    let due: Vec<MachineId> = world.core.states.keys().cloned().collect();
    assert!(due.iter().all(|id| world.core.state.sleepers.contains_key(id)), "{due:?}");
    assert!(due.iter().any(|id| !asleep(&world).contains(id)));
}

#[test]
fn an_agent_without_memory_is_told_which_machines_are_ours() {
    let mut world = shed();
    let ours = asleep(&world);
    put_off(&mut world, "far.003");
    world.agent_forgot = true;
    world.run_to(1105);
    assert!(world.told_owned >= 1);
    assert_eq!(owned(&world), ours, "and not the one that a person put to sleep");
    // The same holds for a switchboard that has only the ledger.
    world.restart();
    assert_eq!(owned(&world), ours);
    world.run_to(1115);
    assert_eq!(owned(&world), ours);
    let sleeper = world.core.state.sleepers["far.003"];
    assert_eq!(sleeper.by, AsleepBy::Other);
}

#[test]
fn a_machine_that_a_person_put_to_sleep_before_a_lease_chose_it_stays_theirs() {
    let mut world = obedient();
    for number in 0..10 {
        put_off(&mut world, &format!("old.{number:03}"));
    }
    world.run_to(30);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1100);
    let others = world.core.state.sleepers.iter().filter(|(_, one)| one.by == AsleepBy::Other);
    assert_eq!(others.count(), 10);
    assert!(owned(&world).iter().all(|id| !id.as_str().starts_with("old")), "{:?}", world.owned);
    world.restart();
    world.run_to(1110);
    assert!(owned(&world).iter().all(|id| !id.as_str().starts_with("old")), "{:?}", world.owned);
}

#[test]
fn a_sleeper_of_somebody_else_is_shown_until_it_is_awake() {
    let mut world = obedient();
    put_off(&mut world, "far.003");
    world.run_to(25);
    let view = status(&mut world).asleep_not_by_us;
    assert_eq!((view.count, view.machines[0].machine.as_str()), (1, "far.003"));
    let since = view.machines[0].since;
    assert!((at(20)..=at(25)).contains(&since));
    world.run_to(40);
    let notices = world.notices.iter().filter(|one| matches!(one, Notice::AsleepNotByUs(_)));
    assert_eq!(notices.count(), 1, "{:?}", world.notices);
    world.restart();
    world.run_to(45);
    assert_eq!(status(&mut world).asleep_not_by_us.machines[0].since, since);
    let granted = world.core.raises.granted().contains("far.003");
    assert!(!granted, "it is never permitted to wake");
    let machine = world.machines.iter_mut().find(|one| one.id.as_str() == "far.003").unwrap();
    machine.manner = Manner::Obeys;
    world.run_to(60);
    assert_eq!(status(&mut world).asleep_not_by_us.count, 0);
    let last = world.notices.iter().rev().find_map(|notice| match notice {
        Notice::AsleepNotByUs(named) => Some(named.count),
        _ => None,
    });
    assert_eq!(last, Some(0));
}

#[test]
fn an_adopted_machine_is_permitted_to_wake_and_the_ledger_has_who_asked() {
    let mut world = obedient();
    put_off(&mut world, "far.003");
    world.run_to(25);
    let answer = adopt(&mut world, &["far.003", "far.004"], false);
    let states: Vec<AdoptedState> = answer.machines.iter().map(|one| one.state).collect();
    assert_eq!(states, [AdoptedState::Returning, AdoptedState::Awake]);
    assert_eq!(answer.machines[0].waits_for, None);
    assert_eq!(owned(&world), [MachineId::from("far.003")]);
    assert_eq!(world.told_owned, 1, "its agent must hear of it");
    let entry = world.ledger.iter().find(|one| one.event.kind() == "adopted").unwrap().clone();
    let Event::Adopted { machines, wake, by } = &entry.event else { panic!("{entry:?}") };
    assert_eq!((machines.len(), *wake, by.as_deref()), (1, false, Some("kari")));
    world.run_to(30);
    assert!(world.core.raises.granted().contains("far.003"));
    assert_eq!(status(&mut world).asleep_not_by_us.count, 0);
    assert_eq!(world.core.state.sleepers["far.003"], Sleeper { by: AsleepBy::Us, since: entry.at });
}

#[test]
fn an_unknown_machine_and_a_failed_ledger_refuse_an_adoption() {
    let mut world = obedient();
    put_off(&mut world, "far.003");
    world.run_to(25);
    let command = |names: &[&str]| Command::Adopt {
        machines: names.iter().map(|name| MachineId::from(*name)).collect(),
        wake: true,
        by: None,
    };
    let answer = world.ask(command(&["far.003", "gone"]));
    assert!(
        matches!(&answer, Answer::Refused(Refused::UnknownMachine(id)) if id.as_str() == "gone"),
        "{answer:?}"
    );
    world.ledger_fails = true;
    let answer = world.ask(command(&["far.003"]));
    assert!(matches!(answer, Answer::Refused(Refused::LedgerFull)), "{answer:?}");
    assert!(owned(&world).is_empty() && world.core.adopting.is_empty());
    world.ledger_fails = false;
    world.run_to(40);
    assert!(!world.core.raises.granted().contains("far.003"));
}

#[test]
fn a_machine_asked_to_wake_says_what_it_waits_for() {
    let mut world = shed();
    let wanted = asleep(&world)[0].clone();
    let answer = adopt(&mut world, &[wanted.as_str()], true);
    assert_eq!(answer.machines[0].state, AdoptedState::WantedAsleep);
    assert_eq!(answer.machines[0].waits_for.as_deref(), Some("lease l needs its power"));
    put_off(&mut world, "far.003");
    world.run_to(1110);
    world.lost_meter = Some("b");
    world.run_to(1130);
    let answer = adopt(&mut world, &["far.003"], true);
    assert_eq!(answer.machines[0].state, AdoptedState::Returning);
    let why = answer.machines[0].waits_for.clone().unwrap();
    assert!(why.contains("the meter of feed b is silent"), "{why}");
}

/// Between a look and what follows from it, time passes.
#[test]
fn agents_are_told_which_machines_are_ours_by_the_input_after_a_look() {
    let mut world = obedient();
    world.restart();
    let mut told = 0;
    for _ in 0..10 {
        world.secs += 1;
        let (wall, mut now) = (at(world.secs), world.now());
        loop {
            let outputs = world.core.handle(Input::Tick, wall, now);
            told += u32::from(outputs.owned.is_some());
            now += Duration::from_millis(2);
            if !outputs.again {
                break;
            }
        }
    }
    assert_eq!(told, 1, "once after the start, and not again as long as nothing changes");
}
