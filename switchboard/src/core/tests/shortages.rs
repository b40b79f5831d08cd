//! A short lease is shown as short in every answer.

use super::*;
use crate::view::{LeaseAnswer, LeasesAnswer, PlanView, Shortage, StatusView};

/// The shortage of `lease` in each answer: `lease show`, `lease list`, `plan`, `status`.
fn told(world: &mut World, lease: &str) -> [Option<Shortage>; 4] {
    let id = LeaseId::from(lease);
    let short_of = |leases: Vec<crate::view::ShortLease>| {
        leases.into_iter().find(|short| short.lease == id).map(|short| short.short)
    };
    let Answer::Lease(one) = world.ask(Command::Lease(id.clone())) else { panic!("no lease") };
    let LeaseAnswer { lease: one, .. } = *one;
    let query = LeaseQuery { state: LeaseFilter::All, after: None, limit: 100 };
    let Answer::Leases(LeasesAnswer { leases, .. }) = world.ask(Command::Leases(query)) else {
        panic!("no list")
    };
    let listed = leases.into_iter().find(|lease| lease.id == id).expect("it is listed");
    let Answer::Plan(plan) = world.ask(Command::Plan) else { panic!("no plan") };
    let PlanView { short_leases: planned, .. } = *plan;
    let Answer::Status(status) = world.ask(Command::Status) else { panic!("no status") };
    let StatusView { short_leases: standing, .. } = *status;
    [one.short, listed.short, short_of(planned), short_of(standing)]
}

fn request(id: &str, feed: &str, watts: i64, start: i64, end: i64) -> LeaseRequest {
    let body = json!({
        "id": id, "tenant": "t", "it_kw": Watts(watts).kw(), "feed": feed, "ready_before": "60s",
        "start": at(start).to_string(), "end": at(end).to_string(),
    });
    serde_json::from_value(body).unwrap()
}

/// A world in which some machines of the group `old` draw power, but nobody reports them.
fn without(missing: usize) -> World {
    let mut world = World::new(|_| Manner::Obeys);
    for number in 0..missing {
        let name = MachineId::from(format!("old.{number:03}"));
        world.machines.retain(|machine| machine.id != name);
        world.meter_adds += Watts(3000);
    }
    world.run_to(20);
    world
}

#[test]
fn a_lease_for_machines_nobody_has_seen_is_short_in_every_answer_before_and_after_its_commit() {
    let mut world = without(1);
    let Answer::Admitted(dry) = world.ask(Command::Admit(request("l", "a", 48_000, 3000, 4000)))
    else {
        panic!("admission counts declared machines")
    };
    let short = dry.short.expect("it would be short");
    assert_eq!(
        (short.missing, short.machines_seen, short.machines_declared),
        (Watts(2390), 13, 14)
    );
    assert_eq!((short.from, short.to, short.known_since), (at(2940), Some(at(4000)), None));
    let Answer::Committed(fresh) = world.commit("l", "a", 48_000, 3000, 4000) else {
        panic!("its decision is as before")
    };
    let short = Shortage { known_since: Some(at(20)), ..short };
    assert_eq!(fresh.lease.short.as_ref(), Some(&short));
    assert_eq!(told(&mut world, "l"), [0; 4].map(|_| Some(short.clone())));
    let Answer::Plan(plan) = world.ask(Command::Plan) else { panic!("no plan") };
    let deficits = plan.plan.expect("there is one").deficits;
    let deficit = &deficits[0];
    assert_eq!((deficits.len(), &deficit.feed, deficit.missing), (1, &short.feed, short.missing));
    assert_eq!((deficit.from, deficit.to), (short.from, short.to));
}

#[test]
fn a_lease_beyond_the_horizon_is_short_too() {
    let mut world = without(1);
    world.commit("far", "a", 48_000, 100_000, 110_000);
    let Answer::Plan(plan) = world.ask(Command::Plan) else { panic!("no plan") };
    assert!(plan.plan.expect("there is one").deficits.is_empty(), "it does not reach so far");
    let short = told(&mut world, "far");
    assert!(
        short.iter().all(|short| short
            .as_ref()
            .is_some_and(|short| { (short.missing, short.from) == (Watts(2390), at(99_940)) })),
        "{short:?}"
    );
}

#[test]
fn a_lease_that_makes_another_one_short_says_so_beforehand() {
    let mut world = obedient();
    world.commit("later", "a", 30_000, 3000, 5000);
    // Admission refuses what does not fit with the declared machines. With one machine less, the
    // two leases no longer fit.
    world.machines.retain(|machine| machine.id.as_str() != "new.000");
    world.run_to(22);
    let Answer::Admitted(dry) = world.ask(Command::Admit(request("x", "a", 18_000, 2000, 4000)))
    else {
        panic!("it fits by declared machines")
    };
    assert_eq!(dry.short, None, "it begins first");
    let others: Vec<_> =
        dry.short_leases.iter().map(|short| (short.lease.as_str(), short.short.missing)).collect();
    assert_eq!(others, [("later", Watts(2390))]);
    assert_eq!(told(&mut world, "later"), [None, None, None, None], "a dry run changes nothing");
}

#[test]
fn machines_that_vanish_make_a_lease_short_once_nobody_reports_them() {
    let mut world = obedient();
    world.commit("l", "a", 48_000, 3000, 4000);
    world.run_to(700);
    assert_eq!(told(&mut world, "l"), [None, None, None, None]);
    let mut notices = Vec::new();
    world.machines.retain(|machine| !["old.003", "new.001"].contains(&machine.id.as_str()));
    for _ in 0..30 {
        world.step();
        notices.append(&mut world.notices);
    }
    let [Some(short), ..] = told(&mut world, "l") else { panic!("it is short") };
    assert_eq!((short.missing, short.machines_seen), (Watts(5360), 12));
    assert_eq!(short.known_since, Some(at(702)));
    assert_eq!(notices, [Notice::Short { lease: "l".into(), short }], "said once");
}

#[test]
fn the_lease_that_lacks_power_first_is_told_first() {
    let mut world = without(1);
    world.commit("a-later", "a", 48_000, 6000, 7000);
    world.commit("z-sooner", "a", 48_000, 3000, 4000);
    world.run_to(60);
    let Answer::Status(status) = world.ask(Command::Status) else { panic!("no status") };
    let short: Vec<&str> = status.short_leases.iter().map(|short| short.lease.as_str()).collect();
    assert_eq!(short, ["z-sooner", "a-later"]);
}

#[test]
fn the_log_hears_of_a_shortage_once_and_of_its_end() {
    let mut world = World::new(|_| Manner::Obeys);
    world.machines.retain(|machine| !["old.000", "old.001"].contains(&machine.id.as_str()));
    world.meter_adds = Watts(6000);
    world.run_to(10);
    world.commit("l", "a", 48_000, 3000, 4000);
    world.run_to(14);
    assert_eq!(std::mem::take(&mut world.notices), [], "what has not reported yet is not missing");
    world.run_to(60);
    let said = std::mem::take(&mut world.notices);
    assert!(
        matches!(&said[..], [Notice::Short { lease, short }]
            if lease.as_str() == "l" && short.missing == Watts(5360)),
        "{said:?}"
    );
    world.ask(Command::Cancel { lease: "l".into(), force: false });
    assert_eq!(world.notices, [Notice::NotShort { lease: "l".into() }]);
}

#[test]
fn a_running_lease_does_not_begin_to_be_short_anew_with_each_plan() {
    let mut world = without(1);
    world.commit("l", "a", 48_000, 400, 3000);
    world.run_to(350);
    let [Some(before), ..] = told(&mut world, "l") else { panic!("it is short") };
    assert_eq!((before.from, before.to), (at(340), Some(at(3000))));
    // One more lease leads to a new plan.
    world.commit("m", "b", 1000, 2000, 2500);
    world.run_to(360);
    let [Some(after), ..] = told(&mut world, "l") else { panic!("it is short still") };
    assert_eq!(after, before);
}

#[test]
fn a_refused_file_is_shown_until_a_good_one_is_taken() {
    let mut world = obedient();
    let status = |world: &mut World| {
        let Answer::Status(status) = world.ask(Command::Status) else { panic!("no status") };
        *status
    };
    let fault = |why: &str| Some(FileFault { file: "policy.toml".to_owned(), why: why.to_owned() });
    let tell = |world: &mut World, kind, notice| world.ask(Command::File { kind, notice });
    tell(&mut world, FileKind::Policy, fault("line 3"));
    tell(&mut world, FileKind::Configuration, fault("changed"));
    world.run_to(25);
    tell(&mut world, FileKind::Policy, fault("line 3"));
    let shown = status(&mut world);
    let refused = shown.policy_refused.expect("it is shown");
    assert_eq!(
        (refused.at, refused.file.as_str(), refused.why.as_str()),
        (at(20), "policy.toml", "line 3")
    );
    tell(&mut world, FileKind::Policy, fault("line 4"));
    assert_eq!(status(&mut world).policy_refused.map(|refused| refused.at), Some(at(25)));

    let mut good = policy();
    good.digest = "11".into();
    assert!(matches!(world.ask(Command::Policy(Arc::new(good))), Answer::Done));
    let shown = status(&mut world);
    assert_eq!(shown.policy_refused, None);
    assert!(shown.configuration_not_applied.is_some(), "that is another file");
    tell(&mut world, FileKind::Configuration, None);
    assert_eq!(status(&mut world).configuration_not_applied, None);
}

#[test]
fn five_counts_of_machines_are_five_counts() {
    let mut world = World::new(|id| if id == "old.001" { Manner::Refuses } else { Manner::Obeys });
    world.machines.retain(|machine| machine.id.as_str() != "old.009");
    world.meter_adds = Watts(3000);
    world.run_to(20);
    world.commit("l", "a", 20_000, 200, 1000);
    world.run_to(190);
    let Answer::Status(status) = world.ask(Command::Status) else { panic!("no status") };
    let group = |name: &str| {
        let view = status.groups.iter().find(|view| view.group.as_str() == name);
        view.expect("it is a group").machine_counts
    };
    let counts = |[declared, seen, hashing, asleep, failing]: [u32; 5]| {
        crate::view::MachineCounts { declared, seen, hashing, asleep, failing }
    };
    // Six machines sleep; one more was commanded, refuses and continues to hash.
    assert_eq!(group("old"), counts([10, 9, 4, 5, 1]));
    assert_eq!(group("new"), counts([4, 4, 4, 0, 0]));
    assert_eq!(status.machine_counts, counts([27, 26, 21, 5, 1]));
}
