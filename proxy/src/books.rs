//! Where every submit's end is written down: once for its target, once for its machine, from one call, so that the sums
//! agree. That there is exactly one call for each submit is held by those who decide its fate.

use std::sync::Arc;

use crate::machines::MachineStats;
use crate::metrics::Metrics;
use crate::outcome::{Counted, Outcome, Settled, SettledAs};

/// The proxy's side of the books.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) metrics: Arc<Metrics>,
}

impl Books {
    /// Writes down a submit that ended here.
    pub(crate) fn ended(&self, counted: &Counted, machine: Option<&MachineStats>) {
        self.metrics.target(counted.target).ended(counted.outcome);
        if let Some(reason) = counted.reason {
            self.metrics.rejected(reason);
        }
        if let Some(machine) = machine {
            machine.ended(counted.outcome);
        }
    }

    /// Writes down a submit whose fate the pool decided, or left open.
    pub(crate) fn settled(&self, target: usize, settled: &Settled) {
        let outcome = Outcome::from(settled.outcome);
        let counters = self.metrics.target(Some(target));
        counters.ended(outcome);
        match settled.outcome {
            SettledAs::Accepted => {
                counters.credited(settled.pool_difficulty);
                counters.answered(settled.latency);
            }
            SettledAs::Rejected => counters.answered(settled.latency),
            SettledAs::Stale => self.metrics.rejected("job_stale"),
            SettledAs::Unresolved => self.metrics.rejected("unresolved"),
        }
        if let Some((code, _)) = &settled.refusal {
            self.metrics.rejected_by_pool(*code);
        }
        if let Some(machine) = &settled.machine {
            machine.ended(outcome);
        }
    }
}
