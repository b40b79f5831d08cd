//! Keeps the shortages of leases and feeds: since when each is known, and which were logged.
//! [`crate::shortage`] computes how much is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use directive::{FeedId, LeaseId, Watts};
use jiff::Timestamp;

use super::{Core, Outputs};
use crate::lease::Lease;
use crate::shortage::Supply;
use crate::view::{DriverDownView, ShortLease, Shortage};
use crate::words::Named;

/// A log line about a shortage.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A lease is short with the machines known now, or is short by an amount that differs from the
    /// one logged last.
    Short { lease: LeaseId, short: Shortage },
    /// The lease is no longer short, or is over.
    NotShort { lease: LeaseId },
    /// These machines sleep that somebody else put to sleep and nobody wants asleep: more than
    /// before, or none any more.
    AsleepNotByUs(Named),
    /// These machines of no group wait for work: the first ones, or twice as many as before, or none
    /// any more.
    Unassigned(Named),
    /// Machines that wait for room before they get work.
    Newcomers(Named),
    /// A driver answers nothing.
    DriverDown(DriverDownView),
    /// A driver that was down since then answers again.
    DriverUp { driver: String, since: Timestamp },
}

#[derive(Debug, Default)]
pub(super) struct Shortages {
    leases: BTreeMap<LeaseId, Shortage>,
    feeds: Vec<Shortage>,
    /// What was logged last, by lease.
    told: BTreeMap<LeaseId, (FeedId, Watts)>,
}

/// A change of a figure by no more than a twentieth, or by no more than a kilowatt, is not logged
/// again.
const NEWS: (i64, Watts) = (20, Watts(1000));
/// How often it is logged at most that sessions of no group wait.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// How many machines were logged last, and when that was.
#[derive(Debug, Default)]
pub(super) struct Told(u32, Option<Instant>);

impl Told {
    /// Whether `count` is to be logged now. Then it counts as logged.
    fn is_news(&mut self, count: u32, now: Instant) -> bool {
        let Self(told, since) = *self;
        let is_news = match (told, count) {
            (0, 0) => false,
            (0, _) | (_, 0) => true,
            _ => count >= told.saturating_mul(2),
        };
        if !is_news || since.is_some_and(|at| now.saturating_duration_since(at) < TELL_EVERY) {
            return false;
        }
        *self = Self(count, Some(now));
        true
    }
}

impl Core {
    /// Computes the shortages of leases and feeds under the plan just made.
    pub(super) fn find_shortages(&mut self) {
        let Some(wall) = self.plan.as_ref().map(|plan| plan.made_at) else { return };
        let fleet = self.fleet_for_shortages();
        let supply = Supply::new(&self.policy.facility, &fleet, &self.selection);
        let mut leases = supply.shortages(&self.leases, wall);
        for (id, short) in &mut leases {
            let before = self.shortages.leases.get(id);
            short.known_since = before.and_then(|before| before.known_since).or(Some(wall));
            // A shortage that has already begun keeps its beginning, although the new plan starts
            // now.
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
            // Leases that begin at the same instant are planned one by one, so the last figure
            // includes all of them.
            match feeds.iter_mut().find(same) {
                Some(other) => *other = short,
                None => feeds.push(short),
            }
        }
        self.shortages.leases = leases;
        self.shortages.feeds = feeds;
    }

    /// Logs what has changed. In the first seconds after a start nothing is logged, because
    /// machines that have not reported yet are not missing.
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

    /// Logs that machines wait for work: those that no group claims, and newcomers. Anybody can open
    /// sessions, so that each is said once a minute at most, and again only for twice as many.
    pub(super) fn tell_waiting(&mut self, now: Instant, outputs: &mut Outputs) {
        let waiting = self.inventory.last_fleet().population.waiting;
        if self.waiting_told.is_news(waiting, now) {
            let mut machines = if waiting > 0 { self.inventory.waiting() } else { Vec::new() };
            machines.sort_unstable();
            outputs.notices.push(Notice::Unassigned(machines.iter().collect()));
        }
        let newcomers = self.inventory.newcomers();
        let count = u32::try_from(newcomers.len()).unwrap_or(u32::MAX);
        if self.newcomers_told.is_news(count, now) {
            outputs.notices.push(Notice::Newcomers(newcomers.keys().collect()));
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

    /// Returns what `lease` would lack beside the committed leases, and which of these would lack
    /// more than they do now.
    pub(super) fn shortages_with(
        &self,
        lease: &Lease,
        wall: Timestamp,
    ) -> (Option<Shortage>, Vec<ShortLease>) {
        let fleet = self.fleet_for_shortages();
        let supply = Supply::new(&self.policy.facility, &fleet, &self.selection);
        let promised = self.promised();
        let others = promised.iter().map(|other| &**other).filter(|other| other.id != lease.id);
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
