//! Sets the times of the chosen machines: they are lowered just early enough for the proof and no
//! faster than the ramp, and raised in small steps. A time that an earlier plan set is never moved
//! once it has come.

use std::collections::BTreeMap;
use std::time::Duration;

use directive::{LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::LeasePlan;
use super::sweep::Swept;
use crate::admit::{Lead, ramp_time, shed_time};
use crate::lease::{Lease, earlier, later};
use crate::policy::Policy;

/// The times that the schedule adds to the selection.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) leases: BTreeMap<LeaseId, LeasePlan>,
    /// The machines that are shed when the plan runs out: each with the number of its group and its
    /// time.
    pub(super) fallback: Vec<(MachineId, usize, Timestamp)>,
}

/// A chosen period: the number of the unit and that of the period.
type Place = (usize, usize);

/// About the maximum number of lowering steps, so that a timeline stays short.
const STEPS: u64 = 64;

pub(super) fn schedule(
    policy: &Policy,
    leases: &[&Lease],
    swept: &mut Swept,
    now: Timestamp,
    horizon: Timestamp,
) -> Timed {
    let mut by_lease: BTreeMap<LeaseId, Vec<Place>> = BTreeMap::new();
    let mut late: Vec<Place> = Vec::new();
    for (u, unit) in swept.units.iter().enumerate() {
        for (p, period) in unit.periods.iter().enumerate() {
            match &period.lease {
                Some(lease) => by_lease.entry(lease.clone()).or_default().push((u, p)),
                None if period.at == Timestamp::MAX => late.push((u, p)),
                None => {}
            }
        }
    }
    let plans = lower(policy, leases, &by_lease, swept, now, &mut late);
    lower_late(policy, swept, now, &late);
    raise(policy, swept, now);
    for unit in &mut swept.units {
        let min_up =
            unit.group.map_or(Duration::ZERO, |group| policy.facility.groups()[group].min_up);
        // No machine is shed beyond the horizon, nor gets a time to return there.
        unit.periods.retain(|period| period.at <= horizon);
        unit.periods.sort_by_key(|period| period.at);
        join(&mut unit.periods, min_up);
    }
    let mut fallback = Vec::new();
    let mut watts = Watts::ZERO;
    for &u in &swept.fallback {
        let unit = &swept.units[u];
        if let Some(group) = unit.group {
            fallback.push((
                unit.id.clone(),
                group,
                later(horizon, ramp_time(watts, policy.ramp.down_per_min)),
            ));
            watts += policy.facility.groups()[group].freed();
        }
    }
    Timed { leases: plans, fallback }
}

/// Sets the times at which machines are shed for their leases, counted backward from the moment
/// when headroom must be proven.
fn lower(
    policy: &Policy,
    leases: &[&Lease],
    by_lease: &BTreeMap<LeaseId, Vec<Place>>,
    swept: &mut Swept,
    now: Timestamp,
    late: &mut Vec<Place>,
) -> BTreeMap<LeaseId, LeasePlan> {
    let mut plans = BTreeMap::new();
    let mut order: Vec<&Lease> = leases.to_vec();
    order.sort_by(|a, b| (b.reserved_from(), &b.id).cmp(&(a.reserved_from(), &a.id)));
    // The ramp is that of the whole site, so what is shed for a later lease must leave room for it.
    let mut busy_from = Timestamp::MAX;
    for lease in order {
        let places = by_lease.get(&lease.id).map_or(&[][..], Vec::as_slice);
        let group = |u: usize| swept.units[u].group.map(|group| &policy.facility.groups()[group]);
        let frees = |u: usize| group(u).map_or(Watts::ZERO, |group| group.freed());
        let shed: Watts = places.iter().map(|&(u, _)| frees(u)).sum();
        // Machines that are off for another lease until this one begins need no time to be shed.
        let going: Vec<Place> =
            places.iter().copied().filter(|&(u, p)| !swept.units[u].periods[p].passed_on).collect();
        let slowest =
            going.iter().filter_map(|&(u, _)| group(u)).map(shed_time).max().unwrap_or_default();
        let lead = Lead::new(policy, going.iter().map(|&(u, _)| frees(u)).sum(), slowest);
        let rest = lead.total().saturating_sub(lead.ramp);
        let done_by = earlier(lease.reserved_from(), rest).min(busy_from);
        let grain = (u64::try_from(lead.ramp.as_millis()).unwrap_or(u64::MAX) / STEPS).max(1000);
        let mut after = Watts::ZERO;
        let mut first = done_by;
        let mut last_step = done_by;
        let mut times = Vec::with_capacity(going.len());
        for &(u, p) in going.iter().rev() {
            after += frees(u);
            let before = u64::try_from(ramp_time(after, policy.ramp.down_per_min).as_millis())
                .unwrap_or(u64::MAX);
            let natural = earlier(
                done_by,
                Duration::from_millis(before.div_ceil(grain).saturating_mul(grain)),
            );
            first = natural;
            times.push(((u, p), natural));
        }
        let mut waits = false;
        for ((u, p), natural) in times.into_iter().rev() {
            let period = &mut swept.units[u].periods[p];
            match period.held.as_ref().map(|held| held.at) {
                Some(at) if at <= now => period.at = at,
                Some(at) if natural >= now => period.at = at.min(natural),
                Some(at) => period.at = at,
                None if natural >= now => period.at = natural,
                None => late.push((u, p)),
            }
            waits |= period.at > now;
            if period.at != Timestamp::MAX {
                last_step = last_step.max(period.at);
            }
        }
        if waits {
            busy_from = first;
        }
        let starved = places
            .iter()
            .filter(|&&(u, p)| swept.units[u].periods[p].means == Means::Starve)
            .count();
        plans.insert(
            lease.id.clone(),
            LeasePlan {
                machines: u32::try_from(places.len()).unwrap_or(u32::MAX),
                starved: u32::try_from(starved).unwrap_or(u32::MAX),
                shed,
                lead,
                last_step,
                latest_safe_start: first.min(earlier(lease.reserved_from(), lead.total())),
            },
        );
    }
    plans
}

/// Machines that should already be off are shed from now on, as fast as the ramp allows.
fn lower_late(policy: &Policy, swept: &mut Swept, now: Timestamp, late: &[Place]) {
    let mut watts = Watts::ZERO;
    for &(u, p) in late {
        swept.units[u].periods[p].at = later(now, ramp_time(watts, policy.ramp.down_per_min));
        watts += swept.units[u]
            .group
            .map_or(Watts::ZERO, |group| policy.facility.groups()[group].freed());
    }
}

/// The return of one machine.
struct Turn {
    /// The earliest time of its return.
    ready: Timestamp,
    place: Place,
    watts: Watts,
    /// The time of return that an earlier plan gave the machine, if one did.
    given: Option<Timestamp>,
}

/// Sets the times at which released machines return: few at a time, the best margin first. A time
/// given by an earlier plan is kept as long as the time off ends for the same reason.
fn raise(policy: &Policy, swept: &mut Swept, now: Timestamp) {
    let ramp = &policy.ramp;
    let per_step = usize::try_from(ramp.up_step_machines).unwrap_or(usize::MAX).max(1);
    let interval = i64::try_from(ramp.up_step_interval.as_millis()).unwrap_or(i64::MAX);
    let most = Watts(ramp.up_per_min.0.saturating_mul(interval) / 60_000);
    let mut queue = turns(policy, swept);
    queue.sort_by_key(|turn| (turn.given.unwrap_or(turn.ready), turn.given.is_none()));
    let mut queue = queue.into_iter().peekable();
    let mut cursor = Timestamp::MIN;
    while let Some(first) = queue.next() {
        let at = first.given.unwrap_or_else(|| first.ready.max(cursor).max(now));
        let mut step = vec![first.place];
        let mut raised = first.watts;
        loop {
            let joins = |turn: &Turn| match (first.given, turn.given) {
                (given @ Some(_), next) => given == next,
                (None, Some(_)) => false,
                (None, None) => {
                    step.len() < per_step && turn.ready <= at && raised + turn.watts <= most
                }
            };
            let Some(next) = queue.next_if(joins) else { break };
            raised += next.watts;
            step.push(next.place);
        }
        cursor =
            cursor.max(later(at, ramp.up_step_interval.max(ramp_time(raised, ramp.up_per_min))));
        for (u, p) in step {
            swept.units[u].periods[p].until = Some(at);
        }
    }
}

fn turns(policy: &Policy, swept: &mut Swept) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut joined: Vec<(Place, Option<Timestamp>)> = Vec::new();
    // In the reverse order of shedding: the best margin first.
    for (u, unit) in swept.units.iter().enumerate().rev() {
        let group = unit.group.map(|group| &policy.facility.groups()[group]);
        for (p, period) in unit.periods.iter().enumerate() {
            let Some(edge) = period.edge.filter(|_| period.until.is_none()) else { continue };
            let rested = later(period.at, group.map_or(Duration::ZERO, |group| group.min_down));
            let held = period.held.as_ref().filter(|held| held.edge == Some(edge));
            let given = held.and_then(|held| held.until).filter(|until| *until >= rested);
            // A time off that ends only because the next one begins got no time to return, and
            // needs none as long as the next one begins then.
            let begins = |until: &Timestamp| unit.periods.iter().any(|other| other.at == *until);
            let began = |until: &Timestamp| {
                let mut others = unit.periods.iter().filter_map(|other| other.held.as_ref());
                others.any(|other| other.at == *until)
            };
            if given.as_ref().is_some_and(begins) {
                joined.push(((u, p), given));
                continue;
            }
            let given = given.filter(|until| !began(until));
            let watts = group.map_or(Watts::ZERO, |group| group.freed());
            turns.push(Turn { ready: edge.max(rested), place: (u, p), watts, given });
        }
    }
    for ((u, p), until) in joined {
        swept.units[u].periods[p].until = until;
    }
    turns
}

/// Joins times off with less than `min_up` between them: the machine stays off, and each lease
/// keeps its own part of the joined time.
fn join(periods: &mut Vec<super::sweep::Period>, min_up: Duration) {
    let mut i = 0;
    while i + 1 < periods.len() {
        let next = periods[i + 1].at;
        let Some(until) = periods[i].until else {
            // This time off has no end, so it contains all later ones.
            periods.truncate(i + 1);
            return;
        };
        if next <= later(until, min_up) {
            periods[i].until = Some(next.max(periods[i].at));
        }
        i += 1;
    }
}
