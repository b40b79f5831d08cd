//! The actual state of the site: the newest reports of proxies and agents, with their age, and what
//! follows from them: which machines there are, what state each is in, and what the meters show.
//! [`crate::plan`] decides what the state should become.

mod census;
mod endpoint;
mod permitted;
mod presence;
mod proof;
mod roster;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use directive::{
    AsleepBy, DeviceState, Generation, GuardReport, MachineId, MachineReport, Means, MeterId,
    ReceiverId, ReceiverRole, Report, ResyncReason, Serving, SessionReport, Watts,
};
use jiff::Timestamp;

use crate::admit::shed_time;
use crate::commitment::Held;
use crate::facility::{CommandTime, Feed, Population};
use crate::lease::{earlier, later};
pub use crate::machine_state::MachineState;
use crate::plan::{Chosen, Fleet, Known, Returning, Selection};
use crate::policy::Policy;
use crate::view::{MachineView, ReceiverView};
pub use census::Census;
use endpoint::{Device, Devices, ENTRIES, Endpoint, Measured, View};
use permitted::PermittedSet;
use presence::Presences;
use roster::{Counted, Roster};

/// The maximum number of receivers. A further link is refused and counted, unless a known receiver
/// has no link; then that receiver is forgotten.
const RECEIVERS: usize = 64;
/// Names whose group is remembered, four times what one report may hold. Above this, names that are
/// not in any newest report are forgotten and counted: the group of such a name is found again when
/// it returns.
const NAMES: usize = 4 * ENTRIES;
/// A share that arrives this long after the machine was read asleep was not in transit: the machine
/// hashes.
const SHARE_GRACE: Duration = Duration::from_secs(5);
/// A machine from which shares came while it reported that it was asleep is believed again after
/// this time without a share.
const QUIET: Duration = Duration::from_secs(120);
/// A proxy reports a machine for ten minutes after its last session. After the switchboard starts,
/// machines have the same time to appear before they count as absent.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// No command is believed to take longer than this.
const COMMAND_MAX: Duration = Duration::from_mins(10);
/// A measurement from further in the future than this comes from a clock that cannot be trusted.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Headroom that a meter proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// Usable power, minus what the meter shows without the leases' own draw.
    pub watts: Watts,
    /// What the meter shows.
    pub metered: Watts,
    /// The part of `metered` that the leases' own meters account for.
    pub leased: Watts,
    /// When the headroom was measured.
    pub taken_at: Timestamp,
}

#[derive(Debug, Default)]
pub struct Inventory {
    endpoints: BTreeMap<ReceiverId, Endpoint>,
    /// Which group claims a machine, so that globs are matched once per name.
    groups: HashMap<MachineId, Option<usize>>,
    /// The newest reading of each meter.
    readings: HashMap<MeterId, Reading>,
    roster: Roster,
    permitted: PermittedSet,
    presences: Presences,
    overflow: Overflow,
    exchanges: Exchanges,
    /// When the first report came.
    since: Option<Instant>,
    /// When the first report of a proxy came.
    sessions_since: Option<Instant>,
}

/// What a meter showed when it was last read, and for how long that counts.
#[derive(Debug, Clone, Copy)]
struct Reading {
    watts: Watts,
    taken_at: Timestamp,
    /// The reading counts until this instant, and only between these times of the wall clock.
    until: Instant,
    wall: (Timestamp, Timestamp),
}

/// What was dropped because there was too much of it, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Links of receivers above the bound.
    pub links: u64,
    /// Machines and meters of one receiver above the bound, in each report that has them.
    pub entries: u64,
    /// Names above the bound, whose group was forgotten.
    pub names: u64,
}

/// What was counted of the links to receivers, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchanges {
    pub links_attached: u64,
    /// Links that replaced a link of the same receiver.
    pub links_replaced: u64,
    pub links_refused: u64,
    pub links_closed: u64,
    /// Reports that did not belong to the role of their link, or came from a receiver without a
    /// link.
    pub reports_refused: u64,
    /// Full reports asked for, by what was missing.
    pub no_base: u64,
    pub gaps: u64,
    pub digests: u64,
}

/// A link that was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Whether the link replaces a link of the same receiver.
    pub replaces: bool,
    /// What [`directive::Downlink::resync`] must be for the link.
    pub resync: u64,
}

/// Why a link was not attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("this name is attached as {has}")]
    OtherRole { has: ReceiverRole },
    #[error("{RECEIVERS} receivers are attached already")]
    TooMany,
}

impl Inventory {
    /// Takes a receiver's link. A second link of the same receiver replaces the first, because a
    /// broken connection may still look open at this end when the receiver comes back.
    ///
    /// # Errors
    /// When the name is that of a receiver of the other role, or there are too many.
    pub fn attach(
        &mut self,
        receiver: &ReceiverId,
        role: ReceiverRole,
        wall: Timestamp,
        now: Instant,
    ) -> Result<Attached, AttachError> {
        let attached = self.admit(receiver, role, wall, now);
        match attached {
            Ok(Attached { replaces: false, .. }) => self.exchanges.links_attached += 1,
            Ok(Attached { replaces: true, .. }) => self.exchanges.links_replaced += 1,
            Err(_) => self.exchanges.links_refused += 1,
        }
        attached
    }

    fn admit(
        &mut self,
        receiver: &ReceiverId,
        role: ReceiverRole,
        wall: Timestamp,
        now: Instant,
    ) -> Result<Attached, AttachError> {
        if let Some(known) = self.endpoints.get_mut(receiver) {
            if known.role() == role {
                let replaces = known.attached;
                known.attach();
                return Ok(Attached { replaces, resync: known.resync() });
            }
            if known.attached {
                return Err(AttachError::OtherRole { has: known.role() });
            }
        } else if self.endpoints.len() >= RECEIVERS {
            let detached = self.endpoints.iter().filter(|(_, known)| !known.attached);
            let oldest = detached.max_by_key(|(_, known)| known.age(now)).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else {
                self.overflow.links += 1;
                return Err(AttachError::TooMany);
            };
            if let Some(removed) = self.endpoints.remove(&oldest) {
                self.roster.note(removed.machines().cloned());
            }
        }
        let endpoint = Endpoint::new(role, wall, now);
        let resync = endpoint.resync();
        // One of the other role may have had this name.
        if let Some(former) = self.endpoints.insert(receiver.clone(), endpoint) {
            self.roster.note(former.machines().cloned());
        }
        Ok(Attached { replaces: false, resync })
    }

    /// Handles the end of a receiver's link. The machines that it reported still count until it
    /// reports again or is forgotten; its devices' and meters' readings count until they are too
    /// old.
    pub fn detach(&mut self, receiver: &ReceiverId) {
        self.exchanges.links_closed += 1;
        if let Some(endpoint) = self.endpoints.get_mut(receiver) {
            endpoint.attached = false;
        }
    }

    /// Takes a report that came by the link of `receiver`, in time proportional to what it has.
    /// Returns the new value of [`directive::Downlink::resync`] if it has changed.
    pub fn take(
        &mut self,
        policy: &Policy,
        receiver: &ReceiverId,
        report: Report,
        now: Instant,
    ) -> Option<u64> {
        self.since.get_or_insert(now);
        if matches!(report, Report::Sessions(_)) {
            self.sessions_since.get_or_insert(now);
        }
        let endpoint = self.endpoints.get_mut(receiver).filter(|endpoint| endpoint.attached);
        let Some(Ok(reported)) = endpoint.map(|endpoint| endpoint.take(report, now)) else {
            self.exchanges.reports_refused += 1;
            return None;
        };
        self.overflow.entries += reported.ignored;
        let asked = reported.taken.and_then(|taken| taken.asked);
        match asked {
            Some(ResyncReason::NoBase) => self.exchanges.no_base += 1,
            Some(ResyncReason::Gap) => self.exchanges.gaps += 1,
            Some(ResyncReason::Digest) => self.exchanges.digests += 1,
            None => {}
        }
        if reported.taken.is_none() {
            self.read_meters(policy);
        }
        self.name(policy, reported.new);
        self.roster.note(reported.changed);
        asked.and_then(|_| self.endpoints.get(receiver)).map(Endpoint::resync)
    }

    /// Finds the groups of machines that may be new.
    fn name(&mut self, policy: &Policy, mut machines: Vec<MachineId>) {
        machines.retain(|machine| !self.groups.contains_key(machine));
        if self.groups.len() + machines.len() > NAMES {
            let before = self.groups.len();
            let endpoints = &self.endpoints;
            self.groups.retain(|id, _| endpoints.values().any(|endpoint| endpoint.names(id)));
            self.overflow.names += (before - self.groups.len()) as u64;
        }
        for id in machines {
            let group = policy.facility.claimed_by(&id);
            self.groups.insert(id, group);
        }
    }

    /// Notes the newest reading of each meter that the policy knows, from the reports at hand.
    fn read_meters(&mut self, policy: &Policy) {
        self.readings.clear();
        let mut newest: HashMap<&MeterId, &Measured> = HashMap::new();
        for (meter, measured) in self.endpoints.values().flat_map(Endpoint::meters) {
            let other = newest.get(meter).map(|other| other.report.taken_at);
            if other.is_none_or(|other| other <= measured.report.taken_at) {
                newest.insert(meter, measured);
            }
        }
        for (meter, measured) in newest {
            let Some(spec) = policy.facility.meters().get(meter) else { continue };
            let reading = reading(measured, spec.stale_after);
            self.readings.extend(reading.map(|reading| (meter.clone(), reading)));
        }
    }

    /// What was counted of the links to receivers.
    #[must_use]
    pub fn exchanges(&self) -> Exchanges {
        self.exchanges
    }

    /// Applies a new policy: its groups to all machines, and its age limits to all readings.
    pub fn regroup(&mut self, policy: &Policy) {
        for (machine, group) in &mut self.groups {
            *group = policy.facility.claimed_by(machine);
        }
        let mut presences = std::mem::take(&mut self.presences);
        presences.regroup(|machine| self.group(policy, machine));
        self.presences = presences;
        self.roster.forget();
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
        for endpoint in self.endpoints.values() {
            match &endpoint.view {
                View::Proxy(sessions) => {
                    for (id, session) in sessions.entries() {
                        // A machine without a session now is not counted, but the plan can still
                        // choose it, so that it gets no work when it comes back.
                        let is_claimed = self.group(policy, id).is_some();
                        if (session.sessions > 0 || is_claimed) && !self.is_newcomer(id) {
                            names.entry(id).or_insert(false);
                        }
                    }
                }
                View::Agent(devices) => {
                    names.extend(devices.entries().keys().map(|id| (id, true)));
                }
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
        for endpoint in self.endpoints.values() {
            match &endpoint.view {
                View::Proxy(sessions) => {
                    let live = sessions.entries().iter().filter(|(_, entry)| entry.sessions > 0);
                    names.extend(live.map(|(id, _)| id));
                }
                View::Agent(devices) => names.extend(devices.entries().keys()),
            }
        }
        let mut population = Population::default();
        for id in names {
            population.add(policy, self.counts_as(policy, id), 1);
        }
        population
    }

    /// The machines that no group claims and that get no work, in no order.
    #[must_use]
    pub fn waiting(&self) -> Vec<MachineId> {
        self.roster.waiting()
    }

    /// As what `machine` counts that has a live session or a device.
    fn counts_as(&self, policy: &Policy, machine: &MachineId) -> Counted {
        match self.group(policy, machine) {
            Some(group) if self.is_newcomer(machine) && self.device(machine).is_none() => {
                Counted::Newcomer(group)
            }
            Some(group) => Counted::Group(group),
            None if policy.serves_unassigned()
                || self.endpoints.values().any(|endpoint| endpoint.serves(machine)) =>
            {
                Counted::Unassigned
            }
            None => Counted::Waiting,
        }
    }

    /// The number of the group that claims `machine`.
    #[must_use]
    pub fn group(&self, policy: &Policy, machine: &MachineId) -> Option<usize> {
        match self.groups.get(machine) {
            Some(group) => group.filter(|group| *group < policy.facility.groups().len()),
            None => policy.facility.claimed_by(machine),
        }
    }

    /// Whether a proxy reports `machine`, or its device reports a state.
    fn shows(&self, machine: &MachineId) -> bool {
        let read =
            self.device(machine).is_some_and(|device| device.report.state != DeviceState::Unknown);
        read || self.sessions(machine).next().is_some()
    }

    fn device(&self, machine: &MachineId) -> Option<Device<'_>> {
        let devices = self.endpoints.values().filter_map(|endpoint| endpoint.device(machine));
        devices.max_by_key(Device::heard)
    }

    fn sessions(&self, machine: &MachineId) -> impl Iterator<Item = &SessionReport> {
        self.endpoints.values().filter_map(move |endpoint| endpoint.session(machine))
    }

    /// When the last share of `machine` came. Times in the future, which a stepped clock can leave
    /// in a report, are left out.
    fn last_share(&self, machine: &MachineId, wall: Timestamp) -> Option<Timestamp> {
        let latest = later(wall, CLOCK_TOLERANCE);
        let shares = self.sessions(machine).filter_map(|session| session.last_share_at);
        shares.filter(|share| *share <= latest).max()
    }

    /// Whether `machine`, which was to go at `told`, hashes on: shares come long after that, and its
    /// device does not say that it sleeps.
    #[must_use]
    pub fn hashes_on(&self, machine: &MachineId, told: Timestamp, wall: Timestamp) -> bool {
        let is_asleep =
            self.device(machine).is_some_and(|one| one.report.state == DeviceState::Asleep);
        let share = self.last_share(machine, wall).filter(|_| !is_asleep);
        share.is_some_and(|share| share > later(told, QUIET) && later(share, QUIET / 2) > wall)
    }

    /// Whether shares come from a machine that says it sleeps.
    fn lies(&self, machine: &MachineId, device: Device<'_>, wall: Timestamp) -> bool {
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
            // A machine that must not be off now counts as failing only if several commands in a
            // row failed.
            None => self.device(machine).is_some_and(|device| device.has_failed(policy)),
        }
    }

    /// Whether `machine` found its last share after `at` and not long ago.
    fn hashes_after(&self, machine: &MachineId, at: Timestamp, wall: Timestamp) -> bool {
        self.last_share(machine, wall).is_some_and(|share| share > at && later(share, QUIET) > wall)
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
        let until = later(chosen.at, allowed);
        let in_time = wall < later(until, policy.dispatch.settle);
        let waiting = if in_time { MachineState::Commanded } else { MachineState::Unknown };
        if chosen.means == Means::Starve {
            let hashing = self.hashes_after(machine, until, wall);
            return if hashing { MachineState::Disobedient } else { MachineState::Starved };
        }
        let Some(device) = self.device(machine) else { return waiting };
        let report = &device.report;
        if self.lies(machine, device, wall) || device.has_failed(policy) {
            return MachineState::Disobedient;
        }
        let fresh = device.is_live(policy.failsafe.report_stale_after, now);
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

    /// Whether the device of `machine` has answered a read since it was told to sleep for `chosen`.
    /// `None` without a recent report of an agent that reaches it.
    #[must_use]
    pub fn answers(
        &self,
        policy: &Policy,
        machine: &MachineId,
        chosen: &Chosen,
        wall: Timestamp,
        now: Instant,
    ) -> Option<bool> {
        let device = self.device(machine)?;
        let report = device.report;
        let is_read = report.state != DeviceState::Unknown && read_since_told(report, chosen, wall);
        device.is_live(policy.failsafe.report_stale_after, now).then_some(is_read)
    }

    /// The machines that must be off and whose devices confirm that they are asleep.
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
            let device = self.device(machine)?;
            let report = &device.report;
            let fresh = device.is_live(policy.failsafe.report_stale_after, now);
            let asleep =
                report.state == DeviceState::Asleep && read_since_told(report, chosen, wall);
            (fresh && asleep && chosen.means == Means::Device).then(|| machine.clone())
        };
        held.off.keys().filter_map(confirmed).collect()
    }

    /// What `meter` shows, unless the reading is old, impossible, or from a clock that cannot be
    /// trusted.
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
        let watts = feed.usable(wall) - (metered - leased);
        Some(Headroom { watts, metered, leased, taken_at })
    }

    /// The agents that read `meter`.
    pub fn readers<'a>(&'a self, meter: &'a MeterId) -> impl Iterator<Item = &'a ReceiverId> {
        let reads = move |endpoint: &Endpoint| endpoint.attached && endpoint.reads(meter);
        self.endpoints.iter().filter(move |(_, endpoint)| reads(endpoint)).map(|(id, _)| id)
    }

    /// The newest report of each agent's guard.
    pub fn guards(&self) -> impl Iterator<Item = (&ReceiverId, &GuardReport)> {
        self.endpoints.iter().filter_map(|(id, endpoint)| Some((id, endpoint.guard()?)))
    }

    /// How long the drivers take, as agents report it. Of a driver of several agents, the slowest counts.
    #[must_use]
    pub fn command_times(&self) -> BTreeMap<&str, CommandTime> {
        let mut times: BTreeMap<&str, CommandTime> = BTreeMap::new();
        for driver in self.endpoints.values().flat_map(Endpoint::drivers) {
            let p95 = Duration::from_millis(driver.command_p95_ms).min(COMMAND_MAX);
            let time = CommandTime { p95, at_once: driver.concurrency.max(1) };
            let slowest = times.entry(driver.driver.as_str()).or_insert(time);
            if time.p95 / time.at_once > slowest.p95 / slowest.at_once {
                *slowest = time;
            }
        }
        times
    }

    /// Whether every attached receiver holds `number` or a newer timeline up to `newest`, and
    /// whether there is a proxy or agent to carry out the plan: an agent if `devices` must be
    /// reached. An attached receiver that is silent counts as holding what it reported last, and is
    /// waited for if that is older.
    #[must_use]
    pub fn held(
        &self,
        policy: &Policy,
        (number, newest): (Generation, Generation),
        devices: bool,
        now: Instant,
    ) -> Held {
        let (mut any, mut agent) = (false, false);
        let (mut receivers, mut silent, mut refusing) = (0, 0, 0);
        for endpoint in self.endpoints.values().filter(|endpoint| endpoint.attached) {
            let live = endpoint.is_live(policy.failsafe.report_stale_after, now);
            any |= live;
            agent |= live && endpoint.role() == ReceiverRole::Agent;
            let behind = endpoint.number.is_none_or(|have| have < number);
            receivers += u32::from(behind);
            silent += u32::from(behind && !live);
            refusing += u32::from(endpoint.number.is_some_and(|have| have > newest));
        }
        match (any, agent || !devices, receivers) {
            _ if refusing > 0 => Held::Refused { receivers: refusing },
            (false, ..) => Held::NoReceiver,
            (_, false, _) => Held::NoAgent,
            (_, _, 0) => Held::Everywhere,
            (_, _, receivers) => Held::Behind { receivers, silent, number },
        }
    }

    /// The receivers, for people.
    #[must_use]
    pub fn receivers(&self, policy: &Policy, now: Instant) -> Vec<ReceiverView> {
        let view = |(receiver, endpoint): (&ReceiverId, &Endpoint)| ReceiverView {
            receiver: receiver.clone(),
            role: endpoint.role(),
            attached: endpoint.attached,
            at: endpoint.at,
            age_secs: endpoint.age(now).as_secs_f64(),
            fresh: endpoint.is_live(policy.failsafe.report_stale_after, now),
            number: endpoint.number,
            machines_by_serving: endpoint.machines_by_serving(),
        };
        self.endpoints.iter().map(view).collect()
    }

    /// Machines after the name `after`, at most `limit` of them, for people. Why they are off is left
    /// out.
    #[must_use]
    pub fn machines(
        &self,
        policy: &Policy,
        held: &Selection,
        is_returning: impl Fn(&MachineId) -> bool,
        (after, limit): (Option<&str>, usize),
        wall: Timestamp,
        now: Instant,
    ) -> Vec<MachineView> {
        let mut names: BTreeSet<&MachineId> = BTreeSet::new();
        let wanted = |id: &&MachineId| after.is_none_or(|after| id.as_str() > after);
        // Every source is sorted, so its first `limit` names are enough.
        names.extend(held.off.keys().filter(wanted).take(limit));
        for endpoint in self.endpoints.values() {
            match &endpoint.view {
                View::Proxy(sessions) => {
                    names.extend(sessions.entries().keys().filter(wanted).take(limit));
                }
                View::Agent(devices) => {
                    names.extend(devices.entries().keys().filter(wanted).take(limit));
                }
            }
        }
        let view = |id: &MachineId| MachineView {
            machine: id.clone(),
            group: self.group(policy, id).map(|group| policy.facility.groups()[group].id.clone()),
            state: match self.state(policy, id, held.current(id, wall), wall, now) {
                MachineState::Running if is_returning(id) => MachineState::Returning,
                state => state,
            },
            chosen: held.off.get(id).into_iter().flatten().map(Into::into).collect(),
            off: None,
            session: self.shown_session(id).cloned(),
            device: self.device(id).map(|device| device.report.clone()),
        };
        names.into_iter().take(limit).map(view).collect()
    }

    /// Of the sessions of `machine`, the one that is shown.
    fn shown_session(&self, machine: &MachineId) -> Option<&SessionReport> {
        self.sessions(machine).max_by_key(|session| (session.sessions, session.last_share_at))
    }

    /// Whether `machine` is off, as far as can be told: its device sleeps, or says nothing and its
    /// sessions get no work.
    #[must_use]
    pub fn sleeps(&self, machine: &MachineId) -> bool {
        match self.device(machine).map(|device| device.report.state) {
            Some(DeviceState::Asleep) => true,
            Some(DeviceState::Awake) => false,
            Some(DeviceState::Unknown) | None => {
                self.sessions(machine).any(|session| session.serving == Serving::Parked)
            }
        }
    }

    /// Whether `machine` draws power again, as far as can be told: its device is awake, or a session
    /// has work.
    #[must_use]
    pub fn draws(&self, machine: &MachineId) -> bool {
        match self.device(machine).map(|device| device.report.state) {
            Some(DeviceState::Awake) => true,
            Some(DeviceState::Asleep) => false,
            Some(DeviceState::Unknown) | None => {
                self.sessions(machine).any(|session| session.serving == Serving::Working)
            }
        }
    }

    /// Whether a session of `machine` has work.
    #[must_use]
    pub fn works(&self, machine: &MachineId) -> bool {
        self.sessions(machine).any(|session| session.serving == Serving::Working)
    }

    /// When the first report of a proxy came.
    #[must_use]
    pub fn sessions_since(&self) -> Option<Instant> {
        self.sessions_since
    }

    /// Since when the device of `machine` has been read asleep, without a break.
    #[must_use]
    pub fn asleep_since(&self, machine: &MachineId) -> Option<Timestamp> {
        self.device(machine)?.asleep_since
    }

    /// The machines that agents reach, as they report them, and whether the report is recent.
    pub fn devices<'a>(
        &'a self,
        policy: &'a Policy,
        now: Instant,
    ) -> impl Iterator<Item = (&'a MachineId, &'a MachineReport, bool)> {
        self.endpoints.values().flat_map(move |endpoint| {
            let is_live = endpoint.is_live(policy.failsafe.report_stale_after, now);
            let devices = match &endpoint.view {
                View::Agent(devices) => Some(devices.entries()),
                View::Proxy(_) => None,
            };
            devices.into_iter().flatten().map(move |(id, report)| (id, report, is_live))
        })
    }

    /// Those of them that sleep, or of which the agent says who put them to sleep.
    pub fn sleepers(&self) -> impl Iterator<Item = (&MachineId, &MachineReport)> {
        let devices = self.endpoints.values().filter_map(|endpoint| match &endpoint.view {
            View::Agent(devices) => Some(devices),
            View::Proxy(_) => None,
        });
        devices.flat_map(Devices::sleepers)
    }

    /// What each agent that reaches `machine` reports of it, and whether the report is recent.
    pub fn reports_of<'a>(
        &'a self,
        policy: &'a Policy,
        machine: &'a MachineId,
        now: Instant,
    ) -> impl Iterator<Item = (&'a MachineReport, bool)> {
        self.endpoints.values().filter_map(move |endpoint| {
            let device = endpoint.device(machine)?;
            Some((device.report, endpoint.is_live(policy.failsafe.report_stale_after, now)))
        })
    }

    /// What the device of `machine` reports, if an agent reaches it.
    #[must_use]
    pub fn reported(&self, machine: &MachineId) -> Option<&MachineReport> {
        self.device(machine).map(|device| device.report)
    }

    /// The machines that an agent has put to sleep and that sleep at `at` although `held` does not
    /// want them to. An agent that does not say who put a machine to sleep reports when it did so
    /// itself. Sessions without work are left out: they may wait for a pool.
    #[must_use]
    pub fn strays(&self, held: &Selection, at: Timestamp) -> Vec<MachineId> {
        let is_put = |device: &MachineReport| match device.asleep_by {
            Some(by) => by == AsleepBy::Us,
            None => device.slept_at.is_some(),
        };
        let asleep = self
            .sleepers()
            .filter(|(_, device)| device.state == DeviceState::Asleep && is_put(device));
        let mut strays: BTreeSet<&MachineId> = asleep.map(|(id, _)| id).collect();
        strays.retain(|id| held.current(id, at).is_none());
        strays.into_iter().cloned().collect()
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
        let device = self.device(machine).map(|device| device.report);
        let Some(report) = device.filter(|_| returning.means == Means::Device) else {
            return working;
        };
        let told = slept_at(report, wall).map_or(returning.since, |slept| {
            let allowed = shed_time(&policy.facility.groups()[group]) + policy.dispatch.settle;
            returning.since.max(later(slept, allowed))
        });
        let proxied = self.endpoints.values().any(|endpoint| {
            endpoint.role() == ReceiverRole::Proxy
                && endpoint.is_live(policy.failsafe.report_stale_after, now)
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

/// The reading in a meter's report; it counts for `stale_after`. `None` if the report has no watts
/// or no time, or the watts are impossible.
fn reading(measured: &Measured, stale_after: Duration) -> Option<Reading> {
    let (watts, taken_at) = (measured.report.watts?, measured.report.taken_at?);
    (Watts::ZERO..=Watts::LIMIT).contains(&watts).then(|| Reading {
        watts,
        taken_at,
        until: measured.moved + stale_after,
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

#[cfg(test)]
mod tests;
