//! The `id` of a message, kept as the JSON text in which it was received.
//!
//! Miners send integers, floats, strings and null, and some compare the id of the answer byte for
//! byte. So no id is converted. The message parsers decide what follows from an id of a wrong kind.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The maximum length of a string id, in characters, and of a number, in digits.
pub const ID_MAX: usize = 64;

/// The raw JSON of a request's id: a number of any form, a string of at most 64 printable ASCII
/// characters, or null.
///
/// Ids of up to 22 bytes are kept inline; longer ones cost an allocation.
#[derive(Clone)]
pub struct Id(Text);

#[derive(Clone)]
enum Text {
    Inline { len: u8, bytes: [u8; INLINE] },
    Long(Box<str>),
}

const INLINE: usize = 22;

/// Why an id is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdFault {
    /// An object, array or boolean: a request with it is answered with an error.
    #[error("id is neither a number nor a string nor null")]
    Kind,
    /// A string or number that is too long or not printable: the connection is closed.
    #[error("id is too long or not printable ASCII")]
    Text,
}

impl Id {
    /// `null`: the id of notifications, and of answers to requests without an id.
    pub const NULL: Self = {
        let mut bytes = [0; INLINE];
        bytes[0] = b'n';
        bytes[1] = b'u';
        bytes[2] = b'l';
        bytes[3] = b'l';
        Self(Text::Inline { len: 4, bytes })
    };

    /// Makes the id of a request that we send.
    #[must_use]
    pub fn number(n: u64) -> Self {
        Self::keep(itoa::Buffer::new().format(n))
    }

    /// Returns the JSON text to send back.
    #[must_use]
    pub fn as_raw(&self) -> &str {
        match &self.0 {
            Text::Inline { .. } => std::str::from_utf8(self.as_bytes()).expect("kept from text"),
            Text::Long(text) => text,
        }
    }

    /// Says whether the id is null, as in notifications.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_bytes() == b"null"
    }

    /// Returns the bytes of [`Self::as_raw`].
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long(text) => text.as_bytes(),
        }
    }

    /// Reads an id from valid JSON text.
    pub(crate) fn from_raw(raw: &str) -> Result<Self, IdFault> {
        match raw.as_bytes().first() {
            Some(b'n') => Ok(Self::NULL),
            Some(b'-' | b'0'..=b'9') if raw.len() <= ID_MAX => Ok(Self::keep(raw)),
            Some(b'-' | b'0'..=b'9') => Err(IdFault::Text),
            Some(b'"') if is_plain(raw) => Ok(Self::keep(raw)),
            Some(b'"') => Err(IdFault::Text),
            _ => Err(IdFault::Kind),
        }
    }

    fn keep(raw: &str) -> Self {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..raw.len()) {
            Some(room) => {
                room.copy_from_slice(raw.as_bytes());
                Self(Text::Inline { len: room.len().try_into().expect("at most 22"), bytes })
            }
            None => Self(Text::Long(raw.into())),
        }
    }
}

/// Says whether a JSON string, with its escapes resolved, has at most 64 characters, all of them
/// printable ASCII.
fn is_plain(raw: &str) -> bool {
    let inner = raw.trim_matches('"');
    if raw.len() == inner.len() + 2 && !inner.contains('\\') {
        return inner.len() <= ID_MAX && inner.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    }
    // An escape has at most six characters (`\u0041`), so longer text cannot be a short enough id.
    raw.len() <= ID_MAX * 6 + 2
        && serde_json::from_str::<String>(raw).is_ok_and(|id| {
            id.len() <= ID_MAX && id.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        })
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.as_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s08_numbers_of_any_form_strings_and_null_are_kept_as_written() {
        let long = format!("\"{}\"", "x".repeat(64));
        for raw in [
            "1",
            "-7",
            "1.50",
            "1e400",
            "123456789012345678901234567890",
            "null",
            "\"\"",
            "\"auth\"",
            "\"a\\\"b\"",
            "\"\\u0041\"",
            &long,
        ] {
            assert_eq!(Id::from_raw(raw).unwrap().as_raw(), raw);
        }
        for raw in ["{}", "[1]", "true", "false"] {
            assert_eq!(Id::from_raw(raw), Err(IdFault::Kind), "{raw}");
        }
    }

    #[test]
    fn s09_control_characters_and_long_ids_are_refused() {
        let long = format!("\"{}\"", "x".repeat(65));
        let digits = "9".repeat(65);
        for raw in ["\"\\u0000\\n\"", "\"\\u001b[2J\"", "\"é\"", "\"\\u00e9\"", &long, &digits] {
            assert_eq!(Id::from_raw(raw), Err(IdFault::Text), "{raw}");
        }
    }

    #[test]
    fn ids_are_equal_by_their_text() {
        assert_eq!(Id::number(18_446_744_073_709_551_615).as_raw(), "18446744073709551615");
        assert_ne!(Id::from_raw("1").unwrap(), Id::from_raw("1.0").unwrap());
        assert_eq!(Id::from_raw("null").unwrap(), Id::NULL);
        assert!(Id::NULL.is_null());
    }
}
