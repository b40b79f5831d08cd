//! `tieline workers` and `tieline sessions`: who mines here, as long lists in the order that is
//! asked for.

use serde_json::{Value, json};

use crate::cli::{Listing, Server, SessionFilters, WorkerFilters};
use crate::client::Client;
use crate::failure::Failure;
use crate::lease::{encode, text};

/// Most entries the API gives at a time.
const PAGE: usize = 1000;

/// Lists workers.
///
/// # Errors
/// When the process does not answer, or does not understand a filter.
pub fn workers(server: &Server, listing: &Listing, filters: &WorkerFilters) -> Result<(), Failure> {
    let filters = [("worker_name", &filters.worker_name), ("serving", &filters.serving)];
    let list = fetch(server, "/v1/workers", listing, &filters)?;
    if server.json {
        println!("{list}");
        return Ok(());
    }
    println!(
        "{:<32} {:>4} {:<8} {:>12} {:>12} {:>9} {:>9} {:>8} {:>9}  last share",
        "worker", "conn", "serving", "10 min", "1 h", "accepted", "local", "rejects", "best"
    );
    for worker in list["items"].as_array().into_iter().flatten() {
        println!(
            "{:<32} {:>4} {:<8} {:>12} {:>12} {:>9} {:>9} {:>8} {:>9}  {}",
            text(&worker["worker_name"]),
            worker["sessions"],
            text(&worker["serving"]),
            hashrate(&worker["hashrate"]["m10"]),
            hashrate(&worker["hashrate"]["h1"]),
            worker["accepted"],
            worker["local"],
            worker["rejects"]["total"],
            short(&worker["best_difficulty"]),
            or_dash(&worker["last_share_at"])
        );
    }
    println!("{} of {}, {}", shown(&list), list["total"], hashrate(&list["hashrate"]["m10"]));
    Ok(())
}

/// Lists sessions.
///
/// # Errors
/// When the process does not answer, or does not understand a filter.
pub fn sessions(
    server: &Server,
    listing: &Listing,
    filters: &SessionFilters,
) -> Result<(), Failure> {
    let filters = [
        ("worker_name", &filters.worker_name),
        ("user_agent", &filters.user_agent),
        ("state", &filters.state),
        ("target", &filters.target),
        ("server", &filters.listener),
    ];
    let list = fetch(server, "/v1/sessions", listing, &filters)?;
    if server.json {
        println!("{list}");
        return Ok(());
    }
    println!(
        "{:>7} {:<32} {:<9} {:<12} {:>9} {:>12} {:>7} {:>7}  {:<22} user agent",
        "session", "worker", "state", "target", "diff", "hashrate", "shares", "rejects", "peer"
    );
    for session in list["items"].as_array().into_iter().flatten() {
        println!(
            "{:>7} {:<32} {:<9} {:<12} {:>9} {:>12} {:>7} {:>7}  {:<22} {}",
            session["session"],
            or_dash(&session["worker_name"]),
            text(&session["state"]),
            or_dash(&session["target"]),
            short(&session["difficulty"]),
            hashrate(&session["hashrate"]),
            session["shares"],
            session["rejects"],
            text(&session["peer"]),
            or_dash(&session["user_agent"])
        );
    }
    println!("{} of {}", shown(&list), list["total"]);
    Ok(())
}

/// Asks for pages until there are as many entries as wanted. What the first page says stands beside
/// all items.
fn fetch(
    server: &Server,
    path: &str,
    listing: &Listing,
    filters: &[(&str, &Option<String>)],
) -> Result<Value, Failure> {
    let client = Client::new(server)?;
    let mut query =
        listing.sort.as_ref().map_or(String::new(), |sort| format!("&sort={}", encode(sort)));
    for (key, value) in filters {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={}", encode(value)));
        }
    }
    let page = |left: usize, cursor: &str| {
        client.require(&format!("{path}?limit={}{query}{cursor}", left.min(PAGE)))
    };
    let mut list = page(listing.limit, "")?;
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    let mut next = list["next"].clone();
    while let (Some(cursor), true) = (next.as_str(), items.len() < listing.limit) {
        let mut more = page(listing.limit - items.len(), &format!("&cursor={cursor}"))?;
        items.extend(more["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
        next = more["next"].take();
    }
    list["items"] = json!(items);
    list["next"] = next;
    Ok(list)
}

fn shown(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

fn or_dash(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { text(value) }
}

/// A hashrate as people write it: `123.4 TH/s`.
pub(crate) fn hashrate(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{}H/s", scaled(rate, " ")))
}

fn short(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| scaled(number, ""))
}

/// A number in four digits with its prefix.
fn scaled(number: f64, space: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if number != 0.0 && number < 1.0 {
        return format!("{number:.2e}{space}");
    }
    let mut left = number;
    let mut prefix = 0;
    // What would be written as 1000.0 is 1.0 of the next.
    while left >= 999.95 && prefix < PREFIXES.len() - 1 {
        left /= 1000.0;
        prefix += 1;
    }
    format!("{left:.1}{space}{}", PREFIXES[prefix])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (number, written) in [
            (0.0, "0.0 H/s"),
            (512.0, "512.0 H/s"),
            (999.96, "1.0 kH/s"),
            (1.234e14, "123.4 TH/s"),
            (7.0e21, "7000.0 EH/s"),
            (0.25, "2.50e-1 H/s"),
        ] {
            assert_eq!(hashrate(&json!(number)), written);
        }
        assert_eq!(
            (hashrate(&Value::Null).as_str(), short(&json!(65536)).as_str()),
            ("-", "65.5k")
        );
    }
}
