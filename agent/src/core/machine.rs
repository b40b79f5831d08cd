//! One machine: its wanted state, its last reading, its last command, and from these the next
//! command. The core decides when there is room for that command, and whether a wake is allowed.

use std::time::{Duration, Instant};

use directive::{
    Action, ActuatorError, DeviceState, GroupId, MachineId, Means, Reading, SeenMachine, Standing,
    Watts,
};
use jiff::Timestamp;

use super::changes::Change;
use super::{Kind, Timing};
use crate::guard::Seen;
use crate::state::{AsleepBy, Mark};

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
    /// Until when the last command may still take effect.
    follow_by: Option<Instant>,
    retry_at: Option<Instant>,
    failures: u32,
    woke_by_itself: bool,
    command_fault: Option<String>,
    read_fault: Option<String>,
    noted: Noted,
}

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
    ) -> Self {
        let asleep_by = mark.map(|mark| mark.asleep_by);
        Self {
            assignment,
            driver,
            busy: None,
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
            read_first: true,
            touched: None,
            slept: None,
            woken: None,
            slept_at: mark.and_then(|mark| mark.slept_at),
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

    pub(super) fn asleep_by(&self) -> Option<AsleepBy> {
        self.asleep_by
    }

    /// What must be remembered of the machine.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.asleep_by.map(|asleep_by| Mark { asleep_by, slept_at: self.slept_at })
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
        self.failures = 0;
        self.command_fault = None;
        self.woke_by_itself = false;
        self.noted = Noted::default();
        // The machine is commanded at once, with two exceptions: a machine that already sleeps, and
        // is not about to wake, is verified instead; and one that was never read is read before an
        // ordinary drain, so that we know whether somebody else had put it to sleep. A curtailment
        // does not wait for this reading.
        let never_read = self.touched.is_none() && standing.action == Action::Drain;
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
            _ if self.read_first => return (Kind::Read, now),
            // An awake machine is watched until its last sleep command can no longer take effect.
            Want::Awake if self.does_as_wanted() => return read_after(timing.read_in_doubt),
            Want::Asleep if self.does_as_wanted() && self.woken.is_some() => {
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

    /// The command goes out.
    pub(super) fn issued(&mut self, kind: Kind, wall: Timestamp, now: Instant) {
        self.busy = Some(kind);
        match kind {
            Kind::Read => {}
            Kind::Wake => {
                self.fresh = false;
                self.woken = Some(now);
            }
            Kind::Sleep => {
                self.fresh = false;
                self.slept = Some(now);
                self.slept_at = Some(wall);
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
        self.note_who_put_it_to_sleep(timing, now);
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

    fn note_who_put_it_to_sleep(&mut self, timing: &Timing, now: Instant) {
        let settled = self.slept.is_none_or(|slept| now >= slept + timing.follow(Kind::Sleep));
        match (self.state, self.asleep_by) {
            (DeviceState::Asleep, None) => self.asleep_by = Some(AsleepBy::Other),
            (DeviceState::Awake, Some(AsleepBy::Other)) => self.asleep_by = None,
            // A sleep command may still take effect after a release has overtaken it, so the
            // machine counts as put to sleep by us until that is no longer possible.
            (DeviceState::Awake, Some(AsleepBy::Us)) if self.want != Want::Asleep && settled => {
                self.asleep_by = None;
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
    pub(super) fn seen<'a>(&'a self, machine: &'a MachineId) -> SeenMachine<'a> {
        // The machine may just not have booted yet.
        let undecided =
            self.want == Want::Asleep && self.state == DeviceState::Asleep && self.woken.is_some();
        SeenMachine {
            machine,
            state: if undecided { DeviceState::Unknown } else { self.state },
            watts: self.watts,
            read_at: self.read_at,
            slept_at: self.slept_at,
            failures: self.failures,
            fault: self.command_fault.as_deref().or(self.read_fault.as_deref()),
        }
    }

    /// The part of the machine's state whose changes are reported without delay.
    pub(super) fn face(&self) -> (DeviceState, u32, bool) {
        (self.state, self.failures, self.read_fault.is_some())
    }
}
