//! JSON values borrowed from a line, one level at a time.
//!
//! Numbers stay text, so that an id can be echoed unchanged and a difficulty is parsed exactly.
//! Arrays and objects stay text until their items are asked for; the number of items is bounded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value, borrowed from its line. Arrays and objects stay text until their items are asked
/// for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Value<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number's digits.
    Number(&'a str),
    /// A string with its escapes resolved.
    Text(Cow<'a, str>),
    /// An array's text.
    Array(&'a str),
    /// An object's text.
    Object(&'a str),
}

impl<'a> Value<'a> {
    /// Reads valid JSON text. Returns `None` for a string that is not valid Unicode, such as a lone
    /// surrogate.
    pub(crate) fn from_raw(raw: &'a str) -> Option<Self> {
        Some(match *raw.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'[' => Self::Array(raw),
            b'{' => Self::Object(raw),
            b'"' => match raw.strip_prefix('"')?.strip_suffix('"')? {
                plain if memchr::memchr(b'\\', plain.as_bytes()).is_none() => {
                    Self::Text(Cow::Borrowed(plain))
                }
                _ => Self::Text(Cow::Owned(serde_json::from_str(raw).ok()?)),
            },
            _ => Self::Number(raw),
        })
    }

    /// Returns the first `max` items of an array's text. A string that is not valid Unicode becomes
    /// null.
    pub(crate) fn items(raw: &'a str, max: usize) -> Vec<Self> {
        Self::items_counted(raw, max).0
    }

    /// Returns the first `max` items of an array's text, and how many there are.
    pub(crate) fn items_counted(raw: &'a str, max: usize) -> (Vec<Self>, usize) {
        match serde_json::from_str::<List<'a>>(raw) {
            Ok(List { mut items, total }) => {
                items.truncate(max);
                (
                    items
                        .into_iter()
                        .map(|raw| Self::from_raw(raw.get()).unwrap_or_default())
                        .collect(),
                    total,
                )
            }
            Err(_) => (Vec::new(), 0),
        }
    }

    /// Returns the first `max` fields of an object's text.
    pub(crate) fn fields(raw: &'a str, max: usize) -> Vec<(Cow<'a, str>, Self)> {
        match serde_json::from_str::<Fields<'a>>(raw) {
            Ok(Fields(mut fields)) => {
                fields.truncate(max);
                fields
                    .into_iter()
                    .map(|(key, raw)| (key, Self::from_raw(raw.get()).unwrap_or_default()))
                    .collect()
            }
            Err(_) => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        Self::from_raw(raw).ok_or_else(|| serde::de::Error::custom("a string that means no text"))
    }
}

/// An object's key, borrowed where it has no escapes.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

/// The first [`LIST_MAX`] items of an array.
struct List<'a> {
    items: Vec<&'a RawValue>,
    total: usize,
}

/// How many items of a nested array, and fields of a nested object, are kept. The longest array in
/// use is the merkle branches of a notify.
const LIST_MAX: usize = 64;

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = List { items: Vec::new(), total: 0 };
        while let Some(item) = seq.next_element()? {
            list.total += 1;
            if list.items.len() < LIST_MAX {
                list.items.push(item);
            }
        }
        Ok(list)
    }
}

/// The first [`LIST_MAX`] fields of an object, in order and with duplicates.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            if fields.len() < LIST_MAX {
                fields.push((key, value));
            }
        }
        Ok(Fields(fields))
    }
}
