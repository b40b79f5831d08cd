//! Why a machine is off: now, by what an earlier plan chose; and in the periods of this plan.

use std::collections::HashMap;
use std::time::Duration;

use directive::{LeaseId, Watts};
use jiff::Timestamp;

use super::{Assign, Period, Units};
use crate::admit::shed_time;
use crate::cause::Cause;
use crate::facility::{FeedNumber, LimitChange};
use crate::lease::{Lease, later};
use crate::plan::input::Off;
use crate::policy::Policy;
use crate::reservation::Reservation;

/// Sorts the machines that are off now by why they are, for [`crate::plan::counts`]: by cohort. `lead` is
/// the longest time from when a machine goes until what it goes for begins.
pub(in crate::plan) fn off_now(
    units: &mut Units<'_>,
    policy: &Policy,
    (leases, reservations): (&[Lease], &[Reservation]),
    lead: Duration,
    now: Timestamp,
) -> Vec<Off> {
    let numbers: HashMap<&LeaseId, usize> =
        leases.iter().enumerate().map(|(number, lease)| (&lease.id, number)).collect();
    let mut all = vec![Off::default(); units.cohorts.len()];
    for unit in &mut units.units {
        for period in &mut unit.periods {
            period.number = period.cause.lease().and_then(|lease| numbers.get(lease)).copied();
        }
        if let Some(period) = unit.periods.iter().rposition(|period| period.at <= now) {
            unit.active = Some(period);
            let period = &mut unit.periods[period];
            period.used = true;
            // The lease that the machine stayed off for has begun.
            if let (Cause::Stays(lease), Some(number)) = (&period.cause, period.number)
                && leases[number].reserves(now)
            {
                period.cause = Cause::Lease(lease.clone());
            }
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
        if !policy.facility.dated().is_empty() {
            let is_left =
                |period: &&mut Period| period.cause.lease().is_none() && !period.passed_on;
            for period in unit.periods.iter_mut().filter(is_left) {
                period.ahead = falls(policy, unit.group, period.at.max(now), lead);
                period.ahead.into_iter().for_each(|from| add(&mut off.ahead, from));
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

/// When a limit above the machines of `group` is lower that a machine which goes at `at` may go for.
fn falls(
    policy: &Policy,
    group: Option<usize>,
    at: Timestamp,
    lead: Duration,
) -> Option<Timestamp> {
    let facility = &policy.facility;
    let path = facility.feeds().path(facility.group_feed(group?)).iter();
    let falls = path.filter_map(|feed| {
        let mut changes = facility.feeds()[*feed].limit.after(at);
        changes.find(LimitChange::lowers).map(|change| change.at)
    });
    falls.min().filter(|from| *from <= later(at, lead))
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

impl Assign<'_, '_> {
    /// What a machine is off for that goes for `lease`, or for none.
    pub(super) fn cause_of(&self, unit: usize, lease: Option<usize>) -> Cause {
        match lease {
            Some(lease) => Cause::Lease(self.leases.all[lease].id.clone()),
            None => self.full_feed(unit).unwrap_or(Cause::Unrecorded),
        }
    }

    /// Names the feed for which a machine stays off, if that is not known of its period.
    pub(super) fn find_cause(&mut self, unit: usize) {
        let of = &self.units.units[unit];
        let Some(active) = of.active else { return };
        if of.periods[active].cause.lease().is_some() || of.periods[active].cause.is_provisional() {
            let cause = self.cause_of(unit, None);
            let period = &mut self.units.units[unit].periods[active];
            (period.cause, period.number) = (cause, None);
        }
    }

    /// The lowest feed on the way to a machine that would carry too much without any lease: always, or
    /// while its limit is as low as it is at this moment. If there is none, the lowest that does with what
    /// leases reserve anywhere below it; else its own.
    fn full_feed(&self, unit: usize) -> Option<Cause> {
        let facility = &self.policy.facility;
        let own = facility.group_feed(self.units.units[unit].group?);
        let over = |feed: FeedNumber, leased: Watts, usable: Watts| {
            self.fixed[feed] + leased + facility.band(feed) > usable
        };
        let most = |feed: &FeedNumber| self.feeds[*feed].most_usable();
        let usable = |feed: &FeedNumber| self.feeds[*feed].usable(self.at);
        let path = self.feeds.path(own);
        let named = |feed: &FeedNumber| self.feeds[*feed].id.clone();
        for leased in [None, Some(&self.leases.committed)] {
            let leased = |feed: &FeedNumber| leased.map_or(Watts::ZERO, |leased| leased[*feed]);
            if let Some(feed) = path.iter().find(|feed| over(**feed, leased(feed), usable(feed))) {
                let is_limit = !over(*feed, leased(feed), most(feed));
                return Some(if is_limit {
                    Cause::Limit(named(feed))
                } else {
                    Cause::Load(named(feed))
                });
            }
        }
        Some(Cause::Load(named(&own)))
    }
}
