//! A shortage in API answers, and as the line of text that API, log and command line share.

use directive::{FeedId, LeaseId, Watts};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::power;
use crate::words::grouped;

/// The power that a lease or a feed lacks with the machines known now, at its worst moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    pub feed: FeedId,
    pub from: Timestamp,
    /// When the shortage ends, for a lease at the latest at its end; null if nothing known ends it.
    pub to: Option<Timestamp>,
    #[serde(flatten, with = "power::missing")]
    pub missing: Watts,
    /// Machines seen below the feed, in groups that may be shed for it.
    pub machines_seen: u32,
    /// How many of the machines seen do not obey.
    pub machines_failing: u32,
    /// Machines that the policy declares in the groups that may be shed for the feed.
    pub machines_declared: u32,
    /// Since when the switchboard has known of the shortage; null in the answer to a dry run.
    pub known_since: Option<Timestamp>,
}

impl Shortage {
    /// The shortage as one line, such as `short 8,700 kW at xfmr-a from 06:00 (0 of 5,400 machines
    /// seen)`. Times are in `zone`; the date is left out if it is the same as that of `now`.
    #[must_use]
    pub fn words(&self, zone: &TimeZone, now: Timestamp) -> String {
        let from = self.from.to_zoned(zone.clone());
        let today = now.to_zoned(zone.clone()).date() == from.date();
        let from = from.strftime(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" });
        let failing = match self.machines_failing {
            0 => String::new(),
            failing => format!(", {} failing", grouped(failing.into())),
        };
        format!(
            "short {} at {} from {from} ({} of {} machines seen{failing})",
            kilowatts(self.missing),
            self.feed,
            grouped(self.machines_seen.into()),
            grouped(self.machines_declared.into()),
        )
    }
}

/// A lease that is short with the machines known now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLease {
    pub lease: LeaseId,
    pub tenant: String,
    pub short: Shortage,
}

/// Power for people: in whole kilowatts from 100 kW on, in tenths from 1 kW on, else to the watt.
fn kilowatts(power: Watts) -> String {
    let watts = power.0.unsigned_abs();
    if watts < 1000 {
        return format!("0.{watts:03} kW");
    }
    if watts < 99_950 {
        let tenths = (watts + 50) / 100;
        return format!("{}.{} kW", tenths / 10, tenths % 10);
    }
    format!("{} kW", grouped((watts + 500) / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_reads_as_one_line_in_the_sites_time() {
        let short = Shortage {
            feed: "xfmr-a".into(),
            from: "2026-12-01T05:00:00Z".parse().unwrap(),
            to: None,
            missing: Watts(8_700_000),
            machines_seen: 0,
            machines_failing: 0,
            machines_declared: 5400,
            known_since: None,
        };
        let oslo = TimeZone::get("Europe/Oslo").unwrap();
        let words = |now: &str| short.words(&oslo, now.parse().unwrap());
        assert_eq!(
            words("2026-11-30T23:30:00Z"),
            "short 8,700 kW at xfmr-a from 06:00 (0 of 5,400 machines seen)",
            "it is 1 December in Oslo already"
        );
        assert_eq!(
            words("2026-11-30T22:30:00Z"),
            "short 8,700 kW at xfmr-a from 2026-12-01 06:00 (0 of 5,400 machines seen)"
        );
        let failing = Shortage { machines_seen: 5400, machines_failing: 1200, ..short };
        assert_eq!(
            failing.words(&oslo, failing.from),
            "short 8,700 kW at xfmr-a from 06:00 (5,400 of 5,400 machines seen, 1,200 failing)"
        );
    }

    #[test]
    fn no_shortage_reads_as_zero() {
        let table = [
            (1, "0.001 kW"),
            (373, "0.373 kW"),
            (1000, "1.0 kW"),
            (99_949, "99.9 kW"),
            (99_950, "100 kW"),
            (1_000_000, "1,000 kW"),
            (12_345_678_900, "12,345,679 kW"),
        ];
        for (watts, words) in table {
            assert_eq!(kilowatts(Watts(watts)), words);
        }
    }
}
