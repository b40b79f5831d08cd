//! What the facility's record shows of a trial.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::{FeedId, LeaseId, MachineId, Watts};
use simulation::facility::spec::{FacilitySpec, MachineSpec, Start};
use simulation::record::{Commander, Event, Phase, Record, Side, Span, State};
use simulation::run::Outcome;
use simulation::scenario::Scenario;

use crate::site::{LARGEST, LEAD, RETURNS_WITHIN};

#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The longest time without a break in which a feed carried more than usable.
    pub(crate) above: Duration,
    /// The most that a feed carried above usable.
    pub(crate) excess: Watts,
    /// The part of all machines' time in which they slept although every feed above them had room.
    pub(crate) needless: f64,
    /// Machines that still sleep when the run ends, with nothing left to sleep for.
    pub(crate) left: usize,
    /// The most commands that one machine got.
    pub(crate) turns: usize,
    /// What the leases' records say.
    pub(crate) said: BTreeSet<String>,
    /// What the judge of the simulation finds, as kind and cause.
    pub(crate) findings: BTreeSet<String>,
    /// The longest time in which a machine was awake and had no work.
    pub(crate) waited: Duration,
    /// Machines that are awake without work when the run ends.
    pub(crate) idle: usize,
}

/// The record is looked at once in this time to find machines that sleep for nothing.
const EVERY: Duration = Duration::from_secs(1);

impl Found {
    pub(crate) fn of(scenario: &Scenario, outcome: &Outcome) -> Self {
        let record = &outcome.record;
        let mut measured = Self { said: said(record), ..Self::default() };
        let findings = outcome.violations.iter();
        measured.findings.extend(findings.map(|one| format!("{:?} ({:?})", one.kind, one.cause)));
        for feed in record.feeds.values() {
            let over = feed.load.with(&feed.usable, |load, usable| load - usable);
            let longest = over.above(Watts::ZERO, record.ended).iter().map(Span::length).max();
            measured.above = measured.above.max(longest.unwrap_or_default());
            let whole = Span { from: Duration::ZERO, to: record.ended };
            measured.excess = measured.excess.max(over.max(whole));
        }
        let mut commands: BTreeMap<&MachineId, usize> = BTreeMap::new();
        for entry in &record.entries {
            if let Event::Command { machine, by: Commander::Agent, .. } = &entry.event {
                *commands.entry(machine).or_default() += 1;
            }
        }
        measured.turns = commands.into_values().max().unwrap_or_default();
        (measured.needless, measured.left) = Sleep::new(scenario, record).needless();
        (measured.waited, measured.idle) = without_work(scenario, record);
        measured
    }

    /// Keeps the worse of each figure.
    pub(crate) fn add(&mut self, other: &Self) {
        self.above = self.above.max(other.above);
        self.excess = self.excess.max(other.excess);
        self.needless = self.needless.max(other.needless);
        self.left = self.left.max(other.left);
        self.turns = self.turns.max(other.turns);
        self.waited = self.waited.max(other.waited);
        self.idle = self.idle.max(other.idle);
        self.said.extend(other.said.iter().cloned());
        self.findings.extend(other.findings.iter().cloned());
    }

    /// The cells of the table.
    pub(crate) fn cells(&self) -> String {
        let said: Vec<&str> = self.said.iter().map(String::as_str).collect();
        format!(
            "{:.0} s | {:.1} kW | {:.1} % | {} | {:.0} s | {} | {} | {}",
            self.above.as_secs_f64().ceil(),
            self.excess.kw().max(0.0),
            self.needless * 100.0,
            self.left,
            self.waited.as_secs_f64().ceil(),
            self.idle,
            self.turns,
            if said.is_empty() { "–".to_owned() } else { said.join("; ") },
        )
    }
}

/// The longest time in which a machine was awake and had no work, and the machines that are so at the
/// end.
fn without_work(scenario: &Scenario, record: &Record) -> (Duration, usize) {
    let mut waits: BTreeMap<&MachineId, Duration> = BTreeMap::new();
    for machine in &scenario.facility.machines {
        if machine.start == Start::Awake {
            waits.insert(&machine.id, Duration::ZERO);
        }
    }
    let mut longest = Duration::ZERO;
    for entry in &record.entries {
        let at = entry.at;
        let (machine, waits_now) = match &entry.event {
            Event::Served { machine, served } => (machine, !served),
            Event::Machine { machine, to: State::Awake, .. } => (machine, true),
            Event::Machine { machine, to, .. } if *to != State::FallingAsleep => (machine, false),
            _ => continue,
        };
        if waits_now {
            waits.entry(machine).or_insert(at);
        } else if let Some(since) = waits.remove(machine) {
            longest = longest.max(at.saturating_sub(since));
        }
    }
    let rest = waits.values().map(|since| record.ended.saturating_sub(*since)).max();
    (longest.max(rest.unwrap_or_default()), waits.len())
}

/// How far each lease came, and whom its record blames for what.
fn said(record: &Record) -> BTreeSet<String> {
    let mut last: BTreeMap<&LeaseId, Phase> = BTreeMap::new();
    let mut breaches: BTreeMap<&LeaseId, BTreeSet<&str>> = BTreeMap::new();
    for entry in &record.entries {
        match &entry.event {
            Event::Phase { lease, phase } => {
                let furthest = last.entry(lease).or_insert(*phase);
                *furthest = (*furthest).max(*phase);
            }
            Event::Breach { lease, blamed, .. } => {
                breaches.entry(lease).or_default().insert(match blamed {
                    Side::Facility => "breach, ours",
                    Side::Tenant => "breach, the tenant's",
                    Side::Derate => "breach, by a lower limit",
                });
            }
            _ => {}
        }
    }
    let words = |(lease, phase): (&LeaseId, Phase)| {
        let phase = format!("{phase:?}").to_lowercase();
        let blamed = breaches.get(lease).into_iter().flatten().copied();
        std::iter::once(phase.as_str()).chain(blamed).collect::<Vec<_>>().join(", ")
    };
    last.into_iter().map(words).collect()
}

/// Which machines sleep when, and which room the feeds have for them.
struct Sleep<'a> {
    scenario: &'a Scenario,
    record: &'a Record,
    /// The times at which each machine fell asleep, and left its sleep.
    asleep: BTreeMap<&'a MachineId, Vec<(Duration, bool)>>,
    promised: BTreeSet<&'a LeaseId>,
    /// When a lease ended before its time, because it was cancelled.
    ends: BTreeMap<&'a LeaseId, Duration>,
}

impl<'a> Sleep<'a> {
    fn new(scenario: &'a Scenario, record: &'a Record) -> Self {
        let mut sleep = Self {
            scenario,
            record,
            asleep: BTreeMap::new(),
            promised: BTreeSet::new(),
            ends: BTreeMap::new(),
        };
        for entry in &record.entries {
            match &entry.event {
                Event::Machine { machine, from, to, .. }
                    if *to == State::Asleep || *from == State::Asleep =>
                {
                    let turns = sleep.asleep.entry(machine).or_default();
                    turns.push((entry.at, *to == State::Asleep));
                }
                Event::Promised(promise) => {
                    sleep.promised.insert(&promise.lease);
                    sleep.ends.insert(&promise.lease, promise.end);
                }
                _ => {}
            }
        }
        sleep
    }

    fn is_asleep(&self, machine: &MachineId, at: Duration) -> bool {
        let turns = self.asleep.get(machine).into_iter().flatten();
        turns.take_while(|(from, _)| *from <= at).last().is_some_and(|(_, asleep)| *asleep)
    }

    /// What `feed` could carry more at `at`, beside what leases may still take, the make-up for them,
    /// the band, and one machine.
    fn room(&self, feed: &FeedId, at: Duration) -> Watts {
        let facility = &self.scenario.facility;
        let record = &self.record.feeds[feed];
        // A limit that is lower soon counts from when machines must go for it.
        let spec = facility.feeds.iter().find(|known| known.id == *feed);
        let falls = spec.into_iter().flat_map(|spec| spec.falls());
        let soon = falls.filter(|(from, _)| at < *from && *from <= at + LEAD);
        let usable = soon.map(|(_, usable)| usable).fold(record.usable.at(at), Watts::min);
        let mut room = usable - record.load.at(at) - LARGEST - LARGEST;
        for lease in &self.scenario.leases {
            let from = lease.start.saturating_sub(lease.ready_before + LEAD);
            let end = self.ends.get(&lease.lease).copied().unwrap_or(lease.end);
            let counts = self.promised.contains(&lease.lease) && from <= at && at < end;
            if counts && path(facility, &lease.feed).contains(&feed) {
                let drawn = self.record.tenants.get(&lease.lease).map(|drawn| drawn.at(at));
                let rest = lease.watts.saturating_sub(drawn.unwrap_or_default());
                room = room - rest - lease.watts.scale(self.scenario.rules.make_up_percent / 100.0);
            }
        }
        room
    }

    /// The part of the machines' time slept for nothing, and the machines that sleep at the end.
    fn needless(&self) -> (f64, usize) {
        let facility = &self.scenario.facility;
        let machines = &facility.machines;
        // Since when each machine could have been awake.
        let mut since: BTreeMap<&MachineId, Duration> = BTreeMap::new();
        let (mut slept, mut at) = (Duration::ZERO, Duration::ZERO);
        while at < self.record.ended {
            let mut room: BTreeMap<&FeedId, Watts> = BTreeMap::new();
            for feed in &facility.feeds {
                room.insert(&feed.id, self.room(&feed.id, at));
            }
            for machine in machines {
                let has_room =
                    self.is_asleep(&machine.id, at) && takes(&mut room, facility, machine);
                if !has_room {
                    since.remove(&machine.id);
                } else if at - *since.entry(&machine.id).or_insert(at) >= RETURNS_WITHIN {
                    slept += EVERY;
                }
            }
            at += EVERY;
        }
        let all = self.record.ended.as_secs_f64() * machines.len() as f64;
        (slept.as_secs_f64() / all, since.len())
    }
}

/// Takes the room for one machine more, if there is room at every feed above it.
fn takes(
    room: &mut BTreeMap<&FeedId, Watts>,
    facility: &FacilitySpec,
    machine: &MachineSpec,
) -> bool {
    let path = path(facility, &machine.feed);
    let needs = machine.awake - machine.residual;
    let has_room = path.iter().all(|feed| room[*feed] >= needs);
    if has_room {
        for feed in path {
            if let Some(room) = room.get_mut(feed) {
                *room = *room - needs;
            }
        }
    }
    has_room
}

/// `feed` and all feeds above it.
fn path<'f>(facility: &'f FacilitySpec, feed: &FeedId) -> Vec<&'f FeedId> {
    let mut path = Vec::new();
    let mut next = Some(feed);
    while let Some(id) = next {
        let Some(feed) = facility.feeds.iter().find(|feed| feed.id == *id) else { break };
        path.push(&feed.id);
        next = feed.parent.as_ref();
    }
    path
}
