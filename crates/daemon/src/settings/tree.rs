//! The parsed settings as an owned tree in which every value knows its place in the file or the
//! variable it came from. It is built from the spanned tree of the `toml` crate. Numbers are
//! checked for range here; values are interpreted elsewhere.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Source};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    Variable(Arc<str>),
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A table's entries in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Str(String),
    Int(i64),
    /// May be NaN or infinite: TOML allows it, the sections refuse it.
    Float(f64),
    Bool(bool),
    /// A date, a time or both, as written.
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
    /// The text of an environment variable: it converts to the type that is asked for.
    Text(String),
}

impl Value {
    /// The name of the value's type, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Str(_) => "a string",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Text(_) => "the text of a variable",
        }
    }
}

impl Table {
    pub(super) fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// Parses the text; returns the tree and the mistakes.
pub(super) fn parse(source: &Source) -> (Table, Vec<Mistake>) {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    let mut walk = Walk { source, mistakes: Vec::new() };
    let mut line = None;
    for err in errors {
        // After a syntax error, the parser often reports more errors nearby. The first one on a
        // line is the useful one.
        let span = err.span().unwrap_or(0..0);
        let here = source.position(span.start).line;
        if line.replace(here) != Some(here) && walk.mistakes.len() < SYNTAX_MAX {
            walk.mistake(&Place::File(span), "", err.message().to_owned());
        }
    }
    if !walk.mistakes.is_empty() {
        return (Table::default(), walk.mistakes);
    }
    let root = walk.table(table.get_ref(), "");
    (root, walk.mistakes)
}

/// The text of a key in a top-level table, if the file can be parsed that far.
pub(super) fn salvage(text: &str, table: &str, key: &str) -> Option<String> {
    let (root, _) = DeTable::parse_recoverable(text);
    let DeValue::Table(table) = value_of(root.get_ref(), table)? else { return None };
    let DeValue::String(text) = value_of(table, key)? else { return None };
    (!text.is_empty()).then(|| text.to_string())
}

fn value_of<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a DeValue<'i>> {
    let entry = table.iter().find(|(name, _)| name.get_ref() == key);
    entry.map(|(_, value)| value.get_ref())
}

/// How many syntax errors are shown. Later ones are mostly consequences of earlier ones.
const SYNTAX_MAX: usize = 10;

/// How many mistakes in values are kept while the tree is built.
const VALUES_MAX: usize = 200;

struct Walk<'a> {
    source: &'a Source,
    mistakes: Vec<Mistake>,
}

/// The recursion is bounded by the parser's own limit on nesting (80).
impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>, path: &str) -> Table {
        let mut entries: Vec<(usize, Entry)> = Vec::with_capacity(table.len());
        for (key, value) in table {
            let path = join(path, key.get_ref());
            let place = Place::File(key.span());
            if key.get_ref().chars().any(char::is_control) {
                self.mistake(&place, &path, "a key must not hold control characters".to_owned());
                continue;
            }
            let node = self.node(value, &path);
            entries.push((
                key.span().start,
                Entry { key: key.get_ref().to_string(), key_place: place, node },
            ));
        }
        entries.sort_by_key(|(start, _)| *start);
        Table { entries: entries.into_iter().map(|(_, entry)| entry).collect() }
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Node {
        let place = Place::File(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => {
                if text.contains('\0') {
                    self.mistake(&place, path, "a string must not hold a NUL character".to_owned());
                }
                Value::Str(text.to_string())
            }
            DeValue::Integer(digits) => Value::Int(
                i64::from_str_radix(digits.as_str(), digits.radix()).unwrap_or_else(|_| {
                    self.mistake(&place, path, "the number is too large".to_owned());
                    0
                }),
            ),
            DeValue::Float(digits) => Value::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::Datetime(time.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                Value::Array(
                    items
                        .map(|(index, item)| self.node(item, &format!("{path}[{index}]")))
                        .collect(),
                )
            }
            DeValue::Table(table) => Value::Table(self.table(table, path)),
        };
        Node { value, place }
    }

    fn mistake(&mut self, place: &Place, path: &str, message: String) {
        if self.mistakes.len() < VALUES_MAX {
            self.mistakes.push(self.source.mistake(place, path.to_owned(), message, None));
        }
    }
}

/// The path of `key` below `path`. A key that TOML would quote is quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
