//! Why machines are off, in API answers.

use directive::{FeedId, GroupId, LeaseId, Means, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::power;
use crate::cause::OffBy;
use crate::plan::Chosen;

/// Why one machine is off now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffView {
    /// The cause in one word.
    pub cause: OffBy,
    /// The lease that has the machine's power, if it is off for one.
    pub lease: Option<LeaseId>,
    /// The feed that makes it go, or at which it waits for room.
    pub feed: Option<FeedId>,
    /// Since when it is to be off, as far as that is known.
    pub since: Option<Timestamp>,
    /// The same in a sentence.
    pub why: String,
}

/// Machines that are off by the same cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffCountView {
    pub count: u32,
    /// What they would draw more if they mined, by the figures of the policy.
    #[serde(flatten, with = "power::off")]
    pub off: Watts,
}

impl OffCountView {
    pub(crate) fn add(&mut self, count: u32, off: Watts) {
        self.count = self.count.saturating_add(count);
        self.off += off;
    }
}

/// One period for which a machine is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodView {
    pub group: GroupId,
    /// The lease that the machine is off for, or null.
    pub lease: Option<LeaseId>,
    /// What the machine is off for, in one word.
    pub cause: OffBy,
    /// The feed that makes the machine go, if no lease does.
    pub feed: Option<FeedId>,
    /// When the machine is turned off.
    pub at: Timestamp,
    /// When the machine may return, if a return is planned.
    pub until: Option<Timestamp>,
    /// The end of a lease that released the machine.
    pub edge: Option<Timestamp>,
    pub means: Means,
    /// Whether the period follows another one without a break.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed_on: bool,
}

impl From<&Chosen> for PeriodView {
    fn from(chosen: &Chosen) -> Self {
        Self {
            group: chosen.group.clone(),
            lease: chosen.lease().cloned(),
            cause: chosen.cause.word(),
            feed: chosen.cause.feed().cloned(),
            at: chosen.at,
            until: chosen.until,
            edge: chosen.edge,
            means: chosen.means,
            passed_on: chosen.passed_on,
        }
    }
}

impl PeriodView {
    /// Whether the machine is off at `at`.
    #[must_use]
    pub fn covers(&self, at: Timestamp) -> bool {
        self.at <= at && self.until.is_none_or(|until| at < until)
    }
}
