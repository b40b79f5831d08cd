//! Environment variables that override the file: `TIELINE__API__LISTEN` sets `listen` in `[api]`,
//! `TIELINE__TARGET__0__URL` sets `url` in the first `[[target]]`. The `config` crate splits the
//! names. The values stay text until a section asks for a type, so that a pool password of `12`
//! does not become a number.

use std::ffi::OsString;
use std::sync::Arc;

use config::{Environment, Source as _};

use super::mistake::{Mistake, Origin, Severity};
use super::tree::{Entry, Node, Place, Table, Value, join};

/// Sets every variable that starts with `prefix__` in the tree. Returns those that could not be
/// set.
pub(super) fn lay_over(
    root: &mut Table,
    prefix: &str,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<Mistake> {
    let start = format!("{prefix}__");
    let mut ours: Vec<(String, OsString)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(&start))
        .collect();
    // Variables have no order of their own; sorting makes the result repeatable.
    ours.sort();
    let mut mistakes = Vec::new();
    for (name, value) in ours {
        let place = Arc::<str>::from(name.as_str());
        let outcome = match value.into_string() {
            Ok(value) if value.contains('\0') => {
                Err((String::new(), "must not hold a NUL character".to_owned()))
            }
            Ok(value) => split(prefix, &name).and_then(|keys| set(root, &keys, value, &place)),
            Err(_) => Err((String::new(), "is not UTF-8".to_owned())),
        };
        if let Err((key, message)) = outcome {
            let origin = Origin::Environment { variable: place };
            let severity = Severity::Mistake;
            mistakes.push(Mistake {
                severity,
                origin,
                key,
                message,
                suggestion: None,
                snippet: None,
            });
        }
    }
    mistakes
}

/// A mistake: the key and the message.
type Fault = (String, String);

fn split(prefix: &str, name: &str) -> Result<Vec<String>, Fault> {
    let source = Environment::with_prefix(prefix)
        .prefix_separator("__")
        .separator("__")
        .source(Some([(name.to_owned(), String::new())].into_iter().collect()));
    let keys = source.collect().map_err(|err| (String::new(), err.to_string()))?;
    let key = keys.into_keys().next().unwrap_or_default();
    let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err((String::new(), format!("names no key; write {prefix}__SECTION__KEY")));
    }
    Ok(keys)
}

fn set(root: &mut Table, keys: &[String], value: String, place: &Arc<str>) -> Result<(), Fault> {
    let (last, above) = keys.split_last().expect("splitting a text gives at least one part");
    let mut table = root;
    let mut path = String::new();
    let mut above = above.iter();
    while let Some(key) = above.next() {
        path = join(&path, key);
        let node = entry(table, key, place, || Value::Table(Table::default()));
        table = match &mut node.value {
            Value::Table(table) => table,
            Value::Array(items) => {
                let count = items.len();
                let index = above.next().map(String::as_str).unwrap_or_default();
                let item = index.parse().ok().and_then(|index: usize| items.get_mut(index));
                let Some(item) = item else {
                    return Err((
                        path,
                        format!(
                            "there is no entry {index:?}: the file has {count}, counted from 0"
                        ),
                    ));
                };
                path = format!("{path}[{index}]");
                match &mut item.value {
                    Value::Table(table) => table,
                    other => return Err((path, format!("is {}, not a table", other.kind()))),
                }
            }
            other => return Err((path, format!("is {}, not a table", other.kind()))),
        };
    }
    let node = entry(table, last, place, || Value::Text(String::new()));
    if matches!(node.value, Value::Table(_)) {
        return Err((join(&path, last), "is a table: set the keys in it".to_owned()));
    }
    *node = Node { value: Value::Text(value), place: Place::Variable(place.clone()) };
    Ok(())
}

/// Finds the entry, ignoring the case of its key (variables are written in capitals), or creates
/// it.
fn entry<'a>(
    table: &'a mut Table,
    key: &str,
    place: &Arc<str>,
    make: impl FnOnce() -> Value,
) -> &'a mut Node {
    let at = table.entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(key));
    let at = at.unwrap_or_else(|| {
        let place = Place::Variable(place.clone());
        let node = Node { value: make(), place: place.clone() };
        table.entries.push(Entry { key: key.to_owned(), key_place: place, node });
        table.entries.len() - 1
    });
    &mut table.entries[at].node
}
