//! For what machines go when an interval begins.

use crate::plan::counts::Interval;

/// The cohort, the lease (`None`: its feed is short without any) and how many, by cohort.
pub(super) struct Causes(Vec<(u32, Option<usize>, u32)>);

impl Causes {
    pub(super) fn new(interval: &Interval) -> Self {
        let mut causes = interval.causes.clone();
        causes.sort_by_key(|(cohort, ..)| *cohort);
        Self(causes)
    }

    pub(super) fn of(&self, cohort: u32) -> Vec<(Option<usize>, u32)> {
        let here = &self.0[self.0.partition_point(|(other, ..)| *other < cohort)..];
        let here = here.iter().take_while(|(other, ..)| *other == cohort);
        here.map(|(_, cause, count)| (*cause, *count)).collect()
    }

    /// How many machines of `cohort` go because its feed is short without any lease.
    pub(super) fn alone(&self, cohort: u32) -> usize {
        let causes = self.of(cohort).into_iter();
        causes.filter(|(cause, _)| cause.is_none()).map(|(_, count)| count as usize).sum()
    }
}
