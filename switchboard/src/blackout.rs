//! Which feeds have lost their power. A meter that shows nothing looks like room for everything, so a
//! feed is *dead* when two independent signs agree within a short time: its meter has fallen to almost
//! nothing (or silent, as one does that the feed itself supplies), and the machines below it that had
//! work have neither a session nor a device that answers. One sign alone means something else: a
//! network link that is cut takes sessions and no watts; a lease or a guard takes watts, and its
//! machines still answer; a meter that is off by a thousand shows nothing while machines work.
//!
//! A feed that has its power again is *reclosing* until what its meter shows has been steady for a
//! while: houses, tenants and machines come back together, and nothing may be raised meanwhile.
//!
//! A feed without a meter is never dead by itself, because nothing shows that its power is gone.
//!
//! Pure: samples, counts of machines and the time go in, changes come out. What follows for permits,
//! places and plans is left to [`crate::core`].

mod settling;
mod single;
mod usual;

use std::time::{Duration, Instant};

use directive::{FeedId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facility::{FeedNumber, Feeds, PerFeed};
use single::{FALLEN, Feed, Found};

/// Whether a feed has power.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FeedSupply {
    /// Nothing shows that its power is gone.
    #[default]
    Live,
    /// It has lost its power.
    Dead,
    /// It has power again, and nothing is raised before it has been steady for a while.
    Reclosing,
}

impl FeedSupply {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Dead => "dead",
            Self::Reclosing => "reclosing",
        }
    }
}

/// A change of a feed's supply, with what is needed to go on with it after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplyChange {
    pub feed: FeedId,
    pub to: FeedSupply,
    /// Since when the feed is, or was, without power.
    pub since: Timestamp,
    /// What its meter showed on average in the minute before.
    pub before: Watts,
    /// The part of it that no tenant's own meter showed.
    pub own_before: Watts,
    /// The machines that had work then and were not to be off.
    pub machines: u32,
    /// The highest dead or reclosing feed above it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<FeedId>,
}

/// What one look shows of one feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The newest sample of its meter that counts.
    pub(crate) metered: Option<Watts>,
    /// The part of it that tenants' own meters show.
    pub(crate) leased: Watts,
    /// Whether the meter itself is silent. It may also have no sample that counts because nobody is
    /// heard who reads it, or by a wrong clock.
    pub(crate) is_mute: bool,
    /// Whether what it showed last counts as the usual load.
    pub(crate) is_believed: bool,
    /// A reading whose mean does not rise by more than this is steady.
    pub(crate) band: Watts,
}

impl Seen {
    /// What its meter shows without what tenants' own meters show.
    fn own(&self) -> Option<Watts> {
        self.metered.map(|metered| metered.saturating_sub(self.leased))
    }
}

/// The machines at and below a feed, counted over the time from an instant until now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Machines {
    /// Those that had work at some time in it and are not to be off.
    pub(crate) worked: u32,
    /// What those draw together, by the figures of the policy.
    pub(crate) draws: Watts,
    /// Those of them that have no work now.
    pub(crate) stopped: u32,
    /// Those of them that show themselves neither by a session nor by a device that was read since the
    /// feed fell.
    pub(crate) gone: u32,
    /// Those of the gone ones whose devices were not read since: they may still answer.
    pub(crate) awaited: u32,
    /// Those of them that worked, or whose devices answered, when somebody was heard last who knows them.
    pub(crate) unheard: u32,
    /// All that show themselves now, also those that are to be off.
    pub(crate) shown: u32,
}

/// From when on the machines at and below a feed are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counting {
    /// A machine that had work at this time or later counts.
    pub(crate) from: Instant,
    /// When the feed fell: what a device said before says nothing.
    pub(crate) fell: Instant,
}

/// The supply of all feeds.
#[derive(Debug, Default)]
pub(crate) struct Blackouts {
    feeds: PerFeed<Feed>,
    /// For each feed with a meter, the next feeds below it that have one.
    below: PerFeed<Vec<FeedNumber>>,
    /// Whether some feed has lost its power, or may have: else nothing follows at any feed.
    is_lost: bool,
}

/// A meter over nothing shows at most this part of what it showed before.
const NOTHING: f64 = 0.002;

impl Blackouts {
    /// Every feed has power.
    pub(crate) fn new(feeds: &Feeds) -> Self {
        let mut below = PerFeed::all(feeds, Vec::new());
        for feed in feeds.numbers().filter(|feed| feeds[*feed].meter.is_some()) {
            let mut above = feeds.path(feed).iter().skip(1).copied();
            if let Some(parent) = above.find(|above| feeds[*above].meter.is_some()) {
                below[parent].push(feed);
            }
        }
        Self { feeds: PerFeed::all(feeds, Feed::default()), below, is_lost: false }
    }

    /// Whether all feeds have power, as far as meters show.
    pub(crate) fn are_live(&self) -> bool {
        !self.is_lost
    }

    /// Notes whether some feed has lost its power. To be called after each change of a feed.
    fn note_lost(&mut self) {
        self.is_lost = self.feeds.iter().any(|feed| !feed.is_live());
    }

    /// Goes on, after a start, with the losses of power that are on record. Returns what takes those from
    /// the record that the policy has no feed with a meter for.
    pub(crate) fn restore<'a>(
        &mut self,
        feeds: &Feeds,
        changes: impl IntoIterator<Item = &'a SupplyChange>,
        now: Instant,
    ) -> Vec<SupplyChange> {
        let mut dropped = Vec::new();
        for change in changes {
            let feed = feeds.number(&change.feed);
            match feed.filter(|feed| feeds[*feed].meter.is_some()) {
                Some(feed) => self.feeds[feed] = Feed::restored(change, now),
                None => dropped.push(SupplyChange { to: FeedSupply::Live, ..change.clone() }),
            }
        }
        self.note_lost();
        dropped
    }

    /// What takes the losses of power from the record that `carried`, under a new policy, does not have any
    /// more: their feeds were dropped or renamed, or have other meters.
    pub(crate) fn dropped(
        &self,
        former: &Feeds,
        feeds: &Feeds,
        carried: &Self,
    ) -> Vec<SupplyChange> {
        let is_carried = |feed: FeedNumber| {
            let same = feeds.number(&former[feed].id);
            same.is_some_and(|same| carried.feeds[same].recorded().is_some())
        };
        let lost = former.numbers().filter(|feed| !is_carried(*feed));
        lost.filter_map(|feed| {
            let loss = self.feeds[feed].recorded()?;
            Some(loss.change(former[feed].id.clone(), FeedSupply::Live, None))
        })
        .collect()
    }

    /// Carries over what is known of the feeds that have the same meter under a new policy.
    pub(crate) fn carried(&self, former: &Feeds, feeds: &Feeds) -> Self {
        let mut carried = Self::new(feeds);
        for feed in feeds.numbers() {
            let same = former.number(&feeds[feed].id);
            if let Some(same) = same.filter(|same| former[*same].meter == feeds[feed].meter) {
                carried.feeds[feed] = self.feeds[same].clone();
            }
        }
        carried.note_lost();
        carried
    }

    /// The supply of `feed`: a dead feed takes those below it with it.
    pub(crate) fn supply(&self, feeds: &Feeds, feed: FeedNumber) -> FeedSupply {
        self.cause(feeds, feed).map_or(FeedSupply::Live, |cause| self.feeds[cause].supply())
    }

    /// The highest feed from `feed` upward that is dead; if none is, the highest that is reclosing.
    pub(crate) fn cause(&self, feeds: &Feeds, feed: FeedNumber) -> Option<FeedNumber> {
        if self.are_live() {
            return None;
        }
        let highest = |supply: FeedSupply| {
            let path = feeds.path(feed).iter().rev().copied();
            path.into_iter().find(|above| self.feeds[*above].supply() == supply)
        };
        highest(FeedSupply::Dead).or_else(|| highest(FeedSupply::Reclosing))
    }

    /// Since when `feed` itself, whatever is above it, has had no power, and for how much longer it must
    /// be steady: `None` while that has not begun.
    pub(crate) fn loss(
        &self,
        feed: FeedNumber,
        settle: Duration,
        now: Instant,
    ) -> Option<(Timestamp, Option<Duration>)> {
        self.feeds[feed].loss(settle, now)
    }

    /// Whether the meter of `feed` has just fallen to almost nothing, so that the feed may be dead.
    pub(crate) fn has_fallen(&self, feed: FeedNumber) -> bool {
        self.feeds[feed].has_fallen()
    }

    /// Whether the meter of `feed` has just fallen and most of its machines have stopped: it is too soon
    /// to say that the meter is wrong.
    pub(crate) fn may_be_dead(&self, feed: FeedNumber) -> bool {
        self.feeds[feed].may_be_dead()
    }

    /// The highest feed from `feed` upward that has lost its power, or may have: what meters show there and
    /// below says nothing of the usual load.
    pub(crate) fn lost_with(&self, feeds: &Feeds, feed: FeedNumber) -> Option<FeedNumber> {
        if self.are_live() {
            return None;
        }
        let path = feeds.path(feed).iter().rev().copied();
        path.into_iter().find(|above| self.feeds[*above].lost().is_some())
    }

    /// What the meter of `feed` showed before without what tenants' own meters showed, if the feed has lost
    /// its power, or may have.
    pub(crate) fn own_before(&self, feed: FeedNumber) -> Option<Watts> {
        self.feeds[feed].lost().map(|level| level.own)
    }

    /// What each feed carries less because feeds below it have no power: it comes back with the power.
    /// What tenants' own meters showed is left out. `own` is what the meter of a feed shows now without
    /// what tenants' own meters show.
    pub(crate) fn missing(
        &self,
        feeds: &Feeds,
        own: impl Fn(FeedNumber) -> Watts,
    ) -> PerFeed<Watts> {
        let mut missing = PerFeed::all(feeds, Watts::ZERO);
        for feed in feeds.numbers() {
            // What is lost with a feed above is counted there.
            let level = self.own_before(feed).filter(|_| self.lost_with(feeds, feed) == Some(feed));
            let Some(level) = level else { continue };
            let less = level.saturating_sub(own(feed));
            feeds.path(feed).iter().skip(1).for_each(|above| missing[*above] += less);
        }
        missing
    }

    /// Takes what is seen at `now`. `seen` gives `None` for a feed without a meter; `count` counts the
    /// machines of each feed that is given.
    pub(crate) fn look(
        &mut self,
        feeds: &Feeds,
        seen: &PerFeed<Option<Seen>>,
        count: impl FnOnce(&PerFeed<Option<Counting>>) -> PerFeed<Machines>,
        settle: Duration,
        (wall, now): (Timestamp, Instant),
    ) -> Vec<SupplyChange> {
        for feed in feeds.numbers() {
            if let Some(seen) = &seen[feed] {
                self.feeds[feed].note(seen, wall, now);
            }
        }
        self.note_lost();
        if self.are_live() {
            return Vec::new();
        }
        let froms = PerFeed::each(feeds, |feed| {
            self.feeds[feed].counts_from(&seen[feed].unwrap_or_default(), now)
        });
        if froms.iter().all(Option::is_none) {
            return Vec::new();
        }
        let machines = count(&froms);
        let mut found = Vec::new();
        for feed in feeds.numbers().filter(|feed| froms[*feed].is_some()) {
            let has_live_below = self.has_live_below(feed, seen, now);
            let seen = seen[feed].unwrap_or_default();
            let change = self.feeds[feed].turn(&seen, machines[feed], has_live_below, settle, now);
            found.extend(change.map(|change| (feed, change)));
        }
        let change = |(feed, Found { to, loss }): (FeedNumber, Found)| {
            let mut above = feeds.path(feed).iter().skip(1).rev().copied();
            let with = above.find(|above| self.feeds[*above].supply() != FeedSupply::Live);
            loss.change(feeds[feed].id.clone(), to, with.map(|above| feeds[above].id.clone()))
        };
        let changes = found.into_iter().map(change).collect();
        self.note_lost();
        changes
    }

    /// Whether silence of the meter of `feed` would mean anything now.
    pub(crate) fn minds_silence(&self, feed: FeedNumber, now: Instant) -> bool {
        self.feeds[feed].minds_silence(now)
    }

    /// Whether a meter below `feed` shows that its feed has power. Until it is read again, its sample from
    /// before counts, too.
    fn has_live_below(&self, feed: FeedNumber, seen: &PerFeed<Option<Seen>>, now: Instant) -> bool {
        self.below[feed].iter().any(|&below| {
            let shown = seen[below].filter(|seen| seen.is_believed).and_then(|seen| seen.metered);
            shown.is_some_and(|watts| self.feeds[below].shows_power(watts, now))
        }) || self.shows_own_load(feed, seen)
    }

    /// Whether the meter of `feed` shows what is drawn between it and the meters below it, as before: then
    /// its fall is that of the feeds below.
    fn shows_own_load(&self, feed: FeedNumber, seen: &PerFeed<Option<Seen>>) -> bool {
        let shown = |feed: FeedNumber| seen[feed].and_then(|seen| seen.metered);
        let (Some(level), Some(watts)) = (self.feeds[feed].lost(), shown(feed)) else {
            return false;
        };
        let fallen = self.below[feed].iter().filter_map(|&below| {
            Some((self.feeds[below].lost()?.all, shown(below).unwrap_or_default()))
        });
        let (before, now) = fallen
            .fold((Watts::ZERO, Watts::ZERO), |(before, now), (lost, left)| {
                (before + lost, now + left)
            });
        let (before, now) = (level.all.saturating_sub(before), watts.saturating_sub(now));
        now > before.scale(FALLEN) && now > level.all.scale(NOTHING)
    }
}

#[cfg(test)]
mod tests;
