//! Reject codes, and one type for the errors that peers send in a dozen forms.
//!
//! A [`StratumError`] is an error inside a message. Faults that close a connection are
//! [`crate::client_message::LineFault`].

use crate::envelope::Value;

/// Why a request is refused: the error numbers that miners and pools use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// Every reason that has no number of its own.
    Other = 20,
    /// The job is unknown or retired.
    JobNotFound = 21,
    /// The share was submitted before.
    Duplicate = 22,
    /// The share's hash misses the target.
    LowDifficulty = 23,
    /// The worker is not authorized.
    Unauthorized = 24,
    /// The connection has not subscribed.
    NotSubscribed = 25,
}

impl RejectCode {
    /// Returns the number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// Returns the usual message for this code.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Other => "Other/Unknown",
            Self::JobNotFound => "Job not found",
            Self::Duplicate => "Duplicate share",
            Self::LowDifficulty => "Low difficulty share",
            Self::Unauthorized => "Unauthorized worker",
            Self::NotSubscribed => "Not subscribed",
        }
    }

    /// Returns the code with this number; [`Self::Other`] if the number is unknown.
    #[must_use]
    pub const fn from_code(code: i32) -> Self {
        match code {
            21 => Self::JobNotFound,
            22 => Self::Duplicate,
            23 => Self::LowDifficulty,
            24 => Self::Unauthorized,
            25 => Self::NotSubscribed,
            _ => Self::Other,
        }
    }

    /// Finds the code by the words of a reason, for pools that send no number, such as ckpool.
    fn from_words(words: &str) -> Self {
        const KNOWN: [(&str, RejectCode); 10] = [
            ("Above target", RejectCode::LowDifficulty),
            ("high-hash", RejectCode::LowDifficulty),
            ("Invalid JobID", RejectCode::JobNotFound),
            ("Invalid job_id", RejectCode::JobNotFound),
            ("Job not found", RejectCode::JobNotFound),
            ("Stale", RejectCode::JobNotFound),
            ("Duplicate", RejectCode::Duplicate),
            ("Duplicate share", RejectCode::Duplicate),
            ("Worker mismatch", RejectCode::Unauthorized),
            ("Failed subscription", RejectCode::NotSubscribed),
        ];
        KNOWN
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(words))
            .map_or(Self::Other, |(_, code)| *code)
    }
}

/// An error that a peer sent, or that we send to a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct StratumError {
    /// The error's number, or 20 if the peer sent none.
    pub code: i32,
    /// The error's message: control characters escaped, at most 64 characters.
    pub message: String,
}

impl StratumError {
    /// Makes an error; the message may come from a peer, so it is escaped and truncated.
    #[must_use]
    pub fn new(code: i32, message: &str) -> Self {
        Self { code, message: escape(message, MESSAGE_MAX) }
    }

    /// Makes an error that we send.
    pub(crate) fn of(code: RejectCode, message: &str) -> Self {
        Self::new(code.code(), message)
    }

    /// Reads an error in any form; returns `None` for null, which means no error.
    pub(crate) fn read(error: &Value<'_>) -> Option<Self> {
        match error {
            Value::Null => None,
            Value::Text(words) => Some(Self::of(RejectCode::from_words(words), words)),
            Value::Number(_) => Some(Self::coded(code_of(error).unwrap_or(20))),
            Value::Array(raw) => Some(Self::read_array(raw)),
            Value::Object(raw) => Some(Self::read_object(raw)),
            Value::Bool(_) => Some(Self::of(RejectCode::Other, "error without a reason")),
        }
    }

    /// Reads `[code, message, …]`; either part may be missing.
    fn read_array(raw: &str) -> Self {
        let items = Value::items(raw, 3);
        let code = items.first().and_then(code_of);
        let words = items.iter().find_map(|item| match item {
            Value::Text(words) if code.is_none() || code_of(item).is_none() => Some(words),
            _ => None,
        });
        Self::joined(code, words.map(AsRef::as_ref))
    }

    /// Reads `{"code": …, "message": …}`.
    fn read_object(raw: &str) -> Self {
        let fields = Value::fields(raw, 8);
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let words = match field("message") {
            Some(Value::Text(words)) => Some(words.as_ref()),
            _ => None,
        };
        Self::joined(field("code").and_then(code_of), words)
    }

    fn joined(code: Option<i32>, words: Option<&str>) -> Self {
        match (code, words) {
            (Some(code), Some(words)) => Self::new(code, words),
            (Some(code), None) => Self::coded(code),
            (None, Some(words)) => Self::of(RejectCode::from_words(words), words),
            (None, None) => Self::of(RejectCode::Other, "error without a reason"),
        }
    }

    fn coded(code: i32) -> Self {
        Self::new(code, RejectCode::from_code(code).text())
    }
}

/// How much of a message is kept, in characters.
pub const MESSAGE_MAX: usize = 64;

/// Reads a code given as an integer, which may be negative, or as a string that holds one.
fn code_of(value: &Value<'_>) -> Option<i32> {
    match value {
        Value::Number(digits) => digits.parse().ok(),
        Value::Text(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Escapes control characters, and truncates the text to `max` characters.
pub(crate) fn escape(text: &str, max: usize) -> String {
    text.chars().take(max).flat_map(char::escape_debug).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Option<(i32, String)> {
        StratumError::read(&Value::from_raw(raw).unwrap()).map(|error| (error.code, error.message))
    }

    #[test]
    fn every_form_of_error_seen_comes_down_to_a_code_and_words() {
        for (raw, code, message) in [
            ("[21,\"Job not found\",null]", 21, "Job not found"),
            ("[40,\"unfit, ignore\"]", 40, "unfit, ignore"),
            ("{\"code\":23,\"message\":\"low\"}", 23, "low"),
            ("{\"message\":\"low\",\"code\":\"23\",\"data\":{}}", 23, "low"),
            ("\"No nonce\"", 20, "No nonce"),
            ("[\"21\",\"stale\",null]", 21, "stale"),
            ("[-5,\"Too low difficulty\",null]", -5, "Too low difficulty"),
            ("[23,\"high-hash\",null]", 23, "high-hash"),
            ("[21]", 21, "Job not found"),
            ("[\"only words\"]", 20, "only words"),
            ("[]", 20, "error without a reason"),
            ("{}", 20, "error without a reason"),
            ("true", 20, "error without a reason"),
            ("22", 22, "Duplicate share"),
            ("[99999999999,\"big\"]", 20, "big"),
            ("[null,\"late\",null]", 20, "late"),
            ("\"-1:params not found\"", 20, "-1:params not found"),
        ] {
            assert_eq!(read(raw), Some((code, message.to_owned())), "{raw}");
        }
        assert_eq!(read("null"), None);
    }

    #[test]
    fn u17_long_text_with_escapes_is_cut_and_harmless() {
        let raw = format!("\"\\u001b[2J\\u202e{}\"", "A".repeat(10_000));
        let (code, message) = read(&raw).unwrap();
        assert_eq!(code, 20);
        assert_eq!(message.chars().count(), 64);
        assert!(message.starts_with("\\u{1b}[2J\\u{202e}AAA"), "{message}");
    }

    #[test]
    fn ckpools_words_get_the_codes_miners_know() {
        assert_eq!(read("\"Above target\"").unwrap().0, 23);
        assert_eq!(read("\"Stale\"").unwrap().0, 21);
        assert_eq!(read("\"Duplicate\"").unwrap().0, 22);
        assert_eq!(read("\"Worker mismatch\"").unwrap().0, 24);
    }
}
