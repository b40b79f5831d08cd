use stratum::difficulty::Difficulty;

use super::*;

const INTERVAL: f64 = 10.0;

fn level(exponent: i32) -> Level {
    Level::at_or_below(Difficulty::ONE).moved(exponent)
}

/// A session at difficulty 1 with work, about whose machine nothing is known.
fn fresh() -> Vardiff {
    let mut vardiff = Vardiff::new(level(0), level(-28));
    vardiff.pass(INTERVAL, 0.0);
    vardiff.put_in_force(level(0));
    vardiff
}

/// Shares at even distances until `until`, with the evidence evaluated at each.
fn mine(vardiff: &mut Vardiff, every: f64, from: f64, until: f64) -> Vec<(Level, Reason)> {
    let mut changes = Vec::new();
    let mut age = from + every;
    while age <= until {
        vardiff.share(INTERVAL, age);
        if let Some(reason) = vardiff.judge() {
            changes.push((vardiff.level(), reason));
            vardiff.put_in_force(vardiff.level());
        }
        age += every;
    }
    changes
}

#[test]
fn a_session_costs_forty_eight_bytes() {
    assert!(size_of::<Vardiff>() <= 48, "{}", size_of::<Vardiff>());
}

#[test]
fn levels_are_powers_of_two_and_stay_in_range() {
    let of = |value: f64| Difficulty::new(value).expect("positive");
    assert_eq!(
        (Level::at_or_below(of(1000.0)), Level::at_or_above(of(1000.0))),
        (level(9), level(10))
    );
    assert_eq!((Level::at_or_below(of(0.3)), Level::at_or_above(of(0.25))), (level(-2), level(-2)));
    assert_eq!(level(3).difficulty(), of(8.0));
    assert_eq!((level(0).moved(1000), level(0).moved(-1000)), (Level::CEILING, Level::FLOOR));
    for nonsense in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
        let found = Level::nearest(nonsense, 1.0);
        assert!((Level::FLOOR..=Level::CEILING).contains(&found), "{nonsense}");
    }
    // 100 TH/s, a share in ten seconds: 232,831 hashes of difficulty 1, nearest to 2^18.
    assert_eq!(Level::nearest(1e14 / 4_294_967_296.0, 10.0), level(18));
}

#[test]
fn a_rate_between_two_levels_keeps_the_one_it_has() {
    for every in [6.7, 8.0, 10.0, 13.0, 15.0] {
        assert_eq!(mine(&mut fresh(), every, 0.0, 36_000.0), [], "a share in {every} s");
    }
}

#[test]
fn strong_evidence_is_heard_at_once_and_weak_evidence_in_minutes() {
    for (every, seconds, powers) in
        [(0.01, 1.0, 10), (0.6, 12.0, 4), (4.0, 600.0, 1), (25.0, 1200.0, -1)]
    {
        let mut vardiff = fresh();
        let changes = mine(&mut vardiff, every, 0.0, seconds);
        let (found, _) = *changes
            .first()
            .unwrap_or_else(|| panic!("a share in {every} s: nothing in {seconds} s"));
        assert!(found.above(level(powers)).abs() <= 1, "a share in {every} s: {changes:?}");
    }
}

#[test]
fn one_lucky_share_is_no_evidence() {
    let mut vardiff = fresh();
    vardiff.share(INTERVAL, 0.001);
    assert_eq!(vardiff.judge(), None);
}

#[test]
fn shares_kept_while_the_network_was_gone_do_not_mislead() {
    let mut vardiff = fresh();
    assert_eq!(mine(&mut vardiff, 10.0, 0.0, 600.0), []);
    // No shares for 50 s, then all five that were due, within a millisecond each.
    assert_eq!(mine(&mut vardiff, 0.001, 650.0, 650.0055), []);
    assert_eq!(mine(&mut vardiff, 10.0, 651.0, 1200.0), []);
}

#[test]
fn silence_lowers_in_steps_that_take_longer_and_longer_for_a_known_machine() {
    let mut vardiff = fresh();
    mine(&mut vardiff, 10.0, 0.0, 600.0);
    let mut steps = Vec::new();
    for second in 600..12_000 {
        vardiff.pass(INTERVAL, f64::from(second));
        if let Some(reason) = vardiff.judge() {
            assert_eq!(reason, Reason::Idle);
            steps.push(second);
            vardiff.put_in_force(vardiff.level());
        }
    }
    assert!((3..=10).contains(&steps.len()), "{steps:?}");
    assert!(steps[0] >= 660, "not before six intervals: {steps:?}");
    let pauses: Vec<i32> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses[pauses.len() - 1] > 8 * pauses[0], "{pauses:?}");
}

#[test]
fn time_without_work_is_no_silence() {
    let mut vardiff = fresh();
    mine(&mut vardiff, 10.0, 0.0, 600.0);
    vardiff.rest();
    vardiff.pass(INTERVAL, 50_000.0);
    assert_eq!(vardiff.judge(), None);
    vardiff.put_in_force(level(0));
    assert_eq!(mine(&mut vardiff, 10.0, 50_000.0, 50_600.0), []);
}

#[test]
fn a_storm_is_told_once_in_thirty_two_shares() {
    let mut vardiff = fresh();
    let told: u32 = (1..=320)
        .map(|n| {
            vardiff.share(INTERVAL, f64::from(n) * 0.005);
            u32::from(vardiff.storms())
        })
        .sum();
    assert!((8..=9).contains(&told), "{told}");
}

#[test]
fn the_better_voice_counts_and_shares_count_more() {
    let mut vardiff = Vardiff::new(level(16), level(0));
    vardiff.start(LevelSource::UserAgent, level(10), level(5));
    assert_eq!(
        (vardiff.level(), vardiff.work_rate(INTERVAL)),
        (level(10), 6553.6),
        "a guess sizes no pool"
    );
    vardiff.start(LevelSource::Recall, level(12), level(10));
    vardiff.start(LevelSource::Miner, level(3), level(0));
    assert_eq!((vardiff.level(), vardiff.work_rate(INTERVAL)), (level(12), 409.6));
    let mut vardiff = fresh();
    mine(&mut vardiff, 10.0, 0.0, 100.0);
    vardiff.start(LevelSource::Recall, level(12), level(10));
    assert_eq!(vardiff.level(), level(0));
}

#[test]
fn a_session_kept_from_its_level_follows_the_machine_all_the_same() {
    let mut vardiff = fresh();
    let at = |vardiff: &mut Vardiff, every: f64, from: f64, until: f64| {
        let mut age = from;
        while age < until {
            age += every;
            vardiff.share(INTERVAL, age);
            vardiff.judge();
            vardiff.follow();
            vardiff.put_in_force(level(0));
        }
        vardiff.level()
    };
    assert!(
        at(&mut vardiff, 0.1, 0.0, 60.0).above(level(7)).abs() <= 1,
        "a hundred shares an interval"
    );
    assert!(at(&mut vardiff, 1.3, 60.0, 300.0).above(level(3)).abs() <= 1);
}
