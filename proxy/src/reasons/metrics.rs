//! The counter of alarms.

use prometheus_client::registry::Registry;

use super::Alarm;
use crate::series::CounterBy;

/// Counts alarms by reason. Clones count into the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Alarms(CounterBy<Alarm>);

impl Alarms {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let help = "What somebody should look at, by reason";
        Self(CounterBy::register(registry, "alarms", help, "reason"))
    }

    pub(crate) fn raise(&self, alarm: Alarm) {
        self.0.count(alarm);
    }
}
