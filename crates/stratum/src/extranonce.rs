//! The extranonce that a pool assigns, and a type for short byte strings without allocation.
//!
//! The proxy divides the search space behind a pool's extranonce1 between miners.

use std::fmt;
use std::ops::Deref;

use crate::envelope::Value;
use crate::error::{RejectCode, StratumError};
use crate::hex;

/// The maximum length of an extranonce1 and of an extranonce2, in bytes.
pub const EXTRANONCE_MAX: usize = 16;

/// At most sixteen bytes, kept inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SmallBytes {
    bytes: [u8; EXTRANONCE_MAX],
    len: u8,
}

impl SmallBytes {
    /// Copies up to sixteen bytes; returns `None` if there are more.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut small = Self { bytes: [0; EXTRANONCE_MAX], len: u8::try_from(bytes.len()).ok()? };
        small.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(small)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for SmallBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for SmallBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmallBytes({})", const_hex::encode(self.as_slice()))
    }
}

/// The search space that a pool assigned to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extranonce {
    /// One to sixteen bytes, the same in every coinbase of this connection.
    pub extranonce1: Vec<u8>,
    /// How many bytes follow that we may choose: 2 to 16.
    pub extranonce2_size: u8,
}

impl Extranonce {
    /// Reads the two values of a subscribe's answer or of `mining.set_extranonce`.
    pub(crate) fn read(
        extranonce1: Option<&Value<'_>>,
        size: Option<&Value<'_>>,
    ) -> Result<Self, StratumError> {
        let bad = |message: String| StratumError::new(RejectCode::Other.code(), &message);
        let Some(Value::Text(text)) = extranonce1 else {
            return Err(bad("extranonce1 is not a string".to_owned()));
        };
        let Some(bytes) = hex::bytes(text, EXTRANONCE_MAX).filter(|bytes| !bytes.is_empty()) else {
            return Err(bad(format!(
                "extranonce1 is not 1 to 16 bytes of hex: {}",
                StratumError::new(0, text).message
            )));
        };
        let Some(Value::Number(number)) = size else {
            return Err(bad("extranonce2_size is not a number".to_owned()));
        };
        let size = number
            .parse::<f64>()
            .ok()
            .filter(|size| size.fract() == 0.0 && (2.0..=16.0).contains(size));
        let Some(size) = size else {
            return Err(bad(format!("extranonce2_size is not 2 to 16: {number}")));
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an integer from 2 to 16, checked above"
        )]
        Ok(Self { extranonce1: bytes, extranonce2_size: size as u8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extranonce1: &str, size: &str) -> Result<Extranonce, StratumError> {
        Extranonce::read(Value::from_raw(extranonce1).as_ref(), Value::from_raw(size).as_ref())
    }

    #[test]
    fn u11_sizes_that_cannot_be_meant_are_refused() {
        for bad in
            ["0", "1", "-1", "17", "255", "2147483648", "4.5", "\"8\"", "null", "1e400", "[4]"]
        {
            assert!(read("\"08000002\"", bad).is_err(), "{bad}");
        }
        for (good, size) in [("2", 2), ("8", 8), ("16", 16), ("4.0", 4)] {
            assert_eq!(read("\"08000002\"", good).unwrap().extranonce2_size, size);
        }
        assert!(Extranonce::read(None, None).is_err());
    }

    #[test]
    fn u12_extranonce1_is_one_to_sixteen_bytes_of_hex() {
        let long = format!("\"{}\"", "00".repeat(17));
        for bad in ["\"\"", "\"abc\"", "\"zz\"", "\"0x00\"", "12", "null", &long] {
            assert!(read(bad, "8").is_err(), "{bad}");
        }
        assert_eq!(read("\"00\"", "6").unwrap().extranonce1, [0]);
        assert_eq!(
            read("\"0102030405060708090a0b0c0d0e0f10\"", "6").unwrap().extranonce1.len(),
            16
        );
    }

    #[test]
    fn small_bytes_hold_sixteen() {
        assert_eq!(SmallBytes::new(&[7; 16]).unwrap().as_slice(), [7; 16]);
        assert_eq!(SmallBytes::new(&[7; 17]), None);
        assert_eq!(SmallBytes::new(&[7; 300]), None);
        assert!(SmallBytes::new(&[]).unwrap().is_empty());
    }
}
