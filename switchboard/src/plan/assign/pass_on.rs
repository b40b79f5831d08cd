//! Gives machines that stay off to another lease when what they were off for needs them no longer.

use directive::Watts;
use jiff::Timestamp;

use super::causes::Causes;
use super::{Assign, Period};
use crate::cause::Cause;
use crate::lease::later;
use crate::plan::counts::Interval;

impl Assign<'_, '_> {
    /// Assigns machines of a cohort that stay off without their lease to other leases: `for_running`
    /// of them to those that run, of these first to those that begin now (`causes`), the others to
    /// those that come. `alone` of them stay for their feed, which is short without any lease.
    pub(super) fn pass_on(
        &mut self,
        (cohort, units): (u32, &[usize]),
        (for_running, alone): (usize, usize),
        causes: &mut [(Option<usize>, u32)],
        interval: &Interval,
        next: &[Interval],
    ) {
        let frees = self.units.cohorts[cohort as usize].frees;
        for (place, &unit) in units.iter().enumerate() {
            // A feed that is short without any lease keeps its machines.
            let of = &self.units.units[unit];
            let own = of.active.is_some_and(|active| of.periods[active].cause.lease().is_none());
            if own && place < alone {
                self.find_cause(unit);
                continue;
            }
            let given = self.given_before(unit, cohort, interval, next);
            let begins = causes.iter_mut().filter(|(_, count)| *count > 0 && place < for_running);
            let mut begins = begins.filter(|(lease, _)| given.is_none() || *lease == given);
            let first = begins.next().and_then(|(lease, count)| {
                *count -= 1;
                *lease
            });
            let heir = given.or(first);
            let heir = heir.or_else(|| self.heir(cohort, place < for_running, interval, next));
            if let Some(lease) = self.lease_of(unit) {
                self.leases.free(lease, Watts(-frees.0));
            }
            self.hand_over(unit, interval.from, heir);
            if let Some(lease) = heir {
                self.serve(lease, unit, frees);
            }
        }
    }

    /// The lease that an earlier plan gave this machine at this time.
    fn given_before(
        &self,
        unit: usize,
        cohort: u32,
        interval: &Interval,
        next: &[Interval],
    ) -> Option<usize> {
        let given = self.units.units[unit].periods.iter().find(|period| {
            period.passed_on
                && !period.used
                && period.at == interval.from
                && period.cause.lease().is_some()
        })?;
        let lease = given.number?;
        let is_candidate = self.leases.running.contains(&lease)
            || self.coming(cohort, interval, next).any(|coming| coming == lease);
        (is_candidate && self.is_near(cohort, lease)).then_some(lease)
    }

    fn is_near(&self, cohort: u32, lease: usize) -> bool {
        self.leases.feeds[lease]
            .is_some_and(|feed| self.feeds.is_below(self.units.cohorts[cohort as usize].feed, feed))
    }

    /// The leases that begin so soon that machines of `cohort` may stay off for them. This looks further
    /// ahead than the counts do, which also know the ramp, so that every machine kept finds its lease.
    fn coming<'n>(
        &'n self,
        cohort: u32,
        interval: &Interval,
        next: &'n [Interval],
    ) -> impl Iterator<Item = usize> + 'n {
        let pause = self.units.pauses[cohort as usize].0;
        let until = later(interval.from, pause.saturating_mul(4));
        let soon = next.iter().take_while(move |interval| interval.from <= until);
        soon.flat_map(|interval| interval.begun.iter().copied())
    }

    /// How many more machines of `cohort` go for limits that are lower so soon that they may be off already.
    pub(super) fn coming_alone(
        &self,
        cohort: u32,
        interval: &Interval,
        next: &[Interval],
    ) -> usize {
        if self.policy.facility.dated().is_empty() {
            return 0;
        }
        let pause = self.units.pauses[cohort as usize].0;
        let until = later(interval.from, pause.saturating_mul(4));
        let soon = next.iter().take_while(|interval| interval.from <= until);
        let lowered = soon.filter(|interval| interval.has_lower_limit());
        lowered.map(|interval| Causes::new(interval).alone(cohort)).sum()
    }

    /// The lease that a machine of `cohort` goes to: of those that run first, or of those that come
    /// first. The first whose machines free less than it needs, else the first at all.
    pub(super) fn heir(
        &self,
        cohort: u32,
        running_first: bool,
        interval: &Interval,
        next: &[Interval],
    ) -> Option<usize> {
        let feed = self.units.cohorts[cohort as usize].feed;
        // A machine that can only be starved of work goes only for a lease that accepts it.
        let starved = self.units.cohorts[cohort as usize].can_only_be_starved();
        let takes = |lease: &usize| !starved || self.leases.all[*lease].accept_unverified;
        let path = self.feeds.path(feed);
        let coming = || {
            let coming = self.coming(cohort, interval, next).filter(takes);
            coming.filter(|lease| self.is_near(cohort, *lease))
        };
        let of_running = || {
            let short = path.iter().flat_map(|feed| &self.leases.short[*feed]);
            let running = path.iter().flat_map(|feed| &self.leases.at[*feed]).copied();
            let short = short.map(|(_, lease)| *lease).find(takes);
            short.or_else(|| running.into_iter().find(takes))
        };
        let of_coming =
            || coming().find(|lease| self.leases.is_short(*lease)).or_else(|| coming().next());
        if running_first {
            of_running().or_else(of_coming)
        } else {
            of_coming().or_else(of_running)
        }
    }

    fn hand_over(&mut self, unit: usize, at: Timestamp, heir: Option<usize>) {
        if at <= self.now && heir.is_none() && self.lease_of(unit).is_none() {
            // What it was off for before it was for no lease, it is off for still.
            self.find_cause(unit);
            return;
        }
        let cause = match self.cause_of(unit, heir) {
            Cause::Lease(lease)
                if heir.is_some_and(|heir| !self.leases.running.contains(&heir)) =>
            {
                Cause::Stays(lease)
            }
            cause => cause,
        };
        let of = &mut self.units.units[unit];
        let Some(active) = of.active else { return };
        if at <= self.now {
            // The machine is already off; only what it is off for changes.
            of.periods[active].cause = cause;
            of.periods[active].number = heir;
            return;
        }
        let ended = &mut of.periods[active];
        let (means, group) = (ended.means, ended.group.clone());
        // It was not released by an end. With an edge here, all machines would return at this one
        // instant if the new lease is cancelled.
        ended.until = Some(at);
        // An earlier plan may have passed it on in the same way.
        let alike = |period: &&mut Period| {
            let is_same = period.cause.lease() == cause.lease();
            period.passed_on && !period.used && period.at == at && is_same
        };
        let held = of.periods.iter_mut().find(alike).and_then(|period| period.held.take());
        of.periods.push(Period {
            cause,
            number: heir,
            held,
            edge: None,
            due: None,
            ahead: None,
            natural: None,
            at,
            until: None,
            means,
            group,
            used: true,
            passed_on: true,
        });
        of.active = Some(of.periods.len() - 1);
    }
}
