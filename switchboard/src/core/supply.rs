//! Feeds that have lost their power: what is seen of them, what goes on record, and what follows for
//! permits and places. Whether a feed is dead is decided by [`crate::blackout`].

use std::time::{Duration, Instant};

use directive::{FeedId, MachineId, Watts};
use jiff::Timestamp;

use super::load::Readings;
use super::{Core, Withheld};
use crate::blackout::{Blackouts, FeedSupply, Seen, SupplyChange};
use crate::facility::{FeedNumber, Feeds, PerFeed};
use crate::ledger::Event;
use crate::plan::Fleet;
use crate::plausible::Judging;
use crate::policy::Policy;
use crate::view::{DeadFeedView, SupplyView};

/// The supply of the feeds.
#[derive(Debug)]
pub(super) struct Supplies {
    blackouts: Blackouts,
    /// Whether what is on record was taken over.
    has_begun: bool,
    /// When places were taken last.
    places_taken_at: Option<Instant>,
    /// Since when each feed is live that had no power before.
    live_since: PerFeed<Option<Instant>>,
    /// The feeds whose machines cannot be blamed for not answering.
    excused: PerFeed<bool>,
    /// Whether these are others than at the last call of [`Core::has_excused_others`].
    excuses_others: bool,
}

/// While a feed is dead, places are taken at most this often.
const TAKE_PLACES_EVERY: Duration = Duration::from_secs(1);
/// Machines may need this long to boot and to be read when their feed is live again.
const BOOTS_WITHIN: Duration = Duration::from_mins(3);

impl Supplies {
    /// Nothing was seen.
    pub(super) fn new(feeds: &Feeds) -> Self {
        Self {
            blackouts: Blackouts::new(feeds),
            has_begun: false,
            places_taken_at: None,
            live_since: PerFeed::all(feeds, None),
            excused: PerFeed::all(feeds, false),
            excuses_others: false,
        }
    }
}

impl Core {
    /// Finds which feeds have lost their power, or have it again, and puts it on record.
    pub(super) fn see_supply(&mut self, readings: &Readings, wall: Timestamp, now: Instant) {
        let policy = self.policy.clone();
        let feeds = policy.facility.feeds();
        if !std::mem::replace(&mut self.supplies.has_begun, true) {
            let dropped = self.supplies.blackouts.restore(feeds, self.state.dead.values(), now);
            self.note_supply(dropped, wall);
        }
        self.drop_raises();
        let seen = PerFeed::each(feeds, |feed| {
            let meter = feeds[feed].meter.as_ref()?;
            Some(Seen {
                metered: readings.samples[feed].map(|(watts, _)| watts),
                leased: self.sums.leased(feed),
                is_mute: readings.samples[feed].is_none()
                    && self.supplies.blackouts.minds_silence(feed, now)
                    && self.inventory.is_mute(&policy, meter, now),
                is_believed: self.is_believed(feed),
                band: policy.facility.band(feed),
            })
        });
        let (inventory, states) = (&self.inventory, &self.states);
        let changes = self.supplies.blackouts.look(
            feeds,
            &seen,
            |froms| inventory.count_present(&policy, froms, |id| states.contains_key(id), now),
            policy.reclose_settle,
            (wall, now),
        );
        for change in &changes {
            if let Some(feed) = feeds.number(&change.feed) {
                self.supplies.live_since[feed] = (change.to == FeedSupply::Live).then_some(now);
            }
        }
        let is_new = changes.iter().any(|change| change.to == FeedSupply::Dead);
        if !changes.is_empty() {
            self.drop_raises();
        }
        self.take_places(is_new, now);
        self.excuse(now);
        self.note_supply(changes, self.schedule);
    }

    /// Puts changes of supply on record.
    pub(super) fn note_supply(&mut self, changes: Vec<SupplyChange>, wall: Timestamp) {
        if !changes.is_empty() {
            self.note(Event::SupplyChanged { feeds: changes }, wall);
        }
    }

    /// The machines at and below dead feeds lose their places in the permitted set, but for those that
    /// work: they come back as newcomers, by the up ramp. A session may seem to work for a while after its
    /// machine has lost its power. `at_once`: a feed has just been found dead.
    fn take_places(&mut self, at_once: bool, now: Instant) {
        let facility = &self.policy.facility;
        let (feeds, supplies) = (facility.feeds(), &mut self.supplies);
        if supplies.blackouts.are_live() {
            return;
        }
        let is_due = |at: Instant| now.saturating_duration_since(at) >= TAKE_PLACES_EVERY;
        if !at_once && !supplies.places_taken_at.is_none_or(is_due) {
            return;
        }
        supplies.places_taken_at = Some(now);
        let is_dead = |feed| supplies.blackouts.supply(feeds, feed) == FeedSupply::Dead;
        let dead = PerFeed::each(feeds, is_dead);
        // Soon after a start, machines that work have not been reported yet.
        if !dead.iter().any(|dead| *dead) || (!at_once && self.is_young(now)) {
            return;
        }
        let is_below = |machine: &&MachineId| {
            let group = self.inventory.group(&self.policy, machine);
            group.is_some_and(|group| dead[facility.group_feed(group)])
        };
        let below: Vec<MachineId> =
            self.inventory.permitted().iter().filter(is_below).cloned().collect();
        below.iter().for_each(|machine| self.inventory.take_back(machine));
    }

    /// What was to come back at feeds without power is void.
    fn drop_raises(&mut self) {
        let feeds = self.policy.facility.feeds();
        let blackouts = &self.supplies.blackouts;
        if blackouts.are_live() {
            return;
        }
        let lost = PerFeed::each(feeds, |feed| blackouts.cause(feeds, feed).is_some());
        if lost.iter().any(|lost| *lost) {
            self.raises.drop_without_place(&lost, &self.inventory);
        }
    }

    /// Brings up to date whose machines cannot be blamed for not answering.
    fn excuse(&mut self, now: Instant) {
        let feeds = self.policy.facility.feeds();
        let Supplies { blackouts, live_since, excused, excuses_others, .. } = &mut self.supplies;
        if blackouts.are_live() && !excused.iter().any(|excused| *excused) {
            return;
        }
        let boots = |feed: &FeedNumber| {
            live_since[*feed].is_some_and(|at| now.saturating_duration_since(at) < BOOTS_WITHIN)
        };
        let excused_now = PerFeed::each(feeds, |feed| {
            blackouts.cause(feeds, feed).is_some() || feeds.path(feed).iter().any(boots)
        });
        if excused_now != *excused {
            (*excused, *excuses_others) = (excused_now, true);
        }
    }

    /// Whether other machines than at the last call cannot be blamed for not answering.
    pub(super) fn has_excused_others(&mut self) -> bool {
        std::mem::take(&mut self.supplies.excuses_others)
    }

    /// Has the plan go on with machines that cannot do what they were told because they have no power:
    /// others in their place would have to come back soon.
    pub(super) fn keep_unpowered(&self, fleet: &mut Fleet) {
        let facility = &self.policy.facility;
        let excused = &self.supplies.excused;
        for (group, machines) in fleet.groups.iter_mut().enumerate() {
            if !excused[facility.group_feed(group)] {
                continue;
            }
            for known in machines.iter_mut().filter(|known| known.failing && !known.absent) {
                known.failing = !self.is_unanswered(&known.id);
            }
        }
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

    /// What the meters of feeds above show less because a feed has lost its power, or may have: for each
    /// feed, the difference to what it carried by its own meter. `None` where a meter says nothing of the
    /// usual load: at such a feed and below it, and above one that has just fallen.
    pub(super) fn gone_with_power(
        &self,
        readings: &Readings,
        wall: Timestamp,
        now: Instant,
    ) -> PerFeed<Option<Watts>> {
        let feeds = self.policy.facility.feeds();
        let blackouts = &self.supplies.blackouts;
        let mut gone = PerFeed::all(feeds, Some(Watts::ZERO));
        if blackouts.are_live() {
            return gone;
        }
        for feed in feeds.numbers() {
            let Some(lost) = blackouts.lost_with(feeds, feed) else { continue };
            gone[feed] = None;
            if lost != feed {
                continue;
            }
            // Its meter may be wrong.
            if blackouts.has_fallen(feed) {
                feeds.path(feed).iter().for_each(|above| gone[*above] = None);
                continue;
            }
            // What comes back is what plans reckon with, as long as nothing shows more.
            let less = readings.less[feed];
            let figures = readings.figures[feed] - less.sure - less.possible;
            let (least, most) = match self.corrections.last(feed) {
                Some(last) => (figures + last, readings.figures[feed] + last),
                None => blackouts.own_before(feed).map_or_else(Default::default, |own| (own, own)),
            };
            let own = self.own_metered(feed, wall, now).min(most);
            for &above in feeds.path(feed).iter().skip(1) {
                gone[above] = gone[above].map(|gone| gone + least - own);
            }
        }
        gone
    }

    /// What the meter of `feed` shows without what tenants' own meters show; 0 W if it shows nothing.
    fn own_metered(&self, feed: FeedNumber, wall: Timestamp, now: Instant) -> Watts {
        let meter = self.policy.facility.feeds()[feed].meter.as_ref();
        let metered = meter.and_then(|meter| self.inventory.metered(meter, wall, now));
        let metered = metered.map(|(watts, _)| watts).unwrap_or_default();
        metered.saturating_sub(self.sums.leased(feed))
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
        self.supplies.blackouts.missing(feeds, |feed| self.own_metered(feed, wall, now))
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

    /// What is known of the supply of feeds under a new policy, and what takes from the record what that
    /// policy drops.
    pub(super) fn carried_supplies(&self, policy: &Policy) -> (Supplies, Vec<SupplyChange>) {
        let (former, feeds) = (self.policy.facility.feeds(), policy.facility.feeds());
        let blackouts = self.supplies.blackouts.carried(former, feeds);
        let dropped = self.supplies.blackouts.dropped(former, feeds, &blackouts);
        let has_begun = self.supplies.has_begun;
        (Supplies { blackouts, has_begun, ..Supplies::new(feeds) }, dropped)
    }
}
