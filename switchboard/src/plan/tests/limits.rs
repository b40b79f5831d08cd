//! Limits that change with time: the plan sheds ahead of a lower one and brings machines back after it.

use super::*;
use crate::facility::Limit;

/// The site of the fixture with limits of `a` in watts from these seconds on, 50 kW before.
fn dated(changes: &[(i64, i64)]) -> Policy {
    let changes = changes.iter().map(|&(secs, watts)| (at(secs), Watts(watts)));
    let limit = Limit::series(Watts(50_000), changes).expect("times rise");
    policy_with(|parts| parts.feeds[1].limit = limit)
}

fn plan_of(policy: &Policy, leases: &[Lease], held: &Selection, now: i64) -> Plan {
    plan(policy, leases, &fleet(policy), held, at(now))
}

fn secs(at_: Timestamp) -> i64 {
    at_.as_second() - at(0).as_second()
}

/// The times of the steps that lower and raise, one for each machine.
fn moves(plan: &Plan, action: Action) -> Vec<i64> {
    let steps = plan.steps.iter().filter(|step| step.action == action);
    steps.flat_map(|step| step.machines.iter().map(|_| secs(step.at))).collect()
}

// On a, house and machines draw 43 kW. At 34 kW, 9 kW are too much: four machines of 2.97 kW. Each
// needs 20 s, and the meter and the margin 10 + 30 s; the ramp of 500 W/s takes 6 s for each.
#[test]
fn machines_go_just_early_enough_for_a_lower_limit_and_come_back_after_it() {
    let policy = dated(&[(1000, 34_000), (2000, 50_000)]);
    let plan = plan_of(&policy, &[], &Selection::default(), 0);
    assert!(plan.deficits.is_empty(), "{:?}", plan.deficits);
    assert_eq!(moves(&plan, Action::Drain), [916, 922, 928, 934]);
    let back = moves(&plan, Action::Run);
    assert_eq!(back.len(), 4);
    assert!(back[0] == 2000 && back[3] < 2100, "{back:?}");
    assert!(plan.selection.iter().all(|(_, chosen)| chosen.edge == Some(at(2000))));
    let down = &plan.steps[0].reason;
    let said =
        "the limit of feed a falls to 34 kW on 2027-01-15 08:16:40: 1 × old on a free 2.97 kW";
    assert!(down.starts_with(said), "{down}");
    let up = &plan.steps.last().unwrap().reason;
    assert!(up.starts_with("the limit of feed a rises to 50 kW on 2027-01-15 08:33:20: "), "{up}");
}

#[test]
fn whatever_the_time_the_machines_of_a_limit_stay_the_same_and_go_for_it_alone() {
    let policy = dated(&[(1000, 34_000), (2000, 50_000)]);
    // The lease runs beside it and needs none of the machines before the limit falls.
    let leases = [lease("l", "a", 5_000, 800, 4000)];
    let fresh = plan_of(&policy, &leases, &Selection::default(), 0);
    let mut held = fresh.selection.clone();
    for now in [0, 600, 700, 925, 938, 970, 999, 1000, 1001, 1500, 1999] {
        let plan = plan_of(&policy, &leases, &held, now);
        assert!(plan.deficits.is_empty(), "at {now}: {:?}", plan.deficits);
        let off = |selection: &Selection| -> Vec<(MachineId, Timestamp, Option<LeaseId>)> {
            let all = selection.iter();
            all.map(|(id, chosen)| (id.clone(), chosen.at, chosen.lease().cloned())).collect()
        };
        assert_eq!(off(&plan.selection), off(&fresh.selection), "at {now}");
        let reasons = plan.steps.iter().filter(|step| step.lease.is_none());
        assert!(reasons.clone().count() > 0);
        for step in reasons {
            assert!(step.reason.starts_with("the limit of feed a "), "at {now}: {}", step.reason);
        }
        held = plan.selection;
    }
    let after = plan_of(&policy, &leases, &held, 2300);
    assert_eq!(after.selection.iter().filter(|(_, chosen)| chosen.lease().is_none()).count(), 0);
}

#[test]
fn a_lease_that_begins_when_the_limit_rises_takes_the_machines_over() {
    let policy = dated(&[(1000, 34_000), (2000, 50_000)]);
    // 43 + 16 kW are 9 kW too much for 50 kW, which the same four machines free.
    let leases = [lease("l", "a", 16_000, 2060, 4000)];
    let plan = plan_of(&policy, &leases, &Selection::default(), 0);
    assert_eq!(machines(&plan, "l").len(), 4);
    assert_eq!(moves(&plan, Action::Drain).len(), 8, "four go, and four pass on");
    let up = moves(&plan, Action::Run);
    assert!(up.len() == 4 && up.iter().all(|at| *at >= 4000), "{up:?}");
}

#[test]
fn what_a_lower_limit_lacks_is_a_deficit_from_its_first_instant_on() {
    // On b, 15 kW can only be starved, which nobody has accepted.
    let series =
        Limit::series(Watts(50_000), [(at(1000), Watts(12_000)), (at(2000), Watts(50_000))]);
    let policy = policy_with(|parts| parts.feeds[2].limit = series.unwrap());
    let plan = plan_of(&policy, &[], &Selection::default(), 0);
    let deficit =
        Deficit { feed: "b".into(), from: at(1000), short: Watts(15_000 + 8 * 30 - 12_000) };
    assert_eq!(plan.deficits, [deficit]);
}

#[test]
fn between_two_lower_limits_machines_stay_off_if_they_could_not_be_awake_long_enough() {
    let gap = |until: i64| {
        let policy = dated(&[(1000, 34_000), (2000, 50_000), (until, 34_000), (9000, 50_000)]);
        moves(&plan_of(&policy, &[], &Selection::default(), 0), Action::Run).len()
    };
    assert_eq!((gap(2060), gap(6000)), (4, 8));
}

/// For random series of limits and admitted leases, no feed carries more than its limit at any instant
/// of the horizon, however often it is planned again. `TIELINE_PLAN_SEEDS=n` tries n of them.
#[test]
fn planned_load_keeps_to_limits_that_change() {
    let (mut admitted, mut steps) = (0, 0);
    for seed in 0..number("TIELINE_PLAN_SEEDS", 60) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut policy = policy_with(|parts| {
            for (feed, least) in parts.feeds.iter_mut().zip([40_000, 5_000, 20_000]) {
                let most = feed.limit.highest().0;
                let mut from = 0;
                let changes = (0..random.random_range(0..5)).map(|_| {
                    from += random.random_range(700..4000);
                    (at(from), Watts(random.random_range(least..=most)))
                });
                let changes: Vec<(Timestamp, Watts)> = changes.collect();
                feed.limit = Limit::series(Watts(most), changes).unwrap();
            }
            parts.groups[0].min_up = Duration::from_secs(random.random_range(0..1000));
            parts.groups[1].min_down = Duration::from_secs(random.random_range(0..1000));
        });
        policy.dispatch.make_up_pct = random.random_range(0.0..20.0);
        let fleet = fleet(&policy);
        let mut leases: Vec<Lease> = Vec::new();
        let mut held = Selection::default();
        let mut now = 0;
        for round in 0..12 {
            let start = now + random.random_range(400..6000);
            let asked = Lease {
                tenant: format!("tenant {}", random.random_range(0..3)),
                ready_before: Duration::from_secs(random.random_range(0..600)),
                ..lease(
                    &format!("l{round}"),
                    ["a", "b", "root"].choose(&mut random).unwrap(),
                    random.random_range(1000..30_000),
                    start,
                    start + random.random_range(10..8000),
                )
            };
            let answer = admit::admit(&policy, &fleet.population, &leases, asked, at(now));
            if let Ok(admission) = answer {
                leases.push(admission.lease);
                admitted += 1;
            }
            let plan = plan(&policy, &leases, &fleet, &held, at(now));
            assert_eq!(plan.deficits, [], "seed {seed} at {now}");
            check(&policy, &leases, &plan, now, seed);
            let settled = settle(&policy, &leases, &fleet, plan, now, seed);
            check(&policy, &leases, &settled, now, seed);
            steps += settled.steps.len();
            held = settled.selection;
            now += random.random_range(1..900);
        }
        // Some time after everything, nobody is off.
        let rest = plan_of(&policy, &leases, &held, 100_000);
        let rest = plan_of(&policy, &leases, &rest.selection, 110_000);
        let facility = &policy.facility;
        let full = facility.fixed_load(&fleet.population);
        let mut feeds = facility.feeds().numbers();
        if feeds.all(|feed| full[feed] <= facility.feeds()[feed].usable(at(110_000))) {
            assert_eq!(rest.selection.off.len(), 0, "seed {seed}");
        }
    }
    assert!(admitted > 100 && steps > 1000, "{admitted} leases, {steps} steps");
}
