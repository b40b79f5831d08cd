//! The plan: which machines are off when, so that every feed carries what is committed, and why.
//! [`plan`] takes policy, leases, fleet, the choices of earlier plans and the time, and always
//! returns the same [`Plan`] for the same input.
//!
//! The plan is made in four parts. `counts` goes through the starts and ends of the `obligations` and has `shape`
//! say how many machines of each cohort are off in each interval; `assign` names these machines;
//! `schedule` gives them their times; `steps` makes the timeline's steps with their reasons.
//! [`crate::commitment`] checks whether power was really freed.

mod assign;
mod counts;
mod input;
mod merit;
mod needs;
mod obligations;
mod rooms;
mod schedule;
mod shape;
mod steps;
mod units;

use std::collections::BTreeMap;
use std::time::Duration;

use directive::{
    FeedId, Generation, GroupId, LeaseId, LedgerHead, MachineId, Means, Step, Timeline, Watts,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::admit::{Lead, ramp_time, shed_time};
use crate::cause::Cause;
use crate::facility::{Facility, FeedNumber, PerFeed, Population};
use crate::lease::{Lease, earlier, later};
use crate::policy::Policy;
use crate::reservation::reservations;
use input::Input;
pub(crate) use merit::order;
pub(crate) use needs::wanted;
pub use rooms::{Room, Rooms};
use units::Units;

/// The machines that can be chosen, by group, and how many must be counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Machines seen, for each group in the policy's order, sorted by name.
    pub groups: Vec<Vec<Known>>,
    pub population: Population,
}

impl Fleet {
    /// The group and the place in it where `machine` is listed. The group `named` is looked at first.
    pub(crate) fn find(
        &self,
        facility: &Facility,
        machine: &MachineId,
        named: Option<usize>,
    ) -> Option<(usize, usize)> {
        let listed = |number: usize| {
            let machines = self.groups.get(number)?;
            let place = machines.binary_search_by(|known| known.id.cmp(machine)).ok()?;
            Some((number, place))
        };
        named.and_then(listed).or_else(|| facility.claimed_by(machine).and_then(listed))
    }
}

/// A machine that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub id: MachineId,
    /// Whether a driver of an agent controls the machine.
    pub reached: bool,
    /// Whether the machine did not follow its command, or is absent. It then counts as freeing
    /// nothing, and a different machine is shed in its place.
    pub failing: bool,
    /// Whether the machine is chosen for later, and no report shows it any more.
    pub absent: bool,
}

/// One period for which a machine is off.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Recorded")]
pub struct Chosen {
    pub group: GroupId,
    /// What the machine is off for.
    pub cause: Cause,
    /// When the machine is turned off.
    pub at: Timestamp,
    /// When the machine may return, if a return is planned.
    pub until: Option<Timestamp>,
    /// The end of a lease that released the machine.
    pub edge: Option<Timestamp>,
    /// How the machine is turned off.
    pub means: Means,
    /// Whether the period follows one for another lease, or for a feed that was short without any,
    /// without a break.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed_on: bool,
}

/// A period as ledgers have it. Those of schema 4 and before name only the lease.
#[derive(Deserialize)]
struct Recorded {
    group: GroupId,
    cause: Option<Cause>,
    lease: Option<LeaseId>,
    at: Timestamp,
    until: Option<Timestamp>,
    edge: Option<Timestamp>,
    means: Means,
    #[serde(default)]
    passed_on: bool,
}

impl From<Recorded> for Chosen {
    fn from(recorded: Recorded) -> Self {
        let Recorded { group, cause, lease, at, until, edge, means, passed_on } = recorded;
        let cause = cause.or(lease.map(Cause::Lease)).unwrap_or(Cause::Unrecorded);
        Self { group, cause, at, until, edge, means, passed_on }
    }
}

impl Chosen {
    /// The lease that the machine is off for, if it is one.
    #[must_use]
    pub fn lease(&self) -> Option<&LeaseId> {
        self.cause.lease()
    }

    /// Whether the machine is off at `at`.
    #[must_use]
    pub fn covers(&self, at: Timestamp) -> bool {
        self.at <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Of the periods of one machine, the one in which it is off at `at`, if there is one.
pub(crate) fn covering(periods: &[Chosen], at: Timestamp) -> Option<&Chosen> {
    periods.iter().rev().find(|chosen| chosen.covers(at))
}

/// A machine whose time off is over and that has not been seen to mine since.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Returning {
    /// The lease that the machine was off for.
    pub lease: LeaseId,
    /// When the machine was released.
    pub since: Timestamp,
    /// How the machine was turned off.
    pub means: Means,
}

/// The machines that are chosen. The selection is kept from plan to plan and in the ledger, so that
/// machines are not exchanged without need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The periods for which each machine is off, in order.
    pub off: BTreeMap<MachineId, Vec<Chosen>>,
    /// When machines were last released. During their shortest time awake, others are shed before
    /// them.
    pub woken: BTreeMap<MachineId, Timestamp>,
    /// Machines that leases gave back and that have not been seen to mine since. A lease is not
    /// closed before its machines mine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub returning: BTreeMap<MachineId, Returning>,
}

impl Selection {
    /// The period for which `machine` is off at `at`, if it is.
    #[must_use]
    pub fn current(&self, machine: &MachineId, at: Timestamp) -> Option<&Chosen> {
        covering(self.off.get(machine)?, at)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&MachineId, &Chosen)> {
        self.off
            .iter()
            .flat_map(|(machine, periods)| periods.iter().map(move |chosen| (machine, chosen)))
    }

    /// The machines that are chosen for `lease`, with their periods.
    pub fn of_lease<'a>(
        &'a self,
        lease: &'a LeaseId,
    ) -> impl Iterator<Item = (&'a MachineId, &'a Chosen)> {
        self.iter().filter(move |(_, chosen)| chosen.lease() == Some(lease))
    }

    /// The machines that `lease` gave back and that have not been seen to mine since.
    pub fn returning_from<'a>(&'a self, lease: &'a LeaseId) -> impl Iterator<Item = &'a MachineId> {
        self.returning
            .iter()
            .filter(move |(_, returning)| returning.lease == *lease)
            .map(|(machine, _)| machine)
    }

    /// Removes the periods that are over at `now`. Their machines are remembered in `woken` for their
    /// shortest time awake, and in `returning` until they mine.
    pub fn age(&mut self, policy: &Policy, now: Timestamp) {
        let (woken, returning) = (&mut self.woken, &mut self.returning);
        self.off.retain(|machine, periods| {
            let over = periods.iter().filter_map(|chosen| {
                let until = chosen.until.filter(|until| *until <= now)?;
                Some((until, chosen.lease().cloned(), chosen.means))
            });
            let last = over.max_by_key(|(until, ..)| *until);
            // If one period follows another without a break, the machine has been off since the
            // first began.
            for i in 1..periods.len() {
                if periods[i].at <= now
                    && periods[i - 1].until.is_some_and(|until| periods[i].at <= until)
                {
                    periods[i].at = periods[i - 1].at;
                }
            }
            periods.retain(|chosen| chosen.until.is_none_or(|until| now < until));
            if periods.iter().any(|chosen| chosen.at <= now) {
                // The machine is off again, so no lease waits for it to mine.
                returning.remove(machine);
            } else if let Some((since, lease, means)) = last {
                woken.insert(machine.clone(), since);
                if let Some(lease) = lease {
                    returning.insert(machine.clone(), Returning { lease, since, means });
                }
            }
            !periods.is_empty()
        });
        let longest =
            policy.facility.groups().iter().map(|group| group.min_up).max().unwrap_or_default();
        woken.retain(|_, since| later(*since, longest) > now);
    }
}

/// A feed whose load the plan cannot bring below its limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficit {
    pub feed: FeedId,
    pub from: Timestamp,
    pub short: Watts,
}

/// What the plan does for one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasePlan {
    /// The number of machines shed for the lease.
    pub machines: u32,
    /// How many of the lease's machines can only be starved.
    pub starved: u32,
    /// The power that shedding the lease's machines frees.
    pub shed: Watts,
    /// The time needed to free the lease's power, in parts.
    pub lead: Lead,
    /// The latest time at which the first of the lease's machines must be shed.
    pub latest_safe_start: Timestamp,
    /// When the last of the lease's machines is shed; if none must be shed, when the proof begins.
    pub last_step: Timestamp,
}

/// Everything planned until the horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// When the plan was made.
    pub made_at: Timestamp,
    /// The end of the plan.
    pub horizon: Timestamp,
    /// The digest of the policy that the plan was made under.
    pub policy: String,
    pub selection: Selection,
    /// The steps, in order of time.
    pub steps: Vec<Step>,
    /// What the machines of each step go for, or were off for; `None` of the steps that are carried
    /// out only if no newer plan comes.
    pub causes: Vec<Option<Cause>>,
    /// The room by feed and interval.
    pub rooms: Rooms,
    /// What is planned for each lease that needs machines before the horizon or soon after it.
    pub leases: BTreeMap<LeaseId, LeasePlan>,
    /// Feeds that stay short under the plan.
    pub deficits: Vec<Deficit>,
    /// The machines that are shed when the plan runs out, with the time for each.
    pub fallback: BTreeMap<MachineId, Timestamp>,
}

/// Makes the plan at `now`. `leases` are the open ones; `held` is the selection of earlier plans.
#[must_use]
pub fn plan(
    policy: &Policy,
    leases: &[Lease],
    fleet: &Fleet,
    held: &Selection,
    now: Timestamp,
) -> Plan {
    let mut held = held.clone();
    held.age(policy, now);
    let horizon = horizon(policy, now);
    let facility = &policy.facility;
    let fixed = facility.fixed_load(&fleet.population);
    let full = facility.machines_load(&fleet.population, |group| group.watts);
    let most_dispatch = most_dispatch(policy, &fleet.population);
    let lead = longest_lead(policy, most_dispatch, &full);
    let reach = later(horizon, lead);
    let mut units = Units::new(policy, fleet, &held, now);
    let reservations = reservations(&leases.iter().collect::<Vec<_>>());
    let off = assign::off_now(&mut units, policy, (leases, &reservations), lead, now);
    let (cohorts, pauses) = (units.cohorts.clone(), units.pauses.clone());
    let input = Input {
        policy,
        cohorts: &cohorts,
        pauses: &pauses,
        off: &off,
        leases,
        reservations: &reservations,
        fixed: &fixed,
        starving: &fleet.population.starving,
        now,
        horizon,
        reach,
        most_dispatch,
    };
    let counts = counts::counts(&input);
    let mut assigned = assign::assign(&input, counts, units, &full);
    let planned: Vec<&Lease> = leases
        .iter()
        .filter(|lease| now < lease.ends() && lease.reserved_from() <= reach)
        .collect();
    let timed =
        schedule::schedule((policy, &fleet.population), &planned, &mut assigned, now, horizon);
    let (steps, causes) = steps::steps(policy, leases, &assigned, &timed.fallback, (horizon, lead));
    Plan {
        made_at: now,
        horizon,
        policy: policy.digest.clone(),
        selection: Selection { off: assign::selected(assigned.units), ..held },
        steps,
        causes,
        rooms: assigned.rooms,
        leases: timed.leases,
        deficits: assigned.deficits,
        fallback: timed.fallback.into_iter().map(|(machine, _, at)| (machine, at)).collect(),
    }
}

/// The longest time from the first step for a lease or a lower limit until it begins. So far beyond the
/// horizon one may begin and still be planned, because some of its steps may come before the horizon.
/// `full` is what the machines below each feed draw.
fn longest_lead(policy: &Policy, most_dispatch: Duration, full: &PerFeed<Watts>) -> Duration {
    let slowest = policy.facility.groups().iter().map(shed_time).max().unwrap_or_default();
    let ramp = |feed| policy.down_per_min(feed).map(|per_min| ramp_time(full[feed], per_min));
    let ramp = policy.facility.feeds().numbers().filter_map(ramp).max().unwrap_or_default();
    ramp.saturating_add(most_dispatch + slowest + policy.dispatch.proof())
}

/// The longest time from the decision to put machines below `feed` to sleep until the last one is down.
pub(crate) fn longest_shed(policy: &Policy, population: &Population, feed: FeedNumber) -> Duration {
    let facility = &policy.facility;
    let groups = facility.groups().iter().enumerate();
    let below =
        groups.filter(|(number, _)| facility.feeds().is_below(facility.group_feed(*number), feed));
    let slowest = below.map(|(_, group)| shed_time(group)).max().unwrap_or_default();
    most_dispatch(policy, population).saturating_add(slowest)
}

/// The longest time until the last machine of the site has its command.
fn most_dispatch(policy: &Policy, population: &Population) -> Duration {
    let mut machines: BTreeMap<&str, u32> = BTreeMap::new();
    for group in policy.facility.groups() {
        if let Some(driver) = &group.driver {
            *machines.entry(driver).or_insert(0) += population.machines(group);
        }
    }
    population.dispatch(machines)
}

/// The horizon of a plan made at `now`. It moves in steps of a sixteenth of the plan's length, so
/// that the passing of time alone makes few new plans.
#[must_use]
pub fn horizon(policy: &Policy, now: Timestamp) -> Timestamp {
    let (reach, grain) = steps_of_horizon(policy);
    let from = now.as_second().div_euclid(grain).saturating_mul(grain);
    let to = from.saturating_add(reach).saturating_add(grain);
    Timestamp::from_second(to).unwrap_or(Timestamp::MAX)
}

/// The earliest time at which a plan is made whose horizon includes `at`.
#[must_use]
pub fn reaches(policy: &Policy, at: Timestamp) -> Timestamp {
    let (reach, grain) = steps_of_horizon(policy);
    // Horizons are whole seconds.
    let at = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
    let from = at.saturating_sub(reach).saturating_sub(grain);
    let step = from.div_euclid(grain) + i64::from(from.rem_euclid(grain) > 0);
    Timestamp::from_second(step.saturating_mul(grain)).unwrap_or(Timestamp::MIN)
}

/// The minimum length of a plan, and the step in which its horizon moves, both in seconds.
fn steps_of_horizon(policy: &Policy) -> (i64, i64) {
    let reach = i64::try_from(policy.failsafe.plan_horizon.as_secs()).unwrap_or(i64::MAX).max(60);
    (reach, (reach / 16).max(1))
}

/// The differences between two plans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The machines whose periods off change.
    pub machines: Vec<MachineId>,
    /// Whether the horizon, or what happens there, changes.
    pub horizon: bool,
}

impl Changes {
    /// Whether nothing changes for any receiver.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty() && !self.horizon
    }
}

/// Compares what two plans make happen from `next.made_at` on; times before that are left out.
#[must_use]
pub fn diff(previous: Option<&Plan>, next: &Plan) -> Changes {
    let Some(previous) = previous else {
        return Changes { machines: next.selection.off.keys().cloned().collect(), horizon: true };
    };
    let now = next.made_at;
    let spans = |periods: Option<&Vec<Chosen>>| -> Vec<(Timestamp, Option<Timestamp>, Means, Option<LeaseId>)> {
        let live = periods.into_iter().flatten().filter(|chosen| chosen.until.is_none_or(|until| now < until));
        live.map(|chosen| (chosen.at.max(now), chosen.until, chosen.means, chosen.lease().cloned())).collect()
    };
    let (old, new) = (&previous.selection.off, &next.selection.off);
    let mut machines: Vec<MachineId> = Vec::new();
    // Both are in the order of the names, so that no machine has to be looked up.
    let mut before = old.iter().peekable();
    for (machine, periods) in new {
        while before.next_if(|(other, _)| *other < machine).is_some() {}
        let was = before.next_if(|(other, _)| *other == machine).map(|(_, periods)| periods);
        if was != Some(periods) && spans(was) != spans(Some(periods)) {
            machines.push(machine.clone());
        }
    }
    let gone = old.iter().filter(|(machine, periods)| {
        !new.contains_key(*machine) && !spans(Some(*periods)).is_empty()
    });
    machines.extend(gone.map(|(machine, _)| machine.clone()));
    Changes {
        machines,
        horizon: previous.horizon != next.horizon || previous.fallback != next.fallback,
    }
}

impl Plan {
    /// The timeline that receivers get.
    #[must_use]
    pub fn timeline(&self, number: Generation, ledger_head: Option<LedgerHead>) -> Timeline {
        Timeline {
            number,
            issued_at: self.made_at,
            horizon: self.horizon,
            ledger_head,
            steps: self.steps.clone(),
            holds_taken: BTreeMap::new(),
        }
    }

    /// SHA-256 over the plan's steps and horizon, in hex.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for step in &self.steps {
            let line = serde_json::to_vec(step).expect("plain data becomes JSON");
            hash.update((line.len() as u64).to_be_bytes());
            hash.update(line);
        }
        hash.update(self.horizon.to_string());
        const_hex::encode(hash.finalize())
    }

    /// If the plan does not contain all steps of `lease`, the time at which a plan will.
    #[must_use]
    pub fn reaches_from(&self, policy: &Policy, lease: &Lease) -> Option<Timestamp> {
        let last = self.leases.get(&lease.id).map_or_else(
            // The number of machines that the lease needs is not known yet. The last of them is
            // shed no later than this.
            || earlier(lease.reserved_from(), policy.dispatch.proof()),
            |plan| plan.last_step,
        );
        (last > self.horizon).then(|| reaches(policy, last))
    }

    /// When the plan next sheds or releases a machine, after `now`.
    #[must_use]
    pub fn next_edge(&self, now: Timestamp) -> Option<Timestamp> {
        self.steps.iter().map(|step| step.at).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests;
