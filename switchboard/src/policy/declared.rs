//! The load that a policy declares at each feed: the house and all machines of the groups, here and
//! below. More than the usable power is not a mistake, because the meter decides what runs, but it
//! causes a warning.

use std::collections::BTreeMap;

use daemon::settings::{Document, Spot};
use directive::{FeedId, Watts};

use crate::facility::{Feed, Group};

/// The load declared at a feed and below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    pub house: Watts,
    pub machines: u64,
    /// The power of the declared machines when all of them hash.
    pub mining: Watts,
}

impl Declared {
    /// House and machines together.
    #[must_use]
    pub fn load(self) -> Watts {
        Watts(self.house.0.saturating_add(self.mining.0))
    }
}

/// Adds up the declared load of each feed. Feeds must come with parents before children.
#[must_use]
pub fn declared(feeds: &[Feed], groups: &[Group]) -> BTreeMap<FeedId, Declared> {
    let mut sums: BTreeMap<FeedId, Declared> = feeds
        .iter()
        .map(|feed| (feed.id.clone(), Declared { house: feed.house, ..Declared::default() }))
        .collect();
    for group in groups {
        if let Some(sum) = sums.get_mut(&group.feed) {
            let drawn = group.watts.0.saturating_mul(i64::from(group.machines));
            sum.machines += u64::from(group.machines);
            sum.mining = Watts(sum.mining.0.saturating_add(drawn));
        }
    }
    for feed in feeds.iter().rev() {
        let below = sums[&feed.id];
        if let Some(parent) = feed.parent.as_ref().and_then(|parent| sums.get_mut(parent)) {
            parent.house = Watts(parent.house.0.saturating_add(below.house.0));
            parent.machines += below.machines;
            parent.mining = Watts(parent.mining.0.saturating_add(below.mining.0));
        }
    }
    sums
}

/// Warns of feeds whose declared load is always above their usable power.
pub(super) fn check(
    document: &Document,
    feeds: &[Feed],
    groups: &[Group],
    limits: &BTreeMap<String, Spot>,
) {
    let sums = declared(feeds, groups);
    for feed in feeds {
        let (sum, usable) = (sums[&feed.id], feed.most_usable());
        if sum.load() <= usable {
            continue;
        }
        let Some(spot) = limits.get(feed.id.as_str()) else { continue };
        let Feed { continuous_factor, reserve, .. } = feed;
        let limit = feed.limit.highest();
        let message = format!(
            "the declared load here and below is {} ({} machines {}, house {}), {} more than the usable {usable} = \
             {limit} x {continuous_factor} - reserve {reserve}: not all machines can run at once",
            sum.load(),
            sum.machines,
            sum.mining,
            sum.house,
            sum.load() - usable,
        );
        document.warn(spot, message, None);
    }
}
