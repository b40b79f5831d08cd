//! The record of one run: what the facility did, what the roles were told and what the switchboard
//! promised. The judge reads nothing else.
//!
//! The facility writes powers, machines and commands. The world writes the rest: messages as they
//! arrive, starts of roles, stepped clocks, and what a client of the API was shown. Every `at` is
//! virtual time since the run began, by a clock that no role has and nothing steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use directive::{FeedId, Generation, LeaseId, MachineId, MeterId, Permit, Timeline, Watts};
use jiff::{SignedDuration, Timestamp};

mod series;

pub use series::{Series, Span};

/// Everything that happened in a run, in order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// The true wall time at which the run began.
    pub begins: Timestamp,
    pub entries: Vec<Entry>,
    pub feeds: BTreeMap<FeedId, FeedRecord>,
    /// What each tenant drew, by lease.
    pub tenants: BTreeMap<LeaseId, Series>,
    /// When the run ended; zero while it goes on.
    pub ended: Duration,
}

/// The power at one feed, with everything below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedRecord {
    /// All that was drawn through it.
    pub load: Series,
    pub mining: Series,
    pub house: Series,
    pub tenants: Series,
    /// What the policy in force allowed.
    pub usable: Series,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub at: Duration,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A machine's state changed.
    Machine { machine: MachineId, from: State, to: State, cause: Cause },
    /// A command reached a device, whatever the device made of it.
    Command { machine: MachineId, order: Order, by: Commander },
    /// A command that an agent sent was lost on its way to the device.
    CommandLost { machine: MachineId, order: Order },
    /// A proxy gave a machine work, or stopped giving it any.
    Served { machine: MachineId, served: bool },
    /// A feed lost its power with everything below it, or has it again.
    Power { feed: FeedId, is_there: bool },
    /// A meter's fault began, or ended (`None`).
    Meter { meter: MeterId, fault: Option<MeterFault> },
    /// A role began to run. `holds` is the timeline that a receiver found in its state.
    Started { role: Role, state: StateFound, holds: Option<Generation> },
    /// A role was killed or ended.
    Stopped { role: Role },
    /// The switchboard sent this timeline to all receivers; it may be lost on the way.
    Issued(Arc<Timeline>),
    /// A message of the switchboard arrived at a receiver.
    Heard { role: Role, message: Message },
    /// The link to a receiver was cut, or mended.
    Link { receiver: Role, works: bool },
    /// The wall clock of a role's host was stepped by this much.
    ClockStepped { role: Role, by: SignedDuration },
    /// The API accepted a lease, or a change of it.
    Promised(Promise),
    /// A client saw a lease in a new phase.
    Phase { lease: LeaseId, phase: Phase },
    /// A client saw a breach on a lease's record.
    Breach { lease: LeaseId, since: Duration, missing: Watts, blamed: Side },
    /// A client saw that something else is thought of a meter.
    MeterShown { meter: MeterId, shown: MeterShown },
    /// A client saw that something else is said of the power of a feed.
    SupplyShown { feed: FeedId, shown: SupplyShown },
    /// What a client saw of machines that are off; each is the whole list from then on.
    Shown(Shown),
}

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Awake,
    /// Told to sleep and still drawing.
    FallingAsleep,
    Asleep,
    /// Booting and tuning; its power rises.
    Waking,
    /// Broken, or without power: it draws nothing and answers nothing.
    Dead,
}

/// Why a machine's state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A command took effect, possibly long after it arrived.
    Commanded { by: Commander, arrived: Duration },
    /// What was under way came to its end.
    Completed,
    /// Its firmware did it: a reboot, a watchdog, a self-wake.
    ByItself,
    /// It broke.
    Failure,
    /// Its feed lost its power.
    Power,
}

/// Who gave a command to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Commander {
    Agent,
    /// A person at the device, whom no role knows of.
    Technician,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    Sleep,
    Wake,
}

/// How a meter is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MeterFault {
    /// It repeats its last value with new times.
    Frozen,
    /// Its values are off by this factor, such as 1,000 or 0.001.
    Factor(f64),
    /// It does not answer.
    Lost,
}

/// What the API shows of the power of a feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SupplyShown {
    #[default]
    Live,
    Dead,
    Reclosing,
}

/// What the API shows of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MeterShown {
    Believed,
    Silent,
    /// It contradicts something.
    Doubted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Switchboard,
    Agent,
    Proxy,
}

/// What a role found on its disk when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateFound {
    /// Nothing, because it never ran before.
    New,
    /// What it wrote last. Writes under way when it was killed may be missing.
    Kept,
    Lost,
    /// An older copy.
    Older,
}

/// What a receiver was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Timeline(Arc<Timeline>),
    Permit(Permit),
    /// The permit given before no longer counts.
    Withdrawn,
    /// The machines that devices confirmed to be asleep.
    Asleep(Arc<BTreeSet<MachineId>>),
}

/// A lease as the API answered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    pub lease: LeaseId,
    pub feed: FeedId,
    /// Gross power at the feed.
    pub watts: Watts,
    pub start: Duration,
    /// Its end, or its cancellation.
    pub end: Duration,
    /// Its power is to be free this long before its start.
    pub ready_before: Duration,
    /// Whether it was accepted that nothing may be proven.
    pub unverified: bool,
    /// The tenant's own meter.
    pub meter: Option<MeterId>,
}

/// A lease's phase as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Planned,
    Armed,
    Shedding,
    Proven,
    Active,
    Releasing,
    Closed,
}

/// Whose doing a breach is, as the record of the lease says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Facility,
    Tenant,
    /// A lowered limit.
    Derate,
}

/// Machines that a client of the API can see to be off, or not back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Off for a lease or an order, or about to be.
    pub wanted: BTreeSet<MachineId>,
    /// Released and not seen to mine since.
    pub returning: BTreeSet<MachineId>,
    /// Asleep, and the switchboard did not want it.
    pub foreign: BTreeSet<MachineId>,
    /// The leases that machines are said to be off for.
    pub leases: BTreeSet<LeaseId>,
    /// The machines that a guard is said to have put to sleep.
    pub guarded: BTreeSet<MachineId>,
}

impl Shown {
    #[must_use]
    pub fn contains(&self, machine: &MachineId) -> bool {
        [&self.wanted, &self.returning, &self.foreign].iter().any(|list| list.contains(machine))
    }
}

impl Record {
    /// An empty record of a run that begins at `begins`.
    #[must_use]
    pub fn new(begins: Timestamp) -> Self {
        Self { begins, ..Self::default() }
    }

    /// Adds what happened at `at`, which is not before the last entry.
    pub fn push(&mut self, at: Duration, event: Event) {
        debug_assert!(self.entries.last().is_none_or(|last| last.at <= at), "time runs forward");
        self.entries.push(Entry { at, event });
    }

    /// The virtual time of a true wall time; zero for times before the run.
    #[must_use]
    pub fn virtual_time(&self, wall: Timestamp) -> Duration {
        Duration::try_from(wall.duration_since(self.begins)).unwrap_or_default()
    }

    /// The true wall time at `at`.
    #[must_use]
    pub fn wall(&self, at: Duration) -> Timestamp {
        self.begins.checked_add(at).unwrap_or(Timestamp::MAX)
    }

    /// The timelines that the switchboard sent, by number.
    #[must_use]
    pub fn timelines(&self) -> BTreeMap<Generation, Arc<Timeline>> {
        let issued = self.entries.iter().filter_map(|entry| match &entry.event {
            Event::Issued(timeline) => Some(timeline),
            _ => None,
        });
        issued.map(|timeline| (timeline.number, timeline.clone())).collect()
    }
}
