//! One machine: its wanted state, its last reading, its last command, and from these the next
//! command. The core decides when there is room for that command, and whether a wake is allowed.

use std::time::{Duration, Instant};

use directive::{
    Action, ActuatorError, AsleepBy, DeviceState, GroupId, MachineId, Means, Reading, SeenMachine,
    Standing, Watts,
};
use jiff::Timestamp;

use super::changes::Change;
use super::{Kind, Timing};
use crate::guard::Seen;
use crate::state::Mark;

/// What is wanted of a machine's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The machine must sleep: it is commanded until it does.
    Asleep,
    /// We put the machine to sleep, and it may run again.
    Awake,
    /// Nothing is wanted: the machine is only read.
    Leave,
}

impl Want {
    /// Only a machine that a device reaches is put to sleep, and only one that we put to sleep is
    /// woken.
    pub(super) fn of(standing: Standing, asleep_by: Option<AsleepBy>) -> Self {
        match (standing.action, standing.means) {
            (action, Means::Device) if action.sheds() => Self::Asleep,
            (Action::Run, _) if asleep_by == Some(AsleepBy::Us) => Self::Awake,
            _ => Self::Leave,
        }
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    /// Index of the assignment that claims the machine.
    pub(super) assignment: usize,
    pub(super) driver: usize,
    /// The command that is under way; there is never a second one.
    pub(super) busy: Option<Kind>,
    /// Whether it is read more often while it sleeps: a feed above it carries too much.
    pub(super) doubted: bool,
    /// The machine's place in its driver's queues.
    pub(super) queued: Option<(Kind, Instant, u64)>,
    /// The machine's position, from the timeline, among machines that became due together.
    pub(super) order: u64,
    /// The version of the state file that records the machine's raise: the machine is not woken
    /// before that version is durable.
    pub(super) raised_in: u64,
    /// The group that the timeline gives for the machine.
    pub(super) group: Option<GroupId>,
    want: Want,
    asleep_by: Option<AsleepBy>,
    state: DeviceState,
    watts: Option<Watts>,
    read_at: Option<Timestamp>,
    /// Whether `state` was read after the last command.
    fresh: bool,
    /// Whether the machine must be read once before its first command.
    read_first: bool,
    /// When the machine was last read or commanded.
    touched: Option<Instant>,
    slept: Option<Instant>,
    /// When the machine was last told to wake, while it may still be booting: until it has booted,
    /// its device says that it sleeps, whatever it was told since.
    woken: Option<Instant>,
    slept_at: Option<Timestamp>,
    woken_at: Option<Timestamp>,
    /// Whether no reading has shown yet that the last sleep command took effect.
    sleep_is_open: bool,
    /// The number of the newest intent about the machine.
    pub(super) intent: u64,
    /// Whether the switchboard's ledger has it that the machine is ours.
    pub(super) ledgered: bool,
    /// The command that the driver gave no answer to in time, and why: it may have reached the
    /// device. The machine is read before the command is counted or repeated.
    unknown: Option<(Kind, String)>,
    /// Until when the last command may still take effect.
    follow_by: Option<Instant>,
    retry_at: Option<Instant>,
    failures: u32,
    woke_by_itself: bool,
    command_fault: Option<String>,
    read_fault: Option<String>,
    noted: Noted,
}

/// How long after its sleep command a machine that falls asleep still does so because of it. Devices
/// have been seen to take 45 s where their group was said to take 20.
const LATE_EFFECT: Duration = Duration::from_mins(10);

/// What was noted for the log since the machine's wanted state last changed.
#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    told: bool,
    done: bool,
    failed: bool,
}

impl Machine {
    /// A machine of which nothing is known yet, except the state of a former process.
    pub(super) fn new(
        assignment: usize,
        driver: usize,
        mark: Option<Mark>,
        standing: Standing,
        now: Instant,
    ) -> Self {
        let asleep_by = mark.map(|mark| mark.asleep_by);
        let ours = mark.filter(|mark| mark.asleep_by == AsleepBy::Us);
        // How long ago a former process gave its commands is not known, so they may take effect
        // for as long as if they had been given now.
        let woken = ours.filter(|mark| mark.woken_at.is_some());
        let boots = woken.is_some_and(|mark| mark.woken_at >= mark.slept_at);
        Self {
            assignment,
            driver,
            busy: None,
            doubted: false,
            queued: None,
            order: 0,
            raised_in: 0,
            group: None,
            want: Want::of(standing, asleep_by),
            asleep_by,
            state: DeviceState::Unknown,
            watts: None,
            read_at: None,
            fresh: false,
            // A machine that boots says that it sleeps; to be asleep, it must be told.
            read_first: !boots,
            touched: None,
            slept: ours.filter(|mark| mark.slept_at.is_some() && !boots).map(|_| now),
            woken: woken.map(|_| now),
            slept_at: mark.and_then(|mark| mark.slept_at),
            woken_at: woken.and_then(|mark| mark.woken_at),
            sleep_is_open: ours.is_some() && !boots,
            intent: 0,
            ledgered: false,
            unknown: None,
            follow_by: None,
            retry_at: None,
            failures: 0,
            woke_by_itself: false,
            command_fault: None,
            read_fault: None,
            // A machine that a former process put to sleep is not logged when it is read asleep.
            noted: Noted { done: asleep_by.is_some(), ..Noted::default() },
        }
    }

    pub(super) fn want(&self) -> Want {
        self.want
    }

    /// When the sleep command was issued that is under way, if it is of this kind.
    pub(super) fn told_at(&self, kind: Kind) -> Option<Instant> {
        self.slept.filter(|_| kind == Kind::Sleep && self.busy == Some(Kind::Sleep))
    }

    pub(super) fn asleep_by(&self) -> Option<AsleepBy> {
        self.asleep_by
    }

    /// What must be remembered of the machine.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.asleep_by.map(|asleep_by| Mark {
            asleep_by,
            slept_at: self.slept_at,
            woken_at: self.woken_at,
        })
    }

    /// A record has it that we put the machine to sleep: the switchboard's ledger, or a journal that
    /// was read late. Returns whether that is new. What the machine was told last is not known then,
    /// so that it may be booting.
    pub(super) fn own(&mut self, wall: Timestamp, now: Instant) -> bool {
        if self.asleep_by == Some(AsleepBy::Us) || self.says(DeviceState::Awake) {
            return false;
        }
        self.asleep_by = Some(AsleepBy::Us);
        if self.intent == 0 {
            (self.woken, self.woken_at) = (Some(now), Some(wall));
            self.read_first = false;
        }
        true
    }

    /// Whether the machine is read before its next command.
    pub(super) fn is_read_first(&self) -> bool {
        self.read_first
    }

    /// Whether nothing is lost if the machine is forgotten.
    pub(super) fn is_forgettable(&self) -> bool {
        self.want == Want::Leave && self.asleep_by.is_none() && self.busy.is_none()
    }

    /// Takes the standing that the machine has now.
    pub(super) fn set_standing(&mut self, standing: Standing) {
        let want = Want::of(standing, self.asleep_by);
        if want == self.want {
            return;
        }
        self.want = want;
        self.follow_by = None;
        self.retry_at = None;
        self.unknown = None;
        self.failures = 0;
        self.command_fault = None;
        self.woke_by_itself = false;
        self.noted = Noted::default();
        // The machine is commanded at once, with two exceptions: a machine that already sleeps, and
        // is not about to wake, is verified instead; and one that was never read is read before an
        // ordinary drain, so that we know whether somebody else had put it to sleep. A curtailment
        // does not wait for this reading, and neither does a machine that is known to be ours.
        let is_ours = self.asleep_by == Some(AsleepBy::Us);
        let never_read = self.touched.is_none() && standing.action == Action::Drain && !is_ours;
        let sleeps = self.says(DeviceState::Asleep) && self.woken.is_none();
        self.read_first = want == Want::Asleep && (never_read || sleeps);
        self.fresh &= self.woken.is_none();
    }

    /// Whether the last reading has this state and is newer than the last command.
    fn says(&self, state: DeviceState) -> bool {
        self.fresh && self.state == state
    }

    fn does_as_wanted(&self) -> bool {
        match self.want {
            Want::Asleep => self.is_asleep(),
            Want::Awake => self.says(DeviceState::Awake),
            Want::Leave => true,
        }
    }

    /// Whether the machine was told to wake and has not been told to sleep since. Its device
    /// reports `asleep` until the machine has booted, and so does a read that was under way when it
    /// was told.
    fn boots(&self) -> bool {
        self.woken.is_some_and(|woken| self.slept.is_none_or(|slept| slept < woken))
    }

    /// Whether the device has said so since the last command.
    pub(super) fn is_read(&self, state: DeviceState) -> bool {
        self.says(state)
    }

    /// Whether the device has confirmed since the last command that the machine sleeps.
    pub(super) fn is_asleep(&self) -> bool {
        self.says(DeviceState::Asleep) && !self.boots()
    }

    /// The power that the device reported last.
    pub(super) fn watts(&self) -> Option<Watts> {
        self.watts
    }

    /// Whether the machine draws power, as far as is known: one whose device says nothing draws,
    /// unless it was put to sleep before, and one that boots does not draw yet.
    pub(super) fn draws(&self) -> bool {
        match self.state {
            _ if self.boots() => false,
            DeviceState::Asleep if self.fresh => false,
            DeviceState::Awake if self.fresh => true,
            _ => self.asleep_by.is_none(),
        }
    }

    /// The machine as the guard sees it.
    pub(super) fn guarded(&self) -> Seen {
        match self.want {
            Want::Asleep if self.does_as_wanted() => Seen::Sleeps,
            Want::Asleep if self.failures > 0 || self.read_fault.is_some() => Seen::Defies,
            Want::Asleep if !self.noted.told => Seen::Defies,
            Want::Asleep => Seen::Other,
            _ if self.boots() => Seen::Boots,
            _ if !self.draws() => Seen::Other,
            _ if self.read_at.is_none() || self.read_fault.is_some() => Seen::Silent,
            _ => Seen::Runs,
        }
    }

    /// Returns the next command and when it is due. `may_wake` says that a wake is allowed now.
    pub(super) fn next(&self, timing: &Timing, may_wake: bool, now: Instant) -> (Kind, Instant) {
        let read_after =
            |period: Duration| (Kind::Read, self.touched.map_or(now, |at| at + period));
        let command = match self.want {
            Want::Leave => return read_after(timing.read_at_rest),
            Want::Awake if !may_wake => return read_after(timing.read_at_rest),
            _ if self.read_first || self.unknown.is_some() => return (Kind::Read, now),
            // An awake machine is watched until its last sleep command can no longer take effect.
            Want::Awake if self.does_as_wanted() && self.has_settled(timing, now) => {
                return read_after(timing.read_at_rest);
            }
            Want::Awake if self.does_as_wanted() => return read_after(timing.read_in_doubt),
            Want::Asleep if self.does_as_wanted() && (self.woken.is_some() || self.doubted) => {
                return read_after(timing.read_in_doubt);
            }
            Want::Asleep if self.does_as_wanted() => return read_after(timing.read_at_rest),
            Want::Awake => Kind::Wake,
            Want::Asleep => Kind::Sleep,
        };
        let read = read_after(timing.read_in_doubt);
        if self.follow_by.is_some() {
            return read;
        }
        match self.retry_at {
            Some(at) if read.1 < at => read,
            at => (command, at.unwrap_or(now)),
        }
    }

    /// Whether only a reading keeps the machine from its first command since its wanted state
    /// changed, and that reading is not needed: the first one of all tells whether somebody else has
    /// put the machine to sleep.
    pub(super) fn waits_for_a_reading(&self) -> bool {
        self.busy == Some(Kind::Read) && !self.noted.told && self.touched.is_some()
    }

    /// The reading under way, if there is one, is not waited for. Returns whether there was one.
    pub(super) fn give_up_read(&mut self, now: Instant) -> bool {
        let is_read = self.busy.take_if(|busy| *busy == Kind::Read).is_some();
        if is_read {
            self.touched = Some(now);
        }
        is_read
    }

    /// The command goes out.
    pub(super) fn issued(&mut self, kind: Kind, wall: Timestamp, now: Instant) {
        self.busy = Some(kind);
        match kind {
            Kind::Read => {}
            Kind::Wake => {
                self.fresh = false;
                self.woken = Some(now);
                self.woken_at = Some(wall);
            }
            Kind::Sleep => {
                self.fresh = false;
                self.slept = Some(now);
                self.slept_at = Some(wall);
                self.sleep_is_open = true;
                // A machine that somebody else put to sleep keeps that mark; the mark is cleared
                // when the machine is read awake.
                self.asleep_by.get_or_insert(AsleepBy::Us);
            }
        }
    }

    /// The driver answered a sleep or wake.
    pub(super) fn commanded(
        &mut self,
        kind: Kind,
        result: Result<(), ActuatorError>,
        timing: &Timing,
        now: Instant,
    ) {
        self.busy = None;
        self.touched = Some(now);
        let wanted = match self.want {
            Want::Asleep => Kind::Sleep,
            Want::Awake => Kind::Wake,
            Want::Leave => return,
        };
        if kind != wanted {
            return;
        }
        match result {
            Ok(()) => {
                self.retry_at = None;
                self.follow_by = Some(now + timing.follow(kind));
            }
            // It may have reached the device.
            Err(error @ ActuatorError::Timeout { .. }) => {
                self.unknown = Some((kind, format!("{kind}: {error}")));
            }
            Err(error) => self.failed(format!("{kind}: {error}"), timing, now),
        }
    }

    /// The driver answered a read. Returns whether the machine woke although it must sleep.
    pub(super) fn read(
        &mut self,
        result: Result<Reading, ActuatorError>,
        timing: &Timing,
        now: Instant,
    ) -> bool {
        let slept_before = self.want == Want::Asleep && self.says(DeviceState::Asleep);
        let was_waking = self.woken.is_some();
        self.busy = None;
        self.touched = Some(now);
        self.read_first = false;
        self.fresh = true;
        match result {
            Ok(reading) => {
                self.state = reading.state;
                self.watts = reading.watts;
                self.read_at = Some(reading.read_at);
                self.read_fault = None;
            }
            Err(error) => {
                // The former state must not be kept, because there is no reading.
                self.state = DeviceState::Unknown;
                self.watts = None;
                self.read_fault = Some(format!("{}: {error}", Kind::Read));
            }
        }
        let has_woken = self.state == DeviceState::Awake;
        self.woken =
            self.woken.filter(|woken| !has_woken && now < *woken + timing.follow(Kind::Wake));
        if self.woken.is_none() {
            self.woken_at = None;
        }
        self.sleep_is_open &= self.state != DeviceState::Asleep || self.boots();
        self.note_who_put_it_to_sleep(timing, now);
        let unknown = self.unknown.take();
        if slept_before && self.state == DeviceState::Awake && !was_waking {
            self.failures = self.failures.saturating_add(1);
            self.woke_by_itself = true;
            self.command_fault = Some("woke by itself".into());
            return true;
        }
        if self.does_as_wanted() {
            self.follow_by = None;
            self.retry_at = None;
            self.failures = 0;
            if !self.woke_by_itself {
                self.command_fault = None;
            }
        } else if let Some((kind, fault)) = unknown {
            self.came_to_nothing(kind, fault, timing, now);
        } else if let Some(by) = self.follow_by
            && now >= by
        {
            let kind = if self.want == Want::Awake { Kind::Wake } else { Kind::Sleep };
            self.failed(
                format!("{kind}: not followed within {} s", timing.follow(kind).as_secs()),
                timing,
                now,
            );
        }
        false
    }

    /// The driver gave no answer to a command in time, and the machine was asked since: it is not
    /// seen to have done as it was told. The command may have reached it, so it gets the time that
    /// it needs before that counts as a failure. A machine that was told to wake gets that time also
    /// when it answers no read: one that boots often answers nothing, and a second command would
    /// make it start over. A second sleep command does no harm, so that a machine that must sleep
    /// and answers nothing at all fails at once, and others can take its place.
    fn came_to_nothing(&mut self, kind: Kind, fault: String, timing: &Timing, now: Instant) {
        let told = match kind {
            Kind::Wake => self.woken,
            Kind::Sleep if self.read_fault.is_none() => self.slept,
            Kind::Sleep | Kind::Read => None,
        };
        match told.map(|told| told + timing.follow(kind)).filter(|until| now < *until) {
            Some(until) => self.follow_by = Some(until),
            None => self.failed(fault, timing, now),
        }
    }

    /// Whether the last sleep command has had the time that the machine's group needs to follow it.
    fn has_settled(&self, timing: &Timing, now: Instant) -> bool {
        self.slept.is_none_or(|slept| now >= slept + timing.follow(Kind::Sleep))
    }

    fn note_who_put_it_to_sleep(&mut self, timing: &Timing, now: Instant) {
        match (self.state, self.asleep_by) {
            (DeviceState::Asleep, None) => self.asleep_by = Some(AsleepBy::Other),
            (DeviceState::Awake, Some(AsleepBy::Other)) => self.asleep_by = None,
            // A sleep command may still take effect after a release has overtaken it, so the
            // machine counts as put to sleep by us until that is no longer possible: for long after
            // the time that its group should need, if it was never seen to take effect.
            (DeviceState::Awake, Some(AsleepBy::Us)) if self.want != Want::Asleep => {
                let is_late = |slept: Instant| now >= slept + LATE_EFFECT;
                let is_over = !self.sleep_is_open || self.slept.is_none_or(is_late);
                if self.has_settled(timing, now) && is_over {
                    self.asleep_by = None;
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, fault: String, timing: &Timing, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.command_fault = Some(fault);
        self.follow_by = None;
        self.retry_at = Some(now + timing.backoff(self.failures));
    }

    /// What is not logged of the machine yet: that it was told, that it followed, or that it fails.
    /// Repeated commands and repeated failures are not logged again.
    pub(super) fn change(&mut self) -> Option<Change> {
        if let Some(kind @ (Kind::Sleep | Kind::Wake)) = self.busy
            && !self.noted.told
        {
            self.noted = Noted { told: true, ..Noted::default() };
            let sleep = kind == Kind::Sleep;
            return Some(if sleep { Change::CommandedSleep } else { Change::CommandedWake });
        }
        if self.failures > 0 && !self.noted.failed {
            self.noted = Noted { failed: true, done: false, ..self.noted };
            return Some(Change::Failed { fault: self.command_fault.clone().unwrap_or_default() });
        }
        if self.want != Want::Leave && self.does_as_wanted() && !self.noted.done {
            self.noted = Noted { failed: false, done: true, ..self.noted };
            return Some(if self.want == Want::Asleep { Change::Asleep } else { Change::Awake });
        }
        None
    }

    /// The machine as reports show it.
    ///
    /// `lost` says which intents are not on the agent's disk.
    pub(super) fn seen<'a>(
        &'a self,
        machine: &'a MachineId,
        lost: impl Fn(u64) -> bool,
    ) -> SeenMachine<'a> {
        // The machine may just not have booted yet.
        let undecided =
            self.want == Want::Asleep && self.state == DeviceState::Asleep && self.woken.is_some();
        SeenMachine {
            machine,
            state: if undecided { DeviceState::Unknown } else { self.state },
            watts: self.watts,
            read_at: self.read_at,
            slept_at: self.slept_at,
            asleep_by: self.asleep_by,
            unrecorded: self.asleep_by.is_some() && !self.ledgered && lost(self.intent),
            failures: self.failures,
            fault: self.command_fault.as_deref().or(self.read_fault.as_deref()),
        }
    }

    /// The part of the machine's state whose changes are reported without delay.
    pub(super) fn face(&self) -> (DeviceState, u32, bool) {
        (self.state, self.failures, self.read_fault.is_some())
    }
}
