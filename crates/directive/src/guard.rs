//! What switchboard and agents say to each other about the guard.
//!
//! The guard is the part of an agent that watches the meters of feeds, and puts machines to sleep
//! when a feed carries more than it may. It decides alone, from the newest [`GuardTable`], so that it
//! works when the switchboard does not. Each of its acts is a [`GuardHold`] with a number: its
//! machines stay off until a timeline says that it was made with that hold in view
//! ([`crate::Timeline::holds_taken`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{FeedId, Generation, GroupId, MachineId, MeterId, ReceiverId, Watts};

/// What the guards of a site work from. It is valid, also across restarts, until a table with a
/// newer version comes: neither the end of a timeline nor the loss of the switchboard ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardTable {
    /// The number of the table. A table with the same or an older number changes nothing.
    pub version: Generation,
    /// The feeds, a parent before its children.
    pub feeds: Vec<GuardFeed>,
    /// The machines, in the order in which they go off: those that cost the least first, protected
    /// ones last.
    pub cohorts: Vec<GuardCohort>,
    /// The power that a guard may shed in one minute, if there is such a limit. Above a feed's
    /// rating it does not apply to the power above the rating.
    #[serde(default)]
    pub ramp_per_min: Option<Watts>,
    /// The power that a guard may shed in one act, with the same exception.
    #[serde(default)]
    pub step_max: Option<Watts>,
    /// How much of what was guardable when the feed tripped is shed at most on the word of a suspect
    /// meter alone, in percent.
    pub suspect_max_pct: u8,
}

/// One feed that is guarded, or that is the parent of such a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardFeed {
    /// The feed.
    pub feed: FeedId,
    /// The feed above it, if there is one.
    #[serde(default)]
    pub parent: Option<FeedId>,
    /// The one agent that guards it.
    #[serde(default)]
    pub owner: Option<ReceiverId>,
    /// The meter of the feed.
    #[serde(default)]
    pub meter: Option<MeterId>,
    /// The power that the feed may carry, until the first of `changes`.
    pub usable: Watts,
    /// The power above which the guard acts on the first sample, at any time.
    pub rating: Watts,
    /// The width of the band below `usable` that the plan leaves free. The guard sheds to half of
    /// it below `usable`.
    pub band: Watts,
    /// How many samples in a row must be above `usable` before the guard acts.
    pub after: u32,
    /// How long the meter takes to show a change of the power, in milliseconds.
    pub lag_ms: u64,
    /// If the meter brings no new sample for this many milliseconds, it counts as lost.
    pub stale_after_ms: u64,
    /// When the feed may carry another power, in order of time: none if its limit does not change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<UsableChange>,
}

/// From when on a feed may carry another power. A lower one holds as soon as one of the receiver's two
/// clocks says so, a higher one when both do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsableChange {
    /// When it begins to hold.
    pub from: Timestamp,
    /// The power that the feed may carry from then on.
    pub usable: Watts,
}

/// Machines of one group at one feed, which are alike to the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardCohort {
    /// The lowest feed that carries the machines.
    pub feed: FeedId,
    /// The group of the machines.
    pub group: GroupId,
    /// The power that is freed at the feed when one machine goes to sleep: the low estimate.
    pub frees: Watts,
    /// How long a machine takes to fall asleep after the command, in milliseconds.
    pub sheds_within_ms: u64,
    /// How long a machine takes to draw its full power after the command to wake, in milliseconds.
    pub restores_within_ms: u64,
    /// The machines that a device reaches, in the order in which they go off.
    pub machines: Vec<MachineId>,
}

/// The whole state of an agent's guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardReport {
    /// When the report was made.
    pub at: Timestamp,
    /// The version of the table that the guard works from.
    pub table: Option<Generation>,
    /// The number of the newest hold that this agent has ever made; 0 before the first.
    pub last_hold: u64,
    /// The holds that are not lifted, in the order of their numbers.
    pub holds: Vec<GuardHold>,
    /// The feeds that this agent guards, in the order of the table.
    pub feeds: Vec<GuardedFeed>,
}

/// One act of the guard: machines that were put to sleep for a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardHold {
    /// The number of the hold. An agent counts its holds from 1 and never uses a number twice.
    pub number: u64,
    /// The feed that carried too much.
    pub feed: FeedId,
    /// The machines that are still held, in the order in which they went off.
    pub machines: Vec<MachineId>,
}

/// One feed, as its guard sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardedFeed {
    /// The feed.
    pub feed: FeedId,
    /// What the guard is doing.
    pub state: GuardState,
    /// The power that would be freed if all machines went to sleep that the guard may choose and
    /// that draw power now.
    pub guardable: Watts,
    /// The power above the level to be reached that no machine of this agent can free. Somebody
    /// else has to take machines off.
    pub wants: Watts,
    /// How often the guard has shed for this feed since the agent started.
    pub acts: u64,
}

/// What the guard of a feed is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    /// The feed carries no more than it may.
    Watching,
    /// The feed carried too much and is not back at the level at which the guard lets go.
    Tripped,
    /// The feed is tripped, and its meter did not fall when machines fell asleep.
    Suspect,
    /// The meter brings no samples, so that the guard does nothing.
    MeterLost,
}

impl GuardTable {
    /// The maximum number of feeds of a table, and of a report.
    pub const FEEDS_MAX: usize = 4_096;
    /// The maximum number of machines of a table, and of all holds of a report.
    pub const MACHINES_MAX: usize = 100_000;
    /// The maximum number of changes of usable power in a table, over all feeds.
    pub const CHANGES_MAX: usize = 100_000;

    /// Whether the table has no more feeds, changes, cohorts and machines than a guard works with. A
    /// larger one is refused as a whole.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let changes: usize = self.feeds.iter().map(|feed| feed.changes.len()).sum();
        let machines: usize = self.cohorts.iter().map(|cohort| cohort.machines.len()).sum();
        self.feeds.len() <= Self::FEEDS_MAX
            && changes <= Self::CHANGES_MAX
            && self.cohorts.len() <= Self::MACHINES_MAX
            && machines <= Self::MACHINES_MAX
    }
}

impl GuardReport {
    /// Whether the report has no more feeds, holds and machines than an agent's guard can have.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let machines: usize = self.holds.iter().map(|hold| hold.machines.len()).sum();
        self.feeds.len() <= GuardTable::FEEDS_MAX
            && self.holds.len() <= GuardTable::MACHINES_MAX
            && machines <= GuardTable::MACHINES_MAX
    }
}

#[cfg(test)]
pub(crate) mod tests;
