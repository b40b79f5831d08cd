//! Drivers of machines: what a `[driver.NAME]` section can ask for. Each kind has a file of its own,
//! which reads the keys of its section and builds the driver; a line in `KINDS` registers it.
//! Which machines a driver commands is decided by [`crate::claims`].

mod driver;
pub mod exec;

use daemon::settings::Section;

pub use driver::Driver;

/// A kind of driver.
struct Kind {
    /// The value of `kind` in its section.
    name: &'static str,
    /// Reads the other keys and builds the driver. Mistakes are recorded in the section's document.
    read: fn(&Section<'_>) -> Option<Driver>,
}

/// Every kind that a section may name.
const KINDS: &[Kind] = &[Kind { name: "exec", read: exec::read }];

/// Reads a section and builds its driver. After a mistake it returns `None`, and the mistake is in
/// the document. Keys that belong to every kind must have been asked for before.
pub fn read(section: &Section<'_>) -> Option<Driver> {
    let kinds: Vec<(&str, &Kind)> = KINDS.iter().map(|kind| (kind.name, kind)).collect();
    // Nothing can be said about the keys of an unknown kind.
    let kind = section.required_choice("kind", &kinds)?;
    let driver = (kind.read)(section);
    section.finish();
    driver
}
