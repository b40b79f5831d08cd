//! How the testbed reads and records lines: a lenient envelope, and a bounded record of the lines
//! sent and received.
//!
//! The pool and the miner interpret the messages.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Whether a line was sent or received by the side that keeps the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    In,
    Out,
}

/// The newest lines of a connection; older ones are dropped.
#[derive(Debug, Clone)]
pub struct WireLog {
    limit: usize,
    lines: VecDeque<(Direction, String)>,
}

impl WireLog {
    /// Keeps up to `limit` lines.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, lines: VecDeque::new() }
    }

    /// Adds a line; bytes that are not UTF-8 are replaced.
    pub fn push(&mut self, direction: Direction, line: &[u8]) {
        if self.limit == 0 {
            return;
        }
        if self.lines.len() >= self.limit {
            self.lines.pop_front();
        }
        self.lines.push_back((direction, String::from_utf8_lossy(line).into_owned()));
    }

    /// Returns the kept lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<(Direction, String)> {
        self.lines.iter().cloned().collect()
    }
}

/// A message of either side. Missing fields are `None`.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// The id as raw text, so that it can be echoed byte for byte.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    /// The method of a request or notification.
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub params: Value,
    /// An answer's result; a missing one reads as null.
    #[serde(default)]
    pub result: Value,
    /// An answer's error; a missing one reads as null.
    #[serde(default)]
    pub error: Value,
}

impl<'a> Envelope<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// When the line is not one JSON object, or a field has a wrong type.
    pub fn parse(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// Returns the id as raw text; `null` if there is none.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.id.map_or("null", RawValue::get)
    }

    /// Returns the parameter at `index` if it is a string.
    #[must_use]
    pub fn text(&self, index: usize) -> Option<&str> {
        self.params.get(index)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_as_written() {
        for id in ["1", "\"auth\"", "1.50", "null", "9007199254740993"] {
            let line = format!("{{\"id\":{id},\"method\":\"mining.ping\"}}");
            assert_eq!(Envelope::parse(line.as_bytes()).unwrap().id(), id);
        }
        assert_eq!(Envelope::parse(b"{\"result\":true}").unwrap().id(), "null");
        assert!(Envelope::parse(b"{} {}").is_err());
    }

    #[test]
    fn the_record_is_bounded() {
        let mut log = WireLog::new(2);
        for line in [&b"a"[..], b"b", b"\xff"] {
            log.push(Direction::In, line);
        }
        assert_eq!(log.lines(), [(Direction::In, "b".into()), (Direction::In, "\u{fffd}".into())]);
    }
}
