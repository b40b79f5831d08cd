//! What a seed stands for: a facility, the policy over it, what clients ask, and what goes wrong.
//! Plain data; `draw` makes it, the world plays it.

use std::time::Duration;

use directive::{FeedId, LeaseId, MachineId, MeterId, Watts};
use jiff::SignedDuration;

use crate::facility::spec::FacilitySpec;
use crate::record::{Order, Role, StateFound};

mod draw;
mod leases;
mod policy;
mod troubles;

pub use draw::{large, scenario};
pub use policy::policy_text;

#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub trouble: Trouble,
    pub facility: FacilitySpec,
    pub rules: Rules,
    pub roles: RoleSpec,
    pub weather: Weather,
    /// What clients ask for, by number.
    pub leases: Vec<LeaseSpec>,
    /// What happens from outside, in order of time.
    pub acts: Vec<(Duration, Act)>,
    /// From this time on messages are neither lost nor late.
    pub calm_from: Duration,
    pub length: Duration,
}

/// What goes wrong in a world. A world with one kind of trouble shows what that kind alone does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Nothing: what is promised must hold to the letter.
    Calm,
    /// Messages are late, lost, repeated or overtaken; links are cut for minutes.
    Network,
    /// Roles are killed and start again with what they had written.
    Restarts,
    /// Roles start again with older state or without any.
    Memory,
    /// Wall clocks are stepped.
    Clocks,
    /// Disks take nothing for a while.
    Disks,
    /// Devices lie, refuse, hang, are late, wake by themselves or break.
    Devices,
    /// The house grows, tenants draw too much, too early or too long.
    Loads,
    /// Meters freeze, are lost or are wrong by a factor.
    Meters,
    /// Operators edit the policy.
    Policy,
    /// A feed loses its power for a while. It is drawn in the place of some calm worlds, and is no part of
    /// everything.
    Power,
    /// All of it.
    Everything,
}

impl Trouble {
    pub const ALL: [Self; 11] = [
        Self::Calm,
        Self::Network,
        Self::Restarts,
        Self::Memory,
        Self::Clocks,
        Self::Disks,
        Self::Devices,
        Self::Loads,
        Self::Meters,
        Self::Policy,
        Self::Everything,
    ];

    /// The trouble of the world of `seed`.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let kinds = Self::ALL.len() as u64;
        let kind = Self::ALL[usize::try_from(seed % kinds).unwrap_or(0)];
        let is_dark = kind == Self::Calm && seed / kinds % 3 == 2;
        if is_dark { Self::Power } else { kind }
    }

    /// Whether a world with this trouble has trouble of the kind `other`.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self == other || (self == Self::Everything && other != Self::Power)
    }
}

/// What the policy says of the whole site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub make_up_percent: f64,
    pub settle: Duration,
    pub margin: Duration,
    pub prove_for: Duration,
    pub down_per_min: Watts,
    pub up_per_min: Watts,
    pub up_step_machines: u32,
    pub up_step_interval: Duration,
    pub permit_ttl: Duration,
    pub permit_every: Duration,
    pub report_stale_after: Duration,
    pub meter_stale_after: Duration,
    pub reclose_settle: Duration,
}

/// How the roles are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleSpec {
    pub switchboard_tick: Duration,
    pub agent_report_every: Duration,
    pub proxy_report_every: Duration,
    pub read_at_rest: Duration,
    /// Commands that a driver is given at once.
    pub in_flight: usize,
    /// Whether the client looks at each machine from time to time, and how often.
    pub look_every: Duration,
}

/// What a message can take, and how often it does not arrive as sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// The longest way of a message between roles.
    pub most: Duration,
    /// The longest write.
    pub disk: Duration,
    pub down_loss_percent: u32,
    pub report_loss_percent: u32,
    pub repeat_percent: u32,
    pub device_loss_percent: u32,
}

/// The ways that take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// From the switchboard to a receiver.
    Down,
    /// From a receiver to the switchboard.
    Up,
    /// Between the agent and a device.
    Device,
    /// From a meter to the agent.
    Meter,
    /// Between a client and the switchboard.
    Client,
    Disk,
    /// From a lost connection to the next.
    Reconnect,
}

impl Weather {
    /// The shortest and the longest time on `path`.
    #[must_use]
    pub fn delays(&self, path: Path) -> (Duration, Duration) {
        let ms = Duration::from_millis;
        match path {
            Path::Down | Path::Up => (ms(1), self.most.max(ms(20))),
            Path::Device => (ms(20), ms(500)),
            Path::Meter | Path::Client => (ms(5), ms(100)),
            Path::Disk => (ms(2), self.disk.max(ms(30))),
            Path::Reconnect => (ms(500), ms(10_000)),
        }
    }
}

/// A lease that a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseSpec {
    pub lease: LeaseId,
    pub feed: FeedId,
    pub watts: Watts,
    pub start: Duration,
    pub end: Duration,
    pub ready_before: Duration,
    pub meter: Option<MeterId>,
    pub accept_unverified: bool,
    pub tenant: Tenant,
}

/// How a tenant keeps to its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant {
    /// When it comes, after its start; negative for one that comes early.
    pub comes: SignedDuration,
    /// How much of its reservation it draws.
    pub percent: u32,
    /// When it goes, after its end.
    pub goes: SignedDuration,
    /// From no power to all of it.
    pub ramp: Duration,
}

/// Something that happens from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A client asks for the lease of this number.
    Ask(usize),
    /// A client cancels it.
    Cancel { lease: usize, force: bool },
    /// These roles die at one moment.
    Kill(Vec<Role>),
    /// A role starts, and finds this on its disk.
    Start(Role, StateFound),
    /// The wall clocks of these roles' host are stepped.
    Step(Vec<Role>, SignedDuration),
    /// A role's disk takes nothing from now on, or takes writes again.
    Disk(Role, bool),
    /// The link to a receiver is cut, or mended.
    Link(Role, bool),
    /// Somebody works at a machine.
    Technician(MachineId, Order),
    /// Messages are neither lost nor late from now on.
    Calm,
    /// A feed's limit in the policy's file becomes this percentage of its rating.
    Limit(FeedId, u32),
    /// A feed loses its power, with everything below it.
    Dark(FeedId),
    /// It has its power again.
    Light(FeedId),
}
