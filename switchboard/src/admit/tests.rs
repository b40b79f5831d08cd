use rand::prelude::*;

use super::*;
use crate::facility::Limit;
use crate::fixture::{at, lease, policy, policy_with};

fn ask(others: &[Lease], lease: Lease) -> Result<Admission, Refusal> {
    admit(&policy(), &Population::default(), others, lease, at(0))
}

// Feed a: usable 50,000 − house 1,000 − residual 14 × 30 = 48,580.
// Root: usable 100,000 − house 5,000 − residual 22 × 30 − unsheddable 5 × 3,000 = 79,340.
#[test]
fn what_fits_to_the_watt_is_taken_and_one_more_is_refused() {
    assert!(ask(&[], lease("l", "a", 48_580, 9000, 9999)).is_ok());
    let Err(Refusal::DoesNotFit { worst, arithmetic }) =
        ask(&[], lease("l", "a", 48_581, 9000, 9999))
    else {
        panic!("one watt too many was taken")
    };
    assert_eq!(
        (worst.feed.as_str(), worst.short(), worst.available),
        ("a", Watts(1), Watts(48_580))
    );
    assert_eq!(arithmetic.len(), 2, "one line per feed on the path");
}

#[test]
fn a_refusal_says_its_arithmetic() {
    let refusal = ask(&[], lease("l", "a", 60_000, 9000, 9999)).unwrap_err().to_string();
    let want = "usable 50.000 kW − house 1.000 − committed 0.000 − residual 0.420 − unsheddable 0.000 − unassigned 0.000 \
                = 48.580; asked 60.000 → short 11.420 kW";
    assert!(refusal.contains(want), "{refusal}");
}

#[test]
fn the_feed_above_may_be_the_short_one() {
    let others = [lease("x", "a", 45_000, 9000, 20_000)];
    let Err(refusal) = ask(&others, lease("y", "b", 34_500, 8000, 30_000)) else {
        panic!("must be refused")
    };
    let Refusal::NeedsUnverified { worst, .. } = &refusal else { panic!("{refusal}") };
    assert_eq!((worst.feed.as_str(), worst.short()), ("root", Watts(160)));
    assert_eq!((worst.from, worst.to), (at(8940), at(20_000)), "only while both run");
}

#[test]
fn leases_that_follow_each_other_do_not_add_up() {
    let others = [lease("x", "a", 45_000, 1000, 5000)];
    assert!(ask(&others, lease("y", "a", 45_000, 5060, 9000)).is_ok());
    let Err(Refusal::DoesNotFit { worst, .. }) = ask(&others, lease("y", "a", 45_000, 4999, 9000))
    else {
        panic!("one second of overlap was taken")
    };
    assert_eq!((worst.from, worst.to, worst.short()), (at(4939), at(5000), Watts(41_420)));
}

#[test]
fn a_tenant_that_renews_is_asked_for_the_larger_of_both() {
    let others = [lease("x", "a", 45_000, 1000, 5000)];
    for (watts, start) in [(45_000, 5000), (45_000, 5030), (20_000, 5000)] {
        let admission = ask(&others, lease("y", "a", watts, start, 9000)).unwrap();
        assert_eq!(admission.lease.follows, None);
        let line = &admission.arithmetic[0];
        assert_eq!((line.committed, line.asked), (Watts::ZERO, Watts(watts)));
    }
    let admission = ask(&others, lease("y", "a", 48_580, 5000, 9000)).unwrap();
    let line = &admission.arithmetic[0];
    assert_eq!((line.committed, line.asked), (Watts(45_000), Watts(3_580)));
    let Err(Refusal::DoesNotFit { worst, .. }) = ask(&others, lease("y", "a", 48_581, 5000, 9000))
    else {
        panic!("one watt too many was taken")
    };
    assert_eq!((worst.from, worst.to), (at(4940), at(5000)), "from when it is made ready");
    assert_eq!((worst.committed, worst.asked), (Watts(45_000), Watts(3_581)));
}

/// What a tenant has already is free for it, so that it may renew until shortly before the end;
/// what it needs beyond must be shed first.
#[test]
fn a_renewal_may_be_asked_for_late() {
    let others = [lease("x", "a", 45_000, 1000, 5000)];
    let late = |watts, now| {
        let asked = lease("y", "a", watts, 5000, 9000);
        admit(&policy(), &Population::default(), &others, asked, at(now))
    };
    let admission = late(45_000, 4955).unwrap();
    assert_eq!(admission.lead.total(), Duration::from_secs(45), "only the proof takes time");
    assert!(matches!(late(45_000, 4956), Err(Refusal::TooLate { .. })));
    // 48 kW take 3 kW more, by 4940: 6 s at 30 kW/min + 20 + 10 + 5 + 30 s.
    assert!(late(48_000, 4869).is_ok());
    assert!(matches!(late(48_000, 4870), Err(Refusal::TooLate { .. })));
}

fn other(id: &str, watts: i64, start: i64, end: i64) -> Lease {
    Lease { tenant: "Other".to_owned(), ..lease(id, "a", watts, start, end) }
}

#[test]
fn another_tenant_is_made_ready_when_the_power_is_given_back() {
    let others = [lease("x", "a", 45_000, 1000, 5000)];
    // Both fit beside each other.
    let both = ask(&others, other("y", 3_000, 5000, 9000)).unwrap().lease;
    assert_eq!((both.follows.clone(), both.reserved_from()), (None, at(4940)));
    let follows = |start| ask(&others, other("y", 45_000, start, 9000)).unwrap().lease;
    for start in [5000, 5059] {
        let lease = follows(start);
        let follows = Follows { lease: "x".into(), ready_from: at(5000) };
        assert_eq!((lease.follows.as_ref(), lease.reserved_from()), (Some(&follows), at(5000)));
    }
    assert_eq!(follows(5060).follows, None, "nothing overlaps");
    assert!(ask(&others, other("y", 45_000, 4999, 9000)).is_err(), "both would draw");
    assert!(ask(&others, other("y", 48_581, 5000, 9000)).is_err(), "alone it is too much");
}

/// As much of `ready_before` is kept as the feed can carry.
#[test]
fn of_several_leases_the_first_is_followed_whose_end_leaves_enough() {
    let others = [
        lease("u", "a", 10_000, 1000, 4950),
        lease("v", "a", 10_000, 1000, 4960),
        lease("w", "a", 10_000, 1000, 4970),
    ];
    let follows = |watts| {
        let lease = ask(&others, other("y", watts, 5000, 9000)).unwrap().lease;
        lease.follows.map(|follows| follows.lease.to_string())
    };
    assert_eq!(follows(18_580), None);
    assert_eq!(follows(18_581).as_deref(), Some("u"));
    assert_eq!(follows(38_580).as_deref(), Some("v"));
    assert_eq!(follows(38_581).as_deref(), Some("w"));
}

#[test]
fn starving_backs_only_those_who_accept_it() {
    // Feed b with its five starved machines off: 50,000 − 13 × 30 = 49,610; firm only: 50,000 −
    // 240 − 15,000 = 34,760.
    let mut asked = lease("l", "b", 40_000, 90_000, 99_999);
    let Err(Refusal::NeedsUnverified { worst, .. }) = ask(&[], asked.clone()) else {
        panic!("must need it")
    };
    assert_eq!(worst.available, Watts(34_760));
    asked.accept_unverified = true;
    assert!(ask(&[], asked.clone()).is_ok());
    asked.gross = Watts(49_611);
    assert!(matches!(ask(&[], asked), Err(Refusal::DoesNotFit { .. })));
}

#[test]
fn a_start_that_shedding_cannot_reach_is_refused_with_the_seconds() {
    // On a, all 14 machines mine with 42 kW of 50 kW. With 1 kW for the house, 7 kW are free,
    // so a lease of 30 kW needs 23 kW to be shed: 46 s at 30 kW/min + 20 + 10 + 5 + 30 = 111 s
    // before start − 60 s.
    let Err(Refusal::TooLate { missing, lead, .. }) = ask(&[], lease("l", "a", 30_000, 170, 999))
    else {
        panic!("must be late")
    };
    assert_eq!((missing, lead.total()), (Duration::from_secs(1), Duration::from_secs(111)));
    assert!(ask(&[], lease("l", "a", 30_000, 171, 999)).is_ok());
}

#[test]
fn free_power_needs_time_for_proof_only() {
    let admission = ask(&[], lease("l", "a", 7_000, 105, 999)).unwrap();
    assert_eq!(admission.lead.total(), Duration::from_secs(45), "settle 10 + proof 5 + margin 30");
    assert!(ask(&[], lease("l", "a", 7_000, 104, 999)).is_err());
}

#[test]
fn a_firm_lease_needs_a_meter() {
    let policy = policy_with(|parts| parts.feeds[1].meter = None);
    let refused =
        admit(&policy, &Population::default(), &[], lease("l", "a", 1000, 9000, 9999), at(0));
    assert!(matches!(refused, Err(Refusal::NotProvable { .. })));
}

#[test]
fn undeclared_sessions_are_counted() {
    let crowd = Population { unassigned: 20, ..Population::default() };
    let refused = admit(&policy(), &crowd, &[], lease("l", "a", 10_000, 9000, 9999), at(0));
    let Err(Refusal::NeedsUnverified { worst, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(worst.unassigned, Watts(70_000));
}

/// 20 kW on `a`, ready `ready` seconds ahead, of a tenant.
fn of(tenant: &str, id: &str, ready: u64, (start, end): (i64, i64)) -> Lease {
    let ready_before = Duration::from_secs(ready);
    Lease { tenant: tenant.into(), ready_before, ..lease(id, "a", 20_000, start, end) }
}

fn extended(leases: &[Lease], end: i64, now: i64) -> Result<Vec<Line>, Refusal> {
    extend(&policy(), &Population::default(), leases, &leases[0], at(end), at(now))
}

#[test]
fn an_extension_counts_what_another_lease_can_no_longer_take_over() {
    let mut leases = vec![of("t", "a", 60, (0, 4000)), of("t", "c", 600, (4000, 6000))];
    assert!(extended(&leases, 4100, 3000).is_ok());
    // It is made ready already, and would need 20 kW of its own at once.
    assert!(matches!(extended(&leases, 4100, 3700), Err(Refusal::TooLate { .. })));
    leases.push(of("other", "d", 60, (0, 4000)));
    assert!(matches!(extended(&leases, 4100, 3000), Err(Refusal::DoesNotFit { .. })));
}

#[test]
fn an_extension_must_be_in_time_for_each_lease_that_begins_soon() {
    let last = Lease { it: Watts(5000), gross: Watts(5000), ..of("y", "c", 0, (9000, 9900)) };
    let leases = [of("t", "a", 60, (0, 5000)), of("x", "b", 0, (5000, 9900)), last];
    assert!(extended(&leases, 9500, 4000).is_ok());
    assert!(matches!(extended(&leases, 9500, 4990), Err(Refusal::TooLate { .. })));
}

#[test]
fn a_renewal_that_takes_what_another_was_to_have_needs_the_whole_lead() {
    let leases = [of("t", "a", 60, (0, 4000)), of("t", "c", 60, (4000, 6000))];
    let asked = |now| {
        let renewal = of("t", "b", 600, (4000, 6000));
        admit(&policy(), &Population::default(), &leases, renewal, at(now))
    };
    assert!(asked(3000).is_ok());
    assert!(matches!(asked(3900), Err(Refusal::TooLate { .. })));
}

fn with_limits(a: &[(i64, i64)], root: &[(i64, i64)]) -> Policy {
    let series = |most: i64, changes: &[(i64, i64)]| {
        let changes = changes.iter().map(|&(secs, watts)| (at(secs), Watts(watts)));
        Limit::series(Watts(most), changes).expect("times rise")
    };
    policy_with(|parts| {
        parts.feeds[0].limit = series(100_000, root);
        parts.feeds[1].limit = series(50_000, a);
    })
}

#[test]
fn a_lease_that_does_not_fit_a_lower_limit_is_refused_with_its_arithmetic() {
    let policy = with_limits(&[(10_000, 30_000), (20_000, 50_000)], &[]);
    let ask = |start, end| {
        let asked = lease("l", "a", 40_000, start, end);
        admit(&policy, &Population::default(), &[], asked, at(0))
    };
    let refusal = ask(9_000, 25_000).unwrap_err();
    let want = "a from 2027-01-15T10:46:40Z to 2027-01-15T13:33:20Z: usable 30.000 kW − house 1.000 − committed 0.000 \
                − residual 0.420 − unsheddable 0.000 − unassigned 0.000 = 28.580; asked 40.000 → short 11.420 kW";
    assert!(refusal.to_string().contains(want), "{refusal}");
    assert!(ask(9_000, 10_000).is_ok() && ask(20_060, 30_000).is_ok());
    assert!(ask(9_000, 10_001).is_err() && ask(20_059, 30_000).is_err());
}

/// For random series of limits and leases of different tenants, a lease is admitted exactly when no
/// instant of its time has a feed on its path without enough power, and the line that is shown is one
/// of the tightest.
#[test]
fn admission_agrees_with_a_look_at_every_instant() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut series = |least: i64, most: i64| -> Vec<(i64, i64)> {
            let mut from = 9_000;
            let changes = (0..random.random_range(0..6)).map(|_| {
                from += random.random_range(1..3_000);
                (from, random.random_range(least..=most))
            });
            changes.collect()
        };
        let policy = with_limits(&series(20_000, 50_000), &series(40_000, 100_000));
        let mut leases: Vec<Lease> = Vec::new();
        for number in 0..8 {
            let start = random.random_range(9_000..18_000);
            let asked = Lease {
                tenant: format!("tenant {number}"),
                ready_before: Duration::ZERO,
                ..lease(
                    &format!("l{number}"),
                    ["a", "b", "root"].choose(&mut random).unwrap(),
                    random.random_range(1_000..40_000),
                    start,
                    start + random.random_range(1..6_000),
                )
            };
            let facility = &policy.facility;
            let feeds = facility.feeds();
            // What firm leases cannot have, by the policy of the fixture.
            let fixed = |feed: &str| match feed {
                "root" => 5_000 + 22 * 30 + 15_000,
                "a" => 1_000 + 14 * 30,
                _ => 8 * 30 + 15_000,
            };
            let left = |instant: Timestamp, feed: FeedNumber| {
                let all = leases.iter().chain([&asked]);
                let here =
                    all.filter(|lease| lease.reserves(instant) && feeds.carries(feed, &lease.feed));
                let leased: Watts = here.map(|lease| lease.gross).sum();
                feeds[feed].usable(instant) - Watts(fixed(feeds[feed].id.as_str())) - leased
            };
            let instants: Vec<Timestamp> = (asked.start.as_second()..asked.end.as_second())
                .map(|secs| Timestamp::from_second(secs).unwrap())
                .collect();
            let path = feeds.path_of(&asked.feed);
            let least: Vec<Watts> = path
                .iter()
                .map(|feed| instants.iter().map(|at| left(*at, *feed)).min().unwrap())
                .collect();
            let fits = least.iter().all(|left| *left >= Watts::ZERO);
            let answer = admit(&policy, &Population::default(), &leases, asked.clone(), at(0));
            assert_eq!(answer.is_ok(), fits, "seed {seed}, {asked:?}: {answer:?}, {least:?}");
            let arithmetic = match &answer {
                Ok(admission) => &admission.arithmetic,
                Err(
                    Refusal::DoesNotFit { arithmetic, .. }
                    | Refusal::NeedsUnverified { arithmetic, .. },
                ) => arithmetic,
                Err(refusal) => panic!("{refusal}"),
            };
            for (line, least) in arithmetic.iter().zip(&least) {
                assert_eq!(line.usable, feeds[feeds.number(&line.feed).unwrap()].usable(line.from));
                assert_eq!(line.available - line.asked, *least, "seed {seed}: {line}");
            }
            if let Ok(admission) = answer {
                leases.push(admission.lease);
                taken += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused");
}

#[test]
fn what_machines_draw_without_work_is_not_available() {
    let mut seen = Population::default();
    seen.groups.insert("far".into(), 8);
    seen.newcomers.insert("far".into(), 3);
    let ask = |poolless: Option<Watts>, is_metered: bool| {
        let policy = policy_with(|parts| {
            if !is_metered {
                parts.feeds[2].meter = None;
            }
            parts.groups[2].poolless = poolless;
            parts.groups[3].poolless = poolless;
        });
        let asked = Lease { accept_unverified: true, ..lease("l", "b", 1_000, 9000, 9999) };
        let admission = admit(&policy, &seen, &[], asked, at(0)).expect("it fits");
        let line = admission.arithmetic.into_iter().find(|line| line.feed.as_str() == "b");
        let Line { residual, unsheddable, available, .. } = line.expect("its own feed");
        assert_eq!(available, Watts(50_000) - residual - unsheddable);
        (residual, unsheddable)
    };
    // Eight sleep, and five are starved. At a feed with a meter, three more that wait are in the meter.
    assert_eq!(ask(Some(Watts(1800)), true), (Watts(8 * 30 + 5 * 1800), Watts::ZERO));
    assert_eq!(ask(Some(Watts(1800)), false), (Watts(8 * 30 + 5 * 1800), Watts(3 * 1800)));
    // As long as nobody has measured it, they may draw everything.
    assert_eq!(ask(None, false), (Watts(13 * 30), Watts(3 * 3000)));
}
