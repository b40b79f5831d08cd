//! What a simulated facility consists of: plain data, drawn by seed or written by hand.
//!
//! Two sets of figures stand beside each other: what the policy will be told (limits, nameplates,
//! declared times) and what is true (draws, real times, habits). The roles see only the first.

use std::time::Duration;

use directive::{FeedId, GroupId, LeaseId, MachineId, MeterId, Watts};
use jiff::Timestamp;

use crate::record::{MeterFault, Span};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct FacilitySpec {
    /// The true wall time at which the run begins.
    pub begins: Timestamp,
    /// Parents stand before their children; the first is the root.
    pub feeds: Vec<FeedSpec>,
    pub groups: Vec<GroupSpec>,
    pub machines: Vec<MachineSpec>,
    pub meters: Vec<MeterSpec>,
    /// For what each device and meter draws by chance.
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FeedSpec {
    pub id: FeedId,
    pub parent: Option<FeedId>,
    /// Its limit, until the first of `limits`.
    pub limit: Watts,
    /// From when on another limit holds, in order.
    pub limits: Vec<(Duration, Watts)>,
    /// The share of the rating that may be drawn continuously.
    pub continuous_factor: f64,
    pub reserve: Watts,
    /// What the policy says that the house draws here.
    pub declared_house: Watts,
    /// The ceiling for mining and house when a receiver has no plan any more.
    pub default_constraint: Watts,
    /// What the house really draws here: from each time on, this much.
    pub house: Vec<(Duration, Watts)>,
}

impl FeedSpec {
    /// What may be planned here before the limit changes.
    #[must_use]
    pub fn usable(&self) -> Watts {
        self.usable_of(self.limit)
    }

    /// What may be planned here at `at`.
    #[must_use]
    pub fn usable_at(&self, at: Duration) -> Watts {
        let next = self.limits.partition_point(|(from, _)| *from <= at);
        self.usable_of(next.checked_sub(1).map_or(self.limit, |last| self.limits[last].1))
    }

    /// The times from which less may be planned here than before, and how much.
    pub fn falls(&self) -> impl Iterator<Item = (Duration, Watts)> + '_ {
        let before = std::iter::once(self.limit).chain(self.limits.iter().map(|(_, watts)| *watts));
        let falls = self.limits.iter().zip(before).filter(|((_, watts), before)| watts < before);
        falls.map(|((from, watts), _)| (*from, self.usable_of(*watts)))
    }

    fn usable_of(&self, limit: Watts) -> Watts {
        limit.scale(self.continuous_factor) - self.reserve
    }
}

/// What the policy says of machines that are planned alike. Their names are the group's, a hyphen
/// and a number.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSpec {
    pub id: GroupId,
    pub feed: FeedId,
    /// How many machines the policy says there are.
    pub declared: usize,
    pub nameplate: Watts,
    pub residual: Watts,
    /// What the policy says that one draws awake without work, if it says so.
    pub poolless: Option<Watts>,
    /// The efficiency, in joules per terahash: the order in which machines go depends on it.
    pub j_per_th: f64,
    pub shed_p95: Duration,
    pub restore_p95: Duration,
    pub min_up: Duration,
    pub min_down: Duration,
    /// Whether a driver reaches its machines.
    pub reachable: bool,
}

/// One machine as it really is.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineSpec {
    pub id: MachineId,
    pub group: GroupId,
    pub feed: FeedId,
    /// What it draws when it hashes.
    pub awake: Watts,
    pub residual: Watts,
    /// What it draws awake without work, once `poolless_after` is over.
    pub poolless: Watts,
    /// How long it works on at full power when it gets no work.
    pub poolless_after: Duration,
    /// From the command until it is asleep; it draws full power meanwhile.
    pub sleep_time: Duration,
    /// From the command until it hashes: half of it at its residual draw, half at
    /// [`TUNING_PERCENT`] of its full draw.
    pub wake_time: Duration,
    pub habits: Habits,
    pub start: Start,
}

/// Share of its full draw that a machine takes in the second half of waking.
pub const TUNING_PERCENT: i64 = 70;

/// What a machine does when the run begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    #[default]
    Awake,
    /// A person put it to sleep before.
    Asleep,
    /// Switched off; it comes up by itself at this time.
    OffUntil(Duration),
}

/// How a device differs from one that always does as told. Chances are in percent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Habits {
    /// It acknowledges sleep, reads `asleep`, and goes on at full power.
    pub lies: bool,
    /// It refuses to sleep, and says so.
    pub refuses: bool,
    /// Its answers take this long.
    pub answers_after: Duration,
    /// How often a command or a read is never answered. The command takes effect in half of these.
    pub hangs_percent: u32,
    /// How often a command takes effect this long after it was acknowledged.
    pub late: Option<(u32, Duration)>,
    /// How often a command takes effect a second time, this long after the first.
    pub repeated: Option<(u32, Duration)>,
    /// A wake command that comes while it wakes starts it over.
    pub wake_starts_over: bool,
    /// It wakes by itself after it has slept this long, each time.
    pub wakes_after: Option<Duration>,
    /// It restarts this often. A restart ends a sleep.
    pub reboots_every: Option<Duration>,
    /// It breaks at this time, for good.
    pub dies_at: Option<Duration>,
    /// It keeps its connection to the proxy while it sleeps.
    pub keeps_session: bool,
    /// It sleeps on when its power was lost and is back. Others come up awake.
    pub remembers_sleep: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MeterSpec {
    pub id: MeterId,
    pub of: Measured,
    /// It takes a sample this often.
    pub period: Duration,
    /// A sample can be read this long after it was taken.
    pub lag: Duration,
    /// Samples are off by at most this, in parts per million of the true value.
    pub noise_ppm: i64,
    /// When each fault begins, or ends (`None`).
    pub faults: Vec<(Duration, Option<MeterFault>)>,
}

impl MeterSpec {
    /// The faults that it has at some time in `span`.
    pub fn faults_in(&self, span: Span) -> impl Iterator<Item = MeterFault> + '_ {
        self.faults.iter().enumerate().filter_map(move |(index, (from, fault))| {
            let to = self.faults.get(index + 1).map_or(Duration::MAX, |(next, _)| *next);
            fault.filter(|_| *from < span.to && span.from < to)
        })
    }
}

/// What a meter stands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    Feed(FeedId),
    /// The tenants whose lease names this meter.
    Tenants,
}

/// A tenant's load. It knows nothing of what the switchboard proved: it comes when it comes.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSpec {
    pub lease: LeaseId,
    pub feed: FeedId,
    pub meter: Option<MeterId>,
    /// From each time on it draws this much.
    pub draws: Vec<(Duration, Watts)>,
}
