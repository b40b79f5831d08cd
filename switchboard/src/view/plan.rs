//! The plan as the API shows it.

use std::collections::BTreeMap;

use directive::{Action, FeedId, Generation, GroupId, LeaseId, MachineId, Means, Step, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LeasePlanView, ShortLease, Shortage, power};
use crate::plan::{Plan, Room};

/// `GET /v1/plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    pub api_version: u32,
    pub timezone: String,
    pub number: Generation,
    /// The plan, once there is one.
    pub plan: Option<PlanBody>,
    /// Leases that cannot be kept with the machines known now, those beyond the horizon among them.
    pub short_leases: Vec<ShortLease>,
}

/// Everything that is to happen until the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanBody {
    pub made_at: Timestamp,
    pub horizon: Timestamp,
    /// SHA-256 of the policy it was made under.
    pub policy_digest: String,
    pub steps: Vec<StepView>,
    pub rooms: Vec<RoomView>,
    /// What is done for each lease.
    pub lease_plans: BTreeMap<LeaseId, LeasePlanView>,
    /// Feeds that the plan cannot bring below their usable power.
    pub deficits: Vec<Shortage>,
}

/// From `at` on, some machines of a group do something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    pub at: Timestamp,
    pub group: GroupId,
    pub action: Action,
    pub means: Means,
    pub machine_names: Vec<MachineId>,
    pub lease: Option<LeaseId>,
    pub reason: String,
    /// Whether it happens only if no newer plan arrives by the horizon.
    pub failsafe: bool,
}

/// Room at one feed over one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomView {
    pub feed: FeedId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Leases here and below.
    #[serde(flatten, with = "power::committed")]
    pub committed: Watts,
    /// What is left for mining.
    #[serde(flatten, with = "power::left")]
    pub left: Watts,
    /// What mining is planned to draw, sleeping machines included.
    #[serde(flatten, with = "power::mining")]
    pub mining: Watts,
}

impl From<&Room> for RoomView {
    fn from(room: &Room) -> Self {
        Self {
            feed: room.feed.clone(),
            from: room.from,
            to: room.to,
            committed: room.committed,
            left: room.left,
            mining: room.mining,
        }
    }
}

impl PlanBody {
    pub(crate) fn new(plan: &Plan, deficits: Vec<Shortage>) -> Self {
        let step = |step: &Step| StepView {
            at: step.at,
            group: step.group.clone(),
            action: step.action,
            means: step.means,
            machine_names: step.machines.clone(),
            lease: step.lease.clone(),
            reason: step.reason.clone(),
            failsafe: step.at >= plan.horizon && step.lease.is_none(),
        };
        Self {
            made_at: plan.made_at,
            horizon: plan.horizon,
            policy_digest: plan.policy.clone(),
            steps: plan.steps.iter().map(step).collect(),
            rooms: plan.rooms.iter().map(RoomView::from).collect(),
            lease_plans: plan.leases.iter().map(|(id, plan)| (id.clone(), plan.into())).collect(),
            deficits,
        }
    }
}
