//! Which machines are ours across restarts, lost state and commands without an answer (rows of trials
//! in which machines were forgotten, or believed asleep).

use super::*;
use crate::journal::{Order, fold};
use crate::state::Mark;

/// The outputs of a core, of which the journal takes every intent.
#[derive(Default)]
struct Told {
    intents: Vec<Intent>,
    commands: Vec<(String, Kind)>,
}

fn outputs(bench: &mut Bench) -> Told {
    let mut told = Told::default();
    while let Some(output) = bench.core.poll_output() {
        match output {
            Output::Intend(intent) => told.intents.push(intent),
            Output::Command { machine, kind, .. } => {
                assert!(
                    kind == Kind::Read
                        || told.intents.iter().any(|intent| intent.machine == machine),
                    "{machine}: an intent comes before its command"
                );
                told.commands.push((machine.to_string(), kind));
            }
            // The process dies before the state is written.
            Output::Persist { .. } => {}
            output => bench.note(output),
        }
    }
    told
}

fn owned(names: &[&str]) -> Downlink {
    owned_since(names, 0)
}

fn owned_since(names: &[&str], since: u64) -> Downlink {
    let names = names.iter().map(|name| (MachineId::from(*name), at(since))).collect();
    Downlink { owned: Some(Arc::new(names)), ..Downlink::default() }
}

fn hears(bench: &mut Bench, downlink: &Downlink) -> Vec<(String, Kind)> {
    bench.core.downlink(downlink, at(bench.now), bench.instant());
    bench.collect()
}

/// The agent is killed right after a sleep command, before its state is written.
#[test]
fn a_machine_told_to_sleep_right_before_a_kill_is_woken_later() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let drain = vec![step(0, Action::Curtail, Means::Device, &["a"])];
    let downlink = Downlink { timeline: Some(timeline(1, drain)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    let told_before = outputs(&mut bench);
    assert_eq!(told_before.commands, [told("a", Kind::Sleep)]);
    let mut state = bench.saved;
    assert_eq!(state, AgentState::default(), "nothing was saved");
    assert!(fold(&mut state, &told_before.intents));

    let mut bench = Bench::new(config(&["*"], 8), state);
    bench.hear(Some(timeline(2, vec![])), None);
    bench.says("a", DeviceState::Asleep);
    bench.tick_at(1200);
    assert_eq!(bench.report_of("a").asleep_by, Some(AsleepBy::Us));
    assert_eq!(bench.hear(None, Some(permit(2, 1))), [told("a", Kind::Wake)]);
}

#[test]
fn without_state_the_ledger_says_which_machines_are_ours() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(
        Some(timeline(1, vec![step(90_000, Action::Drain, Means::Device, &["a", "b"])])),
        None,
    );
    // Both sleep, and the agent does not know why.
    bench.says("a", DeviceState::Asleep);
    bench.says("b", DeviceState::Asleep);
    bench.tick_at(200);
    assert_eq!(bench.report_of("a").asleep_by, Some(AsleepBy::Other));
    // The switchboard also names one that no timeline names any more.
    hears(&mut bench, &owned(&["a", "c"]));
    bench.says("c", DeviceState::Asleep);
    bench.tick_at(400);
    let by = |machine: &str| bench.report_of(machine).asleep_by;
    assert_eq!(by("a"), Some(AsleepBy::Us));
    assert_eq!((by("b"), by("c")), (Some(AsleepBy::Other), Some(AsleepBy::Us)));
    let mut woken = bench.hear(None, Some(permit(1, 1)));
    woken.retain(|(_, kind)| *kind != Kind::Read);
    woken.sort();
    assert_eq!(woken, [told("a", Kind::Wake), told("c", Kind::Wake)], "and never b");
    assert_eq!(bench.saved.marks.len(), 3);
}

#[test]
fn a_machine_of_the_ledger_that_is_awake_or_of_another_agent_is_not_taken() {
    let mut bench = Bench::new(config(&["a*"], 8), AgentState::default());
    bench.hear(Some(timeline(1, vec![step(90_000, Action::Drain, Means::Device, &["a1"])])), None);
    bench.says("a1", DeviceState::Awake);
    hears(&mut bench, &owned(&["a1", "b1"]));
    bench.tick_at(1000);
    assert_eq!(bench.report_of("a1").asleep_by, None);
    assert!(!bench.reported.entries().contains_key("b1"), "no driver of this agent claims it");
    assert!(bench.core.state().marks.is_empty());
}

/// The ledger's word counts once: a person who puts the machine to sleep after it was seen awake is
/// not overruled because the switchboard has not heard of that yet.
#[test]
fn the_ledgers_word_counts_once() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(Some(timeline(1, vec![])), None);
    hears(&mut bench, &owned(&["a"]));
    bench.says("a", DeviceState::Asleep);
    assert_eq!(bench.hear(None, Some(permit(1, 1))), [told("a", Kind::Wake)]);
    bench.obeys("a", Kind::Wake);
    bench.tick_at(30_000);
    bench.says("a", DeviceState::Awake);
    assert_eq!(bench.core.slept_by_us(), 0);
    bench.tick_at(60_000);
    bench.says("a", DeviceState::Asleep);
    hears(&mut bench, &owned(&["a", "b"]));
    bench.tick_at(61_000);
    assert_eq!(bench.report_of("a").asleep_by, Some(AsleepBy::Other));
    // The person has it adopted: the ledger says so with another time.
    hears(&mut bench, &owned_since(&["a", "b"], 70_000));
    bench.tick_at(71_000);
    assert_eq!(bench.report_of("a").asleep_by, Some(AsleepBy::Us));
}

/// N1: a former life told the machine to wake, and it still boots, so that its device says that it
/// sleeps. It is told to sleep at once, and counts as asleep only when it would have booted.
#[test]
fn a_machine_that_a_former_life_told_to_wake_is_told_to_sleep_at_once() {
    let mut bench = slept();
    assert_eq!(bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1))), [told("a", Kind::Wake)]);
    assert!(bench.saved.marks["a"].woken_at.is_some());
    let state = bench.saved;
    for action in [Action::Drain, Action::Curtail] {
        let mut bench = Bench::new(config(&["*"], 8), state.clone());
        let drain = vec![step(0, action, Means::Device, &["a"])];
        let mut told_now = bench.hear(Some(timeline(3, drain)), None);
        told_now.retain(|(_, kind)| *kind == Kind::Sleep);
        // The read that began at the start is under way; it comes first at the latest.
        if told_now.is_empty() {
            told_now = bench.says("a", DeviceState::Asleep);
        }
        assert_eq!(told_now, [told("a", Kind::Sleep)], "{action:?}");
        bench.obeys("a", Kind::Sleep);
        bench.tick_at(2000);
        bench.says("a", DeviceState::Asleep);
        bench.tick_at(2200);
        assert_eq!(bench.report_of("a").state, DeviceState::Unknown, "it may still boot");
        bench.tick_at(61_000);
        bench.says("a", DeviceState::Asleep);
        bench.tick_at(62_200);
        assert_eq!(bench.report_of("a").state, DeviceState::Asleep);
    }
}

/// The device takes 45 s to fall asleep, its group is said to take 20, and the need ends after 3.
#[test]
fn a_sleep_whose_need_ended_before_it_took_effect_is_undone() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &["a"])])), None);
    bench.says("a", DeviceState::Awake);
    assert_eq!(bench.tick_at(1000), [told("a", Kind::Sleep)]);
    bench.obeys("a", Kind::Sleep);
    bench.now = 4000;
    let release = bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    assert_eq!(release, [told("a", Kind::Wake)]);
    bench.obeys("a", Kind::Wake);
    for second in 5..46 {
        for (_, kind) in bench.tick_at(second * 1000) {
            assert_eq!(kind, Kind::Read);
            bench.says("a", DeviceState::Awake);
        }
    }
    assert_eq!(bench.core.slept_by_us(), 1, "the command may still take effect");
    // The agent is restarted in between: that changes nothing.
    let mut bench = Bench::new(config(&["*"], 8), bench.saved);
    bench.now = 46_000;
    bench.hear(Some(timeline(2, vec![])), None);
    bench.says("a", DeviceState::Awake);
    assert_eq!(bench.core.slept_by_us(), 1);
    bench.tick_at(57_000);
    bench.says("a", DeviceState::Asleep);
    assert_eq!(bench.hear(None, Some(permit(2, 1))), [told("a", Kind::Wake)]);
}

#[test]
fn a_sleep_that_never_took_effect_is_forgotten_in_the_end() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &["a"])])), None);
    bench.says("a", DeviceState::Awake);
    bench.tick_at(1000);
    bench.obeys("a", Kind::Sleep);
    bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    bench.obeys("a", Kind::Wake);
    let mut reads = 0;
    for second in 2..=620 {
        for _ in bench.tick_at(second * 1000) {
            reads += 1;
            bench.says("a", DeviceState::Awake);
        }
    }
    assert_eq!(bench.core.slept_by_us(), 0);
    assert!((60..120).contains(&reads), "{reads}: it is not asked every second for that long");
    assert_eq!(bench.saved.marks, BTreeMap::new());
}

#[test]
fn a_command_without_an_answer_is_read_back_before_it_is_counted_or_repeated() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let curtail = vec![step(0, Action::Curtail, Means::Device, &["a", "b"])];
    bench.hear(Some(timeline(1, curtail)), None);
    let timeout = || Err(ActuatorError::Timeout { millis: 30_000 });
    bench.now = 30_000;
    for machine in ["a", "b"] {
        bench.core.commanded(&machine.into(), Kind::Sleep, timeout(), bench.instant());
    }
    assert_eq!(bench.tick_at(30_000), [told("a", Kind::Read), told("b", Kind::Read)]);
    bench.tick_at(30_200);
    assert_eq!(bench.report_of("a").failures, 0, "nothing is known yet");
    // The command had reached one of the devices.
    assert_eq!(bench.says("a", DeviceState::Asleep), []);
    assert_eq!(bench.says("b", DeviceState::Awake), []);
    bench.tick_at(31_000);
    assert_eq!(bench.report_of("a").failures, 0);
    let report = bench.report_of("b");
    assert_eq!(report.failures, 1);
    assert!(report.fault.unwrap().contains("sleep: no answer"));
    assert!(bench.tick_at(31_500).contains(&told("b", Kind::Read)));
    bench.says("b", DeviceState::Awake);
    let again = bench.tick_at(33_000);
    assert!(again.contains(&told("b", Kind::Sleep)) && !again.contains(&told("a", Kind::Sleep)));
}

/// The command that was given at `bench.now` gets no answer within `millis`.
fn no_answer(bench: &mut Bench, machine: &str, kind: Kind, millis: u64) {
    bench.now += millis;
    let timeout = Err(ActuatorError::Timeout { millis });
    bench.core.commanded(&machine.into(), kind, timeout, bench.instant());
}

/// Answers every read of `a` with `state`, or with none, up to the second `until`. Returns the other
/// commands and their seconds.
fn told_until(bench: &mut Bench, until: u64, state: Option<DeviceState>) -> Vec<(u64, Kind)> {
    let mut told = Vec::new();
    for second in bench.now / 1000 + 1..until {
        let mut commands = bench.tick_at(second * 1000);
        while let Some((_, kind)) = commands.pop() {
            match (kind, state) {
                (Kind::Read, Some(state)) => commands.extend(bench.says("a", state)),
                (Kind::Read, None) => commands.extend(bench.does_not_say("a")),
                _ => told.push((second, kind)),
            }
        }
    }
    told
}

/// A second wake command would make a machine that boots start over, and one that boots may answer
/// no read.
#[test]
fn a_wake_without_an_answer_is_not_repeated_while_the_machine_may_boot() {
    for state in [Some(DeviceState::Asleep), Some(DeviceState::Unknown), None] {
        let mut bench = slept();
        let woken = bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
        assert_eq!(woken, [told("a", Kind::Wake)]);
        no_answer(&mut bench, "a", Kind::Wake, 30_000);
        assert_eq!(bench.hear(None, Some(permit(2, 2))), [told("a", Kind::Read)]);
        match state {
            Some(state) => bench.says("a", state),
            None => bench.does_not_say("a"),
        };
        let told_again = told_until(&mut bench, 70, state);
        assert_eq!(told_again.len(), 1, "{state:?}: {told_again:?}");
        assert!(told_again[0].0 >= 62, "{state:?}, after the time of its group: {told_again:?}");
        assert_eq!(bench.report_of("a").failures, 1);
    }
}

#[test]
fn a_machine_that_answers_nothing_while_it_boots_and_then_runs_has_not_failed() {
    let mut bench = slept();
    bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    no_answer(&mut bench, "a", Kind::Wake, 30_000);
    bench.hear(None, Some(permit(2, 2)));
    bench.does_not_say("a");
    assert_eq!(told_until(&mut bench, 55, None), []);
    assert_eq!(told_until(&mut bench, 80, Some(DeviceState::Awake)), []);
    assert_eq!(bench.report_of("a").failures, 0);
}

/// The driver's time limit is shorter than the machine needs to fall asleep.
#[test]
fn a_sleep_without_an_answer_gets_the_time_of_its_group() {
    let start = || {
        let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
        let curtail = vec![step(0, Action::Curtail, Means::Device, &["a"])];
        bench.hear(Some(timeline(1, curtail)), None);
        no_answer(&mut bench, "a", Kind::Sleep, 5000);
        assert_eq!(bench.tick_at(5000), [told("a", Kind::Read)]);
        bench
    };
    let mut bench = start();
    bench.says("a", DeviceState::Awake);
    assert_eq!(told_until(&mut bench, 19, Some(DeviceState::Awake)), []);
    assert_eq!(bench.report_of("a").failures, 0, "it needs up to 20 s");
    let told_again = told_until(&mut bench, 25, Some(DeviceState::Awake));
    assert!(matches!(told_again[..], [(20..=23, Kind::Sleep)]), "{told_again:?}");
    bench.tick_at(25_000);
    assert_eq!(bench.report_of("a").failures, 1);
    // One that falls asleep in its time has not failed.
    let mut bench = start();
    bench.says("a", DeviceState::Awake);
    assert_eq!(told_until(&mut bench, 15, Some(DeviceState::Awake)), []);
    assert_eq!(told_until(&mut bench, 40, Some(DeviceState::Asleep)), []);
    assert_eq!(bench.report_of("a").failures, 0);
    // One that answers nothing at all is told again soon: its load must go.
    let mut bench = start();
    bench.does_not_say("a");
    let told_again = told_until(&mut bench, 9, None);
    assert!(matches!(told_again[..], [(6..=8, Kind::Sleep)]), "{told_again:?}");
    assert_eq!(bench.report_of("a").failures, 1);
}

#[test]
fn a_command_that_is_not_on_disk_is_reported_until_it_is() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let curtail = vec![step(0, Action::Curtail, Means::Device, &["a"])];
    let downlink = Downlink { timeline: Some(timeline(1, curtail)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    let intents = outputs(&mut bench).intents;
    assert_eq!((intents.len(), intents[0].order), (1, Order::Sleep));
    bench.core.unrecorded(intents[0].number);
    bench.core.tick(at(200), bench.instant() + Duration::from_millis(200));
    outputs(&mut bench);
    assert!(bench.report_of("a").unrecorded);
    assert_eq!(bench.core.lost_intents(), 1);
    bench.core.recorded(intents[0].number);
    bench.core.tick(at(400), bench.instant() + Duration::from_millis(400));
    outputs(&mut bench);
    assert!(!bench.report_of("a").unrecorded);
    assert_eq!(bench.core.lost_intents(), 0);
}

#[test]
fn a_command_that_is_not_on_disk_is_not_repeated_once_the_ledger_has_it() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let curtail = vec![step(0, Action::Curtail, Means::Device, &["a"])];
    let downlink = Downlink { timeline: Some(timeline(1, curtail)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    let number = outputs(&mut bench).intents[0].number;
    bench.core.unrecorded(number);
    bench.core.downlink(&owned(&["a"]), at(500), bench.instant() + Duration::from_millis(500));
    outputs(&mut bench);
    let report = bench.report_of("a");
    assert_eq!((report.asleep_by, report.unrecorded), (Some(AsleepBy::Us), false));
}

#[test]
fn numbers_of_intents_go_on_after_a_restart() {
    let bench = slept();
    let first = bench.intents[0].number;
    let saved = bench.saved;
    assert_eq!(saved.intents, first);
    assert_eq!(saved.marks["a"], Mark { woken_at: None, ..Mark::ours(Some(at(1000))) });
    let mut bench = Bench::new(config(&["*"], 8), saved);
    bench.hear(Some(timeline(2, vec![])), None);
    bench.says("a", DeviceState::Asleep);
    assert_eq!(bench.hear(None, Some(permit(2, 1))), [told("a", Kind::Wake)]);
    assert_eq!(bench.intents[0].order, Order::Wake);
    assert!(bench.intents[0].number > first);
    assert_eq!(bench.saved.intents, bench.intents[0].number);
}

/// The agent loses its files and starts anew. Later, a copy of its former state is put back, which
/// contains many intents; the journal is the new one.
#[test]
fn an_older_state_that_is_put_back_hides_no_newer_intent() {
    let mut copy = slept().saved;
    copy.intents += 500;
    copy.marks.clear();
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.now = 3_600_000;
    bench.hear(Some(timeline(1, vec![step(0, Action::Curtail, Means::Device, &["b", "c"])])), None);
    let numbers: Vec<u64> = bench.intents.iter().map(|intent| intent.number).collect();
    assert_eq!(numbers.len(), 2);
    assert_eq!(numbers[1], numbers[0] + 1, "only the first of a life is a time");
    assert_eq!(bench.core.lost_intents(), 0);
    bench.core.unrecorded(numbers[1]);
    assert_eq!(bench.core.lost_intents(), 2, "the gap before them is none of them");
    assert!(fold(&mut copy, &bench.intents));
    assert_eq!(copy.marks.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

/// The clock was years ahead once. Numbers go on from there.
#[test]
fn numbers_of_intents_rise_also_when_the_clock_is_behind() {
    let state = AgentState { intents: u64::MAX / 4, ..AgentState::default() };
    let mut bench = Bench::new(config(&["*"], 8), state);
    bench.hear(Some(timeline(1, vec![step(0, Action::Curtail, Means::Device, &["a"])])), None);
    assert_eq!(bench.intents[0].number, u64::MAX / 4 + 1);
}
