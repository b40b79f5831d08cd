//! What each lease reserves over time beside the others. Admission, the plan, shortages and the sums at
//! the feeds all count leases by this.
//!
//! A lease reserves its gross power from `ready_before` its start until its end. A tenant that
//! *renews* needs less: while lease A runs and lease B is made ready, only the larger of both is
//! needed, because the power that A gives back at its end serves B. So each watt of A counts for B
//! too, for one later lease at most, if
//!
//! - both are of the same tenant at the same feed,
//! - B starts when A ends or later, so that the tenant never draws both,
//! - A ends while B is made ready, and B is not made ready before A is: only then do the reservations
//!   overlap,
//! - A does not rely on machines that are only starved of work, unless B may as well.
//!
//! Leases of different tenants never share power: while one draws it, it is not free for the other.
//! How such a lease follows another one is decided at its admission ([`crate::lease::Follows`]).
//! docs/operating.md says all of this to people.

use std::collections::HashMap;

use directive::{FeedId, Watts};
use jiff::Timestamp;

use crate::lease::Lease;

/// What one lease reserves. It rises when leases end whose power the lease takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// From when on how much is reserved, in order of time and rising. Empty if nothing ever is.
    steps: Vec<(Timestamp, Watts)>,
    until: Timestamp,
    /// The leases whose power it takes over, as indexes, and how much of each.
    takes: Vec<(usize, Watts)>,
}

impl Reservation {
    /// The watts reserved at `at`.
    pub(crate) fn at(&self, at: Timestamp) -> Watts {
        if at >= self.until {
            return Watts::ZERO;
        }
        let place = self.steps.partition_point(|(from, _)| *from <= at);
        place.checked_sub(1).map_or(Watts::ZERO, |place| self.steps[place].1)
    }

    /// What is reserved in addition from each instant on, until the end.
    pub(crate) fn rises(&self) -> impl Iterator<Item = (Timestamp, Watts)> {
        let before = std::iter::once(Watts::ZERO).chain(self.steps.iter().map(|(_, watts)| *watts));
        self.steps.iter().zip(before).map(|(&(from, watts), before)| (from, watts - before))
    }

    /// What no other lease has shed for it before.
    pub(crate) fn first(&self) -> Watts {
        self.steps.first().map_or(Watts::ZERO, |(_, watts)| *watts)
    }

    /// What it reserves before its end.
    pub(crate) fn last(&self) -> Watts {
        self.steps.last().map_or(Watts::ZERO, |(_, watts)| *watts)
    }

    /// When it first reserves power of its own.
    pub(crate) fn needs_from(&self) -> Option<Timestamp> {
        self.steps.iter().find(|(_, watts)| *watts > Watts::ZERO).map(|(from, _)| *from)
    }

    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether both are the same watts at the same times.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        (&self.steps, self.until) == (&other.steps, other.until)
    }

    /// The leases whose power it takes over, as indexes.
    pub(crate) fn takes_from(&self) -> impl Iterator<Item = usize> {
        self.takes.iter().map(|(lease, _)| *lease)
    }
}

/// What each of `leases` reserves, in their order.
pub(crate) fn reservations(leases: &[&Lease]) -> Vec<Reservation> {
    let mut takes: Vec<Vec<(usize, Watts)>> = vec![Vec::new(); leases.len()];
    let mut tenants: HashMap<(&str, &FeedId), Vec<usize>> = HashMap::new();
    for (number, lease) in leases.iter().enumerate() {
        if lease.reserved_from() < lease.ends() {
            tenants.entry((&lease.tenant, &lease.feed)).or_default().push(number);
        }
    }
    for mut of_tenant in tenants.into_values().filter(|of_tenant| of_tenant.len() > 1) {
        // The latest end comes last.
        let mut ending = of_tenant.clone();
        ending.sort_by_key(|number| (leases[*number].ends(), &leases[*number].id));
        let mut left: HashMap<usize, Watts> =
            of_tenant.iter().map(|number| (*number, leases[*number].gross)).collect();
        // A lease that is made ready later does not change what those before it take.
        of_tenant.sort_by_key(|number| {
            let lease = leases[*number];
            (lease.reserved_from(), lease.start, &lease.id)
        });
        for number in of_tenant {
            takes[number] = take(leases, number, &ending, &mut left);
        }
    }
    leases.iter().zip(takes).map(|(lease, takes)| reservation(leases, lease, takes)).collect()
}

/// The leases whose power lease `number` takes over. Those that end last come first, because their
/// power serves both for the longest time. `left` is what each lease has not passed on yet.
fn take(
    leases: &[&Lease],
    number: usize,
    ending: &[usize],
    left: &mut HashMap<usize, Watts>,
) -> Vec<(usize, Watts)> {
    let lease = leases[number];
    let mut needed = lease.gross;
    let mut takes = Vec::new();
    // One that was cancelled before its start gives back what it would take, to whoever needs it.
    if lease.ends() <= lease.start {
        return takes;
    }
    let before = &ending[..ending.partition_point(|other| leases[*other].ends() <= lease.start)];
    for &other in before.iter().rev() {
        if needed == Watts::ZERO || leases[other].ends() <= lease.reserved_from() {
            break;
        }
        let Some(left) = left.get_mut(&other).filter(|_| is_renewed(leases[other], lease)) else {
            continue;
        };
        let watts = needed.min(*left);
        if watts > Watts::ZERO {
            (needed, *left) = (needed - watts, *left - watts);
            takes.push((other, watts));
        }
    }
    takes
}

/// Whether power that `before` gives back at its end serves `after`. Both are of one tenant at one
/// feed.
fn is_renewed(before: &Lease, after: &Lease) -> bool {
    before.id != after.id
        && before.start < before.ends()
        && before.ends() <= after.start
        && after.reserved_from() < before.ends()
        && before.reserved_from() <= after.reserved_from()
        && (after.accept_unverified || !before.accept_unverified)
}

fn reservation(leases: &[&Lease], lease: &Lease, takes: Vec<(usize, Watts)>) -> Reservation {
    let (from, until) = (lease.reserved_from(), lease.ends());
    if from >= until {
        return Reservation { steps: Vec::new(), until, takes };
    }
    let taken: Watts = takes.iter().map(|(_, watts)| *watts).sum();
    let mut steps = vec![(from, lease.gross - taken)];
    // Those that end last come first.
    for &(other, watts) in takes.iter().rev().filter(|(other, _)| leases[*other].ends() < until) {
        let (end, before) = (leases[other].ends(), steps[steps.len() - 1]);
        if before.0 == end {
            steps.pop();
        }
        steps.push((end, before.1 + watts));
    }
    Reservation { steps, until, takes }
}

#[cfg(test)]
mod tests;
