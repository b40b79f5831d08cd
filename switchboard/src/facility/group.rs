//! One group of machines: its figures, as the policy file declares them.

use std::time::Duration;

use directive::{FeedId, GroupId, MachineId, Watts};

/// Machines that are planned alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub id: GroupId,
    /// The feed that supplies the group's machines.
    pub feed: FeedId,
    /// Globs (`*`, `?`) over worker names; the first group in the file that matches wins.
    pub matches: Vec<String>,
    /// The declared number of machines, which admission uses.
    pub machines: u32,
    /// What one machine draws when it hashes.
    pub watts: Watts,
    pub joules_per_terahash: f64,
    /// What one machine draws when it sleeps.
    pub residual: Watts,
    /// What one machine draws when it is awake and has no work. `None` if nobody has measured it: then it
    /// may draw anything up to its full power.
    pub poolless: Option<Watts>,
    /// The agent's driver that puts the group's machines to sleep and wakes them. With `None` they
    /// can only be starved of work.
    pub driver: Option<String>,
    /// The measured time from command to sleep, 95th percentile. Without it the group cannot back a
    /// firm lease.
    pub shed_p95: Option<Duration>,
    /// The measured time from wake command to full load, 95th percentile.
    pub restore_p95: Duration,
    pub min_up: Duration,
    pub min_down: Duration,
    /// Whether the guard of a feed takes these machines last, whatever they earn.
    pub protected: bool,
}

impl Group {
    /// Whether the group may back a firm lease: it has a driver and a measured shed time.
    #[must_use]
    pub fn backs_firm(&self) -> bool {
        self.driver.is_some() && self.shed_p95.is_some()
    }

    /// The power freed by shedding one machine in the way that the plan does. A machine that is put to sleep
    /// draws `residual` then. One of a group that only starves draws `poolless`; until that is measured,
    /// `residual` is taken for it.
    #[must_use]
    pub fn freed(&self) -> Watts {
        let starved = self.poolless.filter(|_| !self.backs_firm());
        self.watts.saturating_sub(starved.unwrap_or(self.residual))
    }

    /// The power freed by putting one machine to sleep.
    #[must_use]
    pub fn freed_asleep(&self) -> Watts {
        self.watts.saturating_sub(self.residual)
    }

    /// The least that one machine draws when it is awake and has no work.
    #[must_use]
    pub fn idle_at_least(&self) -> Watts {
        self.poolless.unwrap_or(Watts::ZERO)
    }

    /// The most that one machine draws when it is awake and has no work.
    #[must_use]
    pub fn idle_at_most(&self) -> Watts {
        self.poolless.unwrap_or(self.watts)
    }

    /// Whether a pattern of the group matches `machine`.
    #[must_use]
    pub fn claims(&self, machine: &MachineId) -> bool {
        self.matches.iter().any(|pattern| machine.matches(pattern))
    }
}
