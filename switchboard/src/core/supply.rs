//! Feeds that have lost their power: what is seen of them, what goes on record, and what follows for
//! permits and places. Whether a feed is dead is decided by [`crate::blackout`].

use std::time::{Duration, Instant};

use directive::{FeedId, MachineId, Watts};
use jiff::Timestamp;

use super::load::Readings;
use super::{Core, Withheld};
use crate::blackout::{Blackouts, FeedSupply, Seen};
use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::ledger::Event;
use crate::plausible::Judging;
use crate::policy::Policy;
use crate::view::{DeadFeedView, SupplyView};

/// The supply of the feeds.
#[derive(Debug)]
pub(super) struct Supplies {
    blackouts: Blackouts,
    /// Whether what is on record was taken over.
    has_begun: bool,
    /// Whether the machines of feeds that were dead before the start may still have places: the former
    /// process may have ended before it recorded that they lost them.
    checks_places: bool,
}

impl Supplies {
    /// Nothing was seen.
    pub(super) fn new(feeds: &Feeds) -> Self {
        Self { blackouts: Blackouts::new(feeds), has_begun: false, checks_places: false }
    }
}

impl Core {
    /// Finds which feeds have lost their power, or have it again, and puts it on record.
    pub(super) fn see_supply(&mut self, readings: &Readings, wall: Timestamp, now: Instant) {
        let policy = self.policy.clone();
        let feeds = policy.facility.feeds();
        if !std::mem::replace(&mut self.supplies.has_begun, true) {
            self.supplies.blackouts.restore(feeds, self.state.dead.values(), now);
            self.supplies.checks_places = true;
        }
        let seen = PerFeed::each(feeds, |feed| {
            let meter = feeds[feed].meter.as_ref()?;
            Some(Seen {
                metered: readings.samples[feed].map(|(watts, _)| watts),
                leased: self.sums.leased(feed),
                is_mute: self.inventory.is_mute(&policy, meter, now),
                is_believed: self.is_believed(feed),
                band: policy.facility.band(feed),
            })
        });
        let (inventory, states) = (&self.inventory, &self.states);
        let changes = self.supplies.blackouts.look(
            feeds,
            &seen,
            |froms| inventory.count_present(&policy, froms, |id| states.contains_key(id)),
            policy.reclose_settle,
            (wall, now),
        );
        for change in changes.iter().filter(|change| change.to == FeedSupply::Dead) {
            if let Some(feed) = feeds.number(&change.feed) {
                self.take_places(feed);
            }
        }
        // By now, machines have been reported that work.
        if self.supplies.checks_places && !self.is_young(now) {
            self.supplies.checks_places = false;
            let dead = |feed: &FeedNumber| {
                let blackouts = &self.supplies.blackouts;
                blackouts.cause(feeds, *feed) == Some(*feed)
                    && blackouts.supply(feeds, *feed) == FeedSupply::Dead
            };
            let dead: Vec<FeedNumber> = feeds.numbers().filter(dead).collect();
            dead.into_iter().for_each(|feed| self.take_places(feed));
        }
        if !changes.is_empty() {
            self.note(Event::SupplyChanged { feeds: changes }, self.schedule);
        }
    }

    /// The machines at and below `feed` lose their places in the permitted set, but for those that work:
    /// they come back as newcomers, by the up ramp.
    fn take_places(&mut self, feed: FeedNumber) {
        let facility = &self.policy.facility;
        let is_below = |machine: &&MachineId| {
            let group = self.inventory.group(&self.policy, machine);
            let home = group.map(|group| facility.group_feed(group));
            home.is_some_and(|home| facility.feeds().path(home).contains(&feed))
        };
        let below: Vec<MachineId> =
            self.inventory.permitted().iter().filter(is_below).cloned().collect();
        below.iter().for_each(|machine| self.inventory.take_back(machine));
    }

    /// Why nothing may be raised at `feed`, if that is because it has no power, or may have none.
    pub(super) fn without_power(&self, feed: FeedNumber) -> Option<Withheld> {
        let feeds = self.policy.facility.feeds();
        let fallen = || {
            let path = feeds.path(feed).iter();
            path.copied().find(|above| self.supplies.blackouts.has_fallen(*above))
        };
        self.why_dead(feed)
            .or_else(|| fallen().map(|above| Withheld::MeterFell(feeds[above].id.clone())))
    }

    /// Why nothing may be raised at `feed`, if that is because it is dead or reclosing, or one above it.
    pub(super) fn why_dead(&self, feed: FeedNumber) -> Option<Withheld> {
        let feeds = self.policy.facility.feeds();
        let blackouts = &self.supplies.blackouts;
        let cause = blackouts.cause(feeds, feed)?;
        let (since, _) = self.loss(cause)?;
        let feed = feeds[cause].id.clone();
        Some(match blackouts.supply(feeds, cause) {
            FeedSupply::Reclosing => Withheld::FeedReclosing { feed, since },
            _ => Withheld::FeedDead { feed, since },
        })
    }

    /// Whether what each meter shows says nothing of the usual load of its feed.
    pub(super) fn affected_by_loss(&self) -> PerFeed<bool> {
        self.supplies.blackouts.is_affected(self.policy.facility.feeds())
    }

    /// How the meter of `feed` is judged.
    pub(super) fn judging(&self, feed: FeedNumber) -> Judging {
        let blackouts = &self.supplies.blackouts;
        if blackouts.cause(self.policy.facility.feeds(), feed).is_some() {
            Judging::Rests
        } else if blackouts.may_be_dead(feed) {
            Judging::Waits
        } else {
            Judging::Usual
        }
    }

    /// What comes back at each feed with the power of feeds below it, beside what leases reserve there.
    pub(super) fn missing_power(&self, wall: Timestamp, now: Instant) -> PerFeed<Watts> {
        let feeds = self.policy.facility.feeds();
        self.supplies.blackouts.missing(feeds, |feed| {
            let meter = feeds[feed].meter.as_ref();
            let metered = meter.and_then(|meter| self.inventory.metered(meter, wall, now));
            let metered = metered.map(|(watts, _)| watts).unwrap_or_default();
            metered.saturating_sub(self.sums.leased(feed))
        })
    }

    fn loss(&self, feed: FeedNumber) -> Option<(Timestamp, Option<Duration>)> {
        let (_, now) = self.at?;
        self.supplies.blackouts.loss(feed, self.policy.reclose_settle, now)
    }

    /// The supply of `feed`, for people.
    pub(super) fn supply_view(&self, feed: FeedNumber) -> SupplyView {
        let feeds = self.policy.facility.feeds();
        let cause = self.supplies.blackouts.cause(feeds, feed);
        let loss = cause.and_then(|cause| Some((cause, self.loss(cause)?)));
        let Some((cause, (since, rest))) = loss else { return SupplyView::default() };
        let until = rest.zip(self.at).and_then(|(rest, (wall, _))| wall.checked_add(rest).ok());
        SupplyView {
            state: self.supplies.blackouts.supply(feeds, feed),
            feed: Some(feeds[cause].id.clone()),
            since: Some(since),
            until,
        }
    }

    /// The supply of each feed.
    pub fn feed_supplies(&self) -> impl Iterator<Item = (&FeedId, FeedSupply)> {
        let feeds = self.policy.facility.feeds();
        let supply = |feed: FeedNumber| self.supplies.blackouts.supply(feeds, feed);
        feeds.numbers().map(move |feed| (&feeds[feed].id, supply(feed)))
    }

    /// The feeds that have lost their power while the feeds above them have theirs.
    pub(super) fn dead_feeds(&self) -> Vec<DeadFeedView> {
        let feeds = self.policy.facility.feeds();
        let blackouts = &self.supplies.blackouts;
        let own = feeds.numbers().filter(|feed| blackouts.cause(feeds, *feed) == Some(*feed));
        own.filter_map(|feed| {
            let SupplyView { state, since, until, .. } = self.supply_view(feed);
            Some(DeadFeedView { feed: feeds[feed].id.clone(), state, since: since?, until })
        })
        .collect()
    }

    /// What is known of the supply of feeds under a new policy.
    pub(super) fn carried_supplies(&self, policy: &Policy) -> Supplies {
        let (former, feeds) = (self.policy.facility.feeds(), policy.facility.feeds());
        let Supplies { has_begun, checks_places, .. } = self.supplies;
        let blackouts = self.supplies.blackouts.carried(former, feeds);
        Supplies { blackouts, has_begun, checks_places }
    }
}
