//! Keys and limits that several sections have in common.

use std::ops::RangeInclusive;
use std::time::Duration;

use daemon::settings::Section;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn read_name<'a>(section: &Section<'a>) -> Option<&'a str> {
    let name = section.required_str("name")?;
    check_name(section, name);
    Some(name)
}

/// Names are printed in log lines, labels and tables, where a terminal would obey control
/// characters.
pub(super) fn check_name(section: &Section<'_>, name: &str) {
    if name.chars().any(char::is_control) {
        section.mistake("name", "must not contain control characters");
    }
}

/// From 2^-28 to more than any machine needs.
pub(super) const DIFFICULTY_RANGE: RangeInclusive<f64> = (1.0 / (1u64 << 28) as f64)..=1e15;
