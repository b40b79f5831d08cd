//! The plan in API answers.

use std::collections::BTreeMap;

use directive::{Action, FeedId, Generation, GroupId, LeaseId, MachineId, Means, Step, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LeasePlanView, ShortLease, Shortage, power};
use crate::cause::{Cause, OffBy};
use crate::plan::{Plan, Room};

/// `GET /v1/plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    pub api_version: u32,
    pub timezone: String,
    pub number: Generation,
    /// The plan, once there is one.
    pub plan: Option<PlanBody>,
    /// Leases that are short with the machines known now, including those beyond the horizon.
    pub short_leases: Vec<ShortLease>,
}

/// Everything planned until the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanBody {
    pub made_at: Timestamp,
    pub horizon: Timestamp,
    /// SHA-256 of the policy that the plan was made under.
    pub policy_digest: String,
    pub steps: Vec<StepView>,
    pub rooms: Vec<RoomView>,
    /// What the plan does for each lease.
    pub lease_plans: BTreeMap<LeaseId, LeasePlanView>,
    /// Feeds whose load the plan cannot bring below their usable power.
    pub deficits: Vec<Shortage>,
}

/// A step: what some machines of a group do from `at` on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    pub at: Timestamp,
    pub group: GroupId,
    pub action: Action,
    pub means: Means,
    pub machine_names: Vec<MachineId>,
    pub lease: Option<LeaseId>,
    /// What the machines go for, or were off for, in one word; null for a `failsafe` step.
    #[serde(default)]
    pub cause: Option<OffBy>,
    /// The feed that makes the machines go, if no lease does.
    #[serde(default)]
    pub feed: Option<FeedId>,
    pub reason: String,
    /// Whether the step is carried out only if no newer plan arrives by the horizon.
    pub failsafe: bool,
}

/// Room at one feed over one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomView {
    pub feed: FeedId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// The power of leases at the feed and below it.
    #[serde(flatten, with = "power::committed")]
    pub committed: Watts,
    /// The power left for mining.
    #[serde(flatten, with = "power::left")]
    pub left: Watts,
    /// The planned power of mining, including sleeping machines.
    #[serde(flatten, with = "power::mining")]
    pub mining: Watts,
}

impl From<Room> for RoomView {
    fn from(room: Room) -> Self {
        Self {
            feed: room.feed,
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
        let cause = |number: usize| plan.causes.get(number)?.as_ref();
        let step = |(number, step): (usize, &Step)| StepView {
            at: step.at,
            group: step.group.clone(),
            action: step.action,
            means: step.means,
            machine_names: step.machines.clone(),
            lease: step.lease.clone(),
            cause: cause(number).map(Cause::word),
            feed: cause(number).and_then(Cause::feed).cloned(),
            reason: step.reason.clone(),
            failsafe: step.at >= plan.horizon && step.lease.is_none(),
        };
        Self {
            made_at: plan.made_at,
            horizon: plan.horizon,
            policy_digest: plan.policy.clone(),
            steps: plan.steps.iter().enumerate().map(step).collect(),
            rooms: plan.rooms.iter().map(RoomView::from).collect(),
            lease_plans: plan.leases.iter().map(|(id, plan)| (id.clone(), plan.into())).collect(),
            deficits,
        }
    }
}
