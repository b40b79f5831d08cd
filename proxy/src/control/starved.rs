//! Counts the machines that only this proxy keeps from work, and logs the counts from time to time.
//! Machines that an agent's driver reaches are logged by the agent.

use std::time::Instant;

use daemon::log_pace::LogPace;
use directive::{Change, Means, Standing};
use tracing::{debug, info};

/// Changes that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Starved {
    parked: u64,
    resumed: u64,
    pace: LogPace,
}

impl Starved {
    pub(super) fn count(&mut self, changes: &[Change], now: Instant) {
        for change in changes {
            debug!(machine = %change.machine, from = ?change.from, to = ?change.to, "standing changed");
            let starved =
                |standing: Standing| standing.action.sheds() && standing.means == Means::Starve;
            let count = match (starved(change.from), starved(change.to)) {
                (false, true) => &mut self.parked,
                (true, false) => &mut self.resumed,
                _ => continue,
            };
            *count += 1;
            self.pace.note(now);
        }
    }

    /// Logs the counts if they are due.
    pub(super) fn tell_if_due(&mut self, now: Instant) {
        if self.pace.is_due(now) {
            self.tell(now);
        }
    }

    /// Logs the counts, if there are any.
    pub(super) fn tell(&mut self, now: Instant) {
        let (parked, resumed) = (self.parked, self.resumed);
        if parked + resumed == 0 {
            return;
        }
        info!(parked, resumed, "starved machines changed");
        *self = Self { pace: self.pace, ..Self::default() };
        self.pace.told(now);
    }
}
