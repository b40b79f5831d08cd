//! The phases of a lease, and to which lease a machine belongs.

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
    // The tenant of l, which has no meter, drew power until m had to be proven.
    assert_eq!(world.core.state.leases["m"].breaches, []);
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
    // All machines were due to return by 1560; restore_p95 is a minute.
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
    // The device reads awake, and the machine has work, until it finally sleeps.
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
    let mut policy = policy_with(|parts| parts.groups[1].matches = vec!["old.*2".into()]);
    policy.digest = "another".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(1703);
    assert_eq!(world.phase("l"), Phase::Closed);
}

const HOUR: i64 = 3600;

#[test]
fn a_lease_beyond_the_horizon_is_planned_until_the_plan_reaches_its_steps() {
    let mut world = obedient();
    // Plans reach four hours ahead, and their horizon moves by a quarter of an hour. 13 kW are
    // short.
    let start = 6 * HOUR;
    let asked = world.commit("l", "a", 20_000, start, 7 * HOUR);
    let Answer::Committed(answer) = asked else { panic!("{asked:?}") };
    // 26 s of ramp for 13 kW, 65 s of shedding, settling, proof and margin, and 60 s before the
    // start.
    assert_eq!(answer.lease.latest_safe_start, Some(at(start - 151)), "as admission says");
    world.run_to(60);
    let seen = view(&world, "l");
    assert_eq!((seen.state, seen.lease_plan), (Phase::Planned, None));
    let from = seen.in_plan_from.expect("it is not in the plan yet");
    assert_eq!(seen.state_reason, format!("in the plan from {}", from.strftime("%Y-%m-%d %H:%M")));
    assert_eq!(seen.latest_safe_start, Some(at(start - 151)));
    let secs = from.as_second() - at(0).as_second();
    world.jump_to(secs - 5);
    world.run_to(secs - 1);
    assert_eq!(view(&world, "l").in_plan_from, Some(from), "until the last moment");
    world.run_to(secs + 3);
    let seen = view(&world, "l");
    assert_eq!((seen.state, seen.in_plan_from, machines(&world, "l")), (Phase::Armed, None, 5));
    // The plan knows the machines: five of them free 14.85 kW.
    assert_eq!(seen.latest_safe_start, Some(at(start - 155)));
    assert_eq!(seen.state_reason, "5 machines to go, the first at 2027-01-15 13:57:25");
}

#[test]
fn a_lease_that_a_ledger_calls_armed_too_early_steps_back() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 6 * HOUR, 7 * HOUR);
    world.run_to(60);
    // An entry as an earlier version wrote it.
    let (lease, why) = ("l".into(), "every receiver holds the timeline".to_owned());
    let (from, to) = (Phase::Planned, Phase::Armed);
    let event = Event::CommitmentMoved { lease, from, to, why, figures: vec![] };
    world.ledger.push(Entry { at: at(60), event });
    world.restart();
    world.run_to(65);
    assert_eq!(view(&world, "l").state, Phase::Planned);
    let last = world.ledger.iter().rev().find_map(|entry| match &entry.event {
        Event::CommitmentMoved { from, to, why, .. } => Some((*from, *to, why.clone())),
        _ => None,
    });
    let (from, to, why) = last.expect("it is on record");
    assert_eq!((from, to), (Phase::Armed, Phase::Planned));
    assert!(why.starts_with("in the plan from "), "{why}");
}

#[test]
fn a_lease_is_not_armed_while_the_plan_is_short() {
    let mut world = World::new(|_| Manner::Obeys);
    world.run_to(20);
    // 44 kW take thirteen machines on a; eight are known.
    let all = std::mem::take(&mut world.machines);
    let (there, away): (Vec<_>, Vec<_>) = all.into_iter().partition(|machine| {
        !["old.001", "old.002", "old.003", "old.004", "new.000", "new.001"]
            .contains(&machine.id.as_str())
    });
    world.machines = there;
    world.run_to(25);
    world.commit("l", "a", 44_000, 1000, 1500);
    world.run_to(100);
    let seen = view(&world, "l");
    assert_eq!(seen.state, Phase::Planned);
    assert!(seen.state_reason.starts_with("short 13.2 kW at a from "), "{}", seen.state_reason);
    // The others connect, and the plan frees enough.
    world.machines.extend(away);
    world.run_to(110);
    assert_eq!(view(&world, "l").state, Phase::Armed);
    // After a restart the miners are seen again, and no lease goes back to an earlier phase
    // meanwhile.
    world.restart();
    world.run_to(130);
    assert_eq!(view(&world, "l").state, Phase::Armed);
}

#[test]
fn a_device_that_hangs_leaves_a_proven_lease_unconfirmed() {
    let hangs = |id: &str| if id == "old.002" { Manner::Mute } else { Manner::Obeys };
    let mut world = World::new(hangs);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(939);
    assert_eq!(world.phase("l"), Phase::Proven);
    let seen = view(&world, "l");
    let unconfirmed = seen.unconfirmed.expect("one does not say what it does");
    assert_eq!(
        (unconfirmed.machines.count, &unconfirmed.machines.examples[..]),
        (1, &["old.002".into()][..])
    );
    assert!(seen.state_reason.contains("1 machine unconfirmed since "), "{}", seen.state_reason);
    world.restart();
    world.run_to(1100);
    assert_eq!(world.phase("l"), Phase::Active);
    let seen = view(&world, "l");
    assert_eq!(seen.unconfirmed, Some(unconfirmed.clone()), "over a restart");
    assert_eq!((seen.breached, seen.unverified), (false, false));
    for machine in &mut world.machines {
        machine.manner = Manner::Obeys;
    }
    world.run_to(1110);
    let seen = view(&world, "l");
    assert_eq!((seen.unconfirmed, seen.unconfirmed_at), (None, Some(unconfirmed.since)));
    assert_eq!(view(&world, "l").breaches, []);
}

#[test]
fn a_device_that_hangs_and_draws_on_proves_nothing() {
    // The device of `old.002` does not answer, and the machine continues to mine: 2.97 kW of the 20
    // kW are missing.
    let hangs = |id: &str| if id == "old.002" { Manner::MuteAwake } else { Manner::Obeys };
    let mut world = World::new(hangs);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(945);
    assert_eq!(world.phase("l"), Phase::Shedding);
    let seen = view(&world, "l");
    assert_eq!((seen.unconfirmed, seen.breaches.len()), (None, 1));
    let breach = &seen.breaches[0];
    assert!(breach.missing > Watts::ZERO && breach.measured);
    assert!(
        breach.why.starts_with("not proven by 2027-01-15 08:15:40: headroom "),
        "{}",
        breach.why
    );
    world.run_to(1100);
    assert_ne!(world.phase("l"), Phase::Active);
}

#[test]
fn what_is_over_is_not_cancelled_and_a_cancellation_may_be_repeated() {
    let mut world = obedient();
    let cancel = |lease: &str| Command::Cancel { lease: lease.into(), force: true };
    world.commit("l", "a", 20_000, 1000, 1500);
    world.commit("m", "b", 5_000, 1000, 1500);
    world.run_to(1100);
    for _ in 0..2 {
        let answer = world.ask(cancel("m"));
        assert!(
            matches!(&answer, Answer::Lease(answer) if answer.lease.cancelled_at == Some(at(1100))),
            "{answer:?}"
        );
        world.step();
    }
    for (secs, phase) in [(1505, "releasing"), (1700, "closed")] {
        world.run_to(secs);
        let Answer::Refused(refused) = world.ask(cancel("l")) else { panic!("it is over") };
        assert_eq!(
            refused.to_string(),
            format!("lease l ended at 2027-01-15 08:25 and is {phase}: there is nothing to cancel")
        );
    }
}

#[test]
fn a_restart_at_the_deadline_records_no_breach_of_a_lease_that_is_kept() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    // Every machine sleeps, but the headroom has not lasted long enough yet.
    world.run_to(877);
    assert_eq!((world.phase("l"), off(&world).len()), (Phase::Shedding, 5));
    world.secs = 960;
    world.restart();
    // The first input after a start comes before any report.
    world.input(Input::Tick);
    world.run_to(1_100);
    assert_eq!(world.phase("l"), Phase::Active);
    assert_eq!(view(&world, "l").breaches, []);
}

#[test]
fn a_restart_records_no_second_breach_of_one_shortage() {
    let mut world = obedient();
    world.commit_metered("l", "a", 20_000, 1000, 1500, Some("tenant"));
    world.run_to(1_100);
    assert_eq!(world.phase("l"), Phase::Active);
    world.meter_adds = Watts(5_000);
    world.run_to(1_200);
    assert_eq!(view(&world, "l").breaches.len(), 1);
    for _ in 0..3 {
        world.restart();
        world.input(Input::Tick);
        world.run_to(world.secs + 50);
    }
    assert_eq!(view(&world, "l").breaches.len(), 1);
    assert_eq!(world.core.tally().breaches, 0, "this life has counted none");
    // The shortage ended, and a new and larger one began: this is a second breach.
    world.meter_adds = Watts::ZERO;
    world.run_to(world.secs + 20);
    world.meter_adds = Watts(20_000);
    world.run_to(world.secs + 40);
    assert_eq!(view(&world, "l").breaches.len(), 2);
}

#[test]
fn a_lease_of_a_ledger_that_was_set_back_is_not_armed() {
    let mut world = obedient();
    let old = world.ledger.clone();
    for _ in 0..3 {
        world.restart();
        world.run_to(world.secs + 20);
    }
    // The receivers hold timelines of epochs that an older copy of the ledger does not know.
    (world.ledger, world.last_number) = (old, None);
    world.open();
    world.run_to(world.secs + 20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(300);
    let seen = view(&world, "l");
    assert_eq!(seen.state, Phase::Planned, "nobody will do what its plan says");
    assert_eq!(
        seen.state_reason,
        "2 receivers hold a timeline that this switchboard has not made, and refuse its own"
    );
}

#[test]
fn a_lease_whose_receivers_are_gone_is_armed_no_more() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 4000, 4500);
    world.run_to(60);
    assert_eq!(view(&world, "l").state, Phase::Armed);
    let quiet = |world: &mut World, secs| {
        while world.secs < secs {
            world.secs += 1;
            world.input(Input::Tick);
        }
    };
    quiet(&mut world, 100);
    assert_eq!(view(&world, "l").state, Phase::Armed, "a restart of a proxy takes its time");
    quiet(&mut world, 200);
    let seen = view(&world, "l");
    assert_eq!(
        (seen.state, seen.state_reason.as_str()),
        (Phase::Planned, "waiting for a proxy or an agent to report")
    );
    world.run_to(203);
    assert_eq!(view(&world, "l").state, Phase::Armed);
}

#[test]
fn a_lease_is_armed_no_more_when_a_receiver_that_came_later_does_not_take_the_timeline() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 4000, 4500);
    world.run_to(60);
    assert_eq!(view(&world, "l").state, Phase::Armed);
    // Its miners are served without regard to the plan until it takes the timeline.
    let attach = Input::Attach { receiver: "late".into(), role: ReceiverRole::Proxy };
    world.input(attach);
    world.run_to(100);
    let seen = view(&world, "l");
    assert_eq!(seen.state, Phase::Armed, "a receiver needs a moment to take the timeline");
    assert!(seen.state_reason.contains("; waiting for 1 receiver to "), "{}", seen.state_reason);
    world.run_to(130);
    let seen = view(&world, "l");
    assert_eq!(seen.state, Phase::Planned);
    assert!(seen.state_reason.starts_with("waiting for 1 receiver to "), "{}", seen.state_reason);
    world.input(Input::Detached("late".into()));
    world.run_to(133);
    assert_eq!(view(&world, "l").state, Phase::Armed, "the others still hold its steps");
    // When it is due, those that hold its steps follow them, and the meters prove it.
    world.input(Input::Attach { receiver: "late".into(), role: ReceiverRole::Proxy });
    world.run_to(3600);
    assert_eq!(view(&world, "l").state, Phase::Planned);
    world.run_to(3860);
    assert_eq!(view(&world, "l").state, Phase::Shedding);
    world.run_to(4010);
    assert_eq!((view(&world, "l").state, view(&world, "l").breaches), (Phase::Active, vec![]));
}

/// Each machine is one step of the ramp, and no time to return is planned again.
#[test]
fn a_lease_whose_machines_come_back_in_one_step_closes_when_they_are_back() {
    let mut world = obedient();
    world.commit("l", "a", 9_500, 1000, 1500);
    world.run_to(1_400);
    assert_eq!(off(&world).len(), 1);
    world.meters_silent = true;
    world.run_to(1_900);
    assert_eq!(world.phase("l"), Phase::Releasing);
    world.meters_silent = false;
    world.run_to(1_910);
    assert_eq!(off(&world), Vec::<&str>::new());
    assert_eq!(world.phase("l"), Phase::Closed);
    assert!(world.core.selection.off.is_empty(), "{:?}", world.core.selection.off);
}
