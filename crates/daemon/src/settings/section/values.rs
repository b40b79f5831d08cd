//! Converts a value of the tree to the type asked for, or says why it cannot. The text of an
//! environment variable converts to any type that it spells.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::tree::Value;

/// A value as written in the settings, for a key that only the caller can interpret.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a>(pub(super) &'a Value);

impl<'a> Raw<'a> {
    /// Returns the text, which is not empty.
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn text(self) -> Result<&'a str, String> {
        text(self)
    }

    /// Returns the finite number; integers count too.
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn number(self) -> Result<f64, String> {
        number(self)
    }

    /// Returns the span of time, such as `"25s"`, within the range.
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn duration(self, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
        duration(self, range)
    }

    /// Returns the instant: a date and time with `Z` or an offset, as a TOML date or in a string.
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn time(self) -> Result<Timestamp, String> {
        time(self)
    }
}

pub(super) fn text(Raw(value): Raw<'_>) -> Result<&str, String> {
    let (Value::Str(text) | Value::Text(text)) = value else {
        return Err(expected("a string", value));
    };
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(text)
}

pub(super) fn texts(Raw(value): Raw<'_>) -> Result<Vec<&str>, String> {
    match value {
        Value::Str(_) => text(Raw(value)).map(|text| vec![text]),
        Value::Text(list) => list.split(',').map(str::trim).map(not_empty).collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| match &item.value {
                Value::Str(text) => not_empty(text),
                other => Err(format!("expected a list of strings, found {} in it", other.kind())),
            })
            .collect(),
        other => Err(expected("a list of strings", other)),
    }
}

fn not_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("must not hold an empty string".to_owned()) } else { Ok(text) }
}

pub(super) fn boolean(Raw(value): Raw<'_>) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) => spelled(text, "true or false"),
        other => Err(expected("true or false", other)),
    }
}

pub(super) fn integer<T>(Raw(value): Raw<'_>, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    let number = match value {
        Value::Int(number) => *number,
        Value::Text(text) => spelled(text, "an integer")?,
        other => return Err(expected("an integer", other)),
    };
    let outside = || format!("{number} is outside {} to {}", range.start(), range.end());
    T::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(outside)
}

pub(super) fn float(raw: Raw<'_>, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let number = number(raw)?;
    if !range.contains(&number) {
        return Err(format!("{number} is outside {} to {}", range.start(), range.end()));
    }
    Ok(number)
}

pub(super) fn duration(
    Raw(value): Raw<'_>,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let how = "write a number with its unit, such as \"25s\", \"9m\" or \"1h30m\"";
    let (Value::Str(text) | Value::Text(text)) = value else {
        return Err(format!("{}; {how}", expected("a duration", value)));
    };
    let signed: SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration; {how}"))?;
    let duration = Duration::try_from(signed).map_err(|_| format!("{text:?} is negative"))?;
    if !range.contains(&duration) {
        let [low, high] = [*range.start(), *range.end()].map(shown);
        return Err(format!("{text:?} is outside {low} to {high}"));
    }
    Ok(duration)
}

fn time(Raw(value): Raw<'_>) -> Result<Timestamp, String> {
    let how = "write a date and time with Z or an offset, such as 2026-12-10T06:00:00Z";
    let (Value::Datetime(text) | Value::Str(text) | Value::Text(text)) = value else {
        return Err(format!("{}; {how}", expected("a time", value)));
    };
    text.parse().map_err(|_| format!("{text:?} is not an instant; {how}"))
}

/// A duration as an operator would write it.
fn shown(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

fn number(Raw(value): Raw<'_>) -> Result<f64, String> {
    let number = match value {
        Value::Float(number) => *number,
        #[expect(
            clippy::cast_precision_loss,
            reason = "settings far above 2^53 are refused by their ranges"
        )]
        Value::Int(number) => *number as f64,
        Value::Text(text) => spelled(text, "a number")?,
        other => return Err(expected("a number", other)),
    };
    if number.is_finite() { Ok(number) } else { Err(format!("{number} is not a finite number")) }
}

fn spelled<T: FromStr>(text: &str, wanted: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("expected {wanted}, found {text:?}"))
}

fn expected(wanted: &str, found: &Value) -> String {
    format!("expected {wanted}, found {}", found.kind())
}
