//! Slow machines: no command is repeated, and no machine counts as not obeying, before the time
//! that the machines of its driver need.

use super::*;

/// One machine of a driver whose machines sleep within 90 s and wake within 120 s.
fn slow() -> Bench {
    let mut config = config(&["m"], 4);
    config.assignments[0].sleeps_within = Duration::from_secs(90);
    config.assignments[0].wakes_within = Duration::from_secs(120);
    let mut bench = Bench::new(config, AgentState::default());
    let drain = step(1000, Action::Drain, Means::Device, &["m"]);
    bench.hear(Some(timeline(1, vec![drain])), None);
    bench.says("m", DeviceState::Awake);
    assert_eq!(bench.tick_at(1000), [("m".to_owned(), Kind::Sleep)]);
    bench.obeys("m", Kind::Sleep);
    bench
}

/// Answers every read with `state` until `until`, and returns the other commands.
fn watch(bench: &mut Bench, until: u64, state: DeviceState) -> Vec<Kind> {
    let mut told = Vec::new();
    while bench.now < until {
        let now = bench.now + 1000;
        let mut commands = bench.tick_at(now);
        while let Some((_, kind)) = commands.pop() {
            match kind {
                Kind::Read => commands.extend(bench.says("m", state)),
                kind => {
                    told.push(kind);
                    bench.obeys("m", kind);
                }
            }
        }
    }
    told
}

#[test]
fn a_machine_that_falls_asleep_in_its_own_time_is_told_once_and_obeys() {
    let mut bench = slow();
    assert_eq!(watch(&mut bench, 71_000, DeviceState::Awake), []);
    assert_eq!(bench.report_of("m").failures, 0);
    assert_eq!(watch(&mut bench, 100_000, DeviceState::Asleep), []);
    assert_eq!(bench.report_of("m").failures, 0);
}

#[test]
fn one_that_never_does_is_told_again_after_its_time() {
    let mut bench = slow();
    assert_eq!(watch(&mut bench, 90_000, DeviceState::Awake), []);
    assert_eq!(watch(&mut bench, 100_000, DeviceState::Awake), [Kind::Sleep]);
    assert_eq!(bench.report_of("m").failures, 1);
}

#[test]
fn one_that_wakes_in_its_own_time_is_not_told_twice() {
    let mut bench = slow();
    watch(&mut bench, 100_000, DeviceState::Asleep);
    // A second wake command would make the machine start over, so that it would never wake.
    let mut told = Vec::new();
    for serial in 1..=4 {
        for (_, kind) in bench.hear(Some(timeline(2, vec![])), Some(permit(2, serial))) {
            told.push(kind);
            bench.obeys("m", kind);
        }
        told.extend(watch(&mut bench, 100_000 + serial * 25_000, DeviceState::Asleep));
    }
    assert_eq!(told, [Kind::Wake], "within 100 s");
    assert_eq!(watch(&mut bench, 205_000, DeviceState::Awake), []);
    assert_eq!(bench.report_of("m").failures, 0);
}

#[test]
fn one_that_falls_asleep_after_it_was_released_is_woken() {
    let mut bench = slow();
    watch(&mut bench, 4000, DeviceState::Awake);
    bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    assert_eq!(watch(&mut bench, 45_000, DeviceState::Awake), []);
    assert_eq!(watch(&mut bench, 50_000, DeviceState::Asleep), [Kind::Wake]);
}

/// A device that was commanded to wake reports "asleep" until the machine has booted. That reading
/// is not taken as the answer to a later sleep command.
#[test]
fn one_that_must_sleep_while_it_boots_is_told_so_and_watched() {
    let mut bench = slow();
    watch(&mut bench, 100_000, DeviceState::Asleep);
    let told = bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    assert_eq!(told, [("m".to_owned(), Kind::Wake)]);
    bench.obeys("m", Kind::Wake);
    assert_eq!(watch(&mut bench, 110_000, DeviceState::Asleep), []);
    let drain = step(110_000, Action::Drain, Means::Device, &["m"]);
    let told = bench.hear(Some(timeline(3, vec![drain])), None);
    assert_eq!(told, [("m".to_owned(), Kind::Sleep)]);
    bench.obeys("m", Kind::Sleep);
    assert_eq!(watch(&mut bench, 130_000, DeviceState::Asleep), []);
    assert_eq!(bench.report_of("m").state, DeviceState::Unknown, "nobody knows yet");
    // The machine has booted nevertheless, and this reading is the first sign that it draws power.
    assert_eq!(watch(&mut bench, 132_000, DeviceState::Awake), [Kind::Sleep]);
    assert_eq!(bench.report_of("m").failures, 0, "it did what it was told first");
    bench.obeys("m", Kind::Sleep);
    assert_eq!(watch(&mut bench, 140_000, DeviceState::Asleep), []);
    assert_eq!(bench.report_of("m").state, DeviceState::Asleep);
}

/// The machine is told to sleep while it boots, obeys, and never wakes. Its reading "asleep" counts
/// only from the time at which it would have booted.
#[test]
fn one_that_sleeps_again_before_it_has_booted_counts_when_it_would_have_woken() {
    let mut bench = slow();
    watch(&mut bench, 100_000, DeviceState::Asleep);
    bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    bench.obeys("m", Kind::Wake);
    let drain = step(110_000, Action::Drain, Means::Device, &["m"]);
    watch(&mut bench, 110_000, DeviceState::Asleep);
    bench.hear(Some(timeline(3, vec![drain])), None);
    bench.obeys("m", Kind::Sleep);
    assert_eq!(watch(&mut bench, 219_000, DeviceState::Asleep), []);
    assert_eq!(bench.report_of("m").state, DeviceState::Unknown);
    assert_eq!(watch(&mut bench, 240_000, DeviceState::Asleep), []);
    assert_eq!(bench.report_of("m").state, DeviceState::Asleep);
}

/// A read is under way when the machine is shed again. The machine still boots, so the reading would
/// be `asleep`; it is not waited for.
#[test]
fn one_that_still_boots_is_told_to_sleep_whatever_a_read_under_way_would_say() {
    let mut bench = slow();
    watch(&mut bench, 100_000, DeviceState::Asleep);
    bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    bench.obeys("m", Kind::Wake);
    let commands = bench.tick_at(bench.now + 1000);
    assert_eq!(commands, [("m".to_owned(), Kind::Read)]);
    let now = bench.now;
    let drain = step(now, Action::Drain, Means::Device, &["m"]);
    let told = bench.hear(Some(timeline(3, vec![drain])), None);
    assert_eq!(told, [("m".to_owned(), Kind::Sleep)]);
}
