//! What is known about a lease's power at one moment, and how it reads.

use directive::{FeedId, Generation, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::view::Shortage;
use crate::words::{Named, kilowatts};

/// What one feed shows against what it must keep free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    pub feed: FeedId,
    /// Headroom that its meter proves.
    pub headroom: Option<Watts>,
    /// What is committed here and below, this lease included.
    pub needed: Watts,
    /// What active tenants without a meter may draw: headroom is estimated low by at most this
    /// much.
    #[serde(default)]
    pub unmetered: Watts,
    /// When the meter measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
}

impl Figure {
    /// Watts that are not proven to be free, as far as is known.
    #[must_use]
    pub fn missing(&self) -> Option<Watts> {
        self.headroom.map(|headroom| self.needed.saturating_sub(headroom))
    }

    /// Watts that are missing for certain, even if tenants without a meter draw all they may.
    #[must_use]
    pub fn surely_missing(&self) -> Option<Watts> {
        self.headroom.map(|headroom| self.needed.saturating_sub(headroom + self.unmetered))
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (feed, needed) = (&self.feed, kilowatts(self.needed));
        match self.headroom {
            Some(headroom) => write!(f, "headroom {} of {needed} at {feed}", kilowatts(headroom)),
            None => write!(f, "the meter of {feed} is silent, {needed} needed"),
        }
    }
}

/// Who holds the timeline that frees a lease's power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Held {
    /// No timeline has all of its steps yet.
    #[default]
    Nowhere,
    /// Every attached receiver.
    Everywhere,
    /// This many attached receivers have an older one than `number`, or have not said which. Of
    /// these, `silent` have not reported lately: their links stand, and they may serve miners.
    Behind { receivers: u32, silent: u32, number: Generation },
    /// This many attached receivers have one that is newer than any of this switchboard: they refuse
    /// its timelines. Its ledger is an older copy, or another switchboard sends, too.
    Refused { receivers: u32 },
    /// No proxy and no agent reports.
    NoReceiver,
    /// Devices must be reached, and no agent reports.
    NoAgent,
}

impl Held {
    /// Whether some attached receivers have yet to take the timeline.
    pub(super) fn is_behind(self) -> bool {
        matches!(self, Self::Behind { .. })
    }
}

/// What is known about a lease's power at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The time it is.
    pub at: Timestamp,
    /// When the plan will reach to the lease's last step, if it does not yet.
    pub in_plan_from: Option<Timestamp>,
    /// What it will lack with the machines known now.
    pub short: Option<Shortage>,
    pub held: Held,
    /// When the first machine goes, or the proof begins where none must.
    pub due_at: Timestamp,
    pub due: bool,
    /// Machines that are off for it, or are to be.
    pub off: u32,
    /// Of these, those that have yet to be told, or time left to follow.
    pub under_way: u32,
    /// Of these, those whose time is over and of which nobody can say what they do. One that is
    /// seen not to obey does not count: it was replaced.
    pub unconfirmed: Named,
    /// Some machine of it is only starved.
    pub starved: bool,
    /// The lease's feed has a meter.
    pub metered: bool,
    /// The feeds on its path that have meters, bottom-up.
    pub figures: Vec<Figure>,
    /// Machines that it gave back and that have yet to mine.
    pub not_back: Named,
    /// The wall clock was stepped: nothing is over by its word.
    pub doubtful: bool,
    /// The switchboard has just started: what receivers and meters have not said yet is not missing.
    pub young: bool,
}

impl Evidence {
    /// Whether the timeline has steps that free all of its power.
    pub(super) fn is_covered(&self) -> bool {
        self.in_plan_from.is_none() && self.short.is_none()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held == Held::Everywhere
    }

    /// Whether meters show all of its power to be free.
    pub(super) fn is_free(&self) -> bool {
        self.metered
            && !self.figures.is_empty()
            && self.figures.iter().all(|figure| figure.missing() == Some(Watts::ZERO))
    }

    /// The figure that lacks most, of those measured.
    pub(super) fn worst(&self) -> Option<(&Figure, Watts)> {
        let measured = self.figures.iter().filter_map(|figure| Some((figure, figure.missing()?)));
        measured.filter(|(_, missing)| *missing > Watts::ZERO).max_by_key(|(_, missing)| *missing)
    }

    /// The figure that lacks most for certain, if one does.
    pub(super) fn surely_short(&self) -> Option<(&Figure, Watts)> {
        let measured =
            self.figures.iter().filter_map(|figure| Some((figure, figure.surely_missing()?)));
        measured.filter(|(_, missing)| *missing > Watts::ZERO).max_by_key(|(_, missing)| *missing)
    }

    pub(super) fn is_measured(&self) -> bool {
        !self.figures.is_empty() && self.figures.iter().all(|figure| figure.headroom.is_some())
    }

    /// Whether every meter that speaks has measured since `at`.
    pub(super) fn is_measured_since(&self, at: Timestamp) -> bool {
        self.figures.iter().all(|figure| figure.taken_at.is_none_or(|taken| taken >= at))
    }

    /// The figure to speak of: a silent meter first, then what lacks most, then what has least to
    /// spare.
    pub(super) fn words(&self) -> String {
        if !self.metered {
            return "no meter measures its feed".to_owned();
        }
        let spare = |figure: &&Figure| figure.headroom.map(|headroom| headroom - figure.needed);
        match self.figures.iter().min_by_key(spare) {
            Some(figure) => figure.to_string(),
            None => "no meter measures its feed".to_owned(),
        }
    }
}
