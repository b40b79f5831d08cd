//! Tables, holds and restarts.

use super::*;

fn with(version: u64, change: impl FnOnce(&mut GuardTable)) -> Arc<GuardTable> {
    let mut table = one_feed();
    table.version.generation = version;
    change(&mut table);
    Arc::new(table)
}

#[test]
fn an_older_table_changes_nothing_and_neither_does_one_that_is_too_large() {
    let mut guard = Guard::restore("agent".into(), GuardSaved::default());
    assert!(!guard.is_at_work());
    assert!(guard.take_table(&with(5, |_| ())));
    assert!(!guard.take_table(&with(5, |table| table.feeds.clear())));
    assert!(!guard.take_table(&with(4, |table| table.feeds.clear())));
    assert!(!guard.take_table(&with(6, |table| {
        table.feeds = vec![table.feeds[0].clone(); GuardTable::FEEDS_MAX + 1];
    })));
    assert_eq!(guard.version(), Some(Generation { epoch: 1, generation: 5 }));
    assert!(guard.take_table(&with(6, |_| ())));
}

#[test]
fn a_table_of_nonsense_does_no_harm() {
    let table = with(1, |table| {
        let mut twice = table.feeds[0].clone();
        twice.parent = Some("f".into());
        let odd = &mut table.feeds[0];
        (odd.usable, odd.rating, odd.band) = (Watts(i64::MIN), Watts(i64::MAX), Watts(i64::MIN));
        (odd.lag_ms, odd.stale_after_ms, odd.after) = (u64::MAX, u64::MAX, 0);
        table.feeds.push(twice);
        table.feeds.push(feed("orphan", Some("nowhere"), 0));
        let mut cohort = cohort("f", 0..16);
        cohort.frees = Watts(i64::MIN);
        (cohort.sheds_within_ms, cohort.restores_within_ms) = (u64::MAX, u64::MAX);
        table.cohorts.insert(0, cohort);
        table.cohorts.push(super::cohort("nowhere", 20..30));
        (table.ramp_per_min, table.step_max) = (Some(Watts(i64::MIN)), Some(Watts(i64::MIN)));
        table.suspect_max_pct = u8::MAX;
    });
    let mut plant = Plant::new(GuardTable::clone(&table), &[]);
    for watts in [0, i64::MAX, Watts::LIMIT.0, Watts::LIMIT.0, 5, i64::MIN, 7] {
        for meter in ["f", "orphan", "unknown"] {
            plant.now += 1_000;
            plant.shows(meter, watts);
        }
    }
    plant.guard.told_to_wake(&"m00".into(), plant.instant());
    plant.guard.told_to_sleep(&"m00".into(), true, plant.instant());
    plant.guard.report(&plant.units, at(plant.now), plant.instant());
}

#[test]
fn a_new_table_keeps_what_is_known_of_feeds_and_machines() {
    let mut plant = Plant::new(one_feed(), &[("f", 30_000)]);
    plant.second(&["f"]);
    assert_eq!(plant.held(), 7);
    // The same machines in another order, at a feed that has another number.
    let changed = with(2, |table| {
        table.feeds.insert(0, feed("site", None, 500_000));
        table.feeds[1].parent = Some("site".into());
        table.cohorts[0].machines.reverse();
    });
    assert!(plant.guard.take_table(&changed));
    plant.parents = [("f".into(), Some("site".into())), ("site".into(), None)].into();
    for _ in 0..100 {
        plant.second(&["f"]);
    }
    assert_eq!((plant.held(), plant.load("f")), (7, 57_000));
}

#[test]
fn holds_and_the_table_survive_a_restart_and_numbers_go_on() {
    let mut plant = Plant::new(one_feed(), &[("f", 30_000)]);
    plant.second(&["f"]);
    plant.guard = Guard::restore("agent".into(), plant.guard.saved());
    assert!(plant.guard.is_held(&"m06".into()) && !plant.guard.is_held(&"m07".into()));
    plant.house.insert("f".into(), 60_000);
    plant.now += SHEDS_MS;
    plant.second(&["f"]);
    let numbers: Vec<u64> = plant.acts.iter().map(|(_, act)| act.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(plant.guard.is_held(&"m07".into()));
    let holds = plant.guard.report(&plant.units, at(0), plant.instant()).holds;
    assert_eq!(holds.iter().map(|hold| hold.number).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_timeline_lifts_the_holds_that_it_was_made_with_and_no_later_ones() {
    let mut holds = Holds::default();
    for machines in [vec!["a".into(), "b".into()], vec!["c".into()], vec!["d".into()]] {
        holds.add("f".into(), machines);
    }
    assert_eq!(holds.lift(0), []);
    assert_eq!(holds.lift(2), ["a".into(), "b".into(), "c".into()]);
    assert_eq!(holds.lift(2), []);
    assert!(holds.is_held(&"d".into()) && !holds.is_held(&"a".into()));
    assert_eq!(holds.add("f".into(), vec!["a".into()]).number, 4);
}

#[test]
fn a_number_of_a_forgotten_life_lifts_nothing_now_and_later() {
    let mut holds = Holds::default();
    holds.add("f".into(), vec!["a".into()]);
    assert_eq!(holds.lift(u64::MAX), []);
    assert_eq!(holds.lift(7), []);
    assert_eq!(holds.all()[0].number, 8);
    assert_eq!(holds.lift(7), []);
    assert_eq!(holds.lift(8), ["a".into()]);
}
