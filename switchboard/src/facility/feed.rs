//! One electrical node: its figures, as the policy file declares them.

use directive::{FeedId, MeterId, Watts};

/// A node of the site's electrical tree: interconnect, transformer, busway or PDU.
#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    pub id: FeedId,
    /// The feed that supplies this one; `None` for the root.
    pub parent: Option<FeedId>,
    pub limit: Watts,
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
    /// The power that may be planned at this feed: limit × continuous factor − reserve.
    #[must_use]
    pub fn usable(&self) -> Watts {
        self.limit.scale(self.continuous_factor) - self.reserve
    }
}
