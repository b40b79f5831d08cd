//! Power meters: what a `[meter.NAME]` section can ask for. Each kind has a file of its own, which
//! reads the keys of its section and builds the meter; a line in `KINDS` registers it. For how long
//! a measurement counts is decided by the switchboard's policy.

pub mod file;

use std::fmt;
use std::sync::Arc;

use daemon::settings::Section;
use directive::Meter;

/// Where measurements come from.
#[derive(Clone)]
pub struct Source {
    pub meter: Arc<dyn Meter>,
    /// What it reads, in one line for people.
    pub summary: String,
}

impl Source {
    /// A meter that a program brings along, such as a simulated one.
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

/// A kind of meter.
struct Kind {
    /// The value of `kind` in its section.
    name: &'static str,
    /// Reads the other keys and builds the meter. Mistakes are recorded in the section's document.
    read: fn(&Section<'_>) -> Option<Source>,
}

/// Every kind that a section may name.
const KINDS: &[Kind] = &[Kind { name: "file", read: file::read }];

/// Reads a section and builds its meter. `None` after a mistake, which the document holds then.
/// Keys that belong to every kind must have been asked for before.
pub fn read(section: &Section<'_>) -> Option<Source> {
    let kinds: Vec<(&str, &Kind)> = KINDS.iter().map(|kind| (kind.name, kind)).collect();
    // The keys of an unknown kind cannot be judged.
    let kind = section.required_choice("kind", &kinds)?;
    let source = (kind.read)(section);
    section.finish();
    source
}
