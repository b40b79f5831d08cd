//! Checks the worker name patterns of groups. The first matching group in the file wins, so a
//! pattern can be hidden by an earlier one; and a regular expression is not a glob.

use std::collections::BTreeMap;

use daemon::settings::{Document, Section, Spot};

use super::globs;

/// The patterns of the groups checked so far.
#[derive(Default)]
pub(super) struct Claims {
    taken: BTreeMap<String, Claim>,
    /// The patterns, keyed by their text in lower case.
    lower: BTreeMap<String, Claim>,
    /// Patterns with a wildcard, by the text before the first wildcard: only patterns whose text is
    /// a prefix of another pattern can hide it.
    wide: BTreeMap<String, Vec<Claim>>,
    catch_all: Option<String>,
}

#[derive(Clone)]
struct Claim {
    pattern: String,
    group: String,
    spot: Spot,
}

impl Claims {
    /// Checks the patterns of one group against earlier ones, and adds them.
    pub(super) fn check(
        &mut self,
        document: &Document,
        name: &str,
        section: &Section<'_>,
        patterns: &[&str],
    ) {
        if let Some(above) = &self.catch_all {
            section.mistake(
                "match",
                format!("never reached: [group.{above}] above takes every worker"),
            );
            return;
        }
        let mut sound = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let spot = section.spot_in("match", index);
            if !is_pattern(document, &spot, pattern) {
                continue;
            }
            if let Some(other) = self.taken.get(*pattern) {
                let other = &other.group;
                let message = format!("the pattern {pattern:?} stands in [group.{other}] already");
                document.report(&spot, message, None);
                continue;
            }
            let claim = Claim {
                pattern: (*pattern).to_owned(),
                group: name.to_owned(),
                spot: spot.clone(),
            };
            match self.hiding(pattern) {
                Some(wide) => tell_hidden(document, &claim, wide),
                None => self.warn_of_case(document, &claim),
            }
            self.taken.insert((*pattern).to_owned(), claim.clone());
            self.lower.entry(pattern.to_lowercase()).or_insert_with(|| claim.clone());
            sound.push(claim);
        }
        // Patterns of the same group do not hide each other: the machine is in the group either
        // way.
        for claim in sound {
            if claim.pattern.chars().all(|c| c == '*') {
                self.catch_all = Some(name.to_owned());
            }
            if claim.pattern.contains(globs::WILDCARDS) {
                let start = globs::literal_start(&claim.pattern).to_owned();
                self.wide.entry(start).or_default().push(claim);
            }
        }
    }

    /// The earlier pattern that matches every name that `pattern` matches.
    fn hiding(&self, pattern: &str) -> Option<&Claim> {
        let start = globs::literal_start(pattern);
        let starts = (0..=start.len()).filter(|end| start.is_char_boundary(*end));
        starts
            .filter_map(|end| self.wide.get(&start[..end]))
            .flatten()
            .find(|wide| globs::covers(&wide.pattern, pattern))
    }

    /// Warns of a pattern that differs only in upper and lower case from one of a different group.
    fn warn_of_case(&self, document: &Document, claim: &Claim) {
        let alike = self.lower.get(&claim.pattern.to_lowercase());
        if let Some(other) = alike.filter(|other| other.group != claim.group) {
            let message = format!(
                "differs from {:?} of [group.{}] in upper and lower case only: worker names are case-sensitive",
                other.pattern, other.group
            );
            document.warn(&claim.spot, message, None);
        }
    }
}

fn tell_hidden(document: &Document, hidden: &Claim, wide: &Claim) {
    let line =
        document.line(&wide.spot).map_or_else(String::new, |line| format!(" on line {line}"));
    let message = format!(
        "never reached: {:?} of [group.{}]{line} takes every name that {:?} does, and the first group that matches wins; \
         put [group.{}] above it",
        wide.pattern, wide.group, hidden.pattern, hidden.group
    );
    document.report(&hidden.spot, message, None);
}

/// Returns whether the pattern is a valid glob; reports a mistake if it is not.
fn is_pattern(document: &Document, spot: &Spot, pattern: &str) -> bool {
    if pattern.len() > PATTERN_MAX || pattern.chars().any(char::is_control) {
        let message =
            format!("a pattern is at most {PATTERN_MAX} bytes without control characters");
        document.report(spot, message, None);
        return false;
    }
    if let Some(meant) = globs::of_regex(pattern) {
        let message = format!(
            "{pattern:?} looks like a regular expression, but a pattern is a glob: * is any run of characters, ? is any one"
        );
        match meant.as_slice() {
            [one] => document.report(spot, message, Some(one.clone())),
            several => document.report(spot, format!("{message}; write {several:?}"), None),
        }
        return false;
    }
    if let Some(parts) = listed(pattern) {
        let message = format!(
            "{pattern:?} is one pattern, in which a comma is a character like any other; write a list: {parts:?}"
        );
        document.warn(spot, message, None);
    } else if pattern.trim() != pattern {
        let message = format!("{pattern:?} matches only names that begin or end with a space");
        document.warn(spot, message, Some(pattern.trim().to_owned()));
    }
    true
}

/// The single patterns, if `pattern` looks like a list separated by commas.
fn listed(pattern: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = pattern.split(',').map(str::trim).collect();
    (parts.len() > 1 && !parts.contains(&"")).then_some(parts)
}

const PATTERN_MAX: usize = 256;
