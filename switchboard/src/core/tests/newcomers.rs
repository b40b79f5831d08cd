//! Machines that connect when the site is known. [`World::check`] fails if they overload a feed.

use super::*;
use crate::cause::OffBy;
use crate::policy::Newcomers;

/// A site that was taken over: its 27 machines are permitted.
fn taken_over(policy: Policy) -> World {
    let mut world = World::with(policy, |_| Manner::Obeys);
    world.run_to(140);
    let Some(Permitted::Only(machines)) = &world.permitted else { panic!("newcomers wait") };
    assert_eq!(machines.len(), 27);
    assert_eq!(world.core.state.permitted.as_ref(), Some(&**machines));
    world
}

#[test]
fn newcomers_get_work_where_their_feed_has_room_and_the_others_wait() {
    let mut world = taken_over(policy());
    // 39 of 50 kW are drawn on `b`, and 4 kW of the root are the house that is not declared.
    for i in 0..9 {
        world.visit(&format!("far.1{i:02}"), "b", 3000);
    }
    world.run_to(600);
    assert_eq!(world.working_visitors(), ["far.100", "far.101", "far.102"]);
    assert!(world.chosen().is_empty(), "nobody goes for them");
    // Who waits says for what.
    let why = world.core.waits_for(&"far.103".into(), at(world.secs), world.now()).unwrap();
    assert_eq!(why.to_string(), "feed b has no measured room for more machines");
}

#[test]
fn sessions_with_the_names_of_machines_put_nobody_to_sleep() {
    for metered in [true, false] {
        let policy = policy_with(|parts| {
            if !metered {
                parts.feeds.iter_mut().for_each(|feed| feed.meter = None);
            }
        });
        let mut world = taken_over(policy);
        for i in 0..30 {
            world.visit(&format!("old.9{i:02}"), "a", 0);
        }
        let mut most = 0;
        while world.secs < 1800 {
            world.step();
            most = most.max(world.chosen().len());
        }
        assert_eq!(most, 0, "metered: {metered}");
    }
}

#[test]
fn without_meters_the_figures_of_the_policy_are_the_room() {
    let policy = policy_with(|parts| parts.feeds.iter_mut().for_each(|feed| feed.meter = None));
    let mut world = taken_over(policy);
    // 27 machines of 3 kW and 5 kW of house are 86 of 100 kW, but `a` has 50 kW for 14 machines and
    // 1 kW of house.
    for i in 0..9 {
        world.visit(&format!("old.1{i:02}"), "a", 3000);
    }
    world.run_to(600);
    assert_eq!(world.working_visitors(), ["old.100", "old.101"]);
    assert!(world.chosen().is_empty());
}

#[test]
fn newcomers_do_not_take_the_room_of_machines_that_come_back() {
    let policy = policy_with(|parts| parts.feeds.iter_mut().for_each(|feed| feed.meter = None));
    let mut world = taken_over(policy);
    // 7 kW are left on `a` beside 14 machines, and the lease takes 20: five machines go.
    let request = serde_json::from_value(json!({
        "id": "l", "tenant": "t", "it_kw": 20.0, "feed": "a", "accept_unverified": true,
        "start": at(1000).to_string(), "end": at(1500).to_string(),
    }));
    let answer = world.ask(Command::Commit(request.unwrap(), None));
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    world.run_to(1100);
    assert_eq!(world.chosen().len(), 5);
    for i in 0..9 {
        world.visit(&format!("old.1{i:02}"), "a", 3000);
    }
    world.run_to(1499);
    assert!(world.working_visitors().is_empty(), "{:?}", world.working_visitors());
    world.run_to(2400);
    assert_eq!(world.machines.iter().filter(|machine| machine.draws).count(), 27);
    assert_eq!(world.working_visitors(), ["old.100", "old.101"]);
}

#[test]
fn a_restart_knows_who_is_permitted_and_a_machine_that_was_away_for_long_waits() {
    let mut world = taken_over(policy());
    world.visit("far.100", "b", 3000);
    world.run_to(200);
    assert_eq!(world.working_visitors(), ["far.100"]);
    world.permitted = None;
    world.restart();
    world.run_to(205);
    let Some(Permitted::Only(machines)) = world.permitted.clone() else { panic!("it is known") };
    assert!(machines.contains("far.100") && machines.len() == 28);
    world.visitors.clear();
    world.run_to(1000);
    let Some(Permitted::Only(machines)) = world.permitted.clone() else { panic!("it is known") };
    assert_eq!(machines.len(), 27);
    assert_eq!(world.core.state.permitted.as_ref().map(BTreeSet::len), Some(27));
}

#[test]
fn a_newcomer_that_does_not_take_its_work_loses_its_place() {
    let mut world = taken_over(policy());
    world.visit("far.100", "b", 3000);
    // Its proxy hears nothing.
    let told = world.permitted.clone();
    while world.secs < 145 {
        world.permitted.clone_from(&told);
        world.step();
    }
    assert!(world.core.inventory.is_permitted(&"far.100".into()));
    world.visitors.clear();
    world.run_to(600);
    assert!(!world.core.inventory.is_permitted(&"far.100".into()));
}

#[test]
fn a_policy_may_serve_newcomers_at_once() {
    let serve = Newcomers { wait: false, ..Newcomers::default() };
    let mut world = World::with(Policy { newcomers: serve, ..policy() }, |_| Manner::Obeys);
    world.run_to(300);
    assert_eq!(world.permitted, Some(Permitted::Everyone));
}

/// Names that wait for a feed without room are no reason for those of another feed to wait.
#[test]
fn newcomers_of_a_full_feed_do_not_keep_those_of_another_from_work() {
    let policy = policy_with(|parts| parts.feeds[1].limit = Watts(44_000).into());
    let mut world = taken_over(policy);
    for i in 0..5000 {
        world.visit(&format!("new.{i:04}"), "a", 3000);
    }
    world.visit("old.9999", "a", 3000);
    world.visit("far.9999", "b", 3000);
    world.run_to(200);
    assert_eq!(world.working_visitors(), ["far.9999"]);
    assert!(world.chosen().is_empty());
    // Every one of them has an answer to why it is off, and is counted.
    let by_cause = world.core.machines_off();
    assert_eq!(by_cause[&OffBy::Room].count, 5001);
}

/// They count as load already, because their devices are known.
#[test]
fn machines_with_devices_come_back_after_a_long_time_also_where_no_meter_is() {
    for metered in [true, false] {
        let policy = policy_with(|parts| {
            if !metered {
                parts.feeds.iter_mut().for_each(|feed| feed.meter = None);
            }
        });
        let mut world = taken_over(policy);
        (world.devices_silent, world.reconnects) = (true, true);
        world.run_to(900);
        let Some(Permitted::Only(machines)) = &world.permitted else { panic!("newcomers wait") };
        assert!(machines.is_empty(), "metered: {metered}");
        world.devices_silent = false;
        world.run_to(2400);
        let Some(Permitted::Only(machines)) = &world.permitted else { panic!("newcomers wait") };
        assert_eq!(machines.len(), 27, "metered: {metered}");
    }
}

#[test]
fn the_set_is_recorded_once_also_while_the_ledger_fails() {
    let mut world = taken_over(policy());
    world.visit("far.100", "b", 3000);
    world.run_to(200);
    assert_eq!(world.working_visitors(), ["far.100"]);
    world.ledger_fails = true;
    world.visitors.clear();
    let waiting = |world: &World| {
        let pending = world.core.outbox.pending();
        pending.filter(|event| matches!(event, Event::Permitted { .. })).count()
    };
    let mut most = 0;
    while world.secs < 1200 {
        world.step();
        most = most.max(waiting(&world));
    }
    assert!(!world.core.inventory.is_permitted(&"far.100".into()), "it was away for long");
    assert_eq!(world.core.state.permitted.as_ref().map(BTreeSet::len), Some(28));
    world.ledger_fails = false;
    world.run_to(1300);
    assert!(most <= 1, "{most}");
    assert_eq!(world.core.state.permitted.as_ref(), Some(world.core.inventory.permitted()));
}

/// Some firmware draws its full power without work. Such machines would find no room at a full feed, which
/// they fill themselves.
#[test]
fn declared_machines_that_draw_their_power_already_get_work_at_a_full_feed() {
    for declared in [true, false] {
        let policy = policy_with(|parts| {
            parts.feeds[2].limit = Watts(49_000).into();
            if declared {
                parts.groups[2].machines = 11;
            }
        });
        // Three of the declared machines do not exist before.
        let mut world = World::with(policy, |_| Manner::Obeys);
        world
            .machines
            .retain(|machine| !["far.008", "far.009", "far.010"].contains(&machine.id.as_str()));
        world.run_to(140);
        for i in 8..11 {
            world.visit(&format!("far.0{i:02}"), "b", 3000);
        }
        world.visitors.iter_mut().for_each(|visitor| visitor.idle = Watts(3000));
        world.run_to(200);
        let working = world.working_visitors().len();
        assert_eq!(working, if declared { 3 } else { 0 }, "declared: {declared}");
        world.run_to(400);
        assert!(world.chosen().is_empty());
    }
}

/// An edit of the policy must not keep room for what the meters show already.
#[test]
fn a_machine_that_draws_its_power_already_is_no_more_load_after_an_edit() {
    let policy = policy_with(|parts| {
        parts.feeds[2].limit = Watts(49_000).into();
        parts.groups[2].machines = 11;
    });
    let more = ["far.008", "far.009", "far.010"];
    let mut world = World::with(policy, |_| Manner::Obeys);
    world.machines.retain(|machine| !more.contains(&machine.id.as_str()));
    world.run_to(140);
    more.iter().for_each(|name| world.visit(name, "b", 3000));
    world.visitors.iter_mut().for_each(|visitor| visitor.idle = Watts(3000));
    while world.working_visitors().len() < 3 {
        assert!(world.secs < 300, "they get work");
        world.step();
    }
    let permitted = |world: &World| {
        let b = world.policy.facility.feeds().number(&"b".into()).expect("it is there");
        world.core.raises.permitted(&world.policy, world.now())[b]
    };
    let before = permitted(&world);
    assert!(before < Watts(9000), "{before}");
    let mut edited = world.policy.clone();
    edited.digest = "edited".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(edited))), Answer::Done));
    assert_eq!(permitted(&world), before);
}

/// What the meters showed when a machine got its turn does not count for its next turn.
#[test]
fn a_newcomer_that_lost_its_turn_needs_room_again() {
    let policy = policy_with(|parts| {
        parts.feeds[2].limit = Watts(46_000).into();
        parts.groups[2].machines = 10;
    });
    let mut world = World::with(policy, |_| Manner::Obeys);
    world.machines.retain(|machine| !["far.008", "far.009"].contains(&machine.id.as_str()));
    // One that works and draws nothing yet.
    world.visit("far.008", "b", 0);
    world.run_to(140);
    assert_eq!(world.working_visitors(), ["far.008"]);
    // 39 kW are drawn by others, so that it has no room, and draws enough itself.
    world.visit("far.009", "b", 3000);
    world.visitors[1].idle = Watts(6000);
    let told = world.permitted.clone();
    let mut was_permitted = false;
    // Its proxy hears nothing, and then the meter of its feed is lost.
    while world.secs < 500 {
        world.permitted.clone_from(&told);
        world.lost_meter = (world.secs > 150).then_some("b");
        world.step();
        was_permitted |= world.core.inventory.is_permitted(&"far.009".into());
    }
    assert!(was_permitted);
    (world.visitors[0].watts, world.visitors[1].idle) = (Watts(5000), Watts::ZERO);
    world.lost_meter = None;
    world.run_to(900);
    assert_eq!(world.working_visitors(), ["far.008"]);
}

/// Machines that wait on `feed`, each of which draws 1.8 of its 3 kW.
fn idle_visitors(world: &mut World, prefix: &str, feed: &'static str, count: usize) {
    for i in 0..count {
        world.visit(&format!("{prefix}.1{i:02}"), feed, 3000);
    }
    world.visitors.iter_mut().for_each(|visitor| visitor.idle = Watts(1800));
}

/// Of the 7 kW that are left on `a`, three machines draw 5.4 kW without work: one of them may work.
#[test]
fn at_a_feed_without_a_meter_what_machines_draw_that_wait_is_counted() {
    let policy = policy_with(|parts| {
        parts.feeds.iter_mut().for_each(|feed| feed.meter = None);
        parts.groups[1].poolless = Some(Watts(1800));
    });
    let mut world = taken_over(policy);
    idle_visitors(&mut world, "old", "a", 3);
    world.run_to(600);
    assert_eq!(world.working_visitors(), ["old.100"]);
    assert!(world.chosen().is_empty());
    let by_cause = world.core.machines_off();
    assert_eq!((by_cause[&OffBy::Room].count, by_cause[&OffBy::Room].off), (2, Watts(2400)));
}

/// Four draw 7.2 kW without work, 0.2 kW more than are left on `a`: one machine goes that mines.
#[test]
fn at_a_feed_without_a_meter_machines_go_for_what_others_draw_that_wait() {
    let policy = policy_with(|parts| {
        parts.feeds.iter_mut().for_each(|feed| feed.meter = None);
        parts.groups[1].poolless = Some(Watts(1800));
    });
    let mut world = taken_over(policy);
    idle_visitors(&mut world, "old", "a", 3);
    world.run_to(160);
    assert!(world.chosen().is_empty());
    // They draw nothing yet, so that the feed is not overloaded meanwhile.
    world.visit("old.103", "a", 3000);
    world.run_to(200);
    world.visitors[3].idle = Watts(1800);
    world.run_to(600);
    assert_eq!(world.chosen().len(), 1, "{:?}", world.working_visitors());
}

/// 39 kW are drawn by others on `b`, and 5.4 kW by three machines that wait: 1.6 kW are left.
#[test]
fn at_a_feed_with_a_meter_a_newcomer_needs_room_for_what_work_adds() {
    for measured in [true, false] {
        let policy = policy_with(|parts| {
            parts.feeds[2].limit = Watts(46_000).into();
            parts.groups[2].poolless = measured.then_some(Watts(1800));
        });
        let mut world = taken_over(policy);
        idle_visitors(&mut world, "far", "b", 3);
        // The meters must have shown what it draws before.
        world.run_to(149);
        assert!(world.working_visitors().is_empty());
        // What it draws without work must not count twice when it gets work.
        while world.secs < 600 {
            world.step();
            assert!(world.chosen().is_empty(), "measured: {measured}, at {}", world.secs);
        }
        let working = world.working_visitors().len();
        assert_eq!(working, usize::from(measured), "measured: {measured}");
    }
}

/// Two machines draw 3.6 kW together. That must not be taken for the 3 kW of one that draws all of its
/// power.
#[test]
fn what_is_known_to_be_drawn_without_work_is_not_taken_for_the_draw_of_another() {
    let policy = policy_with(|parts| {
        parts.feeds[2].limit = Watts(43_000).into();
        parts.groups[2].poolless = Some(Watts(1800));
        parts.groups[2].machines = 10;
    });
    let mut world = World::with(policy, |_| Manner::Obeys);
    world.machines.retain(|machine| !["far.008", "far.009"].contains(&machine.id.as_str()));
    world.run_to(140);
    idle_visitors(&mut world, "far", "b", 2);
    world.run_to(600);
    assert!(world.working_visitors().is_empty(), "{:?}", world.working_visitors());
}

/// A hundred machines come at once. What they draw without work fits, and leaves 12 kW with the band.
#[test]
fn a_whole_hall_that_comes_leaves_room_for_what_all_of_it_draws_without_work() {
    let mut policy = policy_with(|parts| {
        parts.feeds[0].limit = Watts(400_000).into();
        parts.feeds[2].limit = Watts(141_000).into();
        parts.groups[2].poolless = Some(Watts(900));
    });
    (policy.ramp.up_per_min, policy.ramp.up_step_machines) = (Watts(1_000_000), 100);
    let mut world = taken_over(policy);
    for i in 0..100 {
        world.visit(&format!("far.1{i:02}"), "b", 3000);
    }
    world.run_to(143);
    world.visitors.iter_mut().for_each(|visitor| visitor.idle = Watts(900));
    world.run_to(400);
    let working = world.working_visitors().len();
    assert!((1..=5).contains(&working), "{working} work, who draw 2.1 kW more each");
    assert!(world.chosen().is_empty());
}

/// Six machines come at once where 7 kW are left, and no meter shows yet that they draw 5.4 kW without work.
#[test]
fn machines_that_come_together_leave_room_for_what_the_others_draw_without_work() {
    let policy = policy_with(|parts| {
        parts.feeds[2].limit = Watts(46_000).into();
        parts.groups[2].poolless = Some(Watts(900));
    });
    let mut world = taken_over(policy);
    for i in 0..6 {
        world.visit(&format!("far.1{i:02}"), "b", 3000);
    }
    // They begin to draw three seconds after they were seen.
    world.run_to(143);
    world.visitors.iter_mut().for_each(|visitor| visitor.idle = Watts(900));
    while world.secs < 600 {
        world.step();
        assert!(world.chosen().is_empty(), "at {}", world.secs);
    }
    assert!(world.working_visitors().is_empty(), "{:?}", world.working_visitors());
}
