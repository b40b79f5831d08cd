//! What is known about a lease's power at one moment, and how it reads.

use std::time::Duration;

use directive::{FeedId, Generation, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Blame;
use crate::view::Shortage;
use crate::words::{Named, kilowatts};

/// What one feed shows against what it must keep free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    pub feed: FeedId,
    /// The headroom that the feed's meter proves.
    pub headroom: Option<Watts>,
    /// The power committed at the feed and below it, including this lease.
    pub needed: Watts,
    /// What active tenants without a meter may draw: the estimate of the headroom may be too low by
    /// this much.
    #[serde(default)]
    pub unmetered: Watts,
    /// What the same tenant has already by a lease that this one renews, and no meter of its own
    /// shows. It counts as free.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub renewed: Watts,
    /// When the meter measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// Why the meter is not believed, in words, if it is not silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// Whether the meter is implausible, and not only being watched.
    #[serde(skip)]
    pub is_implausible: bool,
    /// What brought it about, if power is missing for certain and a breach may be recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
}

impl Figure {
    /// Watts that are not proven to be free, as far as is known.
    #[must_use]
    pub fn missing(&self) -> Option<Watts> {
        self.headroom.map(|headroom| self.needed.saturating_sub(headroom + self.renewed))
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
        match (self.headroom, &self.doubt) {
            (Some(headroom), _) => {
                write!(f, "headroom {} of {needed} at {feed}", kilowatts(headroom))?;
                if self.renewed > Watts::ZERO {
                    write!(f, ", {} of it rented already", kilowatts(self.renewed))?;
                }
                Ok(())
            }
            (None, Some(doubt)) => write!(f, "{doubt}, {needed} needed at {feed}"),
            (None, None) => write!(f, "the meter of {feed} is silent, {needed} needed"),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(watts: &Watts) -> bool {
    *watts == Watts::ZERO
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
    /// The moment at which this is known.
    pub at: Timestamp,
    /// If the plan does not contain the lease's last step yet: when a plan will.
    pub in_plan_from: Option<Timestamp>,
    /// The power that the lease will lack with the machines known now.
    pub short: Option<Shortage>,
    pub held: Held,
    /// When the first machine is shed, or the proof begins if no machine must be shed.
    pub due_at: Timestamp,
    pub due: bool,
    /// The number of machines that are off, or will be, for the lease.
    pub off: u32,
    /// How many of the machines in `off` have not been told to sleep yet, or still have time to
    /// follow.
    pub under_way: u32,
    /// The machines in `off` whose time to follow is over and whose state is unknown. A machine
    /// that is seen not to obey does not count, because it was replaced.
    pub unconfirmed: Named,
    /// Whether some machine of the lease is only starved.
    pub starved: bool,
    /// Whether the lease's feed has a meter.
    pub metered: bool,
    /// The feeds on the lease's path that have meters, bottom-up.
    pub figures: Vec<Figure>,
    /// Machines that the lease gave back and that do not mine yet.
    pub not_back: Named,
    /// Whether the wall clock was stepped. While it is, no time counts as over by this clock.
    pub doubtful: bool,
    /// How far apart samples of the meters on the lease's path are: a difference that lasts no longer
    /// may be one of time.
    pub skew: Duration,
    /// Whether the switchboard has just started. What receivers and meters have not reported yet
    /// does not count as missing then.
    pub young: bool,
}

impl Evidence {
    /// Whether the timeline has steps that free all of the lease's power.
    pub(super) fn is_covered(&self) -> bool {
        self.in_plan_from.is_none() && self.short.is_none()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held == Held::Everywhere
    }

    /// Whether meters show all of the lease's power to be free.
    pub(super) fn is_free(&self) -> bool {
        self.metered
            && !self.figures.is_empty()
            && self.figures.iter().all(|figure| figure.missing() == Some(Watts::ZERO))
    }

    /// Which meter is implausible, in words, if one is.
    pub(super) fn doubted(&self) -> Option<&str> {
        self.figures
            .iter()
            .filter(|figure| figure.is_implausible)
            .find_map(|figure| figure.doubt.as_deref())
    }

    /// The figure with the most power that is certainly missing, if one has any.
    pub(super) fn surely_short(&self) -> Option<(&Figure, Watts)> {
        let measured =
            self.figures.iter().filter_map(|figure| Some((figure, figure.surely_missing()?)));
        measured.filter(|(_, missing)| *missing > Watts::ZERO).max_by_key(|(_, missing)| *missing)
    }

    pub(super) fn is_measured(&self) -> bool {
        !self.figures.is_empty() && self.figures.iter().all(|figure| figure.headroom.is_some())
    }

    /// Whether every meter that is not silent has measured since `at`.
    pub(super) fn is_measured_since(&self, at: Timestamp) -> bool {
        self.figures.iter().all(|figure| figure.taken_at.is_none_or(|taken| taken >= at))
    }

    /// The figure to name in a sentence, as text: that of a silent meter first, then the one that
    /// lacks most, then the one with the least to spare.
    pub(super) fn words(&self) -> String {
        if !self.metered {
            return "no meter measures its feed".to_owned();
        }
        let spare = |figure: &&Figure| {
            figure.headroom.map(|headroom| headroom + figure.renewed - figure.needed)
        };
        match self.figures.iter().min_by_key(spare) {
            Some(figure) => figure.to_string(),
            None => "no meter measures its feed".to_owned(),
        }
    }
}
