//! The actual state of the site: the newest reports of proxies and agents, with their age, and what
//! follows from them: which machines there are, what state each is in, and what the meters show.
//! [`crate::plan`] decides what the state should become.

mod census;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use directive::{
    AgentReport, DeviceState, FeedId, Generation, MachineId, MachineReport, Means, MeterId,
    MeterReport, ProxyReport, Report, Serving, SessionReport, Watts,
};
use jiff::Timestamp;

use crate::admit::shed_time;
use crate::commitment::Held;
use crate::facility::{Feed, Feeds, Population};
use crate::lease::{earlier, later};
pub use crate::machine_state::MachineState;
use crate::plan::{Chosen, Fleet, Known, Returning, Selection};
use crate::policy::Policy;
use crate::view::{MachineView, ReceiverRole, ReceiverView};
pub use census::Census;

/// Receivers whose reports are kept; a further one is ignored and counted.
const RECEIVERS: usize = 64;
/// Machines or meters of one report; what exceeds it is ignored and counted.
const ENTRIES: usize = 100_000;
/// Names whose group is remembered, four times what one report may hold. Above this, names that no
/// newest report has are forgotten and counted: such a name is matched again when it returns.
const NAMES: usize = 4 * ENTRIES;
/// A share that arrives this long after the machine was read asleep was not in transit: the machine
/// hashes.
const SHARE_GRACE: Duration = Duration::from_secs(5);
/// A machine that said it was asleep while shares came from it is believed again after this long
/// without a share.
const QUIET: Duration = Duration::from_secs(120);
/// A proxy reports a machine for ten minutes after its last session. After a start of the
/// switchboard, machines have as long to appear before they count as absent.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// A measurement from further in the future than this comes from a clock that cannot be trusted.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Headroom that a meter proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// Usable power, minus what the meter shows without the leases' own draw.
    pub watts: Watts,
    /// What the meter shows.
    pub metered: Watts,
    /// The part of it that the leases' own meters account for.
    pub leased: Watts,
    /// When that was measured.
    pub taken_at: Timestamp,
}

#[derive(Debug)]
struct Receiver {
    heard: Instant,
    at: Timestamp,
    number: Option<Generation>,
    /// Machines by how their sessions are served; counted once a report.
    serving: BTreeMap<Serving, u32>,
    view: View,
}

#[derive(Debug)]
enum View {
    Proxy(BTreeMap<MachineId, SessionReport>),
    Agent { machines: BTreeMap<MachineId, Device>, meters: BTreeMap<MeterId, Measured> },
}

#[derive(Debug, Clone)]
struct Device {
    report: MachineReport,
    /// The first reading of the present sleep.
    asleep_since: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Measured {
    report: MeterReport,
    /// When its time of measurement last moved on.
    moved: Instant,
}

#[derive(Debug, Default)]
pub struct Inventory {
    receivers: BTreeMap<String, Receiver>,
    /// Which group claims a machine, so that globs are matched once per name.
    groups: HashMap<MachineId, Option<usize>>,
    /// The newest reading of each meter.
    readings: HashMap<MeterId, Reading>,
    overflow: Overflow,
    /// When the first report came.
    since: Option<Instant>,
}

/// What a meter showed when it was last read, and for how long that counts.
#[derive(Debug, Clone, Copy)]
struct Reading {
    watts: Watts,
    taken_at: Timestamp,
    /// It counts until this instant, and between these times of the wall clock.
    until: Instant,
    wall: (Timestamp, Timestamp),
}

/// What was dropped because there was too much of it, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Reports of receivers above the bound.
    pub reports: u64,
    /// Machines and meters of one report above the bound.
    pub entries: u64,
    /// Names above the bound, whose group was forgotten.
    pub names: u64,
}

impl View {
    fn names(&self, machine: &MachineId) -> bool {
        match self {
            Self::Proxy(sessions) => sessions.contains_key(machine),
            Self::Agent { machines, .. } => machines.contains_key(machine),
        }
    }
}

impl Inventory {
    /// Takes a report, which replaces the receiver's former one.
    pub fn take(&mut self, policy: &Policy, report: Report, now: Instant) {
        self.since.get_or_insert(now);
        let name = match &report {
            Report::Proxy(report) => &report.receiver,
            Report::Agent(report) => &report.receiver,
        };
        if !self.receivers.contains_key(name) && self.receivers.len() >= RECEIVERS {
            self.overflow.reports += 1;
            return;
        }
        let name = name.clone();
        let receiver = match report {
            Report::Proxy(ProxyReport { at, number, sessions, .. }) => {
                self.overflow.entries += sessions.len().saturating_sub(ENTRIES) as u64;
                let mut serving = BTreeMap::new();
                for session in sessions.iter().take(ENTRIES) {
                    *serving.entry(session.serving).or_insert(0) += 1;
                }
                let sessions = sessions
                    .into_iter()
                    .take(ENTRIES)
                    .map(|session| (session.machine.clone(), session))
                    .collect();
                Receiver { heard: now, at, number, serving, view: View::Proxy(sessions) }
            }
            Report::Agent(report) => self.agent(&name, report, now),
        };
        let names: Vec<MachineId> = match &receiver.view {
            View::Proxy(sessions) => {
                sessions.keys().filter(|id| !self.groups.contains_key(*id)).cloned().collect()
            }
            View::Agent { machines, .. } => {
                machines.keys().filter(|id| !self.groups.contains_key(*id)).cloned().collect()
            }
        };
        let has_meters = matches!(receiver.view, View::Agent { .. });
        self.receivers.insert(name, receiver);
        if has_meters {
            self.read_meters(policy);
        }
        if self.groups.len() + names.len() > NAMES {
            self.forget_names();
        }
        for id in names {
            let group = policy.facility.claimed_by(&id);
            self.groups.insert(id, group);
        }
    }

    /// Notes the newest reading of each meter that the policy knows, from the reports at hand.
    fn read_meters(&mut self, policy: &Policy) {
        self.readings.clear();
        let mut newest: HashMap<&MeterId, (&Measured, &Receiver)> = HashMap::new();
        for receiver in self.receivers.values() {
            let View::Agent { meters, .. } = &receiver.view else { continue };
            for (meter, measured) in meters {
                let other = newest.get(meter).map(|(other, _)| other.report.taken_at);
                if other.is_none_or(|other| other <= measured.report.taken_at) {
                    newest.insert(meter, (measured, receiver));
                }
            }
        }
        for (meter, (measured, receiver)) in newest {
            let Some(spec) = policy.facility.meters().get(meter) else { continue };
            let reading = reading(measured, receiver, spec.stale_after, policy);
            self.readings.extend(reading.map(|reading| (meter.clone(), reading)));
        }
    }

    fn forget_names(&mut self) {
        let before = self.groups.len();
        let receivers = &self.receivers;
        self.groups.retain(|id, _| receivers.values().any(|receiver| receiver.view.names(id)));
        self.overflow.names += (before - self.groups.len()) as u64;
    }

    fn agent(&mut self, name: &str, report: AgentReport, now: Instant) -> Receiver {
        let AgentReport { at, number, machines, meters, .. } = report;
        self.overflow.entries +=
            (machines.len().saturating_sub(ENTRIES) + meters.len().saturating_sub(ENTRIES)) as u64;
        let before = self.receivers.remove(name).map(|receiver| receiver.view);
        let (old_machines, old_meters) = match before {
            Some(View::Agent { machines, meters }) => (machines, meters),
            _ => Default::default(),
        };
        let device = |report: MachineReport| {
            let since = old_machines.get(&report.machine).and_then(|old| old.asleep_since);
            // Its clock may have been ahead then.
            let since = since.filter(|since| report.read_at.is_none_or(|read| *since <= read));
            let asleep = report.state == DeviceState::Asleep;
            let device = Device {
                asleep_since: if asleep { since.or(report.read_at) } else { None },
                report,
            };
            (device.report.machine.clone(), device)
        };
        let measured = |report: MeterReport| {
            let old =
                old_meters.get(&report.meter).filter(|old| old.report.taken_at == report.taken_at);
            let moved = old.map_or(now, |old| old.moved);
            (report.meter.clone(), Measured { report, moved })
        };
        let view = View::Agent {
            machines: machines.into_iter().take(ENTRIES).map(device).collect(),
            meters: meters.into_iter().take(ENTRIES).map(measured).collect(),
        };
        Receiver { heard: now, at, number, serving: BTreeMap::new(), view }
    }

    /// Applies another policy: its groups to all machines, its limits of age to all readings.
    pub fn regroup(&mut self, policy: &Policy) {
        for (machine, group) in &mut self.groups {
            *group = policy.facility.claimed_by(machine);
        }
        self.read_meters(policy);
    }

    /// What was dropped because a bound was reached.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// The machines that can be chosen, and how many must be counted.
    #[must_use]
    pub fn fleet(&self, policy: &Policy, held: &Selection, wall: Timestamp, now: Instant) -> Fleet {
        let mut names: BTreeMap<&MachineId, bool> = BTreeMap::new();
        for receiver in self.receivers.values() {
            match &receiver.view {
                View::Proxy(sessions) => {
                    for (id, session) in sessions {
                        // A machine without a session now is not counted, but the plan can still
                        // choose it, so that it gets no work when it comes back.
                        if session.sessions > 0 || self.group(policy, id).is_some() {
                            names.entry(id).or_insert(false);
                        }
                    }
                }
                View::Agent { machines, .. } => names.extend(machines.keys().map(|id| (id, true))),
            }
        }
        let mut fleet = Fleet {
            groups: vec![Vec::new(); policy.facility.groups().len()],
            population: Population::default(),
        };
        let settled =
            self.since.is_some_and(|since| now.saturating_duration_since(since) > FORGOTTEN);
        if settled {
            // A machine that is chosen for later but no longer reported is listed as absent.
            let unreported =
                |id: &&MachineId| !names.contains_key(id) && held.current(id, wall).is_none();
            let unreported: Vec<&MachineId> = held.off.keys().filter(unreported).collect();
            names.extend(unreported.into_iter().map(|id| (id, false)));
        }
        for (id, reached) in names {
            let Some(group) = self.group(policy, id) else { continue };
            let absent = settled && held.current(id, wall).is_none() && !self.shows(id);
            let failing = absent || self.fails(policy, id, held, wall, now);
            fleet.groups[group].push(Known { id: id.clone(), reached, failing, absent });
        }
        fleet.population = self.fleet_of(policy);
        fleet
    }

    /// How many machines must be counted under `policy`.
    #[must_use]
    pub fn fleet_of(&self, policy: &Policy) -> Population {
        // This count depends on the reports alone, neither on the selection nor on the time.
        let mut names: BTreeSet<&MachineId> = BTreeSet::new();
        for receiver in self.receivers.values() {
            match &receiver.view {
                View::Proxy(sessions) => {
                    names.extend(
                        sessions
                            .iter()
                            .filter(|(_, session)| session.sessions > 0)
                            .map(|(id, _)| id),
                    );
                }
                View::Agent { machines, .. } => names.extend(machines.keys()),
            }
        }
        let mut population = Population::default();
        for id in names {
            let count = match self.group(policy, id) {
                Some(group) => {
                    population.groups.entry(policy.facility.groups()[group].id.clone()).or_insert(0)
                }
                None => &mut population.unassigned,
            };
            *count = count.saturating_add(1);
        }
        population
    }

    fn group(&self, policy: &Policy, machine: &MachineId) -> Option<usize> {
        match self.groups.get(machine) {
            Some(group) => group.filter(|group| *group < policy.facility.groups().len()),
            None => policy.facility.claimed_by(machine),
        }
    }

    /// Whether a proxy reports `machine`, or its device says what it does.
    fn shows(&self, machine: &MachineId) -> bool {
        let read = self
            .device(machine)
            .is_some_and(|(device, _)| device.report.state != DeviceState::Unknown);
        read || self.sessions(machine).next().is_some()
    }

    fn device(&self, machine: &MachineId) -> Option<(&Device, &Receiver)> {
        let of = |receiver| -> Option<(&Device, &Receiver)> {
            let receiver: &Receiver = receiver;
            match &receiver.view {
                View::Agent { machines, .. } => {
                    machines.get(machine).map(|device| (device, receiver))
                }
                View::Proxy(_) => None,
            }
        };
        self.receivers.values().filter_map(of).max_by_key(|(_, receiver)| receiver.heard)
    }

    fn sessions(&self, machine: &MachineId) -> impl Iterator<Item = &SessionReport> {
        self.receivers.values().filter_map(move |receiver| match &receiver.view {
            View::Proxy(sessions) => sessions.get(machine),
            View::Agent { .. } => None,
        })
    }

    /// When its last share came. Times in the future, which a stepped clock can leave in a report,
    /// are left out.
    fn last_share(&self, machine: &MachineId, wall: Timestamp) -> Option<Timestamp> {
        let latest = later(wall, CLOCK_TOLERANCE);
        let shares = self.sessions(machine).filter_map(|session| session.last_share_at);
        shares.filter(|share| *share <= latest).max()
    }

    /// Whether shares come from a machine that says it sleeps.
    fn lies(&self, machine: &MachineId, device: &Device, wall: Timestamp) -> bool {
        let (Some(share), Some(asleep)) = (self.last_share(machine, wall), device.asleep_since)
        else {
            return false;
        };
        device.report.state == DeviceState::Asleep
            && share > later(asleep, SHARE_GRACE)
            && later(share, QUIET) > wall
    }

    fn fails(
        &self,
        policy: &Policy,
        machine: &MachineId,
        held: &Selection,
        wall: Timestamp,
        now: Instant,
    ) -> bool {
        match held.current(machine, wall) {
            Some(chosen) => {
                self.state(policy, machine, Some(chosen), wall, now) == MachineState::Disobedient
            }
            // A machine that is not to be off now fails only by commands that failed in a row.
            None => self.device(machine).is_some_and(|(device, _)| {
                device.report.failures >= policy.failsafe.retries.max(1)
            }),
        }
    }

    /// The state of `machine`, for which `chosen` is planned now.
    #[must_use]
    pub fn state(
        &self,
        policy: &Policy,
        machine: &MachineId,
        chosen: Option<&Chosen>,
        wall: Timestamp,
        now: Instant,
    ) -> MachineState {
        let Some(chosen) = chosen.filter(|chosen| chosen.covers(wall)) else {
            return MachineState::Running;
        };
        let allowed = policy.facility.group(&chosen.group).map_or(Duration::ZERO, shed_time);
        let in_time = wall < later(later(chosen.at, allowed), policy.dispatch.settle);
        let waiting = if in_time { MachineState::Commanded } else { MachineState::Unknown };
        if chosen.means == Means::Starve {
            let hashing = self.last_share(machine, wall).is_some_and(|share| {
                share > later(chosen.at, allowed) && later(share, QUIET) > wall
            });
            return if hashing { MachineState::Disobedient } else { MachineState::Starved };
        }
        let Some((device, receiver)) = self.device(machine) else { return waiting };
        let report = &device.report;
        if self.lies(machine, device, wall) || report.failures >= policy.failsafe.retries.max(1) {
            return MachineState::Disobedient;
        }
        let fresh = is_live(receiver, policy, now);
        let newer = read_since_told(report, chosen, wall);
        match report.state {
            DeviceState::Asleep if fresh && newer => {
                let quiet = self.last_share(machine, wall).is_none_or(|share| {
                    device.asleep_since.is_some_and(|asleep| share <= later(asleep, SHARE_GRACE))
                        || later(share, QUIET) <= wall
                });
                if quiet { MachineState::Curtailed } else { MachineState::Asleep }
            }
            DeviceState::Awake if fresh && newer && !in_time => MachineState::Disobedient,
            _ => waiting,
        }
    }

    /// The machines that are to be off and whose devices confirm that they are asleep.
    #[must_use]
    pub fn asleep(
        &self,
        policy: &Policy,
        held: &Selection,
        wall: Timestamp,
        now: Instant,
    ) -> BTreeSet<MachineId> {
        let confirmed = |machine: &MachineId| {
            let chosen = held.current(machine, wall)?;
            let (device, receiver) = self.device(machine)?;
            let report = &device.report;
            let fresh = is_live(receiver, policy, now);
            let asleep =
                report.state == DeviceState::Asleep && read_since_told(report, chosen, wall);
            (fresh && asleep && chosen.means == Means::Device).then(|| machine.clone())
        };
        held.off.keys().filter_map(confirmed).collect()
    }

    /// What `meter` shows, unless that is old, impossible or from a clock that cannot be trusted.
    #[must_use]
    pub fn metered(
        &self,
        meter: &MeterId,
        wall: Timestamp,
        now: Instant,
    ) -> Option<(Watts, Timestamp)> {
        let reading = self.readings.get(meter)?;
        let (from, to) = reading.wall;
        let fresh = now <= reading.until && from <= wall && wall <= to;
        fresh.then_some((reading.watts, reading.taken_at))
    }

    /// How much of `feed` the meters prove to be free of everything except leases, of which their
    /// own meters account for `leased`. `None` without a fresh reading of the feed's meter: then
    /// nothing is proven.
    #[must_use]
    pub fn headroom(
        &self,
        feed: &Feed,
        leased: Watts,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Headroom> {
        let (metered, taken_at) = self.metered(feed.meter.as_ref()?, wall, now)?;
        let leased = leased.min(metered);
        Some(Headroom { watts: feed.usable() - (metered - leased), metered, leased, taken_at })
    }

    /// The first feed whose meter gives nothing fresh.
    #[must_use]
    pub fn unmetered_feed<'f>(
        &self,
        feeds: &'f Feeds,
        wall: Timestamp,
        now: Instant,
    ) -> Option<&'f FeedId> {
        let silent = |meter: &MeterId| self.metered(meter, wall, now).is_none();
        let feed = feeds.iter().find(|feed| feed.meter.as_ref().is_some_and(silent))?;
        Some(&feed.id)
    }

    /// Whether every receiver that still counts holds `number` or a newer timeline up to `newest`,
    /// and there is a proxy or agent to do what is planned: an agent where `devices` must be reached.
    #[must_use]
    pub fn held(
        &self,
        policy: &Policy,
        (number, newest): (Generation, Generation),
        devices: bool,
        now: Instant,
    ) -> Held {
        let live = self.receivers.values().filter(|receiver| is_live(receiver, policy, now));
        let (mut any, mut agent, mut receivers, mut refusing) = (false, false, 0, 0);
        for receiver in live {
            any = true;
            agent |= matches!(receiver.view, View::Agent { .. });
            receivers += u32::from(receiver.number.is_none_or(|have| have < number));
            refusing += u32::from(receiver.number.is_some_and(|have| have > newest));
        }
        match (any, agent || !devices, receivers) {
            _ if refusing > 0 => Held::Refused { receivers: refusing },
            (false, ..) => Held::NoReceiver,
            (_, false, _) => Held::NoAgent,
            (_, _, 0) => Held::Everywhere,
            (_, _, receivers) => Held::Behind { receivers, number },
        }
    }

    /// The receivers, for people.
    #[must_use]
    pub fn receivers(&self, policy: &Policy, now: Instant) -> Vec<ReceiverView> {
        let view = |(name, receiver): (&String, &Receiver)| {
            let age = now.saturating_duration_since(receiver.heard);
            ReceiverView {
                receiver: name.clone(),
                role: match receiver.view {
                    View::Proxy(_) => ReceiverRole::Proxy,
                    View::Agent { .. } => ReceiverRole::Agent,
                },
                at: receiver.at,
                age_secs: age.as_secs_f64(),
                fresh: age <= policy.failsafe.report_stale_after,
                number: receiver.number,
                machines_by_serving: receiver.serving.clone(),
            }
        };
        self.receivers.iter().map(view).collect()
    }

    /// Machines after the name `after`, at most `limit` of them, for people.
    #[must_use]
    pub fn machines(
        &self,
        policy: &Policy,
        held: &Selection,
        after: Option<&str>,
        limit: usize,
        wall: Timestamp,
        now: Instant,
    ) -> Vec<MachineView> {
        let mut names: BTreeSet<&MachineId> = BTreeSet::new();
        let wanted = |id: &&MachineId| after.is_none_or(|after| id.as_str() > after);
        // Every source is sorted, so its first `limit` names are enough.
        names.extend(held.off.keys().filter(wanted).take(limit));
        for receiver in self.receivers.values() {
            match &receiver.view {
                View::Proxy(sessions) => names.extend(sessions.keys().filter(wanted).take(limit)),
                View::Agent { machines, .. } => {
                    names.extend(machines.keys().filter(wanted).take(limit));
                }
            }
        }
        let view = |id: &MachineId| MachineView {
            machine: id.clone(),
            group: self.group(policy, id).map(|group| policy.facility.groups()[group].id.clone()),
            state: match self.state(policy, id, held.current(id, wall), wall, now) {
                MachineState::Running if held.returning.contains_key(id) => MachineState::Returning,
                state => state,
            },
            chosen: held.off.get(id).cloned().unwrap_or_default(),
            session: self
                .sessions(id)
                .max_by_key(|session| (session.sessions, session.last_share_at))
                .cloned(),
            device: self.device(id).map(|(device, _)| device.report.clone()),
        };
        names.into_iter().take(limit).map(view).collect()
    }

    /// Whether `machine` is off, as far as can be told: its device sleeps, or its sessions get no
    /// work.
    #[must_use]
    pub fn sleeps(&self, machine: &MachineId) -> bool {
        let asleep = self
            .device(machine)
            .is_some_and(|(device, _)| device.report.state == DeviceState::Asleep);
        asleep || self.sessions(machine).any(|session| session.serving == Serving::Parked)
    }

    /// Whether its device or a session shows what `machine` does.
    #[must_use]
    pub fn knows(&self, machine: &MachineId) -> bool {
        let read = self
            .device(machine)
            .is_some_and(|(device, _)| device.report.state != DeviceState::Unknown);
        read || self.sessions(machine).any(|session| session.sessions > 0)
    }

    /// Whether `machine`, whose time off is over, mines again, or belongs to no group any more. If a
    /// proxy reports, the machine must have work there; if none does, its device's report suffices.
    ///
    /// Reports from the time in which its last sleep command could still take effect do not count:
    /// a lease that is cancelled while it sheds gives back machines that have yet to fall asleep.
    #[must_use]
    pub fn is_back(
        &self,
        policy: &Policy,
        machine: &MachineId,
        returning: &Returning,
        wall: Timestamp,
        now: Instant,
    ) -> bool {
        let Some(group) = self.group(policy, machine) else { return true };
        let working = self.sessions(machine).any(|session| session.serving == Serving::Working);
        let device = self.device(machine).map(|(device, _)| &device.report);
        let Some(report) = device.filter(|_| returning.means == Means::Device) else {
            return working;
        };
        let told = slept_at(report, wall).map_or(returning.since, |slept| {
            let allowed = shed_time(&policy.facility.groups()[group]) + policy.dispatch.settle;
            returning.since.max(later(slept, allowed))
        });
        let proxied = self.receivers.values().any(|receiver| {
            matches!(receiver.view, View::Proxy(_)) && is_live(receiver, policy, now)
        });
        match report.state {
            DeviceState::Asleep => false,
            DeviceState::Awake => {
                report.read_at.is_some_and(|read| read >= told) && (working || !proxied)
            }
            DeviceState::Unknown => {
                working && self.last_share(machine, wall).is_some_and(|share| share >= told)
            }
        }
    }
}

/// The reading that a report gives of a meter whose readings count for `stale_after`, if it gives a
/// possible one.
fn reading(
    measured: &Measured,
    receiver: &Receiver,
    stale_after: Duration,
    policy: &Policy,
) -> Option<Reading> {
    let (watts, taken_at) = (measured.report.watts?, measured.report.taken_at?);
    let heard_for = stale_after.max(policy.failsafe.report_stale_after);
    (Watts::ZERO..=Watts::LIMIT).contains(&watts).then(|| Reading {
        watts,
        taken_at,
        until: (measured.moved + stale_after).min(receiver.heard + heard_for),
        wall: (earlier(taken_at, CLOCK_TOLERANCE), later(taken_at, stale_after)),
    })
}

/// Whether the device was read after its last sleep command. If its agent does not know when that
/// was, the time in the plan counts.
fn read_since_told(report: &MachineReport, chosen: &Chosen, wall: Timestamp) -> bool {
    let told = slept_at(report, wall).unwrap_or(chosen.at);
    report.read_at.is_some_and(|read| read >= told)
}

/// When the device was last told to sleep. A time in the future, from an agent's clock that was
/// ahead, is left out: until that time came, no reading would count.
fn slept_at(report: &MachineReport, wall: Timestamp) -> Option<Timestamp> {
    report.slept_at.filter(|slept| *slept <= later(wall, CLOCK_TOLERANCE))
}

/// Whether the receiver's last report still counts.
fn is_live(receiver: &Receiver, policy: &Policy, now: Instant) -> bool {
    now.saturating_duration_since(receiver.heard) <= policy.failsafe.report_stale_after
}

#[cfg(test)]
mod tests;
