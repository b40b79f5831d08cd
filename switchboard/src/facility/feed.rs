//! An electrical node of the facility.

use directive::{FeedId, MeterId, Watts};

#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    pub id: FeedId,
    /// The node that feeds it; `None` for the root.
    pub parent: Option<FeedId>,
    pub limit: Watts,
    /// The share of the rating that may be drawn continuously (0, 1].
    pub continuous_factor: f64,
    pub reserve: Watts,
    /// What the house itself draws here (cooling, lights).
    pub house: Watts,
    /// Ceiling on this feed's total load when the plan has run out.
    pub default_constraint: Option<Watts>,
    pub meter: Option<MeterId>,
}

impl Feed {
    /// What may be planned here: limit × continuous factor − reserve.
    #[must_use]
    pub fn usable(&self) -> Watts {
        self.limit.scale(self.continuous_factor) - self.reserve
    }
}
