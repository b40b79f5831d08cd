//! The guard table, indexed: feeds and machines by number, the way from each feed to its root, and
//! the machines at and below each feed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use directive::{
    FeedId, GuardFeed, GuardTable, GuardedTime, MachineId, MeterId, ReceiverId, UsableChange, Watts,
};
use jiff::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Table {
    source: Option<Arc<GuardTable>>,
    feeds: Vec<Feed>,
    feed_numbers: HashMap<FeedId, usize>,
    /// The feeds of each meter, parents before children.
    metered: BTreeMap<MeterId, Vec<usize>>,
    /// The machines, in the order in which they go off.
    machines: Vec<Entry>,
    machine_numbers: HashMap<MachineId, usize>,
    /// For each feed that is guarded here, the machines at and below it, in order.
    below: Vec<Vec<usize>>,
    /// The feeds that may carry more at one time than at another.
    dated: Vec<usize>,
}

/// A feed of the table, with its limits made plausible.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) id: FeedId,
    /// The number of the feed above it, which is lower than its own.
    pub(super) parent: Option<usize>,
    /// Whether this agent guards the feed.
    pub(super) owned: bool,
    pub(super) meter: Option<MeterId>,
    /// What it may carry now.
    pub(super) usable: Watts,
    pub(super) rating: Watts,
    pub(super) band: Watts,
    /// The level at which a tripped feed counts as within its limit again.
    pub(super) clear: Watts,
    /// What it may carry before the first of `changes`.
    first: Watts,
    /// In order of time.
    changes: Vec<UsableChange>,
    pub(super) after: u32,
    pub(super) lag: Duration,
    pub(super) stale_after: Duration,
}

impl Feed {
    fn usable_at(&self, at: Timestamp) -> Watts {
        let next = self.changes.partition_point(|change| change.from <= at);
        next.checked_sub(1).map_or(self.first, |last| self.changes[last].usable)
    }
}

/// A machine of the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: MachineId,
    /// The number of the lowest feed that carries it.
    pub(super) feed: usize,
    /// The number of its cohort in the table.
    pub(super) cohort: usize,
    pub(super) frees: Watts,
    pub(super) sheds: Duration,
    pub(super) restores: Duration,
    /// Whether this agent guards a feed on its way to the root.
    pub(super) watched: bool,
}

/// The longest time of a table that is taken at its word.
const TIME_MAX: Duration = Duration::from_secs(86_400);
const NONE: &[usize] = &[];

impl Table {
    /// Indexes a table for the agent `own`. A feed that is listed twice counts once, and so does a
    /// machine. A feed whose parent does not come before it is a root. Machines at a feed that is
    /// not in the table are left out.
    pub(super) fn new(source: Arc<GuardTable>, own: &ReceiverId) -> Self {
        let mut table = Self::default();
        for feed in &source.feeds {
            table.add_feed(feed, own);
        }
        table.below = vec![Vec::new(); table.feeds.len()];
        for (number, cohort) in source.cohorts.iter().enumerate() {
            let Some(feed) = table.feed(&cohort.feed) else { continue };
            let watched = table.above(feed).any(|above| table.feeds[above].owned);
            for id in &cohort.machines {
                table.add_machine(Entry {
                    id: id.clone(),
                    feed,
                    cohort: number,
                    frees: cohort.frees.max(Watts::ZERO),
                    sheds: millis(cohort.sheds_within_ms),
                    restores: millis(cohort.restores_within_ms),
                    watched,
                });
            }
        }
        table.source = Some(source);
        table
    }

    fn add_feed(&mut self, feed: &GuardFeed, own: &ReceiverId) {
        if self.feed_numbers.contains_key(&feed.feed) {
            return;
        }
        let number = self.feeds.len();
        let band = feed.band.max(Watts::ZERO);
        let mut changes = feed.changes.clone();
        changes.sort_by_key(|change| change.from);
        let most = changes.iter().map(|change| change.usable).max().unwrap_or(feed.usable);
        if !changes.is_empty() {
            self.dated.push(number);
        }
        self.feeds.push(Feed {
            id: feed.feed.clone(),
            parent: feed.parent.as_ref().and_then(|parent| self.feed(parent)),
            owned: feed.owner.as_ref() == Some(own),
            meter: feed.meter.clone(),
            usable: feed.usable,
            rating: feed.rating.max(feed.usable).max(most),
            band,
            clear: feed.usable - Watts(band.0 / 2),
            first: feed.usable,
            changes,
            after: feed.after.max(1),
            lag: millis(feed.lag_ms),
            stale_after: millis(feed.stale_after_ms),
        });
        self.feed_numbers.insert(feed.feed.clone(), number);
        if let Some(meter) = &feed.meter {
            self.metered.entry(meter.clone()).or_default().push(number);
        }
    }

    fn add_machine(&mut self, entry: Entry) {
        if self.machine_numbers.contains_key(&entry.id) {
            return;
        }
        let number = self.machines.len();
        if entry.watched {
            let above: Vec<usize> = self.above(entry.feed).collect();
            for feed in above.into_iter().filter(|feed| self.feeds[*feed].owned) {
                self.below[feed].push(number);
            }
        }
        self.machine_numbers.insert(entry.id.clone(), number);
        self.machines.push(entry);
    }

    /// Whether some feed may carry more at one time than at another.
    pub(super) fn is_dated(&self) -> bool {
        !self.dated.is_empty()
    }

    /// Has each feed carry what it may at `time`: a lower limit holds as soon as one clock says so, and a
    /// higher one when both do. While the wall clock is stepped, that is the lower of the limits at both
    /// times.
    pub(super) fn advance(&mut self, time: GuardedTime) {
        for &number in &self.dated {
            let feed = &mut self.feeds[number];
            feed.usable = feed.usable_at(time.later).min(feed.usable_at(time.steady));
            feed.clear = feed.usable - Watts(feed.band.0 / 2);
        }
    }

    pub(super) fn source(&self) -> Option<&Arc<GuardTable>> {
        self.source.as_ref()
    }

    pub(super) fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    pub(super) fn feed(&self, id: &FeedId) -> Option<usize> {
        self.feed_numbers.get(id).copied()
    }

    /// The feed and those above it, up to the root.
    pub(super) fn above(&self, feed: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(feed), |feed| self.feeds[*feed].parent)
    }

    /// The feeds of a meter, parents before children.
    pub(super) fn metered(&self, meter: &MeterId) -> &[usize] {
        self.metered.get(meter).map_or(NONE, Vec::as_slice)
    }

    pub(super) fn machines(&self) -> &[Entry] {
        &self.machines
    }

    pub(super) fn machine(&self, id: &MachineId) -> Option<usize> {
        self.machine_numbers.get(id).copied()
    }

    /// The machines at and below a feed that is guarded here, in the order in which they go off.
    pub(super) fn below(&self, feed: usize) -> &[usize] {
        &self.below[feed]
    }

    pub(super) fn ramp_per_min(&self) -> Option<Watts> {
        self.source.as_ref().and_then(|table| table.ramp_per_min)
    }

    pub(super) fn step_max(&self) -> Option<Watts> {
        self.source.as_ref().and_then(|table| table.step_max)
    }

    pub(super) fn suspect_max_pct(&self) -> u8 {
        self.source.as_ref().map_or(0, |table| table.suspect_max_pct.min(100))
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis).min(TIME_MAX)
}
