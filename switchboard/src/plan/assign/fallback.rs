//! The machines that go when the plan runs out.

use directive::Watts;

use super::Assign;
use crate::plan::input::Input;

impl Assign<'_, '_> {
    /// The machines that go when the plan runs out: below a feed with a running firm lease, load falls
    /// to the feed's default constraint.
    pub(super) fn fallback(&mut self, input: &Input<'_>) -> Vec<usize> {
        let mut freed = self.freed.clone();
        let mut taken = vec![0_usize; self.units.cohorts.len()];
        let committed = &self.leases.committed;
        for node in self.feeds.bottom_up() {
            let feed = &self.feeds[node];
            let Some(ceiling) = feed.default_constraint else { continue };
            if committed[node] == Watts::ZERO {
                continue;
            }
            let ceiling = ceiling.min(feed.usable(input.horizon));
            let over = (input.fixed[node] + committed[node]).saturating_sub(ceiling);
            for (number, cohort) in self.units.cohorts.iter().enumerate() {
                if freed[node] >= over {
                    break;
                }
                if !self.feeds.is_below(cohort.feed, node) {
                    continue;
                }
                let left = cohort.machines as usize - self.off[number].len() - taken[number];
                let missing = (over - freed[node]).0;
                let count = usize::try_from((missing + cohort.frees.0 - 1) / cohort.frees.0);
                let count = count.unwrap_or(usize::MAX).min(left);
                taken[number] += count;
                let watts = Watts(cohort.frees.0 * i64::try_from(count).unwrap_or(0));
                self.feeds.add(&mut freed, cohort.feed, watts);
            }
        }
        let mut picked = Vec::new();
        for (cohort, count) in (0_u32..).zip(taken).filter(|(_, count)| *count > 0) {
            let machines = self.units.cohorts[cohort as usize].machines;
            let on = self.off[cohort as usize].absent(machines).take(count);
            picked.extend(on.map(|place| self.units.unit(cohort, place)));
        }
        picked
    }
}
