use std::collections::BTreeSet;
use std::sync::Arc;

use directive::{Action, DriverReport, GroupId, Means, MeterReport, Replica, Step, Watts};
use jiff::SignedDuration;
use rand::prelude::*;

use super::*;
use crate::claims::Claims;

/// An arbitrary instant: tests only add to it.
#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(millis).unwrap()).unwrap()
}

fn step(due: u64, action: Action, means: Means, machines: &[&str]) -> Step {
    let machines = machines.iter().map(|name| MachineId::from(*name)).collect();
    Step {
        at: at(due),
        group: GroupId::from("g"),
        action,
        means,
        machines,
        lease: None,
        reason: "test".into(),
    }
}

fn timeline(generation: u64, steps: Vec<Step>) -> Arc<Timeline> {
    let number = Generation { epoch: 1, generation };
    Arc::new(Timeline {
        number,
        issued_at: at(0),
        horizon: at(86_400_000),
        ledger_head: None,
        steps,
        holds_taken: std::collections::BTreeMap::new(),
    })
}

/// The names of all machines in these tests.
fn everyone() -> Arc<BTreeSet<MachineId>> {
    let letters = ('a'..='z').map(|letter| MachineId::from(letter.to_string()));
    let numbered = (0..100).map(|number| MachineId::from(format!("m{number}")));
    Arc::new(letters.chain(numbered).collect())
}

fn permit(generation: u64, serial: u64) -> Permit {
    let number = Generation { epoch: 1, generation };
    Permit { number, serial, ttl_ms: 60_000, machines: everyone() }
}

fn config(globs: &[&str], in_flight: usize) -> CoreConfig {
    CoreConfig {
        receiver: "agent".into(),
        timing: Timing::default(),
        drivers: vec![DriverLimits { name: "exec".to_owned(), in_flight }],
        assignments: vec![Assignment {
            claims: Claims::globs(globs.iter().copied()),
            driver: 0,
            sleeps_within: Duration::ZERO,
            wakes_within: Duration::ZERO,
        }],
        meters: Vec::new(),
        machines_max: 1000,
        calls_every: None,
        own_guards: Vec::new(),
    }
}

/// Calls a core directly: commands are collected, and writes succeed at once.
struct Bench {
    core: AgentCore,
    start: Instant,
    now: u64,
    saved: AgentState,
    reported: Replica<MachineReport>,
    reported_meters: Vec<MeterReport>,
    reported_drivers: Vec<DriverReport>,
    /// What was announced for the journal.
    intents: Vec<Intent>,
    /// The readings that were given up.
    given_up: Vec<MachineId>,
}

impl Bench {
    fn new(config: CoreConfig, state: AgentState) -> Self {
        let start = origin();
        Self {
            core: AgentCore::new(config, state, ReportSender::new(1), start),
            start,
            now: 0,
            saved: AgentState::default(),
            reported: Replica::default(),
            reported_meters: Vec::new(),
            reported_drivers: Vec::new(),
            intents: Vec::new(),
            given_up: Vec::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn hear(
        &mut self,
        timeline: Option<Arc<Timeline>>,
        permit: Option<Permit>,
    ) -> Vec<(String, Kind)> {
        let downlink = Downlink { timeline, permit, ..Downlink::default() };
        self.core.downlink(&downlink, at(self.now), self.instant());
        self.collect()
    }

    fn tick_at(&mut self, millis: u64) -> Vec<(String, Kind)> {
        self.now = millis;
        self.core.tick(at(self.now), self.instant());
        self.collect()
    }

    fn collect(&mut self) -> Vec<(String, Kind)> {
        let mut commands = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Command { machine, kind, .. } => commands.push((machine.to_string(), kind)),
                Output::Persist { version, state } => {
                    self.saved = *state;
                    self.core.persisted(version, true, self.instant());
                    self.core.tick(at(self.now), self.instant());
                }
                output => self.note(output),
            }
        }
        commands
    }

    /// Notes an output. The link takes every report.
    fn note(&mut self, output: Output) {
        match output {
            Output::Report { delta, .. } => {
                self.core.handed_over();
                assert!(self.reported.take(delta, 1000, |_, _| ()).current);
            }
            Output::Intend(intent) => self.intents.push(intent),
            Output::GiveUpRead(machine) => self.given_up.push(machine),
            Output::ReportMeters(report) => self.reported_meters = report.meters,
            Output::ReportDrivers(report) => self.reported_drivers = report.drivers,
            _ => {}
        }
    }

    fn says(&mut self, machine: &str, state: DeviceState) -> Vec<(String, Kind)> {
        let reading = Reading { state, watts: None, read_at: at(self.now) };
        self.core.read(&machine.into(), Ok(reading), self.instant());
        self.tick_at(self.now)
    }

    fn does_not_say(&mut self, machine: &str) -> Vec<(String, Kind)> {
        self.core.read(&machine.into(), Err(ActuatorError::Timeout { millis: 1 }), self.instant());
        self.tick_at(self.now)
    }

    fn obeys(&mut self, machine: &str, kind: Kind) {
        self.core.commanded(&machine.into(), kind, Ok(()), self.instant());
    }

    fn report_of(&self, machine: &str) -> MachineReport {
        self.reported.entries().get(machine).expect("it is reported").clone()
    }
}

fn told(machine: &str, kind: Kind) -> (String, Kind) {
    (machine.to_owned(), kind)
}

/// A core with one machine `a`, which was drained at 1 s and read asleep, put to sleep by us, at 2
/// s.
fn slept() -> Bench {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &["a"])])), None);
    assert_eq!(bench.says("a", DeviceState::Awake), []);
    assert_eq!(bench.tick_at(1000), [told("a", Kind::Sleep)]);
    bench.obeys("a", Kind::Sleep);
    assert_eq!(bench.tick_at(2000), [told("a", Kind::Read)]);
    assert_eq!(bench.says("a", DeviceState::Asleep), []);
    bench
}

#[test]
fn lowering_goes_in_the_timelines_order_with_bounded_concurrency() {
    let mut bench = Bench::new(config(&["*"], 2), AgentState::default());
    bench.hear(
        Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &["c", "a", "b"])])),
        None,
    );
    for machine in ["a", "b", "c"] {
        bench.says(machine, DeviceState::Awake);
    }
    assert_eq!(bench.tick_at(999), []);
    assert_eq!(bench.tick_at(1000), [told("c", Kind::Sleep), told("a", Kind::Sleep)]);
    bench.obeys("c", Kind::Sleep);
    assert_eq!(bench.tick_at(1001), [told("b", Kind::Sleep)]);
}

#[test]
fn a_restore_needs_a_permit_and_is_on_record_before_the_wake() {
    let mut bench = slept();
    assert_eq!(bench.hear(Some(timeline(2, vec![])), None), []);
    assert_eq!(bench.tick_at(3000), []);
    // The write of the raise is not answered yet, so the wake must wait.
    let downlink = Downlink { permit: Some(permit(2, 1)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(3000), bench.instant());
    let outputs: Vec<Output> = std::iter::from_fn(|| bench.core.poll_output()).collect();
    assert!(
        !outputs.iter().any(|output| matches!(output, Output::Command { kind: Kind::Wake, .. })),
        "{outputs:?}"
    );
    let version = outputs.iter().find_map(|output| match output {
        Output::Persist { version, .. } => Some(*version),
        _ => None,
    });
    bench.core.persisted(version.expect("the raise is written"), true, bench.instant());
    assert_eq!(bench.tick_at(3000), [told("a", Kind::Wake)]);
}

#[test]
fn a_failed_write_holds_wakes_but_not_sleeps() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(None, None);
    // The machine was never read. A curtailment does not wait for a reading.
    let steps = vec![step(0, Action::Curtail, Means::Device, &["a"])];
    let downlink = Downlink { timeline: Some(timeline(1, steps)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    let outputs: Vec<Output> = std::iter::from_fn(|| bench.core.poll_output()).collect();
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Command { kind: Kind::Sleep, .. })),
        "{outputs:?}"
    );
    let Some(Output::Persist { version, .. }) =
        outputs.iter().find(|o| matches!(o, Output::Persist { .. }))
    else {
        panic!("{outputs:?}")
    };
    bench.core.persisted(*version, false, bench.instant());
    bench.core.tick(at(500), bench.start + Duration::from_millis(500));
    assert!(
        bench.core.poll_output().is_none_or(|output| !matches!(output, Output::Persist { .. })),
        "not at once"
    );
    assert!(!bench.core.is_durable());
    bench.tick_at(1100);
    assert!(bench.core.is_durable(), "tried again after a second");
}

#[test]
fn a_machine_that_slept_before_us_is_neither_told_nor_woken() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let shed = vec![
        step(1000, Action::Drain, Means::Device, &["a"]),
        step(60_000, Action::Run, Means::Device, &["a"]),
    ];
    bench.hear(Some(timeline(1, shed)), Some(permit(1, 1)));
    bench.says("a", DeviceState::Asleep);
    assert_eq!(bench.tick_at(1000), [told("a", Kind::Read)], "verified, not told");
    assert_eq!(bench.says("a", DeviceState::Asleep), []);
    bench.hear(None, Some(permit(1, 2)));
    assert!(bench.tick_at(60_000).iter().all(|(_, kind)| *kind == Kind::Read));
    assert!(bench.says("a", DeviceState::Asleep).is_empty(), "it is left as the operator left it");
    // A machine that an operator woke meanwhile counts as ours from the moment we put it to sleep.
    bench.hear(Some(timeline(2, vec![step(60_000, Action::Drain, Means::Device, &["a"])])), None);
    assert_eq!(bench.says("a", DeviceState::Awake), [told("a", Kind::Sleep)]);
    assert_eq!(bench.core.slept_by_us(), 1);
}

#[test]
fn starved_machines_are_never_told_anything() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let mut reads = 0;
    let mut commands =
        bench.hear(Some(timeline(1, vec![step(0, Action::Lockout, Means::Starve, &["a"])])), None);
    for second in 1..60 {
        for (machine, kind) in commands {
            assert_eq!(kind, Kind::Read);
            reads += 1;
            bench.says(&machine, DeviceState::Awake);
        }
        commands = bench.tick_at(second * 1000);
    }
    assert!(reads >= 5, "{reads}: it is read all the same");
}

#[test]
fn a_machine_that_wakes_by_itself_is_put_back_to_sleep_and_reported() {
    let mut bench = slept();
    assert_eq!(bench.tick_at(12_000), [told("a", Kind::Read)]);
    assert_eq!(bench.says("a", DeviceState::Awake), [told("a", Kind::Sleep)]);
    bench.tick_at(12_200);
    let report = bench.report_of("a");
    assert_eq!((report.fault.as_deref(), report.failures), (Some("woke by itself"), 1));
    bench.obeys("a", Kind::Sleep);
    assert_eq!(bench.tick_at(13_200), [told("a", Kind::Read)]);
    bench.says("a", DeviceState::Asleep);
    bench.tick_at(14_300);
    let report = bench.report_of("a");
    assert_eq!(
        (report.fault.as_deref(), report.failures),
        (Some("woke by itself"), 0),
        "told once, remembered while shed"
    );
}

#[test]
fn a_refusal_and_a_lie_are_retried_with_backoff_and_counted() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let steps = vec![step(0, Action::Curtail, Means::Device, &["no", "lies"])];
    let mut open = bench.hear(Some(timeline(1, steps)), None);
    let mut sleeps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for tick in 0..3000u64 {
        open.extend(bench.tick_at(tick * 100));
        for (machine, kind) in std::mem::take(&mut open) {
            if kind == Kind::Read {
                open.extend(bench.says(&machine, DeviceState::Awake));
                continue;
            }
            assert_eq!(kind, Kind::Sleep);
            sleeps.entry(machine.clone()).or_default().push(bench.now);
            let refused = Err(ActuatorError::Refused { why: "no".into() });
            let result = if machine == "no" { refused } else { Ok(()) };
            bench.core.commanded(&MachineId::from(machine), kind, result, bench.instant());
        }
    }
    assert_eq!(sleeps.len(), 2);
    for (machine, times) in sleeps {
        assert!(
            (5..40).contains(&times.len()),
            "{machine}: not given up and not hammered: {times:?}"
        );
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[1] + 1500 >= pair[0]), "{machine}: {gaps:?} grow");
        let report = bench.report_of(&machine);
        assert!(report.failures >= 5 && report.fault.is_some(), "{report:?}");
        assert_eq!(report.state, DeviceState::Awake);
    }
}

#[test]
fn a_machine_that_does_not_answer_is_unknown_not_asleep() {
    let mut bench = slept();
    assert_eq!(bench.tick_at(12_000), [told("a", Kind::Read)]);
    assert_eq!(
        bench.does_not_say("a"),
        [told("a", Kind::Sleep)],
        "what is not confirmed is told again"
    );
    bench.tick_at(12_200);
    let report = bench.report_of("a");
    assert_eq!(report.state, DeviceState::Unknown);
    assert_eq!(report.read_at, Some(at(2000)), "when it last said something");
    assert!(report.fault.unwrap().contains("read: no answer"));
}

#[test]
fn after_a_restart_devices_are_read_first_and_nothing_wakes_without_a_new_permit() {
    let mut bench = slept();
    let release = vec![
        step(1000, Action::Drain, Means::Device, &["a"]),
        step(5000, Action::Run, Means::Device, &["a"]),
    ];
    bench.hear(Some(timeline(2, release)), Some(permit(2, 1)));
    bench.tick_at(4000);
    let mut bench = Bench::new(config(&["*"], 8), bench.saved);
    assert_eq!(bench.tick_at(6000), [told("a", Kind::Read)]);
    assert_eq!(
        bench.says("a", DeviceState::Asleep),
        [],
        "its release fell due meanwhile and waits"
    );
    assert!(bench.tick_at(40_000).iter().all(|(_, kind)| *kind == Kind::Read));
    bench.says("a", DeviceState::Asleep);
    assert_eq!(bench.hear(None, Some(permit(2, 2))), [told("a", Kind::Wake)]);
    bench.obeys("a", Kind::Wake);
    assert_eq!(bench.tick_at(41_000), [told("a", Kind::Read)]);
    bench.says("a", DeviceState::Awake);
    assert_eq!(bench.core.slept_by_us(), 0);
    assert_eq!(bench.saved.marks, BTreeMap::new());
}

#[test]
fn a_sleeper_whose_driver_was_unconfigured_for_a_while_is_not_forgotten() {
    let bench = slept();
    let mut bench = Bench::new(config(&["other.*"], 8), bench.saved);
    bench.hear(Some(timeline(2, vec![])), None);
    assert_eq!(bench.saved.marks.len(), 1, "written again, though no driver reaches it");
    let mut bench = Bench::new(config(&["*"], 8), bench.saved);
    assert_eq!(bench.tick_at(10), [told("a", Kind::Read)]);
    bench.says("a", DeviceState::Asleep);
    assert_eq!(bench.hear(None, Some(permit(2, 1))), [told("a", Kind::Wake)]);
}

#[test]
fn a_full_table_forgets_strangers_and_names_whom_it_cannot_take() {
    let mut bench =
        Bench::new(CoreConfig { machines_max: 2, ..config(&["*"], 8) }, AgentState::default());
    bench.hear(
        Some(timeline(1, vec![step(90_000, Action::Drain, Means::Device, &["a", "b"])])),
        None,
    );
    bench.says("a", DeviceState::Awake);
    bench.says("b", DeviceState::Awake);
    bench.hear(Some(timeline(2, vec![step(90_000, Action::Drain, Means::Device, &["c"])])), None);
    assert_eq!(bench.core.machines.len(), 2);
    assert!(bench.core.machines.contains_key("c"), "a stranger made room");
    let downlink = Downlink {
        timeline: Some(timeline(
            3,
            vec![step(90_000, Action::Drain, Means::Device, &["b", "c", "d"])],
        )),
        ..Downlink::default()
    };
    bench.core.downlink(&downlink, at(bench.now), bench.instant());
    let outputs: Vec<Output> = std::iter::from_fn(|| bench.core.poll_output()).collect();
    assert!(outputs.contains(&Output::Ignored("d".into())), "{outputs:?}");
}

#[test]
fn a_meter_that_hangs_does_not_delay_another_and_the_future_is_no_measurement() {
    let meters =
        vec![("hangs".into(), Duration::from_secs(1)), ("feed".into(), Duration::from_secs(1))];
    let mut bench = Bench::new(CoreConfig { meters, ..config(&[], 1) }, AgentState::default());
    let mut asked: BTreeMap<MeterId, u32> = BTreeMap::new();
    for second in 0..10u64 {
        bench.now = second * 1000;
        bench.core.tick(at(bench.now), bench.instant());
        while let Some(output) = bench.core.poll_output() {
            match output {
                Output::Measure(meter) => {
                    *asked.entry(meter.clone()).or_default() += 1;
                    if meter.as_str() == "feed" {
                        let reading = MeterReading { watts: Watts(5000), taken_at: at(bench.now) };
                        bench.core.measured(&meter, Ok(reading), at(bench.now), bench.instant());
                    }
                }
                output => bench.note(output),
            }
        }
    }
    assert_eq!(asked, [("feed".into(), 10), ("hangs".into(), 1)].into());
    let reports = bench.reported_meters.clone();
    assert_eq!(reports[0].watts, Some(Watts(5000)));
    assert_eq!(reports[1].fault.as_deref(), Some("not read yet"));
    let reading = MeterReading { watts: Watts(1), taken_at: at(100_000) };
    bench.core.measured(&"feed".into(), Ok(reading), at(9000), bench.instant());
    bench.tick_at(10_500);
    let feed = bench.reported_meters[0].clone();
    assert_eq!(feed.watts, None);
    assert!(feed.fault.unwrap().contains("future"));
}

#[test]
fn periods_of_zero_do_not_spin_and_endless_ones_do_not_overflow() {
    for period in [Duration::ZERO, Duration::MAX] {
        let timing = Timing {
            read_at_rest: period,
            read_in_doubt: period,
            follow_sleep: period,
            follow_wake: period,
            retry_first: period,
            retry_max: period,
            report_every: period,
            report_gap: period,
        };
        let meters = vec![("feed".into(), period)];
        let mut bench =
            Bench::new(CoreConfig { timing, meters, ..config(&["*"], 8) }, AgentState::default());
        bench.hear(Some(timeline(1, vec![step(0, Action::Curtail, Means::Device, &["a"])])), None);
        bench.core.commanded(
            &"a".into(),
            Kind::Sleep,
            Err(ActuatorError::Timeout { millis: 1 }),
            bench.instant(),
        );
        bench.tick_at(0);
        let next = bench.core.next_tick(bench.instant());
        assert!(next >= bench.instant() + Duration::from_millis(10), "{period:?}");
    }
}

#[test]
fn a_machine_in_line_keeps_its_place_when_its_drain_becomes_a_curtailment() {
    let mut bench = Bench::new(config(&["*"], 1), AgentState::default());
    bench.hear(
        Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &["c", "b", "a"])])),
        None,
    );
    for _ in 0..2 {
        for machine in ["a", "b", "c"] {
            bench.says(machine, DeviceState::Awake);
        }
    }
    assert_eq!(bench.tick_at(1000), [told("c", Kind::Sleep)]);
    let steps = vec![
        step(1000, Action::Drain, Means::Device, &["c", "a"]),
        step(1000, Action::Curtail, Means::Device, &["b"]),
        step(1000, Action::Drain, Means::Device, &["d"]),
    ];
    bench.now = 1500;
    bench.hear(Some(timeline(2, steps)), None);
    bench.obeys("c", Kind::Sleep);
    let next = bench.tick_at(1600);
    assert!(next.contains(&told("b", Kind::Sleep)), "{next:?}");
}

/// All the lines that the log is given.
fn lines(bench: &mut Bench) -> Vec<String> {
    let told = bench.core.changes.take(bench.instant());
    told.iter().map(|line| format!("{line:?}")).collect()
}

#[test]
fn each_change_of_a_machine_is_told_once() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    bench.hear(Some(timeline(1, vec![step(1000, Action::Drain, Means::Device, &["a"])])), None);
    bench.says("a", DeviceState::Awake);
    bench.tick_at(1000);
    bench.obeys("a", Kind::Sleep);
    let told = lines(&mut bench);
    assert!(told[0].contains("commanded_sleep: 1") && told.len() == 1, "{told:?}");
    assert!(told[0].contains("\"g\""), "the group of the timeline: {told:?}");
    bench.tick_at(2000);
    bench.says("a", DeviceState::Asleep);
    let told = lines(&mut bench);
    assert!(told[0].contains("sleep: 0") && told[0].contains("asleep: 1"), "{told:?}");
    // The machine is read asleep again and again: nothing is logged.
    for second in 12..60 {
        bench.tick_at(second * 1000);
        bench.says("a", DeviceState::Asleep);
    }
    assert_eq!(lines(&mut bench), [""; 0]);
    // The machine wakes by itself and is put to sleep again: this is logged.
    bench.says("a", DeviceState::Awake);
    let told = lines(&mut bench);
    assert!(told[0].contains("failed: 1") && told[0].contains("woke by itself"), "{told:?}");
    // After a restart, a machine that sleeps as before is not logged.
    let mut bench = Bench::new(config(&["*"], 8), slept().saved);
    bench.tick_at(6000);
    bench.says("a", DeviceState::Asleep);
    assert_eq!(lines(&mut bench), [""; 0]);
}

#[test]
fn a_machine_that_never_obeys_is_told_once() {
    let mut bench = Bench::new(config(&["*"], 8), AgentState::default());
    let curtail = vec![step(0, Action::Curtail, Means::Device, &["a"])];
    let mut commands = bench.hear(Some(timeline(1, curtail)), None);
    let mut told = Vec::new();
    for second in 0..600 {
        for (machine, kind) in commands {
            let machine = MachineId::from(machine.as_str());
            if kind == Kind::Read {
                let state = DeviceState::Awake;
                let reading = Reading { state, watts: None, read_at: at(bench.now) };
                bench.core.read(&machine, Ok(reading), bench.instant());
            } else {
                let refused = ActuatorError::Refused { why: "no".into() };
                bench.core.commanded(&machine, kind, Err(refused), bench.instant());
            }
        }
        told.extend(lines(&mut bench));
        commands = bench.tick_at(second * 1000);
    }
    assert!(bench.report_of("a").failures > 5, "it was told again and again");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("commanded_sleep: 1") && told[0].contains("failed: 1"), "{told:?}");
}

mod clock;
mod drivers;
mod guard_world;
mod guarding;
mod owned;
mod patience;
mod simulation;
