//! The agent's host: its core with a state file, a link, and a network to devices and meters.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::simulate::{AgentCore, AgentState, CoreConfig, Intent, Kind, Output, fold};
use directive::{
    ActuatorError, Downlink, Generation, MachineId, MeterError, MeterId, MeterReading, Offer,
    Reading, Report, ReportSender,
};
use jiff::Timestamp;

use crate::disk::Disk;
use crate::due::{Due, Life};
use crate::heard::Heard;
use crate::record::{Commander, Event, Order, Role, StateFound};
use crate::scenario::Path;
use crate::stage::{Stage, Ticker};

const ROLE: Role = Role::Agent;
/// A device or meter that has not answered after this long is given up.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Agent {
    core: Option<AgentCore>,
    config: CoreConfig,
    pub(crate) disk: Disk<AgentState>,
    /// What the journal's file holds. An intent is written before its command goes, unless writes
    /// fail. A restart that finds its state lost finds no journal either; one that finds an older
    /// state finds the newest journal beside it.
    journal: Vec<Intent>,
    /// Intents that the journal did not take.
    unjournaled: Vec<Intent>,
    /// When the reading of each machine was sent that is under way and not given up.
    readings: BTreeMap<MachineId, Duration>,
    heard: Heard,
    ticker: Ticker,
    life: Life,
}

impl Agent {
    pub(crate) fn new(config: CoreConfig) -> Self {
        Self {
            core: None,
            config,
            disk: Disk::default(),
            journal: Vec::new(),
            unjournaled: Vec::new(),
            readings: BTreeMap::new(),
            heard: Heard::default(),
            ticker: Ticker::default(),
            life: 0,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.core.is_some()
    }

    /// The timeline held.
    pub(crate) fn held(&self) -> Option<Generation> {
        self.core.as_ref()?.receiver().number()
    }

    pub(crate) fn start(&mut self, stage: &mut Stage, found: StateFound) {
        let mut state = self.disk.load(found, &mut stage.rng).unwrap_or_default();
        if found == StateFound::Lost {
            self.journal.clear();
        }
        let is_folded = fold(&mut state, &self.journal);
        let now = stage.clocks.monotonic(stage.now);
        self.life += 1;
        let sender = ReportSender::new(self.life);
        let mut core = AgentCore::new(self.config.clone(), state, sender, now);
        if is_folded {
            core.note_folded();
        }
        self.core = Some(core);
        self.readings.clear();
        self.heard = Heard::default();
        self.ticker.clear();
        self.turn(stage);
    }

    /// The agent dies. Commands that it has sent reach their devices all the same.
    pub(crate) fn die(&mut self, stage: &mut Stage) {
        self.core = None;
        self.unjournaled.clear();
        self.disk.crash(&mut stage.rng);
    }

    /// Takes what the switchboard says.
    pub(crate) fn hear(&mut self, stage: &mut Stage, downlink: &Downlink) {
        let Some(core) = &mut self.core else { return };
        self.heard.note(stage, ROLE, downlink);
        let (wall, now) = (stage.clocks.wall(ROLE, stage.now), stage.clocks.monotonic(stage.now));
        core.downlink(downlink, wall, now);
        self.turn(stage);
    }

    pub(crate) fn tick(&mut self, stage: &mut Stage) {
        if self.ticker.is_due(stage.now) {
            self.turn(stage);
        }
    }

    /// Takes in the end of a write.
    pub(crate) fn written(&mut self, stage: &mut Stage, life: Life, version: u64) {
        let now = stage.clocks.monotonic(stage.now);
        let Some(core) = self.core.as_mut().filter(|_| life == self.life) else { return };
        let is_written = self.disk.end();
        if let Some(state) = self.disk.newest().filter(|_| is_written) {
            self.journal.retain(|intent| intent.number > state.intents);
            self.unjournaled.retain(|intent| intent.number > state.intents);
            core.recorded(state.intents);
        }
        core.persisted(version, is_written, now);
        self.turn(stage);
    }

    /// Takes in a device's answer to a command.
    pub(crate) fn commanded(
        &mut self,
        stage: &mut Stage,
        life: Life,
        machine: &MachineId,
        kind: Kind,
        answer: Result<(), ActuatorError>,
    ) {
        let now = stage.clocks.monotonic(stage.now);
        let Some(core) = self.core.as_mut().filter(|_| life == self.life) else { return };
        core.commanded(machine, kind, answer, now);
        self.turn(stage);
    }

    /// Takes in a device's answer to a read that was sent at `sent`.
    pub(crate) fn read(
        &mut self,
        stage: &mut Stage,
        life: Life,
        machine: &MachineId,
        sent: Duration,
        answer: Result<Reading, ActuatorError>,
    ) {
        let now = stage.clocks.monotonic(stage.now);
        let Some(core) = self.core.as_mut().filter(|_| life == self.life) else { return };
        if self.readings.get(machine) != Some(&sent) {
            return;
        }
        self.readings.remove(machine);
        core.read(machine, answer, now);
        self.turn(stage);
    }

    /// Takes in a meter's answer.
    pub(crate) fn measured(
        &mut self,
        stage: &mut Stage,
        life: Life,
        meter: &MeterId,
        answer: Result<MeterReading, MeterError>,
    ) {
        let (wall, now) = (stage.clocks.wall(ROLE, stage.now), stage.clocks.monotonic(stage.now));
        let Some(core) = self.core.as_mut().filter(|_| life == self.life) else { return };
        core.measured(meter, answer, wall, now);
        self.turn(stage);
    }

    fn turn(&mut self, stage: &mut Stage) {
        let Some(core) = &mut self.core else { return };
        let (wall, now) = (stage.clocks.wall(ROLE, stage.now), stage.clocks.monotonic(stage.now));
        core.tick(wall, now);
        while let Some(output) = core.poll_output() {
            match output {
                Output::Intend(intent) => {
                    let number = intent.number;
                    self.unjournaled.push(intent);
                    if self.disk.fails {
                        core.unrecorded(number);
                    } else {
                        self.journal.append(&mut self.unjournaled);
                        core.recorded(number);
                    }
                }
                Output::Command { machine, kind, .. } => {
                    if kind == Kind::Read {
                        self.readings.insert(machine.clone(), stage.now);
                    }
                    command(stage, self.life, machine, kind);
                }
                Output::GiveUpRead(machine) => {
                    self.readings.remove(&machine);
                }
                Output::Measure(meter) => measure(stage, self.life, meter),
                Output::Persist { version, state } => {
                    self.disk.begin(*state);
                    let wait = stage.delay(Path::Disk);
                    stage.after(wait, Due::Written { role: ROLE, life: self.life, version });
                }
                Output::Report { delta, .. } => {
                    if stage.report(ROLE, Report::Machines(delta)) {
                        core.handed_over();
                    }
                }
                Output::ReportMeters(meters) => {
                    stage.report(ROLE, Report::Meters(meters));
                }
                Output::Offered(Offer::Stale { have }) => {
                    stage.story.tell(stage.now, "agent", || {
                        format!("refuses an older timeline, has {have}")
                    });
                }
                Output::ReportGuard(report) => {
                    stage.report(ROLE, Report::Guard(report));
                }
                Output::ReportDrivers(report) => {
                    stage.report(ROLE, Report::Drivers(report));
                }
                Output::GuardTripped(_)
                | Output::FeedOver(_)
                | Output::Offered(_)
                | Output::Ignored(_) => {}
                Output::Clock(off) => stage.tell_clock(ROLE, off),
            }
        }
        let at = stage.clocks.since_begin(core.next_tick(now));
        self.ticker.wish(stage, at, Due::Tick(ROLE));
    }
}

/// Sends a command or a read to a device. It may be lost on the way.
fn command(stage: &mut Stage, life: Life, machine: MachineId, kind: Kind) {
    if kind != Kind::Read {
        stage.story.tell(stage.now, "agent", || format!("tells {machine} to {kind}"));
    }
    if stage.chance(stage.weather.device_loss_percent) {
        if let Some(order) = order_of(kind) {
            stage.note(Event::CommandLost { machine: machine.clone(), order });
        }
        let due = timed_out(life, machine, kind, stage.now);
        stage.after(ANSWER_TIMEOUT, due);
        return;
    }
    let wait = stage.delay(Path::Device);
    stage.after(wait, Due::AtDevice { life, machine, kind, sent: stage.now });
}

/// A command or a read arrives at a device; its answer is on its way then.
pub(crate) fn at_device(
    stage: &mut Stage,
    life: Life,
    machine: MachineId,
    kind: Kind,
    sent: Duration,
) {
    let back = stage.delay(Path::Device);
    let limit = sent + ANSWER_TIMEOUT;
    let (due, at) = match order_of(kind) {
        None => match stage.facility.read(&machine, stage.now) {
            Some((answer, takes)) => {
                let at = stage.now + takes + back;
                let read_at: Timestamp = stage.clocks.wall(ROLE, at);
                let reading = |(state, watts)| Reading { state, watts: Some(watts), read_at };
                let answer = answer.map(reading);
                (Due::Read { life, machine: machine.clone(), sent, answer }, at)
            }
            None => (timed_out(life, machine.clone(), kind, sent), limit),
        },
        Some(order) => match stage.facility.command(&machine, order, Commander::Agent, stage.now) {
            Some((answer, takes)) => {
                let due = Due::Commanded { life, machine: machine.clone(), kind, answer };
                (due, stage.now + takes + back)
            }
            None => (timed_out(life, machine.clone(), kind, sent), limit),
        },
    };
    let (due, at) =
        if at > limit { (timed_out(life, machine, kind, sent), limit) } else { (due, at) };
    stage.queue.add(at.max(stage.now), due);
}

/// What a device is told to do, unless it is only read.
fn order_of(kind: Kind) -> Option<Order> {
    match kind {
        Kind::Sleep => Some(Order::Sleep),
        Kind::Wake => Some(Order::Wake),
        Kind::Read => None,
    }
}

/// What the agent is told when a device does not answer in time.
fn timed_out(life: Life, machine: MachineId, kind: Kind, sent: Duration) -> Due {
    let millis = u64::try_from(ANSWER_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    let error = ActuatorError::Timeout { millis };
    match kind {
        Kind::Read => Due::Read { life, machine, sent, answer: Err(error) },
        Kind::Sleep | Kind::Wake => Due::Commanded { life, machine, kind, answer: Err(error) },
    }
}

/// Reads a meter. The time of its sample is by the clock of the agent's host.
fn measure(stage: &mut Stage, life: Life, meter: MeterId) {
    let wait = stage.delay(Path::Meter);
    let sample = stage.facility.meter(&meter, stage.now);
    let answer = match sample {
        Some(sample) => {
            let taken_at = stage.clocks.wall(ROLE, sample.taken);
            Ok(MeterReading { watts: sample.watts, taken_at })
        }
        None => Err(MeterError::Unreachable { why: "it does not answer".to_owned() }),
    };
    stage.after(wait, Due::Measured { life, meter, answer });
}
