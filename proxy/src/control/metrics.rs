//! Metrics of the link to the switchboard.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::reasons::metrics::Alarms;
use crate::series::registered;

#[derive(Debug, Clone)]
pub(crate) struct ControlMetrics {
    pub(crate) generation: Gauge,
    pub(crate) machines_shed: Gauge,
    pub(crate) reports_dropped: Counter,
    pub(crate) alarms: Alarms,
}

impl ControlMetrics {
    pub(crate) fn register(alarms: &Alarms, registry: &mut Registry) -> Self {
        Self {
            generation: registered(
                registry,
                "directive_generation",
                "Generation of the timeline held",
            ),
            machines_shed: registered(
                registry,
                "machines_shed",
                "Machines that may not run just now",
            ),
            reports_dropped: registered(
                registry,
                "reports_dropped",
                "Reports the switchboard was too slow to take",
            ),
            alarms: alarms.clone(),
        }
    }
}
