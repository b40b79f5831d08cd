//! The message for a refused lease: the shortage, and the arithmetic of admission.

use std::time::Duration;

use directive::Watts;
use switchboard::view::ErrorView;

use super::words;
use crate::client::{Answer, Client, words_of};
use crate::failure::Failure;
use crate::figures::{kilowatts, length};
use crate::output::wrapped;
use crate::times::Shown;

/// The refusal with its arithmetic.
pub(super) fn full(client: &Client, answer: &Answer, shown: &Shown, width: usize) -> Failure {
    let error = answer.error();
    match explained(&error, shown, width) {
        Some(text) => Failure::runtime(text),
        None => brief(client, answer),
    }
}

/// The refusal in one sentence, used if the answer itself was printed.
pub(super) fn brief(client: &Client, answer: &Answer) -> Failure {
    let error = answer.error();
    match (&error.field, answer.status) {
        (Some(field), 400) => {
            let words = words_of(&error);
            let first = (field.as_str(), words.strip_prefix(&format!("{field}: ")));
            Failure::Usage(match error.mistakes.as_slice() {
                [] => flag(first.0, first.1.unwrap_or(&words)),
                all => all
                    .iter()
                    .map(|mistake| flag(&mistake.field, &mistake.message))
                    .collect::<Vec<_>>()
                    .join("\n"),
            })
        }
        _ => client.failure_of(answer),
    }
}

/// The message for a wrong flag. Flags have the names of the fields.
fn flag(field: &str, what: &str) -> String {
    format!("--{}: {what}", field.replace('_', "-"))
}

/// The message for a refusal with figures; `None` for other errors.
pub(super) fn explained(error: &ErrorView, shown: &Shown, width: usize) -> Option<String> {
    let short = || {
        let missing = error.missing_watts.unwrap_or(Watts::ZERO);
        let feed = error.feed.as_ref().map_or("?", |feed| feed.as_str());
        let interval = match (error.from, error.to) {
            (Some(from), Some(to)) => format!(" ({})", shown.span(from, to)),
            _ => String::new(),
        };
        format!("short {} at {feed}{interval}", kilowatts(missing))
    };
    let with_arithmetic = |sentence: String| {
        let table = words::arithmetic(&error.arithmetic, shown, width);
        let zone = shown.heading();
        format!("{}\n{table}\n{zone}", wrapped(&sentence, width, 0))
    };
    match error.code.as_str() {
        "does_not_fit" => Some(with_arithmetic(format!("refused: {}", short()))),
        "needs_accept_unverified" => Some(with_arithmetic(format!(
            "refused: {}, counting only machines that a device puts to sleep. With \
             --accept-unverified, machines that can only be starved of work would count, too; \
             that proves nothing.",
            short()
        ))),
        "not_provable" => {
            let feed = error.feed.as_ref().map_or("?", |feed| feed.as_str());
            Some(wrapped(
                &format!(
                    "refused: feed {feed} has no meter, so nothing would prove that its power is \
                     free. Name one in the policy (feed.{feed}.meter), or accept that with \
                     --accept-unverified."
                ),
                width,
                0,
            ))
        }
        "too_late" => {
            let missing = Duration::from_secs(error.missing_secs?);
            let latest = shown.moment(error.latest_safe_start?);
            let lead = error.message.split_once("it needs ").map(|(_, lead)| lead);
            let needs = lead.map(|lead| format!("; it needs {lead}")).unwrap_or_default();
            Some(wrapped(
                &format!(
                    "refused: too late by {}: machines would have had to begin to go at {latest} \
                     ({}){needs}",
                    length(missing),
                    shown.zone.name()
                ),
                width,
                0,
            ))
        }
        _ => None,
    }
}
