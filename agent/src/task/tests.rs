use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use directive::{
    Action, DeviceState, Generation, GroupId, GuardFeed, GuardTable, InProcess, MachineReport,
    Means, MeterReport, Outlet, Pending, Permit, ReceiverRole, Replica, Step, Timeline, Watts,
    in_process,
};
use jiff::SignedDuration;

use super::*;
use crate::claims::Claims;

/// Devices that obey at once, except one that makes its driver panic and one that never answers.
#[derive(Default)]
struct FakeDevices {
    asleep: Mutex<BTreeMap<MachineId, bool>>,
    wakes: Mutex<Vec<MachineId>>,
    /// Whether readings are not answered from now on.
    reads_hang: AtomicBool,
    /// The number of readings that hang.
    hanging: AtomicUsize,
}

/// A reading that hangs, until it is given up.
struct Hanging<'a>(&'a AtomicUsize);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeDevices {
    async fn reach(&self, machine: &MachineId) {
        match machine.as_str() {
            "panics" => panic!("a broken driver"),
            "hangs" => std::future::pending().await,
            _ => {}
        }
    }

    fn is_asleep(&self, machine: &str) -> bool {
        self.asleep.lock().unwrap().get(machine).copied().unwrap_or(false)
    }
}

impl Actuator for FakeDevices {
    fn sleep<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>> {
        Box::pin(async move {
            self.reach(machine).await;
            self.asleep.lock().unwrap().insert(machine.clone(), true);
            Ok(())
        })
    }

    fn wake<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>> {
        Box::pin(async move {
            self.reach(machine).await;
            self.asleep.lock().unwrap().insert(machine.clone(), false);
            self.wakes.lock().unwrap().push(machine.clone());
            Ok(())
        })
    }

    fn read<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<Reading, ActuatorError>> {
        Box::pin(async move {
            self.reach(machine).await;
            if self.reads_hang.load(Ordering::SeqCst) {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                let _reading = Hanging(&self.hanging);
                std::future::pending::<()>().await;
            }
            let state = if self.is_asleep(machine.as_str()) {
                DeviceState::Asleep
            } else {
                DeviceState::Awake
            };
            Ok(Reading { state, watts: None, read_at: clock::wall() })
        })
    }
}

struct Fixed(Watts);

impl Meter for Fixed {
    fn read(&self) -> Pending<'_, Result<MeterReading, MeterError>> {
        Box::pin(async { Ok(MeterReading { watts: self.0, taken_at: clock::wall() }) })
    }
}

struct HangingMeter;

impl Meter for HangingMeter {
    fn read(&self) -> Pending<'_, Result<MeterReading, MeterError>> {
        Box::pin(std::future::pending())
    }
}

fn config(dir: &Path) -> AgentConfig {
    let timing = Timing {
        read_at_rest: Duration::from_millis(100),
        read_in_doubt: Duration::from_millis(20),
        follow_sleep: Duration::from_millis(300),
        follow_wake: Duration::from_millis(300),
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(200),
        report_every: Duration::from_millis(50),
        report_gap: Duration::from_millis(5),
    };
    AgentConfig {
        timing,
        answer_timeout: Duration::from_millis(100),
        ..AgentConfig::new("agent-1", dir.join("agent.json"))
    }
}

/// Assigns the machines that `glob` matches to the first driver.
fn all(glob: &str) -> Assignment {
    Assignment {
        claims: Claims::globs([glob]),
        driver: 0,
        sleeps_within: Duration::ZERO,
        wakes_within: Duration::ZERO,
    }
}

fn start(dir: &Path, devices: &Arc<FakeDevices>, link: InProcess) -> (Agent, CancellationToken) {
    start_with(config(dir), devices, link)
}

fn start_with(
    config: AgentConfig,
    devices: &Arc<FakeDevices>,
    link: InProcess,
) -> (Agent, CancellationToken) {
    let driver = Driver {
        name: String::new(),
        actuator: devices.clone(),
        in_flight: 4,
        timeout: Duration::ZERO,
        summary: "fake".into(),
    };
    let period = Duration::from_millis(20);
    let meters = vec![
        MeterSetup { id: "hangs".into(), meter: Arc::new(HangingMeter), period },
        MeterSetup { id: "feed".into(), meter: Arc::new(Fixed(Watts(4200))), period },
    ];
    let stop = CancellationToken::new();
    let devices = Devices {
        drivers: vec![driver],
        assignments: vec![all("*")],
        meters,
        ..Devices::default()
    };
    let agent = Agent::spawn(config, devices, link, Metrics::default(), stop.clone()).unwrap();
    (agent, stop)
}

/// An agent without devices, whose task is not started.
fn running(dir: &Path) -> Running {
    Running::new(config(dir), Devices::default(), Metrics::default()).expect("it starts")
}

fn drain(generation: u64, machines: &[&str]) -> Arc<Timeline> {
    let at = clock::wall();
    let step = Step {
        at,
        group: GroupId::from("g"),
        action: Action::Drain,
        means: Means::Device,
        machines: machines.iter().map(|name| MachineId::from(*name)).collect(),
        lease: None,
        reason: "test".into(),
    };
    let steps = if machines.is_empty() { Vec::new() } else { vec![step] };
    let number = Generation { epoch: 1, generation };
    Arc::new(Timeline {
        number,
        issued_at: at,
        horizon: at + SignedDuration::from_hours(1),
        ledger_head: None,
        steps,
        holds_taken: std::collections::BTreeMap::new(),
    })
}

fn permit(generation: u64, serial: u64) -> Permit {
    let number = Generation { epoch: 1, generation };
    let machines = ["a", "b", "c", "d", "acme.rig-1"].map(MachineId::from).into();
    Permit { number, serial, ttl_ms: 60_000, machines: Arc::new(machines) }
}

/// A timeout that is longer than any step of these tests takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The switchboard's end of the link, and what it knows from the reports.
struct Heard {
    outlet: Outlet,
    machines: Replica<MachineReport>,
    meters: BTreeMap<MeterId, MeterReport>,
    number: Option<Generation>,
}

fn linked() -> (InProcess, Heard) {
    let (link, outlet) = in_process("agent-1".into(), ReceiverRole::Agent);
    let (machines, meters) = (Replica::default(), BTreeMap::new());
    (link, Heard { outlet, machines, meters, number: None })
}

impl Heard {
    fn update(&self, change: impl FnOnce(&mut Downlink)) {
        self.outlet.update(change);
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Machines(delta) => {
                self.number = delta.number;
                let taken = self.machines.take(delta, 100, |_, _| ());
                if taken.asked.is_some() {
                    self.outlet.update(|down| down.resync = self.machines.resync());
                }
            }
            Report::Meters(meters) => {
                self.meters
                    .extend(meters.meters.into_iter().map(|read| (read.meter.clone(), read)));
            }
            Report::Guard(_) | Report::Drivers(_) => {}
            Report::Sessions(_) => panic!("an agent has no sessions"),
        }
    }

    /// Takes reports until `wanted` returns `true`.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let search = async {
            while !wanted(self) {
                let Some(report) = self.outlet.report().await else {
                    panic!("the agent ended before: {what}")
                };
                self.take(report);
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn state(&self, machine: &str) -> Option<DeviceState> {
        self.machines.entries().get(machine).map(|found| found.state)
    }

    fn failures(&self, machine: &str) -> u32 {
        self.machines.entries().get(machine).map_or(0, |found| found.failures)
    }

    fn meter_watts(&self, meter: &str) -> Option<Watts> {
        self.meters.get(meter).and_then(|read| read.watts)
    }
}

#[tokio::test]
async fn machines_drain_and_come_back_while_other_drivers_hang_and_panic() {
    let dir = tempfile::tempdir().unwrap();
    let devices = Arc::new(FakeDevices::default());
    let (link, mut heard) = linked();
    let (agent, stop) = start(dir.path(), &devices, link);
    heard.update(|down| down.timeline = Some(drain(1, &["panics", "hangs", "a"])));
    heard
        .until("a sleeps and the broken ones are counted", |heard| {
            heard.state("a") == Some(DeviceState::Asleep)
                && heard.failures("panics") >= 2
                && heard.failures("hangs") >= 2
        })
        .await;
    assert_eq!(heard.state("panics"), Some(DeviceState::Unknown));
    heard
        .until("the hanging meter is lost", |heard| {
            heard.meters.values().any(|meter| {
                meter.fault.as_deref().is_some_and(|fault| fault.contains("no answer"))
            })
        })
        .await;
    assert_eq!(heard.meter_watts("feed"), Some(Watts(4200)), "the other meter reads on");

    heard.update(|down| down.timeline = Some(drain(2, &[])));
    heard
        .until("the release is known", |heard| {
            heard.number.is_some_and(|number| number.generation == 2)
        })
        .await;
    assert!(devices.is_asleep("a"), "no permit, no wake");
    heard.update(|down| down.permit = Some(permit(2, 1)));
    heard.until("a is back", |heard| heard.state("a") == Some(DeviceState::Awake)).await;
    stop.cancel();
    agent.ended().await.unwrap();
}

#[tokio::test]
async fn a_machine_that_must_sleep_does_not_wait_for_a_reading_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let devices = Arc::new(FakeDevices::default());
    let (link, mut heard) = linked();
    let patient = AgentConfig { answer_timeout: Duration::from_mins(10), ..config(dir.path()) };
    let (agent, stop) = start_with(patient, &devices, link);
    let later = clock::wall() + SignedDuration::from_hours(1);
    let mut named = Timeline::clone(&drain(1, &["a"]));
    named.steps[0].at = later;
    heard.update(|down| down.timeline = Some(Arc::new(named)));
    heard.until("a is read", |heard| heard.state("a") == Some(DeviceState::Awake)).await;
    devices.reads_hang.store(true, Ordering::SeqCst);
    while devices.hanging.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    heard.update(|down| down.timeline = Some(drain(2, &["a"])));
    while !devices.is_asleep("a") || devices.hanging.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    devices.reads_hang.store(false, Ordering::SeqCst);
    heard.until("a sleeps", |heard| heard.state("a") == Some(DeviceState::Asleep)).await;
    stop.cancel();
    agent.ended().await.unwrap();
}

#[tokio::test]
async fn the_hook_runs_for_a_feed_that_no_machine_can_help() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let script = dir.path().join("hook.sh");
    std::fs::write(&script, "echo $TIELINE_FEED $TIELINE_REASON >> \"$1\"\n").unwrap();
    let command = ["/bin/sh", script.to_str().unwrap(), told.to_str().unwrap()];
    let hook = Hook {
        feed_over: command.map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(60),
        every: Duration::from_secs(300),
        spot: None,
    };
    let period = Duration::from_millis(20);
    let meters = vec![MeterSetup { id: "m".into(), meter: Arc::new(Fixed(Watts(4200))), period }];
    let devices = Devices { meters, hook: Some(hook), ..Devices::default() };
    let (link, heard) = linked();
    heard.update(|down| down.guard = Some(Arc::new(bare_table())));
    let stop = CancellationToken::new();
    let metrics = Metrics::default();
    let agent = Agent::spawn(config(dir.path()), devices, link, metrics, stop.clone()).unwrap();
    while !std::fs::read_to_string(&told).is_ok_and(|told| told.ends_with('\n')) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    agent.ended().await.unwrap();
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "f above_rating\n", "once");
}

/// A feed that may carry 3 kW, without machines.
fn bare_table() -> GuardTable {
    let feed = GuardFeed {
        feed: "f".into(),
        parent: None,
        owner: Some("agent-1".into()),
        meter: Some("m".into()),
        usable: Watts(3_000),
        rating: Watts(4_000),
        band: Watts(100),
        after: 2,
        lag_ms: 0,
        stale_after_ms: 15_000,
        changes: Vec::new(),
    };
    GuardTable {
        version: Generation { epoch: 1, generation: 1 },
        feeds: vec![feed],
        cohorts: Vec::new(),
        ramp_per_min: None,
        step_max: None,
        suspect_max_pct: 25,
    }
}

#[tokio::test]
async fn a_full_report_is_made_when_the_switchboard_asks_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let devices = Arc::new(FakeDevices::default());
    let (link, mut heard) = linked();
    let (agent, stop) = start(dir.path(), &devices, link);
    heard.update(|down| down.timeline = Some(drain(1, &["a"])));
    heard.until("a sleeps", |heard| heard.state("a") == Some(DeviceState::Asleep)).await;
    // The switchboard loses its copy, and the next report has only changes.
    heard.machines = Replica::default();
    heard.until("a is known again", |heard| heard.state("a") == Some(DeviceState::Asleep)).await;
    assert_eq!(heard.machines.resync(), 1);
    stop.cancel();
    agent.ended().await.unwrap();
}

#[tokio::test]
async fn a_restart_remembers_who_was_put_to_sleep_and_wakes_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let devices = Arc::new(FakeDevices::default());
    let (link, mut heard) = linked();
    let (agent, stop) = start(dir.path(), &devices, link);
    heard.update(|down| down.timeline = Some(drain(1, &["a"])));
    heard.until("a sleeps", |heard| heard.state("a") == Some(DeviceState::Asleep)).await;
    stop.cancel();
    agent.ended().await.unwrap();

    // The machine wakes while the agent is down, and there is no switchboard. The stored standing
    // still holds, so the machine is put to sleep again.
    devices.asleep.lock().unwrap().clear();
    let (link, mut heard) = linked();
    let (agent, stop) = start(dir.path(), &devices, link);
    heard.until("a sleeps again", |heard| heard.state("a") == Some(DeviceState::Asleep)).await;
    assert_eq!(devices.wakes.lock().unwrap().len(), 0);
    heard.update(|down| {
        down.timeline = Some(drain(2, &[]));
        down.permit = Some(permit(2, 1));
    });
    heard.until("a is back", |heard| heard.state("a") == Some(DeviceState::Awake)).await;
    stop.cancel();
    agent.ended().await.unwrap();
}

#[tokio::test]
async fn a_step_falls_due_although_the_link_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let devices = Arc::new(FakeDevices::default());
    let (link, mut heard) = linked();
    let (agent, stop) = start(dir.path(), &devices, link);
    let mut timeline = (*drain(1, &["a"])).clone();
    timeline.steps[0].at += SignedDuration::from_millis(400);
    let due = timeline.steps[0].at;
    heard.update(|down| down.timeline = Some(Arc::new(timeline)));
    heard.until("the timeline is held", |heard| heard.number.is_some()).await;
    assert!(!devices.is_asleep("a") || clock::wall() >= due, "not before it is due");
    drop(heard);
    let slept = async {
        while !devices.is_asleep("a") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, slept).await.expect("it is put to sleep on time");
    stop.cancel();
    agent.ended().await.unwrap();
}

#[tokio::test]
async fn programs_and_files_drive_a_machine_through_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    // The site's tool keeps each machine in a file, and writes the machine's power into the meter's
    // file.
    let body = "cd $(dirname $0)\n\
        case $1 in\n\
        sleep) touch $2.down; echo 0.03 > feed.kw;;\n\
        wake) rm -f $2.down; echo 3.4 > feed.kw;;\n\
        read) if [ -e $2.down ]; then echo asleep 30; else echo awake 3400; fi;;\n\
        esac\n";
    let tool = dir.path().join("tool.sh");
    std::fs::write(&tool, body).unwrap();
    std::fs::write(dir.path().join("feed.kw"), "3.4\n").unwrap();
    let argv = |verb: &str| {
        ["/bin/sh", tool.to_str().unwrap(), verb, "{machine}"].map(str::to_owned).to_vec()
    };
    let exec = crate::drivers::exec::ExecConfig {
        sleep: argv("sleep"),
        wake: argv("wake"),
        read: argv("read"),
        timeout: PATIENCE,
        concurrency: 2,
    };
    let actuator = crate::drivers::exec::ExecActuator::new(exec).unwrap();
    let driver = Driver { in_flight: 2, ..Driver::new(actuator) };
    let meter = Arc::new(crate::meters::file::FileMeter::new(dir.path().join("feed.kw")));
    let meters = vec![MeterSetup { id: "feed".into(), meter, period: Duration::from_millis(50) }];
    let (link, mut heard) = linked();
    let stop = CancellationToken::new();
    let config = AgentConfig { answer_timeout: PATIENCE, ..config(dir.path()) };
    let devices = Devices {
        drivers: vec![driver],
        assignments: vec![all("acme.*")],
        meters,
        ..Devices::default()
    };
    let agent = Agent::spawn(config, devices, link, Metrics::default(), stop.clone()).unwrap();

    heard.update(|down| down.timeline = Some(drain(1, &["acme.rig-1", "other.rig-1"])));
    heard
        .until("it sleeps and the meter shows it", |heard| {
            heard.state("acme.rig-1") == Some(DeviceState::Asleep)
                && heard.meter_watts("feed") == Some(Watts(30))
        })
        .await;
    let machines: Vec<&MachineReport> = heard.machines.entries().values().collect();
    assert_eq!(machines.len(), 1, "a machine without a driver is not reported");
    assert_eq!(machines[0].watts, Some(Watts(30)));
    heard.update(|down| {
        down.timeline = Some(drain(2, &[]));
        down.permit = Some(permit(2, 1));
    });
    heard
        .until("it is back", |heard| {
            heard.state("acme.rig-1") == Some(DeviceState::Awake)
                && heard.meter_watts("feed") == Some(Watts(3400))
        })
        .await;
    stop.cancel();
    agent.ended().await.unwrap();
}

#[tokio::test]
async fn an_unreadable_memory_stops_the_start_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.json"), "?").unwrap();
    let (link, _heard) = linked();
    let stop = CancellationToken::new();
    let error =
        Agent::spawn(config(dir.path()), Devices::default(), link, Metrics::default(), stop)
            .unwrap_err();
    assert!(error.to_string().contains("agent.json"), "{error}");
}

/// The folder of the journal is not there when the agent starts, and comes back while it runs. The
/// journal has it that the agent put `a` to sleep, which nothing else knows.
#[tokio::test]
async fn a_journal_that_is_read_late_still_says_which_machines_are_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (away, place) = (dir.path().join("away"), dir.path().join("place"));
    let path = dir.path().join("agent.json.journal");
    std::fs::create_dir(&away).unwrap();
    std::os::unix::fs::symlink(place.join("journal"), &path).unwrap();
    let number = |number| Intent {
        number,
        at: clock::wall(),
        machine: "a".into(),
        order: Order::Sleep,
        cause: journal::Cause::Unheard,
    };
    Journal::open(&away.join("journal")).0.append(&[number(1), number(2)]).unwrap();

    let devices = Arc::new(FakeDevices::default());
    devices.asleep.lock().unwrap().insert("a".into(), true);
    let by = |heard: &Heard| heard.machines.entries().get("a").and_then(|found| found.asleep_by);
    // The first life ends without having read it. What it saves hides nothing from the second one.
    for life in 0..2 {
        let (link, mut heard) = linked();
        let (agent, stop) = start(dir.path(), &devices, link);
        heard.update(|down| down.timeline = Some(drain(2 * life + 1, &["a", "b", "c"])));
        heard
            .until("nobody knows of a", |heard| {
                by(heard) == Some(AsleepBy::Other)
                    && heard.state("b") == Some(DeviceState::Asleep)
                    && heard.state("c") == Some(DeviceState::Asleep)
            })
            .await;
        heard.update(|down| {
            down.timeline = Some(drain(2 * life + 2, &["c"]));
            down.permit = Some(permit(2 * life + 2, 1));
        });
        heard.until("b is back", |heard| heard.state("b") == Some(DeviceState::Awake)).await;
        assert!(devices.is_asleep("a"));
        if life == 1 {
            std::fs::rename(&away, &place).unwrap();
            heard.update(|down| down.timeline = Some(drain(9, &["b", "c"])));
            heard.until("a is ours", |heard| by(heard) == Some(AsleepBy::Us)).await;
            heard.update(|down| down.permit = Some(permit(9, 1)));
            heard.until("a is back", |heard| heard.state("a") == Some(DeviceState::Awake)).await;
        }
        stop.cancel();
        agent.ended().await.unwrap();
    }
    let left = Journal::open(&path).1.unwrap();
    assert_eq!(left, Contents::default(), "the last state contains everything");
}

/// A second command goes while the disk still has the first one's intent under way.
#[tokio::test]
async fn an_intent_that_comes_during_a_write_is_written_right_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.json.journal");
    let (mut running, mut intents) = (running(dir.path()), Vec::new());
    let held = running.journal.clone();
    let (locked, unlock) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    let disk = std::thread::spawn(move || {
        let _lock = held.hold();
        locked.0.send(()).unwrap();
        let _ = unlock.1.recv();
    });
    locked.1.recv().unwrap();
    for (number, machine) in [(1, "a"), (2, "b"), (3, "c")] {
        let intent = Intent {
            number,
            at: clock::wall(),
            machine: machine.into(),
            order: Order::Sleep,
            cause: journal::Cause::Unheard,
        };
        intents.push(intent.clone());
        running.record(&[Output::Intend(intent)]).await;
        assert_eq!(running.work.len(), 1, "there is never a second write");
    }
    drop(unlock.0);
    disk.join().unwrap();
    let writes = async {
        while let Some(ended) = running.work.join_next_with_id().await {
            running.take(ended);
        }
    };
    tokio::time::timeout(PATIENCE, writes).await.expect("the writes end");
    assert!(running.unjournaled.is_empty() && !running.is_journaling);
    assert_eq!(Journal::open(&path).1.unwrap().intents, intents);
}
