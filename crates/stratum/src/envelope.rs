//! The JSON of a line, one level deep, and the faults that close a connection.
//!
//! `serde_json` does the parsing; what it lets pass is caught here: duplicate keys (it takes the last), depth (it allows 128),
//! control characters in strings. Values are borrowed from the line and numbers stay text, so that an id can be echoed and a
//! difficulty read to its last bit. What the fields mean is left to the message modules.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::client_message::LineFault;

/// Deepest nesting of arrays and objects in a line.
pub(crate) const DEPTH_MAX: usize = 8;
/// Most `params`, and most top-level keys we do not know.
pub(crate) const PARAMS_MAX: usize = 16;

/// A JSON value, borrowed. Arrays and objects stay text until someone asks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Value<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number's digits.
    Number(&'a str),
    /// A string, its escapes resolved.
    Text(Cow<'a, str>),
    /// An array's text.
    Array(&'a str),
    /// An object's text.
    Object(&'a str),
}

impl<'a> Value<'a> {
    /// Takes valid JSON text apart. `None` for a string that means no text, such as a lone surrogate.
    pub(crate) fn from_raw(raw: &'a str) -> Option<Self> {
        Some(match *raw.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'[' => Self::Array(raw),
            b'{' => Self::Object(raw),
            b'"' => match raw.strip_prefix('"')?.strip_suffix('"')? {
                plain if memchr::memchr(b'\\', plain.as_bytes()).is_none() => Self::Text(Cow::Borrowed(plain)),
                _ => Self::Text(Cow::Owned(serde_json::from_str(raw).ok()?)),
            },
            _ => Self::Number(raw),
        })
    }

    /// Returns the first `max` items of an array's text. Items that mean no text come as null.
    pub(crate) fn items(raw: &'a str, max: usize) -> Vec<Self> {
        Self::items_counted(raw, max).0
    }

    /// Returns the first `max` items of an array's text, and how many there are.
    pub(crate) fn items_counted(raw: &'a str, max: usize) -> (Vec<Self>, usize) {
        match serde_json::from_str::<List<'a>>(raw) {
            Ok(List { mut items, total }) => {
                items.truncate(max);
                (items.into_iter().map(|raw| Self::from_raw(raw.get()).unwrap_or_default()).collect(), total)
            }
            Err(_) => (Vec::new(), 0),
        }
    }

    /// Returns the first `max` fields of an object's text.
    pub(crate) fn fields(raw: &'a str, max: usize) -> Vec<(Cow<'a, str>, Self)> {
        match serde_json::from_str::<Fields<'a>>(raw) {
            Ok(Fields(mut fields)) => {
                fields.truncate(max);
                fields.into_iter().map(|(key, raw)| (key, Self::from_raw(raw.get()).unwrap_or_default())).collect()
            }
            Err(_) => Vec::new(),
        }
    }
}

/// The `params` of a request.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack while a line is read; a box would cost each share an allocation"
)]
pub(crate) enum Params<'a> {
    /// There was no such key.
    Missing,
    /// Something other than an array.
    Other,
    /// The first sixteen items, and how many there were.
    List { items: [Value<'a>; PARAMS_MAX], total: usize },
}

impl<'a> Params<'a> {
    /// Takes an item out; null where there is none.
    pub(crate) fn take(&mut self, at: usize) -> Value<'a> {
        match self {
            Self::List { items, .. } => items.get_mut(at).map(std::mem::take).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// Returns how many items there were: 0 where there is no array.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::List { total, .. } => *total,
            _ => 0,
        }
    }

    /// Says whether `params` was an array.
    pub(crate) const fn is_list(&self) -> bool {
        matches!(self, Self::List { .. })
    }
}

/// A line's top level.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope<'a> {
    /// The id's text.
    pub(crate) id: Option<&'a str>,
    pub(crate) method: Option<Value<'a>>,
    pub(crate) params: Params<'a>,
    pub(crate) result: Option<Value<'a>>,
    pub(crate) error: Option<Value<'a>>,
    /// ckpool's reason beside `"result":false`.
    pub(crate) reject_reason: Option<Value<'a>>,
}

impl<'a> Envelope<'a> {
    /// Reads a line; `None` where there is nothing but white space.
    pub(crate) fn read(line: &'a [u8]) -> Result<Option<Self>, LineFault> {
        if line.first() != Some(&b'{') {
            if line.iter().all(u8::is_ascii_whitespace) {
                return Ok(None);
            }
            if let Some(fault) = LineFault::sniff(line) {
                return Err(fault);
            }
        }
        let text = std::str::from_utf8(line).map_err(|_| LineFault::NotUtf8)?;
        if is_too_deep(line) {
            return Err(LineFault::TooDeep);
        }
        let Line { envelope, fault } = serde_json::from_str(text).map_err(|_| LineFault::Json)?;
        fault.map_or(Ok(Some(envelope)), Err)
    }
}

/// Says whether brackets outside of strings nest deeper than allowed.
fn is_too_deep(line: &[u8]) -> bool {
    // Nearly every line has few brackets in all; only the others are looked at closely.
    if line.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// An envelope and the fault found on the way, kept apart because a visitor's own errors are all alike.
struct Line<'a> {
    envelope: Envelope<'a>,
    fault: Option<LineFault>,
}

impl<'de> Deserialize<'de> for Line<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut method, mut params, mut result, mut error, mut reject_reason) =
            (None, None, None, None, None, None);
        let mut others: Vec<Cow<'de, str>> = Vec::new();
        let mut fault = None;
        while let Some(Key(key)) = map.next_key()? {
            let twice = match key.as_ref() {
                "id" => id.replace(map.next_value::<&'de RawValue>()?.get()).is_some(),
                "method" => method.replace(map.next_value()?).is_some(),
                "params" => params.replace(map.next_value()?).is_some(),
                "result" => result.replace(map.next_value()?).is_some(),
                "error" => error.replace(map.next_value()?).is_some(),
                "reject-reason" => reject_reason.replace(map.next_value()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    if others.len() == PARAMS_MAX {
                        fault.get_or_insert(LineFault::TooManyParams);
                        continue;
                    }
                    let twice = others.contains(&key);
                    others.push(key);
                    twice
                }
            };
            if twice {
                fault.get_or_insert(LineFault::DuplicateKey);
            }
        }
        let params = params.unwrap_or(Params::Missing);
        Ok(Line { envelope: Envelope { id, method, params, result, error, reject_reason }, fault })
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        Self::from_raw(raw).ok_or_else(|| serde::de::Error::custom("a string that means no text"))
    }
}

impl<'de> Deserialize<'de> for Params<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamsVisitor)
    }
}

struct ParamsVisitor;

impl<'de> Visitor<'de> for ParamsVisitor {
    type Value = Params<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items: [Value<'de>; PARAMS_MAX] = Default::default();
        let mut total = 0;
        for room in &mut items {
            let Some(item) = seq.next_element()? else {
                return Ok(Params::List { items, total });
            };
            *room = item;
            total += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            total += 1;
        }
        Ok(Params::List { items, total })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Params::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Params::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Params::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Params::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Params::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Params::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Params::Other)
    }
}

/// An object's key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

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

/// An array's items, no more than [`LIST_MAX`] of them kept.
struct List<'a> {
    items: Vec<&'a RawValue>,
    total: usize,
}

/// Most items kept of a nested array, and most fields of a nested object: a notify's branches are the longest there are.
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

/// An object's fields, no more than [`LIST_MAX`] of them kept, in their order and with duplicates.
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
