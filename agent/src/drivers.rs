//! Drivers of machines: what a `[driver.NAME]` section can ask for. Each kind has a file of its own,
//! which reads the keys of its section and builds the driver; a line in `KINDS` registers it.
//! Which machines a driver commands is decided by [`crate::claims`].

pub mod exec;
mod program;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use daemon::settings::Section;
use directive::Actuator;

/// A driver that is ready for commands.
#[derive(Clone)]
pub struct Driver {
    pub actuator: Arc<dyn Actuator>,
    /// The maximum number of sleep and wake commands, and of reads, that it is given at once.
    pub in_flight: usize,
    /// How long it lets one command take. Zero where it has no limit of its own.
    pub timeout: Duration,
    /// What it does, in one line for people.
    pub summary: String,
}

impl Driver {
    /// A driver that a program brings along, such as one of simulated machines.
    #[must_use]
    pub fn new(actuator: impl Actuator) -> Self {
        Self {
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

/// A kind of driver.
struct Kind {
    /// The value of `kind` in its section.
    name: &'static str,
    /// Reads the other keys and builds the driver. Mistakes are recorded in the section's document.
    read: fn(&Section<'_>) -> Option<Driver>,
}

/// Every kind that a section may name.
const KINDS: &[Kind] = &[Kind { name: "exec", read: exec::read }];

/// Reads a section and builds its driver. `None` after a mistake, which the document holds then.
/// Keys that belong to every kind must have been asked for before.
pub fn read(section: &Section<'_>) -> Option<Driver> {
    let kinds: Vec<(&str, &Kind)> = KINDS.iter().map(|kind| (kind.name, kind)).collect();
    // The keys of an unknown kind cannot be judged.
    let kind = section.required_choice("kind", &kinds)?;
    let driver = (kind.read)(section);
    section.finish();
    driver
}

/// Commands that a driver without a limit of its own is given at once.
const IN_FLIGHT: usize = 64;
