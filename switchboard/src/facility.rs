//! The facility as the planner sees it: a tree of feeds, groups of machines below them, meters, and
//! the rules of dispatch. Plain data with every name resolved and every limit checked; only the
//! loader creates it.

use std::collections::BTreeMap;
use std::time::Duration;

use directive::{FeedId, GroupId, MachineId, MeterId, Watts};

/// A policy that cannot be wrong: what exists, how to decide, what is safe.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub site: String,
    /// The operator's count of edits (`revision`), if the file carries one.
    pub revision: Option<u64>,
    /// SHA-256 of the file as read, hex: the ledger records it with each decision.
    pub digest: String,
    /// The site's time zone, for people; everything inside is UTC.
    pub timezone: jiff::tz::TimeZone,
    /// Watts to count for a session that no group declares.
    pub unassigned: Watts,
    /// The feed that unassigned sessions are counted at.
    pub unassigned_feed: FeedId,
    /// Feeds, parents before children.
    pub feeds: Vec<Feed>,
    /// Groups in the order of the file.
    pub groups: Vec<Group>,
    pub meters: BTreeMap<MeterId, MeterSpec>,
    /// How to choose machines and when to call a shed proven.
    pub dispatch: Dispatch,
    /// How fast load may move.
    pub ramp: Ramp,
    /// What holds when something is lost.
    pub failsafe: Failsafe,
}

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

/// Machines that are planned alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub id: GroupId,
    /// The feed its machines hang on.
    pub feed: FeedId,
    /// Globs (`*`, `?`) over worker names; the first group in the file that matches wins.
    pub matches: Vec<String>,
    /// How many machines there are (nameplate; admission counts on it).
    pub machines: u32,
    /// What one draws when it hashes.
    pub watts: Watts,
    pub joules_per_terahash: f64,
    /// What one draws when it sleeps.
    pub residual: Watts,
    /// The agent's driver that puts its machines to sleep and wakes them. `None`: they can only be
    /// starved of work.
    pub driver: Option<String>,
    /// Measured time from command to sleep, 95th percentile; without it the group backs no firm
    /// lease.
    pub shed_p95: Option<Duration>,
    /// Measured time from wake command to full load, 95th percentile.
    pub restore_p95: Duration,
    pub min_up: Duration,
    pub min_down: Duration,
}

impl Group {
    /// Whether the group may back a firm lease: it has a driver and a measured shed time.
    #[must_use]
    pub fn backs_firm(&self) -> bool {
        self.driver.is_some() && self.shed_p95.is_some()
    }

    /// What taking one machine off frees.
    #[must_use]
    pub fn freed(&self) -> Watts {
        self.watts.saturating_sub(self.residual)
    }

    /// Whether `machine` belongs here by its name.
    #[must_use]
    pub fn claims(&self, machine: &MachineId) -> bool {
        self.matches.iter().any(|pattern| machine.matches(pattern))
    }
}

/// A meter by which headroom and leases are judged. Who reads it is the agent's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterSpec {
    pub id: MeterId,
    /// A measurement older than this does not count.
    pub stale_after: Duration,
}

/// In what order machines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merit {
    /// Lowest margin per kW first: hashprice against power price and efficiency.
    MarginPerKw,
    /// Most joules per terahash first.
    JoulesPerTerahash,
    /// Groups in the order of the file.
    Listed,
}

/// How to choose machines, and when a shed counts as proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The order in which machines go.
    pub merit: Merit,
    /// Extra machines, in percent of what is short, for those that will not obey.
    pub make_up_pct: f64,
    /// How long a meter takes to show a change.
    pub settle: Duration,
    /// Slack before the latest safe start.
    pub margin: Duration,
    /// How long headroom must hold before it counts as proven.
    pub prove_for: Duration,
    /// Hashprice, USD per PH/s and day.
    pub hashprice_usd_per_ph_day: Option<f64>,
    /// Power price, USD per MWh.
    pub power_usd_per_mwh: Option<f64>,
}

impl Dispatch {
    /// The time from the last machine's being down until its power must be proven free.
    #[must_use]
    pub fn proof(&self) -> Duration {
        self.settle.saturating_add(self.prove_for).saturating_add(self.margin)
    }
}

/// How fast load may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramp {
    /// Fastest planned lowering, per minute.
    pub down_per_min: Watts,
    /// Fastest raising, per minute.
    pub up_per_min: Watts,
    /// Most machines woken in one step.
    pub up_step_machines: u32,
    /// Time between such steps.
    pub up_step_interval: Duration,
}

/// What holds when something is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failsafe {
    /// How far ahead timelines reach.
    pub plan_horizon: Duration,
    /// Life of a permit (5–120 s).
    pub permit_ttl: Duration,
    /// How often permits are renewed.
    pub permit_every: Duration,
    /// A report older than this no longer counts.
    pub report_stale_after: Duration,
    /// Commands to one machine before it counts as disobedient.
    pub retries: u32,
}

impl Policy {
    /// The name of the site's time zone.
    #[must_use]
    pub fn timezone_name(&self) -> &str {
        self.timezone.iana_name().unwrap_or("UTC")
    }

    /// The feed of that name.
    #[must_use]
    pub fn feed(&self, id: &FeedId) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.id == *id)
    }

    /// The feed itself and everything above it, bottom-up.
    #[must_use]
    pub fn path_up(&self, id: &FeedId) -> Vec<&Feed> {
        std::iter::successors(self.feed(id), |feed| {
            feed.parent.as_ref().and_then(|parent| self.feed(parent))
        })
        .collect()
    }

    /// Whether `feed` is `above` or hangs below it.
    #[must_use]
    pub fn is_below(&self, feed: &FeedId, above: &FeedId) -> bool {
        self.path_up(feed).iter().any(|node| node.id == *above)
    }

    /// The group of that name.
    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == *id)
    }

    /// The group that declares `machine`, if one does.
    #[must_use]
    pub fn group_of(&self, machine: &MachineId) -> Option<&Group> {
        self.groups.iter().find(|group| group.claims(machine))
    }
}
