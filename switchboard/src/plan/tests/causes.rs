//! What each machine is off for.

use super::*;

/// The causes of the periods that have begun at `now`, each with its machines.
fn causes(plan: &Plan, now: i64) -> BTreeMap<Cause, Vec<String>> {
    let mut causes: BTreeMap<Cause, Vec<String>> = BTreeMap::new();
    for (machine, chosen) in plan.selection.iter().filter(|(_, chosen)| chosen.covers(at(now))) {
        causes.entry(chosen.cause.clone()).or_default().push(machine.to_string());
    }
    causes
}

fn counts(plan: &Plan, now: i64) -> Vec<(Cause, usize)> {
    causes(plan, now).into_iter().map(|(cause, machines)| (cause, machines.len())).collect()
}

/// Plans for one feed, whose limit is so low that some machines must go without any lease.
fn with_limit(feed: usize, limit: i64, held: &Selection, now: i64) -> Plan {
    let policy = policy_with(|parts| parts.feeds[feed].limit = Watts(limit).into());
    plan(&policy, &[], &fleet(&policy), held, at(now))
}

#[test]
fn a_machine_that_goes_for_a_lease_says_so_before_the_lease_begins_and_while_it_runs() {
    let leases = [lease("l", "a", 20_000, 1000, 2000)];
    let before = make(&leases, &fresh(&leases).selection, 900);
    assert_eq!(counts(&before, 900), [(Cause::Lease("l".into()), 5)]);
    let running = make(&leases, &before.selection, 1200);
    assert_eq!(counts(&running, 1200), [(Cause::Lease("l".into()), 5)]);
}

#[test]
fn a_machine_that_cannot_come_back_between_two_leases_stays_for_the_next_until_that_begins() {
    let leases = [lease("l", "a", 20_000, 1000, 1400), lease("m", "a", 20_000, 1600, 2400)];
    let mut held = fresh(&leases).selection;
    // m reserves its power from 1540 on.
    for (now, cause) in [
        (1399, Cause::Lease("l".into())),
        (1400, Cause::Stays("m".into())),
        (1500, Cause::Stays("m".into())),
        (1539, Cause::Stays("m".into())),
        (1540, Cause::Lease("m".into())),
        (2000, Cause::Lease("m".into())),
    ] {
        let plan = make(&leases, &held, now);
        assert_eq!(counts(&plan, now), [(cause, 5)], "at {now}");
        held = plan.selection;
    }
}

#[test]
fn a_lease_that_begins_when_another_ends_takes_its_machines_as_its_own() {
    let leases = [lease("l", "a", 20_000, 1000, 1440), lease("m", "a", 20_000, 1500, 2000)];
    let plan = make(&leases, &fresh(&leases).selection, 1440);
    assert_eq!(counts(&plan, 1440), [(Cause::Lease("m".into()), 5)]);
}

#[test]
fn a_feed_that_is_short_without_leases_is_named_and_not_the_one_of_the_machines() {
    // a carries 43 kW, b 30 kW, the root 5 kW more.
    for (feed, limit, name) in [(2, 25_000, "b"), (1, 40_000, "a"), (0, 70_000, "root")] {
        // They go one after the other.
        let first = with_limit(feed, limit, &Selection::default(), 0);
        let found = counts(&first, 100);
        assert!(matches!(&found[..], [(Cause::Load(of), 1..)] if of.as_str() == name), "{found:?}");
        assert_eq!(counts(&with_limit(feed, limit, &first.selection, 100), 100), found);
    }
}

#[test]
fn a_machine_that_a_guard_put_to_sleep_is_the_guards_until_a_lease_needs_it() {
    let mut held = with_limit(1, 40_000, &Selection::default(), 0).selection;
    for chosen in held.off.values_mut().flatten() {
        chosen.cause = Cause::Guard("root".into());
    }
    let number = held.off.len();
    let kept = with_limit(1, 40_000, &held, 100);
    assert_eq!(counts(&kept, 100), [(Cause::Guard("root".into()), number)]);
    // Without the load, a lease that runs needs them.
    let taken = make(&[lease("l", "a", 20_000, 110, 2000)], &kept.selection, 120);
    for machine in held.off.keys() {
        let now = taken.selection.current(machine, at(120)).map(|chosen| &chosen.cause);
        assert_eq!(now, Some(&Cause::Lease("l".into())), "{machine}");
    }
}

#[test]
fn what_no_cause_was_recorded_for_and_what_waits_for_room_gets_the_cause_that_keeps_it_off() {
    for provisional in [Cause::Unrecorded, Cause::Room("a".into())] {
        let first = with_limit(0, 70_000, &Selection::default(), 0);
        let mut held = first.selection.clone();
        for chosen in held.off.values_mut().flatten() {
            chosen.cause = provisional.clone();
        }
        let next = with_limit(0, 70_000, &held, 100);
        let found = causes(&next, 100);
        assert_eq!(found, causes(&first, 100), "{provisional:?}");
        assert_eq!(found.keys().collect::<Vec<_>>(), [&Cause::Load("root".into())]);
    }
}

#[test]
fn every_step_has_the_cause_of_its_machines_except_those_beyond_the_horizon() {
    let policy = policy_with(|parts| {
        parts.feeds[1].default_constraint = Some(Watts(20_000));
        parts.feeds[2].limit = Watts(25_000).into();
    });
    let leases = [lease("l", "a", 20_000, 1000, 900_000)];
    let plan = plan(&policy, &leases, &fleet(&policy), &Selection::default(), at(0));
    assert_eq!(plan.steps.len(), plan.causes.len());
    let mut seen = BTreeSet::new();
    for (step, cause) in plan.steps.iter().zip(&plan.causes) {
        assert_eq!(cause.as_ref().and_then(Cause::lease), step.lease.as_ref());
        assert_eq!(cause.is_none(), step.at >= plan.horizon, "{step:?}");
        seen.insert(cause.as_ref().map(Cause::word));
        let Some(cause) = cause else { continue };
        let of_step = |machine| plan.selection.off[machine].iter();
        let is_its = |machine| of_step(machine).any(|chosen| chosen.cause == *cause);
        assert!(step.machines.iter().all(is_its), "{step:?}");
    }
    assert_eq!(seen.len(), 3, "a lease, a load, and the end of the plan: {seen:?}");
}
