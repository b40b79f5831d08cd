//! The order in which machines are taken off, and what an hour of a machine is worth.

use crate::facility::Group;
use crate::policy::{Merit, Policy};

/// The merit of one group of machines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// The group's place in the order: lower ones are taken off first.
    pub(super) rank: usize,
    /// What a watt-hour of its machines is worth, in a unit that is the same for all groups. It
    /// rises with the rank. It decides where a machine of another size covers the rest of a shortage
    /// at less cost.
    pub(super) worth: f64,
}

/// What a group's machines earn above the price of their power, in USD per MWh, if prices are known.
pub(super) fn margin(policy: &Policy, group: &Group) -> Option<f64> {
    let earned =
        policy.dispatch.hashprice_usd_per_ph_day? * 1000.0 / (24.0 * group.joules_per_terahash);
    Some(earned - policy.dispatch.power_usd_per_mwh.unwrap_or(0.0))
}

/// The numbers of the groups in the order in which their machines go: first those whose machines
/// promise watts, as far as a device reaches them.
pub(crate) fn order(policy: &Policy) -> Vec<usize> {
    let places = places(policy);
    let groups = policy.facility.groups();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|number| (!groups[*number].backs_firm(), places[*number].rank));
    order
}

/// The place of each group. With one hashprice and one power price for all, the margin per kW falls
/// as the joules per terahash rise: both rules give the same order, and the prices need not be known.
pub(super) fn places(policy: &Policy) -> Vec<Place> {
    let groups = policy.facility.groups();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let listed = policy.dispatch.merit == Merit::Listed;
    if !listed {
        order.sort_by(|a, b| {
            groups[*b].joules_per_terahash.total_cmp(&groups[*a].joules_per_terahash)
        });
    }
    let mut places = vec![Place { rank: 0, worth: 0.0 }; groups.len()];
    for (rank, number) in order.into_iter().enumerate() {
        let worth = if listed { listed_worth(rank) } else { worth(policy, &groups[number]) };
        places[number] = Place { rank, worth };
    }
    places
}

/// An order given by hand says nothing about amounts, so that a later group is never taken in place
/// of an earlier one because its machines have a better size.
fn listed_worth(rank: usize) -> f64 {
    2_f64.powi(i32::try_from(rank.min(900)).unwrap_or(900))
}

/// A watt-hour of a machine that earns nothing is worth little, but the order stays.
fn worth(policy: &Policy, group: &Group) -> f64 {
    let efficiency = 1.0 / group.joules_per_terahash.max(f64::MIN_POSITIVE);
    match margin(policy, group) {
        Some(margin) => margin.max(efficiency / 1000.0),
        None => efficiency,
    }
}
