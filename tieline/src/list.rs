//! `tieline workers` and `tieline sessions`: long lists of workers and sessions, in the requested
//! order.

use std::time::Duration;

use jiff::Timestamp;
use proxy::{Listing as Page, SessionView, WorkerView, Workers};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cli::{Listing, Server, SessionFilters, WorkerFilters};
use crate::client::{Client, encode};
use crate::failure::Failure;
use crate::figures::{age, grouped, hashrate, short};
use crate::output::{print, width, wrapped};
use crate::table::{Column, Rendered, Table};

/// The maximum number of entries on a page of the API.
const PAGE: usize = 1000;

/// Lists workers.
///
/// # Errors
/// When the process does not answer, or does not understand a filter.
pub fn workers(server: &Server, listing: &Listing, filters: &WorkerFilters) -> Result<(), Failure> {
    let serving = filters.serving.map(|serving| serving.name().to_owned());
    let filters = [("worker_name", &filters.worker_name), ("serving", &serving)];
    let list: Workers =
        fetch(server, "/v1/workers", listing, &filters, |workers: &mut Workers| &mut workers.page)?;
    if server.json {
        return print(&json!(list).to_string());
    }
    let Workers { page, hashrate } = list;
    let table = worker_table(&page.items, daemon::clock::wall());
    let all = format!("{} over 10 min", self::hashrate(hashrate.m10));
    print(&listed(&table.render(listing.width()), &page, &all, listing.width()))
}

fn worker_table(workers: &[WorkerView], now: Timestamp) -> Table {
    let mut table = Table::new([
        Column::name("worker"),
        Column::number("conns"),
        Column::text("serving"),
        Column::number("10 min"),
        Column::number("accepted"),
        Column::number("local").optional(),
        Column::number("rejects"),
        Column::number("last share"),
        Column::number("1 h").optional(),
        Column::number("best").optional(),
    ]);
    for worker in workers {
        table.row([
            worker.worker_name.as_str(),
            &grouped(worker.sessions),
            serving(worker.serving),
            &hashrate(worker.hashrate.m10),
            &grouped(worker.accepted),
            &grouped(worker.local),
            &grouped(worker.rejects.total),
            &ago(worker.last_share_at, now),
            &hashrate(worker.hashrate.h1),
            &worker.best_difficulty.map_or_else(|| "-".to_owned(), short),
        ]);
    }
    table
}

fn serving(serving: directive::Serving) -> &'static str {
    match serving {
        directive::Serving::Working => "working",
        directive::Serving::Parked => "parked",
        directive::Serving::Gone => "gone",
    }
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
    let state = filters.state.map(|state| state.name().to_owned());
    let filters = [
        ("worker_name", &filters.worker_name),
        ("user_agent", &filters.user_agent),
        ("state", &state),
        ("target", &filters.target),
        ("server", &filters.listener),
    ];
    let page: Page<SessionView> = fetch(server, "/v1/sessions", listing, &filters, |page| page)?;
    if server.json {
        return print(&json!(page).to_string());
    }
    let table = session_table(&page.items, daemon::clock::wall());
    print(&listed(&table.render(listing.width()), &page, "", listing.width()))
}

fn session_table(sessions: &[SessionView], now: Timestamp) -> Table {
    let mut table = Table::new([
        Column::number("session"),
        Column::name("worker"),
        Column::text("state"),
        Column::name("target"),
        Column::number("diff"),
        Column::number("hashrate"),
        Column::number("shares"),
        Column::number("rejects"),
        Column::name("user agent").optional(),
        Column::text("peer").optional(),
        Column::name("server").optional(),
        Column::number("last share").optional(),
    ]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for session in sessions {
        table.row([
            session.session.to_string(),
            or_dash(&session.worker_name),
            session.state.name().to_owned(),
            or_dash(&session.target),
            session.difficulty.map_or_else(|| "-".to_owned(), short),
            session.hashrate.map_or_else(|| "-".to_owned(), hashrate),
            grouped(session.shares),
            grouped(session.rejects),
            or_dash(&session.user_agent),
            session.peer.to_string(),
            session.server.clone(),
            ago(session.last_share_at, now),
        ]);
    }
    table
}

/// How long ago something was.
fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
    at.map_or_else(|| "-".to_owned(), |at| age(since(at)))
}

/// The table, with the line below it.
fn listed<T>(table: &Rendered, page: &Page<T>, all: &str, width: usize) -> String {
    let shown = grouped(page.items.len() as u64);
    let total = grouped(page.total as u64);
    let comma = if all.is_empty() { "" } else { ", " };
    let mut text = format!("{}{shown} of {total}{comma}{all}\n", table.text);
    if !table.left_out.is_empty() {
        let hidden = table.left_out.join(", ");
        text.push_str(&wrapped(&format!("with --wide also: {hidden}"), width, 0));
    }
    text
}

impl Listing {
    fn width(&self) -> usize {
        if self.wide { usize::MAX } else { width() }
    }
}

/// Requests pages until there are as many entries as wanted, and returns them as one list. `list`
/// finds the list in an answer; the other fields are those of the first answer.
fn fetch<P: DeserializeOwned, T>(
    server: &Server,
    path: &str,
    listing: &Listing,
    filters: &[(&str, &Option<String>)],
    list: fn(&mut P) -> &mut Page<T>,
) -> Result<P, Failure> {
    let client = Client::new(server)?;
    let mut query =
        listing.sort.as_ref().map_or(String::new(), |sort| format!("&sort={}", encode(sort)));
    for (key, value) in filters {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={}", encode(value)));
        }
    }
    let page = |left: usize, cursor: &str| -> Result<P, Failure> {
        let path = format!("{path}?limit={}{query}{cursor}", left.min(PAGE));
        let answer = client.get(&path)?;
        if !answer.is_error() {
            return answer.read();
        }
        let error = answer.error();
        // The process knows what it can sort and filter by, so its message is used.
        Err(match (&error.field, answer.status) {
            (Some(field), 400) => Failure::Usage(format!("--{}: {}", flag(field), error.message)),
            _ if answer.has_no_such_route() => client.no_proxy(),
            _ => client.failure_of(&answer),
        })
    };
    let mut all = page(listing.limit, "")?;
    loop {
        let left = listing.limit.saturating_sub(list(&mut all).items.len());
        let Some(cursor) = list(&mut all).next.clone().filter(|_| left > 0) else {
            return Ok(all);
        };
        let mut more = page(left, &format!("&cursor={}", encode(&cursor)))?;
        let Page { next, items, .. } = list(&mut more);
        list(&mut all).items.append(items);
        list(&mut all).next = next.take();
    }
}

/// The flag for a field of the query.
fn flag(field: &str) -> String {
    match field {
        "server" => "listener".to_owned(),
        other => other.replace('_', "-"),
    }
}

#[cfg(test)]
mod tests;
