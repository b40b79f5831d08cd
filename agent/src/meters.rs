//! Power meters: what a `[meter.NAME]` section can ask for. Each kind has a file of its own, which
//! reads the keys of its section and builds the meter; a line in `KINDS` registers it. For how long
//! a measurement counts is decided by the switchboard's policy.

pub mod file;
mod source;

use daemon::settings::Section;

pub use source::Source;

/// A kind of meter.
struct Kind {
    /// The value of `kind` in its section.
    name: &'static str,
    /// Reads the other keys and builds the meter. Mistakes are recorded in the section's document.
    read: fn(&Section<'_>) -> Option<Source>,
}

/// Every kind that a section may name.
const KINDS: &[Kind] = &[Kind { name: "file", read: file::read }];

/// Reads a section and builds its meter. After a mistake it returns `None`, and the mistake is in
/// the document. Keys that belong to every kind must have been asked for before.
pub fn read(section: &Section<'_>) -> Option<Source> {
    let kinds: Vec<(&str, &Kind)> = KINDS.iter().map(|kind| (kind.name, kind)).collect();
    // Nothing can be said about the keys of an unknown kind.
    let kind = section.required_choice("kind", &kinds)?;
    let source = (kind.read)(section);
    section.finish();
    source
}
