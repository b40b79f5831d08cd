//! The guard inside the core.

use directive::{GuardCohort, GuardFeed, GuardHold, GuardState, GuardTable, UsableChange};

use super::*;
use crate::guard::OwnGuard;

/// One feed of 60 kW, and four machines of 3 kW that a device reaches.
fn guarded() -> (CoreConfig, Arc<GuardTable>) {
    let meters = vec![("meter".into(), Duration::from_secs(1))];
    let feed = GuardFeed {
        feed: "f".into(),
        parent: None,
        owner: Some("agent".into()),
        meter: Some("meter".into()),
        usable: Watts(60_000),
        rating: Watts(75_000),
        band: Watts(2_000),
        after: 2,
        lag_ms: 0,
        stale_after_ms: 15_000,
        changes: Vec::new(),
    };
    let cohort = GuardCohort {
        feed: "f".into(),
        group: "g".into(),
        frees: Watts(3_000),
        sheds_within_ms: 20_000,
        restores_within_ms: 60_000,
        machines: ["a", "b", "c", "d"].map(MachineId::from).to_vec(),
    };
    let table = GuardTable {
        version: Generation { epoch: 1, generation: 1 },
        feeds: vec![feed],
        cohorts: vec![cohort],
        ramp_per_min: None,
        step_max: None,
        suspect_max_pct: 25,
    };
    (CoreConfig { meters, ..config(&["*"], 8) }, Arc::new(table))
}

/// A timeline that takes over the agent's holds up to number `taken`.
fn taking(generation: u64, taken: u64, steps: Vec<Step>) -> Arc<Timeline> {
    let holds_taken = [("agent".into(), taken)].into();
    Arc::new(Timeline { holds_taken, ..Timeline::clone(&timeline(generation, steps)) })
}

impl Bench {
    /// The meter shows this power. Returns the commands that follow at once.
    fn shows(&mut self, millis: u64, watts: i64) -> Vec<(String, Kind)> {
        self.now = millis;
        let reading = MeterReading { watts: Watts(watts), taken_at: at(millis) };
        self.core.measured(&"meter".into(), Ok(reading), at(millis), self.instant());
        let mut commands = Vec::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Command { machine, kind, .. } => commands.push((machine.to_string(), kind)),
                Output::GiveUpRead(machine) => self.given_up.push(machine),
                Output::GuardTripped(_) | Output::Intend(_) => {}
                output => panic!("{output:?}"),
            }
        }
        commands
    }

    /// The meter shows this power. Returns the machines that are told to sleep at once.
    fn sleeps(&mut self, millis: u64, watts: i64) -> Vec<String> {
        let commands = self.shows(millis, watts).into_iter();
        commands.filter(|(_, kind)| *kind == Kind::Sleep).map(|(machine, _)| machine).collect()
    }

    /// Answers the reads among `commands`, and those that follow: each device says what it said
    /// before. Returns the other commands.
    fn answers(&mut self, commands: Vec<(String, Kind)>) -> Vec<(String, Kind)> {
        let mut others = Vec::new();
        let mut open = commands;
        while let Some((name, kind)) = open.pop() {
            if kind == Kind::Read {
                let machine = MachineId::from(name.as_str());
                let state = self.core.machines[&machine].seen(&machine, |_| false).state;
                open.extend(self.says(&name, state));
            } else {
                others.push((name, kind));
            }
        }
        others
    }

    /// A tick whose reads are answered at once.
    fn goes(&mut self, millis: u64) -> Vec<(String, Kind)> {
        let commands = self.tick_at(millis);
        self.answers(commands)
    }

    /// Takes a permit. Reads are answered at once.
    fn permitted(&mut self, permit: Permit) -> Vec<(String, Kind)> {
        let commands = self.hear(None, Some(permit));
        self.answers(commands)
    }

    fn holds(&self) -> Vec<GuardHold> {
        self.core.state().guard.holds
    }
}

/// A core that knows the table, and whose machines are awake.
fn awake() -> Bench {
    let (config, table) = guarded();
    let mut bench = Bench::new(config, AgentState::default());
    let downlink = Downlink { guard: Some(table), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    let read = ["a", "b", "c", "d"].map(|machine| told(machine, Kind::Read));
    assert_eq!(bench.collect(), read, "the machines of the table are read");
    for machine in ["a", "b", "c", "d"] {
        bench.says(machine, DeviceState::Awake);
    }
    bench
}

/// A core whose guard has put `a` to sleep, in hold 1.
fn held() -> Bench {
    let mut bench = awake();
    bench.hear(Some(timeline(1, vec![])), None);
    assert_eq!(bench.shows(1_000, 61_000), []);
    assert_eq!(bench.shows(2_000, 61_500), [told("a", Kind::Sleep)]);
    bench.obeys("a", Kind::Sleep);
    bench.tick_at(2_000);
    bench.tick_at(3_000);
    assert_eq!(bench.says("a", DeviceState::Asleep), []);
    assert_eq!(bench.shows(25_000, 58_000), []);
    bench.goes(25_000);
    bench
}

fn wakes(commands: &[(String, Kind)]) -> Vec<&str> {
    let wakes = commands.iter().filter(|(_, kind)| *kind == Kind::Wake);
    wakes.map(|(machine, _)| machine.as_str()).collect()
}

#[test]
fn an_excess_is_answered_by_commands_in_the_same_call() {
    let mut bench = awake();
    assert_eq!(bench.shows(1_000, 62_000), []);
    let both = [told("a", Kind::Sleep), told("b", Kind::Sleep)];
    assert_eq!(bench.shows(2_000, 64_000)[..1], both[..1], "by the smaller of the two samples");
    assert_eq!(bench.shows(3_000, 64_000), both[1..]);
    assert_eq!(bench.shows(4_000, 64_000), [], "all is covered");
    assert_eq!(bench.shows(5_000, 76_000), [told("c", Kind::Sleep), told("d", Kind::Sleep)]);
    bench.tick_at(5_000);
    let numbers: Vec<u64> = bench.saved.guard.holds.iter().map(|hold| hold.number).collect();
    assert_eq!(numbers, [1, 2, 3], "the holds are written");
}

/// What is above the limit may be the power of a machine that woke by itself, and only a reading tells
/// which one it is.
#[test]
fn sleeping_machines_are_read_often_while_nothing_else_can_go() {
    let mut bench = awake();
    bench.shows(1_000, 72_000);
    let all = ["a", "b", "c", "d"];
    assert_eq!(bench.sleeps(2_000, 72_000), all);
    for machine in all {
        bench.obeys(machine, Kind::Sleep);
    }
    bench.tick_at(3_000);
    for machine in all {
        bench.says(machine, DeviceState::Asleep);
    }
    assert_eq!(bench.shows(24_000, 58_000), []);
    let reads = |bench: &mut Bench, from: u64, to: u64| {
        let ticks = (from..to).step_by(500).map(|millis| {
            let commands = bench.tick_at(millis);
            let reads = commands.iter().filter(|(_, kind)| *kind == Kind::Read).count();
            assert_eq!(bench.answers(commands), []);
            reads
        });
        ticks.sum::<usize>()
    };
    assert!(reads(&mut bench, 25_000, 45_000) <= 12, "they are read every ten seconds");
    for millis in [45_000, 46_000] {
        let commands = bench.shows(millis, 63_000);
        bench.answers(commands);
    }
    assert!(reads(&mut bench, 46_500, 51_500) >= 16, "they are read every second");
    let commands = bench.shows(52_000, 58_000);
    bench.answers(commands);
    assert!(reads(&mut bench, 53_000, 73_000) <= 12);
}

#[test]
fn a_machine_that_is_read_before_its_first_command_covers_no_excess() {
    let (config, table) = guarded();
    let mut bench = Bench::new(config, AgentState::default());
    let downlink = Downlink { guard: Some(table), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    bench.collect();
    for machine in ["b", "c", "d"] {
        bench.says(machine, DeviceState::Awake);
    }
    // The device of `a` does not answer its first reading.
    let drain = vec![step(0, Action::Drain, Means::Device, &["a"])];
    assert_eq!(bench.hear(Some(timeline(1, drain)), None), []);
    assert_eq!(bench.shows(1_000, 61_000), []);
    assert_eq!(bench.shows(2_000, 61_000), [told("b", Kind::Sleep)]);
    // From its command on, it does.
    assert!(bench.does_not_say("a").contains(&told("a", Kind::Sleep)));
    assert_eq!(bench.shows(3_000, 64_000), []);
    assert_eq!(bench.shows(4_000, 64_000), [], "6 kW are on their way");
    assert_eq!(bench.shows(5_000, 67_000), []);
    assert_eq!(bench.shows(6_000, 67_000), [told("c", Kind::Sleep)]);
}

#[test]
fn a_reading_that_hangs_keeps_no_command_back() {
    let mut bench = awake();
    let reads = ["a", "b", "c", "d"].map(|machine| told(machine, Kind::Read));
    assert_eq!(bench.tick_at(10_000), reads);
    // None of them is answered.
    assert_eq!(bench.shows(11_000, 61_000), []);
    assert_eq!(bench.shows(12_000, 61_500), [told("a", Kind::Sleep)]);
    assert_eq!(bench.given_up, ["a".into()], "the others are read on");
    bench.obeys("a", Kind::Sleep);
    assert_eq!(bench.tick_at(13_000), [told("a", Kind::Read)]);
    assert_eq!(bench.says("a", DeviceState::Asleep), []);
    bench.tick_at(14_000);
    assert_eq!(bench.report_of("a").state, DeviceState::Asleep);
}

/// `a` and `b` have a driver that takes one command at a time, `c` and `d` another one. The machine
/// `a` is told to sleep, and the driver does not answer.
fn stuck() -> Bench {
    let (mut config, table) = guarded();
    config.drivers[0].in_flight = 1;
    config.drivers.push(DriverLimits { name: "other".into(), in_flight: 8 });
    config.assignments[0].claims = Claims::globs(["a", "b"]);
    let other = Assignment {
        claims: Claims::globs(["c", "d"]),
        driver: 1,
        ..config.assignments[0].clone()
    };
    config.assignments.push(other);
    let mut bench = Bench::new(config, AgentState::default());
    let downlink = Downlink { guard: Some(table), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    bench.collect();
    for machine in ["a", "b", "c", "d"] {
        bench.says(machine, DeviceState::Awake);
    }
    bench
}

#[test]
fn a_command_that_its_driver_does_not_take_in_time_covers_no_excess() {
    let mut bench = stuck();
    assert_eq!(bench.sleeps(1_000, 64_000), [""; 0]);
    assert_eq!(bench.sleeps(2_000, 64_000), ["a"], "and `b` waits");
    for millis in [3_000, 7_000, 11_900] {
        assert_eq!(
            bench.sleeps(millis, 64_000),
            [""; 0],
            "two commands of 5 s each are waited for"
        );
    }
    assert_eq!(bench.sleeps(12_000, 64_000), ["c"], "in place of `b`");
    for millis in [15_000, 20_000, 21_900] {
        assert_eq!(bench.sleeps(millis, 64_000), [""; 0], "all is covered");
    }
    // When its driver takes the command of `b`, it counts from then on.
    bench.obeys("a", Kind::Sleep);
    assert!(bench.tick_at(21_950).contains(&told("b", Kind::Sleep)));
    assert_eq!(bench.sleeps(21_990, 64_000), [""; 0]);
    assert_eq!(bench.sleeps(22_000, 67_000), [""; 0], "`b` and `c` make 6 kW");
    assert_eq!(bench.sleeps(23_000, 67_000), ["d"]);
}

#[test]
fn machines_of_a_driver_that_takes_no_command_go_after_all_others() {
    let mut bench = stuck();
    assert_eq!(bench.sleeps(1_000, 61_000), [""; 0]);
    assert_eq!(bench.sleeps(2_000, 61_000), ["a"]);
    // The driver has had the time for one command.
    assert_eq!(bench.sleeps(8_000, 64_000), [""; 0]);
    assert_eq!(bench.sleeps(9_000, 64_000), ["c"], "`b` is before it in the table");
}

#[test]
fn a_hold_outlives_a_timeline_that_does_not_know_it_a_permit_and_a_restart() {
    let mut bench = held();
    let mut seen = bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    seen.extend(bench.hear(Some(taking(3, 0, vec![])), Some(permit(3, 2))));
    seen.extend(bench.tick_at(26_000));
    let (config, table) = guarded();
    let mut bench = Bench::new(config, bench.saved);
    assert_eq!(bench.holds()[0].machines, ["a".into()]);
    assert_eq!(bench.core.state().guard.table, Some(table));
    bench.now = 30_000;
    seen.extend(bench.tick_at(30_000));
    seen.extend(bench.says("a", DeviceState::Asleep));
    seen.extend(bench.hear(None, Some(permit(3, 3))));
    seen.extend(bench.shows(31_000, 40_000));
    seen.extend(bench.tick_at(60_000));
    assert_eq!(wakes(&seen), [] as [&str; 0]);
    // A held machine that wakes is put back to sleep.
    assert!(bench.says("a", DeviceState::Awake).contains(&told("a", Kind::Sleep)));
}

#[test]
fn a_timeline_that_takes_the_hold_over_lifts_it_and_a_later_permit_wakes_the_machine() {
    let mut bench = held();
    let seen = bench.hear(Some(taking(2, 1, vec![])), None);
    assert_eq!((bench.holds(), wakes(&seen)), (vec![], vec![]));
    bench.shows(26_000, 50_000);
    assert_eq!(wakes(&bench.goes(26_000)), [] as [&str; 0]);
    assert_eq!(wakes(&bench.permitted(permit(2, 1))), ["a"]);
    assert_eq!(bench.saved.guard.last_hold, 1);
}

#[test]
fn a_timeline_that_takes_the_hold_over_as_its_own_lets_nothing_wake_in_between() {
    let mut bench = held();
    bench.shows(26_000, 40_000);
    let drain = vec![step(0, Action::Drain, Means::Device, &["a"])];
    let mut seen = bench.hear(Some(taking(2, 1, drain)), Some(permit(2, 1)));
    seen.extend(bench.goes(27_000));
    assert_eq!((bench.holds(), wakes(&seen)), (vec![], vec![]));
    // The same timeline again says nothing of holds made since.
    bench.shows(28_000, 61_500);
    assert_eq!(bench.shows(29_000, 61_500), [told("b", Kind::Sleep)]);
    bench.hear(Some(taking(2, 2, vec![])), Some(permit(2, 1)));
    assert_eq!(bench.holds()[0].number, 2);
}

#[test]
fn a_wake_waits_until_the_feed_has_room_and_then_needs_no_new_permit() {
    let mut bench = held();
    bench.hear(Some(taking(2, 1, vec![])), None);
    bench.shows(26_000, 57_500);
    let mut seen = bench.permitted(permit(2, 1));
    seen.extend(bench.goes(27_000));
    assert_eq!(wakes(&seen), [] as [&str; 0], "60.5 kW of 60");
    bench.shows(28_000, 57_000);
    assert_eq!(wakes(&bench.goes(28_000)), ["a"]);
}

#[test]
fn a_wake_waits_while_the_meter_is_lost() {
    let mut bench = held();
    bench.hear(Some(taking(2, 1, vec![])), None);
    bench.goes(50_000);
    assert_eq!(wakes(&bench.permitted(permit(2, 1))), [] as [&str; 0]);
    bench.shows(51_000, 40_000);
    assert_eq!(wakes(&bench.goes(51_000)), ["a"]);
}

#[test]
fn an_act_voids_the_permit() {
    let mut bench = awake();
    let steps = vec![step(0, Action::Drain, Means::Device, &["d"])];
    bench.hear(Some(timeline(1, steps)), None);
    bench.obeys("d", Kind::Sleep);
    bench.tick_at(1_000);
    bench.says("d", DeviceState::Asleep);
    bench.goes(24_000);
    bench.shows(24_000, 58_500);
    // The wake is permitted, and waits for room.
    let mut seen = bench.hear(Some(timeline(2, vec![])), Some(permit(2, 1)));
    bench.shows(25_000, 62_000);
    bench.shows(26_000, 62_000);
    seen.extend(bench.goes(27_000));
    bench.shows(50_000, 40_000);
    seen.extend(bench.goes(50_000));
    assert_eq!(wakes(&seen), [] as [&str; 0], "there is room, and no permit");
    assert_eq!(wakes(&bench.permitted(permit(2, 2))), ["d"]);
}

#[test]
fn a_plan_and_the_guard_do_not_shed_for_the_same_excess() {
    let mut bench = awake();
    let steps = vec![step(1_500, Action::Drain, Means::Device, &["c", "d"])];
    bench.hear(Some(timeline(1, steps)), None);
    assert_eq!(bench.shows(1_000, 64_000), []);
    assert_eq!(bench.tick_at(1_500), [told("c", Kind::Sleep), told("d", Kind::Sleep)]);
    for millis in [2_000, 5_000, 10_000, 21_000] {
        assert_eq!(bench.shows(millis, 64_000), [], "6 kW are on their way");
    }
    assert_eq!(bench.shows(22_000, 64_000), [told("a", Kind::Sleep), told("b", Kind::Sleep)]);
}

#[test]
fn a_table_of_another_agent_is_kept_and_nothing_is_done() {
    let (config, table) = guarded();
    let mut bench =
        Bench::new(CoreConfig { receiver: "other".into(), ..config }, AgentState::default());
    let downlink = Downlink { guard: Some(table), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    assert_eq!(bench.collect(), []);
    bench.shows(1_000, 90_000);
    assert_eq!(bench.shows(2_000, 90_000), []);
    assert!(bench.saved.guard.table.is_some());
}

#[test]
fn the_guard_is_reported_when_it_acts_and_every_five_seconds() {
    let mut bench = awake();
    let reports = |bench: &mut Bench, millis: u64| {
        bench.now = millis;
        bench.core.tick(at(millis), bench.instant());
        let outputs = std::iter::from_fn(|| bench.core.poll_output());
        let guard = outputs.filter_map(|output| match output {
            Output::ReportGuard(report) => Some(report),
            _ => None,
        });
        guard.collect::<Vec<_>>()
    };
    bench.shows(500, 59_000);
    assert_eq!(reports(&mut bench, 4_999).len(), 0);
    let quiet = reports(&mut bench, 5_000);
    assert_eq!(
        (quiet[0].feeds[0].state, quiet[0].feeds[0].guardable),
        (GuardState::Watching, Watts(12_000))
    );
    bench.shows(6_000, 80_000);
    let acted = reports(&mut bench, 6_000);
    assert_eq!(acted[0].holds[0].machines.len(), 4);
    assert_eq!(
        (acted[0].feeds[0].state, acted[0].feeds[0].wants),
        (GuardState::Tripped, Watts(9_000))
    );
    assert_eq!(acted[0].table, Some(Generation { epoch: 1, generation: 1 }));
}

/// The agent's own settings about a feed of 60 kW, whose machines a driver reaches by name.
fn alone() -> CoreConfig {
    let (mut config, _) = guarded();
    config.assignments[0].claims = Claims::machines(["a", "b", "c", "d"].map(MachineId::from));
    config.own_guards = vec![OwnGuard {
        feed: "f".into(),
        meter: "meter".into(),
        limit: Watts(60_000),
        rating: Watts(75_000),
        machine: Watts(3_000),
        machines: Claims::globs(["*"]),
        stale_after: Duration::from_secs(15),
    }];
    config
}

#[test]
fn an_agent_that_never_heard_a_table_guards_by_its_own_settings() {
    let mut bench = Bench::new(alone(), AgentState::default());
    bench.tick_at(0);
    for machine in ["a", "b", "c", "d"] {
        bench.says(machine, DeviceState::Awake);
    }
    assert_eq!(bench.sleeps(1_000, 61_000), [""; 0]);
    assert_eq!(bench.sleeps(2_000, 61_000), ["a"]);
    bench.tick_at(2_000);
    assert_eq!(bench.saved.guard.table, None, "it was heard from nobody");
    assert_eq!(bench.holds()[0].machines, ["a".into()]);
    // A restart finds the hold, and guards by the settings again.
    let mut again = Bench::new(alone(), bench.saved);
    again.now = 3_000;
    again.tick_at(3_000);
    for machine in ["b", "c", "d"] {
        again.says(machine, DeviceState::Awake);
    }
    assert_eq!(again.sleeps(90_000, 61_000), [""; 0]);
    assert_eq!(again.sleeps(91_000, 61_000), ["b"]);
}

#[test]
fn a_table_that_is_heard_or_was_held_takes_the_place_of_the_agents_settings() {
    let (_, table) = guarded();
    let wide = |generation| {
        let mut table = GuardTable::clone(&table);
        table.version.generation = generation;
        table.feeds[0].usable = Watts(70_000);
        Arc::new(table)
    };
    let mut bench = Bench::new(alone(), AgentState::default());
    let downlink = Downlink { guard: Some(wide(1)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    bench.collect();
    for machine in ["a", "b", "c", "d"] {
        bench.says(machine, DeviceState::Awake);
    }
    for millis in [1_000, 2_000, 3_000] {
        assert_eq!(bench.sleeps(millis, 65_000), [""; 0], "70 kW by the table");
    }
    bench.tick_at(3_000);
    let mut again = Bench::new(alone(), bench.saved);
    again.tick_at(0);
    for machine in ["a", "b", "c", "d"] {
        again.says(machine, DeviceState::Awake);
    }
    for millis in [1_000, 2_000, 3_000] {
        assert_eq!(again.sleeps(millis, 65_000), [""; 0], "70 kW by the table that was kept");
    }
}

#[test]
fn machines_that_become_known_later_are_guarded_by_the_agents_settings_too() {
    let mut config = alone();
    config.assignments[0].claims = Claims::globs(["*"]);
    let mut bench = Bench::new(config, AgentState::default());
    assert_eq!(bench.sleeps(1_000, 70_000), [""; 0]);
    let later = vec![step(80_000_000, Action::Drain, Means::Device, &["x"])];
    bench.hear(Some(timeline(1, later)), None);
    bench.says("x", DeviceState::Awake);
    assert_eq!(bench.sleeps(2_000, 61_000), ["x"]);
}

/// Like [`awake`], with a feed that may carry 50 kW from second 60 to second 120.
fn dated() -> Bench {
    let (config, table) = guarded();
    let mut table = GuardTable::clone(&table);
    let change = |secs: u64, watts| UsableChange { from: at(secs * 1000), usable: Watts(watts) };
    table.feeds[0].changes = vec![change(60, 50_000), change(120, 60_000)];
    let mut bench = Bench::new(config, AgentState::default());
    let downlink = Downlink { guard: Some(Arc::new(table)), ..Downlink::default() };
    bench.core.downlink(&downlink, at(0), bench.instant());
    bench.collect();
    for machine in ["a", "b", "c", "d"] {
        bench.says(machine, DeviceState::Awake);
    }
    bench
}

/// No switchboard says anything from then on.
#[test]
fn a_guard_alone_keeps_a_limit_that_becomes_lower_and_forgets_it_when_it_is_higher_again() {
    let mut bench = dated();
    for millis in [57_000, 58_000, 59_000, 60_000] {
        assert_eq!(bench.sleeps(millis, 54_000), [""; 0], "after one sample at {millis}");
    }
    // 54 kW are 5 kW above the level of 49 kW at which the guard lets go.
    assert_eq!(bench.sleeps(61_000, 54_000), ["a", "b"]);
    assert_eq!(bench.core.guard.table().unwrap().feeds[0].usable, Watts(60_000));
    let mut later = dated();
    for millis in [120_000, 121_000, 122_000] {
        assert_eq!(later.sleeps(millis, 54_000), [""; 0]);
    }
    assert_eq!(later.sleeps(123_000, 61_000), [""; 0]);
    assert_eq!(later.sleeps(124_000, 61_000), ["a"]);
}

#[test]
fn a_stepped_clock_ends_no_lower_limit_and_begins_one_at_once() {
    let mut bench = dated();
    bench.tick_at(1000);
    // The wall clock jumps into the time of the lower limit.
    let shows = |bench: &mut Bench, wall: u64, millis: u64| {
        bench.now = millis;
        let reading = MeterReading { watts: Watts(54_000), taken_at: at(wall) };
        bench.core.measured(&"meter".into(), Ok(reading), at(wall), bench.instant());
        let outputs = std::iter::from_fn(|| bench.core.poll_output());
        let sleeps = |output: &Output| matches!(output, Output::Command { kind: Kind::Sleep, .. });
        outputs.filter(sleeps).count()
    };
    assert_eq!(shows(&mut bench, 90_000, 2000), 0);
    assert_eq!(shows(&mut bench, 91_000, 3000), 2);
    // In it, the wall clock jumps beyond its end.
    let mut bench = dated();
    bench.tick_at(70_000);
    assert_eq!(shows(&mut bench, 500_000, 71_000), 0);
    assert_eq!(shows(&mut bench, 501_000, 72_000), 2);
}
