//! The core in a simulated facility ([`World`]).

mod amendments;
mod doubts;
mod drivers;
mod limits;
mod newcomers;
mod off;
mod phases;
mod renewals;
mod shortages;
mod sleepers;
mod supply;
mod world;

use std::collections::VecDeque;

use directive::{
    Action, AsleepBy, DeviceState, MachineReport, Means, MeterReport, MetersReport, Permitted,
    Receiver, ReportSender, Serving, SessionReport, Watts,
};
use rand::prelude::*;
use serde_json::json;

use super::*;
use crate::commitment::{Doing, Phase};
use crate::fixture::{at, origin, policy, policy_with};
use crate::lease::LeaseRequest;
use crate::plan::Chosen;
use world::{AGENT, Manner, World, obedient};

#[test]
fn a_lease_goes_all_the_way_and_every_machine_comes_back() {
    let mut world = obedient();
    assert!(matches!(world.commit("l", "a", 20_000, 1000, 1500), Answer::Committed(_)));
    world.run_to(100);
    assert_eq!(world.phase("l"), Phase::Armed);
    world.run_to(850);
    assert_eq!(world.phase("l"), Phase::Shedding);
    world.run_to(930);
    assert_eq!(world.phase("l"), Phase::Proven);
    assert_eq!(world.core.asleep.len(), 5);
    world.run_to(1001);
    assert_eq!(world.phase("l"), Phase::Active);
    world.run_to(1501);
    assert_eq!(world.phase("l"), Phase::Releasing);
    world.run_to(1700);
    assert_eq!(world.phase("l"), Phase::Closed);
    assert!(world.machines.iter().all(|machine| machine.draws && machine.told.is_none()));
    assert!(world.core.selection.off.is_empty());
    assert!(
        world.core.state.leases["l"].breaches.is_empty()
            && !world.core.state.leases["l"].unverified
    );
}

#[test]
fn a_restart_in_mid_lease_keeps_its_machines_asleep() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1100);
    let before = world.chosen();
    let number = world.last_number.unwrap();
    world.restart();
    world.step();
    assert_eq!(world.chosen(), before);
    assert_eq!(world.last_number.unwrap().epoch, number.epoch + 1);
    assert_eq!(world.phase("l"), Phase::Active);
    world.run_to(1200);
    assert_eq!(world.chosen(), before);
    assert!(world.machines.iter().filter(|machine| !machine.draws).count() == 5);
    world.run_to(1700);
    assert_eq!(world.phase("l"), Phase::Closed);
}

#[test]
fn a_restart_in_mid_shedding_still_proves_in_time() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(855);
    world.restart();
    world.run_to(1001);
    assert_eq!(world.phase("l"), Phase::Active);
    assert!(world.core.commitments["l"].breaches.is_empty());
}

#[test]
fn refusers_and_liars_are_replaced_in_the_feed_that_is_short() {
    let manner = |id: &str| match id {
        "old.000" => Manner::Refuses,
        "old.001" => Manner::Lies,
        _ => Manner::Obeys,
    };
    let mut world = World::new(manner);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1100);
    assert_eq!(world.phase("l"), Phase::Active);
    let off: Vec<String> = world.chosen().keys().map(ToString::to_string).collect();
    assert_eq!(off, ["old.000", "old.001", "old.002", "old.003", "old.004", "old.005", "old.006"]);
    let state = |id: &str| world.core.states[&MachineId::from(id)];
    assert_eq!(
        (state("old.000"), state("old.001")),
        (MachineState::Disobedient, MachineState::Disobedient)
    );
    assert_eq!(state("old.006"), MachineState::Curtailed);
}

#[test]
fn a_lease_that_follows_another_is_proven_in_time_by_what_that_one_leaves() {
    let mut world = obedient();
    assert!(matches!(
        world.commit_metered("l", "a", 20_000, 1000, 1440, Some("tenant")),
        Answer::Committed(_)
    ));
    assert!(matches!(
        world.commit_metered("m", "a", 20_000, 1500, 2000, Some("tenant")),
        Answer::Committed(_)
    ));
    world.run_to(1501);
    assert_eq!(world.phase("m"), Phase::Active);
    assert_eq!(world.core.commitments["m"].breaches, [], "its watts were free all the time");
}

#[test]
fn power_that_is_free_once_proves_one_lease_and_not_two() {
    // 40 kW are promised at one moment; machines that still draw power although they say they sleep
    // leave only 31 kW free.
    let idles = ["old.000", "old.001", "old.002", "old.003"];
    let mut world =
        World::new(|id| if idles.contains(&id) { Manner::Idles } else { Manner::Obeys });
    world.run_to(20);
    for lease in ["l", "m"] {
        assert!(matches!(world.commit(lease, "a", 20_000, 1000, 1500), Answer::Committed(_)));
    }
    world.run_to(938);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Shedding, Phase::Shedding));
}

#[test]
fn silent_meters_prove_nothing_and_stop_raises() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(800);
    world.meters_silent = true;
    world.run_to(1400);
    assert_eq!(world.phase("l"), Phase::Shedding, "never silently active");
    let record = &world.core.commitments["l"];
    assert_eq!(record.breaches, [], "nothing is known to be missing");
    assert!(record.unverified);
    assert_eq!(world.core.withheld, None, "no machine waits yet");
    world.run_to(1700);
    assert_eq!(world.core.withheld, Some(Withheld::MeterSilent("a".into())));
    assert!(
        world.machines.iter().filter(|machine| !machine.draws).count() == 5,
        "no machine comes back unseen"
    );
    world.meters_silent = false;
    world.run_to(1900);
    assert!(world.machines.iter().all(|machine| machine.draws));
    assert!(world.core.state.leases["l"].unverified, "never erased");
}

#[test]
fn a_permit_that_is_out_is_taken_back_when_a_meter_falls_silent() {
    let mut world = obedient();
    world.commit("l", "a", 30_000, 1000, 1500);
    world.run_to(1505);
    assert!(world.may_raise());
    world.meters_silent = true;
    // The permit is withdrawn when the measurement becomes stale after ten seconds; otherwise it
    // would be valid for up to two minutes.
    world.run_to(1517);
    let sleeps = world.machines.iter().filter(|machine| !machine.draws);
    for machine in sleeps {
        assert!(!world.agent.may_raise(&machine.id, world.now()), "{}", machine.id);
    }
    let off = |world: &World| world.machines.iter().filter(|machine| !machine.draws).count();
    let before = off(&world);
    world.run_to(1600);
    assert_eq!(off(&world), before, "nothing rises unmeasured");
    assert!(before > 0);
}

/// The largest number of machines that were released in one second until `secs`.
fn most_woken_at_once(world: &mut World, secs: i64) -> usize {
    let told =
        |world: &World| world.machines.iter().filter(|machine| machine.told.is_some()).count();
    let mut most = 0;
    while world.secs < secs {
        let before = told(world);
        world.step();
        most = most.max(before.saturating_sub(told(world)));
    }
    most
}

/// The feed's own ramp is a fifth of the site's.
#[test]
fn a_feed_is_lowered_and_raised_no_faster_than_its_own_ramp_allows() {
    let mut world = obedient();
    let mut policy = policy_with(|parts| {
        parts.feeds[1].down_per_min = Some(Watts(6_000));
        parts.feeds[1].up_per_min = Some(Watts(6_000));
    });
    policy.digest = "slow".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.commit("l", "a", 30_000, 1000, 1500);
    let mut told: Vec<usize> = Vec::new();
    while world.secs < 2400 {
        world.step();
        told.push(world.machines.iter().filter(|machine| machine.told.is_some()).count());
        if world.secs == 999 {
            assert_eq!(world.phase("l"), Phase::Proven, "the lead has the feed's ramp in it");
        }
    }
    let most = told.iter().max().copied().unwrap();
    assert_eq!(most, 8, "30 kW and what mines are 23 kW more than the feed carries");
    for minute in told.windows(61) {
        let (first, last) = (minute[0].cast_signed(), minute[60].cast_signed());
        assert!((last - first).abs() <= 3, "at most 6 kW and one machine in a minute: {minute:?}");
    }
    assert_eq!(told.last(), Some(&0));
}

#[test]
fn machines_whose_turns_passed_without_a_permit_come_back_few_at_once() {
    let mut world = obedient();
    world.commit("l", "a", 30_000, 1000, 1500);
    world.run_to(1400);
    world.meters_silent = true;
    world.run_to(1900);
    world.meters_silent = false;
    assert!(most_woken_at_once(&mut world, 2200) <= 2, "as many as a step of the ramp has");
    assert!(world.machines.iter().all(|machine| machine.draws));
    assert_eq!(world.phase("l"), Phase::Closed);
    assert!(world.core.selection.off.is_empty());
}

#[test]
fn after_a_switchboard_was_away_machines_come_back_few_at_once() {
    let mut world = obedient();
    world.commit("l", "a", 30_000, 1000, 1500);
    world.run_to(1400);
    // The switchboard is down: the receivers continue with what they hold.
    while world.secs < 1900 {
        world.secs += 1;
        let (wall, now) = (at(world.secs), world.now());
        assert!(world.agent.advance(wall, now).changes.is_empty() || world.secs < 1530);
        world.proxy.advance(wall, now);
    }
    world.restart();
    // After the restart, meters are read sooner than devices, and miners have not connected yet.
    world.devices_silent = true;
    assert_eq!(most_woken_at_once(&mut world, 1905), 0);
    world.devices_silent = false;
    assert!(most_woken_at_once(&mut world, 2200) <= 2, "as many as a step of the ramp has");
    assert!(world.machines.iter().all(|machine| machine.draws));
    assert!(world.core.selection.off.is_empty());
}

#[test]
fn a_full_ledger_stops_commitments_and_raises_but_no_lowering() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(800);
    world.ledger_fails = true;
    assert!(matches!(
        world.commit("m", "b", 5_000, 1000, 1500),
        Answer::Refused(Refused::LedgerFull)
    ));
    assert!(matches!(
        world.commit("m", "b", 5_000, 1000, 1500),
        Answer::Refused(Refused::LedgerFull)
    ));
    world.run_to(1100);
    assert_eq!(world.machines.iter().filter(|machine| !machine.draws).count(), 5);
    world.run_to(1700);
    assert_eq!(
        world.machines.iter().filter(|machine| !machine.draws).count(),
        5,
        "no raise is on record"
    );
    world.ledger_fails = false;
    world.run_to(1900);
    assert!(world.machines.iter().all(|machine| machine.draws));
    let moves = world
        .ledger
        .iter()
        .filter(|entry| matches!(entry.event, Event::CommitmentMoved { .. }))
        .count();
    assert!(moves >= 6, "what happened meanwhile was recorded afterwards");
}

#[test]
fn a_commitment_that_failed_alone_does_not_close_the_ledger_for_good() {
    let mut world = obedient();
    world.ledger_fails = true;
    assert!(matches!(
        world.commit("m", "b", 5_000, 1000, 1500),
        Answer::Refused(Refused::LedgerFull)
    ));
    assert_eq!(world.core.withheld, Some(Withheld::LedgerFailed));
    world.ledger_fails = false;
    world.run_to(22);
    assert_eq!(world.core.withheld, None, "nothing waits that could tell that the ledger is back");
    assert!(matches!(world.commit("m", "b", 5_000, 1000, 1500), Answer::Committed(_)));
}

#[test]
fn what_became_of_a_promise_outlasts_decisions_while_the_ledger_fails() {
    let mut outbox = Outbox::default();
    let entry = |event| Entry { at: at(0), event };
    let decided = || Event::Decided {
        number: Generation { epoch: 1, generation: 1 },
        policy: String::new(),
        plan: String::new(),
        selection: None,
        changes: None,
        deficits: vec![],
        reasons: vec![],
    };
    assert!(!outbox.push(
        entry(Event::Unverified { lease: "l".into(), why: "test".into(), unproven: true }),
        None
    ));
    let dropped = (0..10_001).filter(|_| outbox.push(entry(decided()), None)).count();
    assert_eq!(dropped, 2);
    assert!(outbox.pending().any(|event| matches!(event, Event::Unverified { .. })));
}

#[test]
fn a_dropped_decision_leaves_what_it_changed_to_the_next() {
    let chosen = |machine: &str| {
        let off = json!({ machine: [{
            "group": "old", "lease": null, "at": at(0), "until": null, "edge": null, "means": "device",
        }] });
        serde_json::from_value::<Selection>(json!({ "off": off, "woken": {} })).unwrap()
    };
    let decided = |before: &Selection, after: &Selection| Event::Decided {
        number: Generation { epoch: 1, generation: 1 },
        policy: String::new(),
        plan: String::new(),
        selection: None,
        changes: crate::ledger::SelectionChange::between(Some(before), after),
        deficits: vec![],
        reasons: vec![],
    };
    let (none, first, second) = (Selection::default(), chosen("m.1"), chosen("m.2"));
    let mut outbox = Outbox::default();
    let mut push = |event| outbox.push(Entry { at: at(0), event }, None);
    assert!(!push(decided(&none, &first)));
    assert!(!push(decided(&first, &second)));
    for _ in 0..9_998 {
        push(Event::Unverified { lease: "l".into(), why: "test".into(), unproven: true });
    }
    assert!(push(Event::Confirmed { lease: "l".into() }), "one entry too many");
    let mut state = LedgerState::default();
    for event in outbox.pending().filter(|event| matches!(event, Event::Decided { .. })) {
        state.apply(at(0), event).unwrap();
    }
    assert_eq!(state.selection, second);
}

#[test]
fn a_starved_lease_is_marked_and_asks_nobody_to_prove_it() {
    let mut world = obedient();
    let body = json!({
        "id": "u", "tenant": "t", "it_kw": 36.0, "feed": "b", "accept_unverified": true,
        "start": at(2000).to_string(), "end": at(2500).to_string(),
    });
    let answer = world.ask(Command::Commit(serde_json::from_value(body).unwrap(), None));
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    world.run_to(1900);
    assert!(world.core.commitments["u"].unverified);
    assert!(world.core.selection.iter().any(|(_, chosen)| chosen.means == Means::Starve));
    // Starved machines still draw power in this world. The meter shows it, so the lease is recorded
    // as breached, and not as proven.
    world.secs = 1995;
    assert_ne!(world.phase("u"), Phase::Proven);
}

#[test]
fn two_requests_for_the_last_watts_get_one_yes() {
    let mut world = obedient();
    world.ledger_fails = false;
    let first = world.commit("x", "a", 40_000, 1000, 1500);
    let second = world.commit("y", "a", 40_000, 1000, 1500);
    assert!(matches!(first, Answer::Committed(_)));
    assert!(matches!(
        second,
        Answer::Refused(Refused::Refusal(crate::admit::Refusal::DoesNotFit { .. }))
    ));
    assert!(matches!(
        world.commit("x", "a", 100, 1000, 1500),
        Answer::Refused(Refused::LeaseExists(_))
    ));
}

#[test]
fn a_commitment_that_is_being_written_counts_already() {
    let mut core = Core::new(Arc::new(policy()), LedgerState::default(), Head::default(), at(0));
    let start = origin();
    core.handle(Input::Tick, at(0), start);
    let request = |id: &str| -> LeaseRequest {
        let (start, end) = (at(1000).to_string(), at(1500).to_string());
        serde_json::from_value(json!({"id": id, "tenant": "t", "it_kw": 40.0, "feed": "a", "start": start, "end": end}))
            .unwrap()
    };
    let first = core.handle(
        Input::Command(1, Box::new(Command::Commit(request("x"), Some("k".into())))),
        at(0),
        start,
    );
    assert!(first.answers.is_empty(), "not durable yet");
    let second =
        core.handle(Input::Command(2, Box::new(Command::Commit(request("y"), None))), at(0), start);
    assert!(matches!(second.answers[..], [(2, Answer::Refused(Refused::Refusal(_)))]));
    let again = core.handle(
        Input::Command(3, Box::new(Command::Commit(request("x"), Some("k".into())))),
        at(0),
        start,
    );
    assert!(matches!(again.answers[..], [(3, Answer::Refused(Refused::KeyPending))]));
}

#[test]
fn what_is_written_the_plan_with_it_and_what_follows_are_inputs_of_their_own() {
    let mut world = obedient();
    let body = json!({
        "id": "l", "tenant": "t", "it_kw": 20.0, "feed": "a", "ready_before": "60s",
        "start": at(1000).to_string(), "end": at(2000).to_string(),
    });
    let request = serde_json::from_value(body).unwrap();
    let (wall, now) = (at(world.secs), world.now());
    let command = Box::new(Command::Commit(request, None));
    let outputs = world.core.handle(Input::Command(900, command), wall, now);
    world.ledger.extend(outputs.append.expect("it is to be written"));
    world.head = world.head.next("", "", "");
    let written = world.core.handle(Input::Written(Ok(world.head)), wall, now);
    assert!(written.timeline.is_none() && written.answers.is_empty() && written.again);
    let planned = world.core.handle(Input::Tick, wall, now);
    assert!(planned.timeline.is_none() && planned.answers.is_empty() && planned.again);
    assert_eq!(decided(&world), [], "its entry is left to the next input");
    let answered = world.core.handle(Input::Tick, wall, now);
    assert!(matches!(&answered.answers[..], [(900, Answer::Committed(_))]), "{answered:?}");
    assert!(answered.timeline.is_some() && !answered.again);
    let number = answered.timeline.map(|timeline| timeline.number);
    assert_eq!(decided(&world), Vec::from_iter(number));
}

/// The decisions that wait to be written, or are being written.
fn decided(world: &World) -> Vec<Generation> {
    let number = |event: &Event| match event {
        Event::Decided { number, .. } => Some(*number),
        _ => None,
    };
    world.core.outbox.pending().filter_map(number).collect()
}

/// The second lease becomes durable when what follows from the plan with the first one is still owed.
#[test]
fn a_commitment_is_answered_when_a_plan_has_it() {
    let mut world = obedient();
    let (wall, now) = (at(world.secs), world.now());
    let mut appends: VecDeque<Vec<Entry>> = VecDeque::new();
    for (number, id) in [(900, "l"), (901, "m")] {
        let body = json!({
            "id": id, "tenant": "t", "it_kw": 10.0, "feed": "a", "ready_before": "60s",
            "start": at(1000).to_string(), "end": at(2000).to_string(),
        });
        let request = serde_json::from_value(body).unwrap();
        let command = Box::new(Command::Commit(request, None));
        let outputs = world.core.handle(Input::Command(number, command), wall, now);
        appends.extend(outputs.append);
    }
    let mut answered = Vec::new();
    for input in ["written", "tick", "written", "tick", "tick"] {
        let input = match input {
            "written" => {
                world.ledger.extend(appends.pop_front().expect("it is to be written"));
                world.head = world.head.next("", "", "");
                Input::Written(Ok(world.head))
            }
            _ => Input::Tick,
        };
        let outputs = world.core.handle(input, wall, now);
        appends.extend(outputs.append);
        for (number, answer) in outputs.answers {
            let Answer::Committed(answer) = answer else { panic!("{answer:?}") };
            assert!(answer.lease.lease_plan.is_some(), "{number} is in no plan");
            answered.push(number);
        }
    }
    assert_eq!(answered, [900, 901]);
}

/// What a look with much to do leaves out is seen by the next one, also if that has much to do as well.
#[test]
fn no_two_looks_in_a_row_leave_out_the_count_of_machines() {
    let mut world = obedient();
    world.run_to(20);
    let mut looks = Vec::new();
    for number in 0..6 {
        world.machines.remove(number);
        world.step();
        looks.push(world.core.next_look_is_whole);
    }
    assert!(looks.contains(&true), "{looks:?}");
    assert!(!looks.windows(2).any(|two| two == [true, true]), "{looks:?}");
}

/// The machines of a new policy must be looked at before anything is said of them.
#[test]
fn an_edit_while_the_consequences_of_a_plan_are_owed_makes_no_lease_short() {
    let mut world = obedient();
    let (wall, now) = (at(world.secs), world.now());
    let body = json!({
        "id": "l", "tenant": "t", "it_kw": 20.0, "feed": "a", "ready_before": "60s",
        "start": at(1000).to_string(), "end": at(2000).to_string(),
    });
    let request = serde_json::from_value(body).unwrap();
    let command = Box::new(Command::Commit(request, None));
    let outputs = world.core.handle(Input::Command(900, command), wall, now);
    world.ledger.extend(outputs.append.expect("it is to be written"));
    world.head = world.head.next("", "", "");
    world.core.handle(Input::Written(Ok(world.head)), wall, now);
    let planned = world.core.handle(Input::Tick, wall, now);
    assert!(planned.again, "what follows is owed");
    let mut edited = policy_with(|parts| parts.feeds[2].limit = Watts(51_000).into());
    edited.digest = "11".into();
    let digest = edited.digest.clone();
    let mut input = Input::Command(901, Box::new(Command::Policy(Arc::new(edited))));
    let number = |outputs: &Outputs| outputs.timeline.as_ref().map(|timeline| timeline.number);
    let mut told = Vec::from_iter(number(&planned));
    loop {
        let outputs = world.core.handle(input, wall, now);
        told.extend(number(&outputs));
        let short = world.core.shortage_of(&"l".into());
        assert!(outputs.notices.is_empty() && short.is_none(), "{:?}", outputs.notices);
        assert!(world.core.fleet.groups.iter().all(|machines| !machines.is_empty()));
        if !outputs.again {
            assert_eq!(decided(&world), told, "each plan that went out is recorded");
            let mut entries = world.core.outbox.pending();
            assert!(
                matches!(entries.next(), Some(Event::Decided { policy, .. }) if *policy != digest),
                "the first one before the edit, with the policy of before"
            );
            return;
        }
        input = Input::Tick;
    }
}

#[test]
fn the_same_key_is_answered_again_and_another_request_refused() {
    let mut world = obedient();
    let request = |kw: f64| -> LeaseRequest {
        let (start, end) = (at(1000).to_string(), at(1500).to_string());
        serde_json::from_value(
            json!({"tenant": "t", "it_kw": kw, "feed": "a", "start": start, "end": end}),
        )
        .unwrap()
    };
    let key = Some("k-1".to_owned());
    assert!(matches!(world.ask(Command::Commit(request(5.0), key.clone())), Answer::Committed(_)));
    assert!(matches!(world.ask(Command::Commit(request(5.0), key.clone())), Answer::Lease(_)));
    assert!(matches!(
        world.ask(Command::Commit(request(6.0), key)),
        Answer::Refused(Refused::KeyReused)
    ));
    assert_eq!(world.core.state.leases.len(), 1);
}

#[test]
fn a_lease_without_a_name_gets_one_that_nobody_chose() {
    let mut world = obedient();
    assert!(matches!(world.commit("lease-2", "a", 1_000, 1000, 1500), Answer::Committed(_)));
    let (start, end) = (at(1000).to_string(), at(1500).to_string());
    let request = json!({"tenant": "t", "it_kw": 1.0, "feed": "a", "start": start, "end": end});
    for name in ["lease-3", "lease-4"] {
        let answer =
            world.ask(Command::Commit(serde_json::from_value(request.clone()).unwrap(), None));
        assert!(
            matches!(&answer, Answer::Committed(answer) if answer.lease.id.as_str() == name),
            "{answer:?}"
        );
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = obedient();
    let (entries, state) = (world.ledger.len(), world.core.state.clone());
    let (start, end) = (at(1000).to_string(), at(1500).to_string());
    let request = json!({"tenant": "t", "it_kw": 5.0, "feed": "a", "start": start, "end": end});
    assert!(matches!(
        world.ask(Command::Admit(serde_json::from_value(request).unwrap())),
        Answer::Admitted(_)
    ));
    assert_eq!((world.ledger.len(), &world.core.state), (entries, &state));
}

#[test]
fn an_active_lease_is_cancelled_by_force_only() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(1100);
    let cancel = |force| Command::Cancel { lease: "l".into(), force };
    assert!(matches!(world.ask(cancel(false)), Answer::Refused(Refused::LeaseActive(_))));
    assert!(
        matches!(world.ask(cancel(true)), Answer::Lease(answer) if answer.lease.cancelled_at == Some(at(1100)))
    );
    world.run_to(1300);
    assert_eq!(world.phase("l"), Phase::Closed);
    assert!(world.machines.iter().all(|machine| machine.draws));
}

#[test]
fn lowering_is_never_refused() {
    let mut world = obedient();
    world.commit("l", "a", 40_000, 1000, 1500);
    world.run_to(20);
    assert_eq!(world.core.shortage_of(&"l".into()), None);
    let mut policy = policy_with(|parts| parts.feeds[1].limit = Watts(40_000).into());
    policy.digest = "low".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    assert_eq!(world.core.policy.digest, "low");
    let short = world.core.shortage_of(&"l".into()).expect("short in the same second");
    assert_eq!((short.missing, short.known_since), (Watts(1_420), Some(at(20))));
    // Everything that can go goes, and the record says what is missing and why.
    world.run_to(1100);
    assert!(world.machines.iter().filter(|one| one.feed == "a").all(|one| !one.draws));
    let breaches = &world.core.state.leases["l"].breaches;
    let [breach] = &breaches[..] else { panic!("one breach: {breaches:?}") };
    assert_eq!((breach.missing, breach.doing), (Watts(1_420), Some(Doing::Derate)));
}

#[test]
fn a_policy_without_the_feed_of_a_lease_is_refused() {
    let mut world = obedient();
    world.commit("l", "a", 40_000, 1000, 1500);
    let mut policy = policy_with(|parts| {
        parts.feeds.retain(|feed| feed.id.as_str() != "a");
        parts.groups.retain(|group| group.feed.as_str() != "a");
    });
    policy.digest = "bad".into();
    let policy = Arc::new(policy);
    // The file is read when it is saved, and again at SIGHUP: that is one refusal.
    for _ in 0..2 {
        let Answer::Refused(refused) = world.ask(Command::Policy(policy.clone())) else {
            panic!("the lease has no other feed")
        };
        assert_eq!(
            refused.to_string(),
            "the policy has no feed a, which lease l is on: cancel the lease first"
        );
    }
    assert_eq!(world.core.policy.digest, "00");
    assert_eq!(world.core.tally().policies_refused, 1);
    world.ask(Command::Cancel { lease: "l".into(), force: false });
    assert!(matches!(world.ask(Command::Policy(policy)), Answer::Done));
    assert_eq!(world.core.policy.digest, "bad");
    let kinds = world.ledger.iter().map(|entry| entry.event.kind());
    let kinds: Vec<_> = kinds.filter(|kind| kind.starts_with("policy")).collect();
    assert_eq!(kinds, ["policy_loaded", "policy_refused", "policy_loaded"]);
}

/// `TIELINE_SIM_SEED=n` plays seed n, `TIELINE_SIM_SEEDS=n` plays the seeds 0 to n − 1.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a seed is a number"))
    };
    match number("TIELINE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIELINE_SIM_SEEDS").unwrap_or(4),
    }
}

/// Random leases, cancellations, restarts, liars, refusers, silent meters, stepped clocks and
/// ledger failures. The true load never exceeds a feed's limit, numbers only grow, replaying the
/// ledger gives the state in memory, and in the end all machines are given back.
#[test]
fn whatever_happens_no_feed_is_overloaded_and_all_is_given_back() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let bad: Vec<(String, Manner)> = (0..2)
            .map(|_| {
                let manner = if random.random() { Manner::Lies } else { Manner::Refuses };
                (format!("old.{:03}", random.random_range(0..10)), manner)
            })
            .collect();
        let mut world = World::new(|id| {
            bad.iter().find(|(name, _)| name == id).map_or(Manner::Obeys, |(_, manner)| *manner)
        });
        println!("seed {seed}");
        world.run_to(20);
        let mut count = 0;
        while world.secs < 3000 {
            match random.random_range(0..300) {
                0..3 => {
                    count += 1;
                    let start = world.secs + random.random_range(100..1500);
                    let (feed, watts) = (
                        *["a", "b", "root"].choose(&mut random).unwrap(),
                        random.random_range(1000..35_000),
                    );
                    world.commit(
                        &format!("l{count}"),
                        feed,
                        watts,
                        start,
                        start + random.random_range(50..1500),
                    );
                }
                3 => {
                    let known: Vec<LeaseId> = world.core.state.leases.keys().cloned().collect();
                    if let Some(lease) = known.choose(&mut random) {
                        world.ask(Command::Cancel { lease: lease.clone(), force: true });
                    }
                }
                4 => world.restart(),
                5 => {
                    world.meters_silent = true;
                    for _ in 0..random.random_range(1..60) {
                        world.step();
                    }
                    world.meters_silent = false;
                }
                6 => {
                    world.ledger_fails = true;
                    for _ in 0..random.random_range(1..30) {
                        world.step();
                    }
                    world.ledger_fails = false;
                }
                7 => {
                    // The switchboard and the receivers have the same clock.
                    let off = *[-86_400, -600, -30, 30, 600, 86_400].choose(&mut random).unwrap();
                    (world.wall_off, world.receivers_off) = (off, off);
                    for _ in 0..random.random_range(1..200) {
                        world.step();
                    }
                    (world.wall_off, world.receivers_off) = (0, 0);
                }
                _ => {}
            }
            world.step();
        }
        let last = world.core.state.leases.values().map(|standing| standing.lease.ends()).max();
        let quiet = last.map_or(0, |last| last.as_second() - at(0).as_second()).max(3000) + 900;
        world.run_to(quiet);
        assert!(
            world.core.state.open().next().is_none(),
            "seed {seed}: {:?}",
            world.core.commitments
        );
        assert!(world.core.selection.off.is_empty(), "seed {seed}");
        assert!(world.machines.iter().all(|machine| machine.draws), "seed {seed}");
        assert!(count > 5, "seed {seed}: something happened");
    }
}

mod clock;
mod meters;
