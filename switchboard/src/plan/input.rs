//! What the counts of a plan are made from.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;

use super::shape::Cohort;
use crate::facility::{FeedNumber, PerFeed};
use crate::lease::Lease;
use crate::policy::Policy;
use crate::reservation::Reservation;

/// What the counts are made from.
pub(super) struct Input<'a> {
    pub(super) policy: &'a Policy,
    pub(super) cohorts: &'a [Cohort],
    pub(super) pauses: &'a [Pause],
    /// By cohort.
    pub(super) off: &'a [Off],
    pub(super) leases: &'a [Lease],
    /// What each of them reserves.
    pub(super) reservations: &'a [Reservation],
    /// The load of the house, unassigned sessions and every machine at full draw.
    pub(super) fixed: &'a PerFeed<Watts>,
    /// Feeds for which machines are starved whatever the leases accept.
    pub(super) starving: &'a BTreeSet<FeedNumber>,
    pub(super) now: Timestamp,
    pub(super) horizon: Timestamp,
    /// Leases that begin or end, and limits that change, up to here are counted.
    pub(super) reach: Timestamp,
    /// The longest time until the last machine of a site has its command.
    pub(super) most_dispatch: Duration,
}

/// The machines of one cohort that are off at present.
#[derive(Debug, Clone, Default)]
pub(super) struct Off {
    /// Those of running leases.
    pub(super) running: u32,
    /// Those that are off already for leases that have not begun, with the lease.
    pub(super) early: Vec<(usize, u32)>,
    /// Those that no open lease has, and that are not on their way back.
    pub(super) left: u32,
    /// For each that is on its way back: since when. The latest comes first.
    pub(super) returning: Vec<Timestamp>,
    /// Those that an earlier plan chose to go later for these leases, and from when on it needs them.
    pub(super) chosen: Vec<((usize, Timestamp), u32)>,
    /// Those that are off, or were chosen to go, before a limit is lower: from when on it is.
    pub(super) ahead: Vec<(Timestamp, u32)>,
}

impl Off {
    pub(super) fn staying(&self) -> u32 {
        self.running + self.early.iter().map(|(_, count)| *count).sum::<u32>() + self.left
    }
}

/// How long a machine must be able to stay awake for it to be woken, besides the time of the ramp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause(pub(super) Duration);
