//! Meters that are wrong: what they show is neither proof nor breach, and raises nothing. Breaches
//! that are real say whose doing they are.

use super::*;
use crate::commitment::{Breach, Doing};
use crate::plausible::MeterState;

fn asleep(world: &World) -> usize {
    world.machines.iter().filter(|machine| !machine.draws).count()
}

fn state(world: &World, feed: &str) -> MeterState {
    let feeds = world.core.policy.facility.feeds();
    world.core.plausible.state(feeds.number(&feed.into()).unwrap())
}

fn breaches(world: &World, lease: &str) -> Vec<Breach> {
    world.core.lease_view(&lease.into()).unwrap();
    world.core.commitments[lease].breaches.clone()
}

/// An active lease of 20 kW at `a`, with a tenant that has a meter.
fn active() -> World {
    let mut world = obedient();
    world.commit_metered("l", "a", 20_000, 1000, 2000, Some("tenant"));
    world.run_to(1_100);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, 5));
    world
}

#[test]
fn a_thousand_times_too_much_in_an_active_lease_breaches_nothing_and_sheds_nothing() {
    let mut world = active();
    world.meter_factor = 1_000.0;
    world.run_to(1_110);
    assert_eq!(state(&world, "a"), MeterState::ScaledUp);
    assert_eq!((state(&world, "root"), state(&world, "b")), (MeterState::Ok, MeterState::Ok));
    world.run_to(1_400);
    assert_eq!(breaches(&world, "l"), []);
    assert_eq!(asleep(&world), 5, "corrections stay as they were");
    let view = world.core.lease_view(&"l".into()).unwrap();
    assert!(view.unverified && !view.breached);
    let why = view.unverified_why.expect("it is on record");
    assert!(
        why.starts_with(
            "while it was active: the meter of a is implausible (scaled_up): it shows "
        ),
        "{why}"
    );
    let judged: Vec<_> = world
        .ledger
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::MetersJudged { meters } => Some(meters),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(judged.len(), 1, "{judged:?}");
    assert_eq!((judged[0].to, &judged[0].leases[..]), (MeterState::ScaledUp, &["l".into()][..]));
    world.meter_factor = 1.0;
    world.run_to(1_403);
    assert_eq!(state(&world, "a"), MeterState::Ok);
    world.run_to(2_400);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Closed, 0));
}

#[test]
fn a_thousandth_proves_no_lease_and_raises_no_machine() {
    let mut world = obedient();
    world.commit_metered("first", "a", 20_000, 400, 700, Some("tenant"));
    world.commit_metered("l", "a", 20_000, 1000, 1500, Some("tenant"));
    world.run_to(690);
    let before = asleep(&world);
    assert_eq!(before, 5);
    world.meter_factor = 0.001;
    world.run_to(800);
    assert_eq!(state(&world, "a"), MeterState::ScaledDown);
    world.run_to(1_400);
    assert!(asleep(&world) >= before, "nothing is raised by its word");
    assert_eq!(world.phase("l"), Phase::Shedding, "never silently active");
    assert_eq!(breaches(&world, "l"), []);
    let why = world.core.lease_view(&"l".into()).unwrap().unverified_why.unwrap();
    assert!(
        why.starts_with("not proven by 2027-01-15 08:15:40: the meter of a is implausible (scaled_down): it shows "),
        "{why}"
    );
    world.meter_factor = 1.0;
    world.run_to(1_420);
    assert_eq!(world.phase("l"), Phase::Active, "late, but proven");
    world.run_to(2_000);
    assert_eq!(asleep(&world), 0);
}

#[test]
fn a_wrong_meter_withholds_machines_below_its_own_feed_only() {
    let mut world = obedient();
    world.commit("here", "a", 20_000, 1000, 1500);
    world.commit("there", "b", 30_000, 1000, 1500);
    world.run_to(1_490);
    let below = |world: &World, feed: &str| {
        world.machines.iter().filter(|machine| !machine.draws && machine.feed == feed).count()
    };
    world.meter_factor = 1_000.0;
    world.run_to(1_900);
    assert!(below(&world, "a") > 0, "nothing shows whether there is room");
    assert_eq!(below(&world, "b"), 0);
    let withheld = world.core.withheld.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(withheld.starts_with("the meter of a is implausible (scaled_up)"), "{withheld}");
    world.meter_factor = 1.0;
    world.run_to(2_400);
    assert_eq!(below(&world, "a"), 0);
}

#[test]
fn a_meter_that_is_lost_in_an_active_lease_is_on_record() {
    let mut world = active();
    world.lost_meter = Some("a");
    world.run_to(1_200);
    assert_eq!(state(&world, "a"), MeterState::Silent);
    let lost = world.ledger.iter().rev().find_map(|entry| match &entry.event {
        Event::MetersJudged { meters } => meters.first(),
        _ => None,
    });
    let lost = lost.expect("it is on record");
    assert_eq!((lost.to, &lost.leases[..]), (MeterState::Silent, &["l".into()][..]));
    assert_eq!((breaches(&world, "l"), asleep(&world)), (vec![], 5));
    // The record is read back.
    world.restart();
    world.run_to(1_260);
    assert_eq!(world.phase("l"), Phase::Active);
}

/// After a start nothing is known of what the meter showed before: devices that are awake, and
/// shares, show what is drawn.
#[test]
fn a_thousandth_is_found_after_a_restart_too() {
    let mut world = active();
    world.meter_factor = 0.001;
    world.restart();
    world.run_to(1_130);
    assert_eq!(state(&world, "a"), MeterState::ScaledDown);
    // And from then on it is on record.
    world.restart();
    for _ in 0..40 {
        world.step();
        assert_eq!(state(&world, "a"), MeterState::ScaledDown);
    }
    world.run_to(2_100);
    assert_eq!(asleep(&world), 5, "the lease is over, and nothing shows the room");
}

#[test]
fn a_tenant_over_its_reservation_is_named() {
    let mut world = active();
    world.tenant_adds = Watts(6_000);
    world.run_to(1_130);
    let [breach] = &breaches(&world, "l")[..] else { panic!("there is one") };
    assert_eq!((breach.doing, breach.measured), (Some(Doing::Tenant), true));
    assert!(
        breach.why.ends_with("; a tenant draws 6 kW more than it has reserved"),
        "{}",
        breach.why
    );
}

#[test]
fn a_house_that_grows_is_named() {
    let mut world = active();
    world.meter_adds = Watts(20_000);
    world.run_to(1_130);
    let [breach] = &breaches(&world, "l")[..] else { panic!("there is one") };
    assert_eq!(breach.doing, Some(Doing::House));
    assert!(breach.missing > Watts::ZERO, "{breach:?}");
}

#[test]
fn a_lowered_limit_is_named() {
    let mut world = active();
    let mut lower = policy_with(|parts| parts.feeds[1].limit = Watts(30_000).into());
    lower.digest = "11".into();
    // Only the limit is lowered here; the facility itself carries as much as before.
    assert!(matches!(world.ask(Command::Policy(Arc::new(lower))), Answer::Done));
    world.run_to(1_140);
    let [breach] = &breaches(&world, "l")[..] else { panic!("there is one") };
    assert_eq!(breach.doing, Some(Doing::Derate));
    assert!(
        breach.why.ends_with("; the limit is 20 kW lower than when the lease was committed"),
        "{}",
        breach.why
    );
}

#[test]
fn machines_that_do_not_obey_are_our_own_doing() {
    let hangs = |id: &str| if id == "old.002" { Manner::MuteAwake } else { Manner::Obeys };
    let mut world = World::new(hangs);
    world.run_to(20);
    world.commit("l", "a", 20_000, 1000, 1500);
    world.run_to(960);
    let [breach] = &breaches(&world, "l")[..] else { panic!("there is one") };
    assert_eq!(breach.doing, Some(Doing::Ours));
}

#[test]
fn what_was_missing_after_a_wrong_meter_is_the_meters() {
    let mut world = active();
    world.meter_factor = 1_000.0;
    world.run_to(1_150);
    world.meter_factor = 1.0;
    world.meter_adds = Watts(20_000);
    world.run_to(1_190);
    let [breach] = &breaches(&world, "l")[..] else { panic!("there is one") };
    assert_eq!(breach.doing, Some(Doing::Meter));
}
