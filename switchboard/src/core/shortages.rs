//! Keeps what leases and feeds lack beside the plan: since when it is known, and what the log has
//! been told. How much is missing is left to [`crate::shortage`].

use std::collections::BTreeMap;
use std::time::Instant;

use directive::{FeedId, LeaseId, Watts};
use jiff::Timestamp;

use super::{Core, Outputs};
use crate::lease::Lease;
use crate::shortage::Supply;
use crate::view::{ShortLease, Shortage};

/// What people should read in the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A lease cannot be kept with the machines known now, or lacks another amount than was said.
    Short { lease: LeaseId, short: Shortage },
    /// It lacks nothing any more, or is over.
    NotShort { lease: LeaseId },
}

#[derive(Debug, Default)]
pub(super) struct Shortages {
    leases: BTreeMap<LeaseId, Shortage>,
    feeds: Vec<Shortage>,
    /// What the log was told last, by lease.
    told: BTreeMap<LeaseId, (FeedId, Watts)>,
}

/// A figure that has changed by no more than a twentieth, or a kilowatt, is not told again.
const NEWS: (i64, Watts) = (20, Watts(1000));

impl Core {
    /// Finds out what leases and feeds lack under the plan just made.
    pub(super) fn find_shortages(&mut self, wall: Timestamp) {
        let supply = Supply::new(&self.policy, &self.fleet, &self.selection);
        let mut leases = supply.shortages(&self.leases, wall);
        for (id, short) in &mut leases {
            let before = self.shortages.leases.get(id);
            short.known_since = before.and_then(|before| before.known_since).or(Some(wall));
            // What runs already does not begin to be short anew with each plan.
            if let Some(before) = before.filter(|before| short.from == wall && before.from <= wall)
            {
                short.from = before.from;
            }
        }
        let mut feeds: Vec<Shortage> = Vec::new();
        for deficit in self.plan.iter().flat_map(|plan| &plan.deficits) {
            let Some(mut short) =
                supply.at_feed(&deficit.feed, deficit.short, deficit.from, &self.leases)
            else {
                continue;
            };
            let since = |before: &&Shortage| before.feed == short.feed;
            let before = self.shortages.feeds.iter().find(since);
            short.known_since = before.and_then(|before| before.known_since).or(Some(wall));
            let same =
                |other: &&mut Shortage| (&other.feed, other.from) == (&short.feed, short.from);
            // Leases that begin at one instant are planned one after the other: the last figure
            // counts them all.
            match feeds.iter_mut().find(same) {
                Some(other) => *other = short,
                None => feeds.push(short),
            }
        }
        self.shortages.leases = leases;
        self.shortages.feeds = feeds;
    }

    /// Tells the log what has changed. In the first seconds nothing is told: what has not reported
    /// yet is not missing.
    pub(super) fn tell_shortages(&mut self, now: Instant, outputs: &mut Outputs) {
        let Shortages { leases, told, .. } = &self.shortages;
        if (leases.is_empty() && told.is_empty()) || self.is_young(now) {
            return;
        }
        let Shortages { leases, told, .. } = &mut self.shortages;
        told.retain(|lease, _| {
            let still = leases.contains_key(lease);
            if !still {
                outputs.notices.push(Notice::NotShort { lease: lease.clone() });
            }
            still
        });
        for (lease, short) in leases {
            let (part, least) = NEWS;
            let known = told.get(lease).is_some_and(|(feed, missing)| {
                let change = Watts((short.missing.0 - missing.0).abs());
                *feed == short.feed && change <= least.max(Watts(missing.0 / part))
            });
            if !known {
                told.insert(lease.clone(), (short.feed.clone(), short.missing));
                outputs.notices.push(Notice::Short { lease: lease.clone(), short: short.clone() });
            }
        }
    }

    pub(super) fn shortage_of(&self, lease: &LeaseId) -> Option<&Shortage> {
        self.shortages.leases.get(lease)
    }

    pub(super) fn feed_shortages(&self) -> &[Shortage] {
        &self.shortages.feeds
    }

    pub(super) fn short_leases(&self) -> Vec<ShortLease> {
        let leases = self.shortages.leases.iter();
        let mut all: Vec<ShortLease> =
            leases.filter_map(|(id, short)| self.short_lease(id, short.clone())).collect();
        all.sort_by_key(|short| short.short.from);
        all
    }

    /// What `lease` would lack beside those promised, and which of these would lack more than they
    /// do.
    pub(super) fn shortages_with(
        &self,
        lease: &Lease,
        wall: Timestamp,
    ) -> (Option<Shortage>, Vec<ShortLease>) {
        let supply = Supply::new(&self.policy, &self.fleet, &self.selection);
        let others = self.promised().into_iter().filter(|other| other.id != lease.id);
        let mut all = supply.shortages(others.chain([lease]), wall);
        let own = all.remove(&lease.id);
        let more = all.into_iter().filter(|(id, short)| {
            let before = self.shortage_of(id).map_or(Watts::ZERO, |before| before.missing);
            short.missing > before
        });
        (own, more.filter_map(|(id, short)| self.short_lease(&id, short)).collect())
    }

    fn short_lease(&self, id: &LeaseId, short: Shortage) -> Option<ShortLease> {
        let tenant = self.state.leases.get(id)?.lease.tenant.clone();
        Some(ShortLease { lease: id.clone(), tenant, short })
    }
}
