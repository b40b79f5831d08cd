//! A lease: power committed to an AI tenant for a time. Its data, and the checks that a request
//! must pass before admission. [`crate::admit`] decides whether the feeds can carry it;
//! [`crate::commitment`] follows its state.

use std::time::Duration;

use directive::{FeedId, LeaseId, MeterId, Watts};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::facility::Policy;

/// How strongly the power is promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// At any time during the lease, in full.
    #[default]
    Firm,
}

/// Power committed to a tenant. Made by [`LeaseRequest::check`] only, so its figures are sane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    pub tenant: String,
    /// How strongly it is promised.
    pub class: Class,
    pub it: Watts,
    /// The factor from IT power to gross power.
    pub pue: f64,
    /// What the feed must carry: IT × PUE.
    pub gross: Watts,
    /// Where it is drawn.
    pub feed: FeedId,
    /// From when it may be drawn.
    pub start: Timestamp,
    pub end: Timestamp,
    /// How long before the start headroom must be proven.
    pub ready_before: Duration,
    /// Whether the tenant accepts machines that can only be starved of work, which proves nothing.
    pub accept_unverified: bool,
    /// The tenant's own meter.
    pub meter: Option<MeterId>,
    /// When it was cancelled, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Timestamp>,
}

impl Lease {
    /// From when on its power must be kept free: `ready_before` the start.
    #[must_use]
    pub fn reserved_from(&self) -> Timestamp {
        earlier(self.start, self.ready_before)
    }

    /// When its power is given back: at its end, or when it was cancelled.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.cancelled_at.map_or(self.end, |cancelled| cancelled.min(self.end))
    }

    /// Whether its power must be kept free at `at`.
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
    /// `firm`.
    #[serde(default)]
    pub class: Option<Value>,
    /// Critical IT load, kW.
    #[serde(default)]
    pub it_kw: Option<Value>,
    /// 1.0 to 3.0; 1.0 when absent.
    #[serde(default)]
    pub pue: Option<Value>,
    /// The feed it is drawn at.
    #[serde(default)]
    pub feed: Option<Value>,
    /// RFC 3339 with an offset.
    #[serde(default)]
    pub start: Option<Value>,
    /// RFC 3339 with an offset.
    #[serde(default)]
    pub end: Option<Value>,
    /// A duration such as `30m`; none when absent.
    #[serde(default)]
    pub ready_before: Option<Value>,
    /// Whether starving machines is enough.
    #[serde(default)]
    pub accept_unverified: Option<Value>,
    /// The tenant's own meter.
    #[serde(default)]
    pub meter: Option<Value>,
}

/// A request with an invalid field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct BadRequest {
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// Leases of more than a hundred years are typing errors.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);
/// More notice than a year is a typing error.
const LONGEST_READY_BEFORE: Duration = Duration::from_hours(366 * 24);
/// Names longer than this do not fit a table.
const LONGEST_NAME: usize = 64;

impl LeaseRequest {
    /// Checks every field. `fallback` names the lease when the request does not.
    ///
    /// # Errors
    /// [`BadRequest`] naming the first field that is wrong.
    pub fn check(
        &self,
        policy: &Policy,
        fallback: LeaseId,
        now: Timestamp,
    ) -> Result<Lease, BadRequest> {
        let id = match &self.id {
            None => fallback,
            Some(value) => LeaseId::from(name("id", value)?),
        };
        let tenant = words("tenant", required("tenant", self.tenant.as_ref())?)?.to_owned();
        match &self.class {
            None => {}
            Some(Value::String(class)) if class == "firm" => {}
            Some(other) => return Err(bad("class", format!("must be \"firm\", not {other}"))),
        }
        let it_kw = number("it_kw", required("it_kw", self.it_kw.as_ref())?)?;
        let it = Watts::from_kw(it_kw).filter(|it| *it > Watts::ZERO).ok_or_else(|| {
            bad(
                "it_kw",
                format!("must be above 0 and at most {} kW, not {it_kw}", Watts::LIMIT.kw()),
            )
        })?;
        let pue = self.pue.as_ref().map_or(Ok(1.0), |value| number("pue", value))?;
        if !(1.0..=3.0).contains(&pue) {
            return Err(bad("pue", format!("must lie between 1.0 and 3.0, not {pue}")));
        }
        let feed = FeedId::from(text("feed", required("feed", self.feed.as_ref())?)?);
        if policy.feed(&feed).is_none() {
            let known: Vec<&str> = policy.feeds.iter().map(|feed| feed.id.as_str()).collect();
            return Err(bad(
                "feed",
                format!("no feed {:?}; there are: {}", cut(feed.as_str()), known.join(", ")),
            ));
        }
        let start = instant("start", required("start", self.start.as_ref())?)?;
        let end = instant("end", required("end", self.end.as_ref())?)?;
        let ready_before = self.ready_before.as_ref().map_or(Ok(Duration::ZERO), duration)?;
        if start < now {
            return Err(bad("start", format!("{start} is in the past; it is {now} now")));
        }
        if end <= start {
            return Err(bad("end", format!("{end} is not after the start, {start}")));
        }
        if end.duration_since(now)
            > SignedDuration::try_from(LONGEST).unwrap_or(SignedDuration::MAX)
        {
            return Err(bad("end", format!("{end} is more than 100 years away")));
        }
        let accept_unverified = match &self.accept_unverified {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                return Err(bad(
                    "accept_unverified",
                    format!("must be true or false, not {other}"),
                ));
            }
        };
        let meter =
            self.meter.as_ref().map(|value| text("meter", value).map(MeterId::from)).transpose()?;
        if let Some(meter) = meter.as_ref().filter(|meter| !policy.meters.contains_key(*meter)) {
            return Err(bad("meter", format!("no meter {:?}", cut(meter.as_str()))));
        }
        if let Some(taken) = meter
            .as_ref()
            .and_then(|own| policy.feeds.iter().find(|feed| feed.meter.as_ref() == Some(own)))
        {
            return Err(bad(
                "meter",
                format!("is feed {}'s own meter, not the tenant's", taken.id),
            ));
        }
        let gross = it.scale(pue);
        Ok(Lease {
            id,
            tenant,
            class: Class::Firm,
            it,
            pue,
            gross,
            feed,
            start,
            end,
            ready_before,
            accept_unverified,
            meter,
            cancelled_at: None,
        })
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

fn bad(field: &'static str, what: String) -> BadRequest {
    BadRequest { field, what }
}

fn required<'a>(field: &'static str, value: Option<&'a Value>) -> Result<&'a Value, BadRequest> {
    value.ok_or_else(|| bad(field, "missing".to_owned()))
}

fn text<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, BadRequest> {
    value.as_str().ok_or_else(|| bad(field, "must be text".to_owned()))
}

fn words<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, BadRequest> {
    let text = text(field, value)?;
    if text.trim().is_empty()
        || text.chars().count() > LONGEST_NAME
        || text.chars().any(char::is_control)
    {
        return Err(bad(field, format!("must be 1 to {LONGEST_NAME} printable characters")));
    }
    Ok(text)
}

fn name<'a>(field: &'static str, value: &'a Value) -> Result<&'a str, BadRequest> {
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

fn number(field: &'static str, value: &Value) -> Result<f64, BadRequest> {
    value
        .as_f64()
        .filter(|number| number.is_finite())
        .ok_or_else(|| bad(field, format!("must be a number, not {}", shown(value))))
}

fn instant(field: &'static str, value: &Value) -> Result<Timestamp, BadRequest> {
    let text = text(field, value)?;
    text.parse()
        .map_err(|_| bad(field, format!("{:?} is no RFC 3339 time with an offset", cut(text))))
}

fn duration(value: &Value) -> Result<Duration, BadRequest> {
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

/// The received value, cut to a length that can be repeated in an answer.
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
        request.check(&fixture::policy(), "lease-1".into(), "2027-01-01T00:00:00Z".parse().unwrap())
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
            assert_eq!(refused.field, field, "{value}: {refused}");
        }
    }
}
