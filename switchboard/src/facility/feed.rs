//! One electrical node: its figures, as the policy file declares them.

use directive::{FeedId, MeterId, Watts};
use jiff::Timestamp;

use super::limit::Limit;

/// A node of the site's electrical tree: interconnect, transformer, busway or PDU.
#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    pub id: FeedId,
    /// The feed that supplies this one; `None` for the root.
    pub parent: Option<FeedId>,
    pub limit: Limit,
    /// The fraction of the limit that may be drawn continuously, above 0 and at most 1.
    pub continuous_factor: f64,
    pub reserve: Watts,
    /// The house load at this feed (cooling, lights).
    pub house: Watts,
    /// The maximum load of this feed once the plan has run out.
    pub default_constraint: Option<Watts>,
    pub meter: Option<MeterId>,
    /// The power below the usable limit that plans leave free, so that what a meter shows stays below
    /// the limit. With `None`, [`Facility::band`](super::Facility::band) has the default.
    pub guard_band: Option<Watts>,
    /// The fastest planned lowering of the load at and below this feed, per minute.
    pub down_per_min: Option<Watts>,
    /// The fastest raising of the load at and below this feed, per minute.
    pub up_per_min: Option<Watts>,
}

impl Feed {
    /// The power that may be planned at this feed at `at`: limit × continuous factor − reserve.
    #[must_use]
    pub fn usable(&self, at: Timestamp) -> Watts {
        self.usable_of(self.limit.at(at))
    }

    /// The most that may be planned at this feed at any time. What depends on the size of the feed,
    /// and not on what holds at a time, is measured by it.
    #[must_use]
    pub fn most_usable(&self) -> Watts {
        self.usable_of(self.limit.highest())
    }

    /// The least that may be planned at this feed at any time.
    #[must_use]
    pub fn least_usable(&self) -> Watts {
        self.usable_of(self.limit.lowest())
    }

    /// The least that may be planned at this feed from `from` until just before `to`.
    #[must_use]
    pub fn least_usable_within(&self, from: Timestamp, to: Timestamp) -> Watts {
        if self.limit.is_dated() {
            self.usable_of(self.limit.lowest_within(from, to))
        } else {
            self.most_usable()
        }
    }

    /// What may be planned at this feed while its limit is `limit`.
    #[must_use]
    pub fn usable_of(&self, limit: Watts) -> Watts {
        limit.scale(self.continuous_factor).saturating_sub(self.reserve)
    }
}
