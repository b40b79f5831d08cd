//! `tieline lease`: commits, shows, changes and cancels leases over the API of a running process. The texts
//! are in `words`.

mod add;
mod amend;
mod refusal;
mod words;

use serde_json::json;
use switchboard::commitment::Phase;
use switchboard::view::{LeaseAnswer, LeaseView, LeasesAnswer};

use crate::cli::{LeaseCommand, Server};
use crate::client::{Client, encode};
use crate::failure::Failure;
use crate::figures::counted;
use crate::output::{print, width};
use crate::times::Shown;
use amend::Direction;
pub(crate) use words::{arithmetic, shortage};

/// Carries out the command.
///
/// # Errors
/// [`Failure::Usage`] for times that cannot be read, [`Failure::Runtime`] for a refusal or a
/// process that does not answer.
pub fn lease(server: &Server, command: LeaseCommand) -> Result<(), Failure> {
    let client = Client::new(server)?;
    match command {
        LeaseCommand::Add(add) => add::add(&client, &add, server.json),
        LeaseCommand::List { all } => list(&client, all, server.json),
        LeaseCommand::Show { id } => show(&client, &id, server.json),
        LeaseCommand::Cancel { id, force, dry_run } => {
            cancel(&client, &id, (force, dry_run), server.json)
        }
        LeaseCommand::Extend(to) => amend::amend(&client, &to, Direction::Later, server.json),
        LeaseCommand::Shorten(to) => amend::amend(&client, &to, Direction::Earlier, server.json),
    }
}

fn list(client: &Client, all: bool, as_json: bool) -> Result<(), Failure> {
    let answer = leases(client, if all { "all" } else { "open" })?;
    if as_json {
        return print(&json!(answer).to_string());
    }
    let mut text = match (answer.leases.as_slice(), all) {
        ([], true) => "no leases\n".to_owned(),
        ([], false) => "no open leases\n".to_owned(),
        (leases, _) => words::list(leases, &Shown::new(&answer.timezone), width()),
    };
    if !all {
        let path = "/v1/leases?state=closed&limit=1";
        let closed: LeasesAnswer = client.require_of_switchboard(path)?.read()?;
        if closed.total > 0 {
            let closed = counted(closed.total as u64, "closed lease");
            text.push_str(&format!("{closed} not shown: --all shows them\n"));
        }
    }
    print(&text)
}

/// The leases in a state, or `all` or `open` ones: all pages as one answer.
pub(crate) fn leases(client: &Client, state: &str) -> Result<LeasesAnswer, Failure> {
    let page = |cursor: &str| -> Result<LeasesAnswer, Failure> {
        let path = format!("/v1/leases?state={state}&limit={PAGE}{cursor}");
        client.require_of_switchboard(&path)?.read()
    };
    let mut all = page("")?;
    while let Some(cursor) = all.next.take() {
        let mut more = page(&format!("&cursor={}", encode(&cursor)))?;
        all.leases.append(&mut more.leases);
        all.next = more.next;
    }
    Ok(all)
}

/// How many leases one request asks for.
const PAGE: usize = 1000;

fn show(client: &Client, id: &str, as_json: bool) -> Result<(), Failure> {
    let answer = client.require_of_switchboard(&format!("/v1/leases/{}", encode(id)))?;
    if as_json {
        return print(&answer.text);
    }
    let answer: LeaseAnswer = answer.read()?;
    print(&words::show(&answer, &Shown::new(&answer.timezone), width()))
}

fn cancel(
    client: &Client,
    id: &str,
    (force, dry_run): (bool, bool),
    as_json: bool,
) -> Result<(), Failure> {
    let path = format!("/v1/leases/{}", encode(id));
    let before: LeaseAnswer = client.require_of_switchboard(&path)?.read()?;
    let shown = Shown::new(&before.timezone);
    if let Some(over) = over(&before.lease, &shown) {
        return match as_json {
            true => print(&client.require(&path)?.text),
            false => print(&over),
        };
    }
    let dry = if dry_run { "&dry_run=true" } else { "" };
    let answer = client.delete(&format!("{path}?force={force}{dry}"))?;
    if answer.is_error() {
        let error = answer.error();
        return Err(match error.code.as_str() {
            "lease_active" => Failure::runtime(format!(
                "refused: lease {id} is active, and its tenant may be drawing the power.\n\
                 To cancel it all the same, add --force."
            )),
            _ => client.failure_of(&answer),
        });
    }
    if as_json {
        return print(&answer.text);
    }
    print(&cancelled(&before.lease, dry_run))
}

/// The message for a lease that can no longer be cancelled.
fn over(lease: &LeaseView, shown: &Shown) -> Option<String> {
    let LeaseView { id, .. } = lease;
    if lease.state == Phase::Closed {
        let since = lease.closed_at.map(|at| format!(" since {}", shown.moment(at)));
        return Some(format!(
            "lease {id} is closed already{}: nothing was changed",
            since.unwrap_or_default()
        ));
    }
    if let Some(at) = lease.cancelled_at {
        return Some(format!(
            "lease {id} was cancelled already at {}: nothing was changed",
            shown.moment(at)
        ));
    }
    (lease.state == Phase::Releasing).then(|| {
        format!(
            "lease {id} ended already at {}, and its machines are coming back: nothing was changed",
            shown.moment(lease.end)
        )
    })
}

/// The message for a lease that was cancelled just now, or would be; `before` is its state before.
fn cancelled(before: &LeaseView, dry_run: bool) -> String {
    let has_machines = before.state >= Phase::Shedding && !before.machines_by_state.is_empty();
    let id = &before.id;
    match (dry_run, has_machines) {
        (false, true) => format!("lease {id} is cancelled; its machines come back to mining"),
        (false, false) => format!("lease {id} is cancelled; no machine had gone for it"),
        (true, true) => format!(
            "lease {id} would be cancelled; its machines would come back to mining. Nothing was changed"
        ),
        (true, false) => format!(
            "lease {id} would be cancelled; no machine has gone for it. Nothing was changed"
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests;
