//! `tieline lease add`: makes a request from flags, and a message from the answer.

use jiff::Timestamp;
use serde_json::{Value, json};
use switchboard::view::{AdmissionAnswer, LeaseAnswer, StatusView};

use super::{refusal, words};
use crate::cli::LeaseAdd;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{print, width};
use crate::times::{self, Shown};

pub(super) fn add(client: &Client, add: &LeaseAdd, as_json: bool) -> Result<(), Failure> {
    let now = daemon::clock::wall();
    let start = times::read("--start", &add.start, now)?;
    let end = times::read("--end", &add.end, now)?;
    if times::duration(&add.ready_before).is_none() {
        return Err(Failure::Usage(format!(
            "--ready-before {:?} is not a length of time: write 90s, 5m or 1h30m",
            add.ready_before
        )));
    }
    // Read first, for the site's time zone, in which times are read and shown.
    let status: StatusView = client.require_of_switchboard("/v1/status")?.read()?;
    let shown = Shown::new(&status.timezone);
    let zone = || Ok(shown.zone.clone());
    let (start, end) = (start.settle("--start", zone)?, end.settle("--end", zone)?);
    check_order(start, end, &shown)?;

    let path = if add.dry_run { "/v1/admit" } else { "/v1/leases" };
    let answer = client.post(path, &request(add, start, end))?;
    if as_json {
        let printed = print(&answer.text);
        // A refusal is a failure even if nobody reads its message.
        return if answer.is_error() { Err(refusal::brief(client, &answer)) } else { printed };
    }
    if answer.is_error() {
        return Err(refusal::full(client, &answer, &shown, width()));
    }
    if add.dry_run {
        let answer: AdmissionAnswer = answer.read()?;
        print(&words::admission(&answer, &add.feed, &shown, width()))
    } else {
        let answer: LeaseAnswer = answer.read()?;
        print(&words::show(&answer, &shown, width()))
    }
}

/// Checks the order of times here, so that the message has times in the site's zone. The process
/// would find these mistakes too.
fn check_order(start: Timestamp, end: Timestamp, shown: &Shown) -> Result<(), Failure> {
    if start < shown.now {
        return Err(Failure::Usage(format!(
            "--start {} is in the past: it is {} at the site ({})",
            shown.moment(start),
            shown.moment(shown.now.round(jiff::Unit::Second).unwrap_or(shown.now)),
            shown.zone.name()
        )));
    }
    if end <= start {
        return Err(Failure::Usage(format!(
            "--end {} is not after --start {}",
            shown.moment(end),
            shown.moment(start)
        )));
    }
    Ok(())
}

fn request(add: &LeaseAdd, start: Timestamp, end: Timestamp) -> Value {
    let mut request = json!({
        "tenant": add.tenant,
        "feed": add.feed,
        // A number that JSON cannot represent is sent as text, so that the check in the process
        // names the field.
        "it_kw": number(add.it_kw),
        "pue": number(add.pue),
        "start": start,
        "end": end,
        "ready_before": add.ready_before,
        "accept_unverified": add.accept_unverified,
    });
    for (key, value) in [("id", &add.id), ("meter", &add.meter)] {
        if let Some(value) = value {
            request[key] = value.as_str().into();
        }
    }
    request
}

fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value)
        .map_or_else(|| Value::String(value.to_string()), Value::Number)
}
