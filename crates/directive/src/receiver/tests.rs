use std::sync::Arc;

use super::*;
use crate::{GroupId, Means, Step};
use rand::prelude::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
}

fn step(secs: i64, action: Action, machines: &[&str]) -> Step {
    Step {
        at: at(secs),
        group: GroupId::from("g"),
        action,
        means: Means::Device,
        machines: machines.iter().map(|name| MachineId::from(*name)).collect(),
        lease: None,
        reason: "test".into(),
    }
}

fn timeline(epoch: u64, generation: u64, steps: Vec<Step>) -> Timeline {
    Timeline {
        number: Generation { epoch, generation },
        issued_at: at(0),
        horizon: at(3600),
        ledger_head: None,
        steps,
        holds_taken: BTreeMap::new(),
    }
}

fn permit(epoch: u64, generation: u64, serial: u64) -> Permit {
    let machines = ["a", "b", "c", "d"].map(MachineId::from).into();
    let number = Generation { epoch, generation };
    Permit { number, serial, ttl_ms: 120_000, machines: Arc::new(machines) }
}

/// An arbitrary instant; tests only add to it.
#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

/// A receiver whose two clocks agree, `secs` after the start.
struct Bench {
    receiver: Receiver,
    start: Instant,
}

impl Bench {
    fn new(receiver: Receiver) -> Self {
        Self { receiver, start: origin() }
    }

    fn instant(&self, secs: i64) -> Instant {
        self.start + Duration::from_secs(secs.unsigned_abs())
    }

    fn holding(steps: Vec<Step>) -> Self {
        let mut bench = Self::new(Receiver::default());
        assert_eq!(bench.receiver.offer(&timeline(1, 1, steps)), Offer::Taken);
        bench
    }

    fn advance(&mut self, secs: i64) -> Vec<Change> {
        self.receiver.advance(at(secs), self.instant(secs)).changes
    }

    fn permit(&mut self, permit: Permit, secs: i64) -> bool {
        self.receiver.permit(&permit, at(secs), self.instant(secs))
    }
}

fn off_and_on() -> Vec<Step> {
    vec![step(0, Action::Drain, &["a"]), step(20, Action::Run, &["a"])]
}

#[test]
fn lowering_happens_on_time_without_a_permit() {
    let mut bench = Bench::holding(vec![step(10, Action::Drain, &["b", "a"])]);
    assert_eq!(bench.advance(9), []);
    let changes = bench.advance(10);
    let names: Vec<_> = changes.iter().map(|change| change.machine.as_str()).collect();
    assert_eq!(names, ["b", "a"], "in the timeline's order");
}

#[test]
fn a_permit_raises_only_the_machines_that_it_names() {
    let mut bench = Bench::holding(vec![step(0, Action::Drain, &["a", "b"])]);
    bench.advance(0);
    // A later timeline of the same epoch does not void the permit, but it may want a machine to be
    // off.
    let only_a = Permit { machines: Arc::new(BTreeSet::from(["a".into()])), ..permit(1, 1, 1) };
    assert!(bench.permit(only_a, 1));
    bench.receiver.offer(&timeline(1, 2, vec![]));
    let raised = bench.advance(2);
    assert_eq!(raised.iter().map(|change| change.machine.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(bench.receiver.waiting(), [MachineId::from("b")]);
    bench.receiver.offer(&timeline(2, 1, vec![]));
    assert!(!bench.permit(permit(1, 2, 9), 3), "the permit of a former epoch");
}

#[test]
fn a_scheduled_restore_waits_for_a_permit_of_this_generation() {
    let mut bench = Bench::holding(off_and_on());
    bench.advance(1);
    assert_eq!(bench.advance(30), []);
    assert_eq!(bench.receiver.waiting(), [MachineId::from("a")]);
    assert!(!bench.permit(permit(1, 2, 1), 30), "a permit of a later timeline does not count");
    assert!(bench.permit(permit(1, 1, 1), 30));
    assert!(!bench.permit(permit(1, 1, 1), 30), "a permit counts once");
    assert_eq!(bench.advance(151), [], "it has expired");
    assert!(bench.permit(permit(1, 1, 2), 151));
    assert_eq!(bench.advance(151).len(), 1);
    assert!(bench.receiver.applied().is_empty() && bench.receiver.waiting().is_empty());
}

#[test]
fn a_permit_taken_back_raises_nothing_and_does_not_return() {
    let mut bench = Bench::holding(off_and_on());
    bench.advance(1);
    assert!(bench.permit(permit(1, 1, 1), 1));
    bench.receiver.withdraw();
    assert!(!bench.permit(permit(1, 1, 1), 2), "the same one does not count again");
    assert_eq!(bench.advance(30), []);
    assert_eq!(bench.receiver.waiting().len(), 1);
}

#[test]
fn a_machine_that_a_newer_timeline_drops_is_a_raise_too() {
    let mut bench = Bench::holding(vec![step(0, Action::Lockout, &["a"])]);
    bench.advance(1);
    bench.receiver.offer(&timeline(1, 2, vec![]));
    assert_eq!(bench.advance(2), []);
    assert_eq!(bench.receiver.waiting().len(), 1);
}

#[test]
fn older_timelines_change_nothing_also_after_a_restart() {
    let mut bench = Bench::new(Receiver::default());
    bench.receiver.offer(&timeline(2, 5, vec![step(0, Action::Drain, &["a"])]));
    bench.advance(1);
    let saved = serde_json::to_string(bench.receiver.saved()).expect("plain data");
    let saved = serde_json::from_str(&saved).expect("what was written");
    let mut bench = Bench::new(Receiver::restore(saved));
    assert_eq!(
        bench.receiver.offer(&timeline(1, 9, vec![])),
        Offer::Stale { have: Generation { epoch: 2, generation: 5 } }
    );
    assert_eq!(bench.receiver.offer(&timeline(2, 5, vec![])), Offer::Same);
    assert_eq!(bench.advance(2), [], "the machine stays off and nothing moves");
    assert_eq!(bench.receiver.applied().len(), 1);
}

#[test]
fn permits_of_absurd_life_are_refused() {
    let mut bench = Bench::holding(vec![]);
    for ttl_ms in [0, 10, 4_999, 120_001, u64::MAX] {
        assert!(!bench.permit(Permit { ttl_ms, ..permit(1, 1, 1) }, 0), "{ttl_ms}");
    }
}

#[test]
fn it_says_how_long_nothing_is_due() {
    let mut bench = Bench::holding(off_and_on());
    for (secs, wait) in [(-5, Some(5)), (0, Some(20)), (7, Some(13)), (21, None)] {
        let advance = bench.receiver.advance(at(secs), bench.instant(secs + 5));
        assert_eq!(advance.wait, wait.map(Duration::from_secs), "at {secs} s");
    }
}

/// With random timelines, permits, restarts and times: power is never raised without a live permit,
/// and every lowering that is due happens.
#[test]
fn random_histories_keep_the_rules() {
    for seed in 0..2_000u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = origin();
        let (mut wall, mut mono, mut serial) = (0i64, start, 0u64);
        let mut receiver = Receiver::default();
        let mut permitted: Option<(Permit, Instant)> = None;
        for _ in 0..60 {
            match rng.random_range(0..5) {
                0 => {
                    let actions = [
                        Action::Run,
                        Action::Hold,
                        Action::Drain,
                        Action::Curtail,
                        Action::Lockout,
                    ];
                    let mut steps: Vec<Step> = (0..rng.random_range(0..6))
                        .map(|_| {
                            let name = ["a", "b", "c"][rng.random_range(0..3)];
                            step(
                                wall + rng.random_range(-30..60),
                                actions[rng.random_range(0..5)],
                                &[name],
                            )
                        })
                        .collect();
                    steps.sort_by_key(|step| step.at);
                    receiver.offer(&timeline(
                        rng.random_range(1..3),
                        rng.random_range(1..9),
                        steps,
                    ));
                }
                1 => {
                    serial += 1;
                    let Some(number) = receiver.number() else { continue };
                    let mut machines = BTreeSet::from(["a", "b", "c"].map(MachineId::from));
                    machines.retain(|_| rng.random_bool(0.7));
                    let permit =
                        Permit { number, serial, ttl_ms: 30_000, machines: Arc::new(machines) };
                    if receiver.permit(&permit, at(wall), mono) {
                        permitted = Some((permit, mono + Duration::from_secs(30)));
                    }
                }
                2 => receiver = Receiver::restore(receiver.saved().clone()),
                _ => {
                    let step = rng.random_range(0..20);
                    wall += step;
                    mono += Duration::from_secs(step.unsigned_abs());
                }
            }
            let number = receiver.number();
            let advance = receiver.advance(at(wall), mono);
            for change in &advance.changes {
                let raise = change.to.action < change.from.action;
                let allowed =
                    permitted.as_ref().zip(number).is_some_and(|((permit, until), have)| {
                        let of = permit.number;
                        let is_for_it = of.epoch == have.epoch && of.generation <= have.generation;
                        is_for_it && mono < *until && permit.machines.contains(&change.machine)
                    });
                assert!(!raise || allowed, "seed {seed}: {change:?} rose without a permit");
            }
            if let Some(timeline) = &receiver.saved().timeline {
                for (machine, wanted) in timeline.standing_at(at(wall)) {
                    let have = receiver.applied().get(&machine).copied().unwrap_or_default();
                    assert!(
                        have.action >= wanted.action,
                        "seed {seed}: {machine} is due to be lowered"
                    );
                }
            }
            assert!(
                receiver.advance(at(wall), mono).changes.is_empty(),
                "seed {seed}: applying twice changes nothing"
            );
        }
    }
}

/// Skipping the work while nothing is due changes nothing: compared with a receiver that checks
/// every machine each time, with clocks that drift and jump, permits that come, end and are
/// withdrawn, and newer timelines.
#[test]
fn what_is_skipped_would_have_changed_nothing() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut quick, mut thorough) = (Receiver::default(), Receiver::default());
        let start = origin();
        let (mut millis, mut off, mut generation, mut serial) = (0_i64, 0_i64, 0, 0);
        while millis < 300_000 {
            millis += random.random_range(1..2_000);
            let wall = at(0) + SignedDuration::from_millis(millis + off);
            let now = start + Duration::from_millis(millis.unsigned_abs());
            match random.random_range(0..20) {
                0 => {
                    generation += 1;
                    let due = |random: &mut StdRng| millis / 1000 + random.random_range(-20..120);
                    let mut steps: Vec<Step> = (0..random.random_range(0..6))
                        .map(|_| {
                            let actions = [Action::Run, Action::Drain, Action::Curtail];
                            let action = *actions.choose(&mut random).unwrap();
                            let machine = *["a", "b", "c"].choose(&mut random).unwrap();
                            step(due(&mut random), action, &[machine])
                        })
                        .collect();
                    steps.sort_by_key(|step| step.at);
                    let timeline = timeline(1, generation, steps);
                    assert_eq!(quick.offer(&timeline), thorough.offer(&timeline));
                }
                1..4 => {
                    serial += 1;
                    let ttl_ms = random.random_range(5_000..20_000);
                    let number = Generation { epoch: 1, generation };
                    let mut machines = BTreeSet::from(["a", "b", "c"].map(MachineId::from));
                    machines.retain(|_| random.random_bool(0.7));
                    let permit = Permit { number, serial, ttl_ms, machines: Arc::new(machines) };
                    let taken = quick.permit(&permit, wall, now);
                    assert_eq!(taken, thorough.permit(&permit, wall, now), "seed {seed}");
                }
                4 => {
                    quick.withdraw();
                    thorough.withdraw();
                }
                5 => off = *[-90_000, -1_500, 0, 0, 1_500, 90_000].choose(&mut random).unwrap(),
                6 => off += random.random_range(-500..500),
                _ => {}
            }
            thorough.settled = None;
            let (one, other) = (quick.advance(wall, now), thorough.advance(wall, now));
            assert_eq!(one.changes, other.changes, "seed {seed} at {millis} ms");
            assert_eq!(quick.waiting(), thorough.waiting(), "seed {seed} at {millis} ms");
            assert_eq!(quick.saved(), thorough.saved(), "seed {seed} at {millis} ms");
        }
    }
}

mod clock;
