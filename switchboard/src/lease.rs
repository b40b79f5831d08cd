//! A lease: power committed to an AI tenant for a time. This file has its data, and the checks that
//! a request must pass before admission. [`crate::admit`] decides whether the feeds can carry it;
//! [`crate::commitment`] follows its state.

use std::time::Duration;

use directive::{FeedId, LeaseId, MeterId, Watts};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::facility::Facility;
use crate::words::{kilowatts, when};

/// How strongly the power is promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// All of the power is available at any time during the lease.
    #[default]
    Firm,
}

/// Power committed to a tenant. Only [`LeaseRequest::check`] makes one, so its figures are valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    pub tenant: String,
    /// The class of the promise.
    pub class: Class,
    pub it: Watts,
    /// Power usage effectiveness: gross power is IT power times this.
    pub pue: f64,
    /// The power that the feed must carry: IT × PUE.
    pub gross: Watts,
    /// The feed at which the power is drawn.
    pub feed: FeedId,
    /// When the tenant may begin to draw.
    pub start: Timestamp,
    pub end: Timestamp,
    /// How long before the start headroom must be proven.
    pub ready_before: Duration,
    /// Whether the tenant accepts machines that can only be starved of work, which proves nothing.
    pub accept_unverified: bool,
    /// The tenant's own meter.
    pub meter: Option<MeterId>,
    /// When the lease was cancelled, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp>,
    /// The lease for whose end it waits, because the feeds cannot carry both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

/// A lease at the same feed, usually another tenant's, that ends while this one would be made ready,
/// where the feeds cannot carry both. The power cannot be proven free while it is drawn, so the lease
/// is made ready only from then on. Admission decides it, and it never changes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    pub lease: LeaseId,
    /// When the other lease ends: at this lease's start or before.
    pub ready_from: Timestamp,
}

impl Lease {
    /// The time from which the lease's power must be kept free: `ready_before` ahead of the start, or
    /// when the lease ends that it follows, if that is later.
    #[must_use]
    pub fn reserved_from(&self) -> Timestamp {
        let ready_from = earlier(self.start, self.ready_before);
        self.follows.as_ref().map_or(ready_from, |follows| follows.ready_from.max(ready_from))
    }

    /// When the lease's power is given back: at its end, or when it was cancelled.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.cancelled_at.map_or(self.end, |cancelled| cancelled.min(self.end))
    }

    /// Whether the lease's power must be kept free at `at`.
    #[must_use]
    pub fn reserves(&self, at: Timestamp) -> bool {
        self.reserved_from() <= at && at < self.ends()
    }
}

/// A request as it was received: any field may be wrong. [`LeaseRequest::check`] finds the first
/// mistake.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The lease's name; generated when absent.
    #[serde(default)]
    pub id: Option<Value>,
    #[serde(default)]
    pub tenant: Option<Value>,
    /// The class of the promise; only `firm` exists.
    #[serde(default)]
    pub class: Option<Value>,
    /// Critical IT load, in kW.
    #[serde(default)]
    pub it_kw: Option<Value>,
    /// Power usage effectiveness, from 1.0 to 3.0; 1.0 if absent.
    #[serde(default)]
    pub pue: Option<Value>,
    /// The feed at which the power is drawn.
    #[serde(default)]
    pub feed: Option<Value>,
    /// When the tenant may begin to draw: RFC 3339 with an offset.
    #[serde(default)]
    pub start: Option<Value>,
    /// When the lease ends: RFC 3339 with an offset.
    #[serde(default)]
    pub end: Option<Value>,
    /// How long before the start headroom must be proven: a duration such as `30m`; zero if absent.
    #[serde(default)]
    pub ready_before: Option<Value>,
    /// Whether machines that can only be starved of work are enough.
    #[serde(default)]
    pub accept_unverified: Option<Value>,
    /// The tenant's own meter.
    #[serde(default)]
    pub meter: Option<Value>,
}

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Mistake {
    pub field: &'static str,
    /// What is wrong with the field.
    pub what: String,
}

/// A request with invalid fields: every mistake that can be found in it, in the order of the
/// fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct BadRequest {
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

/// The maximum length of a lease. More than a hundred years is a typing error.
pub(crate) const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);
/// The maximum of `ready_before`. More than a year is a typing error.
const LONGEST_READY_BEFORE: Duration = Duration::from_hours(366 * 24);
/// The maximum length of a name: longer ones do not fit a table.
const LONGEST_NAME: usize = 64;

impl LeaseRequest {
    /// Checks every field. `fallback` names the lease when the request does not.
    ///
    /// # Errors
    /// [`BadRequest`] with every field that is wrong.
    pub fn check(
        &self,
        facility: &Facility,
        fallback: LeaseId,
        now: Timestamp,
    ) -> Result<Lease, BadRequest> {
        let mut mistakes = Mistakes::default();
        let id = mistakes.keep(
            self.id.as_ref().map_or(Ok(fallback), |value| name("id", value).map(LeaseId::from)),
        );
        let tenant = mistakes.keep(
            required("tenant", self.tenant.as_ref()).and_then(|value| words("tenant", value)),
        );
        let class = mistakes.keep(self.class());
        let it = mistakes.keep(self.it());
        let pue = mistakes.keep(self.pue());
        let feed = mistakes.keep(self.feed(facility));
        let start = mistakes
            .keep(required("start", self.start.as_ref()).and_then(|value| instant("start", value)));
        let end = mistakes
            .keep(required("end", self.end.as_ref()).and_then(|value| instant("end", value)));
        mistakes.times(start, end, facility, now);
        let ready_before =
            mistakes.keep(self.ready_before.as_ref().map_or(Ok(Duration::ZERO), duration));
        let accept_unverified = mistakes.keep(self.accept_unverified());
        let meter = mistakes.keep(self.meter(facility));
        let lease = || {
            let (it, pue) = (it?, pue?);
            Some(Lease {
                id: id?,
                tenant: tenant?.to_owned(),
                class: class?,
                it,
                pue,
                gross: it.scale(pue),
                feed: feed?,
                start: start?,
                end: end?,
                ready_before: ready_before?,
                accept_unverified: accept_unverified?,
                meter: meter?,
                cancelled_at: None,
                follows: None,
            })
        };
        match lease() {
            Some(lease) if mistakes.0.is_empty() => Ok(lease),
            _ => Err(BadRequest { mistakes: mistakes.0 }),
        }
    }

    fn class(&self) -> Result<Class, Mistake> {
        match &self.class {
            None => Ok(Class::Firm),
            Some(Value::String(class)) if class == "firm" => Ok(Class::Firm),
            Some(other) => Err(bad("class", format!("must be \"firm\", not {}", shown(other)))),
        }
    }

    fn it(&self) -> Result<Watts, Mistake> {
        let kw = number("it_kw", required("it_kw", self.it_kw.as_ref())?)?;
        Watts::from_kw(kw).filter(|it| *it > Watts::ZERO).ok_or_else(|| {
            let most = kilowatts(Watts::LIMIT);
            bad("it_kw", format!("must be above 0 and at most {most}, not {kw}"))
        })
    }

    fn pue(&self) -> Result<f64, Mistake> {
        let pue = self.pue.as_ref().map_or(Ok(1.0), |value| number("pue", value))?;
        if !(1.0..=3.0).contains(&pue) {
            return Err(bad("pue", format!("must lie between 1.0 and 3.0, not {pue}")));
        }
        Ok(pue)
    }

    fn feed(&self, facility: &Facility) -> Result<FeedId, Mistake> {
        let feed = FeedId::from(text("feed", required("feed", self.feed.as_ref())?)?);
        if facility.feeds().number(&feed).is_none() {
            let known: Vec<&str> = facility.feeds().iter().map(|feed| feed.id.as_str()).collect();
            let (feed, known) = (cut(feed.as_str()), known.join(", "));
            return Err(bad("feed", format!("no feed {feed:?}; there are: {known}")));
        }
        Ok(feed)
    }

    fn accept_unverified(&self) -> Result<bool, Mistake> {
        match &self.accept_unverified {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => {
                let what = format!("must be true or false, not {}", shown(other));
                Err(bad("accept_unverified", what))
            }
        }
    }

    fn meter(&self, facility: &Facility) -> Result<Option<MeterId>, Mistake> {
        let Some(value) = &self.meter else { return Ok(None) };
        let meter = MeterId::from(text("meter", value)?);
        if !facility.meters().contains_key(&meter) {
            let feeds: Vec<&MeterId> =
                facility.feeds().iter().filter_map(|feed| feed.meter.as_ref()).collect();
            let free = facility.meters().keys().filter(|meter| !feeds.contains(meter));
            let free: Vec<&str> = free.map(MeterId::as_str).collect();
            let there = match free.as_slice() {
                [] => "the policy has none but those of feeds".to_owned(),
                free => format!("there are: {}", free.join(", ")),
            };
            return Err(bad("meter", format!("no meter {:?}; {there}", cut(meter.as_str()))));
        }
        match facility.feeds().iter().find(|feed| feed.meter.as_ref() == Some(&meter)) {
            Some(feed) => {
                Err(bad("meter", format!("is feed {}'s own meter, not the tenant's", feed.id)))
            }
            None => Ok(Some(meter)),
        }
    }
}

#[derive(Debug, Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn keep<T>(&mut self, checked: Result<T, Mistake>) -> Option<T> {
        checked.map_err(|mistake| self.0.push(mistake)).ok()
    }

    /// Checks start and end, as far as they could be read.
    fn times(
        &mut self,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        facility: &Facility,
        now: Timestamp,
    ) {
        let words = |at: Timestamp| when(at, facility.timezone());
        if let Some(start) = start.filter(|start| *start < now) {
            let what = format!("{} is in the past; it is {} now", words(start), words(now));
            self.0.push(bad("start", what));
        }
        let Some(end) = end else { return };
        let longest = SignedDuration::try_from(LONGEST).unwrap_or(SignedDuration::MAX);
        if let Some(start) = start.filter(|start| end <= *start) {
            let what = format!("{} is not after the start, {}", words(end), words(start));
            self.0.push(bad("end", what));
        } else if end.duration_since(now) > longest {
            self.0.push(bad("end", format!("{} is more than 100 years away", words(end))));
        }
    }
}

/// The instant `by` before `at`, stopping at the beginning of time.
pub(crate) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The instant `by` after `at`, stopping at the end of time.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn bad(field: &'static str, what: String) -> Mistake {
    Mistake { field, what }
}

fn required<'a>(field: &'static str, value: Option<&'a Value>) -> Result<&'a Value, Mistake> {
    value.ok_or_else(|| bad(field, "missing".to_owned()))
}

fn text<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, Mistake> {
    value.as_str().ok_or_else(|| bad(field, "must be text".to_owned()))
}

fn words<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, Mistake> {
    let text = text(field, value)?;
    if text.trim().is_empty()
        || text.chars().count() > LONGEST_NAME
        || text.chars().any(char::is_control)
    {
        return Err(bad(field, format!("must be 1 to {LONGEST_NAME} printable characters")));
    }
    Ok(text)
}

fn name<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, Mistake> {
    let text = text(field, value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty()
        || text.len() > LONGEST_NAME
        || text.starts_with('.')
        || !text.bytes().all(plain)
    {
        return Err(bad(field, format!("must be 1 to {LONGEST_NAME} of a-z A-Z 0-9 - _ .")));
    }
    Ok(text)
}

fn number(field: &'static str, value: &Value) -> Result<f64, Mistake> {
    value
        .as_f64()
        .filter(|number| number.is_finite())
        .ok_or_else(|| bad(field, format!("must be a number, not {}", shown(value))))
}

fn instant(field: &'static str, value: &Value) -> Result<Timestamp, Mistake> {
    let text = text(field, value)?;
    text.parse()
        .map_err(|_| bad(field, format!("{:?} is no RFC 3339 time with an offset", cut(text))))
}

fn duration(value: &Value) -> Result<Duration, Mistake> {
    const FIELD: &str = "ready_before";
    let wanted = || bad(FIELD, format!("must be a duration such as \"30m\", not {}", shown(value)));
    let span: SignedDuration =
        value.as_str().and_then(|text| text.parse().ok()).ok_or_else(wanted)?;
    let duration =
        Duration::try_from(span).map_err(|_| bad(FIELD, "must not be negative".to_owned()))?;
    if duration > LONGEST_READY_BEFORE {
        return Err(bad(FIELD, "must be at most a year".to_owned()));
    }
    Ok(duration)
}

/// The received value, truncated to a length that can be repeated in an answer.
fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture;

    fn check(change: impl FnOnce(&mut Value)) -> Result<Lease, BadRequest> {
        let mut body = json!({
            "tenant": "Nebula", "it_kw": 20.0, "pue": 1.25, "feed": "a",
            "start": "2027-01-01T06:00:00Z", "end": "2027-01-02T06:00:00+01:00", "ready_before": "30m",
        });
        change(&mut body);
        let request: LeaseRequest = serde_json::from_value(body).unwrap();
        request.check(
            &fixture::policy().facility,
            "lease-1".into(),
            "2027-01-01T00:00:00Z".parse().unwrap(),
        )
    }

    #[test]
    fn a_sound_request_becomes_a_lease_in_gross_watts() {
        let lease = check(|_| {}).unwrap();
        assert_eq!((lease.it, lease.gross), (Watts(20_000), Watts(25_000)));
        assert_eq!(lease.reserved_from(), "2027-01-01T05:30:00Z".parse().unwrap());
        assert_eq!(lease.id.as_str(), "lease-1");
    }

    #[test]
    fn every_mistake_names_its_field() {
        let table: Vec<(&str, Value)> = vec![
            ("it_kw", json!(-1)),
            ("it_kw", json!(0)),
            ("it_kw", json!("5")),
            ("it_kw", json!(1e300)),
            ("it_kw", Value::Null),
            ("pue", json!(0.99)),
            ("pue", json!(3.01)),
            ("feed", json!("nowhere")),
            ("feed", json!(7)),
            ("start", json!("2026-12-31T00:00:00Z")),
            ("start", json!("2027-01-01T06:00:00")),
            ("end", json!("2027-01-01T06:00:00Z")),
            ("end", json!("2227-01-01T06:00:00Z")),
            ("ready_before", json!("-5m")),
            ("ready_before", json!(30)),
            ("ready_before", json!("900000h")),
            ("meter", json!("none")),
            ("meter", json!("m-a")),
            ("class", json!("cheap")),
            ("tenant", json!("")),
            ("tenant", json!("a\u{7}")),
            ("id", json!("../etc")),
            ("accept_unverified", json!("yes")),
        ];
        for (field, value) in table {
            let refused = check(|body| body[field] = value.clone()).unwrap_err();
            let fields: Vec<&str> = refused.mistakes.iter().map(|mistake| mistake.field).collect();
            assert_eq!(fields, [field], "{value}: {refused}");
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let refused = check(|body| {
            body["tenant"] = Value::Null;
            body["pue"] = json!(9);
            body["start"] = json!("2026-12-31T00:00:00Z");
            body["end"] = json!("2026-12-30T00:00:00Z");
            body["meter"] = json!("none");
        })
        .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tenant: missing; pue: must lie between 1.0 and 3.0, not 9; \
             start: 2026-12-31 00:00 is in the past; it is 2027-01-01 00:00 now; \
             end: 2026-12-30 00:00 is not after the start, 2026-12-31 00:00; meter: no meter \"none\"; there are: tenant"
        );
    }
}
