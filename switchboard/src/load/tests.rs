use rand::prelude::*;

use super::*;
use crate::fixture::{at, origin, policy};

/// Feed `a` of the fixture, 50 kW, whose meter is read every five seconds.
struct Meter {
    corrections: Corrections,
    feeds: Feeds,
    now: Instant,
    secs: i64,
    margin: Watts,
    is_urgent: bool,
}

impl Meter {
    fn new() -> Self {
        let feeds = policy().facility.feeds().clone();
        let corrections = Corrections::new(&feeds);
        Self { corrections, feeds, now: origin(), secs: 0, margin: Watts::ZERO, is_urgent: false }
    }

    fn a(&self) -> FeedNumber {
        self.feeds.number(&"a".into()).unwrap()
    }

    /// Reads the meter after five seconds. Returns the correction for plans.
    fn shows(&mut self, metered: i64, least: i64, most: i64) -> i64 {
        self.now += Duration::from_secs(5);
        self.secs += 5;
        let (a, shown) = (
            self.a(),
            Shown {
                metered: Watts(metered),
                taken_at: at(self.secs),
                least: Watts(least),
                most: Watts(most),
                assumed: Watts::ZERO,
                fall_margin: self.margin,
                rise_margin: self.margin,
                is_urgent: self.is_urgent,
                is_taken_over: false,
            },
        );
        self.corrections.read(&self.feeds, self.now, |feed| (feed == a).then_some(shown));
        self.corrections.planned()[a].0
    }
}

#[test]
fn the_first_measurement_counts_at_once() {
    let mut meter = Meter::new();
    assert_eq!(meter.shows(30_000, 43_000, 43_000), -13_000, "declared, but not there");
    let root = meter.feeds.number(&"root".into()).unwrap();
    assert_eq!(
        meter.corrections.planned()[root],
        Watts(-13_000),
        "the root has no reading of its own"
    );
}

#[test]
fn a_rise_counts_when_it_has_lasted_for_two_measurements_and_ten_seconds() {
    let mut meter = Meter::new();
    meter.shows(43_000, 43_000, 43_000);
    assert_eq!(meter.shows(63_000, 43_000, 43_000), 0, "one measurement may be a spike");
    assert_eq!(meter.shows(63_000, 43_000, 43_000), 0, "it began five seconds ago");
    assert_eq!(meter.shows(62_000, 43_000, 43_000), 19_000, "the lowest of those that lasted");
}

#[test]
fn a_rise_that_the_guard_has_acted_on_counts_from_the_second_measurement() {
    let mut meter = Meter::new();
    meter.shows(43_000, 43_000, 43_000);
    meter.is_urgent = true;
    assert_eq!(meter.shows(63_000, 28_000, 43_000), 0, "it may be a tenant's");
    assert_eq!(meter.shows(63_000, 28_000, 43_000), 20_000, "the machines have not gone yet");
    meter.is_urgent = false;
    assert_eq!(meter.shows(48_000, 28_000, 28_000), 20_000);
}

#[test]
fn a_fall_counts_when_it_has_lasted_for_two_minutes() {
    let mut meter = Meter::new();
    assert_eq!(meter.shows(53_000, 43_000, 43_000), 10_000);
    // Two measurements until the correction changes, and two minutes until plans use it.
    for _ in 0..26 {
        assert_eq!(meter.shows(45_000, 43_000, 43_000), 10_000);
    }
    assert_eq!(meter.shows(45_000, 43_000, 43_000), 2_000);
}

#[test]
fn a_machine_on_its_way_down_contradicts_nothing() {
    let mut meter = Meter::new();
    assert_eq!(meter.shows(43_000, 43_000, 43_000), 0);
    // Four machines of 3 kW were told to sleep; each may be down or not.
    for metered in [43_000, 37_000, 31_000] {
        assert_eq!(meter.shows(metered, 31_000, 43_000), 0);
    }
    assert_eq!(meter.corrections.last(meter.a()), Some(Watts(0)));
    // All say that they are down. One still draws.
    for _ in 0..3 {
        meter.shows(34_000, 31_000, 31_000);
    }
    assert_eq!(meter.corrections.planned()[meter.a()], Watts(3_000));
}

#[test]
fn meters_that_are_not_read_at_the_same_moment_contradict_nothing() {
    let mut meter = Meter::new();
    meter.shows(43_000, 43_000, 43_000);
    // A tenant of 6 kW stops; its own meter shows it five seconds later. Machines wake meanwhile.
    meter.shows(37_000, 43_000, 43_000);
    for _ in 0..40 {
        meter.shows(37_000, 31_000, 37_000);
    }
    assert_eq!(meter.corrections.last(meter.a()), Some(Watts(0)));
}

#[test]
fn a_smaller_fall_than_the_margin_brings_nothing_back() {
    let mut meter = Meter::new();
    meter.margin = Watts(600);
    meter.shows(44_000, 43_000, 43_000);
    for _ in 0..60 {
        assert_eq!(meter.shows(43_500, 43_000, 43_000), 1_000);
    }
}

#[test]
fn a_meter_that_is_not_read_keeps_its_correction() {
    let mut meter = Meter::new();
    meter.shows(50_000, 43_000, 43_000);
    meter.now += Duration::from_secs(3600);
    meter.corrections.read(&meter.feeds, meter.now, |_| None);
    assert_eq!(meter.corrections.planned()[meter.a()], Watts(7_000));
}

/// Noise of 3 % around a steady load moves the correction for plans a few times at most in half an
/// hour, and it ends near the mean.
#[test]
fn noise_makes_few_plans() {
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut meter = Meter::new();
        meter.margin = Watts(750);
        let (mut changes, mut before) = (0, None);
        for _ in 0..400 {
            let noise = random.random_range(-1500..1500);
            let planned = meter.shows(50_000 + noise, 43_000, 43_000);
            changes += u32::from(before.is_some_and(|before| before != planned));
            before = Some(planned);
        }
        assert!(changes <= 12, "seed {seed}: {changes} changes");
        let planned = before.unwrap_or_default();
        assert!((5_000..=9_000).contains(&planned), "seed {seed}: {planned}");
    }
}
