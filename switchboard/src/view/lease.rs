//! Leases in API answers: what was promised, the state, and what is missing.

use std::collections::BTreeMap;

use directive::{FeedId, LeaseId, MeterId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ShortLease, Shortage, power};
use crate::admit::{Lead, Line};
use crate::commitment::{Breach, Doing, Phase, Unconfirmed};
use crate::machine_state::MachineState;
use crate::plan::LeasePlan;
use crate::words::Named;

/// A lease and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseView {
    pub id: LeaseId,
    pub tenant: String,
    /// Critical IT load.
    #[serde(flatten, with = "power::it")]
    pub it: Watts,
    /// Power usage effectiveness: gross power is IT power times this.
    pub pue: f64,
    /// The power that the feed carries: IT × PUE.
    #[serde(flatten, with = "power::gross")]
    pub gross: Watts,
    pub feed: FeedId,
    pub start: Timestamp,
    pub end: Timestamp,
    /// How long before the lease's start its power must be proven free.
    pub ready_before_secs: u64,
    /// From when on the lease's power is kept free: `ready_before` its start, or when the lease ends
    /// that it `follows` without renewing it.
    #[serde(default)]
    pub ready_from: Timestamp,
    /// The lease at the same feed whose power this one takes over; null if there is none. If this
    /// one renews a lease of its own tenant, only the larger of both powers is kept free until that
    /// one ends. Otherwise this one is made ready only when that one ends.
    #[serde(default)]
    pub follows: Option<LeaseId>,
    /// Whether machines that can only be starved of work are enough.
    pub accept_unverified: bool,
    /// The tenant's own meter.
    pub meter: Option<MeterId>,
    pub committed_at: Timestamp,
    pub cancelled_at: Option<Timestamp>,
    pub state: Phase,
    /// Why the lease is in its state, in one sentence. Times in it are in the site's zone.
    pub state_reason: String,
    /// When the plan will contain all steps of the lease; null once it does.
    pub in_plan_from: Option<Timestamp>,
    /// When shedding must begin at the latest; null when the lease is over.
    pub latest_safe_start: Option<Timestamp>,
    /// Whether the lease's power could not be proven at some time: it relies on machines that can only
    /// be starved of work, or no meter showed what it would have to. This stays on record.
    pub unverified: bool,
    /// Why it could not, the last time; null if it always could.
    #[serde(default)]
    pub unverified_why: Option<String>,
    /// Machines whose devices do not confirm at present what the meters prove; null when all do.
    pub unconfirmed: Option<Unconfirmed>,
    /// When there first were unconfirmed machines. This stays on record.
    pub unconfirmed_at: Option<Timestamp>,
    /// Whether there are `breaches`.
    pub breached: bool,
    /// When the promise was not kept, and by how much.
    pub breaches: Vec<BreachView>,
    /// When the lease's power was first proven free.
    pub proven_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    /// The power that the lease will lack with the machines known now, or null.
    pub short: Option<Shortage>,
    /// Machines that the lease released and that have not been seen mining since.
    pub not_back: Named,
    /// The number of machines chosen for the lease, by their state.
    pub machines_by_state: BTreeMap<MachineState, u32>,
    /// What the plan does for the lease; null while the lease is beyond the plan's horizon.
    pub lease_plan: Option<LeasePlanView>,
}

/// A breach of a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreachView {
    pub at: Timestamp,
    /// Since when the power was missing; null in records of older programs.
    pub since: Option<Timestamp>,
    #[serde(flatten, with = "power::missing")]
    pub missing: Watts,
    /// Whether a meter measured the missing power. If not, as in some records of older programs,
    /// `missing` is all the power that was promised.
    pub measured: bool,
    /// Whose doing it is: `ours`, `tenant`, `house`, `derate` or `meter`; null in records of older
    /// programs.
    #[serde(default)]
    pub doing: Option<Doing>,
    pub why: String,
}

impl From<&Breach> for BreachView {
    fn from(breach: &Breach) -> Self {
        Self {
            at: breach.at,
            since: breach.since,
            missing: breach.missing,
            measured: breach.measured,
            doing: breach.doing,
            why: breach.why.clone(),
        }
    }
}

/// What the plan does for one lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeasePlanView {
    /// The number of machines shed for it.
    pub machines_planned: u32,
    /// How many of the planned machines can only be starved of work.
    pub machines_starved: u32,
    /// The power that shedding the planned machines frees.
    #[serde(flatten, with = "power::shed")]
    pub shed: Watts,
    pub lead: LeadView,
    /// The latest time at which the first machine must be shed.
    pub latest_safe_start: Timestamp,
}

impl From<&LeasePlan> for LeasePlanView {
    fn from(plan: &LeasePlan) -> Self {
        Self {
            machines_planned: plan.machines,
            machines_starved: plan.starved,
            shed: plan.shed,
            lead: plan.lead.into(),
            latest_safe_start: plan.latest_safe_start,
        }
    }
}

/// The time that freeing power takes, and its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeadView {
    /// The sum as text.
    pub text: String,
    pub total_secs: f64,
    /// The power that must be shed.
    #[serde(flatten, with = "power::shed")]
    pub shed: Watts,
    pub ramp_secs: f64,
    /// The time until the last machine has its command; 0 until an agent has measured its driver.
    #[serde(default)]
    pub dispatch_secs: f64,
    pub shed_p95_secs: f64,
    pub settle_secs: f64,
    pub prove_for_secs: f64,
    pub margin_secs: f64,
}

impl From<Lead> for LeadView {
    fn from(lead: Lead) -> Self {
        Self {
            text: lead.to_string(),
            total_secs: lead.total().as_secs_f64(),
            shed: lead.shed,
            ramp_secs: lead.ramp.as_secs_f64(),
            dispatch_secs: lead.dispatch.as_secs_f64(),
            shed_p95_secs: lead.shed_p95.as_secs_f64(),
            settle_secs: lead.settle.as_secs_f64(),
            prove_for_secs: lead.prove_for.as_secs_f64(),
            margin_secs: lead.margin.as_secs_f64(),
        }
    }
}

/// The arithmetic of admission for one feed, over the interval in which it is tightest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineView {
    /// The whole line as text.
    pub text: String,
    pub feed: FeedId,
    pub from: Timestamp,
    pub to: Timestamp,
    #[serde(flatten, with = "power::usable")]
    pub usable: Watts,
    #[serde(flatten, with = "power::house")]
    pub house: Watts,
    /// The power of other leases at the feed and below it.
    #[serde(flatten, with = "power::committed")]
    pub committed: Watts,
    /// The power that the sheddable machines still draw asleep.
    #[serde(flatten, with = "power::residual")]
    pub residual: Watts,
    /// The power of machines that cannot be shed for this lease.
    #[serde(flatten, with = "power::unsheddable")]
    pub unsheddable: Watts,
    /// The power counted for sessions that no group claims.
    #[serde(flatten, with = "power::unassigned")]
    pub unassigned: Watts,
    /// The power left for the lease; negative if the feed is short without it.
    #[serde(flatten, with = "power::available")]
    pub available: Watts,
    #[serde(flatten, with = "power::asked")]
    pub asked: Watts,
    /// The power that is missing; zero when the lease fits.
    #[serde(flatten, with = "power::missing")]
    pub missing: Watts,
}

impl From<&Line> for LineView {
    fn from(line: &Line) -> Self {
        Self {
            text: line.to_string(),
            feed: line.feed.clone(),
            from: line.from,
            to: line.to,
            usable: line.usable,
            house: line.house,
            committed: line.committed,
            residual: line.residual,
            unsheddable: line.unsheddable,
            unassigned: line.unassigned,
            available: line.available,
            asked: line.asked,
            missing: line.short(),
        }
    }
}

/// One lease: the answer of `GET` and `DELETE /v1/leases/{id}` and of `POST /v1/leases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    pub api_version: u32,
    pub timezone: String,
    #[serde(flatten)]
    pub lease: LeaseView,
    /// The arithmetic of the lease's admission.
    pub arithmetic: Vec<LineView>,
}

/// `GET /v1/leases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeasesAnswer {
    pub api_version: u32,
    pub timezone: String,
    pub leases: Vec<LeaseView>,
    /// Leases in the state asked for, over all pages.
    pub total: usize,
    /// The `cursor` of the next page, or null at the end.
    pub next: Option<String>,
}

/// The body of `PATCH /v1/leases/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmendRequest {
    /// When the lease is to end: RFC 3339 with an offset.
    pub end: String,
}

/// `PATCH /v1/leases/{id}`: the lease has another end, or would have after a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AmendmentAnswer {
    pub api_version: u32,
    pub timezone: String,
    pub id: LeaseId,
    pub feed: FeedId,
    #[serde(flatten, with = "power::gross")]
    pub gross: Watts,
    pub start: Timestamp,
    pub end: Timestamp,
    /// When it ended before. The same as `end` if nothing changes.
    pub end_before: Timestamp,
    /// The power that the lease lacks with the machines known now, or null.
    pub short: Option<Shortage>,
    /// Other leases that this change makes short, or shorter than they are.
    pub short_leases: Vec<ShortLease>,
    /// The arithmetic of the time that is added; empty if none is.
    pub arithmetic: Vec<LineView>,
}

/// `POST /v1/admit`: the lease fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdmissionAnswer {
    pub api_version: u32,
    pub timezone: String,
    /// Always true: a lease that does not fit is an error.
    pub fits: bool,
    #[serde(flatten, with = "power::gross")]
    pub gross: Watts,
    pub latest_safe_start: Timestamp,
    pub lead: LeadView,
    /// From when on the lease's power would be kept free.
    #[serde(default)]
    pub ready_from: Timestamp,
    /// The lease at the same feed whose power it would get.
    #[serde(default)]
    pub follows: Option<LeaseId>,
    /// The power that the lease would lack with the machines known now, or null. Admission counts
    /// the machines that the policy declares: a lease can fit and still be short.
    pub short: Option<Shortage>,
    /// Committed leases that this lease would make short, or shorter than they are.
    pub short_leases: Vec<ShortLease>,
    pub arithmetic: Vec<LineView>,
}
