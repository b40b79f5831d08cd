//! The site as the API shows it: how it all stands, its feeds and its machines.

use std::collections::BTreeMap;

use directive::{
    FeedId, Generation, GroupId, LedgerHead, MachineId, MachineReport, ReceiverId, ReceiverRole,
    Serving, SessionReport, Watts,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ShortLease, Shortage, power};
use crate::commitment::Phase;
use crate::machine_state::MachineState;
use crate::plan::Chosen;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub api_version: u32,
    pub site: String,
    pub timezone: String,
    /// The time it is.
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
    pub receivers: Vec<ReceiverView>,
    pub leases_by_state: BTreeMap<Phase, u32>,
    /// Leases that cannot be kept with the machines known now.
    pub short_leases: Vec<ShortLease>,
    /// Feeds that the plan cannot bring below their usable power.
    pub deficits: Vec<Shortage>,
    /// Machines that are to be off now, by their state.
    pub machines_off_by_state: BTreeMap<MachineState, u32>,
    /// The machines of all groups.
    pub machine_counts: MachineCounts,
    pub groups: Vec<GroupView>,
    pub unassigned: UnassignedView,
}

/// A file that was changed and is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNotice {
    /// When it was read.
    pub at: Timestamp,
    pub file: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerView {
    pub seq: u64,
    pub hash: String,
    /// Why it takes no entries, or null.
    pub failure: Option<String>,
}

/// Five counts of machines, none of which stands for another.
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
    /// Machines that do not do as told, or whose device fails commands or does not say what it does
    /// when it should be off.
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
    pub count: u32,
    /// At most three of their names.
    pub examples: Vec<MachineId>,
    /// Where they are counted, and at what power together.
    pub feed: FeedId,
    #[serde(flatten, with = "power::counted")]
    pub counted: Watts,
}

/// A proxy or an agent, by its newest report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiverView {
    /// The name that its link gives it.
    pub receiver: ReceiverId,
    pub role: ReceiverRole,
    /// Whether its link is attached now.
    pub attached: bool,
    /// When its newest report was made; before the first one, when its link was attached.
    pub at: Timestamp,
    /// How long ago a report arrived that left nothing missing in what is known of it; before the
    /// first one, how long ago its link was attached.
    pub age_secs: f64,
    /// Whether what is known of it is complete, and recent enough to count.
    pub fresh: bool,
    /// The timeline it holds.
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
    /// Limit × continuous factor − reserve.
    #[serde(flatten, with = "power::usable")]
    pub usable: Watts,
    /// What leases here and below reserve now.
    #[serde(flatten, with = "power::committed")]
    pub committed: Watts,
    /// What its meter shows; null while it is silent.
    #[serde(flatten, with = "power::metered")]
    pub metered: Option<Watts>,
    /// What its meter proves to be free of everything but leases; null while it is silent.
    #[serde(flatten, with = "power::headroom")]
    pub headroom: Option<Watts>,
    /// When that was measured.
    pub measured_at: Option<Timestamp>,
}

/// A machine and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineView {
    pub machine: MachineId,
    /// The group that claims it.
    pub group: Option<GroupId>,
    pub state: MachineState,
    /// The times for which it is off, and for what.
    pub chosen: Vec<Chosen>,
    /// How its sessions are served.
    pub session: Option<SessionReport>,
    /// What its device says.
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
    /// What to ask for in `after`, or null at the end.
    pub next: Option<MachineId>,
}

/// `GET /v1/ledger/head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadAnswer {
    pub api_version: u32,
    #[serde(flatten)]
    pub head: LedgerHead,
}
