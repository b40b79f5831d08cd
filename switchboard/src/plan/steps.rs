//! Makes the timeline's steps from the chosen machines, each with its reason in words and figures.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use directive::{Action, FeedId, LeaseId, MachineId, Means, Step};
use jiff::Timestamp;

use super::assign::Assigned;
use super::merit::margin;
use crate::cause::Cause;
use crate::facility::{Group, LimitChange, times};
use crate::lease::{Lease, later};
use crate::policy::Policy;
use crate::words::{kilowatts, when};

/// One machine in one step. Machines with the same key share a step. Raises sort before lowerings of
/// the same instant, so that a machine that has both is lowered.
struct Entry<'a> {
    at: Timestamp,
    lowers: bool,
    group: usize,
    starve: bool,
    /// Whether the machine is off already when this step comes, for another lease or for a feed
    /// that was short without any.
    passed_on: bool,
    cause: &'a Cause,
    machine: &'a MachineId,
    /// For a raise: when the machine was needed no longer.
    edge: Option<Timestamp>,
}

impl Entry<'_> {
    fn key(&self) -> (Timestamp, bool, usize, bool, bool, &Cause) {
        (self.at, self.lowers, self.group, self.starve, self.passed_on, self.cause)
    }
}

/// The steps in order of time, and for each what its machines go for.
pub(super) fn steps(
    policy: &Policy,
    leases: &[Lease],
    assigned: &Assigned,
    fallback: &[(MachineId, usize, Timestamp)],
    (horizon, lead): (Timestamp, Duration),
) -> (Vec<Step>, Vec<Option<Cause>>) {
    let mut entries = entries(assigned, horizon);
    // Of one step, machines stay in the order in which they are taken off.
    entries.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut reasons = Reasons::new(policy, leases, lead);
    let (mut steps, mut causes): (Vec<Step>, Vec<Option<Cause>>) = (Vec::new(), Vec::new());
    for entries in entries.chunk_by(|a, b| a.key() == b.key()) {
        let Entry { at, lowers, group, starve, cause, .. } = entries[0];
        steps.push(Step {
            at,
            group: policy.facility.groups()[group].id.clone(),
            action: if lowers { Action::Drain } else { Action::Run },
            means: if starve { Means::Starve } else { Means::Device },
            machines: entries.iter().map(|entry| entry.machine.clone()).collect(),
            lease: cause.lease().cloned(),
            reason: reasons.of(&entries[0], entries.len()),
        });
        causes.push(Some(cause.clone()));
    }
    steps.extend(run_out(policy, fallback, horizon));
    causes.resize(steps.len(), None);
    (steps, causes)
}

fn entries(assigned: &Assigned, horizon: Timestamp) -> Vec<Entry<'_>> {
    let mut entries = Vec::with_capacity(assigned.units.len() * 2);
    for unit in &assigned.units {
        let Some(group) = unit.group else { continue };
        for (i, period) in unit.periods.iter().enumerate() {
            let down = Entry {
                at: period.at,
                lowers: true,
                group,
                starve: period.means == Means::Starve,
                passed_on: period.passed_on,
                cause: &period.cause,
                machine: &unit.id,
                edge: None,
            };
            let goes_on =
                |until: Timestamp| unit.periods.get(i + 1).is_some_and(|next| next.at <= until);
            let until = period.until.filter(|until| *until <= horizon && !goes_on(*until));
            let up = until.map(|at| {
                let (lowers, starve, passed_on) = (false, false, false);
                Entry { at, lowers, starve, passed_on, edge: period.edge, ..down }
            });
            entries.extend(up);
            entries.push(down);
        }
    }
    entries
}

/// The reasons of steps. What is said of a lease or of an efficiency is put into words once for all
/// steps.
struct Reasons<'a> {
    policy: &'a Policy,
    leases: HashMap<&'a LeaseId, Words<'a>>,
    /// What machines are worth, by the bits of their joules per terahash.
    worth: HashMap<u64, String>,
    /// The longest time from a step until what it is made for begins.
    lead: Duration,
}

/// What the steps say of one lease, as far as any step has said it.
struct Words<'a> {
    lease: &'a Lease,
    takes: Option<String>,
    gives: Option<String>,
}

impl<'a> Reasons<'a> {
    fn new(policy: &'a Policy, leases: &'a [Lease], lead: Duration) -> Self {
        let words = |lease: &'a Lease| (&lease.id, Words { lease, takes: None, gives: None });
        Self { policy, leases: leases.iter().map(words).collect(), worth: HashMap::new(), lead }
    }

    /// The reason of a step of so many machines.
    fn of(&mut self, step: &Entry<'_>, machines: usize) -> String {
        let policy = self.policy;
        let group = &policy.facility.groups()[step.group];
        let worth = self.worth.entry(group.joules_per_terahash.to_bits());
        let worth = &**worth.or_insert_with(|| worth_of(policy, group));
        let limit = match step.cause {
            Cause::Limit(feed) => limit(policy, step, feed, self.lead),
            _ => None,
        };
        let words = step.cause.lease().and_then(|lease| self.leases.get_mut(lease));
        let freed = times(group.freed(), u32::try_from(machines).unwrap_or(u32::MAX));
        let (group, feed) = (&group.id, &group.feed);
        // What the plan does not know of a feed is said of the one that supplies the machines.
        let full = step.cause.feed().unwrap_or(feed);
        if !step.lowers {
            return match words {
                Some(words) => {
                    let gives = words.gives(policy);
                    format!("{gives}: {machines} × {group} on {feed} may mine again ({worth})")
                }
                None => {
                    let why = limit.unwrap_or_else(|| format!("feed {full} is not short any more"));
                    format!("{why}: {machines} × {group} on {feed} may mine again ({worth})")
                }
            };
        }
        let freed = kilowatts(freed);
        let verb = if step.passed_on { " stay off and" } else { "" };
        match words {
            Some(words) => {
                let takes = words.takes(policy);
                format!("{takes}: {machines} × {group} on {feed}{verb} free {freed} ({worth})")
            }
            None => match (step.cause, limit) {
                (Cause::Guard(guarded), _) => format!(
                    "the guard of feed {guarded} put them to sleep: {machines} × {group} free \
                     {freed} ({worth})"
                ),
                (Cause::Room(_), _) => format!(
                    "a new policy claims them, and they wait for room at {full}: {machines} × \
                     {group} ({worth})"
                ),
                (_, Some(why)) => {
                    format!("{why}: {machines} × {group} on {feed}{verb} free {freed} ({worth})")
                }
                (_, None) => format!(
                    "feed {full} is short by itself: {machines} × {group} free {freed} ({worth})"
                ),
            },
        }
    }
}

/// The change of the limit of `feed` that a step is made for, in words; `None` if it does not change at
/// that time.
fn limit(policy: &Policy, step: &Entry<'_>, feed: &FeedId, lead: Duration) -> Option<String> {
    let facility = &policy.facility;
    let limit = &facility.feeds()[facility.feeds().number(feed)?].limit;
    let mut changes = limit.changes();
    let change = if step.lowers {
        let until = later(step.at, lead);
        let mut coming = limit.after(step.at).take_while(|change| change.at <= until);
        let past = changes.take_while(|change| change.at <= step.at);
        coming.find(LimitChange::lowers).or_else(|| past.filter(LimitChange::lowers).last())
    } else {
        changes.find(|change| Some(change.at) == step.edge && !change.lowers())
    };
    let change = change?;
    let verb = if change.lowers() { "falls" } else { "rises" };
    let limit = kilowatts(change.after);
    let at = when(change.at, facility.timezone());
    Some(format!("the limit of feed {feed} {verb} to {limit} on {at}"))
}

impl Words<'_> {
    fn takes(&mut self, policy: &Policy) -> &str {
        let Lease { id, feed, gross, .. } = self.lease;
        let time = |at: Timestamp| when(at, policy.facility.timezone());
        self.takes.get_or_insert_with(|| {
            format!(
                "lease {id} takes {} at {feed} from {} and needs it proven free by {}",
                kilowatts(*gross),
                time(self.lease.start),
                time(self.lease.reserved_from()),
            )
        })
    }

    fn gives(&mut self, policy: &Policy) -> &str {
        let Lease { id, feed, gross, .. } = self.lease;
        self.gives.get_or_insert_with(|| {
            let end = when(self.lease.ends(), policy.facility.timezone());
            format!("lease {id} gives {} at {feed} back at {end}", kilowatts(*gross))
        })
    }
}

fn worth_of(policy: &Policy, group: &Group) -> String {
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
