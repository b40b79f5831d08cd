//! One meter: what it shows of a true power, given its period, its lag, its noise and its faults.

use std::time::Duration;

use directive::Watts;

use super::spec::MeterSpec;
use crate::record::{MeterFault, Series};

/// What a meter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub watts: Watts,
    /// When the meter says it was taken.
    pub taken: Duration,
}

/// What `meter` shows at `now` of `truth`; `None` when it does not answer.
pub(super) fn read(meter: &MeterSpec, truth: &Series, seed: u64, now: Duration) -> Option<Sample> {
    let taken = sampled(meter, now)?;
    // A fault concerns the samples that are taken while it lasts; a lost meter answers nothing.
    let (began, fault) = fault(meter, taken);
    if fault_now(meter, now) == Some(MeterFault::Lost) {
        return None;
    }
    let measure = |taken: Duration| noisy(truth.at(taken), meter, seed, taken);
    let watts = match fault {
        None | Some(MeterFault::Lost) => measure(taken),
        Some(MeterFault::Factor(factor)) => measure(taken).scale(factor),
        Some(MeterFault::Frozen) => measure(sampled(meter, began).unwrap_or(taken)),
    };
    Some(Sample { watts, taken })
}

/// When the sample was taken that can be read at `now`.
fn sampled(meter: &MeterSpec, now: Duration) -> Option<Duration> {
    let ready = now.checked_sub(meter.lag)?;
    let period = meter.period.as_millis().max(1);
    let millis = ready.as_millis() / period * period;
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// The fault at `at`, and when it began.
fn fault(meter: &MeterSpec, at: Duration) -> (Duration, Option<MeterFault>) {
    let begun = meter.faults.iter().take_while(|(from, _)| *from <= at).last();
    begun.copied().unwrap_or_default()
}

fn fault_now(meter: &MeterSpec, now: Duration) -> Option<MeterFault> {
    fault(meter, now).1
}

/// The same sample has the same noise, however often it is read.
fn noisy(watts: Watts, meter: &MeterSpec, seed: u64, taken: Duration) -> Watts {
    let millis = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    let name = meter.id.as_str().bytes().fold(seed, |hash, byte| mix(hash ^ u64::from(byte)));
    let noise = i64::try_from(mix(name ^ millis) % 2_001).unwrap_or_default() - 1_000;
    watts + Watts(watts.0.saturating_mul(meter.noise_ppm) / 1_000_000 * noise / 1_000)
}

/// SplitMix64's finalizer: spreads nearby numbers over all 64 bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
