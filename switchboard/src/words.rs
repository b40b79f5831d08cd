//! Formats power, times and numbers of machines in sentences, in the same way for API, log, ledger
//! and command line.

use directive::{MachineId, Watts};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A number of machines, with the names of a few of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub count: u32,
    /// The first of the machines by name, at most three.
    pub examples: Vec<MachineId>,
}

/// The maximum number of names in a sentence.
const NAMES: usize = 3;

impl<'m> FromIterator<&'m MachineId> for Named {
    /// Counts machines, which must come in the order of their names.
    fn from_iter<I: IntoIterator<Item = &'m MachineId>>(machines: I) -> Self {
        let mut named = Self::default();
        machines.into_iter().for_each(|machine| named.add(machine));
        named
    }
}

impl Named {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Counts one more machine. Machines must come in the order of their names.
    pub fn add(&mut self, machine: &MachineId) {
        self.count = self.count.saturating_add(1);
        if self.examples.len() < NAMES {
            self.examples.push(machine.clone());
        }
    }

    /// The number as text: `1 machine`, `5,400 machines`.
    #[must_use]
    pub fn counted(&self) -> String {
        machines(self.count)
    }

    /// The names as text: `a, b, c and 2 more`.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.examples.iter().map(MachineId::as_str).collect();
        let more = self.count as usize - self.examples.len().min(self.count as usize);
        let names = names.join(", ");
        if more == 0 { names } else { format!("{names} and {} more", grouped(more as u64)) }
    }
}

/// A number of machines as text: `1 machine`, `5,400 machines`.
#[must_use]
pub fn machines(count: u32) -> String {
    plural(count, "machine")
}

/// A number with its noun as text: `1 receiver`, `2 receivers`.
#[must_use]
pub fn plural(count: u32, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", grouped(u64::from(count)))
}

/// Power to the watt, without trailing zeros: `8,700 kW`, `0.373 kW`, `-1.5 kW`.
#[must_use]
pub fn kilowatts(power: Watts) -> String {
    let watts = power.0.unsigned_abs();
    let sign = if power.0 < 0 { "-" } else { "" };
    let whole = grouped(watts / 1000);
    let rest = format!("{:03}", watts % 1000);
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { format!("{sign}{whole} kW") } else { format!("{sign}{whole}.{rest} kW") }
}

/// A number with commas between its thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the site's zone: `2026-12-01 06:00`, with seconds if they are not zero.
#[must_use]
pub fn when(at: Timestamp, zone: &TimeZone) -> String {
    let at = at.to_zoned(zone.clone());
    let format = if at.second() == 0 { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_exact_and_short() {
        let table = [
            (0, "0 kW"),
            (373, "0.373 kW"),
            (21_850, "21.85 kW"),
            (8_700_000, "8,700 kW"),
            (12_345_678_900, "12,345,678.9 kW"),
            (-1500, "-1.5 kW"),
        ];
        for (watts, text) in table {
            assert_eq!(kilowatts(Watts(watts)), text);
        }
    }

    #[test]
    fn times_are_the_sites() {
        let oslo = TimeZone::get("Europe/Oslo").unwrap();
        let text = |at: &str| when(at.parse().unwrap(), &oslo);
        assert_eq!(text("2026-12-01T05:00:00Z"), "2026-12-01 06:00");
        assert_eq!(text("2026-12-01T05:00:07.9Z"), "2026-12-01 06:00:07");
    }

    #[test]
    fn three_names_stand_for_many() {
        let mut named = Named::default();
        for name in ["a", "b", "c"] {
            named.add(&name.into());
        }
        assert_eq!((named.counted().as_str(), named.names().as_str()), ("3 machines", "a, b, c"));
        named.add(&"d".into());
        assert_eq!(named.names(), "a, b, c and 1 more");
        assert_eq!(machines(1), "1 machine");
    }
}
