//! Levels: the powers of two in which difficulties are advertised.

use stratum::difficulty::Difficulty;

/// A power of two, by its exponent: what difficulties are advertised in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Level(i8);

/// Hashes behind one share of difficulty 1.
pub(crate) const HASHES: f64 = (1u64 << 32) as f64;

impl Level {
    /// The lowest difficulty that is advertised.
    pub(crate) const FLOOR: Self = Self(-28);
    /// The highest that is taken from a pool.
    pub(crate) const CEILING: Self = Self(64);

    /// The level at or below a difficulty.
    pub(crate) fn at_or_below(difficulty: Difficulty) -> Self {
        Self::rounded(difficulty.power_of_two_at_or_below().get().log2())
    }

    /// The level at or above a difficulty.
    pub(crate) fn at_or_above(difficulty: Difficulty) -> Self {
        let below = Self::at_or_below(difficulty);
        if below.difficulty() < difficulty { below.moved(1) } else { below }
    }

    /// The level nearest to a machine that proves `work` (hashes of difficulty 1) a second and
    /// should find a share in `interval` seconds.
    pub(crate) fn nearest(work: f64, interval: f64) -> Self {
        Self::rounded((work * interval).log2().round())
    }

    pub(crate) fn difficulty(self) -> Difficulty {
        Difficulty::new(self.get()).unwrap_or(Difficulty::ONE)
    }

    /// Its difficulty as a number.
    pub(crate) fn get(self) -> f64 {
        2f64.powi(i32::from(self.0))
    }

    /// So many powers of two up or down, within what is advertised at all.
    pub(crate) fn moved(self, by: i32) -> Self {
        Self::rounded(f64::from(i32::from(self.0) + by))
    }

    /// Powers of two from `other` up to here.
    pub(crate) fn above(self, other: Self) -> i32 {
        i32::from(self.0) - i32::from(other.0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "clamped to what an i8 holds")]
    fn rounded(exponent: f64) -> Self {
        // A NaN becomes the floor.
        Self(exponent.max(f64::from(Self::FLOOR.0)).min(f64::from(Self::CEILING.0)) as i8)
    }
}
