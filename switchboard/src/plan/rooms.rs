//! The power that the plan leaves for mining, by feed and interval.

use std::fmt;

use directive::{FeedId, Watts};
use jiff::Timestamp;

use crate::facility::PerFeed;

/// The power left for mining at one feed over one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub feed: FeedId,
    pub from: Timestamp,
    pub to: Timestamp,
    /// The power of leases at the feed and below it.
    pub committed: Watts,
    /// The power left for mining.
    pub left: Watts,
    /// The power that mining is planned to draw, including machines that are asleep.
    pub mining: Watts,
}

/// The room at every feed over every interval of a plan. A plan of a large site has tens of thousands
/// of rooms, which are made only for a reader.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rooms {
    feeds: Vec<Unleased>,
    spans: Vec<Span>,
}

/// What does not change at a feed from one interval to the next.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Unleased {
    pub(super) feed: FeedId,
    /// What is usable when the plan begins.
    pub(super) usable: Watts,
    /// The power left for mining then without any lease.
    pub(super) left: Watts,
    /// What the feed's machines draw if all of them mine.
    pub(super) full: Watts,
}

/// The sums at the feeds over one interval.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// The power of leases at each feed and below it.
    pub(super) committed: PerFeed<Watts>,
    /// What machines that are off free at each feed and below it.
    pub(super) freed: PerFeed<Watts>,
    /// What is usable at each feed, if that changes with time.
    pub(super) usable: Option<PerFeed<Watts>>,
}

/// The maximum number of rooms that a plan lists. Further ones are left out; the plan itself is
/// complete.
const ROOMS: usize = 20_000;

impl Rooms {
    pub(super) fn new(feeds: Vec<Unleased>) -> Self {
        Self { feeds, spans: Vec::new() }
    }

    /// Whether the rooms of one more interval are listed.
    pub(super) fn takes_more(&self) -> bool {
        (self.spans.len() + 1) * self.feeds.len() <= ROOMS
    }

    pub(super) fn push(&mut self, span: Span) {
        self.spans.push(span);
    }

    /// The rooms in order of time, and within an interval in the order of the feeds.
    pub fn iter(&self) -> impl Iterator<Item = Room> {
        self.spans.iter().flat_map(|span| {
            let sums = span.committed.iter().zip(span.freed.iter());
            let usable = span.usable.iter().flat_map(PerFeed::iter).copied().map(Some);
            let usable = usable.chain(std::iter::repeat(None));
            let feeds = self.feeds.iter().zip(sums).zip(usable);
            feeds.map(|((of, (&committed, &freed)), usable)| Room {
                feed: of.feed.clone(),
                from: span.from,
                to: span.to,
                committed,
                left: of.left + (usable.unwrap_or(of.usable) - of.usable) - committed,
                mining: of.full - freed,
            })
        })
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
