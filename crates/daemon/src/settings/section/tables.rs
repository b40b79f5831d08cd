//! Reads the tables below a table: one by its key, all of an array, or all by their names.

use super::super::tree::{Place, Table, Value, join};
use super::{Section, Spot};

impl<'a> Section<'a> {
    /// The table under the key.
    pub fn table(&self, key: &str) -> Option<Self> {
        let node = self.node(key)?;
        let Value::Table(table) = &node.value else {
            self.wrong_kind(key, node, "a table");
            return None;
        };
        Some(self.child(table, join(&self.path, key), node.place.clone()))
    }

    /// The table under the key; an empty one if it is missing, for sections whose keys all have
    /// defaults.
    pub fn table_or_empty(&self, key: &str) -> Self {
        self.table(key).unwrap_or_else(|| self.empty(key))
    }

    /// The required table under the key. If it is missing, a mistake is recorded and an empty table
    /// returned.
    pub fn required_table(&self, key: &str) -> Self {
        if !self.has(key) {
            self.report(
                &self.here_for(key),
                format!("missing; write a [{}] section", join(&self.path, key)),
            );
        }
        let mut table = self.table_or_empty(key);
        table.muted |= !self.has(key);
        table
    }

    /// The entries of an array of tables, such as every `[[target]]`; none if the key is missing.
    pub fn tables(&self, key: &str) -> Vec<Self> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            let what = format!("an array of tables: write [[{}]]", join(&self.path, key));
            self.wrong_kind(key, node, &what);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", join(&self.path, key));
            match &item.value {
                Value::Table(table) => tables.push(self.child(table, path, item.place.clone())),
                other => {
                    let spot = Spot { key: path, place: item.place.clone() };
                    self.report(&spot, format!("expected a table, found {}", other.kind()));
                }
            }
        }
        tables
    }

    /// The tables below a key by name, such as every `[feed.NAME]`, in the order of the file; none
    /// if the key is missing. Names are 1 to 64 of letters, digits, `.`, `_` and `-`.
    pub fn named_tables(&self, key: &str) -> Vec<(String, Self)> {
        let Some(above) = self.table(key) else { return Vec::new() };
        let mut tables = Vec::with_capacity(above.table.entries.len());
        for entry in &above.table.entries {
            let path = join(&above.path, &entry.key);
            let spot = Spot { key: path.clone(), place: entry.key_place.clone() };
            match &entry.node.value {
                _ if !is_name(&entry.key) => {
                    self.report(&spot, NAME);
                }
                Value::Table(table) => {
                    tables.push((
                        entry.key.clone(),
                        self.child(table, path, entry.node.place.clone()),
                    ));
                }
                other => {
                    let message =
                        format!("expected a table [{}.NAME], found {}", above.path, other.kind());
                    self.report(&spot, message);
                }
            }
        }
        tables
    }

    fn child(&self, table: &'a Table, path: String, place: Place) -> Self {
        Self { muted: self.muted, ..Self::new(self.document, table, path, place) }
    }

    fn empty(&self, key: &str) -> Self {
        static EMPTY: Table = Table { entries: Vec::new() };
        let mut empty = self.child(&EMPTY, join(&self.path, key), self.place.clone());
        empty.muted |= self.has(key);
        empty
    }
}

/// What [`is_name`] demands, for a mistake.
pub(super) const NAME: &str = "a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -";

pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
