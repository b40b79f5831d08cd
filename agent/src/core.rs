//! What an agent decides: which machine gets which command when, what must be remembered, and what
//! is reported.
//!
//! Pure: the time, what the switchboard said and what drivers answered go in, [`Output`]s come out.
//! [`directive::Receiver`] says what each machine may do. Lowering acts at once and in the
//! timeline's order; a wake needs a live permit at the moment it is issued, the raise durably
//! recorded, and that this agent put the machine to sleep. No machine is given up: one that is not
//! confirmed asleep is commanded again, with backoff, and counted. Proving watts is left to meters
//! and the switchboard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    ActuatorError, AsleepBy, Delta, DeviceState, Downlink, DriversReport, FeedId, Generation,
    GuardReport, MachineId, MachineReport, MeterError, MeterId, MeterReading, MetersReport, Offer,
    Permit, Reading, Receiver, ReceiverId, ReportSender, SEEN_EVERY, Timeline,
};
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, warn};

use crate::claims::Assignment;
use crate::guard::{FeedOver, Guard, OwnGuard};
use crate::journal::Intent;
use crate::state::{AgentState, Mark};

mod changes;
mod drivers;
mod guarding;
mod issue;
mod machine;
mod meters;
mod owned;
mod queue;
mod roster;
mod timing;

pub use timing::{Kind, Timing};

use changes::{Changes, Line};
use drivers::Durations;
use guarding::Guarding;
use machine::{Machine, Want};
use meters::Meters;
use owned::Intents;
use queue::Queue;

/// What the core works with.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The agent's own name, by which the switchboard knows its link.
    pub receiver: ReceiverId,
    /// How often and how long.
    pub timing: Timing,
    pub drivers: Vec<DriverLimits>,
    /// Which driver commands which machines. The first assignment that claims a machine counts.
    pub assignments: Vec<Assignment>,
    /// The meters and how often each is read.
    pub meters: Vec<(MeterId, Duration)>,
    /// The maximum number of machines known at once. A further machine that a timeline names is
    /// ignored and counted.
    pub machines_max: usize,
    /// How often at most [`Output::FeedOver`] is said of a feed; `None` for never.
    pub calls_every: Option<Duration>,
    /// The feeds that the agent guards by itself until it has heard a guard table.
    pub own_guards: Vec<OwnGuard>,
}

/// One driver as the core sees it.
#[derive(Debug, Clone)]
pub struct DriverLimits {
    /// Its name in the configuration. A driver without a name is not reported.
    pub name: String,
    /// The maximum number of sleep and wake commands, and of reads, under way at once.
    pub in_flight: usize,
}

/// What the task is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Record this intent in the journal before the commands of this turn go, and answer with
    /// [`AgentCore::recorded`] or [`AgentCore::unrecorded`]. The commands do not wait long for it.
    Intend(Intent),
    /// Have driver number `driver` carry out the command; answer with [`AgentCore::commanded`] or
    /// [`AgentCore::read`].
    Command {
        /// Index into [`CoreConfig::drivers`].
        driver: usize,
        machine: MachineId,
        kind: Kind,
    },
    /// Give up the reading of this machine that is under way, before the command that follows. It is
    /// not answered any more.
    GiveUpRead(MachineId),
    /// Read this meter; answer with [`AgentCore::measured`].
    Measure(MeterId),
    /// Write this state; answer with [`AgentCore::persisted`]. There is never a second write under
    /// way.
    Persist {
        /// The version of the state.
        version: u64,
        state: Box<AgentState>,
    },
    /// Give this report to the link, and call [`AgentCore::handed_over`] if the link takes it.
    Report { delta: Delta<MachineReport>, counts: MachineCounts },
    /// Give this report to the link.
    ReportMeters(MetersReport),
    /// Give this report to the link.
    ReportGuard(GuardReport),
    /// Give this report to the link.
    ReportDrivers(DriversReport),
    /// The guard has tripped at this feed.
    GuardTripped(FeedId),
    /// The feed carries too much, and the guard has no machine left.
    FeedOver(FeedOver),
    /// A timeline was offered, with this result.
    Offered(Offer),
    /// The wall clock was stepped by this much, and nothing is woken until it is right again.
    /// `None` says that it is.
    Clock(Option<SignedDuration>),
    /// The table of machines is full: this machine is ignored.
    Ignored(MachineId),
}

/// The number of machines in a report, by what their devices report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MachineCounts {
    pub awake: i64,
    pub asleep: i64,
    pub unknown: i64,
    /// Machines that failed commands or did not follow them.
    pub failing: i64,
}

#[derive(Debug)]
pub struct AgentCore {
    config: CoreConfig,
    receiver: Receiver,
    sender: ReportSender,
    machines: BTreeMap<MachineId, Machine>,
    /// What a former process recorded of machines that no driver claims now. It is kept in case a
    /// driver claims them again.
    orphans: BTreeMap<MachineId, Mark>,
    queues: Vec<Queue>,
    durations: Durations,
    /// The timing of each assignment.
    timings: Vec<Timing>,
    /// Machines that we put to sleep and that may run: a permit or a durable write may allow them
    /// to be woken.
    to_wake: BTreeSet<MachineId>,
    meters: Meters,
    guard: Guard,
    guarding: Guarding,
    intents: Intents,
    /// The machines that the switchboard said last are ours.
    owned: Arc<BTreeMap<MachineId, Timestamp>>,
    changes: Changes,
    outputs: VecDeque<Output>,
    /// When the timeline's next step is due.
    next_due: Option<Instant>,
    /// Whether the wall clock was stepped, as the task was last told.
    stepped: bool,
    order: u64,
    version: u64,
    written: u64,
    durable: u64,
    write_retry_at: Option<Instant>,
    /// When the state was last given out to be written.
    written_at: Option<Instant>,
    reported: Option<Instant>,
    /// Whether something has changed that must be reported without delay.
    news: bool,
    /// When meters were last reported.
    meters_reported: Option<Instant>,
    all_meters_reported: Option<Instant>,
}

/// The core is called at least this often, so that steps of the wall clock are noticed.
const TICK_MAX: Duration = Duration::from_secs(1);
/// The wait after a write of the state failed.
const WRITE_RETRY: Duration = Duration::from_secs(1);

impl AgentCore {
    /// Continues where a former process stopped: its standings hold, every device is read first,
    /// and nothing is woken. `sender` must be new.
    #[must_use]
    pub fn new(
        mut config: CoreConfig,
        state: AgentState,
        sender: ReportSender,
        now: Instant,
    ) -> Self {
        config.timing = config.timing.bounded();
        let timings = config.assignments.iter().map(|one| config.timing.of(one)).collect();
        let queues = config.drivers.iter().map(|driver| Queue::new(driver.in_flight)).collect();
        let durations = Durations::new(config.drivers.len());
        let meters = Meters::new(&config.meters, now);
        let mut core = Self {
            receiver: Receiver::restore(state.saved),
            sender,
            machines: BTreeMap::new(),
            orphans: state.marks,
            queues,
            durations,
            timings,
            to_wake: BTreeSet::new(),
            meters,
            guard: Guard::restore(config.receiver.clone(), state.guard),
            guarding: Guarding::default(),
            intents: Intents::after(state.intents),
            owned: Arc::default(),
            changes: Changes::default(),
            outputs: VecDeque::new(),
            next_due: None,
            stepped: false,
            order: 0,
            version: 0,
            written: 0,
            durable: 0,
            write_retry_at: None,
            written_at: None,
            reported: None,
            news: false,
            meters_reported: None,
            all_meters_reported: None,
            config,
        };
        core.guard.calls_every(core.config.calls_every);
        let declared: Vec<MachineId> = core
            .config
            .assignments
            .iter()
            .flat_map(|assignment| assignment.claims.machines.iter().cloned())
            .collect();
        let standing: Vec<MachineId> = core.receiver.applied().keys().cloned().collect();
        let marked: Vec<MachineId> = core.orphans.keys().cloned().collect();
        let held: Vec<MachineId> = core.guard.held().cloned().collect();
        for machine in standing.into_iter().chain(held).chain(marked).chain(declared) {
            core.meet(&machine, now);
        }
        core.meet_named(now);
        core.meet_guarded(now);
        core.guard_alone();
        core
    }

    /// The rules' state: the timeline held and the standings as applied.
    #[must_use]
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Takes what the switchboard says.
    pub fn downlink(&mut self, downlink: &Downlink, wall: Timestamp, now: Instant) {
        if let Some(table) = &downlink.guard {
            self.take_guard_table(table, now);
        }
        if let Some(owned) = &downlink.owned {
            self.take_owned(owned, wall, now);
        }
        if let Some(timeline) = &downlink.timeline {
            self.offer(timeline, now);
        }
        match &downlink.permit {
            Some(permit) => self.permit(permit, wall, now),
            None => self.receiver.withdraw(),
        }
        self.news |= self.sender.request(downlink.resync);
        self.tick(wall, now);
    }

    fn offer(&mut self, timeline: &Timeline, now: Instant) {
        let offer = self.receiver.offer(timeline);
        match offer {
            Offer::Taken => {
                debug!(number = %timeline.number, steps = timeline.steps.len(), "timeline taken");
                self.version += 1;
                self.news = true;
                self.meet_named(now);
            }
            Offer::Stale { have } => warn!(got = %timeline.number, %have, "stale timeline refused"),
            Offer::Same => {}
        }
        self.note_holds_taken(timeline, offer);
        self.outputs.push_back(Output::Offered(offer));
    }

    fn permit(&mut self, permit: &Permit, wall: Timestamp, now: Instant) {
        if self.receiver.permit(permit, wall, now) {
            self.requeue_wakes(now);
        }
    }

    /// Does everything that is due.
    pub fn tick(&mut self, wall: Timestamp, now: Instant) {
        self.advance(wall, now);
        if self.has_met() {
            self.guard_alone();
        }
        self.lift_holds(now);
        self.look_at_refused_wakes(now);
        self.issue(wall, now);
        self.changes.due(now).iter().for_each(Line::tell);
        // Lowering never waits for this: the task writes and commands side by side.
        self.persist(now);
        for meter in self.meters.due(now) {
            self.outputs.push_back(Output::Measure(meter));
        }
        self.report(wall, now);
        self.report_meters(wall, now);
        self.report_guard(wall, now);
        self.report_drivers(wall, now);
    }

    /// The next output, if there is one. Ask until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::tick`] is to be called next, at the latest.
    #[must_use]
    pub fn next_tick(&self, now: Instant) -> Instant {
        let next = self.next_report(now).min(now + TICK_MAX);
        let others = self
            .queues
            .iter()
            .filter_map(Queue::next)
            .chain(self.next_due)
            .chain(self.meters.next())
            .chain(self.next_meters_report(now))
            .chain(self.next_guard_report(now))
            .chain(self.next_drivers_report(now))
            .chain(self.write_retry_at);
        others.fold(next, Instant::min).max(now)
    }

    /// A driver answered [`Kind::Sleep`] or [`Kind::Wake`].
    pub fn commanded(
        &mut self,
        machine: &MachineId,
        kind: Kind,
        result: Result<(), ActuatorError>,
        now: Instant,
    ) {
        let Some(known) = self.machines.get_mut(machine) else { return };
        if let Err(error) = &result {
            debug!(%machine, %kind, %error, "command failed");
        }
        let face = known.face();
        self.queues[known.driver].ended(kind, now);
        if result.is_ok()
            && let Some(since) = known.told_at(kind)
        {
            self.durations.note(known.driver, now.saturating_duration_since(since));
        }
        known.commanded(kind, result, &self.timings[known.assignment], now);
        self.news |= known.face() != face;
        self.note_change(machine, now);
        self.requeue(machine, now);
    }

    /// A driver answered [`Kind::Read`].
    pub fn read(
        &mut self,
        machine: &MachineId,
        result: Result<Reading, ActuatorError>,
        now: Instant,
    ) {
        let Some(known) = self.machines.get_mut(machine) else { return };
        let (face, mark) = (known.face(), known.mark());
        self.queues[known.driver].ended(Kind::Read, now);
        if known.read(result, &self.timings[known.assignment], now) {
            debug!(%machine, "woke by itself, is put back to sleep");
        }
        self.news |= known.face() != face;
        if known.mark() != mark {
            self.version += 1;
        }
        self.guard_read(machine, now);
        self.note_change(machine, now);
        self.restand(machine, now);
    }

    /// A meter answered. If it shows that a feed carries too much, the commands follow at once.
    pub fn measured(
        &mut self,
        meter: &MeterId,
        result: Result<MeterReading, MeterError>,
        wall: Timestamp,
        now: Instant,
    ) {
        let reading = self.meters.measured(meter, result, wall, now);
        self.guard_sample(meter, reading.as_ref(), wall, now);
    }

    /// Handles the end of the write of `version`.
    pub fn persisted(&mut self, version: u64, ok: bool, now: Instant) {
        if !ok {
            // Lowering continues; wakes wait, because a raise must be on record first.
            self.written = self.durable;
            self.write_retry_at = Some(now + WRITE_RETRY);
            return;
        }
        self.durable = self.durable.max(version);
        self.requeue_wakes(now);
    }

    /// The state to remember, for a last write when the agent ends.
    #[must_use]
    pub fn state(&self) -> AgentState {
        let mut marks = self.orphans.clone();
        marks.extend(
            self.machines.iter().filter_map(|(id, machine)| Some((id.clone(), machine.mark()?))),
        );
        AgentState {
            saved: self.receiver.saved().clone(),
            marks,
            guard: self.guard.saved(),
            intents: self.intents.last,
        }
    }

    /// Whether everything that must be remembered has been written.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable == self.version
    }

    /// Whether a last write is due when the agent ends. It is due even if only time has passed,
    /// because the next process compares its clock with the time in the file.
    #[must_use]
    pub fn wants_last_write(&self) -> bool {
        !self.is_durable() || self.receiver.number().is_some()
    }

    /// Reports when the wall clock is stepped, and when it is right again.
    fn watch_clock(&mut self) {
        let off = self.receiver.stepped();
        let was_stepped = std::mem::replace(&mut self.stepped, off.is_some());
        if off.is_some() != was_stepped {
            // The time with which a restart compares its clock has changed.
            self.version += u64::from(self.receiver.number().is_some());
            self.outputs.push_back(Output::Clock(off));
        }
    }

    /// Applies the steps that are due by the receiver's rules.
    fn advance(&mut self, wall: Timestamp, now: Instant) {
        let advance = self.receiver.advance(wall, now);
        if self.guard.needs_time() {
            self.guard.advance(self.receiver.clock(wall, now));
        }
        self.watch_clock();
        self.next_due = advance.wait.map(|wait| now + wait.min(TICK_MAX));
        if advance.changes.is_empty() {
            return;
        }
        self.version += 1;
        self.news = true;
        for change in advance.changes {
            debug!(machine = %change.machine, from = ?change.from.action, to = ?change.to.action, "standing changed");
            self.meet(&change.machine, now);
            if let Some(machine) = self.machines.get_mut(&change.machine) {
                self.order += 1;
                machine.order = self.order;
                machine.raised_in = self.version;
            }
            self.restand(&change.machine, now);
        }
    }

    /// Notes for the log what has changed of a machine.
    fn note_change(&mut self, id: &MachineId, now: Instant) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        let Some(change) = machine.change() else { return };
        debug!(machine = %id, ?change, "machine changed");
        // Only a timeline names groups, and the one that named this machine may be gone.
        let group = machine.group.clone().unwrap_or_else(|| "unknown".into());
        self.changes.note(id, &group, change, now);
    }

    /// Logs the changes that were not logged yet.
    pub fn tell_changes(&mut self, now: Instant) {
        self.changes.take(now).iter().for_each(Line::tell);
    }

    /// Sets what is wanted of a machine now, and queues the command that follows from it.
    fn restand(&mut self, id: &MachineId, now: Instant) {
        let standing = self.standing(id);
        let Some(machine) = self.machines.get_mut(id) else { return };
        let (was, drew) = (machine.want(), machine.draws());
        machine.set_standing(standing);
        if machine.want() == Want::Awake {
            self.to_wake.insert(id.clone());
        } else {
            self.to_wake.remove(id);
        }
        self.guard_restood(id, was, drew, now);
        self.requeue(id, now);
    }

    fn persist(&mut self, now: Instant) {
        // A restart compares the wall clock with the time that was written last.
        let since = *self.written_at.get_or_insert(now);
        if self.receiver.number().is_some()
            && self.is_durable()
            && now.saturating_duration_since(since) >= SEEN_EVERY
        {
            self.version += 1;
        }
        let writing = self.written > self.durable;
        let waiting = self.write_retry_at.is_some_and(|at| now < at);
        if self.is_durable() || writing || waiting {
            return;
        }
        self.write_retry_at = None;
        self.written_at = Some(now);
        self.written = self.version;
        self.outputs
            .push_back(Output::Persist { version: self.version, state: Box::new(self.state()) });
    }

    fn next_report(&self, now: Instant) -> Instant {
        let timing = &self.config.timing;
        let wait = if self.news {
            timing.report_gap.min(timing.report_every)
        } else {
            timing.report_every
        };
        self.reported.map_or(now, |at| at + wait)
    }

    fn report(&mut self, wall: Timestamp, now: Instant) {
        if now < self.next_report(now) {
            return;
        }
        self.reported = Some(now);
        self.news = false;
        let number: Option<Generation> = self.receiver.number();
        let mut counts = MachineCounts::default();
        let mut look = self.sender.begin();
        for (id, machine) in &self.machines {
            let seen = machine.seen(id, |intent| self.intents.is_lost(intent));
            look.see(&seen);
            counts.add(seen.state, seen.failures);
        }
        self.outputs.push_back(Output::Report { delta: look.finish(wall, number), counts });
    }

    /// The link took the last report. Without this call, the next report repeats its changes.
    pub fn handed_over(&mut self) {
        self.sender.handed_over();
    }

    /// When meters are next to be reported: soon after a measurement, and all of them as often as
    /// machines.
    fn next_meters_report(&self, now: Instant) -> Option<Instant> {
        if self.meters.is_empty() {
            return None;
        }
        let timing = &self.config.timing;
        let all = self.all_meters_reported.map_or(now, |at| at + timing.report_every);
        let gap = timing.report_gap.min(timing.report_every);
        let soon = self.meters_reported.map_or(now, |at| at + gap);
        Some(if self.meters.are_unreported() { soon.min(all) } else { all })
    }

    fn report_meters(&mut self, wall: Timestamp, now: Instant) {
        if self.next_meters_report(now).is_none_or(|due| now < due) {
            return;
        }
        let every = self.config.timing.report_every;
        let full = self.all_meters_reported.is_none_or(|at| now >= at + every);
        self.meters_reported = Some(now);
        if full {
            self.all_meters_reported = Some(now);
        }
        let meters = self.meters.report(full);
        self.outputs.push_back(Output::ReportMeters(MetersReport { at: wall, full, meters }));
    }

    /// How many machines this agent has put to sleep and not yet seen awake again.
    #[must_use]
    pub fn slept_by_us(&self) -> usize {
        self.machines.values().filter(|machine| machine.asleep_by() == Some(AsleepBy::Us)).count()
    }
}

impl MachineCounts {
    fn add(&mut self, state: DeviceState, failures: u32) {
        *match state {
            DeviceState::Awake => &mut self.awake,
            DeviceState::Asleep => &mut self.asleep,
            DeviceState::Unknown => &mut self.unknown,
        } += 1;
        self.failing += i64::from(failures > 0);
    }
}

#[cfg(test)]
mod tests;
