//! Power in policy files: keys that end in `_kw`, in kilowatts.

use daemon::settings::{Raw, Section};
use directive::Watts;

/// Reads keys in kilowatts, in addition to the types that a [`Section`] supports itself.
pub(super) trait Kilowatts {
    /// Power in kW, required; never negative.
    fn required_kw(&self, key: &str) -> Option<Watts>;

    /// Power in kW; never negative.
    fn optional_kw(&self, key: &str) -> Option<Watts>;

    /// Power in kW; more than zero.
    fn optional_kw_above_zero(&self, key: &str) -> Option<Watts>;

    /// Power in kW, or the default.
    fn kw_or(&self, key: &str, default: Watts) -> Watts {
        self.optional_kw(key).unwrap_or(default)
    }
}

impl Kilowatts for Section<'_> {
    fn required_kw(&self, key: &str) -> Option<Watts> {
        self.required(key, kilowatts)
    }

    fn optional_kw(&self, key: &str) -> Option<Watts> {
        self.optional(key, kilowatts)
    }

    fn optional_kw_above_zero(&self, key: &str) -> Option<Watts> {
        self.optional(key, |raw| match kilowatts(raw)? {
            Watts::ZERO => Err("must be above 0, or load could never move".to_owned()),
            watts => Ok(watts),
        })
    }
}

fn kilowatts(raw: Raw<'_>) -> Result<Watts, String> {
    let kw = raw.number()?;
    if kw < 0.0 {
        return Err(format!("{kw} kW is negative"));
    }
    Watts::from_kw(kw).ok_or_else(|| {
        format!("{kw} kW is more than {} kW, which no site draws", Watts::LIMIT.kw())
    })
}

/// The power of one machine when it hashes.
pub(super) fn of_machine(raw: Raw<'_>) -> Result<Watts, String> {
    let kw = raw.number()?;
    let range = MACHINE_MIN_KW..=MACHINE_MAX_KW;
    if range.contains(&kw) {
        return kilowatts(raw);
    }
    let outside = format!("{kw} kW is outside {} to {}", range.start(), range.end());
    Err(match in_watts(kw) {
        Some(meant) => format!("{outside}; it looks like watts: write {meant}"),
        None => format!("{outside}, the power of one machine"),
    })
}

/// The power of one machine, which may be zero.
pub(super) fn of_machine_or_none(raw: Raw<'_>) -> Result<Watts, String> {
    if raw.number()? == 0.0 { Ok(Watts::ZERO) } else { of_machine(raw) }
}

/// The power of one sleeping machine: any small figure.
pub(super) fn of_sleep(raw: Raw<'_>) -> Result<Watts, String> {
    let kw = raw.number()?;
    if kw <= MACHINE_MAX_KW {
        return kilowatts(raw);
    }
    Err(format!(
        "{kw} kW is outside 0 to {MACHINE_MAX_KW}; it looks like watts: write {}",
        kw / 1000.0
    ))
}

/// If a figure was given in watts by mistake, the kilowatts that were probably meant, as far as a
/// machine could draw them.
pub(super) fn in_watts(kw: f64) -> Option<f64> {
    let meant = kw / 1000.0;
    (MACHINE_MIN_KW..=MACHINE_MAX_KW).contains(&meant).then_some(meant)
}

/// The range of a machine's power: from a small home miner to more than any immersion-cooled one.
const MACHINE_MIN_KW: f64 = 0.05;
const MACHINE_MAX_KW: f64 = 20.0;
