//! What is wanted of a facility: how machines are chosen, how fast load may move, and what holds
//! when something is lost. The loader makes it from the policy file; what exists is left to
//! [`crate::facility`].

use std::time::Duration;

use directive::{Claims, FeedId, Watts};

use crate::facility::{Facility, Feed, FeedNumber};

/// One policy file, read and found sound. The file declares a facility and the rules for it; its
/// digest stands for both.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What exists at the site.
    pub facility: Facility,
    /// The operator's count of edits (`revision`), if the file has one.
    pub revision: Option<u64>,
    /// SHA-256 of the file as read, in hex: the ledger records it with each decision.
    pub digest: String,
    pub dispatch: Dispatch,
    pub ramp: Ramp,
    pub guard: GuardRules,
    pub failsafe: Failsafe,
    /// What sessions get that no group claims, if there are groups.
    pub unassigned: Unassigned,
    pub newcomers: Newcomers,
    /// Nothing is raised at a feed that has its power again until its meter has been steady for this
    /// long.
    pub reclose_settle: Duration,
}

/// What a machine gets that connects and is not in the permitted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomers {
    /// Whether it waits until there is room for it; else it gets work at once.
    pub wait: bool,
    /// At the first start of all: for how long every machine that connects is taken over as it is.
    pub take_over: Duration,
    /// A machine of which nothing was seen for this long, and for twice the `restore_p95` of its
    /// group, is not in the set any more.
    pub away_after: Duration,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self { wait: true, take_over: Duration::from_mins(2), away_after: Duration::from_mins(10) }
    }
}

/// What a session gets that no group claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unassigned {
    /// No work: it waits for a group, and is no load.
    Park,
    /// Work, and it counts as load.
    Count,
}

impl Policy {
    /// Whether proxies give work to sessions that no group claims. A policy without any group limits
    /// nobody.
    #[must_use]
    pub fn serves_unassigned(&self) -> bool {
        self.unassigned == Unassigned::Count || self.facility.groups().is_empty()
    }

    /// Whether a machine that is not in the permitted set waits for room. A policy without any group
    /// limits nobody.
    #[must_use]
    pub fn newcomers_wait(&self) -> bool {
        self.newcomers.wait && !self.facility.groups().is_empty()
    }

    /// The machines to which proxies give work.
    #[must_use]
    pub fn claims(&self) -> Claims {
        if self.serves_unassigned() {
            return ["*"].into_iter().collect();
        }
        self.facility.groups().iter().flat_map(|group| &group.matches).cloned().collect()
    }

    /// The fastest planned lowering of the load at and below `feed`, per minute, if there is a limit.
    /// The limit of the site is one of its root.
    #[must_use]
    pub fn down_per_min(&self, feed: FeedNumber) -> Option<Watts> {
        self.slowest(feed, |feed| feed.down_per_min, self.ramp.down_per_min)
    }

    /// The same for raising.
    #[must_use]
    pub fn up_per_min(&self, feed: FeedNumber) -> Option<Watts> {
        self.slowest(feed, |feed| feed.up_per_min, self.ramp.up_per_min)
    }

    fn slowest(
        &self,
        feed: FeedNumber,
        of: impl Fn(&Feed) -> Option<Watts>,
        site: Watts,
    ) -> Option<Watts> {
        let feed = &self.facility.feeds()[feed];
        let own = of(feed);
        if feed.parent.is_some() {
            return own;
        }
        let by_steps = self.ramp.step_max.map(|step| Watts(step.0.saturating_mul(60)));
        own.into_iter().chain(by_steps).chain([site]).min()
    }

    /// The slowest ramp by which load at `feed` is lowered: its own, or one of a feed above it.
    #[must_use]
    pub fn slowest_down_per_min(&self, feed: &FeedId) -> Watts {
        let path = self.facility.feeds().path_of(feed).iter();
        let limits = path.filter_map(|feed| self.down_per_min(*feed));
        limits.min().unwrap_or(self.ramp.down_per_min)
    }
}

/// The order in which machines are shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merit {
    /// The lowest margin per kW first, from hashprice, power price and efficiency.
    MarginPerKw,
    /// Most joules per terahash first.
    JoulesPerTerahash,
    /// Groups in the order of the file.
    Listed,
}

/// In what order machines are taken off, and when the power they free counts as proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The order in which machines are shed.
    pub merit: Merit,
    /// The power that is shed beyond what is short, in percent of it, because some machines will
    /// not obey.
    pub make_up_pct: f64,
    /// How long a meter takes to show a change.
    pub settle: Duration,
    /// Extra time before the latest safe start.
    pub margin: Duration,
    /// How long headroom must last to count as proven.
    pub prove_for: Duration,
    /// Hashprice, USD per PH/s and day.
    pub hashprice_usd_per_ph_day: Option<f64>,
    /// Power price, USD per MWh.
    pub power_usd_per_mwh: Option<f64>,
}

impl Dispatch {
    /// The time from when the last machine is down until its power must be proven free.
    #[must_use]
    pub fn proof(&self) -> Duration {
        self.settle.saturating_add(self.prove_for).saturating_add(self.margin)
    }
}

/// How fast the load of the whole site may move. A feed may have a slower ramp of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramp {
    /// The fastest planned lowering of load, per minute.
    pub down_per_min: Watts,
    /// The fastest raising of load, per minute.
    pub up_per_min: Watts,
    /// The maximum number of machines woken in one step.
    pub up_step_machines: u32,
    /// Time between two steps that wake machines.
    pub up_step_interval: Duration,
    /// The largest planned change of load in one second.
    pub step_max: Option<Watts>,
}

/// How agents guard the feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRules {
    /// How many samples in a row above the usable power make the guard act.
    pub after: u32,
    /// How much of what could be shed when a feed tripped is shed at most on the word of a meter that
    /// does not fall, in percent.
    pub suspect_max_pct: u8,
    /// The power that a guard may shed in a minute, and in one act. Neither applies to power above a
    /// feed's rating.
    pub ramp_per_min: Option<Watts>,
    pub step_max: Option<Watts>,
}

/// What applies when a receiver, a meter or a report is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failsafe {
    /// How far ahead timelines reach.
    pub plan_horizon: Duration,
    /// How long a permit is valid (5–120 s).
    pub permit_ttl: Duration,
    /// How often permits are renewed.
    pub permit_every: Duration,
    /// A report older than this no longer counts.
    pub report_stale_after: Duration,
    /// How many commands a machine gets before it counts as disobedient.
    pub retries: u32,
}
