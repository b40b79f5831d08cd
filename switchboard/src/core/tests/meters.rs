//! The meter decides: what machines and tenants draw counts, not what the policy says of them.

use directive::{GuardHold, GuardReport, GuardState, GuardedFeed};

use super::world::Machine;
use super::*;

fn asleep(world: &World) -> usize {
    world.machines.iter().filter(|machine| !machine.draws).count()
}

#[test]
fn a_house_that_grows_takes_machines_off_and_gives_them_back() {
    let mut world = obedient();
    // 14 machines and the house draw 43 kW of 50.
    world.meter_adds = Watts(20_000);
    world.run_to(80);
    assert_eq!(asleep(&world), 5, "13 kW are missing");
    world.run_to(400);
    assert_eq!(asleep(&world), 5, "no machine goes to and fro");
    world.meter_adds = Watts::ZERO;
    world.run_to(500);
    assert_eq!(asleep(&world), 5, "a lower load must last");
    world.run_to(700);
    assert_eq!(asleep(&world), 0);
}

#[test]
fn a_load_that_the_meter_does_not_show_takes_no_machine_off() {
    let mut world = World::new(|_| Manner::Obeys);
    // Ten of fourteen declared machines do not exist.
    world.machines.retain(|machine| !machine.id.as_str().starts_with("old."));
    world.run_to(20);
    assert!(matches!(world.commit("l", "a", 30_000, 1000, 1500), Answer::Committed(_)));
    world.run_to(1_100);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, 0));
}

#[test]
fn machines_that_draw_more_than_declared_are_made_up_for() {
    let mut world = obedient();
    // Fourteen machines draw 9 % more than declared, as far as they run.
    world.meter_adds = Watts(14 * 270);
    world.run_to(40);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1_100);
    assert_eq!(world.phase("l"), Phase::Active);
    assert!(asleep(&world) >= 6, "{} machines for 16.8 kW", asleep(&world));
}

#[test]
fn nothing_is_raised_onto_a_tenant_that_stays() {
    for meter in [None, Some("tenant")] {
        let mut world = obedient();
        world.tenants_stay = true;
        world.commit_metered("l", "a", 20_000, 1000, 1500, meter);
        world.run_to(1_490);
        assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, 5));
        // `check` asserts that no feed is overloaded at any time.
        world.run_to(2_000);
        assert_eq!(asleep(&world), 5, "there is no room for any of them");
        world.tenants_stay = false;
        world.run_to(2_400);
        assert_eq!((world.phase("l"), asleep(&world)), (Phase::Closed, 0));
    }
}

#[test]
fn a_meter_that_is_lost_stops_raises_below_its_feed_only() {
    let mut world = obedient();
    world.commit("here", "a", 20_000, 1000, 1500);
    world.commit("there", "b", 30_000, 1000, 1500);
    world.run_to(1_490);
    let below = |world: &World, feed: &str| {
        world.machines.iter().filter(|machine| !machine.draws && machine.feed == feed).count()
    };
    assert!(below(&world, "a") > 0 && below(&world, "b") > 0);
    world.lost_meter = Some("a");
    world.run_to(1_900);
    assert!(below(&world, "a") > 0, "nothing shows whether there is room");
    assert_eq!(below(&world, "b"), 0);
    assert_eq!(world.core.withheld, Some(Withheld::MeterSilent("a".into())));
    world.lost_meter = None;
    world.run_to(2_400);
    assert_eq!(below(&world, "a"), 0);
}

#[test]
fn a_start_takes_over_what_a_guard_has_put_to_sleep_before_it() {
    let mut world = obedient();
    let held = ["old.000", "old.001", "old.002", "old.003", "old.004"];
    for machine in &mut world.machines {
        if held.contains(&machine.id.as_str()) {
            (machine.told, machine.slept, machine.slept_says) = (Some(20), Some(20), Some(20));
        }
    }
    world.meter_adds = Watts(20_000);
    world.run_to(26);
    world.restart();
    // The meter is read before the agent says what its guard has done, and shows the room.
    world.run_to(29);
    guard(&mut world, 3, &held, GuardState::Watching);
    world.run_to(90);
    assert_eq!(world.chosen().keys().map(MachineId::as_str).collect::<Vec<_>>(), held);
    assert_eq!(asleep(&world), 5, "no other machine went, and none came back");
}

#[test]
fn a_machine_that_was_named_is_not_named_any_more_when_its_meter_falls_silent() {
    // The machine was told to sleep and stays asleep whatever it is told, so that it is named and
    // not back.
    let mut world = World::new(|id| if id == "old.000" { Manner::Stays } else { Manner::Obeys });
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1_505);
    let stays = MachineId::from("old.000");
    while !world.core.raises.granted().contains(&stays) {
        assert!(world.secs < 1_600, "it gets its turn");
        world.step();
    }
    world.lost_meter = Some("a");
    world.run_to(world.secs + 12);
    assert!(!world.core.raises.granted().contains(&stays));
    assert!(!world.agent.may_raise(&stays, world.now()));
}

/// The agent's guard says that it has put these machines to sleep for feed `a`.
pub(super) fn guard(world: &mut World, number: u64, machines: &[&str], state: GuardState) {
    guard_that_wants(world, (number, machines), state, Watts::ZERO);
}

/// The same, and that it wants more than it can free.
fn guard_that_wants(
    world: &mut World,
    (number, machines): (u64, &[&str]),
    state: GuardState,
    wants: Watts,
) {
    let machines: Vec<MachineId> = machines.iter().map(|id| MachineId::from(*id)).collect();
    let feed = GuardedFeed { feed: "a".into(), state, guardable: Watts(42_000), wants, acts: 1 };
    let holds = vec![GuardHold { number, feed: "a".into(), machines }];
    let last_hold = number;
    let report =
        GuardReport { at: at(world.secs), table: None, last_hold, holds, feeds: vec![feed] };
    world.input(Input::Report(AGENT.into(), Report::Guard(report)));
}

#[test]
fn the_plan_takes_over_what_a_guard_has_put_to_sleep() {
    let mut world = obedient();
    world.meter_adds = Watts(20_000);
    world.run_to(23);
    assert_eq!(asleep(&world), 0);
    // Not the machines that the plan would choose first.
    let held = ["new.000", "new.001", "new.002", "new.003", "old.009"];
    guard(&mut world, 7, &held, GuardState::Tripped);
    world.run_to(26);
    let timeline = world.timeline.clone().expect("there is one");
    assert_eq!(timeline.holds_taken, [(AGENT.into(), 7)].into());
    assert_eq!(world.chosen().keys().map(MachineId::as_str).collect::<Vec<_>>(), held);
    world.run_to(200);
    assert_eq!(world.chosen().len(), 5, "nothing is shed twice, nothing comes back");
    // The same hold again changes nothing.
    let before = world.last_number;
    guard(&mut world, 7, &held, GuardState::Watching);
    world.run_to(230);
    assert_eq!(world.last_number, before);
    world.meter_adds = Watts::ZERO;
    world.run_to(600);
    assert_eq!(asleep(&world), 0);
}

#[test]
fn a_guard_gets_the_rules_of_the_policy_and_takes_protected_machines_last() {
    let mut world = obedient();
    let mut policy = policy_with(|parts| parts.groups[1].protected = true);
    policy.digest = "protected".into();
    policy.guard.after = 3;
    policy.guard.step_max = Some(Watts(9_000));
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(20);
    let table = world.guard.clone().expect("there is one");
    let order: Vec<&str> = table.cohorts.iter().map(|cohort| cohort.group.as_str()).collect();
    assert_eq!(order, ["far", "new", "old"]);
    assert_eq!(table.step_max, Some(Watts(9_000)));
    assert!(table.feeds.iter().all(|feed| feed.after == 3));
    // A change of the rules alone makes a new table, too.
    let mut policy = policy_with(|parts| parts.groups[1].protected = true);
    (policy.digest, policy.guard.after) = ("again".into(), 3);
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(40);
    let again = world.guard.clone().expect("there is one");
    assert!(again.version > table.version && again.step_max.is_none());
}

/// No device reaches the machines of `new`, which are below the same feed.
#[test]
fn machines_are_starved_where_a_guard_has_none_left_to_put_to_sleep() {
    let mut world = obedient();
    let mut policy = policy_with(|parts| {
        (parts.groups[0].driver, parts.groups[0].shed_p95) = (None, None);
    });
    policy.digest = "starved".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(20);
    let held: Vec<String> = (0..10).map(|n| format!("old.{n:03}")).collect();
    let held: Vec<&str> = held.iter().map(String::as_str).collect();
    let starved = |world: &World| {
        let chosen = world.core.selection.iter();
        let starved = chosen.filter(|(_, chosen)| chosen.means == Means::Starve);
        starved.map(|(machine, _)| machine.to_string()).collect::<Vec<_>>()
    };
    // 43 kW and 40 more on a feed of 50: when the ten machines sleep, 3.3 kW are still too much.
    world.meter_adds = Watts(40_000);
    guard(&mut world, 1, &held, GuardState::Tripped);
    world.run_to(60);
    assert_eq!(starved(&world), [""; 0], "they earn money as long as the guard wants nothing");
    guard_that_wants(&mut world, (1, &held), GuardState::Tripped, Watts(3_300));
    world.run_to(80);
    assert_eq!(starved(&world), ["new.000", "new.001"]);
    // A report that the guard has what it wants brings none of them back while the load stays.
    guard(&mut world, 1, &held, GuardState::Watching);
    world.run_to(400);
    assert_eq!(starved(&world), ["new.000", "new.001"]);
    world.meter_adds = Watts::ZERO;
    world.run_to(1_200);
    assert_eq!(starved(&world), [""; 0]);
    assert!(world.core.fleet.population.starving.is_empty());
    assert_eq!(asleep(&world), 0);
}

/// A starved machine that hashes on draws what the feed's meter shows. Otherwise the meter could as
/// well show a load of another kind, as large as the machine, and the machine would never come back.
#[test]
fn a_starved_machine_that_hashes_on_comes_back_when_the_load_is_gone() {
    let mut world = World::new(|_| Manner::Refuses);
    let mut policy = policy_with(|parts| {
        parts.feeds[1].limit = Watts(45_000).into();
        for group in &mut parts.groups {
            (group.driver, group.shed_p95) = (None, None);
        }
    });
    policy.digest = "starved".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(20);
    // The feed carries 43 kW, and one machine is starved for 4 kW more, which is not seen by its power.
    world.meter_adds = Watts(4_000);
    guard_that_wants(&mut world, (1, &[]), GuardState::Tripped, Watts(2_000));
    world.run_to(80);
    let starved = |world: &World| world.core.selection.iter().count();
    assert_eq!(starved(&world), 1);
    world.meter_adds = Watts::ZERO;
    guard_that_wants(&mut world, (1, &[]), GuardState::Watching, Watts::ZERO);
    world.run_to(400);
    assert_eq!(starved(&world), 0);
}

#[test]
fn agents_get_a_table_to_guard_by_and_a_new_one_when_it_changes() {
    let mut world = obedient();
    let table = world.guard.clone().expect("there is one");
    let owners: Vec<(&str, Option<&str>)> = table
        .feeds
        .iter()
        .map(|feed| (feed.feed.as_str(), feed.owner.as_ref().map(|owner| owner.as_str())))
        .collect();
    assert_eq!(owners, [("root", Some(AGENT)), ("a", Some(AGENT)), ("b", Some(AGENT))]);
    let order: Vec<(&str, usize)> =
        table.cohorts.iter().map(|one| (one.group.as_str(), one.machines.len())).collect();
    assert_eq!(order, [("old", 10), ("far", 8), ("new", 4)], "what no device reaches is left out");
    assert_eq!((table.feeds[1].usable, table.feeds[1].rating), (Watts(50_000), Watts(50_000)));
    world.run_to(100);
    assert_eq!(world.guard.as_ref(), Some(&table), "nothing has changed");
    let mut edited = policy_with(|parts| parts.feeds[1].limit = Watts(45_000).into());
    edited.digest = "11".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(edited))), Answer::Done));
    world.run_to(102);
    let next = world.guard.clone().expect("there is one");
    assert!(next.version > table.version && next.feeds[1].usable == Watts(45_000));
}

/// Its shed time is not measured, so that the plan can only starve it. The guard puts it to sleep.
#[test]
fn a_guard_counts_what_a_machine_frees_that_sleeps() {
    let policy = policy_with(|parts| {
        let old = &mut parts.groups[1];
        (old.shed_p95, old.poolless) = (None, Some(Watts(2_900)));
    });
    let mut world = World::with(policy, |_| Manner::Obeys);
    world.run_to(20);
    let table = world.guard.clone().expect("there is one");
    let old = table.cohorts.iter().find(|cohort| cohort.group.as_str() == "old");
    assert_eq!(old.map(|cohort| cohort.frees), Some(Watts(2_970)));
}

#[test]
fn a_site_where_machines_join_all_the_time_gets_its_guard_tables() {
    let policy = policy_with(|parts| {
        for feed in &mut parts.feeds {
            feed.limit = Watts(500_000).into();
        }
    });
    let mut world = World::with(policy, |_| Manner::Obeys);
    world.run_to(20);
    for second in 0..30 {
        let (id, driver) = (format!("old.{}", 500 + second), world.machines[0].driver.clone());
        world.machines.push(Machine::new(&id, "a", driver, Manner::Obeys));
        world.step();
    }
    let table = world.guard.clone().expect("there is one");
    let known: usize = table.cohorts.iter().map(|cohort| cohort.machines.len()).sum();
    assert!(known >= 22 + 19, "each is known within ten seconds or so: {known}");
}
