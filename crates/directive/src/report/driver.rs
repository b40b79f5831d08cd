//! What an agent reports of its drivers: how long their commands take.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The drivers of an agent. It is sent when a figure has changed, and again from time to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriversReport {
    /// When the report was made.
    pub at: Timestamp,
    /// Every driver of the agent that has been measured.
    #[serde(default)]
    pub drivers: Vec<DriverReport>,
}

/// One driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverReport {
    /// Its name in the configuration, by which the groups of the policy name it.
    pub driver: String,
    /// The maximum number of sleep and wake commands that it is given at once.
    pub concurrency: u32,
    /// How long its last sleep commands took, from the call to its answer: the 95th percentile of up
    /// to 64 that it did not fail, in milliseconds.
    pub command_p95_ms: u64,
}

impl DriversReport {
    /// The maximum number of drivers in a report.
    pub const DRIVERS_MAX: usize = 64;
    /// The maximum length of a driver's name, in bytes.
    pub const NAME_MAX: usize = 256;

    /// Whether the report is within its bounds.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.drivers.len() <= Self::DRIVERS_MAX
            && self.drivers.iter().all(|driver| driver.driver.len() <= Self::NAME_MAX)
    }
}
