//! Makes the API's views from the core's state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use directive::{LeaseId, MachineId};
use jiff::Timestamp;

use super::Core;
use super::evidence::ByLease;
use crate::admit::{Admission, Line};
use crate::commitment::Phase;
use crate::facility::{FeedNumber, Group, times};
use crate::inventory::MachineState;
use crate::lease::Lease;
use crate::plausible::MeterState;
use crate::view::{
    API_VERSION, AdmissionAnswer, BreachView, DoubtedMeter, FeedGuardView, FeedMeterView, FeedView,
    FeedsAnswer, GroupView, HeadAnswer, LeaseAnswer, LeaseView, LedgerView, LineView,
    MachineCounts, MachinesAnswer, NewcomersView, PlanBody, PlanView, StatusView, UnassignedView,
};
use crate::words::Named;

impl Core {
    pub(super) fn lease_view(&self, id: &LeaseId) -> Option<LeaseView> {
        self.lease_view_with(id, &self.machines_now())
    }

    /// The machines of each lease, counted once for any number of views.
    pub(super) fn machines_now(&self) -> ByLease {
        self.machines_by_lease()
    }

    pub(super) fn lease_view_with(&self, id: &LeaseId, by_lease: &ByLease) -> Option<LeaseView> {
        let standing = self.state.leases.get(id)?;
        let lease = &standing.lease;
        let live = self.commitments.get(id);
        let own = by_lease.get(id);
        let evidence = live
            .filter(|live| !live.is_closed())
            .zip(self.at)
            .map(|(live, (wall, now))| (live, self.evidence(lease, own, wall, now)));
        let planned = self.plan.as_ref().and_then(|plan| plan.leases.get(id));
        let mut machines = BTreeMap::new();
        for (machine, chosen) in self.selection.of_lease(id) {
            // A machine whose time off is over counts among the returning ones below.
            if chosen.until.is_some_and(|until| until <= self.schedule) {
                continue;
            }
            let state = self.states.get(machine).copied().unwrap_or(MachineState::Running);
            *machines.entry(state).or_insert(0) += 1;
        }
        let not_back = own.map(|own| own.not_back.clone()).unwrap_or_default();
        if not_back.count > 0 {
            machines.insert(MachineState::Returning, not_back.count);
        }
        let breaches = live.map_or(&standing.breaches, |live| &live.breaches);
        Some(LeaseView {
            id: lease.id.clone(),
            tenant: lease.tenant.clone(),
            it: lease.it,
            pue: lease.pue,
            gross: lease.gross,
            feed: lease.feed.clone(),
            start: lease.start,
            end: lease.end,
            ready_before_secs: lease.ready_before.as_secs(),
            ready_from: lease.reserved_from(),
            follows: follows(lease).or_else(|| self.sums.renews(id).cloned()),
            accept_unverified: lease.accept_unverified,
            meter: lease.meter.clone(),
            committed_at: standing.committed_at,
            cancelled_at: lease.cancelled_at,
            state: live.map_or(standing.phase, |live| live.phase),
            state_reason: evidence.as_ref().map_or_else(
                || standing.why.clone(),
                |(live, evidence)| live.reason(lease, evidence, &self.terms()),
            ),
            in_plan_from: evidence
                .as_ref()
                .filter(|(live, _)| live.phase < Phase::Shedding)
                .and_then(|(_, evidence)| evidence.in_plan_from),
            latest_safe_start: live.filter(|live| live.phase < Phase::Releasing).and_then(|_| {
                planned.map(|plan| plan.latest_safe_start).or(standing.latest_safe_start)
            }),
            unverified: live.map_or(standing.unverified, |live| live.unverified),
            unverified_why: live
                .map_or(&standing.unverified_why, |live| &live.unverified_why)
                .clone(),
            unconfirmed: live.map_or(&standing.unconfirmed, |live| &live.unconfirmed).clone(),
            unconfirmed_at: standing.unconfirmed_at,
            breached: !breaches.is_empty(),
            breaches: breaches.iter().map(BreachView::from).collect(),
            proven_at: live.map_or(standing.proven_at, |live| live.proven_at),
            closed_at: standing.closed_at,
            short: self.shortage_of(id).cloned(),
            not_back,
            machines_by_state: machines,
            lease_plan: planned.map(Into::into),
        })
    }

    pub(super) fn lease_answer(&self, id: &LeaseId) -> Option<LeaseAnswer> {
        let standing = self.state.leases.get(id)?;
        Some(LeaseAnswer {
            api_version: API_VERSION,
            timezone: self.timezone(),
            lease: self.lease_view(id)?,
            arithmetic: lines(&standing.arithmetic),
        })
    }

    pub(super) fn admission_answer(
        &self,
        admission: &Admission,
        wall: Timestamp,
    ) -> AdmissionAnswer {
        let (short, short_leases) = self.shortages_with(&admission.lease, wall);
        AdmissionAnswer {
            api_version: API_VERSION,
            timezone: self.timezone(),
            fits: true,
            gross: admission.lease.gross,
            latest_safe_start: admission.latest_safe_start,
            lead: admission.lead.into(),
            ready_from: admission.lease.reserved_from(),
            follows: follows(&admission.lease).or_else(|| admission.renews.clone()),
            short,
            short_leases,
            arithmetic: lines(&admission.arithmetic),
        }
    }

    pub(super) fn plan_view(&self) -> PlanView {
        PlanView {
            api_version: API_VERSION,
            timezone: self.timezone(),
            number: self.number,
            plan: self
                .plan
                .as_ref()
                .map(|plan| PlanBody::new(plan, self.feed_shortages().to_vec())),
            short_leases: self.short_leases(),
        }
    }

    pub(super) fn machines_answer(
        &self,
        after: Option<&str>,
        limit: usize,
        wall: Timestamp,
        now: Instant,
    ) -> MachinesAnswer {
        let (policy, held) = (&self.policy, &self.selection);
        let is_returning = |machine: &MachineId| self.is_returning(machine);
        let mut machines =
            self.inventory.machines(policy, held, is_returning, (after, limit), wall, now);
        for view in &mut machines {
            view.off = self.off_view(view);
        }
        let full = machines.len() >= limit;
        let next = machines.last().filter(|_| full).map(|view| view.machine.clone());
        MachinesAnswer { api_version: API_VERSION, timezone: self.timezone(), machines, next }
    }

    pub(super) fn head_answer(&self) -> HeadAnswer {
        HeadAnswer { api_version: API_VERSION, head: self.head.published() }
    }

    pub(super) fn timezone(&self) -> String {
        self.policy.facility.timezone_name().to_owned()
    }

    /// The state of the whole site.
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
        let groups = self.group_views();
        let facility = &self.policy.facility;
        StatusView {
            api_version: API_VERSION,
            site: self.policy.facility.site().to_owned(),
            timezone: self.timezone(),
            now: wall,
            policy_digest: self.policy.digest.clone(),
            policy_revision: self.policy.revision,
            policy_refused: self.policy_refused.clone(),
            configuration_not_applied: self.configuration_not_applied.clone(),
            number: self.number,
            horizon: self.plan.as_ref().map(|plan| plan.horizon),
            ledger: LedgerView {
                seq: self.head.seq,
                hash: const_hex::encode(self.head.hash),
                failure: self.outbox.failure().map(ToString::to_string),
            },
            raises_withheld: self.withheld.as_ref().map(ToString::to_string),
            meters_not_ok: self.doubted_meters(wall, now),
            receivers: self.inventory.receivers(&self.policy, now),
            leases_by_state: leases,
            short_leases: self.short_leases(),
            deficits: self.feed_shortages().to_vec(),
            machines_off_by_state: machines,
            machines_off_by_cause: self.machines_off(),
            machine_counts: groups.iter().map(|group| group.machine_counts).sum(),
            groups,
            unassigned: UnassignedView {
                count: self.fleet.population.unassigned,
                waiting: self.inventory.last_fleet().population.waiting,
                examples: self.census.unassigned.clone(),
                feed: facility.feeds()[facility.unassigned_feed()].id.clone(),
                counted: times(facility.unassigned(), self.fleet.population.unassigned),
            },
            newcomers: self.newcomers_view(),
            asleep_not_by_us: self.sleepers.not_by_us().clone(),
            asleep_out_of_reach: self.sleepers.out_of_reach().clone(),
            dead_feeds: self.dead_feeds(),
            drivers_down: self.drivers.down(),
        }
    }

    fn newcomers_view(&self) -> NewcomersView {
        let Named { count, examples } = self.inventory.newcomers().keys().collect();
        NewcomersView { waiting: count, examples }
    }

    fn group_views(&self) -> Vec<GroupView> {
        let view = |(number, group): (usize, &Group)| {
            // Machines are not counted yet under a policy that has just come into force.
            let declared = MachineCounts { declared: group.machines, ..MachineCounts::default() };
            let machine_counts = self.census.groups.get(number).copied().unwrap_or(declared);
            GroupView { group: group.id.clone(), feed: group.feed.clone(), machine_counts }
        };
        self.policy.facility.groups().iter().enumerate().map(view).collect()
    }

    /// The feeds, each with what is committed and what its meter shows. Leases' own meters count as
    /// of the last input.
    #[must_use]
    pub fn feed_views(&self, wall: Timestamp, now: Instant) -> Vec<FeedView> {
        let feeds = self.policy.facility.feeds();
        let room = self.room(wall, now);
        let waiting = self.raises.waiting(&self.policy.facility);
        let permitted = self.raises.permitted(&self.policy, now);
        let view = |number: FeedNumber| {
            let feed = &feeds[number];
            // What an implausible meter shows is shown, and proves nothing.
            let metered =
                feed.meter.as_ref().and_then(|meter| self.inventory.metered(meter, wall, now));
            let headroom = self.headroom(number, wall, now);
            let next = feed.limit.after(wall).next();
            FeedView {
                feed: feed.id.clone(),
                parent: feed.parent.clone(),
                usable: feed.usable(wall),
                usable_changes_at: next.map(|change| change.at),
                usable_next: next.map(|change| feed.usable_of(change.after)),
                committed: self.sums.reserved(number, wall),
                metered: metered.map(|(watts, _)| watts),
                headroom: headroom.map(|headroom| headroom.watts),
                measured_at: metered.map(|(_, taken_at)| taken_at),
                meter_health: self.meter_view(number, wall, now),
                band: self.policy.facility.band(number),
                room: room[number].as_ref().ok().copied().filter(|_| feed.meter.is_some()),
                permitted: permitted[number],
                machines_waiting: waiting[number],
                supply: self.supply_view(number),
                guard: self.guards.feed(number).map(|(agent, guard)| FeedGuardView {
                    agent: agent.clone(),
                    state: guard.state,
                    guardable: guard.guardable,
                    wants: guard.wants,
                    acts: guard.acts,
                }),
            }
        };
        feeds.numbers().map(view).collect()
    }

    /// What is thought of the meter of `feed`; `None` if the feed has none, or while its first sample is
    /// awaited.
    fn meter_view(&self, feed: FeedNumber, wall: Timestamp, now: Instant) -> Option<FeedMeterView> {
        let feeds = self.policy.facility.feeds();
        let meter = feeds[feed].meter.clone()?;
        let taken_at = self.inventory.metered(&meter, wall, now).map(|(_, taken_at)| taken_at);
        let age = taken_at.and_then(|taken| Duration::try_from(wall.duration_since(taken)).ok());
        let figures = self.plausible.figures(feed);
        Some(FeedMeterView {
            state: self.plausible.state(feed),
            since: self.plausible.since(feed)?,
            shown: figures.map(|(shown, _)| shown),
            bound: figures.map(|(_, bound)| bound),
            why: self.doubt(feed),
            age_secs: age.map(|age| age.as_secs_f64()),
            gap_secs: self.plausible.gap(feed).as_secs_f64(),
            meter,
        })
    }

    /// The feeds whose meters are not `ok`.
    fn doubted_meters(&self, wall: Timestamp, now: Instant) -> Vec<DoubtedMeter> {
        let feeds = self.policy.facility.feeds();
        let doubted = feeds.numbers().filter(|feed| self.plausible.state(*feed) != MeterState::Ok);
        let view = |feed: FeedNumber| {
            let meter = self.meter_view(feed, wall, now)?;
            Some(DoubtedMeter { feed: feeds[feed].id.clone(), meter })
        };
        doubted.filter_map(view).collect()
    }

    pub(super) fn feeds_answer(&self, wall: Timestamp, now: Instant) -> FeedsAnswer {
        FeedsAnswer {
            api_version: API_VERSION,
            timezone: self.timezone(),
            feeds: self.feed_views(wall, now),
        }
    }
}

/// The lease whose end `lease` waits for, because the feeds cannot carry both.
fn follows(lease: &Lease) -> Option<LeaseId> {
    lease.follows.as_ref().map(|follows| follows.lease.clone())
}

fn lines(arithmetic: &[Line]) -> Vec<LineView> {
    arithmetic.iter().map(LineView::from).collect()
}
