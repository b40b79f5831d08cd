//! A digest of a set of entries, kept up to date in constant time for each change.
//!
//! The digest is the wrapping sum of the entries' fingerprints, so it does not depend on their
//! order, and an entry can be taken out again. Fingerprints are defined here byte by byte, because
//! both ends of a link must compute the same ones whatever compiler and version built them; the
//! hashers of the standard library do not promise that. The digest finds lost changes, not forged
//! ones: the link authenticates what it carries.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The fingerprint of one entry: 64 bits of all its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// The digest of a set of entries. It is written as 16 hexadecimal digits, because many readers of
/// JSON keep only 53 bits of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Digest {
    pub(crate) fn add(&mut self, entry: Fingerprint) {
        self.0 = self.0.wrapping_add(entry.0);
    }

    pub(crate) fn remove(&mut self, entry: Fingerprint) {
        self.0 = self.0.wrapping_sub(entry.0);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = digits.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!("digest {text:?}: not 16 hexadecimal digits"))
        })
    }
}

/// Builds the fingerprint of an entry from its fields, always in the same order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields(u64);

/// An odd number with no pattern in its bits: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Fields {
    pub(super) const fn new() -> Self {
        Self(MULTIPLIER)
    }

    /// A multiplication carries bits up and a rotation brings them down again, so that each word
    /// changes the whole state.
    pub(super) const fn number(self, word: u64) -> Self {
        Self((self.0 ^ word).wrapping_mul(MULTIPLIER).rotate_left(29))
    }

    pub(super) const fn signed(self, word: i64) -> Self {
        self.number(word.cast_unsigned())
    }

    /// The length comes first, so that no two lists of texts give the same words.
    pub(super) fn text(self, text: &str) -> Self {
        let mut fields = self.number(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            fields = fields.number(u64::from_le_bytes(word));
        }
        fields
    }

    /// An absent value is not the same as any present one.
    pub(super) fn optional<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self.number(1), value),
            None => self.number(0),
        }
    }

    /// The time to the nanosecond, which is the precision of RFC 3339 between the ends.
    pub(super) fn time(self, time: Option<Timestamp>) -> Self {
        self.optional(time, |fields, time| {
            let nanos = i64::from(time.subsec_nanosecond());
            fields.signed(time.as_second()).signed(nanos)
        })
    }

    /// The last steps of `MurmurHash3`, after which each bit of the state has changed about half of
    /// the result's bits. A sum of fingerprints needs that.
    pub(super) const fn fingerprint(self) -> Fingerprint {
        let mut bits = self.0;
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Fingerprint(bits ^ (bits >> 33))
    }
}
