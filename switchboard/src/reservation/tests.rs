use std::time::Duration;

use rand::prelude::*;

use super::*;
use crate::fixture::{at, lease};

/// A lease that is made ready `ready` seconds before its start.
fn ready(id: &str, watts: i64, ready: u64, (start, end): (i64, i64)) -> Lease {
    Lease { ready_before: Duration::from_secs(ready), ..lease(id, "a", watts, start, end) }
}

fn reserved(leases: &[Lease]) -> Vec<Reservation> {
    reservations(&leases.iter().collect::<Vec<_>>())
}

fn total(leases: &[Lease], secs: i64) -> i64 {
    reserved(leases).iter().map(|one| one.at(at(secs)).0).sum()
}

#[test]
fn a_renewal_needs_the_larger_of_both_while_they_overlap() {
    for (next, meanwhile) in [(20, 30), (30, 30), (50, 50)] {
        let leases = [ready("a", 30, 600, (1000, 5000)), ready("b", next, 600, (5000, 9000))];
        let totals = [399, 400, 4399, 4400, 4999, 5000, 8999, 9000].map(|t| total(&leases, t));
        assert_eq!(totals, [0, 30, 30, meanwhile, meanwhile, next, next, 0]);
    }
}

#[test]
fn a_pause_between_both_changes_nothing_about_it() {
    let leases = [ready("a", 30, 600, (1000, 5000)), ready("b", 20, 600, (5300, 9000))];
    assert_eq!([4700, 4999, 5000, 5299].map(|t| total(&leases, t)), [30, 30, 20, 20]);
}

#[test]
fn what_is_no_renewal_adds_up() {
    let a = ready("a", 30, 600, (1000, 5000));
    let b = ready("b", 20, 600, (5000, 9000));
    let others = [
        Lease { tenant: "Other".to_owned(), ..b.clone() },
        Lease { feed: "b".into(), ..b.clone() },
        // It starts a second before the other one ends.
        Lease { start: at(4999), ..b.clone() },
        // It is made ready before the other one is.
        Lease { ready_before: Duration::from_secs(4700), ..b.clone() },
    ];
    for other in others {
        assert_eq!(total(&[a.clone(), other.clone()], 4900), 50, "{other:?}");
    }
    let starved = Lease { accept_unverified: true, ..a.clone() };
    assert_eq!(total(&[starved.clone(), b.clone()], 4900), 50, "a firm lease needs more");
    let both = Lease { accept_unverified: true, ..b };
    assert_eq!(total(&[starved, both.clone()], 4900), 30);
    assert_eq!(total(&[a, both], 4900), 30);
}

#[test]
fn each_watt_is_passed_on_once() {
    let leases = [
        ready("a", 30, 600, (1000, 5000)),
        ready("b", 20, 600, (5000, 9000)),
        ready("c", 20, 600, (5000, 9000)),
    ];
    assert_eq!([4900, 5000].map(|t| total(&leases, t)), [40, 40]);
    let two = [
        ready("a", 30, 600, (1000, 5000)),
        ready("z", 10, 600, (1000, 4800)),
        ready("b", 40, 600, (5000, 9000)),
    ];
    assert_eq!([4500, 4800, 4999, 5000].map(|t| total(&two, t)), [40, 40, 40, 40]);
}

#[test]
fn a_lease_that_is_cancelled_passes_its_power_on_when_it_ends() {
    let a = Lease { cancelled_at: Some(at(4500)), ..ready("a", 30, 600, (1000, 5000)) };
    let leases = [a, ready("b", 20, 600, (5000, 9000))];
    assert_eq!([4400, 4499, 4500].map(|t| total(&leases, t)), [30, 30, 20]);
}

/// It stays open until its machines are back, and must not keep the power from the next lease.
#[test]
fn a_lease_that_was_cancelled_before_its_start_takes_nothing_over() {
    let b = Lease { cancelled_at: Some(at(4500)), ..ready("b", 39, 600, (5000, 9000)) };
    let leases = [ready("a", 30, 600, (1000, 5000)), b, ready("c", 30, 60, (5000, 9000))];
    assert_eq!([4940, 4999, 5000].map(|t| total(&leases, t)), [30, 30, 30]);
}

/// At every instant, what is reserved is enough for all leases that reserve power then, whenever each
/// of them draws what it rents; it is never more than the sum, and no lease's part ever falls.
#[test]
fn what_is_reserved_is_always_enough() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let leases: Vec<Lease> = (0..random.random_range(2..9))
            .map(|n| {
                let start = random.random_range(0..60);
                let end = start + random.random_range(1..40);
                let ready = ready(
                    &format!("l{n}"),
                    random.random_range(1..50),
                    random.random_range(0..40),
                    (start, end),
                );
                let cancelled = random.random_bool(0.2);
                let cancelled_at = cancelled.then(|| at(random.random_range(-20..end)));
                let accept_unverified = random.random_bool(0.3);
                let tenant = ["N", "M"][usize::from(random.random_bool(0.2))].to_owned();
                Lease { cancelled_at, accept_unverified, tenant, ..ready }
            })
            .collect();
        let reserved = reserved(&leases);
        for t in -45..101 {
            let now: Vec<&Lease> = leases.iter().filter(|lease| lease.reserves(at(t))).collect();
            let all: i64 = now.iter().map(|lease| lease.gross.0).sum();
            let total: i64 = reserved.iter().map(|one| one.at(at(t)).0).sum();
            let drawn = |then: i64| -> i64 {
                let draws = |lease: &&&Lease| lease.start <= at(then) && at(then) < lease.ends();
                now.iter().filter(draws).map(|lease| lease.gross.0).sum()
            };
            let most = (t..101).map(drawn).max().unwrap_or(0);
            assert!((most..=all).contains(&total), "seed {seed}, {t}: {most} {total} {all}");
        }
        for (lease, own) in leases.iter().zip(&reserved) {
            assert!(own.rises().all(|(_, more)| more >= Watts::ZERO), "seed {seed}");
            let ends = own.until() > lease.start && lease.reserved_from() < lease.ends();
            assert!(!ends || own.last() == lease.gross, "seed {seed}: {lease:?} {own:?}");
        }
    }
}
