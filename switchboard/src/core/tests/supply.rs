//! Feeds that lose their power. [`World::check`] fails if anything overloads a feed.

use super::*;
use crate::blackout::FeedSupply;
use crate::plausible::MeterState;
use crate::view::FeedView;

/// A site that was taken over: its 27 machines are permitted, 13 of them on `b`.
fn taken_over() -> World {
    let mut world = World::new(|_| Manner::Obeys);
    world.run_to(140);
    assert_eq!(world.core.inventory.permitted().len(), 27);
    world
}

fn view(world: &World, feed: &str) -> FeedView {
    let views = world.core.feed_views(at(world.secs), world.now());
    views.into_iter().find(|view| view.feed.as_str() == feed).expect("it is there")
}

fn drawing(world: &World, feed: &str) -> usize {
    world.machines.iter().filter(|machine| machine.feed == feed && machine.draws).count()
}

#[test]
fn nothing_is_raised_at_a_dead_feed_and_other_feeds_go_on() {
    let mut world = taken_over();
    let room = view(&world, "root").room.expect("it is read");
    world.dark.insert("b");
    world.run_to(150);
    let supply = view(&world, "b").supply;
    assert_eq!((supply.state, supply.feed), (FeedSupply::Dead, Some("b".into())));
    assert_eq!((view(&world, "b").room, view(&world, "a").supply.state), (None, FeedSupply::Live));
    let status = world.core.status_view(at(world.secs), world.now());
    let dead: Vec<_> = status.dead_feeds.iter().map(|dead| dead.feed.as_str()).collect();
    assert_eq!(dead, ["b"]);
    // The machines lose their places, and those on `a` keep theirs.
    let permitted = world.core.inventory.permitted();
    assert_eq!(permitted.len(), 14);
    assert!(permitted.iter().all(|machine| !machine.as_str().starts_with("far")));
    // What `b` drew is kept for it above.
    let least = room - Watts(1500);
    let kept = view(&world, "root").room.expect("it is read");
    assert!((least..=room).contains(&kept), "{kept} after {room}");
    world.run_to(1200);
    assert!(world.chosen().is_empty(), "nobody goes because a meter shows nothing");
    let population = &world.core.fleet.population;
    assert!(population.corrections.iter().all(|correction| *correction >= Watts::ZERO));
    let b = world.core.policy.facility.feeds().number(&"b".into()).expect("it is there");
    assert_eq!(world.core.plausible.state(b), MeterState::Ok);
    let recorded = world.ledger.iter().filter(|entry| entry.event.kind() == "supply_changed");
    assert_eq!(recorded.count(), 1);
}

#[test]
fn machines_come_back_by_the_up_ramp_after_the_feed_has_settled() {
    let mut world = taken_over();
    world.dark.insert("b");
    world.run_to(400);
    world.light("b");
    world.run_to(455);
    let supply = view(&world, "b").supply;
    assert_eq!(supply.state, FeedSupply::Reclosing);
    assert!(supply.until.is_some_and(|until| at(455) < until && until <= at(465)), "{supply:?}");
    assert_eq!(drawing(&world, "b"), 0);
    let why = world.core.waits_for(&"far.000".into(), at(world.secs), world.now()).unwrap();
    assert_eq!(
        why.to_string(),
        format!("feed b has power again, which it lost at {}, and is not steady yet", at(141))
    );
    world.run_to(500);
    let some = drawing(&world, "b");
    assert!((1..=8).contains(&some), "12 kW a minute, two machines in 15 s: {some}");
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Live);
    world.run_to(1200);
    assert_eq!(drawing(&world, "b"), 13);
    assert_eq!(world.core.inventory.permitted().len(), 27);
}

#[test]
fn a_meter_that_falls_with_machines_that_still_answer_raises_nothing_for_a_while() {
    let mut world = taken_over();
    world.meter_factor = 0.0;
    world.run_to(145);
    let a = world.core.policy.facility.feeds().number(&"a".into()).expect("it is there");
    let room = world.core.room(at(world.secs), world.now());
    let why = room[a].as_ref().expect_err("it may be dead").to_string();
    assert!(why.contains("has just fallen to almost nothing"), "{why}");
    world.run_to(300);
    assert_eq!(view(&world, "a").supply.state, FeedSupply::Live);
    assert_eq!(world.core.inventory.permitted().len(), 27);
}

#[test]
fn a_dead_feed_is_dead_after_a_restart_too() {
    let mut world = taken_over();
    world.dark.insert("b");
    world.run_to(150);
    world.restart();
    world.run_to(160);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Dead);
    assert_eq!(view(&world, "b").supply.since, Some(at(141)));
    world.light("b");
    world.run_to(1000);
    assert_eq!(drawing(&world, "b"), 13);
    assert!(world.core.state.dead.is_empty());
}

#[test]
fn places_that_the_record_still_has_after_a_restart_are_taken_then() {
    let mut world = taken_over();
    world.dark.insert("b");
    world.run_to(150);
    // The switchboard ended before it recorded that the machines lost their places.
    world.ledger.retain(
        |entry| !matches!(&entry.event, Event::Permitted { removed, .. } if !removed.is_empty()),
    );
    world.restart();
    world.run_to(155);
    assert_eq!(world.core.inventory.permitted().len(), 27);
    world.run_to(200);
    assert_eq!(world.core.inventory.permitted().len(), 14);
}

#[test]
fn a_permit_names_no_machine_of_a_dead_feed() {
    let mut world = taken_over();
    world.commit("l", "b", 20_000, 400, 600);
    world.run_to(690);
    let named = |world: &World| {
        let granted = world.core.raises.granted();
        granted.iter().filter(|machine| machine.as_str().starts_with("far")).count()
    };
    assert!(named(&world) > 3, "those that came back are named for some minutes");
    world.dark.insert("b");
    world.run_to(700);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Dead);
    assert_eq!(named(&world), 0);
    world.light("b");
    world.run_to(755);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Reclosing);
    assert_eq!((named(&world), drawing(&world, "b")), (0, 0));
}

#[test]
fn a_lease_on_a_dead_feed_stays_as_it_is() {
    let mut world = taken_over();
    world.commit("l", "b", 20_000, 400, 3_000);
    world.run_to(450);
    assert_eq!(world.phase("l"), Phase::Active);
    let chosen = world.chosen();
    world.dark.insert("b");
    world.run_to(900);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Dead);
    assert_eq!((world.phase("l"), world.chosen()), (Phase::Active, chosen));
}

#[test]
fn a_meter_that_is_off_by_a_thousand_over_working_machines_is_the_fault_that_it_was() {
    let mut world = taken_over();
    world.meter_factor = 0.001;
    world.run_to(300);
    let a = world.core.policy.facility.feeds().number(&"a".into()).expect("it is there");
    assert_eq!(view(&world, "a").supply.state, FeedSupply::Live);
    assert_eq!(world.core.plausible.state(a), MeterState::ScaledDown);
    assert_eq!(world.core.inventory.permitted().len(), 27);
}

#[test]
fn machines_that_go_for_a_lease_are_no_blackout_when_the_tenant_comes() {
    let mut world = World::new(|_| Manner::Obeys);
    world.run_to(140);
    // All 14 machines of `a` go, which shows less than 5 % then.
    world.commit("l", "a", 48_000, 900, 2000);
    let mut seen = BTreeSet::new();
    while world.secs < 1200 {
        world.step();
        seen.insert(view(&world, "a").supply.state);
    }
    assert_eq!(world.phase("l"), Phase::Active);
    assert_eq!(drawing(&world, "a"), 0);
    assert_eq!(seen, [FeedSupply::Live].into());
}

#[test]
fn machines_whose_time_off_ends_at_a_dead_feed_come_back_by_the_up_ramp() {
    let mut world = taken_over();
    world.commit("l", "b", 20_000, 400, 600);
    world.run_to(450);
    assert_eq!(world.phase("l"), Phase::Active);
    world.dark.insert("b");
    world.run_to(700);
    assert!(world.chosen().is_empty(), "the lease is over");
    world.light("b");
    let (mut most, mut before) = (0, 0);
    while world.secs < 900 {
        world.step();
        let draw = drawing(&world, "b");
        (most, before) = (most.max(draw.saturating_sub(before)), draw);
    }
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Live);
    assert!(most <= 2, "two machines in 15 s: {most} at once");
    world.run_to(1_600);
    assert_eq!(drawing(&world, "b"), 13);
}

#[test]
fn members_whose_sessions_end_later_lose_their_places_too() {
    let mut world = taken_over();
    world.dark.insert("b");
    world.lingering = ["far.000", "dumb.000"].map(MachineId::from).into();
    world.run_to(150);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Dead);
    assert_eq!(world.core.inventory.permitted().len(), 16, "those that seem to work keep them");
    world.lingering.clear();
    world.run_to(153);
    assert_eq!(world.core.inventory.permitted().len(), 14);
}

#[test]
fn a_house_that_grows_elsewhere_is_seen_while_a_feed_is_dead() {
    let mut world = taken_over();
    let correction = |world: &World| {
        let feeds = world.core.policy.facility.feeds();
        let number = |feed: &str| feeds.number(&feed.into()).expect("it is there");
        let corrections = &world.core.fleet.population.corrections;
        (corrections[number("root")], corrections[number("a")], corrections[number("b")])
    };
    let before = correction(&world);
    world.dark.insert("b");
    world.run_to(500);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Dead);
    assert_eq!(correction(&world), before, "what is gone comes back");
    // The house of `a` grows, and the interconnect shows it.
    world.meter_adds = Watts(3_000);
    world.run_to(550);
    let grown = correction(&world);
    let more = (grown.0 - before.0, grown.1 - before.1, grown.2 - before.2);
    assert_eq!(more, (Watts(3_000), Watts(3_000), Watts::ZERO));
    world.meter_adds = Watts::ZERO;
    world.run_to(750);
    assert_eq!(correction(&world), before);
    assert!(world.chosen().is_empty());
}

#[test]
fn machines_that_cannot_be_told_because_their_feed_is_dead_are_not_replaced() {
    let mut world = taken_over();
    world.commit("l", "b", 20_000, 400, 3_000);
    world.run_to(450);
    let chosen = world.chosen();
    assert!(!chosen.is_empty());
    world.dark.insert("b");
    world.run_to(1_000);
    let failures = world.machines.iter().map(|machine| machine.unanswered).max();
    assert!(failures > Some(3), "their commands have failed: {failures:?}");
    assert_eq!(world.chosen(), chosen);
    world.light("b");
    world.run_to(1_200);
    assert_eq!(view(&world, "b").supply.state, FeedSupply::Live);
}

#[test]
fn a_policy_that_drops_a_dead_feed_has_the_record_forget_it() {
    let mut world = taken_over();
    world.dark.insert("b");
    world.run_to(150);
    assert_eq!(world.core.state.dead.len(), 1);
    let mut policy = policy_with(|parts| {
        parts.feeds[2].id = "c".into();
        parts.groups.iter_mut().filter(|group| group.feed.as_str() == "b").for_each(|group| {
            group.feed = "c".into();
        });
    });
    policy.digest = "renamed".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(policy))), Answer::Done));
    world.run_to(152);
    let mut recorded = LedgerState::default();
    world.ledger.iter().for_each(|entry| recorded.apply(entry.at, &entry.event).unwrap());
    assert!(recorded.dead.is_empty(), "{:?}", recorded.dead);
}

#[test]
fn a_meter_that_shows_nothing_over_working_machines_corrects_nothing_above_it() {
    let mut world = taken_over();
    let before = world.core.fleet.population.corrections.clone();
    world.meter_factor = 0.001;
    for secs in 141..300 {
        world.run_to(secs);
        assert_eq!(world.core.fleet.population.corrections, before, "at {secs}");
    }
    assert!(world.chosen().is_empty());
}
