//! Counts the outcome of each submit for its target, for its machine, and in the share log, in one
//! call, so that the sums agree. The code that decides a share's outcome makes sure that there is
//! exactly one call for each submit.

use std::sync::Arc;

use daemon::clock;

use crate::ends::{Counted, Settled};
use crate::machines::MachineStats;
use crate::metrics::Metrics;
use crate::outcome::{Outcome, SettledAs};
use crate::reasons::Reject;
use crate::share_log::{Entry, ShareLog, ShareRefusal};
use crate::target::TargetId;
use crate::work::Record;

/// The counters and the share log, which are brought up to date together.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<ShareLog>,
}

impl Books {
    /// Counts a submit that was decided by the proxy.
    pub(crate) fn ended(&self, mut counted: Counted, machine: Option<&MachineStats>) {
        self.metrics.shares.of(counted.target).ended(counted.outcome);
        if let Some(reject) = counted.reject {
            self.metrics.shares.rejected(reject);
        }
        if let Some(machine) = machine {
            machine.ended(counted.outcome);
        }
        if let Some(record) = counted.record.take() {
            self.log(record, counted.outcome, counted.reject.map(ShareRefusal::Ours));
        }
    }

    /// Counts a submit that was decided by the pool, or never answered.
    pub(crate) fn settled(&self, target: TargetId, settled: &mut Settled) {
        let outcome = Outcome::from(settled.outcome);
        let counters = self.metrics.shares.of(Some(target));
        counters.ended(outcome);
        let reject = match settled.outcome {
            SettledAs::Accepted => {
                counters.credited(settled.pool_difficulty);
                counters.answered(settled.latency);
                None
            }
            SettledAs::Rejected => {
                counters.answered(settled.latency);
                None
            }
            SettledAs::Stale => Some(Reject::JobStale),
            SettledAs::Unresolved => Some(Reject::Unresolved),
        };
        if let Some(reject) = reject {
            self.metrics.shares.rejected(reject);
        }
        if let Some((code, _)) = &settled.refusal {
            self.metrics.shares.rejected_by_pool(*code);
        }
        if let Some(machine) = &settled.machine {
            machine.ended(outcome);
        }
        if let Some(record) = settled.record.take() {
            let refusal = match settled.refusal.take() {
                Some((code, words)) => Some(ShareRefusal::Pools(code, words)),
                None => reject.map(ShareRefusal::Ours),
            };
            self.log(record, outcome, refusal);
        }
    }

    fn log(&self, record: Box<Record>, verdict: Outcome, refusal: Option<ShareRefusal>) {
        let Some(log) = &self.log else { return };
        let latency = clock::now().saturating_duration_since(record.read_at);
        log.write(Entry { at: clock::wall(), record, verdict, refusal, latency });
    }
}
