//! What must be off at each feed at one time: the load beyond its usable power, with what leases commit
//! there. [`super::counts`] has it fitted at each time at which it changes.

use std::collections::BTreeMap;

use directive::Watts;
use jiff::Timestamp;

use super::input::Input;
use super::shape::Need;
use crate::facility::{FeedNumber, PerFeed, Population};
use crate::lease::Lease;
use crate::policy::Policy;
use crate::reservation::reservations;

/// What leases commit at each feed.
pub(super) struct Committed<'a> {
    input: &'a Input<'a>,
    watts: PerFeed<Watts>,
    /// How many leases accept machines that can only be starved of work.
    unverified: PerFeed<u32>,
    /// What each lease that runs commits.
    running: BTreeMap<usize, Watts>,
    /// What is usable: the most at any time, until a limit is said to be lower.
    usable: PerFeed<Watts>,
}

impl<'a> Committed<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        let feeds = input.policy.facility.feeds();
        let (watts, unverified) = (PerFeed::all(feeds, Watts::ZERO), PerFeed::all(feeds, 0));
        let usable = PerFeed::each(feeds, |feed| feeds[feed].most_usable());
        Self { input, watts, unverified, running: BTreeMap::new(), usable }
    }

    /// The limit of `feed` is another one from `at` on.
    pub(super) fn limit(&mut self, feed: FeedNumber, at: Timestamp) {
        self.usable[feed] = self.input.policy.facility.feeds()[feed].usable(at);
    }

    /// The lease begins at `at`, or needs more power from then on.
    pub(super) fn begin(&mut self, number: usize, at: Timestamp) {
        let lease = &self.input.leases[number];
        let watts = self.input.reservations[number].at(at);
        let before = self.running.insert(number, watts);
        for &feed in self.input.policy.facility.feeds().path_of(&lease.feed) {
            self.watts[feed] += watts - before.unwrap_or_default();
            self.unverified[feed] += u32::from(lease.accept_unverified && before.is_none());
        }
    }

    pub(super) fn end(&mut self, number: usize) {
        let lease = &self.input.leases[number];
        let watts = self.running.remove(&number).unwrap_or_default();
        for &feed in self.input.policy.facility.feeds().path_of(&lease.feed) {
            self.watts[feed] += Watts(-watts.0);
            self.unverified[feed] -= u32::from(lease.accept_unverified);
        }
    }

    /// Whether the lease commits all that it ever will.
    pub(super) fn has_all(&self, number: usize) -> bool {
        self.running.get(&number) == Some(&self.input.leases[number].gross)
    }

    pub(super) fn need(&self, feed: FeedNumber) -> Need {
        let load = self.input.fixed[feed] + self.watts[feed];
        let (over, target) = wanted_off(self.input.policy, feed, load, self.usable[feed]);
        let starve = self.unverified[feed] > 0 || self.input.starving.contains(&feed);
        Need { over, target, starve }
    }
}

/// How much of `load` at `feed` must be off to keep to `usable`, and how much is planned to be
/// off: for the make-up and the band too.
fn wanted_off(policy: &Policy, feed: FeedNumber, load: Watts, usable: Watts) -> (Watts, Watts) {
    let facility = &policy.facility;
    let over = load.saturating_sub(usable);
    let make_up = 1.0 + policy.dispatch.make_up_pct / 100.0;
    // Machines go for the band too, but where there are too few, nothing is missing yet.
    let with_band = (load + facility.band(feed)).saturating_sub(usable);
    (over, over.scale(make_up).max(with_band))
}

/// The power that is planned to be off at each feed while all of `leases` reserve theirs and each limit
/// is the lowest from `from` until `to`. A lease that takes over power adds only what it needs beyond.
pub(crate) fn wanted<'l>(
    policy: &Policy,
    leases: impl IntoIterator<Item = &'l Lease>,
    population: &Population,
    (from, to): (Timestamp, Timestamp),
) -> PerFeed<Watts> {
    let feeds = policy.facility.feeds();
    let mut load = policy.facility.fixed_load(population);
    let leases: Vec<&Lease> = leases.into_iter().collect();
    for (lease, reservation) in leases.iter().zip(reservations(&leases)) {
        for &feed in feeds.path_of(&lease.feed) {
            load[feed] += reservation.first();
        }
    }
    PerFeed::each(feeds, |feed| {
        let usable = feeds[feed].least_usable_within(from, to);
        wanted_off(policy, feed, load[feed], usable).1
    })
}
