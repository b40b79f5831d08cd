//! Power in integer watts. Decimal kilowatts appear only in TOML and on the command line.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// Electrical power in whole watts. A difference (headroom, shortfall) may be negative.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Watts(pub i64);

impl Watts {
    /// No power.
    pub const ZERO: Self = Self(0);
    /// 1 TW, more than any grid connection carries. Larger values from outside are refused.
    pub const LIMIT: Self = Self(1_000_000_000_000);

    /// Converts kilowatts, rounding to the nearest watt. `None` for NaN, infinities and magnitudes
    /// beyond [`Self::LIMIT`].
    #[must_use]
    pub fn from_kw(kw: f64) -> Option<Self> {
        let watts = (kw * 1000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "bounded by LIMIT, far below 2^53"
        )]
        (watts.is_finite() && watts.abs() <= Self::LIMIT.0 as f64).then_some(Self(watts as i64))
    }

    /// The value in kilowatts, for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display; exact below 2^53 W")]
    pub fn kw(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// `self - other`, never below zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0.saturating_sub(other.0)).max(0))
    }

    /// Multiplies by a factor such as PUE or a continuous rating, rounding to the nearest watt and
    /// saturating.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "float-to-int casts saturate"
    )]
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as i64)
    }
}

impl Add for Watts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Watts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Watts {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Watts {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} kW", self.kw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilowatts_that_are_no_power_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e18, -1e18] {
            assert_eq!(Watts::from_kw(bad), None, "{bad}");
        }
        assert_eq!(Watts::from_kw(3.4), Some(Watts(3400)));
    }

    #[test]
    fn sums_saturate_instead_of_wrapping() {
        assert_eq!(Watts(i64::MAX) + Watts(1), Watts(i64::MAX));
        assert_eq!(Watts(5).saturating_sub(Watts(9)), Watts::ZERO);
    }
}
