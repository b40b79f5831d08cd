//! Which cohorts are at and below each feed.

use super::Cohort;
use crate::facility::{FeedNumber, Feeds, PerFeed};

/// The cohorts at and below each feed, in the order in which they go.
#[derive(Debug)]
pub(super) struct Below {
    /// The cohorts of one feed after those of another.
    cohorts: Vec<u32>,
    /// Which of them are those of each feed: from and to.
    ranges: PerFeed<(usize, usize)>,
}

impl Below {
    pub(super) fn new(feeds: &Feeds, cohorts: &[Cohort]) -> Self {
        let mut ranges = PerFeed::all(feeds, (0, 0));
        let paths = || cohorts.iter().zip(0_u32..).map(|(c, number)| (feeds.path(c.feed), number));
        paths().flat_map(|(path, _)| path).for_each(|&feed| ranges[feed].1 += 1);
        let mut total = 0;
        for feed in feeds.numbers() {
            let count = ranges[feed].1;
            ranges[feed] = (total, total);
            total += count;
        }
        let mut below = vec![0; total];
        for (path, number) in paths() {
            for &feed in path {
                let (_, to) = &mut ranges[feed];
                below[*to] = number;
                *to += 1;
            }
        }
        Self { cohorts: below, ranges }
    }

    pub(super) fn of(&self, feed: FeedNumber) -> &[u32] {
        let (from, to) = self.ranges[feed];
        &self.cohorts[from..to]
    }
}
