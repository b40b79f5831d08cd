//! Machines that stay off from one lease to the next: to which lease they belong, and what the
//! steps say.

use super::*;

/// The times of the steps of `plan`, and the machines they name.
fn named(plan: &Plan, action: Action) -> Vec<(i64, Option<String>)> {
    let steps = plan.steps.iter().filter(|step| step.action == action);
    let one = |step: &Step| {
        (step.at.as_second() - at(0).as_second(), step.lease.as_ref().map(ToString::to_string))
    };
    steps.map(one).collect()
}

#[test]
fn the_next_lease_has_the_machines_that_go_on_being_off() {
    // m reserves power from 1440 on, when l ends.
    let leases = [lease("l", "a", 20_000, 1000, 1440), lease("m", "a", 20_000, 1500, 2000)];
    let plan = fresh(&leases);
    let five = ["old.000", "old.001", "old.002", "old.003", "old.004"];
    assert_eq!(machines(&plan, "l"), five);
    assert_eq!(machines(&plan, "m"), five);
    assert_eq!(plan.leases["m"].machines, 5);
    let passed: Vec<&Step> = plan.steps.iter().filter(|step| step.at == at(1440)).collect();
    assert_eq!(passed.len(), 1);
    let reason = &passed[0].reason;
    assert!(reason.contains("lease m takes 20 kW") && reason.contains("stay off"), "{reason}");
    let ups = named(&plan, Action::Run);
    assert!(
        ups.len() == 5 && ups.iter().all(|(_, lease)| lease.as_deref() == Some("m")),
        "{ups:?}"
    );
}

#[test]
fn between_two_leases_machines_are_those_of_the_one_they_are_kept_off_for() {
    let leases = [lease("l", "a", 20_000, 1000, 1400), lease("m", "a", 20_000, 1600, 2400)];
    let mut held = Selection::default();
    for now in [0, 1000, 1399, 1400, 1401, 1500, 1539, 1540, 2000] {
        let plan = make(&leases, &held, now);
        assert_eq!(machines(&plan, "m").len(), 5, "at {now}");
        assert!(plan.steps.iter().all(|step| step.lease.is_some()), "at {now}: {:#?}", plan.steps);
        assert_eq!(machines(&plan, "l").len(), if now < 1400 { 5 } else { 0 }, "at {now}");
        held = plan.selection;
    }
}

#[test]
fn a_lease_of_another_feed_inherits_nothing() {
    // n runs on b the whole time and needs no machines of a.
    let leases = [
        lease("l", "a", 20_000, 1000, 1440),
        lease("m", "a", 20_000, 1500, 2400),
        lease("n", "b", 5_000, 1000, 2400),
    ];
    let plan = fresh(&leases);
    assert_eq!(machines(&plan, "m").len(), 5);
    assert_eq!(machines(&plan, "n"), [""; 0]);
}

#[test]
fn two_heirs_get_what_each_of_them_needs() {
    // l keeps 40 kW free: 33 kW are short, which takes twelve machines. The next leases need 20 kW
    // each.
    let leases = [
        lease("l", "a", 40_000, 1000, 1440),
        lease("m", "a", 20_000, 1500, 2400),
        lease("n", "a", 20_000, 1500, 2400),
    ];
    let plan = fresh(&leases);
    let (m, n) = (machines(&plan, "m"), machines(&plan, "n"));
    assert_eq!(m.len() + n.len(), 12);
    assert!(m.len() >= 5 && n.len() >= 5, "{m:?} {n:?}");
}

#[test]
fn what_one_lease_runs_on_stays_its_own_and_the_rest_waits_for_the_next() {
    // l is 9 kW short (four machines), with r 18 kW (seven). m follows l while r continues, which
    // alone would need one.
    let leases = [
        lease("l", "a", 16_000, 1000, 1440),
        lease("m", "a", 16_000, 1500, 2400),
        lease("r", "a", 9_000, 1000, 2400),
    ];
    let plan = fresh(&leases);
    let later = plan.timeline(Generation { epoch: 1, generation: 1 }, None);
    assert_eq!(later.standing_at(at(1450)).len(), 7, "18 kW are short again");
    let inherited = plan.steps.iter().filter(|step| step.at == at(1440)).flat_map(|step| {
        step.machines.iter().map(|machine| (machine.to_string(), step.lease.clone().unwrap()))
    });
    let for_r = inherited.clone().filter(|(_, lease)| lease.as_str() == "r").count();
    let for_m = inherited.filter(|(_, lease)| lease.as_str() == "m").count();
    // r needs one by itself and took three beside l.
    assert_eq!((for_m, for_r), (4, 0));
    assert_eq!(machines(&plan, "r").len(), 3);
}

#[test]
fn when_the_next_lease_is_cancelled_the_machines_come_back_by_the_ramp() {
    let leases = [lease("l", "a", 20_000, 1000, 1440), lease("m", "a", 20_000, 1500, 2000)];
    let before = make(&leases, &fresh(&leases).selection, 1200);
    let after = make(&leases[..1], &before.selection, 1210);
    assert_eq!(
        named(&after, Action::Run),
        [1440, 1455, 1470, 1485, 1500].map(|secs| (secs, Some("l".to_owned())))
    );
}

#[test]
fn machines_that_nobody_had_go_to_the_lease_that_needs_them() {
    // An earlier version left the machines without a lease.
    let leases = [lease("m", "a", 20_000, 1500, 2000)];
    let mut held = make(&leases, &fresh(&leases).selection, 1450).selection;
    for chosen in held.off.values_mut().flatten() {
        chosen.cause = Cause::Unrecorded;
    }
    assert_eq!(machines(&make(&leases, &held, 1460), "m").len(), 5);
}
