//! A driver of any kind, as the agent uses it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use directive::Actuator;

/// A driver that is ready for commands.
#[derive(Clone)]
pub struct Driver {
    /// The name under which groups of the policy use it. Empty if its program gave it none.
    pub name: String,
    pub actuator: Arc<dyn Actuator>,
    /// The maximum number of sleep and wake commands, and of reads, that the driver is given at
    /// once.
    pub in_flight: usize,
    /// How long the driver lets one command take. Zero if it has no limit of its own.
    pub timeout: Duration,
    /// What the driver does, in one line for people.
    pub summary: String,
}

impl Driver {
    /// A driver that the host program registers itself, such as one of simulated machines.
    #[must_use]
    pub fn new(actuator: impl Actuator) -> Self {
        Self {
            name: String::new(),
            actuator: Arc::new(actuator),
            in_flight: IN_FLIGHT,
            timeout: Duration::ZERO,
            summary: "part of this program".to_owned(),
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Driver").field(&self.summary).finish()
    }
}

/// Commands that a driver without a limit of its own is given at once.
const IN_FLIGHT: usize = 64;
