//! Sets the times of the chosen machines: they are lowered just early enough for the proof and no
//! faster than the ramp, and raised in small steps. A time that an earlier plan set is never moved
//! once it has come.

mod ramps;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use directive::{LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;

use super::LeasePlan;
use super::assign::Assigned;
use super::units::{Period, Unit};
use crate::admit::{Lead, ramp_time, shed_time};
use crate::facility::Population;
use crate::lease::{Lease, earlier, later};
use crate::policy::Policy;
use ramps::{Backward, Forward, Load, Ramps};

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

/// A machine that is to go within this time goes then, although it might go later.
const IMMINENT: Duration = Duration::from_secs(5);
/// What was shed in this time counts for the ramps of what is shed next.
const MINUTE: Duration = Duration::from_mins(1);

pub(super) fn schedule(
    (policy, population): (&Policy, &Population),
    leases: &[&Lease],
    assigned: &mut Assigned,
    now: Timestamp,
    horizon: Timestamp,
) -> Timed {
    let number_of: HashMap<&LeaseId, usize> =
        leases.iter().enumerate().map(|(number, lease)| (&lease.id, number)).collect();
    let mut by_lease: Vec<Vec<Place>> = vec![Vec::new(); leases.len()];
    let mut late: Vec<Place> = Vec::new();
    // Periods that no lease has, and that begin later.
    let mut alone: Vec<Place> = Vec::new();
    for (u, unit) in assigned.units.iter().enumerate() {
        for (p, period) in unit.periods.iter().enumerate() {
            match period.cause.lease() {
                Some(lease) => {
                    if let Some(number) = number_of.get(lease) {
                        by_lease[*number].push((u, p));
                    }
                }
                // One that an earlier plan made for a limit has its time by when that falls now.
                None if period.ahead.is_some() && period.due.is_some() => alone.push((u, p)),
                None if period.at != Timestamp::MAX => {}
                None if period.due.is_some() => alone.push((u, p)),
                None => late.push((u, p)),
            }
        }
    }
    let ramps = Ramps::new(policy);
    lower((policy, population), &ramps, leases, (&by_lease, &alone), assigned, now, &mut late);
    for &(u, p) in &late {
        assigned.units[u].periods[p].at = now;
    }
    keep_ramps(policy, &ramps, assigned, now);
    let plan = |(lease, places): (&&Lease, &Vec<Place>)| {
        (lease.id.clone(), lease_plan((policy, population), lease, places, assigned))
    };
    let plans = leases.iter().zip(&by_lease).map(plan).collect();
    raise(policy, assigned, now);
    for unit in &mut assigned.units {
        let min_up =
            unit.group.map_or(Duration::ZERO, |group| policy.facility.groups()[group].min_up);
        // No machine is shed beyond the horizon, nor gets a time to return there.
        unit.periods.retain(|period| period.at <= horizon);
        for period in &mut unit.periods {
            if period.edge.or(period.until).is_some_and(|ends| ends > horizon) {
                (period.edge, period.until) = (None, None);
            }
        }
        unit.periods.sort_by_key(|period| period.at);
        join(&mut unit.periods, min_up);
    }
    Timed { leases: plans, fallback: fallback(policy, &ramps, assigned, horizon) }
}

/// Sets the times at which machines are shed for their leases, counted backward from the moment when
/// headroom must be proven. Each group has its own lead: a machine that takes ten minutes to be down
/// does not bring forward one that takes seconds.
fn lower(
    (policy, population): (&Policy, &Population),
    ramps: &Ramps<'_>,
    leases: &[&Lease],
    (by_lease, alone): (&[Vec<Place>], &[Place]),
    assigned: &mut Assigned,
    now: Timestamp,
    late: &mut Vec<Place>,
) {
    let group = |unit: &Unit| unit.group.map(|group| &policy.facility.groups()[group]);
    // By the time at which the last of them must be commanded.
    let mut batches: BTreeMap<Timestamp, Vec<Place>> = BTreeMap::new();
    let of_leases = leases.iter().zip(by_lease).flat_map(|(lease, places)| {
        let begins = lease.reserved_from();
        places.iter().map(move |place| (*place, begins))
    });
    let alone = alone.iter().map(|place| (*place, now));
    for ((u, p), begins) in of_leases.chain(alone) {
        let (unit, period) = (&assigned.units[u], &assigned.units[u].periods[p]);
        // Machines that are off for another lease until this one begins need no time to be shed.
        if period.passed_on {
            continue;
        }
        let shed = group(unit).map_or(Duration::ZERO, shed_time);
        let due = period.due.unwrap_or(begins);
        // A lower limit must be kept from its first instant on, and nothing need be proven before.
        let lead = if period.cause.lease().is_none() && is_limit(policy, unit.group, due) {
            policy.dispatch.settle.saturating_add(policy.dispatch.margin)
        } else {
            policy.dispatch.proof()
        };
        let last = earlier(due, shed.saturating_add(lead));
        batches.entry(last).or_default().push((u, p));
    }
    // What is shed later must leave room for what is shed earlier.
    let mut backward = Backward::new(ramps);
    for (last, mut places) in batches.into_iter().rev() {
        places.sort_unstable();
        // All may go at once, and the last one must have its command in time.
        let last = earlier(last, dispatch(policy, population, assigned, &places));
        let load = |place: &Place| machine_load(policy, &assigned.units[place.0]);
        let grain = ramps.grain(places.iter().map(load));
        let loads: Vec<Load> = places.iter().rev().map(load).collect();
        let times = backward.times(&loads, last, grain);
        let mut waits = false;
        for (&(u, p), natural) in places.iter().rev().zip(&times) {
            let (period, natural) = (&mut assigned.units[u].periods[p], *natural);
            period.natural = Some(natural);
            match period.held.as_ref().map(|held| held.at) {
                Some(at) if at <= now => period.at = at,
                // Receivers may be acting on it already.
                Some(at) if at <= later(now, IMMINENT) => period.at = at.min(natural).max(now),
                _ if natural >= now => period.at = natural,
                Some(at) => period.at = at,
                None => late.push((u, p)),
            }
            waits |= period.at > now;
        }
        if waits {
            for (place, natural) in places.iter().rev().zip(times) {
                backward.keep_busy(machine_load(policy, &assigned.units[place.0]), natural);
            }
        }
    }
}

/// Whether a limit above the machines of `group` is lower from `at` on.
fn is_limit(policy: &Policy, group: Option<usize>, at: Timestamp) -> bool {
    let facility = &policy.facility;
    if facility.dated().is_empty() {
        return false;
    }
    let path = group.map_or(&[][..], |group| facility.feeds().path(facility.group_feed(group)));
    path.iter().any(|feed| {
        let mut changes = facility.feeds()[*feed].limit.changes();
        changes.any(|change| change.at == at && change.lowers())
    })
}

/// The machines that are shed when the plan runs out, with their times.
fn fallback(
    policy: &Policy,
    ramps: &Ramps<'_>,
    assigned: &Assigned,
    horizon: Timestamp,
) -> Vec<(MachineId, usize, Timestamp)> {
    let units = || assigned.fallback.iter().map(|u| &assigned.units[*u]);
    let grain = ramps.grain(units().map(|unit| machine_load(policy, unit)));
    let mut forward = Forward::new(ramps, grain, horizon);
    let going = units().filter_map(|unit| {
        let at = forward.time(machine_load(policy, unit), horizon);
        Some((unit.id.clone(), unit.group?, at))
    });
    going.collect()
}

/// How long it takes until the last machine at `places` has its command.
fn dispatch(
    policy: &Policy,
    population: &Population,
    assigned: &Assigned,
    places: &[Place],
) -> Duration {
    let mut machines: BTreeMap<&str, u32> = BTreeMap::new();
    for &(u, p) in places {
        let (unit, period) = (&assigned.units[u], &assigned.units[u].periods[p]);
        let group = unit.group.map(|group| &policy.facility.groups()[group]);
        if let Some(driver) = group.and_then(|group| group.driver.as_deref())
            && period.means == Means::Device
        {
            *machines.entry(driver).or_insert(0) += 1;
        }
    }
    population.dispatch(machines)
}

/// The feed of a machine, and the power that it frees.
fn machine_load(policy: &Policy, unit: &Unit) -> Load {
    let Some(group) = unit.group else { return (None, Watts::ZERO) };
    let facility = &policy.facility;
    (Some(facility.group_feed(group)), facility.groups()[group].freed())
}

/// Has no feed shed faster than its ramp allows, whatever machines are shed for: those whose time has
/// come together with others go later.
fn keep_ramps(policy: &Policy, ramps: &Ramps<'_>, assigned: &mut Assigned, now: Timestamp) {
    let since = earlier(now, MINUTE);
    // Of two with the same time, the one that had it before goes first, so that planning again
    // changes nothing.
    let mut going: Vec<(Timestamp, bool, usize, usize)> = Vec::new();
    for (u, unit) in assigned.units.iter().enumerate() {
        let periods = unit.periods.iter().enumerate();
        let moves = periods.filter(|(_, period)| {
            !period.passed_on && period.at > since && period.at != Timestamp::MAX
        });
        going.extend(moves.map(|(p, period)| {
            let is_new = period.held.as_ref().is_none_or(|held| held.at != period.at);
            (period.at, is_new, u, p)
        }));
    }
    going.sort_unstable();
    let loads = going.iter().filter(|(at, ..)| *at >= now);
    let grain = ramps.grain(loads.map(|&(_, _, u, _)| machine_load(policy, &assigned.units[u])));
    let mut forward = Forward::new(ramps, grain, now);
    let imminent = later(now, IMMINENT);
    let (fixed, open): (Vec<_>, Vec<_>) = going.into_iter().partition(|&(_, _, u, p)| {
        let held = assigned.units[u].periods[p].held.as_ref();
        held.is_some_and(|held| held.at <= imminent)
    });
    for (at, _, u, _) in fixed {
        forward.count(machine_load(policy, &assigned.units[u]), at);
    }
    for (at, _, u, p) in open {
        let load = machine_load(policy, &assigned.units[u]);
        assigned.units[u].periods[p].at = forward.time(load, at);
    }
}

/// What is planned for `lease`, which has the periods at `places`.
fn lease_plan(
    (policy, population): (&Policy, &Population),
    lease: &Lease,
    places: &[Place],
    assigned: &Assigned,
) -> LeasePlan {
    let mut units: Vec<usize> = places.iter().map(|&(u, _)| u).collect();
    units.dedup();
    let group = |u: usize| assigned.units[u].group.map(|group| &policy.facility.groups()[group]);
    let frees = |u: usize| group(u).map_or(Watts::ZERO, |group| group.freed());
    let period = |&(u, p): &Place| &assigned.units[u].periods[p];
    let going = || places.iter().filter(|place| period(place).natural.is_some());
    let slowest = going().filter_map(|&(u, _)| group(u)).map(shed_time).max();
    let lead = Lead::new(
        policy,
        &lease.feed,
        going().map(|&(u, _)| frees(u)).sum(),
        dispatch(policy, population, assigned, &going().copied().collect::<Vec<_>>()),
        slowest.unwrap_or_default(),
    );
    let first = going().filter_map(|place| period(place).natural).min();
    let proof_from = earlier(lease.reserved_from(), policy.dispatch.proof());
    let times = going().map(|place| period(place).at);
    let starved = places.iter().filter(|place| period(place).means == Means::Starve).count();
    LeasePlan {
        machines: u32::try_from(units.len()).unwrap_or(u32::MAX),
        starved: u32::try_from(starved).unwrap_or(u32::MAX),
        shed: units.iter().map(|&u| frees(u)).sum(),
        lead,
        last_step: times.filter(|at| *at != Timestamp::MAX).max().unwrap_or(proof_from),
        latest_safe_start: first.unwrap_or_else(|| earlier(lease.reserved_from(), lead.total())),
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
fn raise(policy: &Policy, assigned: &mut Assigned, now: Timestamp) {
    let ramp = &policy.ramp;
    let per_step = usize::try_from(ramp.up_step_machines).unwrap_or(usize::MAX).max(1);
    let interval = i64::try_from(ramp.up_step_interval.as_millis()).unwrap_or(i64::MAX);
    let most = Watts(ramp.up_per_min.0.saturating_mul(interval) / 60_000);
    let mut queue = turns(policy, assigned);
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
            assigned.units[u].periods[p].until = Some(at);
        }
    }
}

fn turns(policy: &Policy, assigned: &mut Assigned) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut joined: Vec<(Place, Option<Timestamp>)> = Vec::new();
    // In the reverse order of shedding: the best margin first.
    for (u, unit) in assigned.units.iter().enumerate().rev() {
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
        assigned.units[u].periods[p].until = until;
    }
    turns
}

/// Joins times off with less than `min_up` between them: the machine stays off, and each lease
/// keeps its own part of the joined time.
fn join(periods: &mut Vec<Period>, min_up: Duration) {
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
