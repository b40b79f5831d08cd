//! Levels: the powers of two in which difficulties are advertised.

use stratum::difficulty::Difficulty;

/// The exponent of a power of two. Miners are only given difficulties of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Level(i8);

/// The number of hashes that a share of difficulty 1 takes on average.
pub(crate) const HASHES: f64 = (1u64 << 32) as f64;

impl Level {
    /// The lowest difficulty that miners are given.
    pub(crate) const FLOOR: Self = Self(-28);
    /// The highest difficulty that is taken from a pool.
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

    /// The level at which a machine finds about one share in `interval` seconds. `work` is its work
    /// rate: shares of difficulty 1 a second.
    pub(crate) fn nearest(work: f64, interval: f64) -> Self {
        Self::rounded((work * interval).log2().round())
    }

    pub(crate) fn difficulty(self) -> Difficulty {
        Difficulty::new(self.get()).unwrap_or(Difficulty::ONE)
    }

    /// The difficulty of this level as a number.
    pub(crate) fn get(self) -> f64 {
        2f64.powi(i32::from(self.0))
    }

    /// The level that is `by` powers of two higher, or lower if negative, limited to
    /// [`Self::FLOOR`] and [`Self::CEILING`].
    pub(crate) fn moved(self, by: i32) -> Self {
        Self::rounded(f64::from(i32::from(self.0) + by))
    }

    /// By how many powers of two this level is higher than `other`.
    pub(crate) fn above(self, other: Self) -> i32 {
        i32::from(self.0) - i32::from(other.0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "clamped to what an i8 holds")]
    fn rounded(exponent: f64) -> Self {
        // A NaN becomes the floor.
        Self(exponent.max(f64::from(Self::FLOOR.0)).min(f64::from(Self::CEILING.0)) as i8)
    }
}
