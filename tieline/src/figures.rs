//! Formats figures for people: separated thousands, and units that keep a figure short.

use std::time::Duration;

use directive::Watts;

/// A number with commas between its thousands.
#[must_use]
pub fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Power in kilowatts, without the unit: in whole kilowatts from 100 kW on, in tenths below, and to
/// the watt below 1 kW, so that no shortage is shown as 0.
#[must_use]
pub fn kw(power: Watts) -> String {
    let watts = power.0.unsigned_abs();
    let figure = match watts {
        0 => "0".to_owned(),
        1..1000 => format!("0.{watts:03}"),
        1000..99_950 => {
            let tenths = (watts + 50) / 100;
            format!("{}.{}", tenths / 10, tenths % 10)
        }
        _ => grouped((watts + 500) / 1000),
    };
    if power < Watts::ZERO { format!("−{figure}") } else { figure }
}

/// Power with its unit: `8,700 kW`.
#[must_use]
pub fn kilowatts(power: Watts) -> String {
    format!("{} kW", kw(power))
}

/// A count with its noun: `1 machine`, `5,400 machines`.
#[must_use]
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    let count = count.into();
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A length of time in its largest units: `45 s`, `5 min`, `1 h 30 min`, `2 d`.
#[must_use]
pub fn length(length: Duration) -> String {
    let secs = length.as_secs();
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => two(secs / 60, "min", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs / 60 % 60, "min"),
        _ => two(secs / 86_400, "d", secs / 3600 % 24, "h"),
    }
}

/// Roughly how long ago something was: `3 s`, `12 min`, `5 h`, `3 d`.
#[must_use]
pub fn age(age: Duration) -> String {
    let secs = age.as_secs();
    match secs {
        0..100 => format!("{secs} s"),
        100..6000 => format!("{} min", secs / 60),
        6000..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// A hashrate: `123.4 TH/s`.
#[must_use]
pub fn hashrate(rate: f64) -> String {
    format!("{}H/s", scaled(rate, " "))
}

/// A difficulty: `65.5k`.
#[must_use]
pub fn short(number: f64) -> String {
    scaled(number, "")
}

/// A number with four digits and a unit prefix.
fn scaled(number: f64, space: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if number != 0.0 && number < 1.0 {
        return format!("{number:.2e}{space}");
    }
    let mut left = number;
    let mut prefix = 0;
    // A number that would be written as 1000.0 becomes 1.0 of the next prefix.
    while left >= 999.95 && prefix < PREFIXES.len() - 1 {
        left /= 1000.0;
        prefix += 1;
    }
    format!("{left:.1}{space}{}", PREFIXES[prefix])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (number, written) in [
            (0.0, "0.0 H/s"),
            (512.0, "512.0 H/s"),
            (999.96, "1.0 kH/s"),
            (1.234e14, "123.4 TH/s"),
            (7.0e21, "7000.0 EH/s"),
            (0.25, "2.50e-1 H/s"),
        ] {
            assert_eq!(hashrate(number), written);
        }
        assert_eq!(short(65536.0), "65.5k");
        assert_eq!((grouped(999_u32), grouped(1_234_567_u32)), ("999".into(), "1,234,567".into()));
        assert_eq!(
            (counted(1_u32, "machine"), counted(5400_u32, "machine")),
            ("1 machine".into(), "5,400 machines".into())
        );
    }

    #[test]
    fn power_keeps_its_sign_and_never_reads_as_nothing() {
        for (watts, written) in [
            (0, "0"),
            (1, "0.001"),
            (-373, "−0.373"),
            (3400, "3.4"),
            (99_949, "99.9"),
            (99_950, "100"),
            (8_700_000, "8,700"),
            (-1_420_000, "−1,420"),
        ] {
            assert_eq!(kw(Watts(watts)), written);
        }
    }

    #[test]
    fn lengths_are_told_in_two_units_at_most() {
        for (secs, told) in [
            (45, "45 s"),
            (300, "5 min"),
            (90, "1 min 30 s"),
            (5400, "1 h 30 min"),
            (172_800, "2 d"),
        ] {
            assert_eq!(length(Duration::from_secs(secs)), told);
        }
        for (secs, told) in [(99, "99 s"), (720, "12 min"), (18_000, "5 h"), (300_000, "3 d")] {
            assert_eq!(age(Duration::from_secs(secs)), told);
        }
    }
}
