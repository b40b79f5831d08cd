use proptest::prelude::*;

use super::*;
use crate::fixture::{at, policy_with};

/// A site whose root sheds 30 kW a minute and whose feed `a` sheds 6.
fn policy(step_max: Option<Watts>) -> Policy {
    let mut policy = policy_with(|parts| parts.feeds[1].down_per_min = Some(Watts(6_000)));
    policy.ramp.step_max = step_max;
    policy
}

fn number(policy: &Policy, feed: &str) -> FeedNumber {
    policy.facility.feeds().number(&feed.into()).expect("the fixture has it")
}

/// The most that is shed at and below `feed` within any minute, of machines with their times.
fn most_in_a_minute(policy: &Policy, feed: FeedNumber, going: &[(Timestamp, Load)]) -> Watts {
    let feeds = policy.facility.feeds();
    let is_here = |load: &Load| load.0.is_some_and(|of| feeds.is_below(of, feed));
    let here = || going.iter().filter(|(_, load)| is_here(load));
    let within = |from: Timestamp| {
        let end = later(from, Duration::from_mins(1));
        here().filter(|(at, _)| (from..end).contains(at)).map(|(_, load)| load.1).sum()
    };
    here().map(|(from, _)| within(*from)).max().unwrap_or_default()
}

/// What a step may hold beyond the ramp: what the ramp allows until the next step, and one machine.
fn bunched(per_min: Watts, grain: Duration) -> Watts {
    per_min.scale(grain.as_secs_f64() / 60.0) + Watts(3_001)
}

proptest! {
    /// Machines of three deadlines, and some that must go at once, on two feeds.
    #[test]
    fn no_feed_sheds_faster_than_its_ramp(
        machines in prop::collection::vec((any::<bool>(), 0_i64..3), 1..60),
        late in prop::collection::vec(any::<bool>(), 0..20),
    ) {
        let policy = policy(None);
        let ramps = Ramps::new(&policy);
        let (a, b) = (number(&policy, "a"), number(&policy, "b"));
        let load = |on_a: bool| (Some(if on_a { a } else { b }), Watts(3_000));
        let all = || machines.iter().map(|(on_a, _)| *on_a).chain(late.iter().copied()).map(load);
        let grain = ramps.grain(all());
        let mut backward = Backward::new(&ramps);
        let mut going: Vec<(Timestamp, Load)> = Vec::new();
        for deadline in (0..3).rev() {
            let last = at(3_000 + 100 * deadline);
            let batch = machines.iter().filter(|(_, of)| *of == deadline).map(|(on_a, _)| load(*on_a));
            let batch: Vec<Load> = batch.collect();
            let times = backward.times(&batch, last, grain);
            let batch: Vec<(Timestamp, Load)> = times.into_iter().zip(batch).collect();
            for (time, load) in &batch {
                prop_assert!(*time <= last);
                backward.keep_busy(*load, *time);
            }
            going.extend(batch);
        }
        for (feed, per_min) in [(a, 6_000), (number(&policy, "root"), 30_000)] {
            let allowed = Watts(per_min) + bunched(Watts(per_min), grain) + bunched(Watts(per_min), grain);
            prop_assert!(most_in_a_minute(&policy, feed, &going) <= allowed, "backward");
        }
        // The present is in the middle of it.
        let now = at(2_950);
        going.sort_by_key(|(time, _)| *time);
        let mut forward = Forward::new(&ramps, grain, now);
        let mut paced: Vec<(Timestamp, Load)> = Vec::new();
        for (time, load) in going.iter().filter(|(time, _)| *time < now) {
            forward.count(*load, *time);
            paced.push((*time, *load));
        }
        let late = late.iter().map(|on_a| (now, load(*on_a)));
        for (time, load) in late.chain(going.iter().copied().filter(|(time, _)| *time >= now)) {
            let given = forward.time(load, time);
            prop_assert!(given >= time);
            paced.push((given, load));
        }
        for (feed, per_min) in [(a, 6_000), (number(&policy, "root"), 30_000)] {
            let allowed = Watts(per_min) + bunched(Watts(per_min), grain) + bunched(Watts(per_min), grain);
            let most = most_in_a_minute(&policy, feed, &paced);
            prop_assert!(most <= allowed, "forward: {most} of {allowed} at {feed:?}, {grain:?}");
        }
    }
}

#[test]
fn a_feed_with_a_slow_ramp_takes_its_part_of_the_ramp_above() {
    let policy = policy(None);
    let ramps = Ramps::new(&policy);
    let load = |feed| (Some(number(&policy, feed)), Watts(3_000));
    let machines = [[load("a"); 20], [load("b"); 20]].concat();
    let grain = ramps.grain(machines.iter().copied());
    let times = Backward::new(&ramps).times(&machines, at(3_000), grain);
    let going: Vec<(Timestamp, Load)> = times.into_iter().zip(machines).collect();
    for (feed, per_min) in [("a", 6_000), ("root", 30_000)] {
        let allowed = Watts(per_min) + bunched(Watts(per_min), grain);
        let most = most_in_a_minute(&policy, number(&policy, feed), &going);
        assert!(most <= allowed, "{most} at {feed}, where {allowed} may be");
    }
    let first = going.iter().map(|(time, _)| *time).min().expect("there are machines");
    assert!(first >= earlier(at(3_000 - 600), 2 * grain), "60 kW at 6 kW a minute: {first}");
}

/// `far` hangs below `b`, which sheds 6 kW a minute as `a` does, and could shed 30 itself.
#[test]
fn the_slowest_feed_may_be_in_the_middle() {
    let policy = policy_with(|parts| {
        for feed in &mut parts.feeds[1..] {
            feed.down_per_min = Some(Watts(6_000));
        }
        let mut far = parts.feeds[2].clone();
        (far.id, far.parent) = ("far".into(), Some("b".into()));
        (far.meter, far.down_per_min) = (None, Some(Watts(30_000)));
        parts.feeds.push(far);
    });
    let ramps = Ramps::new(&policy);
    let load = |feed| (Some(number(&policy, feed)), Watts(3_000));
    let machines = [[load("far"); 20], [load("a"); 20]].concat();
    let grain = ramps.grain(machines.iter().copied());
    let times = Backward::new(&ramps).times(&machines, at(3_000), grain);
    let first = times.iter().min().expect("there are machines");
    assert!(*first >= earlier(at(3_000 - 600), 2 * grain), "both shed for ten minutes: {first}");
}

#[test]
fn what_the_ramps_allow_is_not_moved() {
    let policy = policy(None);
    let ramps = Ramps::new(&policy);
    let load = (Some(number(&policy, "b")), Watts(3_000));
    let grain = ramps.grain(std::iter::repeat_n(load, 20));
    let mut backward = Backward::new(&ramps);
    let mut times = backward.times(&[load; 20], at(600), grain);
    times.reverse();
    let mut forward = Forward::new(&ramps, grain, at(0));
    let same: Vec<Timestamp> = times.iter().map(|time| forward.time(load, *time)).collect();
    assert_eq!(same, times);
    assert_eq!(times.first(), Some(&at(600 - 120)), "60 kW at 30 kW a minute");
}

#[test]
fn no_step_is_larger_than_the_largest_one_allowed() {
    let policy = policy(Some(Watts(7_000)));
    let ramps = Ramps::new(&policy);
    let load = (Some(number(&policy, "b")), Watts(3_000));
    let grain = ramps.grain(std::iter::repeat_n(load, 100));
    let mut forward = Forward::new(&ramps, grain, at(0));
    let times: Vec<Timestamp> = (0..100).map(|_| forward.time(load, at(0))).collect();
    for time in &times {
        let together = times.iter().filter(|other| *other == time).count();
        assert!(together <= 2, "{together} machines of 3 kW in a step of 7 kW");
    }
}

#[test]
fn a_machine_without_a_feed_waits_for_nothing() {
    let policy = policy(None);
    let ramps = Ramps::new(&policy);
    let mut forward = Forward::new(&ramps, GRAIN_MIN, at(0));
    forward.count((Some(number(&policy, "a")), Watts(60_000)), at(0));
    assert_eq!(forward.time((None, Watts::ZERO), at(5)), at(5));
    let alone = Backward::new(&ramps).times(&[(None, Watts::ZERO)], at(9), GRAIN_MIN);
    assert_eq!(alone, [at(9)]);
}
