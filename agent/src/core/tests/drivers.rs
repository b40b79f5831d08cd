//! How long commands take, as the agent reports it.

use super::*;

/// The figures that were reported last: commands at once, and the 95th percentile.
fn reported(bench: &Bench) -> Vec<(&str, u32, u64)> {
    let drivers = bench.reported_drivers.iter();
    drivers.map(|one| (one.driver.as_str(), one.concurrency, one.command_p95_ms)).collect()
}

#[test]
fn sleep_commands_are_measured_from_the_call_to_the_answer() {
    let mut bench = Bench::new(config(&["*"], 4), AgentState::default());
    let names: Vec<String> = (0..17).map(|number| format!("m{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.hear(Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &names)])), None);
    for machine in &names {
        bench.says(machine, DeviceState::Awake);
    }
    assert_eq!(reported(&bench), [], "nothing is said before anything is measured");
    let mut under_way = bench.tick_at(1000);
    let mut rounds = 0;
    while !under_way.is_empty() {
        rounds += 1;
        bench.now += 20_000;
        for (machine, kind) in under_way.iter().filter(|(_, kind)| *kind == Kind::Sleep) {
            // The driver fails the first one at once, which says nothing of the others.
            let failed = rounds == 1 && machine == "m00";
            let result = if failed { Err(ActuatorError::Timeout { millis: 1 }) } else { Ok(()) };
            bench.core.commanded(&machine.as_str().into(), *kind, result, bench.instant());
        }
        under_way = bench.tick_at(bench.now);
        under_way.retain(|(_, kind)| *kind == Kind::Sleep);
        if bench.now > 200_000 {
            break;
        }
    }
    bench.tick_at(bench.now + 1000);
    assert_eq!(reported(&bench), [("exec", 4, 20_000)]);
    assert!(rounds >= 5, "17 machines, 4 at once");
}

#[test]
fn the_last_64_commands_count_and_one_slow_one_in_twenty_does_not() {
    let mut durations = Durations::new(2);
    let slow = Duration::from_secs(9);
    for _ in 0..64 {
        durations.note(0, slow);
    }
    assert_eq!(durations.p95(0), Some(slow));
    for _ in 0..61 {
        durations.note(0, Duration::from_millis(300));
    }
    assert_eq!(durations.p95(0), Some(Duration::from_millis(300)));
    durations.note(1, slow);
    assert_eq!((durations.p95(1), durations.p95(2)), (Some(slow), None));
    durations.note(7, slow);
}
