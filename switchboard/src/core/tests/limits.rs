//! Limits that change with time.

use super::*;
use crate::facility::Limit;

/// The policy of the fixture, with other limits of `a` from these seconds on.
fn dated(changes: &[(i64, i64)]) -> Policy {
    let changes = changes.iter().map(|&(secs, watts)| (at(secs), Watts(watts)));
    let limit = Limit::series(Watts(50_000), changes).expect("times rise");
    let mut policy = policy_with(|parts| parts.feeds[1].limit = limit);
    policy.digest = "dated".into();
    policy
}

fn down(world: &World) -> usize {
    world.machines.iter().filter(|machine| !machine.draws).count()
}

fn feed_a(world: &mut World) -> crate::view::FeedView {
    let Answer::Feeds(feeds) = world.ask(Command::Feeds) else { panic!("no feeds") };
    feeds.feeds.into_iter().find(|feed| feed.feed.as_str() == "a").expect("there is a")
}

/// The world checks in every second that no feed carries more than it may.
#[test]
fn a_lower_limit_is_kept_from_its_first_second_on_and_everybody_is_back_after_it() {
    for restart in [None, Some(925), Some(990), Some(1_500), Some(1_999)] {
        let mut world = World::with(dated(&[(1_000, 34_000), (2_000, 50_000)]), |_| Manner::Obeys);
        if let Some(secs) = restart {
            world.run_to(secs);
            world.restart();
        }
        world.run_to(1_000);
        assert_eq!(down(&world), 4, "restart at {restart:?}");
        let feed = feed_a(&mut world);
        assert_eq!((feed.usable, feed.usable_next), (Watts(34_000), Some(Watts(50_000))));
        assert_eq!(feed.usable_changes_at, Some(at(2_000)));
        world.run_to(2_500);
        assert_eq!((down(&world), world.core.selection.off.len()), (0, 0), "{restart:?}");
        assert_eq!(feed_a(&mut world).usable_changes_at, None);
    }
}

#[test]
fn nobody_goes_long_before_a_limit_is_lower() {
    let mut world = World::with(dated(&[(1_000, 34_000), (2_000, 50_000)]), |_| Manner::Obeys);
    world.run_to(915);
    assert_eq!(down(&world), 0);
    let feed = feed_a(&mut world);
    assert_eq!((feed.usable, feed.usable_next), (Watts(50_000), Some(Watts(34_000))));
    let reasons: Vec<&str> = world.core.plan().unwrap().steps.iter().map(|s| &*s.reason).collect();
    assert!(reasons.iter().any(|why| why.starts_with("the limit of feed a falls to 34 kW")));
}

#[test]
fn a_lease_that_a_later_limit_leaves_short_is_short_from_its_first_instant_on() {
    let mut world = obedient();
    world.commit("l", "a", 40_000, 1_000, 1_900);
    world.run_to(20);
    // The facility itself carries as much as before.
    let lower = Arc::new(dated(&[(1_300, 40_000), (1_700, 50_000)]));
    assert!(matches!(world.ask(Command::Policy(lower)), Answer::Done));
    let short = world.core.shortage_of(&"l".into()).expect("said at once").clone();
    assert_eq!((short.missing, short.known_since), (Watts(1_420), Some(at(20))));
    assert_eq!((short.from, short.to), (at(1_300), Some(at(1_700))));
    world.run_to(1_290);
    assert_eq!(world.core.state.leases["l"].breaches.len(), 0, "until then it has all");
    world.run_to(1_400);
    let breaches = &world.core.state.leases["l"].breaches;
    let [breach] = &breaches[..] else { panic!("one breach: {breaches:?}") };
    assert_eq!((breach.missing, breach.doing), (Watts(1_420), Some(Doing::Derate)));
    world.run_to(1_750);
    assert_eq!(world.core.shortage_of(&"l".into()), None);
}

#[test]
fn a_limit_that_was_known_at_the_commit_is_no_excuse_later() {
    let changes = [(1_300, 44_000), (1_700, 50_000)];
    let mut world = World::with(dated(&changes), |_| Manner::Obeys);
    world.run_to(20);
    // Both fit to 50 kW until 1200, which is tighter than one at 44 kW.
    world.commit("l", "a", 20_000, 1_000, 1_900);
    world.commit("m", "a", 24_000, 1_000, 1_200);
    world.run_to(1_320);
    assert_eq!(world.phase("l"), Phase::Active);
    let line =
        world.core.state.leases["l"].arithmetic.iter().find(|line| line.feed.as_str() == "a");
    let line = line.expect("the feed is on its path");
    assert_eq!(
        (line.usable, line.least_usable),
        (Watts(44_000), None),
        "alone, l is tightest then"
    );
    let line = &world.core.state.leases["m"].arithmetic[0];
    assert_eq!((line.usable, line.least_usable), (Watts(50_000), None), "it ends before");
}

#[test]
fn agents_are_told_when_a_feed_may_carry_another_power() {
    let changes = [(1_000, 34_000), (2_000, 50_000)];
    let world = {
        let mut world = World::with(dated(&changes), |_| Manner::Obeys);
        world.run_to(20);
        world
    };
    let table = world.guard.as_ref().expect("there is one");
    let feed = &table.feeds[1];
    assert_eq!((feed.usable, feed.rating), (Watts(50_000), Watts(50_000)));
    let told: Vec<_> = feed.changes.iter().map(|change| (change.from, change.usable)).collect();
    assert_eq!(told, changes.map(|(secs, watts)| (at(secs), Watts(watts))));
    assert!(table.feeds[0].changes.is_empty() && table.feeds[2].changes.is_empty());
}

/// What a permit of now may wake would have to go again before the permit is over.
#[test]
fn nothing_is_woken_into_room_that_a_lower_limit_is_about_to_take() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1_000, 1_300);
    world.run_to(1_250);
    let room = |world: &World| {
        let room = world.core.room(at(world.secs), world.now());
        let feeds = world.core.policy.facility.feeds();
        room[feeds.number(&"a".into()).unwrap()].clone().unwrap()
    };
    let before = room(&world);
    let lower = |from: i64| {
        let mut policy = dated(&[(from, 40_000)]);
        policy.digest = format!("from {from}");
        Arc::new(policy)
    };
    assert!(matches!(world.ask(Command::Policy(lower(1_250 + 500))), Answer::Done));
    assert_eq!(room(&world), before, "far enough away");
    assert!(matches!(world.ask(Command::Policy(lower(1_250 + 150))), Answer::Done));
    assert_eq!(room(&world), before - Watts(10_000));
}
