//! Metrics of the share log.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::label::labels;
use crate::reasons::metrics::Alarms;
use crate::series::{CounterBy, registered};

labels! {
    /// Why a line of the share log is missing.
    pub(crate) enum Lost {
        /// The writing thread was too slow, or had ended.
        QueueFull = "queue_full",
        /// The disk has accepted nothing for long.
        WriteFailed = "write_failed",
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ShareLogMetrics {
    pub(crate) dropped: CounterBy<Lost>,
    pub(crate) failing: Gauge,
    pub(crate) alarms: Alarms,
}

impl ShareLogMetrics {
    pub(crate) fn register(alarms: &Alarms, registry: &mut Registry) -> Self {
        let help = "Lines missing in the share log, by reason";
        Self {
            dropped: CounterBy::register(registry, "share_log_dropped", help, "reason"),
            failing: registered(
                registry,
                "share_log_failing",
                "1 while the share log cannot be written",
            ),
            alarms: alarms.clone(),
        }
    }
}
