//! One proxy or agent, as the switchboard knows it: by its link, which says who it is, and by its
//! reports, from which its view is rebuilt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use directive::{
    Delta, DeviceState, DriverReport, DriversReport, Entry, Generation, GuardReport, MachineId,
    MachineReport, MeterId, MeterReport, MetersReport, ReceiverRole, Replica, Report, Serving,
    SessionReport, Taken,
};
use jiff::Timestamp;

use crate::policy::Policy;

/// The maximum number of machines, and of meters, of one receiver; further ones are ignored and
/// counted.
pub(super) const ENTRIES: usize = 100_000;

#[derive(Debug)]
pub(super) struct Endpoint {
    /// Whether the receiver's link is attached now. The machines that a detached receiver reported
    /// still count.
    pub(super) attached: bool,
    /// The timeline that the receiver holds, by its newest report over the present link.
    pub(super) number: Option<Generation>,
    /// When the receiver's newest report was made; before the first report, when its link was
    /// attached.
    pub(super) at: Timestamp,
    /// When the link was first attached.
    since: Instant,
    /// When a report arrived that made the view complete. While changes are missing, the view grows
    /// old.
    heard: Option<Instant>,
    pub(super) view: View,
}

#[derive(Debug)]
pub(super) enum View {
    Proxy(Sessions),
    Agent(Devices),
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    replica: Replica<SessionReport>,
    /// The number of machines by how their sessions are served.
    serving: BTreeMap<Serving, u32>,
}

#[derive(Debug, Default)]
pub(super) struct Devices {
    replica: Replica<MachineReport>,
    /// For each machine whose device says that it sleeps, the first reading of the present sleep.
    asleep_since: BTreeMap<MachineId, Timestamp>,
    /// The machines whose devices say that they sleep, or of which the agent says who put them to
    /// sleep.
    sleepers: BTreeSet<MachineId>,
    meters: BTreeMap<MeterId, Measured>,
    /// The newest report of the agent's guard.
    guard: Option<GuardReport>,
    /// How long the agent's drivers take, by its newest report.
    drivers: Vec<DriverReport>,
}

/// A machine as an agent reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device<'a> {
    pub(super) report: &'a MachineReport,
    /// The first reading of the present sleep.
    pub(super) asleep_since: Option<Timestamp>,
    heard: Option<Instant>,
    /// When the agent's newest report was made, by its own clock.
    as_of: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) report: MeterReport,
    /// When the reading's time of measurement last changed.
    pub(super) moved: Instant,
}

/// What a report brought.
#[derive(Debug)]
pub(super) struct Reported {
    /// Machines that were not in the view before.
    pub(super) new: Vec<MachineId>,
    /// Machines that appeared, went, or changed in what decides whether a plan can choose them.
    pub(super) changed: Vec<MachineId>,
    /// Machines and meters above the bound.
    pub(super) ignored: u64,
    /// What the report's changes did to the view; `None` for a report of meters or of the guard.
    pub(super) taken: Option<Taken>,
}

/// The report does not belong to the role of the link it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtherRole;

impl Endpoint {
    pub(super) fn new(role: ReceiverRole, at: Timestamp, now: Instant) -> Self {
        let view = match role {
            ReceiverRole::Proxy => View::Proxy(Sessions::default()),
            ReceiverRole::Agent => View::Agent(Devices::default()),
        };
        Self { attached: true, number: None, at, since: now, heard: None, view }
    }

    pub(super) fn role(&self) -> ReceiverRole {
        match self.view {
            View::Proxy(_) => ReceiverRole::Proxy,
            View::Agent(_) => ReceiverRole::Agent,
        }
    }

    /// A link was attached. What its receiver holds is known when it reports.
    pub(super) fn attach(&mut self) {
        self.attached = true;
        self.number = None;
    }

    /// The request for a full report.
    pub(super) fn resync(&self) -> u64 {
        match &self.view {
            View::Proxy(sessions) => sessions.replica.resync(),
            View::Agent(devices) => devices.replica.resync(),
        }
    }

    /// How old the receiver's view is; before it is complete for the first time, how long it has
    /// been awaited.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard.unwrap_or(self.since))
    }

    /// Whether the receiver's view is complete, and not older than `stale_after`.
    pub(super) fn is_live(&self, stale_after: Duration, now: Instant) -> bool {
        is_recent(self.heard, stale_after, now)
    }

    /// Takes a report, in time proportional to its size.
    pub(super) fn take(&mut self, report: Report, now: Instant) -> Result<Reported, OtherRole> {
        match (&mut self.view, report) {
            (View::Proxy(sessions), Report::Sessions(delta)) => {
                let (at, number) = (delta.at, delta.number);
                let reported = sessions.take(delta);
                self.note(reported.taken, at, number, now);
                Ok(reported)
            }
            (View::Agent(devices), Report::Machines(delta)) => {
                let (at, number) = (delta.at, delta.number);
                let reported = devices.take(delta);
                self.note(reported.taken, at, number, now);
                Ok(reported)
            }
            (View::Agent(devices), Report::Meters(meters)) => {
                let ignored = devices.measure(meters, now);
                Ok(Reported { new: Vec::new(), changed: Vec::new(), ignored, taken: None })
            }
            (View::Agent(devices), Report::Guard(guard)) => {
                let ignored = devices.take_guard(guard);
                Ok(Reported { new: Vec::new(), changed: Vec::new(), ignored, taken: None })
            }
            (View::Agent(devices), Report::Drivers(drivers)) => {
                let ignored = devices.take_drivers(drivers);
                Ok(Reported { new: Vec::new(), changed: Vec::new(), ignored, taken: None })
            }
            (View::Proxy(_), Report::Machines(_) | Report::Meters(_))
            | (View::Proxy(_), Report::Guard(_) | Report::Drivers(_))
            | (View::Agent(_), Report::Sessions(_)) => Err(OtherRole),
        }
    }

    fn note(
        &mut self,
        taken: Option<Taken>,
        at: Timestamp,
        number: Option<Generation>,
        now: Instant,
    ) {
        let Some(taken) = taken.filter(|taken| taken.newest) else { return };
        (self.at, self.number) = (at, number);
        if taken.current {
            self.heard = Some(now);
        }
    }

    pub(super) fn names(&self, machine: &MachineId) -> bool {
        match &self.view {
            View::Proxy(sessions) => sessions.entries().contains_key(machine),
            View::Agent(devices) => devices.entries().contains_key(machine),
        }
    }

    /// The machines in its view.
    pub(super) fn machines(&self) -> impl Iterator<Item = &MachineId> {
        let (sessions, devices) = match &self.view {
            View::Proxy(sessions) => (Some(sessions.entries().keys()), None),
            View::Agent(devices) => (None, Some(devices.entries().keys())),
        };
        sessions.into_iter().flatten().chain(devices.into_iter().flatten())
    }

    /// Whether `machine` counts as present: it has a live session here, or a device.
    pub(super) fn counts(&self, machine: &MachineId) -> bool {
        match &self.view {
            View::Proxy(_) => self.session(machine).is_some_and(|session| session.sessions > 0),
            View::Agent(devices) => devices.entries().contains_key(machine),
        }
    }

    /// Whether `machine` has a session with work here, or a device.
    pub(super) fn serves(&self, machine: &MachineId) -> bool {
        match &self.view {
            View::Proxy(_) => self
                .session(machine)
                .is_some_and(|session| session.sessions > 0 && session.serving == Serving::Working),
            View::Agent(devices) => devices.entries().contains_key(machine),
        }
    }

    pub(super) fn session(&self, machine: &MachineId) -> Option<&SessionReport> {
        match &self.view {
            View::Proxy(sessions) => sessions.entries().get(machine),
            View::Agent(_) => None,
        }
    }

    pub(super) fn device(&self, machine: &MachineId) -> Option<Device<'_>> {
        let View::Agent(devices) = &self.view else { return None };
        let report = devices.entries().get(machine)?;
        let asleep_since = devices.asleep_since.get(machine).copied();
        Some(Device { report, asleep_since, heard: self.heard, as_of: self.at })
    }

    /// Whether the receiver reads `meter`.
    pub(super) fn reads(&self, meter: &MeterId) -> bool {
        matches!(&self.view, View::Agent(devices) if devices.meters.contains_key(meter))
    }

    /// The receiver's meters, as they were last reported.
    pub(super) fn meters(&self) -> impl Iterator<Item = (&MeterId, &Measured)> {
        let meters = match &self.view {
            View::Agent(devices) => Some(&devices.meters),
            View::Proxy(_) => None,
        };
        meters.into_iter().flatten()
    }

    /// The newest value of `meter`, if this is an agent that reads it.
    pub(super) fn measured(&self, meter: &MeterId) -> Option<&Measured> {
        match &self.view {
            View::Agent(devices) => devices.meters.get(meter),
            View::Proxy(_) => None,
        }
    }

    /// The newest report of an agent's guard.
    pub(super) fn guard(&self) -> Option<&GuardReport> {
        match &self.view {
            View::Agent(devices) => devices.guard.as_ref(),
            View::Proxy(_) => None,
        }
    }

    /// How long an agent's drivers take, by its newest report.
    pub(super) fn drivers(&self) -> &[DriverReport] {
        match &self.view {
            View::Agent(devices) => &devices.drivers,
            View::Proxy(_) => &[],
        }
    }

    /// A proxy's machines by how their sessions are served.
    pub(super) fn machines_by_serving(&self) -> BTreeMap<Serving, u32> {
        match &self.view {
            View::Proxy(sessions) => sessions.serving.clone(),
            View::Agent(_) => BTreeMap::new(),
        }
    }
}

impl Sessions {
    pub(super) fn entries(&self) -> &BTreeMap<MachineId, SessionReport> {
        self.replica.entries()
    }

    fn take(&mut self, delta: Delta<SessionReport>) -> Reported {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        let serving = &mut self.serving;
        let taken = self.replica.take(delta, ENTRIES, |before, after| {
            let matters = |session: &SessionReport| {
                (session.sessions > 0, session.serving == Serving::Working)
            };
            if before.map(matters) != after.map(matters) {
                changed.extend(after.or(before).map(|session| session.machine.clone()));
            }
            if let Some(before) = before
                && let Some(count) = serving.get_mut(&before.serving)
            {
                *count -= 1;
                if *count == 0 {
                    serving.remove(&before.serving);
                }
            }
            if let Some(after) = after {
                *serving.entry(after.serving).or_insert(0) += 1;
                new.extend(before.is_none().then(|| after.machine().clone()));
            }
        });
        Reported { new, changed, ignored: taken.ignored, taken: Some(taken) }
    }
}

impl Devices {
    pub(super) fn entries(&self) -> &BTreeMap<MachineId, MachineReport> {
        self.replica.entries()
    }

    /// The machines whose devices say that they sleep, or of which the agent says who put them to
    /// sleep, with their reports.
    pub(super) fn sleepers(&self) -> impl Iterator<Item = (&MachineId, &MachineReport)> {
        self.sleepers.iter().filter_map(|machine| Some((machine, self.entries().get(machine)?)))
    }

    fn take(&mut self, delta: Delta<MachineReport>) -> Reported {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        let (asleep_since, sleepers) = (&mut self.asleep_since, &mut self.sleepers);
        let taken = self.replica.take(delta, ENTRIES, |before, after| {
            let matters =
                |device: &MachineReport| (device.state == DeviceState::Unknown, device.failures);
            if before.map(matters) != after.map(matters) {
                changed.extend(after.or(before).map(|device| device.machine.clone()));
            }
            let sleeps = |device: &&MachineReport| {
                device.state == DeviceState::Asleep || device.asleep_by.is_some()
            };
            match (before.filter(sleeps), after.filter(sleeps)) {
                (None, Some(after)) => drop(sleepers.insert(after.machine.clone())),
                (Some(before), None) => drop(sleepers.remove(&before.machine)),
                _ => {}
            }
            let Some(after) = after else {
                before.and_then(|before| asleep_since.remove(&before.machine));
                return;
            };
            new.extend(before.is_none().then(|| after.machine.clone()));
            let since = asleep_since.remove(&after.machine);
            // The agent's clock may have been ahead when the time was taken.
            let since = since.filter(|since| after.read_at.is_none_or(|read| *since <= read));
            if after.state == DeviceState::Asleep
                && let Some(since) = since.or(after.read_at)
            {
                asleep_since.insert(after.machine.clone(), since);
            }
        });
        Reported { new, changed, ignored: taken.ignored, taken: Some(taken) }
    }

    /// Keeps the report of the drivers. Returns 1 if it is above a bound and is ignored.
    fn take_drivers(&mut self, report: DriversReport) -> u64 {
        if !report.is_bounded() {
            return 1;
        }
        self.drivers = report.drivers;
        0
    }

    /// Keeps the report of the guard. Returns 1 if it is above a bound and is ignored.
    fn take_guard(&mut self, guard: GuardReport) -> u64 {
        if !guard.is_bounded() {
            return 1;
        }
        self.guard = Some(guard);
        0
    }

    /// Takes measurements. Returns how many meters were above the bound.
    fn measure(&mut self, MetersReport { full, meters, .. }: MetersReport, now: Instant) -> u64 {
        let mut former = std::mem::take(&mut self.meters);
        if !full {
            self.meters = std::mem::take(&mut former);
        }
        let mut ignored = 0;
        for report in meters {
            let old = former.remove(&report.meter).or_else(|| self.meters.remove(&report.meter));
            if self.meters.len() >= ENTRIES {
                ignored += 1;
                continue;
            }
            let old = old.filter(|old| old.report.taken_at == report.taken_at);
            let moved = old.map_or(now, |old| old.moved);
            self.meters.insert(report.meter.clone(), Measured { report, moved });
        }
        ignored
    }
}

impl Device<'_> {
    /// When the view that contains the device was last complete.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    pub(super) fn is_live(&self, stale_after: Duration, now: Instant) -> bool {
        is_recent(self.heard, stale_after, now)
    }

    /// Whether the device was read at `from` or later. How old the reading is goes by the agent's clock
    /// alone, which may be wrong.
    pub(super) fn was_read_since(&self, from: Instant) -> bool {
        let Some((read_at, heard)) = self.report.read_at.zip(self.heard) else { return false };
        // One that seems to be of the future counts as new.
        let age = Duration::try_from(self.as_of.duration_since(read_at)).unwrap_or_default();
        heard.checked_sub(age).is_some_and(|read| read >= from)
    }

    /// Whether as many commands in a row have failed as a machine gets.
    pub(super) fn has_failed(&self, policy: &Policy) -> bool {
        self.report.failures >= policy.failsafe.retries.max(1)
    }
}

fn is_recent(heard: Option<Instant>, stale_after: Duration, now: Instant) -> bool {
    heard.is_some_and(|heard| now.saturating_duration_since(heard) <= stale_after)
}
