//! Version rolling masks (BIP310, BIP320).
//!
//! [`crate::share`] decides which header a share's version bits make; the two roles decide which
//! mask a session gets.

use std::fmt;

use crate::hex;

/// The bits of a block's version that miners may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionMask(pub u32);

impl VersionMask {
    /// The general-purpose bits of BIP320, 13 to 28: what every pool we know rolls.
    pub const BIP320: Self = Self(0x1fff_e000);
    /// No bits: rolling is off.
    pub const NONE: Self = Self(0);

    /// Reads one to eight hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::word(text).map(Self)
    }

    /// Says whether all of `bits` may be changed.
    #[must_use]
    pub const fn contains(self, bits: u32) -> bool {
        bits & !self.0 == 0
    }

    /// Returns the bits both masks allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns how many bits may be changed.
    #[must_use]
    pub const fn bit_count(self) -> u32 {
        self.0.count_ones()
    }

    /// Says whether no bit may be changed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for VersionMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_and_written_as_eight_digits() {
        assert_eq!(VersionMask::parse("1fffe000"), Some(VersionMask::BIP320));
        assert_eq!(VersionMask::BIP320.to_string(), "1fffe000");
        assert_eq!(VersionMask(0xc0_0000).to_string(), "00c00000");
        assert_eq!(VersionMask::parse("1fffe00000"), None);
        assert_eq!(VersionMask::parse("zz"), None);
        assert_eq!(VersionMask::parse(""), None);
    }

    #[test]
    fn bip320_has_sixteen_bits_and_contains_only_those() {
        assert_eq!(VersionMask::BIP320.bit_count(), 16);
        assert!(VersionMask::BIP320.contains(0x2000));
        assert!(!VersionMask::BIP320.contains(0xe000_0000));
        assert!(VersionMask(0x5fff_e000).and(VersionMask::BIP320) == VersionMask::BIP320);
    }
}
