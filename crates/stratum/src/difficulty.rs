//! Difficulty, which people set, and target, with which hashes are compared.
//!
//! All pools use the same constant: difficulty 1 is the target `00000000ffff0000…`
//! ("truediffone"). Conversions are exact integer arithmetic on the binary value of the difficulty,
//! so that the proxy, the pool and the miner accept exactly the same hashes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A share difficulty: finite and above zero.
#[derive(Clone, Copy, PartialEq)]
pub struct Difficulty(f64);

impl Difficulty {
    /// Difficulty 1: one share in about 2^32 hashes.
    pub const ONE: Self = Self(1.0);
    /// 2^-28, the lowest difficulty that is advertised to a miner or accepted from a pool: one
    /// share in about 16 hashes.
    pub const FLOOR: Self = Self(1.0 / (1u64 << 28) as f64);
    /// 2^64, the highest difficulty accepted from a pool: far above that of any network.
    pub const CEILING: Self = Self((1u64 << 32) as f64 * (1u64 << 32) as f64);

    /// Takes a finite value above zero.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value > 0.0).then_some(Self(value))
    }

    /// Takes a value that a pool can mean: from [`Self::FLOOR`] to [`Self::CEILING`].
    #[must_use]
    pub fn plausible(value: f64) -> Option<Self> {
        (Self::FLOOR.0..=Self::CEILING.0).contains(&value).then_some(Self(value))
    }

    /// Returns the value.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Returns the largest power of two at or below this difficulty, but at least [`Self::FLOOR`].
    /// Firmware rounds every other value down by itself, and then sends shares that miss the
    /// target.
    #[must_use]
    pub fn power_of_two_at_or_below(self) -> Self {
        const MANTISSA: u64 = (1 << 52) - 1;
        if self < Self::FLOOR {
            return Self::FLOOR;
        }
        Self(f64::from_bits(self.0.to_bits() & !MANTISSA))
    }

    /// Returns the target a share of this difficulty must meet: `floor(0xffff · 2^208 /
    /// difficulty)`, at most 2^256 - 1.
    #[must_use]
    pub fn target(self) -> Target {
        let (mantissa, exponent) = parts(self.0);
        // 0xffff · 2^208 / (mantissa · 2^exponent) = (0xffff << shift) / mantissa, by long division
        // from the highest bit.
        let shift = 208 - exponent;
        if mantissa == 1 {
            // A power of two, as the proxy advertises. This needs no division; it runs for each
            // share.
            return shifted_one(shift);
        }
        let mut quotient = [0u8; 32];
        let mut rest = 0u64;
        for bit in (0..16 + shift).rev() {
            let digit = match bit - shift {
                place @ 0..=15 => (0xffff_u64 >> place) & 1,
                _ => 0,
            };
            rest = rest << 1 | digit;
            if rest < mantissa {
                continue;
            }
            rest -= mantissa;
            let place = usize::try_from(bit).expect("counted down to zero");
            let Some(byte) = quotient.get_mut(place / 8) else {
                return Target([0xff; 32]);
            };
            *byte |= 1 << (place % 8);
        }
        Target(quotient)
    }
}

/// Returns `0xffff << shift`, at most 2^256 - 1.
fn shifted_one(shift: i32) -> Target {
    let mut target = [0u8; 32];
    for bit in shift..shift + 16 {
        let Ok(place) = usize::try_from(bit) else { continue };
        match target.get_mut(place / 8) {
            Some(byte) => *byte |= 1 << (place % 8),
            None => return Target([0xff; 32]),
        }
    }
    Target(target)
}

/// Splits a positive finite value into an odd integer below 2^53 and a power of two.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let biased = i32::try_from(bits >> 52 & 0x7ff).expect("eleven bits");
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) =
        if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    let zeros = mantissa.trailing_zeros();
    (mantissa >> zeros, exponent + i32::try_from(zeros).expect("at most 52"))
}

impl Eq for Difficulty {}

impl Ord for Difficulty {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Difficulty {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Difficulty {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Writes integers without a decimal point, and fractions with the fewest digits that parse as the
/// same value. It never writes an exponent.
impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Difficulty({})", self.0)
    }
}

/// A 256-bit bound on hashes, least significant byte first: the byte order of hashes in headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target([u8; 32]);

impl Target {
    /// A target of zero, which in practice no hash meets.
    pub const NEVER: Self = Self([0; 32]);

    /// Makes a target from bytes, least significant first.
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, least significant first.
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Reads the `nbits` of a header. Returns `None` for values the network refuses: negative,
    /// zero, overflowing, or above the limit of regtest (`207fffff`), the highest limit of all
    /// networks.
    #[must_use]
    pub fn from_nbits(nbits: u32) -> Option<Self> {
        let size = nbits >> 24;
        let mantissa = nbits & 0x7f_ffff;
        let negative = nbits & 0x80_0000 != 0;
        let overflow =
            size > 34 || (size > 33 && mantissa > 0xff) || (size > 32 && mantissa > 0xffff);
        if mantissa == 0 || negative || overflow {
            return None;
        }
        let target = Self(
            bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(nbits))
                .to_le_bytes(),
        );
        let mut limit = [0; 32];
        limit[29..].copy_from_slice(&[0xff, 0xff, 0x7f]);
        (target != Self::NEVER && target <= Self(limit)).then_some(target)
    }

    /// Says whether a block or share hash, in header byte order, lies at or below the target.
    #[must_use]
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        Self(*hash) <= *self
    }

    /// Returns the difficulty of a hash exactly on the target. `None` for [`Self::NEVER`].
    #[must_use]
    pub fn difficulty(&self) -> Option<Difficulty> {
        (*self != Self::NEVER).then(|| Difficulty(difficulty_of(&self.0)))
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Writes the target with the most significant digit first, as people do.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        bytes.reverse();
        write!(f, "Target({})", const_hex::encode(bytes))
    }
}

/// Returns the highest difficulty that a hash meets, correct to about 15 digits, for reports. The
/// hash of zero gets the largest value there is.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a report needs no more than a double holds")]
pub fn difficulty_of(hash: &[u8; 32]) -> f64 {
    let value = hash.rchunks_exact(8).fold(0.0, |sum, word| {
        sum * 18_446_744_073_709_551_616.0
            + u64::from_le_bytes(word.try_into().expect("eight bytes")) as f64
    });
    let one = 65_535.0 * 2f64.powi(208);
    if value == 0.0 { f64::MAX } else { one / value }
}

#[cfg(test)]
mod tests;
