//! `tieline machine`: takes over sleeping machines, and has them come back, over the API of a running
//! process.

use std::fmt::Write as _;

use serde_json::json;
use switchboard::view::{AdoptedAnswer, AdoptedState, AdoptedView};

use crate::cli::{Adoption, MachineCommand, Server};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::print;
use crate::table::printable;

/// Carries out the command.
///
/// # Errors
/// [`Failure::Runtime`] for a refusal or a process that does not answer.
pub fn machine(server: &Server, command: MachineCommand) -> Result<(), Failure> {
    let client = Client::new(server)?;
    let (path, Adoption { machines, by }) = match command {
        MachineCommand::Adopt(adoption) => ("/v1/machines/adopt", adoption),
        MachineCommand::Wake(adoption) => ("/v1/machines/wake", adoption),
    };
    let answer = client.post(path, &json!({ "machines": machines, "by": by }))?;
    if answer.is_error() {
        return Err(client.failure_of(&answer));
    }
    if server.json {
        return print(&answer.text);
    }
    print(&words(&answer.read()?))
}

/// One line for each machine.
fn words(answer: &AdoptedAnswer) -> String {
    let mut text = String::new();
    for AdoptedView { machine, state, waits_for } in &answer.machines {
        let waits_for = waits_for.as_deref();
        let what = match (state, waits_for) {
            (AdoptedState::Awake, _) => "is awake already".to_owned(),
            (AdoptedState::WantedAsleep, why) => {
                format!("stays asleep for now: {}", why.unwrap_or("it is wanted asleep"))
            }
            (AdoptedState::Returning, None) => "comes back now".to_owned(),
            (AdoptedState::Returning, Some(why)) => format!("waits to come back: {why}"),
        };
        let _ = writeln!(text, "{}", printable(&format!("{machine} {what}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_a_line_that_says_what_it_waits_for() {
        let view = |name: &str, state, why: Option<&str>| AdoptedView {
            machine: name.into(),
            state,
            waits_for: why.map(str::to_owned),
        };
        let machines = vec![
            view("a", AdoptedState::Awake, None),
            view("b\u{1b}", AdoptedState::Returning, None),
            view("c", AdoptedState::Returning, Some("feed f has no measured room")),
            view("d", AdoptedState::WantedAsleep, Some("lease l needs its power")),
        ];
        let answer = AdoptedAnswer { api_version: 1, timezone: "UTC".to_owned(), machines };
        let text = words(&answer);
        assert!(text.starts_with("a is awake already\nb"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("c waits to come back: feed f has no measured room\n"), "{text}");
        assert!(text.ends_with("d stays asleep for now: lease l needs its power\n"), "{text}");
    }
}
