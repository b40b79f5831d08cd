//! The names that a policy file defines, for the keys that refer to them.

use daemon::settings::{Document, Section};

/// The names that other sections may refer to, sorted for [`reference()`]. A section with a mistake
/// counts, too, because the mistake is reported once, in that section.
pub(super) fn names_of(sections: &[(String, Section<'_>)]) -> Vec<String> {
    let mut names: Vec<String> = sections.iter().map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names
}

/// Reads an optional key whose value is the name of a `kind`, and reports a name that is not among
/// `known`, which is sorted.
pub(super) fn reference<'a>(
    document: &Document,
    section: &Section<'a>,
    key: &str,
    kind: &str,
    known: &[String],
) -> Option<&'a str> {
    let name = section.optional_str(key)?;
    if known.binary_search_by(|known| known.as_str().cmp(name)).is_ok() {
        return Some(name);
    }
    let meant = document.suggest(name, known.iter().map(String::as_str));
    document.report(
        &section.spot(key),
        format!("there is no [{kind}.{}]", name.escape_debug()),
        meant,
    );
    None
}
