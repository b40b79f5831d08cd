//! The feeds that an agent guards by its own settings, as long as no guard table was ever heard: with
//! limits and machines that are named in its configuration.

use std::time::Duration;

use directive::{
    FeedId, Generation, GuardCohort, GuardFeed, GuardTable, MachineId, MeterId, ReceiverId, Watts,
};

use crate::claims::Claims;

/// A feed that the agent guards by itself: a `[guard.NAME]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnGuard {
    pub feed: FeedId,
    pub meter: MeterId,
    /// What the feed may carry at any time.
    pub limit: Watts,
    /// Above this, the first sample counts.
    pub rating: Watts,
    /// What a machine frees when it goes to sleep.
    pub machine: Watts,
    /// The machines below the feed. One that several feeds claim belongs to the first.
    pub machines: Claims,
    /// If the meter brings no new sample for this long, it counts as lost.
    pub stale_after: Duration,
}

/// A machine that the agent reaches, and how long it takes to fall asleep and to wake.
#[derive(Debug, Clone)]
pub(crate) struct OwnMachine {
    pub(crate) id: MachineId,
    pub(crate) sleeps: Duration,
    pub(crate) wakes: Duration,
}

/// How long a meter is taken to need to show a change.
const LAG: Duration = Duration::from_secs(5);
/// How many samples in a row count, as in the policy's default.
const AFTER: u32 = 2;
/// What is shed on the word of a suspect meter alone, as in the policy's default.
const SUSPECT_MAX_PCT: u8 = 25;

/// Makes the table of an agent from its settings. `machines` are those that its drivers reach, in the
/// order in which they go off. Its epoch is 0, before that of any switchboard.
pub(crate) fn table(
    own: &ReceiverId,
    guards: &[OwnGuard],
    machines: &[OwnMachine],
    generation: u64,
) -> GuardTable {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let feeds = guards.iter().map(|guard| GuardFeed {
        feed: guard.feed.clone(),
        parent: None,
        owner: Some(own.clone()),
        meter: Some(guard.meter.clone()),
        usable: guard.limit,
        rating: guard.rating,
        band: guard.machine.max(Watts(guard.limit.0 / 100)),
        after: AFTER,
        lag_ms: millis(LAG),
        stale_after_ms: millis(guard.stale_after),
        changes: Vec::new(),
    });
    let cohorts = machines.iter().filter_map(|machine| {
        let guard = guards.iter().find(|guard| guard.machines.claims(&machine.id))?;
        Some(GuardCohort {
            feed: guard.feed.clone(),
            group: guard.feed.as_str().into(),
            frees: guard.machine,
            sheds_within_ms: millis(machine.sleeps),
            restores_within_ms: millis(machine.wakes),
            machines: vec![machine.id.clone()],
        })
    });
    GuardTable {
        version: Generation { epoch: 0, generation },
        feeds: feeds.collect(),
        cohorts: cohorts.collect(),
        ramp_per_min: None,
        step_max: None,
        suspect_max_pct: SUSPECT_MAX_PCT,
    }
}
