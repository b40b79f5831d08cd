//! Takes further machines off when an interval begins.

use std::collections::BTreeSet;

use directive::Means;
use jiff::Timestamp;

use super::{Assign, Period};
use crate::cause::Cause;
use crate::plan::counts::Interval;

impl Assign<'_, '_> {
    /// Takes off `count` more machines of `cohort` for `causes`.
    pub(super) fn take_off(
        &mut self,
        cohort: u32,
        count: usize,
        causes: Vec<(Option<usize>, u32)>,
        interval: &Interval,
        next: &[Interval],
    ) {
        let machines = self.units.cohorts[cohort as usize].machines;
        let on = self.off[cohort as usize].absent(machines);
        let mut fresh: Vec<u32> = on.take(count).collect();
        fresh.reverse();
        let mut left = count;
        for (cause, most) in causes {
            let most = left.min(most as usize);
            for unit in self.choose(cohort, cause, most, &mut fresh, interval) {
                self.open(unit, cause, interval);
                self.count_off(cohort, unit);
                left -= 1;
            }
        }
        for _ in 0..left {
            let heir = self.heir(cohort, true, interval, next);
            for unit in self.choose(cohort, heir, 1, &mut fresh, interval) {
                self.open(unit, heir, interval);
                self.count_off(cohort, unit);
            }
        }
    }

    /// The `count` machines of `cohort` that go next for `lease`: those that an earlier plan chose for
    /// it, and then the first that are on. `fresh` has the latter, the first one last.
    fn choose(
        &mut self,
        cohort: u32,
        lease: Option<usize>,
        count: usize,
        fresh: &mut Vec<u32>,
        interval: &Interval,
    ) -> Vec<usize> {
        let mut before = self.chosen_before.remove(&(cohort, lease)).unwrap_or_default();
        // Its period is taken up. One without a lease may be for another time.
        while lease.is_some()
            && before.front().is_some_and(|unit| self.planned(*unit, lease, interval).is_none())
        {
            before.pop_front();
        }
        let is_on = |unit: &usize| self.units.units[*unit].active.is_none();
        let free = before.iter().copied().filter(is_on);
        let free = free.filter(|unit| self.planned(*unit, lease, interval).is_some());
        let mut chosen: Vec<usize> = free.take(count).collect();
        if !before.is_empty() {
            self.chosen_before.insert((cohort, lease), before);
        }
        let from_before: BTreeSet<usize> = chosen.iter().copied().collect();
        while chosen.len() < count
            && let Some(place) = fresh.pop()
        {
            let unit = self.units.unit(cohort, place);
            if self.units.units[unit].active.is_none() && !from_before.contains(&unit) {
                chosen.push(unit);
            }
        }
        chosen
    }

    /// The period that an earlier plan gave this machine for `lease`, or for the limit that is lower from
    /// the beginning of `interval` on, if it comes and is not taken up yet.
    fn planned(&self, unit: usize, lease: Option<usize>, interval: &Interval) -> Option<usize> {
        let ahead = (lease.is_none() && interval.has_lower_limit() && interval.from > self.now)
            .then_some(interval.from);
        self.units.units[unit].periods.iter().position(|period| {
            period.at > self.now
                && period.number == lease
                && period.cause.lease().is_some() == lease.is_some()
                && period.ahead == ahead
                && !period.passed_on
                && !period.used
        })
    }

    fn open(&mut self, unit: usize, lease: Option<usize>, interval: &Interval) {
        let at = interval.from;
        let period = self.planned(unit, lease, interval);
        let cause = period.is_none().then(|| self.cause_of(unit, lease));
        let of = &mut self.units.units[unit];
        let Some(group) = of.group.map(|group| &self.policy.facility.groups()[group]) else {
            return;
        };
        let period = period.unwrap_or_else(|| {
            of.periods.push(Period {
                cause: cause.unwrap_or(Cause::Unrecorded),
                number: lease,
                held: None,
                edge: None,
                due: None,
                ahead: None,
                natural: None,
                at: Timestamp::MAX,
                until: None,
                means: if group.backs_firm() { Means::Device } else { Means::Starve },
                group: group.id.clone(),
                used: true,
                passed_on: false,
            });
            of.periods.len() - 1
        });
        let begins = lease.map(|lease| self.leases.all[lease].reserved_from());
        of.periods[period].used = true;
        let is_later = at > self.now && begins.is_none_or(|begins| begins < at);
        of.periods[period].due = is_later.then_some(at);
        of.active = Some(period);
    }
}
