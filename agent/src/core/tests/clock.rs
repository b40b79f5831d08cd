//! The wall clock is stepped while a timeline is in force, or while the agent is down: no sleep
//! comes late, no wake comes early.

use super::*;

/// Seconds by which clocks are stepped: what a time server does, time zones, a wrong date.
const STEPS: [i64; 8] = [-86_400, -3_600, -60, -1, 1, 60, 3_600, 86_400];

/// Returns the second of the monotonic clock at which machine `a`, which is to be drained at 60 s,
/// is told to sleep, when the wall clock is stepped by `step_secs` at `stepped_at`.
fn drained_at(step_secs: i64, stepped_at: u64) -> Option<u64> {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let drain = vec![step(60_000, Action::Drain, Means::Device, &["a"])];
    let mut commands = bench.hear(Some(timeline(1, drain)), None);
    for second in 1..9_000 {
        let off = if second >= stepped_at { step_secs } else { 0 };
        bench.now = second * 1000;
        let wall = at(bench.now) + SignedDuration::from_secs(off);
        for (machine, kind) in std::mem::take(&mut commands) {
            match kind {
                Kind::Read => {
                    let reading = Reading { state: DeviceState::Awake, watts: None, read_at: wall };
                    bench.core.read(&machine.as_str().into(), Ok(reading), bench.instant());
                }
                Kind::Sleep => return Some(second - 1),
                Kind::Wake => panic!("nothing may wake"),
            }
        }
        bench.core.tick(wall, bench.instant());
        while let Some(output) = bench.core.poll_output() {
            match output {
                Output::Command { machine, kind, .. } => commands.push((machine.to_string(), kind)),
                Output::Persist { version, .. } => {
                    bench.core.persisted(version, true, bench.instant());
                }
                _ => {}
            }
        }
    }
    None
}

#[test]
fn f46_no_drain_is_late_because_the_clock_was_stepped() {
    for stepped_at in [1, 11, 59, 60] {
        for step_secs in STEPS {
            let told = drained_at(step_secs, stepped_at).expect("it is drained");
            let in_time = match step_secs {
                // A step of up to a second is followed, as if a time server corrected the clock.
                -1..=1 => 59..=61,
                // The new time may be right, so the drain comes at once if the new time is past 60
                // s.
                2.. => stepped_at..=60,
                _ => 60..=60,
            };
            assert!(in_time.contains(&told), "{step_secs} s at {stepped_at} s: told at {told} s");
        }
    }
}

/// Machine `a` sleeps until its release at 900 s, for which the agent has a permit.
fn released_at_900() -> Bench {
    let mut bench = slept();
    let release = vec![
        step(1000, Action::Drain, Means::Device, &["a"]),
        step(900_000, Action::Run, Means::Device, &["a"]),
    ];
    bench.hear(Some(timeline(2, release)), Some(permit(2, 1)));
    bench
}

/// Returns the second at which `a` is woken, when the wall clock is `off(second)` wrong and the
/// permit is renewed every 30 s.
fn woken_at(mut bench: Bench, off: impl Fn(u64) -> i64) -> Option<u64> {
    for second in bench.now / 1000 + 1..2_000 {
        bench.now = second * 1000;
        let wall = at(bench.now) + SignedDuration::from_secs(off(second));
        let permit = (second % 30 == 0).then(|| permit(2, second));
        let is_due = permit.is_some();
        let downlink = Downlink { permit, ..Downlink::default() };
        if is_due {
            bench.core.downlink(&downlink, wall, bench.instant());
        }
        bench.core.tick(wall, bench.instant());
        while let Some(output) = bench.core.poll_output() {
            match output {
                Output::Persist { version, .. } => {
                    bench.core.persisted(version, true, bench.instant());
                    bench.core.tick(wall, bench.instant());
                }
                Output::Command { machine, kind: Kind::Read, .. } => {
                    let reading =
                        Reading { state: DeviceState::Asleep, watts: None, read_at: wall };
                    bench.core.read(&machine, Ok(reading), bench.instant());
                }
                Output::Command { kind: Kind::Wake, .. } => return Some(second),
                Output::Command { kind: Kind::Sleep, .. } => panic!("it sleeps already"),
                _ => {}
            }
        }
    }
    None
}

#[test]
fn f46_no_wake_is_early_because_the_clock_was_stepped() {
    for stepped_at in [3, 500, 899] {
        for step_secs in STEPS {
            let off = |second| if second >= stepped_at { step_secs } else { 0 };
            let woken = woken_at(released_at_900(), off);
            let case = format!("{step_secs} s at {stepped_at} s: {woken:?}");
            match step_secs {
                -1..=1 => assert!(woken.is_some_and(|at| (899..=901).contains(&at)), "{case}"),
                _ => assert_eq!(woken, None, "{case}"),
            }
            let off = |second| if second == stepped_at { step_secs } else { 0 };
            let woken = woken_at(released_at_900(), off).expect("the clock is right again");
            assert!(
                (900..=930).contains(&woken),
                "{step_secs} s for 1 s at {stepped_at} s: {woken}"
            );
        }
    }
}

#[test]
fn f46_a_clock_that_was_stepped_during_a_restart_wakes_nothing() {
    for step_secs in [-86_400, -3_600, -60] {
        let mut bench = released_at_900();
        bench.tick_at(850_000);
        let now = bench.now;
        let mut bench = Bench::new(config(&["*"], 8), bench.core.state());
        bench.now = now + 5_000;
        // A new switchboard, whose clock is wrong by the same amount, assumes that the lease has
        // not begun yet.
        let wall = at(bench.now) + SignedDuration::from_secs(step_secs);
        let number = Generation { epoch: 2, generation: 1 };
        let none =
            Timeline { number, issued_at: wall, ..Timeline::clone(&timeline(1, Vec::new())) };
        let permit = Permit { number, serial: 1, ttl_ms: 60_000, machines: everyone() };
        let downlink = Downlink {
            timeline: Some(Arc::new(none)),
            permit: Some(permit),
            ..Downlink::default()
        };
        bench.core.downlink(&downlink, wall, bench.instant());
        let outputs: Vec<Output> = std::iter::from_fn(|| bench.core.poll_output()).collect();
        assert!(
            outputs.iter().any(|o| matches!(o, Output::Clock(Some(_)))),
            "{step_secs} s: {outputs:?}"
        );
        assert_eq!(bench.core.receiver().applied().len(), 1, "{step_secs} s");
        assert_eq!(bench.core.receiver().waiting().len(), 1, "{step_secs} s");
    }
}

#[test]
fn the_time_is_written_every_few_minutes_and_at_the_end() {
    let mut bench = slept();
    let seen = |bench: &Bench| bench.saved.saved.seen;
    let before = seen(&bench);
    for second in 3..300 {
        bench.tick_at(second * 1000);
    }
    assert_eq!(seen(&bench), before, "nothing has changed");
    for second in 300..310 {
        bench.tick_at(second * 1000);
    }
    assert!(seen(&bench) >= Some(at(300_000)), "{:?}", seen(&bench));
    assert!(bench.core.wants_last_write());
    assert!(!Bench::new(config(&["*"], 8), AgentState::default()).core.wants_last_write());
}

/// The clock was ahead when the agent began, and is then set right. The corrected time is on disk
/// even if the agent is killed at once.
#[test]
fn a_clock_that_was_set_right_is_on_record_before_a_kill() {
    let mut bench = Bench::new(config(&["m"], 4), AgentState::default());
    let ahead = Duration::from_secs(14 * 86_400);
    let wrong = |millis: u64| at(millis) + ahead;
    let downlink = Downlink { timeline: Some(timeline(1, vec![])), ..Downlink::default() };
    bench.core.downlink(&downlink, wrong(0), bench.instant());
    while let Some(output) = bench.core.poll_output() {
        if let Output::Persist { version, .. } = output {
            bench.core.persisted(version, true, bench.instant());
        }
    }
    bench.now = 1000;
    bench.core.tick(at(1000), bench.instant());
    bench.collect();
    assert!(
        bench.saved.saved.seen.is_some_and(|seen| seen <= at(1000)),
        "{:?}",
        bench.saved.saved.seen
    );
}
