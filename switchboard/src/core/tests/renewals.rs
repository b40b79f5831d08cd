//! Leases that follow another one at the same feed while that one still runs.

use super::*;
use crate::view::LeaseView;

/// A request of `tenant` that is to be proven ten minutes ahead.
fn request(id: &str, tenant: &str, watts: i64, (start, end): (i64, i64)) -> LeaseRequest {
    let body = json!({
        "id": id, "tenant": tenant, "it_kw": Watts(watts).kw(), "feed": "a", "ready_before": "10m",
        "start": at(start).to_string(), "end": at(end).to_string(),
    });
    serde_json::from_value(body).unwrap()
}

fn commit(world: &mut World, request: LeaseRequest) {
    let answer = world.ask(Command::Commit(request, None));
    assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
}

fn metered(request: LeaseRequest) -> LeaseRequest {
    LeaseRequest { meter: Some(json!("tenant")), ..request }
}

fn view(world: &World, lease: &str) -> LeaseView {
    world.core.lease_view(&lease.into()).expect("it is known")
}

fn machines(world: &World, lease: &str) -> u32 {
    view(world, lease).machines_by_state.values().sum()
}

fn asleep(world: &World) -> usize {
    world.machines.iter().filter(|machine| !machine.draws).count()
}

/// 30 kW take eight machines of `a`; 60 kW at one time would not fit.
fn renewed(with_meter: bool) -> World {
    let mut world = obedient();
    let meter = if with_meter { metered } else { |request| request };
    commit(&mut world, meter(request("l", "t", 30_000, (2000, 4000))));
    commit(&mut world, meter(request("m", "t", 30_000, (4000, 6000))));
    world
}

#[test]
fn a_tenant_that_renews_keeps_its_machines_and_its_proof() {
    for with_meter in [true, false] {
        let mut world = renewed(with_meter);
        assert_eq!(view(&world, "m").follows, Some("l".into()));
        world.run_to(2001);
        assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, 8));
        world.run_to(3405);
        assert_eq!(world.phase("m"), Phase::Proven, "when it is to be ready: {with_meter}");
        let plan = world.core.plan.as_ref().unwrap();
        let handed_over = plan.steps.iter().filter(|step| step.at == at(4000));
        for step in handed_over.clone() {
            assert_eq!(step.lease, Some("m".into()));
            assert!(step.reason.contains("lease m takes 30 kW"), "{}", step.reason);
        }
        assert_eq!(handed_over.map(|step| step.machines.len()).sum::<usize>(), 8);
        while world.secs < 4000 {
            world.step();
            assert_eq!(asleep(&world), 8, "nothing is shed twice, at {}", world.secs);
        }
        world.run_to(4002);
        assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Active));
        assert_eq!((machines(&world, "l"), machines(&world, "m")), (0, 8));
        world.run_to(5990);
        assert_eq!(asleep(&world), 8);
        world.run_to(6400);
        assert_eq!((world.phase("m"), asleep(&world)), (Phase::Closed, 0));
        for lease in ["l", "m"] {
            let record = &world.core.state.leases[lease];
            assert_eq!((record.breaches.len(), record.unverified), (0, false), "{lease}");
        }
    }
}

#[test]
fn a_larger_renewal_sheds_what_it_needs_beyond_in_time() {
    let mut world = obedient();
    commit(&mut world, metered(request("l", "t", 30_000, (2000, 4000))));
    commit(&mut world, metered(request("m", "t", 39_000, (4000, 6000))));
    world.run_to(3200);
    assert_eq!(asleep(&world), 8);
    world.run_to(3402);
    assert_eq!((world.phase("m"), asleep(&world)), (Phase::Proven, 11), "ten minutes ahead");
    world.run_to(4002);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Active));
    assert_eq!((machines(&world, "m"), asleep(&world)), (11, 11));
    world.run_to(6600);
    assert_eq!((world.phase("m"), asleep(&world)), (Phase::Closed, 0));
    assert_eq!(world.core.state.leases["m"].breaches, []);
}

#[test]
fn after_a_smaller_renewal_the_others_come_back() {
    let mut world = obedient();
    commit(&mut world, metered(request("l", "t", 30_000, (2000, 4000))));
    commit(&mut world, metered(request("m", "t", 20_000, (4000, 6000))));
    world.run_to(3990);
    assert_eq!((world.phase("m"), asleep(&world)), (Phase::Proven, 8));
    world.run_to(4400);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Active));
    assert_eq!((machines(&world, "m"), asleep(&world)), (5, 5));
    assert_eq!(world.core.state.leases["m"].breaches, []);
}

#[test]
fn a_lease_that_is_cancelled_leaves_its_machines_to_the_one_that_renews_it() {
    let mut world = renewed(true);
    world.run_to(3500);
    assert_eq!(world.phase("m"), Phase::Proven);
    world.ask(Command::Cancel { lease: "l".into(), force: true });
    world.run_to(3510);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Proven));
    assert_eq!((machines(&world, "m"), asleep(&world)), (8, 8));
    world.run_to(4001);
    assert_eq!((world.phase("m"), asleep(&world)), (Phase::Active, 8));
    assert_eq!(world.core.state.leases["m"].breaches, []);
}

#[test]
fn a_restart_between_both_loses_nothing_of_it() {
    let mut world = renewed(true);
    world.run_to(3700);
    world.restart();
    world.run_to(3990);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Active, Phase::Proven));
    world.run_to(4002);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Active));
    assert_eq!((machines(&world, "m"), asleep(&world)), (8, 8));
}

/// The power cannot be free while the other tenant draws it. It is proven as soon as that one is gone.
#[test]
fn another_tenants_lease_is_ready_when_the_one_before_has_ended() {
    let mut world = obedient();
    commit(&mut world, request("l", "t", 30_000, (2000, 4000)));
    let asked = request("m", "other", 30_000, (4000, 6000));
    let Answer::Admitted(admission) = world.ask(Command::Admit(asked.clone())) else {
        panic!("it fits when l has ended")
    };
    assert_eq!((admission.follows, admission.ready_from), (Some("l".into()), at(4000)));
    assert_eq!((admission.short, admission.short_leases), (None, Vec::new()));
    commit(&mut world, asked);
    let lease = view(&world, "m");
    assert_eq!((lease.follows, lease.ready_from, lease.short), (Some("l".into()), at(4000), None));
    world.run_to(3990);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Active, 8));
    assert!(world.phase("m") < Phase::Proven);
    world.run_to(4008);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Closed, Phase::Active));
    assert_eq!((machines(&world, "m"), asleep(&world)), (8, 8));
    world.restart();
    assert_eq!(view(&world, "m").follows, Some("l".into()), "it is in the ledger");
    world.run_to(5990);
    assert_eq!(asleep(&world), 8);
    world.run_to(6400);
    assert_eq!((world.phase("m"), asleep(&world)), (Phase::Closed, 0));
    assert_eq!(world.core.state.leases["m"].breaches, []);
}

/// When the feed carries both, another tenant's power is free before the first one is gone.
#[test]
fn another_tenants_lease_is_ready_in_time_where_there_is_power_for_both() {
    let mut world = obedient();
    commit(&mut world, metered(request("l", "t", 20_000, (2000, 4000))));
    commit(&mut world, request("m", "other", 20_000, (4000, 6000)));
    assert_eq!(view(&world, "m").follows, None);
    world.run_to(3402);
    assert_eq!((world.phase("l"), world.phase("m")), (Phase::Active, Phase::Proven));
    assert_eq!(asleep(&world), 12, "33 kW too much");
}
