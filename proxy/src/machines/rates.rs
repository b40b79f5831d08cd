//! The hashrate of a machine, estimated from the work that its shares prove: moving averages over a
//! minute, ten minutes and an hour.
//!
//! Nothing is computed per share. The sum of the work is sampled from time to time, like the run
//! queue for a load average.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The windows, in seconds.
const WINDOWS: [f32; 3] = [60.0, 600.0, 3600.0];
/// The average number of hashes for a share of difficulty 1: 2^256 divided by its target, 0xffff ·
/// 2^208.
const HASHES: f64 = (1u64 << 48) as f64 / 65_535.0;

/// The averages of one machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    /// Difficulty per second, for each window. They begin at zero; `age` corrects for that.
    rates: [f32; 3],
    /// Seconds since the first sample.
    age: f32,
    /// The sum of the work at the last sample.
    work: f64,
    at: Instant,
}

/// Hashes per second, estimated from shares; zero before the first sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Hashrate {
    /// Over about a minute.
    pub m1: f64,
    /// Over about ten minutes.
    pub m10: f64,
    /// Over about an hour.
    pub h1: f64,
}

impl std::ops::Add for Hashrate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { m1: self.m1 + other.m1, m10: self.m10 + other.m10, h1: self.h1 + other.h1 }
    }
}

impl Rates {
    /// Starts from the sum of the work so far.
    pub(crate) fn new(work: f64, now: Instant) -> Self {
        Self { rates: [0.0; 3], age: 0.0, work, at: now }
    }

    /// Adds a sample: the sum of the work at `now`.
    #[must_use]
    pub(crate) fn fold(mut self, work: f64, now: Instant) -> Self {
        let secs = now.saturating_duration_since(self.at).as_secs_f32();
        if secs <= 0.0 {
            return self;
        }
        #[expect(clippy::cast_possible_truncation, reason = "an estimate from chance")]
        let lately = ((work - self.work) / f64::from(secs)) as f32;
        for (rate, window) in self.rates.iter_mut().zip(WINDOWS) {
            *rate += (lately - *rate) * -(-secs / window).exp_m1();
        }
        self.age += secs;
        self.work = work;
        self.at = now;
        self
    }

    /// The estimated hashrate. An average younger than its window only counts the time since its
    /// start.
    pub(crate) fn hashrate(&self) -> Hashrate {
        let [m1, m10, h1] = std::array::from_fn(|index| {
            let weight = -(-self.age / WINDOWS[index]).exp_m1();
            if weight > 0.0 { f64::from(self.rates[index] / weight) * HASHES } else { 0.0 }
        });
        Hashrate { m1, m10, h1 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn close(got: f64, want: f64) -> bool {
        (got - want).abs() <= want * 1e-3
    }

    /// A machine with a constant rate has this rate in every window from the first samples on.
    #[test]
    fn a_young_average_is_not_too_low() {
        let start = origin();
        let mut rates = Rates::new(1000.0, start);
        for look in 1..=3u32 {
            rates =
                rates.fold(1000.0 + 10.0 * f64::from(look), start + Duration::from_secs(5) * look);
            let Hashrate { m1, m10, h1 } = rates.hashrate();
            for window in [m1, m10, h1] {
                assert!(close(window, 2.0 * HASHES), "look {look}: {window}");
            }
        }
    }

    #[test]
    fn a_machine_that_stops_is_forgotten_by_the_short_window_first() {
        let start = origin();
        let mut rates = Rates::new(0.0, start);
        rates = rates.fold(7200.0, start + Duration::from_secs(7200));
        let before = rates.hashrate();
        assert!(close(before.h1, HASHES) && close(before.m1, HASHES), "{before:?}");
        let after = rates.fold(7200.0, start + Duration::from_secs(7200 + 120)).hashrate();
        assert!(close(after.m1, HASHES * (-2f64).exp()), "{after:?}");
        assert!(after.m1 < after.m10 && after.m10 < after.h1, "{after:?}");
    }

    #[test]
    fn looking_often_or_seldom_gives_the_same() {
        let start = origin();
        let (mut often, seldom) = (Rates::new(0.0, start), Rates::new(0.0, start));
        for second in 1..=300u32 {
            often = often.fold(f64::from(second) * 4.0, start + Duration::from_secs(1) * second);
        }
        let (often, seldom) =
            (often.hashrate(), seldom.fold(1200.0, start + Duration::from_secs(300)).hashrate());
        for (one, other) in [(often.m1, seldom.m1), (often.m10, seldom.m10), (often.h1, seldom.h1)]
        {
            assert!(close(one, other), "{often:?} {seldom:?}");
        }
        assert_eq!(
            Rates::new(5.0, start).fold(5.0, start).hashrate(),
            Hashrate::default(),
            "no time, no rate"
        );
    }
}
