//! The site as the API shows it: its status, its feeds and its machines.

use std::collections::BTreeMap;

use directive::{
    FeedId, Generation, GroupId, GuardState, LedgerHead, MachineId, MachineReport, MeterId,
    ReceiverId, ReceiverRole, Serving, SessionReport, Watts,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OffCountView, OffView, PeriodView, ShortLease, Shortage, power};
use crate::blackout::FeedSupply;
use crate::cause::OffBy;
use crate::commitment::Phase;
use crate::machine_state::MachineState;
use crate::plausible::MeterState;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub api_version: u32,
    pub site: String,
    pub timezone: String,
    /// The time of the answer.
    pub now: Timestamp,
    /// SHA-256 of the policy in force.
    pub policy_digest: String,
    pub policy_revision: Option<u64>,
    /// Why the newest policy file is not in force, or null.
    pub policy_refused: Option<FileNotice>,
    /// Why the newest configuration file is not in force, or null.
    pub configuration_not_applied: Option<FileNotice>,
    pub number: Generation,
    /// How far the plan reaches.
    pub horizon: Option<Timestamp>,
    pub ledger: LedgerView,
    /// Why power may not be raised just now, or null.
    pub raises_withheld: Option<String>,
    /// The feeds whose meters are not `ok`.
    #[serde(default)]
    pub meters_not_ok: Vec<DoubtedMeter>,
    pub receivers: Vec<ReceiverView>,
    pub leases_by_state: BTreeMap<Phase, u32>,
    /// Leases that cannot be kept with the machines known now.
    pub short_leases: Vec<ShortLease>,
    /// Feeds that the plan cannot bring below their usable power.
    pub deficits: Vec<Shortage>,
    /// The number of machines that must be off now, by their state.
    pub machines_off_by_state: BTreeMap<MachineState, u32>,
    /// The machines that are off or must be, by their causes: each machine counts once. A cause
    /// without machines is left out.
    #[serde(default)]
    pub machines_off_by_cause: BTreeMap<OffBy, OffCountView>,
    /// The machines of all groups.
    pub machine_counts: MachineCounts,
    pub groups: Vec<GroupView>,
    pub unassigned: UnassignedView,
    #[serde(default)]
    pub newcomers: NewcomersView,
    /// Machines that sleep, that nobody wants asleep, and that somebody else put to sleep: they are
    /// not woken before a person has them adopted.
    #[serde(default)]
    pub asleep_not_by_us: SleepersView,
    /// Machines that an agent put to sleep, that were not seen awake since, and that no agent
    /// reaches now.
    #[serde(default)]
    pub asleep_out_of_reach: SleepersView,
    /// The feeds that have no power, or have it again for a short time only; feeds below them are left
    /// out.
    #[serde(default)]
    pub dead_feeds: Vec<DeadFeedView>,
    /// Drivers that answer nothing: no machine of theirs is chosen, and machines of other drivers go
    /// in place of those that they do not put to sleep.
    #[serde(default)]
    pub drivers_down: Vec<DriverDownView>,
}

/// Whether a feed has power.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplyView {
    pub state: FeedSupply,
    /// The feed that has lost its power: this one, or one above it; null while it is live.
    pub feed: Option<FeedId>,
    /// Since when the power is, or was, gone; null while it is live.
    pub since: Option<Timestamp>,
    /// While it is reclosing: when it is live again if nothing moves until then; else null.
    pub until: Option<Timestamp>,
}

/// A feed that has lost its power, or has it again and settles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadFeedView {
    pub feed: FeedId,
    pub state: FeedSupply,
    /// Since when the power is, or was, gone.
    pub since: Timestamp,
    /// While it is reclosing: when it is live again if nothing moves until then; else null.
    pub until: Option<Timestamp>,
}

/// A driver that answers nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverDownView {
    /// The driver's name in the policy.
    pub driver: String,
    /// When it first did not answer.
    pub since: Timestamp,
    /// The machines that agents reach through it.
    pub machines_reached: u32,
    /// Those of them that are to sleep and do not answer.
    pub machines_unanswered: u32,
    /// What one of these machines' agents says.
    pub fault: Option<String>,
}

/// Sleeping machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepersView {
    pub count: u32,
    /// The first of them by name, at most ten.
    pub machines: Vec<SleeperView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleeperView {
    pub machine: MachineId,
    /// Since when the ledger has it.
    pub since: Timestamp,
}

/// A file that was changed and is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNotice {
    /// When the file was read.
    pub at: Timestamp,
    pub file: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    pub seq: u64,
    pub hash: String,
    /// Why the ledger accepts no entries, or null.
    pub failure: Option<String>,
}

/// Five independent counts of machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineCounts {
    /// Machines that the policy declares.
    pub declared: u32,
    /// Machines in the newest reports: of a proxy (a session now or in the last ten minutes) or of
    /// an agent (its driver looks after it). Only these can be planned with.
    pub seen: u32,
    /// Machines with a live session that has work, or with a share in the last two minutes.
    pub hashing: u32,
    /// Machines whose devices say that they sleep.
    pub asleep: u32,
    /// Machines that do not do as told, or whose device fails commands, or whose device does not
    /// report a state when the machine should be off.
    pub failing: u32,
}

impl std::iter::Sum for MachineCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, other| Self {
            declared: sum.declared.saturating_add(other.declared),
            seen: sum.seen.saturating_add(other.seen),
            hashing: sum.hashing.saturating_add(other.hashing),
            asleep: sum.asleep.saturating_add(other.asleep),
            failing: sum.failing.saturating_add(other.failing),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    pub group: GroupId,
    pub feed: FeedId,
    pub machine_counts: MachineCounts,
}

/// Machines with a live session that no group claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnassignedView {
    /// Machines that have work or a device.
    pub count: u32,
    /// Further machines, which get no work (`[site] unassigned = "park"`) and count as no load.
    #[serde(default)]
    pub waiting: u32,
    /// The names of at most three of both.
    pub examples: Vec<MachineId>,
    /// The feed at which the sessions are counted, and the total power counted for them.
    pub feed: FeedId,
    #[serde(flatten, with = "power::counted")]
    pub counted: Watts,
}

/// Machines of groups that connected and wait for room before they get work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewcomersView {
    pub waiting: u32,
    /// The names of at most three of them.
    pub examples: Vec<MachineId>,
}

/// A proxy or an agent, by its newest report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiverView {
    /// The name of the receiver, as its link gives it.
    pub receiver: ReceiverId,
    pub role: ReceiverRole,
    /// Whether the receiver's link is attached now.
    pub attached: bool,
    /// When the receiver's newest report was made; before the first report, when its link was
    /// attached.
    pub at: Timestamp,
    /// How long ago the last report arrived after which nothing was missing in the view of the
    /// receiver; before the first such report, how long ago its link was attached.
    pub age_secs: f64,
    /// Whether the view of the receiver is complete, and recent enough to count.
    pub fresh: bool,
    /// The timeline that the receiver holds.
    pub number: Option<Generation>,
    /// A proxy's machines by how their sessions are served.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machines_by_serving: BTreeMap<Serving, u32>,
}

/// A feed, with what is committed and measured now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedView {
    pub feed: FeedId,
    pub parent: Option<FeedId>,
    /// Limit × continuous factor − reserve, with the limit in force now.
    #[serde(flatten, with = "power::usable")]
    pub usable: Watts,
    /// When the limit changes next; null if no further change is known.
    #[serde(default)]
    pub usable_changes_at: Option<Timestamp>,
    /// What is usable from then on.
    #[serde(flatten, with = "power::usable_next")]
    pub usable_next: Option<Watts>,
    /// The power that leases at the feed and below it reserve now.
    #[serde(flatten, with = "power::committed")]
    pub committed: Watts,
    /// What the feed's meter shows, plausible or not; null while it is silent.
    #[serde(flatten, with = "power::metered")]
    pub metered: Option<Watts>,
    /// The power that the feed's meter proves to be free of everything but leases; null while it is
    /// silent or not believed.
    #[serde(flatten, with = "power::headroom")]
    pub headroom: Option<Watts>,
    /// When the feed's meter measured the power.
    pub measured_at: Option<Timestamp>,
    /// What is thought of the feed's meter; null if the feed has none, or while its first sample is
    /// awaited after a start.
    #[serde(default)]
    pub meter_health: Option<FeedMeterView>,
    /// The power below the usable power that plans leave free.
    #[serde(flatten, with = "power::band")]
    pub band: Watts,
    /// The power by which machines below the feed may be raised now; null while its meter is silent or
    /// not believed, or if it has none.
    #[serde(flatten, with = "power::room")]
    pub room: Option<Watts>,
    /// The power of the machines below the feed that may be told to wake, or were told to and do not
    /// draw it for certain yet.
    #[serde(flatten, with = "power::permitted")]
    pub permitted: Watts,
    /// The machines below the feed that are to come back and wait for a permit.
    pub machines_waiting: u32,
    #[serde(default)]
    pub supply: SupplyView,
    /// What the agent that guards the feed says; null if no agent does.
    pub guard: Option<FeedGuardView>,
}

/// What is thought of the meter of one feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedMeterView {
    pub meter: MeterId,
    pub state: MeterState,
    /// Since when it has been in its state.
    pub since: Timestamp,
    /// What an implausible meter showed when it was last found to be so.
    #[serde(flatten, with = "power::shown")]
    pub shown: Option<Watts>,
    /// What that was compared with: what is possible, proven, or shown by other meters.
    #[serde(flatten, with = "power::bound")]
    pub bound: Option<Watts>,
    /// Why it is not believed, in one sentence; null if it is, or if it is silent.
    pub why: Option<String>,
    /// How old its newest sample is, by its own time; null while it is silent.
    pub age_secs: Option<f64>,
    /// How far apart its samples are.
    pub gap_secs: f64,
}

/// A feed whose meter is not `ok`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoubtedMeter {
    pub feed: FeedId,
    #[serde(flatten)]
    pub meter: FeedMeterView,
}

/// The guard of one feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedGuardView {
    pub agent: ReceiverId,
    pub state: GuardState,
    /// The power that the guard could take off.
    #[serde(flatten, with = "power::guardable")]
    pub guardable: Watts,
    /// The excess that no machine of the guard's agent can cover.
    #[serde(flatten, with = "power::wants")]
    pub wants: Watts,
    /// How often the guard has shed for this feed since its agent started.
    pub acts: u64,
}

/// A machine and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineView {
    pub machine: MachineId,
    /// The group that claims the machine.
    pub group: Option<GroupId>,
    pub state: MachineState,
    /// The periods for which the machine is off, and for which leases.
    pub chosen: Vec<PeriodView>,
    /// Why the machine is off now, or is to be; null if it may mine.
    #[serde(default)]
    pub off: Option<OffView>,
    /// How the machine's sessions are served.
    pub session: Option<SessionReport>,
    /// What the machine's device reports.
    pub device: Option<MachineReport>,
}

/// `GET /v1/feeds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedsAnswer {
    pub api_version: u32,
    pub timezone: String,
    pub feeds: Vec<FeedView>,
}

/// `GET /v1/machines`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachinesAnswer {
    pub api_version: u32,
    pub timezone: String,
    pub machines: Vec<MachineView>,
    /// The value of `after` for the next page, or null at the end.
    pub next: Option<MachineId>,
}

/// The body of `POST /v1/machines/adopt` and `POST /v1/machines/wake`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    pub machines: Vec<MachineId>,
    /// Who asks, for the ledger.
    #[serde(default)]
    pub by: Option<String>,
}

/// `POST /v1/machines/adopt` and `POST /v1/machines/wake`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedAnswer {
    pub api_version: u32,
    pub timezone: String,
    /// The machines of the request, by name.
    pub machines: Vec<AdoptedView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedView {
    pub machine: MachineId,
    pub state: AdoptedState,
    /// What the machine waits for, or null if it comes back with the next permits.
    pub waits_for: Option<String>,
}

/// What becomes of a machine that was adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptedState {
    /// It is awake, so that nothing was to be done.
    Awake,
    /// It is wanted asleep, and comes back when it is not any more.
    WantedAsleep,
    /// It comes back when there is room.
    Returning,
}

/// `GET /v1/ledger/head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadAnswer {
    pub api_version: u32,
    #[serde(flatten)]
    pub head: LedgerHead,
}
