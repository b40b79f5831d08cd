//! Parses the top level of a line's JSON, and finds the faults that close a connection.
//!
//! `serde_json` does the parsing. Two faults that it allows are found here: duplicate keys (it
//! takes the last one) and nesting (it allows 128 levels). Values are borrowed from the line
//! ([`value`]). The message modules interpret the fields.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::value::Key;
pub(crate) use self::value::Value;
use crate::line_fault::LineFault;

mod value;

/// The maximum nesting of arrays and objects in a line.
pub(crate) const DEPTH_MAX: usize = 8;
/// The maximum number of `params`, and of unknown keys at the top level.
pub(crate) const PARAMS_MAX: usize = 16;

/// The `params` of a request.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack while a line is read; a box would cost each share an allocation"
)]
pub(crate) enum Params<'a> {
    /// The line has no `params`.
    Missing,
    /// `params` is not an array.
    Other,
    /// The first sixteen items, and how many there are in all.
    List { items: [Value<'a>; PARAMS_MAX], total: usize },
}

impl<'a> Params<'a> {
    /// Takes an item out of the list; returns null if there is none.
    pub(crate) fn take(&mut self, at: usize) -> Value<'a> {
        match self {
            Self::List { items, .. } => items.get_mut(at).map(std::mem::take).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// Returns how many items there are: 0 if `params` is not an array.
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

/// The fields at the top level of a line.
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
    /// Reads a line; returns `None` if it is empty or white space.
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

/// Says whether brackets nest deeper than allowed; those inside strings do not count.
fn is_too_deep(line: &[u8]) -> bool {
    // Nearly every line has so few brackets that it cannot nest too deep. The exact count below is
    // only for the others.
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

/// The envelope, and the first fault found while parsing. The fault is a field because the errors
/// of a serde visitor cannot carry its kind.
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
