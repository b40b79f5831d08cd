//! Power as a policy writes it: keys that end in `_kw`, in kilowatts.

use daemon::settings::{Raw, Section};
use directive::Watts;

/// Reads keys in kilowatts, beside the kinds of value that a [`Section`] knows itself.
pub(super) trait Kilowatts {
    /// Power in kW, required; never negative.
    fn required_kw(&self, key: &str) -> Option<Watts>;

    /// Power in kW; never negative.
    fn optional_kw(&self, key: &str) -> Option<Watts>;

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
