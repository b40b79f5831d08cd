//! Collects what may explain that power is missing at a feed. Which of it is named is decided by
//! [`crate::commitment`].

use std::time::{Duration, Instant};

use super::Core;
use crate::commitment::Causes;
use crate::facility::{FeedNumber, PerFeed};
use crate::inventory::Headroom;
use crate::lease::Lease;

/// What was decided by a wrong meter may take this long to show: machines that were woken by its word
/// take minutes to draw their full power.
const METER_LASTS: Duration = Duration::from_mins(5);

impl Core {
    /// What may explain that power of `lease` is missing at `feed`, where `headroom` is measured.
    pub(super) fn causes(
        &self,
        lease: &Lease,
        feed: FeedNumber,
        headroom: &Headroom,
        now: Instant,
    ) -> Causes {
        let facility = &self.policy.facility;
        let feeds = facility.feeds();
        let name = &feeds[feed].id;
        let admitted = self.state.leases.get(&lease.id).and_then(|record| {
            let line = record.arithmetic.iter().find(|line| line.feed == *name)?;
            Some(line.least_usable.unwrap_or(line.usable))
        });
        let usable = feeds[feed].usable(self.schedule);
        let less = self.less(&PerFeed::all(feeds, None), now);
        let tenant = self.sums.over(feed);
        // Without samples to compare with, all that is confirmed to be down is in `down`.
        let down = less[feed].down;
        let mining = self.seen_at_full_power()[feed].saturating_sub(down);
        let declared = facility.house_load()[feed]
            + facility.unassigned_load(&self.fleet.population)[feed]
            + mining;
        let others = headroom.metered - headroom.leased - tenant;
        let path = feeds.path(feed).iter();
        Causes {
            tenant,
            derate: admitted.map(|admitted| admitted - usable).unwrap_or_default(),
            house: (others - declared - self.sums.unmetered(feed)).max(directive::Watts::ZERO),
            undone: less[feed].needed.saturating_sub(down),
            is_meter: path
                .filter(|feed| feeds[**feed].meter.is_some())
                .any(|feed| self.plausible.was_wrong_or_silent(*feed, METER_LASTS, now)),
        }
    }
}
