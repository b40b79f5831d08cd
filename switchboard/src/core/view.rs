//! What the switchboard shows: plain data with kilowatts for people and whole watts for programs.

use std::collections::BTreeMap;
use std::time::Instant;

use directive::{FeedId, Generation, LeaseId, MeterId, Watts};
use jiff::Timestamp;
use serde::Serialize;

use super::Core;
use crate::admit::Line;
use crate::commitment::{Breach, Phase};
use crate::inventory::{MachineState, ReceiverView};
use crate::plan::{Deficit, LeasePlan, Plan};

/// One figure in both units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    pub kw: f64,
    /// Whole watts, for programs.
    pub watts: i64,
}

impl From<Watts> for Figures {
    fn from(watts: Watts) -> Self {
        Self { kw: watts.kw(), watts: watts.0 }
    }
}

/// A lease and where it stands.
#[derive(Debug, Clone, Serialize)]
pub struct LeaseView {
    pub id: LeaseId,
    pub tenant: String,
    /// Critical IT load, kW.
    pub it_kw: f64,
    /// Critical IT load, watts.
    pub it_watts: i64,
    /// What the building adds.
    pub pue: f64,
    /// What the feed carries, kW.
    pub gross_kw: f64,
    /// What the feed carries, watts.
    pub gross_watts: i64,
    pub feed: FeedId,
    pub start: Timestamp,
    pub end: Timestamp,
    /// How long before the start it must be proven.
    pub ready_before_secs: u64,
    /// Whether starving machines is enough.
    pub accept_unverified: bool,
    /// The tenant's own meter.
    pub meter: Option<MeterId>,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
    /// How far it has come.
    pub state: Phase,
    /// Whether it rests on something that proves nothing.
    pub unverified: bool,
    /// Whether the promise was ever not kept.
    pub breached: bool,
    /// How it was not kept.
    pub breaches: Vec<Breach>,
    /// When it was first proven.
    pub proven_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// Its machines by state.
    pub machines: BTreeMap<MachineState, u32>,
    /// What is planned for it.
    pub plan: Option<LeasePlan>,
    #[serde(skip)]
    pub arithmetic: Vec<Line>,
}

/// The plan and its number.
#[derive(Debug, Clone, Serialize)]
pub struct PlanView {
    pub number: Generation,
    /// The plan, once there is one.
    pub plan: Option<Plan>,
}

#[derive(Debug, Clone, Serialize)]
pub struct LedgerView {
    pub seq: u64,
    pub hash: String,
    /// Why it does not take entries, if so.
    pub failure: Option<String>,
}

/// How it all stands.
#[derive(Debug, Clone, Serialize)]
pub struct StatusView {
    pub site: String,
    /// The time it is.
    pub now: Timestamp,
    /// SHA-256 of the policy in force.
    pub policy_digest: String,
    pub policy_revision: Option<u64>,
    pub number: Generation,
    /// Until when it reaches.
    pub horizon: Option<Timestamp>,
    pub ledger: LedgerView,
    /// Why power may not be raised just now, if it may not.
    pub raises_withheld: Option<&'static str>,
    pub receivers: Vec<ReceiverView>,
    pub leases: BTreeMap<Phase, u32>,
    /// Machines that are off, by state.
    pub machines: BTreeMap<MachineState, u32>,
    /// Sessions that nobody declared.
    pub unassigned: u32,
    /// Feeds that stay short.
    pub deficits: Vec<Deficit>,
}

/// A feed, with what is committed and measured now.
#[derive(Debug, Clone, Serialize)]
pub struct FeedView {
    pub feed: FeedId,
    pub parent: Option<FeedId>,
    /// What may be planned.
    pub usable: Figures,
    /// What leases reserve here and below now.
    pub committed: Figures,
    /// What its meter shows.
    pub metered: Option<Figures>,
    /// What its meter proves to be free of everything but leases.
    pub headroom: Option<Figures>,
    /// When that was measured.
    pub measured_at: Option<Timestamp>,
}

impl Core {
    pub(super) fn lease_view(&self, id: &LeaseId) -> Option<LeaseView> {
        let standing = self.state.leases.get(id)?;
        let lease = &standing.lease;
        let live = self.commitments.get(id);
        let mut machines = BTreeMap::new();
        for (machine, _) in self.selection.of_lease(id) {
            let state = self.states.get(machine).copied().unwrap_or(MachineState::Running);
            *machines.entry(state).or_insert(0) += 1;
        }
        let breaches = live.map_or(&standing.breaches, |live| &live.breaches);
        Some(LeaseView {
            id: lease.id.clone(),
            tenant: lease.tenant.clone(),
            it_kw: lease.it.kw(),
            it_watts: lease.it.0,
            pue: lease.pue,
            gross_kw: lease.gross.kw(),
            gross_watts: lease.gross.0,
            feed: lease.feed.clone(),
            start: lease.start,
            end: lease.end,
            ready_before_secs: lease.ready_before.as_secs(),
            accept_unverified: lease.accept_unverified,
            meter: lease.meter.clone(),
            committed_at: standing.committed_at,
            cancelled_at: lease.cancelled_at,
            state: live.map_or(standing.phase, |live| live.phase),
            unverified: live.map_or(standing.unverified, |live| live.unverified),
            breached: !breaches.is_empty(),
            breaches: breaches.clone(),
            proven_at: live.map_or(standing.proven_at, |live| live.proven_at),
            closed_at: standing.closed_at,
            machines,
            plan: self.plan.as_ref().and_then(|plan| plan.leases.get(id)).cloned(),
            arithmetic: standing.arithmetic.clone(),
        })
    }

    pub(super) fn plan_view(&self) -> PlanView {
        PlanView { number: self.number, plan: self.plan.clone() }
    }

    /// How it all stands.
    #[must_use]
    pub fn status_view(&self, wall: Timestamp, now: Instant) -> StatusView {
        let mut leases: BTreeMap<Phase, u32> =
            Phase::ALL.into_iter().map(|phase| (phase, 0)).collect();
        for (id, standing) in &self.state.leases {
            let phase = self.commitments.get(id).map_or(standing.phase, |live| live.phase);
            *leases.entry(phase).or_insert(0) += 1;
        }
        let mut machines = BTreeMap::new();
        for state in self.states.values() {
            *machines.entry(*state).or_insert(0) += 1;
        }
        StatusView {
            site: self.policy.site.clone(),
            now: wall,
            policy_digest: self.policy.digest.clone(),
            policy_revision: self.policy.revision,
            number: self.number,
            horizon: self.plan.as_ref().map(|plan| plan.horizon),
            ledger: LedgerView {
                seq: self.head.seq,
                hash: const_hex::encode(self.head.hash),
                failure: self.outbox.failure().map(ToString::to_string),
            },
            raises_withheld: self.withheld,
            receivers: self.inventory.receivers(&self.policy, now),
            leases,
            machines,
            unassigned: self.fleet.population.unassigned,
            deficits: self.plan.as_ref().map_or_else(Vec::new, |plan| plan.deficits.clone()),
        }
    }

    /// The feeds, with what is committed and measured.
    #[must_use]
    pub fn feed_views(&self, wall: Timestamp, now: Instant) -> Vec<FeedView> {
        let view = |feed: &crate::facility::Feed| {
            let headroom = self.inventory.headroom(&self.policy, &self.leases, &feed.id, wall, now);
            FeedView {
                feed: feed.id.clone(),
                parent: feed.parent.clone(),
                usable: feed.usable().into(),
                committed: self.reserved_at(&feed.id, wall, None).into(),
                metered: headroom.map(|headroom| headroom.metered.into()),
                headroom: headroom.map(|headroom| headroom.watts.into()),
                measured_at: headroom.map(|headroom| headroom.taken_at),
            }
        };
        self.policy.feeds.iter().map(view).collect()
    }
}
