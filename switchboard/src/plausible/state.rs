//! The words for what is thought of a meter, and a change of such a word as it goes on record.

use directive::{FeedId, LeaseId, MeterId, Watts};
use serde::{Deserialize, Serialize};

/// What is thought of the meter of a feed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MeterState {
    /// Nothing contradicts what it shows.
    #[default]
    Ok,
    /// It shows far more than can be drawn, as a meter does that counts in the wrong unit.
    ScaledUp,
    /// It shows far less than is drawn for certain.
    ScaledDown,
    /// It is off by √3 against the meters below or above it: it is wired or set for the wrong phase
    /// voltage.
    Phase,
    /// It repeats one value while what is drawn below it changes.
    Frozen,
    /// It has no sample that counts.
    Silent,
    /// It shows more than a meter above it.
    AboveParent,
    /// It shows less than the meters below it together.
    BelowChildren,
}

impl MeterState {
    /// Every word.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::ScaledUp,
        Self::ScaledDown,
        Self::Phase,
        Self::Frozen,
        Self::Silent,
        Self::AboveParent,
        Self::BelowChildren,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ScaledUp => "scaled_up",
            Self::ScaledDown => "scaled_down",
            Self::Phase => "phase",
            Self::Frozen => "frozen",
            Self::Silent => "silent",
            Self::AboveParent => "above_parent",
            Self::BelowChildren => "below_children",
        }
    }

    /// Whether the meter has samples that are not believed.
    #[must_use]
    pub fn is_implausible(self) -> bool {
        !matches!(self, Self::Ok | Self::Silent)
    }
}

impl std::fmt::Display for MeterState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a meter is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Judging {
    #[default]
    Usual,
    /// Its feed may have just lost its power: its state stays as it is until that is known.
    Waits,
    /// Its feed has no power, or has it again for a short time only: what it shows is right, and says
    /// nothing of the samples before and after.
    Rests,
}

/// A change of what is thought of a meter, with the figures that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterChange {
    pub feed: FeedId,
    pub meter: MeterId,
    pub from: MeterState,
    pub to: MeterState,
    /// What the meter showed; `None` if it is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Watts>,
    /// What it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Watts>,
    /// The reason as text.
    pub why: String,
    /// The proven and active leases that rely on the meter, at most a hundred of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseId>,
}
