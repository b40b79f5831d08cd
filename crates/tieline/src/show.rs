//! `tieline status` and `tieline plan`: what a running process knows and means to do, for people.

use serde_json::{Value, json};

use crate::cli::Server;
use crate::client::Client;
use crate::failure::Failure;
use crate::lease::text;
use crate::list::hashrate;

/// Shows targets, feeds, leases and counts.
///
/// # Errors
/// When the process does not answer.
pub fn status(server: &Server) -> Result<(), Failure> {
    let client = Client::new(server)?;
    let targets = client.require("/v1/targets")?;
    let counts = client.require("/v1/counts")?;
    let workers = client.require("/v1/workers?sort=-hashrate&limit=5")?;
    // A proxy alone has no switchboard to ask.
    let site = client.get("/v1/status")?;
    let site = (site.status < 400).then_some(site.body);
    let feeds = if site.is_some() { client.require("/v1/feeds")? } else { Value::Null };
    if server.json {
        println!(
            "{}",
            json!({ "targets": targets, "counts": counts, "workers": workers, "site": site, "feeds": feeds["feeds"] })
        );
        return Ok(());
    }
    for target in targets.as_array().into_iter().flatten() {
        let state = match (target["up"].as_bool(), target["active"].as_bool()) {
            (Some(true), Some(true)) => "mined at",
            (Some(true), _) => "standby",
            _ => "DOWN",
        };
        println!(
            "target {:<12} {:<9} {:>6} sessions  difficulty {:<12} {}",
            text(&target["name"]),
            state,
            target["sessions"],
            target["difficulty"],
            target["last_fault"].as_str().unwrap_or("")
        );
    }
    println!(
        "workers: {}, together {} over 10 min; `tieline workers` lists them",
        workers["total"],
        hashrate(&workers["hashrate"]["m10"])
    );
    println!(
        "shares: {} accepted, {} local ({} at risk), {} rejected by pools, {} unresolved, {} stale, {} duplicate, {} low",
        counts["accepted"],
        counts["local"],
        counts["at_risk"],
        counts["pool_rejected"],
        counts["unresolved"],
        counts["stale"],
        counts["duplicate"],
        counts["low"]
    );
    let Some(site) = site else { return Ok(()) };
    println!(
        "site {}: timeline {}, ledger entry {}",
        text(&site["site"]),
        number(&site["number"]),
        site["ledger"]["seq"]
    );
    for feed in feeds["feeds"].as_array().into_iter().flatten() {
        println!(
            "feed {:<12} usable {:>10.3} kW  committed {:>10.3}  metered {:>10}  headroom {:>10}",
            text(&feed["feed"]),
            feed["usable_kw"].as_f64().unwrap_or_default(),
            feed["committed_kw"].as_f64().unwrap_or_default(),
            kw(&feed["metered_kw"]),
            kw(&feed["headroom_kw"])
        );
    }
    for (what, counts) in
        [("leases", &site["leases_by_state"]), ("machines off", &site["machines_off_by_state"])]
    {
        let some = counts.as_object().into_iter().flatten().filter(|(_, count)| **count != 0);
        let some: Vec<String> = some.map(|(state, count)| format!("{count} {state}")).collect();
        if !some.is_empty() {
            println!("{what}: {}", some.join(", "));
        }
    }
    if let Some(why) = site["raises_withheld"].as_str() {
        println!("power is not raised just now: {why}");
    }
    Ok(())
}

/// Shows the steps of the plan with their reasons.
///
/// # Errors
/// When the process does not answer, or has no switchboard.
pub fn plan(server: &Server) -> Result<(), Failure> {
    let body = Client::new(server)?.require("/v1/plan")?;
    if server.json {
        println!("{body}");
        return Ok(());
    }
    println!("timeline {}", number(&body["number"]));
    let steps = body["plan"]["steps"].as_array().cloned().unwrap_or_default();
    if steps.is_empty() {
        println!("nothing to do: every machine may run");
    }
    for step in steps {
        let machines = step["machine_names"].as_array().map_or(0, Vec::len);
        println!(
            "{}  {:<8} {machines:>5} of {:<14} {}",
            text(&step["at"]),
            text(&step["action"]),
            text(&step["group"]),
            text(&step["reason"])
        );
    }
    Ok(())
}

fn kw(figure: &Value) -> String {
    figure.as_f64().map_or_else(|| "-".to_owned(), |kw| format!("{kw:.3}"))
}

fn number(number: &Value) -> String {
    format!("{}.{}", number["epoch"], number["generation"])
}
