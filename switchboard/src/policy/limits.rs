//! `limit_kw` of a feed: a number, or a series of numbers with the times from which they hold.

use daemon::settings::{Raw, Section};
use directive::Watts;
use jiff::Timestamp;

use super::power::Kilowatts as _;
use crate::facility::Limit;

/// The maximum number of entries of one series.
pub(super) const ENTRIES_MAX: usize = 1_000;

/// Reads the limit of a feed. A limit above `implausible` causes a warning.
pub(super) fn read(section: &Section<'_>, implausible: Watts) -> Option<Limit> {
    let warn_of = |section: &Section<'_>, key: &str, limit: Option<Watts>| {
        if let Some(limit) = limit.filter(|limit| *limit > implausible) {
            let kw = limit.kw() / 1000.0;
            let message =
                format!("{limit} is more than any site draws; if it is in watts, write {kw}");
            section.warn(key, message);
        }
    };
    if !section.is_list(KEY) {
        let limit = section.required_kw(KEY);
        warn_of(section, KEY, limit);
        return limit.map(Limit::from);
    }
    if section.is_empty(KEY) {
        section.mistake(KEY, "an empty list: write a number, or { kw = … } and further entries");
    }
    let entries = section.tables(KEY);
    if entries.len() > ENTRIES_MAX {
        let message = format!("{} entries, of at most {ENTRIES_MAX}", entries.len());
        section.mistake(KEY, message);
        return None;
    }
    let mut read: Vec<(Option<Timestamp>, Watts)> = Vec::with_capacity(entries.len());
    let mut is_sound = !section.is_empty(KEY);
    let mut last: Option<Timestamp> = None;
    for (number, entry) in entries.iter().enumerate() {
        let from = if number == 0 {
            entry.refuse(FROM, "the first entry holds before all others and has no time");
            None
        } else {
            entry.required(FROM, Raw::time)
        };
        let kw = entry.required_kw("kw");
        warn_of(entry, "kw", kw);
        entry.finish();
        is_sound &= number == 0 || from.is_some();
        if let (Some(from), Some(last)) = (from, last)
            && from <= last
        {
            entry.mistake(FROM, format!("{from} is not later than {last} of the entry before it"));
            is_sound = false;
        }
        last = from.or(last);
        match kw {
            Some(kw) => read.push((from, kw)),
            None => is_sound = false,
        }
    }
    let (&(_, first), later) = read.split_first()?;
    let later = later.iter().filter_map(|(from, watts)| Some(((*from)?, *watts)));
    is_sound.then(|| Limit::series(first, later)).flatten()
}

const KEY: &str = "limit_kw";
const FROM: &str = "from";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    /// A policy with one feed that has this limit.
    fn with(limit: &str) -> String {
        format!(
            "schema = \"tieline.policy/1\"\n[site]\nname = \"demo\"\n[feed.poi]\nlimit_kw = {limit}\n\
             continuous_factor = 0.5\nreserve_kw = 1\nhouse_kw = 2\ndefault_constraint_kw = 25\n\
             [group.all]\nfeed = \"poi\"\nmatch = \"*\"\nmachines = 1\nasic_kw = 3\nj_per_th = 30\n"
        )
    }

    fn mistakes(limit: &str) -> Vec<String> {
        match parse(&with(limit), "p.toml") {
            Ok(policy) => panic!("taken: {policy:?}"),
            Err(mistakes) => mistakes.list().iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_series_is_read_with_the_times_from_which_each_limit_holds() {
        let text = with(
            "[{ kw = 60 }, { from = 2026-12-10T06:00:00Z, kw = 45 },\n  { from = '2026-12-10T12:00:00-06:00', kw = 60.5 }]",
        );
        let policy = parse(&text, "p.toml").unwrap();
        let feed = &policy.facility.feeds().as_slice()[0];
        let changes: Vec<(String, i64)> =
            feed.limit.changes().map(|change| (change.at.to_string(), change.after.0)).collect();
        let six = ["06", "18"].map(|hour| format!("2026-12-10T{hour}:00:00Z"));
        assert_eq!(feed.limit.first(), Watts(60_000));
        assert_eq!(changes, six.into_iter().zip([45_000, 60_500]).collect::<Vec<_>>());
        let at = "2026-12-10T07:00:00Z".parse().unwrap();
        assert_eq!(feed.usable(at), Watts(21_500), "the constraint of 25 kW may be above it");
        assert_eq!(policy.facility.dated().len(), 1);
        assert!(parse(&with("60"), "p.toml").unwrap().facility.dated().is_empty());
    }

    #[test]
    fn each_mistake_in_a_series_is_told_with_line_column_and_key() {
        let first = "{ kw = 60 }";
        for (series, want) in [
            ("[]", "p.toml:5:12: feed.poi.limit_kw: an empty list"),
            ("[60, 45]", "p.toml:5:13: feed.poi.limit_kw[0]: expected a table, found an integer"),
            (
                "[{ from = 2026-12-10T06:00:00Z, kw = 60 }]",
                "p.toml:5:22: feed.poi.limit_kw[0].from: the first entry holds before all others and has no time",
            ),
            (
                &format!("[{first}, {{ kw = 45 }}]"),
                "p.toml:5:26: feed.poi.limit_kw[1].from: missing",
            ),
            (
                &format!("[{first}, {{ from = 2026-12-10T06:00:00, kw = 45 }}]"),
                "p.toml:5:35: feed.poi.limit_kw[1].from: \"2026-12-10T06:00:00\" is not an instant",
            ),
            (
                &format!("[{first}, {{ from = 2026-12-10T06:00:00Z }}]"),
                "p.toml:5:26: feed.poi.limit_kw[1].kw: missing",
            ),
            (
                &format!("[{first}, {{ from = 2026-12-10T06:00:00Z, kw = 45, until = 3 }}]"),
                "p.toml:5:66: feed.poi.limit_kw[1].until: unknown key",
            ),
            (
                &format!(
                    "[{first}, {{ from = 2026-12-10T06:00:00Z, kw = 45 }}, {{ from = 2026-12-10T06:00:00Z, kw = 50 }}]"
                ),
                "p.toml:5:77: feed.poi.limit_kw[2].from: 2026-12-10T06:00:00Z is not later than 2026-12-10T06:00:00Z",
            ),
            (
                "[{ kw = 2 }, { from = 2026-12-10T06:00:00Z, kw = 1 }]",
                "p.toml:5:12: feed.poi.limit_kw: house 2.000 kW + reserve 1.000 kW is more than the limit 2.000 kW",
            ),
            (
                "[{ kw = 5 }, { from = 2026-12-10T06:00:00Z, kw = 4 }]",
                "p.toml:8:12: feed.poi.house_kw: the house load here and below, 2.000 kW, is more than the usable 1.500 kW",
            ),
        ] {
            let told = mistakes(series);
            assert!(told[0].starts_with(want), "{series}\n  want {want}\n  told {told:#?}");
        }
    }

    /// Lowering is never refused: what the feed cannot carry then is short.
    #[test]
    fn a_limit_may_fall_below_the_house_load_for_a_while() {
        let text = with("[{ kw = 60 }, { from = 2026-12-10T06:00:00Z, kw = 2 }]");
        let policy = parse(&text, "p.toml").unwrap();
        let feed = &policy.facility.feeds().as_slice()[0];
        assert_eq!(feed.usable("2026-12-10T07:00:00Z".parse().unwrap()), Watts::ZERO);
    }

    #[test]
    fn a_series_has_a_bound() {
        let later = |count: usize| {
            let entry = |number: usize| {
                let at = Timestamp::from_second(1_800_000_000 + i64::try_from(number).unwrap());
                format!(", {{ from = {}, kw = {} }}", at.unwrap(), 50 + number % 2)
            };
            format!("[{{ kw = 60 }}{}]", (0..count).map(entry).collect::<String>())
        };
        let policy = parse(&with(&later(ENTRIES_MAX - 1)), "p.toml").unwrap();
        assert_eq!(policy.facility.feeds().as_slice()[0].limit.changes().count(), ENTRIES_MAX - 1);
        let told = mistakes(&later(ENTRIES_MAX));
        assert_eq!(told, ["p.toml:5:12: feed.poi.limit_kw: 1001 entries, of at most 1000"]);
    }
}
