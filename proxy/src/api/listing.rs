//! Long lists in pages. Entries are sorted by a key, which may change between two pages, and by the
//! id of the entry among equal keys, so that entries that come or go between two pages do not shift
//! the others. The routes decide what is listed and by which keys it can be sorted.

use std::cmp::Ordering;

use daemon::admin::ApiError;
use serde::{Deserialize, Serialize};

/// The maximum number of entries on a page.
pub(super) const LIMIT_MAX: usize = 1000;
/// The number of entries on a page if the request does not say.
pub(super) const LIMIT: usize = 100;
/// The maximum length of a cursor. One with a worker name as key and as id, in JSON, in hex, is
/// shorter.
const CURSOR_MAX: usize = 2048;

/// The value by which an entry is sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Key {
    /// The bits of a number, changed so that their order is that of the numbers.
    #[serde(rename = "n")]
    Number(u64),
    #[serde(rename = "t")]
    Text(String),
}

/// The identity of an entry, which never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Session(u64),
    Worker(String),
}

/// An entry's place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place(pub(super) Key, pub(super) Id);

impl Key {
    /// A number as key; an unknown one sorts before all others.
    pub(super) fn number(number: Option<f64>) -> Self {
        let bits = number.unwrap_or(f64::NEG_INFINITY).to_bits();
        Self::Number(if bits >> 63 == 0 { bits | 1 << 63 } else { !bits })
    }
}

impl Place {
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let keys = self.0.cmp(&other.0);
        (if descending { keys.reverse() } else { keys }).then_with(|| self.1.cmp(&other.1))
    }
}

/// The requested part of a list, and its order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    pub(super) descending: bool,
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// The place of the last entry on the page before.
    pub(super) after: Option<Place>,
}

/// One page of a long list.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The number of entries that pass the filters, over all pages.
    pub total: usize,
    pub offset: usize,
    /// The `cursor` of the next page; null at the end.
    pub next: Option<String>,
    pub items: Vec<T>,
}

impl Window {
    /// Reads the parameters of a query. `sort` is one of `keys`, with a `-` before it if the
    /// highest are to come first.
    pub(super) fn read<'k>(
        sort: Option<&str>,
        keys: &[&'k str],
        offset: Option<usize>,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<(&'k str, Self), ApiError> {
        let sort = sort.unwrap_or(keys[0]);
        let (descending, name) = sort.strip_prefix('-').map_or((false, sort), |name| (true, name));
        let Some(key) = keys.iter().find(|key| **key == name) else {
            let message = format!("{name:?} is none of {}", keys.join(", "));
            return Err(ApiError::bad_request("bad_query", message).field("sort"));
        };
        let after = cursor.map(parse).transpose()?;
        if after.is_some() && offset.is_some() {
            return Err(ApiError::bad_request(
                "bad_query",
                "given beside offset: keep one of them",
            )
            .field("cursor"));
        }
        let limit = limit.unwrap_or(LIMIT).min(LIMIT_MAX);
        Ok((key, Self { descending, offset: offset.unwrap_or(0), limit, after }))
    }

    /// Takes the page out of all entries, and converts its entries with `show`.
    pub(super) fn cut<T, V>(
        &self,
        mut entries: Vec<(Place, T)>,
        show: impl FnMut(T) -> V,
    ) -> Result<Listing<V>, ApiError> {
        let total = entries.len();
        entries.sort_unstable_by(|(one, _), (other, _)| one.compare(other, self.descending));
        let start = match &self.after {
            None => self.offset.min(total),
            Some(after) => {
                let of_this_list = entries.first().is_none_or(|(place, _)| place.is_like(after));
                if !of_this_list {
                    return Err(bad_cursor());
                }
                entries.partition_point(|(place, _)| {
                    place.compare(after, self.descending) != Ordering::Greater
                })
            }
        };
        let end = start.saturating_add(self.limit).min(total);
        let next = (end < total && end > start).then(|| write(&entries[end - 1].0));
        let items = entries.drain(start..end).map(|(_, entry)| entry).map(show).collect();
        Ok(Listing { total, offset: start, next, items })
    }
}

impl Place {
    /// Whether `other` has the same kind of key and the same kind of id, so that one list can hold
    /// both.
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.0) == std::mem::discriminant(&other.0)
            && std::mem::discriminant(&self.1) == std::mem::discriminant(&other.1)
    }
}

fn write(place: &Place) -> String {
    const_hex::encode(serde_json::to_vec(place).expect("text and numbers are JSON"))
}

fn parse(cursor: &str) -> Result<Place, ApiError> {
    (cursor.len() <= CURSOR_MAX)
        .then(|| const_hex::decode(cursor).ok())
        .flatten()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(bad_cursor)
}

fn bad_cursor() -> ApiError {
    ApiError::bad_request("bad_cursor", "no cursor of this list in this order").field("cursor")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(rates: &[(u64, f64)]) -> Vec<(Place, u64)> {
        rates
            .iter()
            .map(|(id, rate)| (Place(Key::number(Some(*rate)), Id::Session(*id)), *id))
            .collect()
    }

    fn window(sort: &str, limit: usize, cursor: Option<&str>) -> Window {
        Window::read(Some(sort), &["hashrate"], None, Some(limit), cursor).expect("a sound query").1
    }

    #[test]
    fn numbers_sort_as_numbers_and_the_unknown_stand_first() {
        let mut keys: Vec<Key> =
            [Some(3.0), Some(0.0), None, Some(-1.0), Some(1e300)].map(Key::number).into();
        keys.sort();
        assert_eq!(keys, [None, Some(-1.0), Some(0.0), Some(3.0), Some(1e300)].map(Key::number));
    }

    /// Between two pages one entry leaves and one comes; none of the remaining ones is missing or
    /// repeated.
    #[test]
    fn pages_do_not_shift_when_entries_come_and_go() {
        let first = window("-hashrate", 2, None)
            .cut(entries(&[(1, 5.0), (2, 5.0), (3, 9.0), (4, 1.0)]), |id| id)
            .expect("a page");
        assert_eq!((first.items, first.total), (vec![3, 1], 4));
        let cursor = first.next.expect("there is more");
        let second = window("-hashrate", 2, Some(&cursor))
            .cut(entries(&[(1, 5.0), (2, 5.0), (4, 1.0), (5, 70.0)]), |id| id)
            .expect("a page");
        assert_eq!((second.items, second.next), (vec![2, 4], None));
    }

    #[test]
    fn h29_odd_windows_are_bounded_or_refused() {
        let all: Vec<(u64, f64)> = (0..3000u32).map(|id| (u64::from(id), f64::from(id))).collect();
        let page =
            window("hashrate", 1_000_000_000, None).cut(entries(&all), |id| id).expect("a page");
        assert_eq!(page.items.len(), LIMIT_MAX);
        let beyond = Window { offset: usize::MAX, ..window("hashrate", usize::MAX, None) };
        assert!(beyond.cut(entries(&all), |id| id).expect("a page").items.is_empty());
        for forged in ["zz", "00", &"ab".repeat(5000), &const_hex::encode("[{\"n\":1}]")] {
            let refused =
                Window::read(None, &["hashrate"], None, None, Some(forged)).expect_err(forged);
            assert_eq!(refused.code, "bad_cursor");
        }
        // A cursor of a different list.
        let other = write(&Place(Key::Text("a".into()), Id::Session(1)));
        assert_eq!(
            window("hashrate", 5, Some(&other)).cut(entries(&all), |id| id).expect_err("").code,
            "bad_cursor"
        );
        let refused =
            Window::read(Some("-speed"), &["hashrate"], None, None, None).expect_err("no such key");
        assert!(refused.message.contains("hashrate"), "{refused:?}");
    }
}
