//! Targets, with which hashes are compared, and the difficulties that people set instead.
//!
//! Difficulty 1 is the target `0xffff << 208`, for pools and for the compact form of the network.

use super::Hash;

/// A 256-bit bound: a hash, read as a little-endian number, meets it if it is at or below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(
    /// Most significant byte first, so that the derived order is that of the numbers.
    [u8; 32],
);

impl Target {
    /// The target that every hash meets.
    pub const MAX: Self = Self([0xff; 32]);

    /// Returns `floor(0xffff << 208 / difficulty)`, exactly. `None` unless `difficulty` is a finite
    /// number above zero; difficulties too small for 256 bits give [`Self::MAX`].
    #[must_use]
    pub fn of_difficulty(difficulty: f64) -> Option<Self> {
        if !difficulty.is_finite() || difficulty < f64::MIN_POSITIVE {
            return None;
        }
        // difficulty = mantissa * 2^exponent, with 53 bits of mantissa.
        let bits = difficulty.to_bits();
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let exponent = i32::try_from(bits >> 52).expect("eleven bits, the sign is zero") - 1075;
        let shift = 208 - exponent;
        if shift < 0 {
            return Some(Self([0; 32]));
        }
        let shift = usize::try_from(shift).expect("not negative");
        if shift > WIDE * 64 - 17 {
            return Some(Self::MAX);
        }
        let mut wide = [0_u64; WIDE];
        let (limb, offset) = (shift / 64, shift % 64);
        wide[limb] = 0xffff << offset;
        if offset > 48 {
            wide[limb + 1] = 0xffff >> (64 - offset);
        }
        divide(&mut wide, mantissa);
        if wide[4..].iter().any(|limb| *limb != 0) {
            return Some(Self::MAX);
        }
        let mut bytes = [0; 32];
        for (place, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(wide[..4].iter().rev()) {
            *place = limb.to_be_bytes();
        }
        Some(Self(bytes))
    }

    /// Reads the compact form in a header. Returns `None` if it is negative, zero or needs more
    /// than 256 bits.
    #[must_use]
    pub fn of_nbits(nbits: u32) -> Option<Self> {
        let size = usize::try_from(nbits >> 24).expect("eight bits");
        let mantissa = nbits & 0x007f_ffff;
        if nbits & 0x0080_0000 != 0 || mantissa == 0 {
            return None;
        }
        let mut bytes = [0; 32];
        for (place, byte) in mantissa.to_be_bytes()[1..].iter().enumerate() {
            // The first byte of the mantissa is byte `size - 1` of the number, counted from the
            // least significant.
            let Some(weight) = (size + 2).checked_sub(place + 3) else { continue };
            match 31_usize.checked_sub(weight) {
                Some(index) => bytes[index] = *byte,
                None if *byte == 0 => {}
                None => return None,
            }
        }
        (bytes != [0; 32]).then_some(Self(bytes))
    }

    /// Tells whether `hash` meets the target.
    #[must_use]
    pub fn met_by(&self, hash: &Hash) -> bool {
        hash.iter().rev().le(self.0.iter())
    }

    /// Returns the bytes of the target, most significant first.
    #[must_use]
    pub const fn to_be_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Returns the highest 32 bits: a hash whose highest 32 bits are above them cannot meet the
    /// target.
    #[must_use]
    pub const fn top(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// Returns the difficulty, within float precision.
    #[must_use]
    pub fn difficulty(&self) -> f64 {
        difficulty_of(&self.0)
    }
}

/// Returns the difficulty a hash reaches, within float precision.
#[must_use]
pub fn difficulty_of_hash(hash: &Hash) -> f64 {
    let mut bytes = *hash;
    bytes.reverse();
    difficulty_of(&bytes)
}

/// Returns the power of two at or below `difficulty`: firmware rounds like that.
#[must_use]
pub fn power_of_two_below(difficulty: f64) -> f64 {
    // Clearing the bits of the mantissa leaves the power of two.
    f64::from_bits(difficulty.to_bits() & !((1 << 52) - 1))
}

/// The number of limbs: `0xffff << 208` divided by a difficulty down to 2^-200 fits.
const WIDE: usize = 8;

/// Divides in place, limbs least significant first.
fn divide(limbs: &mut [u64], divisor: u64) {
    let mut rest = 0_u128;
    for limb in limbs.iter_mut().rev() {
        let part = (rest << 64) | u128::from(*limb);
        *limb = u64::try_from(part / u128::from(divisor)).expect("rest is below the divisor");
        rest = part % u128::from(divisor);
    }
}

fn difficulty_of(big_endian: &[u8; 32]) -> f64 {
    let number = big_endian.iter().fold(0.0, |number, byte| number * 256.0 + f64::from(*byte));
    65535.0 * 2_f64.powi(208) / number
}

#[cfg(test)]
mod tests {
    use super::super::tests::{block_100_000, genesis};
    use super::*;

    fn hex(target: Option<Target>) -> String {
        const_hex::encode(target.unwrap().to_be_bytes())
    }

    #[test]
    fn known_difficulties_have_their_targets() {
        let zeros = "0".repeat(48);
        assert_eq!(hex(Target::of_difficulty(1.0)), format!("00000000ffff0000{zeros}"));
        assert_eq!(hex(Target::of_difficulty(65535.0)), format!("0000000000010000{zeros}"));
        assert_eq!(hex(Target::of_difficulty(0.5)), format!("00000001fffe0000{zeros}"));
        assert_eq!(hex(Target::of_difficulty(2_f64.powi(-28))), format!("0ffff00000000000{zeros}"));
        assert_eq!(hex(Target::of_difficulty(3.0)), format!("0000000055550000{zeros}"));
        let seventh = "0000000024922492492492492492492492492492492492492492492492492492";
        assert_eq!(hex(Target::of_difficulty(7.0)), seventh);
        assert_eq!(Target::of_difficulty(2_f64.powi(-33)), Some(Target::MAX));
        assert_eq!(Target::of_difficulty(f64::MIN_POSITIVE), Some(Target::MAX));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Target::of_difficulty(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn compact_targets_are_read_as_the_network_does() {
        assert_eq!(Target::of_nbits(0x1d00_ffff), Target::of_difficulty(1.0));
        assert_eq!(
            hex(Target::of_nbits(0x1b04_04cb)),
            format!("00000000000404cb{}", "0".repeat(48))
        );
        assert_eq!(hex(Target::of_nbits(0x207f_ffff)), format!("7fffff{}", "0".repeat(58)));
        let difficulty = Target::of_nbits(0x1b04_04cb).unwrap().difficulty();
        assert!((difficulty - 16_307.420_938_523_983).abs() < 1e-6, "{difficulty}");
        assert_eq!(hex(Target::of_nbits(0x0300_0001)), format!("{}01", "0".repeat(62)));
        assert_eq!(Target::of_nbits(0x0100_0001), None, "the only set byte is shifted out");
        for wrong in [0, 0x1d00_0000, 0x1d80_ffff, 0x2200_ffff + 0x0100_0000, 0xff12_3456] {
            assert_eq!(Target::of_nbits(wrong), None, "{wrong:08x}");
        }
        assert!(Target::of_nbits(0x2200_00ff).is_some(), "only zeros are past the top");
    }

    #[test]
    fn real_blocks_meet_their_own_target_and_no_far_harder_one() {
        for header in [genesis(), block_100_000()] {
            let target = Target::of_nbits(header.nbits).unwrap();
            assert!(target.met_by(&header.hash()));
            assert!(
                !Target::of_difficulty(target.difficulty() * 65536.0)
                    .unwrap()
                    .met_by(&header.hash())
            );
            let reached = difficulty_of_hash(&header.hash());
            assert!(Target::of_difficulty(reached * 0.999_999).unwrap().met_by(&header.hash()));
            assert!(!Target::of_difficulty(reached * 1.000_001).unwrap().met_by(&header.hash()));
        }
    }

    #[test]
    fn s52_a_hash_on_the_target_meets_it_and_one_above_does_not() {
        let target = Target::of_difficulty(1024.0).unwrap();
        let mut hash = target.to_be_bytes();
        hash.reverse();
        assert!(target.met_by(&hash));
        let mut above = hash;
        above[0] += 1;
        assert!(!target.met_by(&above));
        assert!((difficulty_of_hash(&hash) - 1024.0).abs() < 1e-9);
    }

    #[test]
    fn firmware_rounds_down_to_a_power_of_two() {
        for (difficulty, rounded) in
            [(1.0, 1.0), (1023.9, 512.0), (0.0005, 2_f64.powi(-11)), (3e-9, 2_f64.powi(-29))]
        {
            assert!(
                (power_of_two_below(difficulty) - rounded).abs() < f64::EPSILON * rounded,
                "{difficulty}"
            );
        }
    }
}
