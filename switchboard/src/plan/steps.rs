//! Makes the timeline's steps from the chosen machines, each with its reason in words and figures.

use std::collections::BTreeMap;

use directive::{Action, LeaseId, MachineId, Means, Step};
use jiff::Timestamp;

use super::assign::Assigned;
use super::merit::margin;
use crate::facility::{Group, times};
use crate::lease::Lease;
use crate::policy::Policy;
use crate::words::{kilowatts, when};

/// Machines with the same key share a step. Raises sort before lowerings of the same instant, so that
/// a machine that has both is lowered.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: Timestamp,
    lowers: bool,
    group: usize,
    starve: bool,
    /// Whether the machine is off for a different lease until this step.
    passed_on: bool,
    lease: Option<LeaseId>,
}

pub(super) fn steps(
    policy: &Policy,
    leases: &[Lease],
    assigned: &Assigned,
    fallback: &[(MachineId, usize, Timestamp)],
    horizon: Timestamp,
) -> Vec<Step> {
    let mut buckets: BTreeMap<Key, Vec<MachineId>> = BTreeMap::new();
    let mut put = |key: Key, machine: &MachineId| {
        buckets.entry(key).or_default().push(machine.clone());
    };
    for unit in &assigned.units {
        let Some(group) = unit.group else { continue };
        for (i, period) in unit.periods.iter().enumerate() {
            let down = Key {
                at: period.at,
                lowers: true,
                group,
                starve: period.means == Means::Starve,
                passed_on: period.passed_on,
                lease: period.lease.clone(),
            };
            put(down, &unit.id);
            let goes_on =
                |until: Timestamp| unit.periods.get(i + 1).is_some_and(|next| next.at <= until);
            if let Some(until) = period.until.filter(|until| *until <= horizon && !goes_on(*until))
            {
                let lease = period.lease.clone();
                let (lowers, starve, passed_on) = (false, false, false);
                put(Key { at: until, lowers, group, starve, passed_on, lease }, &unit.id);
            }
        }
    }
    let by_id: BTreeMap<&LeaseId, &Lease> = leases.iter().map(|lease| (&lease.id, lease)).collect();
    let mut steps: Vec<Step> = Vec::with_capacity(buckets.len());
    for (Key { at, lowers, group, starve, passed_on, lease }, machines) in buckets {
        let group = &policy.facility.groups()[group];
        let known = lease.as_ref().and_then(|id| by_id.get(id).copied());
        let reason = if lowers {
            why_down(policy, group, known, machines.len(), passed_on)
        } else {
            why_up(policy, group, known, machines.len())
        };
        let action = if lowers { Action::Drain } else { Action::Run };
        let means = if starve { Means::Starve } else { Means::Device };
        steps.push(Step { at, group: group.id.clone(), action, means, machines, lease, reason });
    }
    steps.extend(run_out(policy, fallback, horizon));
    steps
}

fn why_down(
    policy: &Policy,
    group: &Group,
    lease: Option<&Lease>,
    machines: usize,
    passed_on: bool,
) -> String {
    let worth = worth(policy, group);
    let verb = if passed_on { " stay off and" } else { "" };
    let freed = kilowatts(times(group.freed(), u32::try_from(machines).unwrap_or(u32::MAX)));
    match lease {
        Some(lease) => format!(
            "lease {} takes {} at {} from {} and needs it proven free by {}: {machines} × {} on {}{verb} free {freed} ({worth})",
            lease.id,
            kilowatts(lease.gross),
            lease.feed,
            when(lease.start, policy.facility.timezone()),
            when(lease.reserved_from(), policy.facility.timezone()),
            group.id,
            group.feed,
        ),
        None => format!(
            "feed {} is short by itself: {machines} × {} free {freed} ({worth})",
            group.feed, group.id
        ),
    }
}

fn why_up(policy: &Policy, group: &Group, lease: Option<&Lease>, machines: usize) -> String {
    let worth = worth(policy, group);
    match lease {
        Some(lease) => format!(
            "lease {} gives {} at {} back at {}: {machines} × {} on {} may mine again ({worth})",
            lease.id,
            kilowatts(lease.gross),
            lease.feed,
            when(lease.ends(), policy.facility.timezone()),
            group.id,
            group.feed,
        ),
        None => {
            format!(
                "feed {} is not short any more: {machines} × {} may mine again ({worth})",
                group.feed, group.id
            )
        }
    }
}

fn worth(policy: &Policy, group: &Group) -> String {
    margin(policy, group).map_or_else(
        || format!("{:.1} J/TH", group.joules_per_terahash),
        |usd| format!("{:.1} J/TH, {usd:.2} USD/MWh after power", group.joules_per_terahash),
    )
}

/// The steps at and after the horizon, by which load falls to the default constraint of a feed with a
/// running firm lease.
fn run_out(
    policy: &Policy,
    fallback: &[(MachineId, usize, Timestamp)],
    horizon: Timestamp,
) -> Vec<Step> {
    let mut buckets: BTreeMap<(Timestamp, usize), Vec<MachineId>> = BTreeMap::new();
    for (machine, group, at) in fallback {
        buckets.entry((*at, *group)).or_default().push(machine.clone());
    }
    let feeds = policy.facility.feeds();
    let ceiling = |group: usize| -> String {
        let path = feeds.path(policy.facility.group_feed(group)).iter();
        let found = path.map(|feed| &feeds[*feed]).find_map(|feed| {
            feed.default_constraint.map(|watts| format!("{} at {}", kilowatts(watts), feed.id))
        });
        found.unwrap_or_default()
    };
    let step = |((at, number), machines): ((Timestamp, usize), Vec<MachineId>)| {
        let group = &policy.facility.groups()[number];
        let means = if group.backs_firm() { Means::Device } else { Means::Starve };
        let reason = format!(
            "the plan ends at {} and firm leases run on: down to {}",
            when(horizon, policy.facility.timezone()),
            ceiling(number)
        );
        Step {
            at,
            group: group.id.clone(),
            action: Action::Drain,
            means,
            machines,
            lease: None,
            reason,
        }
    };
    buckets.into_iter().map(step).collect()
}
