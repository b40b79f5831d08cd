//! The facility as the planner sees it: a tree of feeds, groups of machines below them, meters, and
//! the rules of dispatch. Plain data with every name resolved and every limit checked; only the
//! loader creates it.

mod feed;
mod feeds;
mod group;
mod meter;
mod population;

use std::collections::BTreeMap;

use directive::{FeedId, GroupId, MachineId, MeterId, Watts};

pub use crate::policy::{Dispatch, Failsafe, Merit, Ramp};
pub use feed::Feed;
pub(crate) use feeds::{Tree, times};
pub use group::Group;
pub use meter::MeterSpec;
pub use population::Population;

/// A policy that cannot be wrong: what exists, how to decide, what is safe.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub site: String,
    /// The operator's count of edits (`revision`), if the file carries one.
    pub revision: Option<u64>,
    /// SHA-256 of the file as read, hex: the ledger records it with each decision.
    pub digest: String,
    /// The site's time zone, for people; everything inside is UTC.
    pub timezone: jiff::tz::TimeZone,
    /// Watts to count for a session that no group declares.
    pub unassigned: Watts,
    /// The feed that unassigned sessions are counted at.
    pub unassigned_feed: FeedId,
    /// Feeds, parents before children.
    pub feeds: Vec<Feed>,
    /// Groups in the order of the file.
    pub groups: Vec<Group>,
    pub meters: BTreeMap<MeterId, MeterSpec>,
    /// How to choose machines and when to call a shed proven.
    pub dispatch: Dispatch,
    /// How fast load may move.
    pub ramp: Ramp,
    /// What holds when something is lost.
    pub failsafe: Failsafe,
}

impl Policy {
    /// The name of the site's time zone.
    #[must_use]
    pub fn timezone_name(&self) -> &str {
        self.timezone.iana_name().unwrap_or("UTC")
    }

    /// The feed of that name.
    #[must_use]
    pub fn feed(&self, id: &FeedId) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.id == *id)
    }

    /// The feed itself and everything above it, bottom-up.
    #[must_use]
    pub fn path_up(&self, id: &FeedId) -> Vec<&Feed> {
        std::iter::successors(self.feed(id), |feed| {
            feed.parent.as_ref().and_then(|parent| self.feed(parent))
        })
        .collect()
    }

    /// Whether `feed` is `above` or hangs below it.
    #[must_use]
    pub fn is_below(&self, feed: &FeedId, above: &FeedId) -> bool {
        self.path_up(feed).iter().any(|node| node.id == *above)
    }

    /// The group of that name.
    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == *id)
    }

    /// The group that declares `machine`, if one does.
    #[must_use]
    pub fn group_of(&self, machine: &MachineId) -> Option<&Group> {
        self.groups.iter().find(|group| group.claims(machine))
    }
}
