//! `tieline lease`: commits, shows and cancels leases over the API of a running process.

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use crate::cli::{LeaseAdd, LeaseCommand, Server};
use crate::client::{Answer, Client, message_of};
use crate::failure::Failure;

/// Does what the command line says.
///
/// # Errors
/// [`Failure::Usage`] for times that cannot be read, [`Failure::Runtime`] for a refusal or a
/// process that does not answer.
pub fn lease(server: &Server, command: LeaseCommand) -> Result<(), Failure> {
    let client = Client::new(server)?;
    match command {
        LeaseCommand::Add(add) => return commit(&client, &add, server.json),
        LeaseCommand::List => {
            let body = all_leases(&client)?;
            print(server.json, &body, |body| {
                body["leases"].as_array().into_iter().flatten().for_each(print_line);
            });
        }
        LeaseCommand::Show { id } => {
            let body = client.require(&format!("/v1/leases/{}", encode(&id)))?;
            print(server.json, &body, print_lease);
        }
        LeaseCommand::Cancel { id, force } => {
            let answer = client.delete(&format!("/v1/leases/{}?force={force}", encode(&id)))?;
            finish(server.json, &answer, |_| {
                println!("lease {id}: cancelled; its machines come back");
            })?;
        }
    }
    Ok(())
}

/// All leases as one answer, although the process shows them in pages.
fn all_leases(client: &Client) -> Result<Value, Failure> {
    let mut all = client.require("/v1/leases?limit=1000")?;
    while let Some(cursor) = all["next"].as_str() {
        let more = client.require(&format!("/v1/leases?limit=1000&cursor={}", encode(cursor)))?;
        if let (Some(leases), Some(more)) =
            (all["leases"].as_array_mut(), more["leases"].as_array())
        {
            leases.extend(more.iter().cloned());
        }
        all["next"] = more["next"].clone();
    }
    Ok(all)
}

fn commit(client: &Client, add: &LeaseAdd, as_json: bool) -> Result<(), Failure> {
    let now = daemon::clock::wall();
    let mut request = json!({
        "tenant": add.tenant,
        "feed": add.feed,
        // A number that JSON cannot write must still reach the check that names the field.
        "it_kw": number(add.it_kw),
        "pue": number(add.pue),
        "start": time("--start", &add.start, now)?,
        "end": time("--end", &add.end, now)?,
        "ready_before": add.ready_before,
        "accept_unverified": add.accept_unverified,
    });
    for (key, value) in [("id", &add.id), ("meter", &add.meter)] {
        if let Some(value) = value {
            request[key] = value.as_str().into();
        }
    }
    let answer = client.post(if add.dry_run { "/v1/admit" } else { "/v1/leases" }, &request)?;
    if answer.status >= 400 && !as_json {
        print_arithmetic(&answer.body["error"]);
    }
    finish(as_json, &answer, |body| {
        if add.dry_run {
            println!("it fits");
            print_arithmetic(body);
        } else {
            print_lease(body);
        }
    })?;
    Ok(())
}

fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value)
        .map_or_else(|| Value::String(value.to_string()), Value::Number)
}

/// Reads RFC 3339, or `+10m` from `now`.
fn time(flag: &str, text: &str, now: Timestamp) -> Result<String, Failure> {
    let Some(span) = text.strip_prefix('+') else { return Ok(text.to_owned()) };
    let wrong = |why: jiff::Error| Failure::Usage(format!("{flag} {text:?}: {why}"));
    let span: SignedDuration = span.parse().map_err(wrong)?;
    let at = now.checked_add(span).and_then(|at| at.round(Unit::Second)).map_err(wrong)?;
    Ok(at.to_string())
}

/// Prints what came back, or fails with its words.
fn finish(as_json: bool, answer: &Answer, show: impl FnOnce(&Value)) -> anyhow::Result<()> {
    if as_json {
        println!("{}", answer.body);
    }
    if answer.status == 401 {
        bail!(
            "refused: changes need the token that the process has in its token_file: give it with --token-file"
        );
    }
    if answer.status >= 400 {
        bail!("refused: {}", message_of(&answer.body));
    }
    if !as_json {
        show(&answer.body);
    }
    Ok(())
}

fn print(as_json: bool, body: &Value, show: impl FnOnce(&Value)) {
    if as_json {
        println!("{body}");
    } else {
        show(body);
    }
}

fn print_line(lease: &Value) {
    println!(
        "{:<20} {:<10} {:>12.3} kW at {:<12} {} .. {}{}",
        text(&lease["id"]),
        text(&lease["state"]),
        lease["gross_kw"].as_f64().unwrap_or_default(),
        text(&lease["feed"]),
        text(&lease["start"]),
        text(&lease["end"]),
        flags(lease)
    );
}

fn print_lease(lease: &Value) {
    print_line(lease);
    println!(
        "  tenant {}, {} kW of IT x PUE {}, ready {} s before the start, proven at {}",
        text(&lease["tenant"]),
        lease["it_kw"],
        lease["pue"],
        lease["ready_before_secs"],
        lease["proven_at"].as_str().unwrap_or("-")
    );
    if let Some(machines) =
        lease["machines_by_state"].as_object().filter(|machines| !machines.is_empty())
    {
        let states: Vec<String> =
            machines.iter().map(|(state, count)| format!("{count} {state}")).collect();
        println!("  machines: {}", states.join(", "));
    }
    for breach in lease["breaches"].as_array().into_iter().flatten() {
        println!("  BREACH at {}: {}", text(&breach["at"]), text(&breach["why"]));
    }
    print_arithmetic(lease);
}

fn print_arithmetic(body: &Value) {
    for line in body["arithmetic"].as_array().into_iter().flatten() {
        println!("  {}", text(&line["text"]));
    }
}

fn flags(lease: &Value) -> String {
    let mut flags = String::new();
    for flag in ["unverified", "breached"] {
        if lease[flag].as_bool().unwrap_or_default() {
            flags.push_str("  ");
            flags.push_str(&flag.to_uppercase());
        }
    }
    flags
}

/// Text of a JSON value, without quotes.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Writes a name into a path.
pub(crate) fn encode(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Checks that the process is ready.
///
/// # Errors
/// When it is not, or does not answer.
pub fn healthcheck(server: &Server) -> Result<(), Failure> {
    let answer = Client::new(server)?.get("/readyz").context("not ready")?;
    if server.json {
        println!("{}", answer.body);
    }
    if answer.status >= 400 {
        return Err(anyhow::anyhow!("not ready: {}", answer.body).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_from_now() {
        let now: Timestamp = "2026-12-01T06:00:00Z".parse().expect("a time");
        assert_eq!(time("--start", "+90s", now).expect("a span"), "2026-12-01T06:01:30Z");
        assert_eq!(
            time("--start", "2027-01-01T00:00:00Z", now).expect("a time"),
            "2027-01-01T00:00:00Z"
        );
        assert!(matches!(time("--start", "+soon", now), Err(Failure::Usage(_))));
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(encode("a/../b c"), "a%2F..%2Fb%20c");
    }
}
