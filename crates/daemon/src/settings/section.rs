//! Reads one table of the settings: returns typed values by key, records every mistake, and at the
//! end reports the keys that were never asked for, each with the name that was probably meant.
//!
//! `required_…` records a mistake when the key is missing and returns `None`; `optional_…` returns
//! `None` for a missing key; `…_or` returns the default for it. A value of the wrong kind or out of
//! range is always a mistake; then the first two return `None` and the third the default. A loader
//! can therefore go on and find the other mistakes too.

mod tables;
mod values;

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Document;
use super::secret::{Secret, secret_file};
use super::tree::{Node, Place, Table, Value, join};

pub use values::Raw;

/// A place in the settings to which a later mistake can point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub(super) key: String,
    pub(super) place: Place,
}

impl Spot {
    /// The key from the top, such as `feed.xfmr-a.parent`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// One table of the settings. Call [`Self::finish`] when all keys have been asked for.
#[derive(Debug)]
#[must_use = "call `finish`, or unknown keys go unnoticed"]
pub struct Section<'a> {
    document: &'a Document,
    table: &'a Table,
    path: String,
    place: Place,
    /// Set if the value is not a table. This was reported once, and no mistake is recorded for its
    /// keys.
    muted: bool,
    asked: RefCell<Vec<String>>,
    renamed: RefCell<Vec<(String, String)>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(document: &'a Document, table: &'a Table) -> Self {
        Self::new(document, table, String::new(), Place::File(0..0))
    }

    fn new(document: &'a Document, table: &'a Table, path: String, place: Place) -> Self {
        Self {
            document,
            table,
            path,
            place,
            muted: false,
            asked: RefCell::default(),
            renamed: RefCell::default(),
        }
    }

    /// The table's path from the top, such as `feed.xfmr-a`; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The document of this table, for checks between sections.
    #[must_use]
    pub fn document(&self) -> &'a Document {
        self.document
    }

    /// Whether the table has the key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.find(key).is_some()
    }

    /// The spot of the key's value, or of the table itself if the key is missing.
    #[must_use]
    pub fn spot(&self, key: &str) -> Spot {
        let place = self.table.find(key).map_or(&self.place, |entry| &entry.node.place);
        Spot { key: join(&self.path, key), place: place.clone() }
    }

    /// Whether the key is missing, or its value is an empty list or table. A value of another kind
    /// is not empty.
    #[must_use]
    pub fn is_empty(&self, key: &str) -> bool {
        match self.table.find(key).map(|entry| &entry.node.value) {
            None => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Table(table)) => table.entries.is_empty(),
            Some(_) => false,
        }
    }

    /// Whether the key's value is a list.
    #[must_use]
    pub fn is_list(&self, key: &str) -> bool {
        self.table.find(key).is_some_and(|entry| matches!(entry.node.value, Value::Array(_)))
    }

    /// The spot of an entry of the key's list, or of the whole value if it is not a list.
    #[must_use]
    pub fn spot_in(&self, key: &str, index: usize) -> Spot {
        let item = self.table.find(key).and_then(|entry| match &entry.node.value {
            Value::Array(items) => items.get(index),
            _ => None,
        });
        let whole = self.spot(key);
        item.map_or(whole.clone(), |item| Spot { place: item.place.clone(), ..whole })
    }

    /// The key's value if it is text. No mistake is recorded if it is not, and the key does not
    /// count as asked for: this is for checks between sections, some of which may be faulty.
    #[must_use]
    pub fn peek_str(&self, key: &str) -> Option<&'a str> {
        values::text(Raw(&self.table.find(key)?.node.value)).ok()
    }

    /// The key's value if it is `true` or `false`, looked at as [`Section::peek_str`] does.
    #[must_use]
    pub fn peek_bool(&self, key: &str) -> Option<bool> {
        values::boolean(Raw(&self.table.find(key)?.node.value)).ok()
    }

    /// The spot of the table itself: its header.
    #[must_use]
    pub fn here(&self) -> Spot {
        Spot { key: self.path.clone(), place: self.place.clone() }
    }

    /// Records a mistake at the key's value.
    pub fn mistake(&self, key: &str, message: impl Into<String>) {
        self.report(&self.spot(key), message);
    }

    /// Records a warning at the key's value.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        if !self.muted {
            self.document.warn(&self.spot(key), message, None);
        }
    }

    /// Records a mistake at a known key that cannot be used here. It is not reported as unknown as
    /// well.
    pub fn refuse(&self, key: &str, message: impl Into<String>) {
        if self.node(key).is_some() {
            self.mistake(key, message);
        }
    }

    fn report(&self, spot: &Spot, message: impl Into<String>) {
        if !self.muted {
            self.document.report(spot, message, None);
        }
    }

    /// A required value that the caller converts. An error of `convert` is recorded as a mistake.
    pub fn required<T>(
        &self,
        key: &str,
        convert: impl FnOnce(Raw<'a>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key);
        }
        self.optional(key, convert)
    }

    /// An optional value that the caller converts.
    pub fn optional<T>(
        &self,
        key: &str,
        convert: impl FnOnce(Raw<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        convert(Raw(&node.value)).map_err(|message| self.mistake(key, message)).ok()
    }

    /// Required text that is not empty.
    pub fn required_str(&self, key: &str) -> Option<&'a str> {
        self.required(key, values::text)
    }

    pub fn optional_str(&self, key: &str) -> Option<&'a str> {
        self.optional(key, values::text)
    }

    /// The name of a table elsewhere, such as the `a` of `[meter.a]`. Whether there is such a table
    /// is left to the caller.
    pub fn optional_name(&self, key: &str) -> Option<&'a str> {
        self.optional(key, |value| {
            let name = values::text(value)?;
            tables::is_name(name).then_some(name).ok_or_else(|| tables::NAME.to_owned())
        })
    }

    /// Text, or the default.
    pub fn str_or(&self, key: &str, default: &'a str) -> &'a str {
        self.optional_str(key).unwrap_or(default)
    }

    /// `true` or `false`, required.
    pub fn required_bool(&self, key: &str) -> Option<bool> {
        self.required(key, values::boolean)
    }

    /// `true` or `false`.
    pub fn optional_bool(&self, key: &str) -> Option<bool> {
        self.optional(key, values::boolean)
    }

    /// `true` or `false`, or the default.
    pub fn bool_or(&self, key: &str, default: bool) -> bool {
        self.optional_bool(key).unwrap_or(default)
    }

    /// An integer within the range, required.
    pub fn required_integer<T: TryFrom<i64> + PartialOrd + Display>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        self.required(key, |value| values::integer(value, &range))
    }

    /// An integer within the range.
    pub fn optional_integer<T: TryFrom<i64> + PartialOrd + Display>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        self.optional(key, |value| values::integer(value, &range))
    }

    /// An integer within the range, or the default.
    pub fn integer_or<T: TryFrom<i64> + PartialOrd + Display>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
        default: T,
    ) -> T {
        self.optional_integer(key, range).unwrap_or(default)
    }

    /// A finite number within the range, required. Integers count too.
    pub fn required_float(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        self.required(key, |value| values::float(value, &range))
    }

    /// A finite number within the range. Integers count too.
    pub fn optional_float(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        self.optional(key, |value| values::float(value, &range))
    }

    /// A finite number within the range, or the default.
    pub fn float_or(&self, key: &str, range: RangeInclusive<f64>, default: f64) -> f64 {
        self.optional_float(key, range).unwrap_or(default)
    }

    /// A span of time such as `"25s"` or `"1h30m"` within the range, required.
    pub fn required_duration(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.required(key, |value| values::duration(value, &range))
    }

    /// A span of time such as `"25s"` or `"1h30m"` within the range.
    pub fn optional_duration(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.optional(key, |value| values::duration(value, &range))
    }

    /// A span of time within the range, or the default.
    pub fn duration_or(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.optional_duration(key, range).unwrap_or(default)
    }

    /// A span of time of any length up to a year.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        self.optional_duration(key, Duration::ZERO..=YEAR)
    }

    /// One of the given words, required. Returns the value paired with it.
    pub fn required_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.optional_choice(key, choices);
        if !self.has(key) {
            self.missing(key);
        }
        value
    }

    /// One of the given words. Returns the value paired with it.
    pub fn optional_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.optional_str(key)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() && !self.muted {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            let message = format!("{text:?} is none of {}", words.join(", "));
            let meant = nearest(text, choices.iter().map(|(word, _)| *word));
            self.document.report(&self.spot(key), message, meant);
        }
        chosen
    }

    /// One of the given words, or the default.
    pub fn choice_or<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> T {
        self.optional_choice(key, choices).unwrap_or(default)
    }

    /// A list of texts that are not empty. A single text counts as a list of one; an environment
    /// variable separates texts by commas.
    pub fn strings(&self, key: &str) -> Option<Vec<&'a str>> {
        self.optional(key, values::texts)
    }

    /// A required list of at least one text.
    pub fn required_strings(&self, key: &str) -> Option<Vec<&'a str>> {
        let list = self.required(key, values::texts)?;
        if list.is_empty() {
            self.mistake(key, "must not be empty");
            return None;
        }
        Some(list)
    }

    /// A path. A relative one starts from the folder of the settings file.
    pub fn optional_path(&self, key: &str) -> Option<PathBuf> {
        self.optional_str(key).map(|path| self.document.folder().join(path))
    }

    pub fn required_path(&self, key: &str) -> Option<PathBuf> {
        self.required_str(key).map(|path| self.document.folder().join(path))
    }

    /// The secret in the file that the key names; see [`secret_file`].
    pub fn secret_file(&self, key: &str) -> Option<Secret> {
        match secret_file(&self.optional_path(key)?) {
            Ok(secret) => Some(secret),
            Err(err) => {
                self.mistake(key, err.to_string());
                None
            }
        }
    }

    /// Declares that the key `old` is now called `new`: if `old` is used, it is refused with the
    /// new name.
    pub fn renamed(&self, old: &str, new: &str) {
        self.renamed.borrow_mut().push((old.to_owned(), new.to_owned()));
    }

    /// Leaves a key to another reader of the same table: it is not reported as unknown here.
    pub fn leave(&self, key: &str) {
        self.node(key);
    }

    /// Ends the section, and reports the keys that were never asked for.
    pub fn finish(&self) {
        if self.muted {
            return;
        }
        let asked = self.asked.borrow();
        let renamed = self.renamed.borrow();
        for entry in &self.table.entries {
            if asked.contains(&entry.key) {
                continue;
            }
            let spot = Spot { key: join(&self.path, &entry.key), place: entry.key_place.clone() };
            if let Some((_, new)) = renamed.iter().find(|(old, _)| *old == entry.key) {
                self.document.report(&spot, format!("was renamed to {new:?}"), None);
            } else {
                let meant = self.document.suggest(&entry.key, asked.iter().map(String::as_str));
                self.document.report(&spot, "unknown key", meant);
            }
        }
    }

    fn node(&self, key: &str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|known| known == key) {
            asked.push(key.to_owned());
        }
        self.table.find(key).map(|entry| &entry.node)
    }

    fn missing(&self, key: &str) {
        self.report(&self.here_for(key), "missing");
    }

    /// A missing key's mistake points at the table's header.
    fn here_for(&self, key: &str) -> Spot {
        Spot { key: join(&self.path, key), place: self.place.clone() }
    }

    fn wrong_kind(&self, key: &str, node: &Node, wanted: &str) {
        self.mistake(key, format!("expected {wanted}, found {}", node.value.kind()));
    }
}

/// The candidate that `name` was probably meant to be: one that differs by one or two typing
/// errors, or a few more for long names.
#[must_use]
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    if name.len() > NEAREST_MAX {
        return None;
    }
    let allowed = 1 + name.chars().count() / 5;
    // A typing error changes the length by at most one character, which is at most four bytes.
    let near = candidates
        .filter(|candidate| {
            candidate.len() <= NEAREST_MAX && candidate.len().abs_diff(name.len()) <= 4 * allowed
        })
        .filter(|candidate| *candidate != name)
        .take(NEAREST_OF)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate));
    let (distance, best) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= allowed).then(|| best.to_owned())
}

/// How many candidates are compared with a name: a file may have tens of thousands.
const NEAREST_OF: usize = 500;

/// The maximum length of a name that is compared: the cost grows with the square of the length.
const NEAREST_MAX: usize = 64;

/// The maximum duration where no range is given.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
