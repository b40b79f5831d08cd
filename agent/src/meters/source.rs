//! A meter of any kind, as the agent uses it.

use std::fmt;
use std::sync::Arc;

use directive::Meter;

/// Where measurements come from.
#[derive(Clone)]
pub struct Source {
    pub meter: Arc<dyn Meter>,
    /// What the meter reads, in one line for people.
    pub summary: String,
}

impl Source {
    /// A meter that the host program registers itself, such as a simulated one.
    #[must_use]
    pub fn new(meter: impl Meter) -> Self {
        Self { meter: Arc::new(meter), summary: "part of this program".to_owned() }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.summary).finish()
    }
}
