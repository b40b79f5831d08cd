//! docs/metrics.md explains each reason that the code has, and no other.

use std::collections::BTreeSet;

use stratum::error::RejectCode;

use crate::label::Label;
use crate::outcome::Outcome;
use crate::reasons::{Alarm, CloseReason, Correction, IgnoredLine, Reject, Retarget};
use crate::share_log::metrics::Lost;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    std::fs::read_to_string(path).expect("the page is there")
}

/// The words in backticks that can be labels.
fn words(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| word.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()))
        .collect()
}

/// The cells of the row that begins with this one.
fn row<'p>(page: &'p str, first: &str) -> Vec<&'p str> {
    let start = format!("| {first} |");
    let line = page.lines().find(|line| line.starts_with(&start));
    line.unwrap_or_else(|| panic!("no row {first}")).trim_matches('|').split('|').collect()
}

/// The words in the first column of the table below the heading that begins with `heading`.
fn first_column<'p>(page: &'p str, heading: &str) -> BTreeSet<&'p str> {
    let heading = format!("| {heading} |");
    let rows = page.lines().skip_while(|line| !line.starts_with(&heading)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| words(row.split('|').nth(1).expect("a first cell"))).collect()
}

fn labels<L: Label>() -> BTreeSet<&'static str> {
    let labels = L::labels();
    let all = labels.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(all.len(), labels.len(), "each label is there once: {labels:?}");
    all
}

#[test]
fn the_page_explains_each_reason_and_no_other() {
    let page = page();
    assert_eq!(
        first_column(&page, "reason of `session_closes_total`"),
        labels::<CloseReason>(),
        "closes"
    );
    assert_eq!(first_column(&page, "reason of `alarms_total`"), labels::<Alarm>(), "alarms");
    assert_eq!(words(row(&page, "`proxy`")[1]), labels::<Reject>(), "our refusals");
    assert_eq!(words(row(&page, "`pool`")[1]), labels::<RejectCode>(), "pools' refusals");
    let meaning = |name: &str| row(&page, name)[3];
    assert_eq!(words(meaning("`shares_total`")), labels::<Outcome>());
    assert_eq!(words(meaning("`corrections_total`")), labels::<Correction>());
    assert_eq!(words(meaning("`pool_lines_ignored_total`")), labels::<IgnoredLine>());
    assert_eq!(words(meaning("`retargets_total`")), labels::<Retarget>());
    assert_eq!(words(meaning("`share_log_dropped_total`")), labels::<Lost>());
}
