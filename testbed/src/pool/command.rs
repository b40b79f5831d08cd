//! The commands of a running test pool, as values and as the lines people type.

use std::str::FromStr;
use std::time::Duration;

use super::{Mood, Verdicts};
use crate::arithmetic::{parse_bytes, parse_u32};
use crate::clock::parse_span;

/// A command to a running pool. Its text form, a word and its arguments, is the control protocol of
/// the program.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `die`: drop every connection and refuse new ones.
    Die,
    /// `live`: accept connections again, on the same address.
    Live,
    /// `drop`: drop every connection, and accept new ones.
    Drop,
    /// `normal`, `quiet` (answers, no jobs), `silent` (says nothing at all).
    Mood(Mood),
    /// `truthful`, `reject-all`, `accept-all`, `wrong-ids`.
    Verdicts(Verdicts),
    /// `delay 500ms`: delay every answer.
    Delay(Duration),
    /// `difficulty 0.001`
    Difficulty(f64),
    /// `extranonce 08000002 4`, or `extranonce - 4` for a value of its own for each connection.
    Extranonce(Option<Vec<u8>>, usize),
    /// `mask 1fffe000`, or `mask none`.
    VersionMask(Option<u32>),
    /// `job` or `job clean`
    Job {
        /// Whether the job is for a new block and retires those before it.
        clean: bool,
    },
    /// `repeat-job-ids on|off`
    RepeatJobIds(bool),
    /// `reuse-extranonce1 on|off`
    ReuseExtranonce1(bool),
    /// `reconnect`, or `reconnect host port wait`.
    Reconnect(Option<(String, u16, u32)>),
    /// `message text`
    Message(String),
    /// `raw text`: send the text as it is.
    Raw(String),
}

/// Why a control line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The first word is not a command.
    #[error("unknown command `{0}`")]
    Unknown(String),
    /// The arguments are wrong.
    #[error("wrong arguments: use `{usage}`")]
    Arguments {
        /// The correct form of the command.
        usage: &'static str,
    },
}

impl FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Self, CommandError> {
        let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        let parsed = match word {
            "die" => return Ok(Self::Die),
            "live" => return Ok(Self::Live),
            "drop" => return Ok(Self::Drop),
            "normal" => return Ok(Self::Mood(Mood::Normal)),
            "quiet" => return Ok(Self::Mood(Mood::Quiet)),
            "silent" => return Ok(Self::Mood(Mood::Silent)),
            "truthful" => return Ok(Self::Verdicts(Verdicts::Truthful)),
            "reject-all" => return Ok(Self::Verdicts(Verdicts::RejectAll)),
            "accept-all" => return Ok(Self::Verdicts(Verdicts::AcceptAll)),
            "wrong-ids" => return Ok(Self::Verdicts(Verdicts::WrongIds)),
            "message" => return Ok(Self::Message(rest.to_owned())),
            "raw" => return Ok(Self::Raw(rest.to_owned())),
            "delay" => (parse_span(rest).ok().map(Self::Delay), "delay 500ms"),
            "difficulty" => (rest.parse().ok().map(Self::Difficulty), "difficulty 0.001"),
            "extranonce" => (extranonce(rest), "extranonce 08000002|- 4"),
            "mask" => (mask(rest), "mask 1fffe000|none"),
            "job" => (job(rest), "job [clean]"),
            "repeat-job-ids" => (switch(rest).map(Self::RepeatJobIds), "repeat-job-ids on|off"),
            "reuse-extranonce1" => {
                (switch(rest).map(Self::ReuseExtranonce1), "reuse-extranonce1 on|off")
            }
            "reconnect" => (reconnect(rest), "reconnect [host port wait]"),
            other => return Err(CommandError::Unknown(other.chars().take(64).collect())),
        };
        let (command, usage) = parsed;
        command.ok_or(CommandError::Arguments { usage })
    }
}

fn extranonce(rest: &str) -> Option<Command> {
    let (value, size) = rest.split_once(' ')?;
    let value = if value == "-" { None } else { Some(parse_bytes(value)?) };
    Some(Command::Extranonce(value, size.trim().parse().ok()?))
}

fn mask(rest: &str) -> Option<Command> {
    if rest == "none" {
        return Some(Command::VersionMask(None));
    }
    parse_u32(rest).map(Some).map(Command::VersionMask)
}

fn job(rest: &str) -> Option<Command> {
    matches!(rest, "" | "clean").then_some(Command::Job { clean: rest == "clean" })
}

fn switch(rest: &str) -> Option<bool> {
    match rest {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn reconnect(rest: &str) -> Option<Command> {
    if rest.is_empty() {
        return Some(Command::Reconnect(None));
    }
    let mut words = rest.split_whitespace();
    let (host, port, wait) =
        (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Command::Reconnect(Some((host.to_owned(), port, wait))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_read_as_they_are_typed() {
        let read = |line: &str| line.parse::<Command>();
        assert_eq!(read(" die "), Ok(Command::Die));
        assert_eq!(read("delay 500ms"), Ok(Command::Delay(Duration::from_millis(500))));
        assert_eq!(read("difficulty 0.001"), Ok(Command::Difficulty(0.001)));
        assert_eq!(
            read("extranonce 08000002 4"),
            Ok(Command::Extranonce(Some(vec![8, 0, 0, 2]), 4))
        );
        assert_eq!(read("extranonce - 4"), Ok(Command::Extranonce(None, 4)));
        assert_eq!(read("mask none"), Ok(Command::VersionMask(None)));
        assert_eq!(read("mask 1fffe000"), Ok(Command::VersionMask(Some(0x1fff_e000))));
        assert_eq!(read("job clean"), Ok(Command::Job { clean: true }));
        assert_eq!(
            read("reconnect evil.example 3333 0"),
            Ok(Command::Reconnect(Some(("evil.example".into(), 3333, 0))))
        );
        assert_eq!(read("raw {\"id\": 1}"), Ok(Command::Raw("{\"id\": 1}".into())));
    }

    #[test]
    fn wrong_orders_say_how_to_write_them() {
        let refused = |line: &str| line.parse::<Command>().unwrap_err().to_string();
        assert_eq!(refused("explode"), "unknown command `explode`");
        assert_eq!(refused("mask 1fff"), "wrong arguments: use `mask 1fffe000|none`");
        assert_eq!(refused("job dirty"), "wrong arguments: use `job [clean]`");
        assert_eq!(refused("extranonce 0"), "wrong arguments: use `extranonce 08000002|- 4`");
    }
}
