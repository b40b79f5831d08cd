//! One group of machines: its figures, as the policy file declares them.

use std::time::Duration;

use directive::{FeedId, GroupId, MachineId, Watts};

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
    /// What one machine draws when it hashes.
    pub watts: Watts,
    pub joules_per_terahash: f64,
    /// What one machine draws when it sleeps.
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
