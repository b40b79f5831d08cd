//! Why a machine is off now.

use std::collections::HashMap;
use std::time::Duration;

use directive::LeaseId;
use jiff::Timestamp;

use super::{Period, Units};
use crate::admit::shed_time;
use crate::lease::{Lease, later};
use crate::plan::counts::Off;
use crate::policy::Policy;
use crate::reservation::Reservation;

/// Sorts the machines that are off now by why they are, for [`crate::plan::counts`]: by cohort.
pub(in crate::plan) fn off_now(
    units: &mut Units<'_>,
    policy: &Policy,
    (leases, reservations): (&[Lease], &[Reservation]),
    now: Timestamp,
) -> Vec<Off> {
    let numbers: HashMap<&LeaseId, usize> =
        leases.iter().enumerate().map(|(number, lease)| (&lease.id, number)).collect();
    let mut all = vec![Off::default(); units.cohorts.len()];
    for unit in &mut units.units {
        for period in &mut unit.periods {
            period.number = period.lease.as_ref().and_then(|lease| numbers.get(lease)).copied();
        }
        if let Some(period) = unit.periods.iter().rposition(|period| period.at <= now) {
            unit.active = Some(period);
            unit.periods[period].used = true;
        }
        let Some((cohort, _)) = unit.place else { continue };
        let off = &mut all[cohort as usize];
        let shed = unit.group.map_or(Duration::ZERO, |group| {
            shed_time(&policy.facility.groups()[group]).saturating_add(policy.dispatch.proof())
        });
        for period in unit.periods.iter().filter(|period| period.at > now && !period.passed_on) {
            if let Some(lease) = period.number {
                let rises = || reservations[lease].rises().map(|(at, _)| at);
                let from = rises().find(|at| later(period.at, shed) <= *at);
                add(&mut off.chosen, (lease, from.or_else(|| rises().last()).unwrap_or(now)));
            }
        }
        match unit.active.map(|active| Why::of(&unit.periods[active], leases, now)) {
            None => {}
            Some(Why::Running) => off.running += 1,
            Some(Why::Early(lease)) => add(&mut off.early, lease),
            Some(Why::Left) => off.left += 1,
            Some(Why::Returning(since)) => off.returning.push(since),
        }
    }
    for off in &mut all {
        off.returning.sort_by(|a, b| b.cmp(a));
    }
    all
}

/// Counts one more machine for `what`.
fn add<T: PartialEq>(counts: &mut Vec<(T, u32)>, what: T) {
    // Most machines follow another one of the same lease.
    match counts.iter_mut().rev().find(|(other, _)| *other == what) {
        Some((_, count)) => *count += 1,
        None => counts.push((what, 1)),
    }
}

/// Why a machine is off now. The order is that in which machines stay off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// For a lease that has not begun.
    Early(usize),
    /// For a lease that runs.
    Running,
    /// For none that is open, and it is not on its way back.
    Left,
    /// It is on its way back since then.
    Returning(Timestamp),
}

impl Why {
    /// Why the machine is off in `period`, which has begun.
    pub(super) fn of(period: &Period, leases: &[Lease], now: Timestamp) -> Self {
        let edge = period.held.as_ref().and_then(|held| held.edge).filter(|edge| *edge <= now);
        match (edge, period.number.map(|number| (number, &leases[number]))) {
            (Some(edge), _) => Self::Returning(edge),
            (None, Some((_, lease))) if lease.reserves(now) => Self::Running,
            (None, Some((number, lease))) if now < lease.ends() => Self::Early(number),
            _ => Self::Left,
        }
    }

    /// Of two reasons, the one for which a machine stays off first. Of machines on their way back,
    /// the last ones to be released stay first.
    pub(super) fn stays_before(self, other: Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Returning(a), Self::Returning(b)) => b.cmp(&a),
            (Self::Early(_), Self::Early(_)) => std::cmp::Ordering::Equal,
            _ => self.cmp(&other),
        }
    }
}
