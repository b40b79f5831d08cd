//! Feeds that carry too much when no machine is left.

use super::*;

const EVERY: Duration = Duration::from_mins(5);

impl Plant {
    /// Lets a second pass. Returns why somebody is called for the feed, and since when it is above
    /// usable.
    fn called(&mut self, meter: &str) -> Option<(OverReason, u64)> {
        self.now += 1_000;
        let sampled = self.shows(meter, self.load(meter));
        let over = sampled.over.into_iter().next()?;
        assert_eq!(over.metered, Watts(self.load(meter)));
        assert_eq!(
            (over.usable, over.rating, over.at),
            (Watts(60_000), Watts(75_000), at(self.now))
        );
        let since = over.since.duration_since(at(0)).as_millis();
        Some((over.reason, u64::try_from(since).unwrap()))
    }

    /// The calls of so many seconds, each with the time.
    fn calls(&mut self, meter: &str, seconds: usize) -> Vec<(u64, OverReason, u64)> {
        let mut calls = Vec::new();
        for _ in 0..seconds {
            if let Some((reason, since)) = self.called(meter) {
                calls.push((self.now, reason, since));
            }
        }
        calls
    }
}

fn calling(house: i64) -> Plant {
    let mut plant = Plant::new(one_feed(), &[("f", house)]);
    plant.guard.calls_every(Some(EVERY));
    plant
}

#[test]
fn above_the_rating_the_second_sample_that_no_machine_can_cover_calls() {
    // 150 kW less 48 kW of machines are more than the rating of 75 kW.
    let mut plant = calling(102_000);
    assert_eq!(plant.calls("f", 10), [(2_000, OverReason::AboveRating, 1_000)]);
    assert_eq!(plant.held(), 16);
}

#[test]
fn below_the_rating_machines_and_meter_get_their_time() {
    // 68 kW are left when all machines sleep: 45 s, a second for the meter, and two of its periods.
    let mut plant = calling(68_000);
    assert_eq!(plant.calls("f", 120), [(50_000, OverReason::AboveUsable, 1_000)]);
}

#[test]
fn nobody_is_called_while_machines_can_go_or_are_enough() {
    let mut plant = calling(20_000);
    assert_eq!(plant.calls("f", 600), []);
    assert!(plant.held() > 0);
}

#[test]
fn a_feed_that_stays_too_high_calls_again_after_a_while_and_not_before() {
    let mut plant = calling(102_000);
    let calls = plant.calls("f", 700);
    let times: Vec<u64> = calls.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [2_000, 302_000, 602_000]);
    // A feed that was within its limits begins anew.
    plant.house.insert("f".into(), 50_000);
    assert_eq!(plant.calls("f", 400), []);
    plant.house.insert("f".into(), 102_000);
    let since = plant.now + 1_000;
    assert_eq!(plant.calls("f", 5), [(since + 1_000, OverReason::AboveRating, since)]);
}

#[test]
fn one_sample_above_the_rating_calls_nobody() {
    let mut calm = calling(9_000);
    calm.calls("f", 5);
    for _ in 0..20 {
        calm.now += 1_000;
        assert_eq!(calm.shows("f", 150_000).over, []);
        assert_eq!(calm.calls("f", 1), []);
    }
}

#[test]
fn the_word_of_a_suspect_or_lost_meter_calls_nobody() {
    let mut suspect = calling(10_000);
    for _ in 0..200 {
        suspect.now += 1_000;
        let watts = suspect.load("f") * 1_000;
        assert_eq!(suspect.shows("f", watts).over, []);
    }
    assert_eq!(suspect.state("f").state, GuardState::Suspect);
    let mut lost = calling(68_000);
    lost.calls("f", 40);
    for _ in 0..200 {
        lost.now += 1_000;
        assert_eq!(lost.answers("f", None).over, []);
    }
}

#[test]
fn without_a_hook_nobody_is_called() {
    let mut plant = Plant::new(one_feed(), &[("f", 102_000)]);
    assert_eq!(plant.calls("f", 100), []);
}
