use rand::prelude::*;

use super::*;
use crate::facility::Limit;
use crate::fixture::{at, fleet, group, lease, policy, policy_with};
use crate::plan::{self, Plan};
use crate::policy::Policy;

/// The fixture's fleet with only the first `seen` machines of `group`.
fn seen(policy: &Policy, group: usize, seen: usize) -> Fleet {
    let mut fleet = fleet(policy);
    fleet.groups[group].truncate(seen);
    fleet
}

fn shortages(policy: &Policy, fleet: &Fleet, leases: &[Lease]) -> BTreeMap<LeaseId, Shortage> {
    Supply::new(&policy.facility, fleet, &Selection::default()).shortages(leases, at(0))
}

#[test]
fn machines_that_nobody_has_seen_carry_nothing() {
    let policy = policy_with(|parts| {
        parts.feeds[0].limit = Watts(90_000_000).into();
        parts.feeds[1].limit = Watts(18_000_000).into();
        parts.groups = vec![group("big", "a", 5400, 25.0, true)];
    });
    let empty = Fleet { groups: vec![vec![]], ..Fleet::default() };
    let lease = lease("l", "a", 8_000_000, 3600, 7200);
    let short = &shortages(&policy, &empty, std::slice::from_ref(&lease))["l"];
    // The house draws 1 kW and the machines 16,200 kW; with the lease of 8,000 kW, that exceeds the
    // usable 18,000 kW by 6,201 kW.
    assert_eq!((short.feed.as_str(), short.missing), ("a", Watts(6_201_000)));
    assert_eq!((short.machines_seen, short.machines_declared), (0, 5400));
    assert_eq!((short.from, short.to), (lease.reserved_from(), Some(lease.end)));
    assert_eq!(shortages(&policy, &fleet(&policy), &[lease]), BTreeMap::new());
}

#[test]
fn one_machine_too_few_is_a_machine_short() {
    let policy = policy();
    // Ten of `old` and four of `new` free 41,580 W; `a` with all of them mining has 7 kW left.
    let leases = [lease("l", "a", 48_000, 3600, 7200)];
    assert_eq!(shortages(&policy, &fleet(&policy), &leases), BTreeMap::new());
    let short = &shortages(&policy, &seen(&policy, 1, 9), &leases)["l"];
    assert_eq!(
        (short.missing, short.machines_seen, short.machines_declared),
        (Watts(2390), 13, 14)
    );
}

#[test]
fn a_machine_that_fails_carries_nothing_and_is_counted() {
    let policy = policy();
    let mut fleet = fleet(&policy);
    fleet.groups[1][0].failing = true;
    let short = &shortages(&policy, &fleet, &[lease("l", "a", 48_000, 3600, 7200)])["l"];
    assert_eq!((short.missing, short.machines_seen, short.machines_failing), (Watts(2390), 14, 1));
}

#[test]
fn who_begins_later_is_short_until_enough_has_ended() {
    let policy = policy();
    let leases = [
        lease("first", "a", 30_000, 1000, 5000),
        lease("second", "a", 10_000, 2000, 8000),
        lease("third", "a", 12_000, 3000, 9000),
        lease("after", "a", 30_000, 9500, 9900),
    ];
    let short = shortages(&policy, &fleet(&policy), &leases);
    assert_eq!(short.keys().map(LeaseId::as_str).collect::<Vec<_>>(), ["third"]);
    assert_eq!(short["third"].missing, Watts(3420));
    assert_eq!((short["third"].from, short["third"].to), (at(2940), Some(at(5000))));
}

#[test]
fn of_two_that_begin_at_once_the_later_name_is_short() {
    let policy = policy();
    let leases = [lease("b", "a", 25_000, 1000, 5000), lease("a", "a", 25_000, 1000, 5000)];
    let short = shortages(&policy, &fleet(&policy), &leases);
    assert_eq!(short.keys().map(LeaseId::as_str).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn what_a_feed_above_lacks_is_found() {
    let policy = policy_with(|parts| parts.feeds[0].limit = Watts(70_000).into());
    let leases = [lease("l", "b", 20_000, 1000, 5000), lease("m", "a", 30_000, 900, 5000)];
    let short = shortages(&policy, &fleet(&policy), &leases);
    // The house draws 5 kW, the machines 81 kW, and the leases 50 kW, which exceeds the usable 70
    // kW by 66 kW; shedding 22 machines frees 2,970 W each.
    assert_eq!((short["l"].feed.as_str(), short["l"].missing), ("root", Watts(660)));
    assert!(!short.contains_key("m"));
}

#[test]
fn starving_counts_for_those_only_who_accept_it() {
    let policy = policy();
    let mut lease = lease("l", "b", 36_000, 1000, 5000);
    let short = shortages(&policy, &fleet(&policy), std::slice::from_ref(&lease));
    assert_eq!((short["l"].missing, short["l"].machines_declared), (Watts(1240), 8));
    lease.accept_unverified = true;
    assert_eq!(shortages(&policy, &fleet(&policy), std::slice::from_ref(&lease)), BTreeMap::new());
    // A firm lease beside this one cannot rely on machines that are only starved.
    let firm = Lease { id: "m".into(), accept_unverified: false, ..lease.clone() };
    let (firm, other) =
        (Lease { gross: Watts(35_000), ..firm }, Lease { gross: Watts(1), ..lease });
    let short = shortages(&policy, &fleet(&policy), &[firm, other]);
    assert_eq!(short.keys().map(LeaseId::as_str).collect::<Vec<_>>(), ["m"]);
    assert_eq!(short["m"].missing, Watts(240));
}

/// The worst deficit in the plan, among the feeds on the path of `lease`, when it begins.
fn planned(policy: &Policy, plan: &Plan, lease: &Lease, now: Timestamp) -> Watts {
    let begins = lease.reserved_from().max(now);
    let feeds = policy.facility.feeds();
    let above = |feed: &FeedId| feeds.carries(feeds.number(feed).unwrap(), &lease.feed);
    let here =
        plan.deficits.iter().filter(|deficit| deficit.from == begins && above(&deficit.feed));
    here.map(|deficit| deficit.short).max().unwrap_or(Watts::ZERO)
}

/// With random fleets, some of whose machines are unknown or fail, and random leases: the shortage
/// of a lease is the one that the plan shows once the lease is within its horizon.
#[test]
fn the_shortage_of_a_lease_is_the_plans_deficit() {
    let (mut compared, mut short_ones, mut far) = (0, 0, 0);
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let make_up_pct = random.random_range(0.0..20.0);
        let limit = Watts(random.random_range(60_000..110_000));
        let mut policy = policy_with(|parts| parts.feeds[0].limit = limit.into());
        policy.dispatch.make_up_pct = make_up_pct;
        let unverified = random.random_bool(0.5);
        let mut leases: Vec<Lease> = Vec::new();
        for number in 0..random.random_range(1..8) {
            let feed = ["a", "b", "root"].choose(&mut random).unwrap();
            // One second apart, because the plan shows only the sum of leases that begin at the
            // same time.
            let start = 200 + number + 10 * random.random_range(0..3000);
            let end = start + random.random_range(10..8000);
            let watts = random.random_range(1000..45_000);
            let mut lease = lease(&format!("l{number}"), feed, watts, start, end);
            lease.accept_unverified = unverified && random.random();
            leases.push(lease);
        }
        let mut held = Selection::default();
        let mut before: BTreeMap<LeaseId, Shortage> = BTreeMap::new();
        let mut now = 0;
        let mut fleet = fleet(&policy);
        for machines in &mut fleet.groups {
            machines.retain(|_| random.random_bool(0.8));
            machines.iter_mut().for_each(|machine| machine.failing = random.random_bool(0.1));
        }
        while now < 20_000 {
            let plan = plan::plan(&policy, &leases, &fleet, &held, at(now));
            let short = Supply::new(&policy.facility, &fleet, &held).shortages(&leases, at(now));
            let missing = |short: &BTreeMap<LeaseId, Shortage>, lease: &Lease| {
                short.get(&lease.id).map_or(Watts::ZERO, |short| short.missing)
            };
            for lease in leases.iter().filter(|lease| lease.reserved_from() > at(now)) {
                let found = missing(&short, lease);
                if now > 0 {
                    // Only the time has changed, so the shortage stays the same.
                    assert_eq!(
                        found,
                        missing(&before, lease),
                        "seed {seed} at {now}: {}",
                        lease.id
                    );
                }
                if lease.reserved_from() > plan.horizon {
                    far += usize::from(found > Watts::ZERO);
                    continue;
                }
                compared += 1;
                short_ones += usize::from(found > Watts::ZERO);
                let planned = planned(&policy, &plan, lease, at(now));
                if unverified {
                    // A firm lease may be short although the plan starves machines for other
                    // leases.
                    assert!(
                        found >= planned,
                        "seed {seed} at {now}: {} {found} {planned}",
                        lease.id
                    );
                } else {
                    assert_eq!(found, planned, "seed {seed} at {now}: {}", lease.id);
                }
            }
            before = short;
            held = plan.selection;
            now += random.random_range(1000..4000);
        }
    }
    assert!(compared > 1000 && short_ones > 100 && far > 100, "{compared} {short_ones} {far}");
}

/// Two leases of 20 kW at `a`, where 50 kW are usable, and house and sleeping machines take 1.42.
#[test]
fn who_begins_last_is_short_first_when_a_limit_is_lower_for_a_while() {
    let short = |watts: i64| {
        let limit =
            Limit::series(Watts(50_000), [(at(5000), Watts(watts)), (at(8000), Watts(50_000))]);
        let policy = policy_with(|parts| parts.feeds[1].limit = limit.unwrap());
        let leases = [lease("l1", "a", 20_000, 1060, 9000), lease("l2", "a", 20_000, 2060, 7000)];
        let fleet = fleet(&policy);
        let supply = Supply::new(&policy.facility, &fleet, &Selection::default());
        let short = supply.shortages(&leases, at(0));
        ["l1", "l2"]
            .map(|id| short.get(id).map(|short| (short.missing.0, short.from, short.to.unwrap())))
    };
    assert_eq!(short(42_000), [None, None]);
    assert_eq!(short(30_000), [None, Some((11_420, at(5000), at(7000)))]);
    let both = [Some((6_420, at(5000), at(8000))), Some((26_420, at(5000), at(7000)))];
    assert_eq!(short(15_000), both);
}

/// Held against the sum over all leases at each instant at which one ends.
#[test]
fn the_shortage_of_a_feed_lasts_until_the_leases_that_are_left_fit() {
    let (mut ended, mut later) = (0, 0);
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let policy = policy();
        let leases: Vec<Lease> = (0..random.random_range(2..12))
            .map(|number| {
                let feed = ["a", "b", "root"].choose(&mut random).unwrap();
                let start = 100 * random.random_range(0..60);
                let end = start + 100 * random.random_range(1..60);
                let watts = random.random_range(1000..30_000);
                let mut lease = lease(&format!("l{number}"), feed, watts, start, end);
                lease.accept_unverified = random.random_bool(0.3);
                lease
            })
            .collect();
        let fleet = seen(&policy, 1, random.random_range(0..11));
        let supply = Supply::new(&policy.facility, &fleet, &Selection::default());
        let (feed, from) = (FeedId::from("a"), at(100 * random.random_range(0..60)));
        let node = supply.feeds.number(&feed).unwrap();
        let here: Vec<&Lease> = leases
            .iter()
            .filter(|lease| from < lease.ends() && supply.feeds.carries(node, &lease.feed))
            .collect();
        let reserved = reservations(&here);
        let lacks = |at: Timestamp| {
            let mut running = PerFeed::all(supply.feeds, Running::default());
            for (lease, reserved) in here.iter().zip(&reserved).filter(|(l, _)| l.reserves(at)) {
                supply.begin(&mut running, lease, reserved.at(at));
            }
            supply.lacks(node, false, at, &running) > Watts::ZERO
        };
        let mut ends: Vec<Timestamp> = here.iter().map(|lease| lease.ends()).collect();
        ends.sort();
        let to = ends.iter().copied().find(|end| !lacks(*end));
        let short = supply.at_feed(&feed, Watts(1), from, &leases).unwrap();
        assert_eq!(short.to, to, "seed {seed}");
        ended += usize::from(to.is_some());
        later += usize::from(to.is_some() && to != ends.first().copied());
    }
    assert!(ended > 200 && later > 30, "{ended} end, {later} of them later than the first lease");
}
