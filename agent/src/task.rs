//! The task around [`AgentCore`]: it listens to the link, runs drivers and meters, writes the state
//! file and sends the reports. It decides nothing. A driver that hangs or panics causes a failure of
//! the machine that it was working on, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    Actuator, ActuatorError, AsleepBy, Downlink, FeedId, Link, LinkClosed, MachineId, Meter,
    MeterError, MeterId, MeterReading, Offer, Reading, Report, ReportSender,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{self, AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use crate::claims::Assignment;
use crate::core::{AgentCore, CoreConfig, DriverLimits, Kind, Output, Timing};
use crate::drivers::Driver;
use crate::guard::{FeedOver, OwnGuard};
use crate::hook::Hook;
use crate::journal::{self, Contents, Intent, Journal, Order};
use crate::metrics::{CommandOutcome, DirectiveOutcome, JournalOutcome, Metrics};
use crate::state::{AgentState, AgentStateError, AgentStateFile, Mark};
use daemon::clock;

/// An agent's name, its state file, and its periods and limits.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The name of the agent: that of its link, and in its log lines.
    pub name: String,
    /// The file with the state that must survive a restart. The journal is beside it, with
    /// `.journal` added to the name.
    pub state_path: PathBuf,
    pub timing: Timing,
    /// The maximum number of machines.
    pub machines_max: usize,
    /// How long a driver or meter may take to answer. A driver that has a longer time limit gets
    /// that time.
    pub answer_timeout: Duration,
}

impl AgentConfig {
    /// The defaults: 100,000 machines, answers within 30 s.
    #[must_use]
    pub fn new(name: impl Into<String>, state_path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            state_path: state_path.into(),
            timing: Timing::default(),
            machines_max: 100_000,
            answer_timeout: Duration::from_secs(30),
        }
    }
}

/// What an agent works with.
#[derive(Clone, Default)]
pub struct Devices {
    pub drivers: Vec<Driver>,
    /// Which driver commands which machines. The first assignment that claims a machine counts.
    pub assignments: Vec<Assignment>,
    pub meters: Vec<MeterSetup>,
    /// What is run when a feed carries too much and the guard has no machine left.
    pub hook: Option<Hook>,
    /// The feeds that the agent guards by itself until it has heard a guard table.
    pub own_guards: Vec<OwnGuard>,
}

impl Devices {
    /// How long the slowest driver may need for one answer: the time limit of one command, and as
    /// much again for each of the two that may be under way before it.
    fn answers_within(&self) -> Duration {
        let slowest = self.drivers.iter().map(|driver| driver.timeout).max();
        slowest.unwrap_or_default().saturating_mul(3)
    }
}

#[derive(Clone)]
pub struct MeterSetup {
    pub id: MeterId,
    pub meter: Arc<dyn Meter>,
    /// How often the meter is read.
    pub period: Duration,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] AgentStateError),
    /// Two meters have one name.
    #[error("meter {0}: declared twice")]
    MeterTwice(MeterId),
    /// Machines are assigned to a driver that is not in the list.
    #[error("no driver has the number {0}")]
    NoDriver(usize),
}

#[derive(Debug)]
pub struct Agent {
    task: JoinHandle<()>,
}

/// How long commands under way may take to end when the agent is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long the commands of one turn wait for the journal. Then they go without a record: a machine
/// that must go off never waits for a disk.
const JOURNAL_BUDGET: Duration = Duration::from_millis(20);
/// How many runs of the hook may be under way at once. Those of further feeds wait.
const HOOKS_MAX: usize = 8;

impl Agent {
    /// Reads the state file and starts the agent. It runs until `stop` is cancelled; if the link
    /// closes, the agent continues with the timeline it holds (lowering steps are due with or
    /// without a switchboard). [`Link::changed`] is dropped and called again between other events,
    /// so dropping it must not lose anything.
    ///
    /// # Errors
    /// When the state file exists and cannot be read (it is not overwritten), two meters have one
    /// name, or machines are assigned to a driver that is not there.
    pub fn spawn<L: Link>(
        config: AgentConfig,
        devices: Devices,
        link: L,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let span = info_span!("agent", agent = %config.name);
        let running = Running::new(config, devices, metrics)?;
        Ok(Self { task: tokio::spawn(running.run(link, stop).instrument(span)) })
    }

    /// Waits until the agent has ended and its state is written.
    ///
    /// # Errors
    /// When its task panicked.
    pub async fn ended(self) -> Result<(), JoinError> {
        self.task.await
    }
}

/// How a write of the journal ended, and what was in it if it was read only now.
type Journaled = (Result<(), String>, Option<Contents>);

/// Work that is under way. It names the machine, so that this is known even if the driver panicked
/// and gave no answer.
#[derive(Debug, Clone)]
enum Job {
    Command(MachineId, Kind),
    Measure(MeterId),
    /// A run of the hook for this feed.
    Hook(FeedId),
    /// A write of this version of the state, which contains the intents up to this number.
    Write(u64, u64),
    /// A write of the journal that contains the intents up to this number.
    Journal(u64),
}

#[derive(Debug)]
enum Answer {
    Commanded(Result<(), ActuatorError>),
    Read(Result<Reading, ActuatorError>),
    Measured(Result<MeterReading, MeterError>),
    Hooked(Result<(), ActuatorError>),
    Written(Result<(), AgentStateError>, Option<Contents>),
    /// The result, and what was in the journal if it was read only now.
    Journaled(Result<(), String>, Option<Contents>),
    /// The task that should have answered panicked or was cancelled.
    Broke(String),
}

struct Running {
    core: AgentCore,
    file: Arc<AgentStateFile>,
    journal: Arc<Journal>,
    /// The state of the start, while the journal could not be read yet.
    unread: Option<Box<AgentState>>,
    /// The number of intents in the state of the start, and the one from which on a state contains
    /// what the journal had then. An older state is saved with the former number, and nothing is
    /// removed from the journal for it.
    started_with: u64,
    forget_from: u64,
    /// The intents that are not in the journal, the newest of each kind for each machine.
    unjournaled: BTreeMap<(MachineId, Order), Intent>,
    /// Whether a write of the journal is under way. There is never a second one, so that a disk
    /// that hangs does not hold more and more threads.
    is_journaling: bool,
    /// Whether the last write of the journal failed or came late.
    journal_fails: bool,
    actuators: Vec<Arc<dyn Actuator>>,
    meters: HashMap<MeterId, Arc<dyn Meter>>,
    hook: Option<Arc<Hook>>,
    hooks: Arc<Semaphore>,
    answer_timeout: Duration,
    metrics: Metrics,
    /// Whether the last write of the state failed.
    unwritten: bool,
    work: JoinSet<Answer>,
    jobs: HashMap<task::Id, Job>,
    /// The readings of machines that are under way.
    readings: HashMap<MachineId, AbortHandle>,
}

impl Running {
    /// Reads the state file and the journal.
    fn new(config: AgentConfig, devices: Devices, metrics: Metrics) -> Result<Self, StartError> {
        let answer_timeout = config.answer_timeout.max(devices.answers_within());
        let Devices { drivers, assignments, meters, hook, own_guards } = devices;
        if let Some(stray) = assignments.iter().find(|one| one.driver >= drivers.len()) {
            return Err(StartError::NoDriver(stray.driver));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = meters.iter().find(|meter| !names.insert(&meter.id)) {
            return Err(StartError::MeterTwice(twice.id.clone()));
        }
        let (file, mut state) = AgentStateFile::open(&config.state_path)?;
        let (journal, contents) = Journal::open(&journal_path(&config.state_path));
        let started_with = state.intents;
        let (is_folded, unread) = match contents {
            Ok(contents) => (take_journal(&mut state, &contents), None),
            Err(error) => {
                error!(%error, "journal not read, going on without it; it is tried again");
                (false, Some(Box::new(state.clone())))
            }
        };
        let limits = |driver: &Driver| DriverLimits {
            name: driver.name.clone(),
            in_flight: driver.in_flight,
        };
        let core = CoreConfig {
            receiver: config.name.as_str().into(),
            timing: config.timing,
            drivers: drivers.iter().map(limits).collect(),
            assignments,
            meters: meters.iter().map(|meter| (meter.id.clone(), meter.period)).collect(),
            machines_max: config.machines_max,
            calls_every: hook.as_ref().map(|hook| hook.every),
            own_guards,
        };
        let mut core =
            AgentCore::new(core, state, ReportSender::started(clock::wall()), clock::now());
        if is_folded {
            core.note_folded();
        }
        Ok(Self {
            core,
            file: Arc::new(file),
            journal: Arc::new(journal),
            started_with,
            forget_from: if unread.is_some() { u64::MAX } else { 0 },
            unread,
            unjournaled: BTreeMap::new(),
            is_journaling: false,
            journal_fails: false,
            actuators: drivers.into_iter().map(|driver| driver.actuator).collect(),
            meters: meters.into_iter().map(|meter| (meter.id, meter.meter)).collect(),
            hook: hook.map(Arc::new),
            hooks: Arc::new(Semaphore::new(HOOKS_MAX)),
            answer_timeout,
            metrics,
            unwritten: false,
            work: JoinSet::new(),
            jobs: HashMap::new(),
            readings: HashMap::new(),
        })
    }

    async fn run<L: Link>(mut self, mut link: L, stop: CancellationToken) {
        info!(drivers = self.actuators.len(), meters = self.meters.len(), "agent started");
        let mut linked = true;
        let first = link.latest();
        self.core.downlink(&first, clock::wall(), clock::now());
        loop {
            let outputs: Vec<Output> = std::iter::from_fn(|| self.core.poll_output()).collect();
            self.record(&outputs).await;
            for output in outputs {
                self.perform(output, &link);
            }
            let next = self.core.next_tick(clock::now());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                heard = link.changed(), if linked => linked = self.hear(heard),
                Some(ended) = self.work.join_next_with_id() => self.take(ended),
                () = tokio::time::sleep_until(next.into()) => {}
            }
            // Several answers that are ready are handled in one tick.
            while let Some(ended) = self.work.try_join_next_with_id() {
                self.take(ended);
            }
            self.core.tick(clock::wall(), clock::now());
        }
        self.stop().await;
    }

    fn hear(&mut self, heard: Result<Downlink, LinkClosed>) -> bool {
        let Ok(downlink) = heard else {
            warn!("the link has closed, going on with the timeline held");
            return false;
        };
        self.core.downlink(&downlink, clock::wall(), clock::now());
        true
    }

    fn perform(&mut self, output: Output, link: &impl Link) {
        match output {
            // Recorded before the commands of this turn.
            Output::Intend(_) => {}
            Output::Command { driver, machine, kind } => self.command(driver, machine, kind),
            Output::GiveUpRead(machine) => self.give_up_read(&machine),
            Output::Measure(meter) => self.measure(meter),
            Output::Persist { version, mut state } => {
                let (file, journal) = (self.file.clone(), self.journal.clone());
                let intents = state.intents;
                let known = self.number_intents(&mut state);
                let write = self.work.spawn_blocking(move || {
                    let saved = file.save(&state);
                    if saved.is_ok()
                        && let Err(error) = journal.forget(known)
                    {
                        // The next start skips what is left.
                        debug!(%error, "journal not emptied");
                    }
                    Answer::Written(saved, journal.take_late())
                });
                self.jobs.insert(write.id(), Job::Write(version, intents));
            }
            Output::Report { delta, counts } => {
                self.metrics.show(counts, delta.number);
                self.metrics.show_unrecorded(self.core.lost_intents());
                if link.report(Report::Machines(delta)) {
                    self.core.handed_over();
                } else {
                    self.metrics.report_dropped();
                }
            }
            Output::ReportMeters(meters) => {
                self.metrics.show_meters(&meters.meters);
                if !link.report(Report::Meters(meters)) {
                    self.metrics.report_dropped();
                }
            }
            Output::ReportGuard(report) => {
                self.metrics.show_guard(&report);
                if !link.report(Report::Guard(report)) {
                    self.metrics.report_dropped();
                }
            }
            Output::ReportDrivers(report) => {
                if !link.report(Report::Drivers(report)) {
                    self.metrics.report_dropped();
                }
            }
            Output::GuardTripped(_) => self.metrics.guard_tripped(),
            Output::FeedOver(over) => self.call(over),
            Output::Offered(offer) => self.metrics.directive(match offer {
                Offer::Taken => DirectiveOutcome::taken,
                Offer::Same => DirectiveOutcome::same,
                Offer::Stale { .. } => DirectiveOutcome::stale,
            }),
            Output::Clock(off) => {
                clock::tell_step(off);
                if off.is_some() {
                    self.metrics.clock_stepped();
                }
            }
            Output::Ignored(_) => self.metrics.machine_ignored(),
        }
    }

    fn command(&mut self, driver: usize, machine: MachineId, kind: Kind) {
        let (actuator, limit, job) =
            (self.actuators[driver].clone(), self.answer_timeout, machine.clone());
        let late = move |_| {
            Err(ActuatorError::Timeout {
                millis: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            })
        };
        let task = self.work.spawn(async move {
            match kind {
                Kind::Sleep => {
                    let slept = tokio::time::timeout(limit, actuator.sleep(&machine)).await;
                    Answer::Commanded(slept.unwrap_or_else(late))
                }
                Kind::Wake => {
                    let woken = tokio::time::timeout(limit, actuator.wake(&machine)).await;
                    Answer::Commanded(woken.unwrap_or_else(late))
                }
                Kind::Read => {
                    let read = tokio::time::timeout(limit, actuator.read(&machine)).await;
                    Answer::Read(read.unwrap_or_else(|_| {
                        Err(ActuatorError::Timeout {
                            millis: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                        })
                    }))
                }
            }
        });
        self.jobs.insert(task.id(), Job::Command(job.clone(), kind));
        if kind == Kind::Read {
            self.readings.insert(job, task);
        }
    }

    /// Ends a reading. A driver that runs a program ends it with that.
    fn give_up_read(&mut self, machine: &MachineId) {
        let Some(reading) = self.readings.remove(machine) else { return };
        self.jobs.remove(&reading.id());
        reading.abort();
        self.metrics.command(Kind::Read, CommandOutcome::given_up);
    }

    fn measure(&mut self, id: MeterId) {
        let Some(meter) = self.meters.get(&id).cloned() else { return };
        let limit = self.answer_timeout;
        let task = self.work.spawn(async move {
            let measured = tokio::time::timeout(limit, meter.read()).await;
            let late = |_| {
                Err(MeterError::Unreachable {
                    why: format!("no answer within {} ms", limit.as_millis()),
                })
            };
            Answer::Measured(measured.unwrap_or_else(late))
        });
        self.jobs.insert(task.id(), Job::Measure(id));
    }

    /// Runs the hook.
    fn call(&mut self, over: FeedOver) {
        let Some(hook) = self.hook.clone() else { return };
        error!(
            feed = %over.feed,
            reason = over.reason.word(),
            watts = over.metered.0,
            usable = over.usable.0,
            rating = over.rating.0,
            "the feed carries too much and no machine is left, the hook is run"
        );
        let (feed, hooks) = (over.feed.clone(), self.hooks.clone());
        let task = self.work.spawn(async move {
            let _turn = hooks.acquire().await.expect("the semaphore is never closed");
            Answer::Hooked(hook.run(&over).await)
        });
        self.jobs.insert(task.id(), Job::Hook(feed));
    }

    fn hooked(&self, feed: &FeedId, result: &Result<(), ActuatorError>) {
        self.metrics.hook_ended(outcome(result));
        match result {
            Ok(()) => info!(%feed, "the hook has ended"),
            Err(error) => error!(%feed, %error, "the hook failed"),
        }
    }

    fn take(&mut self, ended: Result<(task::Id, Answer), JoinError>) {
        let (id, answer) = match ended {
            Ok((id, answer)) => (id, answer),
            // Work is cancelled only when the runtime ends, which is no fault of a device or a disk.
            Err(error) if error.is_cancelled() => return,
            Err(error) => (error.id(), Answer::Broke(error.to_string())),
        };
        let Some(job) = self.jobs.remove(&id) else { return };
        if let Job::Command(machine, Kind::Read) = &job {
            self.readings.remove(machine);
        }
        self.answered(job, answer, clock::now());
    }

    fn answered(&mut self, job: Job, answer: Answer, now: Instant) {
        match (job, answer) {
            (Job::Command(machine, kind), Answer::Commanded(result)) => {
                self.metrics.command(kind, outcome(&result));
                self.core.commanded(&machine, kind, result, now);
            }
            (Job::Command(machine, Kind::Read), Answer::Broke(why)) => {
                self.metrics.command(Kind::Read, CommandOutcome::failed);
                self.core.read(&machine, Err(ActuatorError::Failed { why }), now);
            }
            (Job::Command(machine, kind), Answer::Broke(why)) => {
                self.metrics.command(kind, CommandOutcome::failed);
                self.core.commanded(&machine, kind, Err(ActuatorError::Failed { why }), now);
            }
            (Job::Command(machine, kind), Answer::Read(result)) => {
                self.metrics.command(kind, outcome(&result));
                self.core.read(&machine, result, now);
            }
            (Job::Measure(meter), Answer::Measured(result)) => {
                self.core.measured(&meter, result, clock::wall(), now);
            }
            (Job::Measure(meter), Answer::Broke(why)) => {
                self.core.measured(
                    &meter,
                    Err(MeterError::Unreachable { why }),
                    clock::wall(),
                    now,
                );
            }
            (Job::Hook(feed), Answer::Hooked(result)) => self.hooked(&feed, &result),
            (Job::Hook(feed), Answer::Broke(why)) => {
                self.hooked(&feed, &Err(ActuatorError::Failed { why }));
            }
            (Job::Write(version, intents), Answer::Written(Ok(()), late)) => {
                self.take_late(late, now);
                self.unjournaled.retain(|_, intent| intent.number > intents);
                self.core.recorded(intents);
                self.wrote(version, None, now);
            }
            (Job::Write(version, _), Answer::Written(Err(error), late)) => {
                self.take_late(late, now);
                self.wrote(version, Some(error.to_string()), now);
            }
            (Job::Write(version, _), Answer::Broke(why)) => self.wrote(version, Some(why), now),
            (Job::Journal(last), Answer::Journaled(result, late)) => {
                self.journaled(last, result, late, now);
            }
            (Job::Journal(last), Answer::Broke(why)) => self.journaled(last, Err(why), None, now),
            // Each job is spawned with the kind of answer that belongs to it, so this does not
            // happen.
            (job, answer) => error!(?job, ?answer, "an answer of another kind"),
        }
    }

    /// Writes the intents among `outputs` to the journal, before their commands go. If that takes
    /// too long or fails, the commands go without a record, and reports say so.
    async fn record(&mut self, outputs: &[Output]) {
        let mut last = None;
        for output in outputs {
            if let Output::Intend(intent) = output {
                last = Some(intent.number);
                let place = (intent.machine.clone(), intent.order);
                self.unjournaled.insert(place, intent.clone());
            }
        }
        let Some(last) = last else { return };
        if let Some((id, last, written)) = self.write_journal()
            && let Ok(Ok((result, late))) = tokio::time::timeout(JOURNAL_BUDGET, written).await
        {
            self.jobs.remove(&id);
            self.journaled(last, result, late, clock::now());
            return;
        }
        self.journal_fell_short(JournalOutcome::late, "took too long");
        self.core.unrecorded(last);
    }

    /// Begins to write all intents that are not in the journal, if no write is under way. Returns
    /// the job, the number of the newest of these intents, and where the result also goes.
    fn write_journal(&mut self) -> Option<(task::Id, u64, oneshot::Receiver<Journaled>)> {
        if self.is_journaling {
            return None;
        }
        let mut intents: Vec<Intent> = self.unjournaled.values().cloned().collect();
        intents.sort_by_key(|intent| intent.number);
        let last = intents.last()?.number;
        let journal = self.journal.clone();
        let (done, written) = oneshot::channel();
        let write = self.work.spawn_blocking(move || {
            let result = journal.append(&intents).map_err(|error| error.to_string());
            let late = journal.take_late();
            // Nobody listens if it took too long.
            let _ = done.send((result.clone(), late.clone()));
            Answer::Journaled(result, late)
        });
        let id = write.id();
        self.jobs.insert(id, Job::Journal(last));
        self.is_journaling = true;
        Some((id, last, written))
    }

    /// Handles the end of a write of the journal that contains the intents up to `last`.
    fn journaled(
        &mut self,
        last: u64,
        result: Result<(), String>,
        late: Option<Contents>,
        now: Instant,
    ) {
        self.is_journaling = false;
        self.take_late(late, now);
        match result {
            Ok(()) => {
                self.metrics.journal_written(JournalOutcome::ok);
                if std::mem::take(&mut self.journal_fails) {
                    info!("journal written again");
                }
                self.unjournaled.retain(|_, intent| intent.number > last);
                self.core.recorded(last);
                // What came meanwhile does not wait for the next command.
                self.write_journal();
            }
            Err(error) => {
                self.journal_fell_short(JournalOutcome::failed, &error);
                self.core.unrecorded(last);
            }
        }
    }

    /// Takes what the journal contained at the start and could be read only now.
    fn take_late(&mut self, late: Option<Contents>, now: Instant) {
        let Some(contents) = late else { return };
        let Some(mut state) = self.unread.take() else { return };
        info!(intents = contents.intents.len(), "journal read");
        let known = state.intents;
        take_journal(&mut state, &contents);
        let new = contents.intents.iter().filter(|intent| intent.number > known);
        let machines: BTreeSet<&MachineId> = new.map(|intent| &intent.machine).collect();
        let marks = machines.into_iter().filter_map(|id| state.marks.remove_entry(id));
        let marks: Vec<(MachineId, Mark)> = marks.collect();
        self.forget_from = self.core.take_late_marks(marks, state.intents, clock::wall(), now);
    }

    /// Prepares `state` for the disk. Returns up to which number intents may be removed from the
    /// journal when it is there; no intent has the number 0.
    fn number_intents(&self, state: &mut AgentState) -> u64 {
        if state.intents >= self.forget_from {
            return state.intents;
        }
        // Otherwise the next start would skip what this one has not read.
        state.intents = state.intents.min(self.started_with);
        // Nor is it known yet of which sleepers the journal has it that they are ours.
        if let Some(start) = &self.unread {
            let is_known = |id: &MachineId| start.marks.contains_key(id);
            state.marks.retain(|id, mark| mark.asleep_by == AsleepBy::Us || is_known(id));
        }
        0
    }

    /// A journal that fails is logged once, not at each attempt.
    fn journal_fell_short(&mut self, outcome: JournalOutcome, why: &str) {
        self.metrics.journal_written(outcome);
        if !std::mem::replace(&mut self.journal_fails, true) {
            warn!(why, "commands go before the journal has them; reports say so until it does");
        }
    }

    /// Handles the result of a write. A disk that fails is logged once, not at each attempt.
    fn wrote(&mut self, version: u64, fault: Option<String>, now: Instant) {
        let failed = fault.is_some();
        match fault {
            Some(error) if !self.unwritten => {
                error!(error, "state not written, nothing is woken until it is");
            }
            None if self.unwritten => info!("state written again"),
            _ => {}
        }
        self.unwritten = failed;
        self.metrics.state_written(!failed);
        self.core.persisted(version, !failed, now);
    }

    /// Lets commands under way end, then writes what is not yet written.
    async fn stop(mut self) {
        let drained = async {
            while let Some(ended) = self.work.join_next_with_id().await {
                self.take(ended);
            }
        };
        if tokio::time::timeout(STOP_GRACE, drained).await.is_err() {
            self.work.shutdown().await;
        }
        if self.core.wants_last_write() {
            let (file, journal, mut state) =
                (self.file.clone(), self.journal.clone(), self.core.state());
            let known = self.number_intents(&mut state);
            let saved = task::spawn_blocking(move || {
                let saved = file.save(&state);
                if saved.is_ok() {
                    // The next start skips what is left.
                    let _ = journal.forget(known);
                }
                saved
            })
            .await;
            if let Err(error) = saved
                .map_err(|error| error.to_string())
                .and_then(|saved| saved.map_err(|e| e.to_string()))
            {
                error!(error, "state not written at the end");
            }
        }
        self.core.tell_changes(clock::now());
        info!("agent ended");
    }
}

/// The journal's file, beside the state file.
fn journal_path(state: &Path) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(".journal");
    state.with_file_name(name)
}

/// Adds to the state what the journal has and the state file has not. Returns whether there was
/// anything.
fn take_journal(state: &mut AgentState, contents: &Contents) -> bool {
    for (line, why) in &contents.damaged {
        warn!(line, %why, "journal: a damaged line is left out");
    }
    if contents.damaged_count > contents.damaged.len() {
        warn!(lines = contents.damaged_count, "journal: more lines are damaged");
    }
    let known = state.intents;
    let is_folded = journal::fold(state, &contents.intents);
    if is_folded {
        let commands = contents.intents.iter().filter(|intent| intent.number > known).count();
        info!(commands, "journal: the state file did not have these commands yet");
    }
    is_folded
}

fn outcome<T>(result: &Result<T, ActuatorError>) -> CommandOutcome {
    match result {
        Ok(_) => CommandOutcome::ok,
        Err(ActuatorError::Timeout { .. }) => CommandOutcome::timeout,
        Err(ActuatorError::Refused { .. }) => CommandOutcome::refused,
        Err(ActuatorError::Failed { .. }) => CommandOutcome::failed,
        Err(ActuatorError::Unreadable { .. }) => CommandOutcome::unreadable,
    }
}

#[cfg(test)]
mod tests;
