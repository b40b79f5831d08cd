//! Times on the command line: shown in the site's time zone, and read in three forms. Programs get
//! UTC with `--json`.

use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, ToSpan, Unit};

use crate::failure::Failure;

/// The time zone in which the times of a site are shown.
#[derive(Debug, Clone)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The zone that the policy names. If this machine does not know it, times are in UTC, and
    /// [`Self::name`] says so.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match TimeZone::get(name) {
            Ok(zone) => Self { name: name.to_owned(), zone },
            Err(_) => Self {
                name: format!("UTC (this machine does not know the zone {name})"),
                zone: TimeZone::UTC,
            },
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The instant at which the site's clocks show `at`.
    fn instant(&self, at: civil::DateTime) -> Result<Timestamp, String> {
        let offset = self.zone.to_ambiguous_zoned(at).offset();
        match offset {
            AmbiguousOffset::Unambiguous { offset } => {
                offset.to_timestamp(at).map_err(|_| format!("{at} is out of range"))
            }
            AmbiguousOffset::Gap { before, after } => {
                // The clocks change between these two offsets.
                let jump = after.seconds() - before.seconds();
                let first = self.before_the_jump(at, jump);
                Err(format!(
                    "the clocks of {} skip this time:\nafter {} comes {}",
                    self.name,
                    first.saturating_sub(1.minute()).strftime("%H:%M"),
                    first.saturating_add(i64::from(jump).seconds()).strftime("%Y-%m-%d %H:%M"),
                ))
            }
            AmbiguousOffset::Fold { before, after } => {
                let rfc = |offset: jiff::tz::Offset| {
                    format!("{}{}", at.strftime("%Y-%m-%dT%H:%M:%S"), colon(offset))
                };
                Err(format!(
                    "the clocks of {} show this time twice:\nwrite {} for the first, {} for the second",
                    self.name,
                    rfc(before),
                    rfc(after),
                ))
            }
        }
    }

    /// The first local time that the clocks skip when they jump past `at` by `jump` seconds.
    fn before_the_jump(&self, at: civil::DateTime, jump: i32) -> civil::DateTime {
        let day_before = at.saturating_sub(1.day());
        let from = self.zone.to_timestamp(day_before).unwrap_or(Timestamp::MIN);
        let transition = self.zone.following(from).next();
        transition.map_or(at, |transition| {
            let after = transition.offset().to_datetime(transition.timestamp());
            after.saturating_sub(i64::from(jump).seconds())
        })
    }
}

/// An offset in the form of RFC 3339.
fn colon(offset: jiff::tz::Offset) -> String {
    let secs = offset.seconds();
    let (sign, secs) = if secs < 0 { ('-', -secs) } else { ('+', secs) };
    format!("{sign}{:02}:{:02}", secs / 3600, secs / 60 % 60)
}

/// Formats times for people: in the site's zone, with a date only if it is not today.
#[derive(Debug, Clone)]
pub struct Shown {
    pub zone: Zone,
    pub now: Timestamp,
}

impl Shown {
    /// Formats times in the zone that an answer names, relative to the current time.
    #[must_use]
    pub fn new(timezone: &str) -> Self {
        Self { zone: Zone::named(timezone), now: daemon::clock::wall() }
    }

    /// `06:00`, with seconds if they are not zero, and with the zone's abbreviation in the hour
    /// that the clocks show twice.
    #[must_use]
    pub fn time(&self, at: Timestamp) -> String {
        let local = at.to_zoned(self.zone.zone.clone());
        let ambiguous = self.zone.zone.to_ambiguous_zoned(local.datetime()).offset();
        let mut format = String::from(if local.second() == 0 { "%H:%M" } else { "%H:%M:%S" });
        if matches!(ambiguous, AmbiguousOffset::Fold { .. }) {
            format.push_str(" %Z");
        }
        local.strftime(&format).to_string()
    }

    /// `06:00` today, `2026-12-01 06:00` on other days.
    #[must_use]
    pub fn moment(&self, at: Timestamp) -> String {
        let date = self.date(at);
        if date == self.date(self.now) {
            self.time(at)
        } else {
            format!("{date} {}", self.time(at))
        }
    }

    /// A text from the process, with each UTC time in it replaced by [`Self::moment`].
    #[must_use]
    pub fn localized(&self, text: &str) -> String {
        let local = |word: &str| -> Option<String> {
            let end = word.rfind('Z')? + 1;
            let at: Timestamp = word[..end].parse().ok()?;
            Some(format!("{}{}", self.moment(at), &word[end..]))
        };
        let words = text.split(' ');
        words
            .map(|word| local(word).unwrap_or_else(|| word.to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// From one moment to another; the second one has a date only if it is on another day.
    #[must_use]
    pub fn span(&self, from: Timestamp, to: Timestamp) -> String {
        if self.moment(from) == self.moment(to) {
            self.moment(from)
        } else if self.date(from) == self.date(to) {
            format!("{}–{}", self.moment(from), self.time(to))
        } else {
            format!("{} – {} {}", self.moment(from), self.date(to), self.time(to))
        }
    }

    #[must_use]
    pub fn date(&self, at: Timestamp) -> civil::Date {
        at.to_zoned(self.zone.zone.clone()).date()
    }

    /// The day as a heading: `today`, `tomorrow, Tue 2026-12-01`, `Wed 2026-12-02`.
    #[must_use]
    pub fn day(&self, at: Timestamp) -> String {
        let (date, today) = (self.date(at), self.date(self.now));
        let named = date.strftime("%a %Y-%m-%d");
        if date == today {
            format!("today, {named}")
        } else if today.tomorrow().is_ok_and(|tomorrow| date == tomorrow) {
            format!("tomorrow, {named}")
        } else {
            named.to_string()
        }
    }

    /// The heading for all times below: the zone, and the current time in it.
    #[must_use]
    pub fn heading(&self) -> String {
        let now = self.now.to_zoned(self.zone.zone.clone());
        format!("times are {}; it is {} now", self.zone.name, now.strftime("%a %Y-%m-%d %H:%M"))
    }
}

/// A time as given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    At(Timestamp),
    /// A time by the site's clocks.
    Local(civil::DateTime),
}

/// Reads a time: `+90m` from `now`, `2026-12-01 06:00` at the site, or RFC 3339.
///
/// # Errors [`Failure::Usage`] with the flag, the text, and the forms that can be read.
pub fn read(flag: &str, text: &str, now: Timestamp) -> Result<Given, Failure> {
    let text = text.trim();
    let unreadable = || Failure::Usage(format!("{flag} {text:?} is not a time.\n{FORMS}"));
    if let Some(span) = text.strip_prefix('+') {
        let span = duration(span).ok_or_else(unreadable)?;
        let at = now.checked_add(span).map_err(|_| {
            Failure::Usage(format!("{flag} {text:?} is too far away for a calendar"))
        })?;
        // Rounded up, so that `+0s` is not in the past.
        let round = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Ceil);
        return Ok(Given::At(at.round(round).unwrap_or(at)));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Given::At(at));
    }
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | ' ' | 'T' | 't');
    if text.contains(':') && text.chars().all(plain) {
        return text.parse().map(Given::Local).map_err(|_| unreadable());
    }
    Err(unreadable())
}

const FORMS: &str = "Write a time from now on (+90m, +1h30m, +2d), a time at the site\n\
    (\"2026-12-01 06:00\"), or RFC 3339 (2026-12-01T12:00:00Z).";

/// Reads `2d`, `90m`, `1h30m`. A day is 24 hours.
#[must_use]
pub fn duration(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    let calendar = span.get_years() != 0 || span.get_months() != 0;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!calendar && !length.is_negative()).then_some(length)
}

impl Given {
    /// The instant of a given time at a site in this zone.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the clocks there skip the time or show it twice.
    pub fn settle(
        &self,
        flag: &str,
        zone: impl FnOnce() -> Result<Zone, Failure>,
    ) -> Result<Timestamp, Failure> {
        match self {
            Self::At(at) => Ok(*at),
            Self::Local(local) => zone()?.instant(*local).map_err(|why| {
                Failure::Usage(format!("{flag} \"{}\": {why}", local.strftime("%Y-%m-%d %H:%M")))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn shown(zone: &str, now: &str) -> Shown {
        Shown { zone: Zone::named(zone), now: at(now) }
    }

    /// Reads a time for Chicago, at noon UTC on 30 November 2026.
    fn chicago(text: &str) -> Result<String, String> {
        let zone = || Ok(Zone::named("America/Chicago"));
        read("--start", text, at("2026-11-30T12:00:00.25Z"))
            .and_then(|given| given.settle("--start", zone))
            .map(|at| at.to_string())
            .map_err(|failure| {
                assert!(matches!(failure, Failure::Usage(_)), "{failure:?}");
                failure.to_string()
            })
    }

    #[test]
    fn times_from_now_on_are_rounded_up_to_seconds() {
        for (text, want) in [
            ("+0s", "2026-11-30T12:00:01Z"),
            ("+90m", "2026-11-30T13:30:01Z"),
            ("+1h30m", "2026-11-30T13:30:01Z"),
            ("+2d", "2026-12-02T12:00:01Z"),
            ("+1d12h", "2026-12-02T00:00:01Z"),
            ("+1w", "2026-12-07T12:00:01Z"),
        ] {
            assert_eq!(chicago(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_day_is_24_hours_also_when_the_clocks_change() {
        let now = at("2026-10-31T12:00:00Z");
        assert_eq!(
            read("--end", "+2d", now).expect("a time"),
            Given::At(at("2026-11-02T12:00:00Z"))
        );
    }

    #[test]
    fn times_without_an_offset_are_the_sites() {
        for text in ["2026-12-01 06:00", "2026-12-01T06:00", "2026-12-01 06:00:00"] {
            assert_eq!(chicago(text).as_deref(), Ok("2026-12-01T12:00:00Z"), "{text}");
        }
    }

    #[test]
    fn rfc_3339_says_its_own_offset() {
        for text in ["2026-12-01T12:00:00Z", "2026-12-01T06:00:00-06:00", "2026-12-01 12:00:00Z"] {
            assert_eq!(chicago(text).as_deref(), Ok("2026-12-01T12:00:00Z"), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_with_the_three_forms() {
        for text in [
            "",
            "+",
            "+soon",
            "+-5m",
            "+1mo",
            "soon",
            "2026-12-01",
            "06:00",
            "2026-13-01 06:00",
            "12/01/2026 06:00",
        ] {
            let why = chicago(text).expect_err(text);
            assert!(
                why.starts_with(&format!("--start {text:?} is not a time.\n"))
                    && why.contains("+2d"),
                "{why}"
            );
            assert!(why.lines().all(|line| line.chars().count() <= 80), "{why}");
        }
        assert!(chicago("+99999999d").is_err());
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_refused_with_its_neighbours() {
        assert_eq!(
            chicago("2027-03-14 02:30").expect_err("skipped"),
            "--start \"2027-03-14 02:30\": the clocks of America/Chicago skip this time:\n\
             after 01:59 comes 2027-03-14 03:00"
        );
    }

    #[test]
    fn a_time_that_the_clocks_show_twice_is_refused_with_both_readings() {
        let why = chicago("2026-11-01 01:30").expect_err("twice");
        assert_eq!(
            why,
            "--start \"2026-11-01 01:30\": the clocks of America/Chicago show this time twice:\n\
             write 2026-11-01T01:30:00-05:00 for the first, 2026-11-01T01:30:00-06:00 for the second"
        );
        assert_eq!(chicago("2026-11-01T01:30:00-05:00").as_deref(), Ok("2026-11-01T06:30:00Z"));
        assert_eq!(chicago("2026-11-01T01:30:00-06:00").as_deref(), Ok("2026-11-01T07:30:00Z"));
    }

    #[test]
    fn a_date_is_shown_where_it_is_needed() {
        let shown = shown("America/Chicago", "2026-11-30T12:00:00Z");
        assert_eq!(shown.moment(at("2026-11-30T12:00:00Z")), "06:00");
        assert_eq!(shown.moment(at("2026-11-30T12:00:30Z")), "06:00:30");
        assert_eq!(shown.moment(at("2026-12-01T05:59:00Z")), "23:59");
        assert_eq!(shown.moment(at("2026-12-01T06:00:00Z")), "2026-12-01 00:00");
        assert_eq!(
            shown.span(at("2026-11-30T12:00:00Z"), at("2026-11-30T12:12:00Z")),
            "06:00–06:12"
        );
        assert_eq!(
            shown.span(at("2026-11-30T12:00:00Z"), at("2026-12-01T12:00:00Z")),
            "06:00 – 2026-12-01 06:00"
        );
        assert_eq!(shown.day(at("2026-12-01T12:00:00Z")), "tomorrow, Tue 2026-12-01");
        assert_eq!(shown.heading(), "times are America/Chicago; it is Mon 2026-11-30 06:00 now");
    }

    #[test]
    fn times_in_texts_are_the_sites() {
        let shown = shown("America/Chicago", "2026-11-30T12:00:00Z");
        assert_eq!(
            shown.localized("from 2026-11-30T12:30:00Z, until 2026-12-01T06:00:00Z; Zoo 5Z"),
            "from 06:30, until 2026-12-01 00:00; Zoo 5Z"
        );
    }

    #[test]
    fn the_hour_that_comes_twice_is_told_apart() {
        let shown = shown("America/Chicago", "2026-11-01T12:00:00Z");
        assert_eq!(shown.time(at("2026-11-01T06:30:00Z")), "01:30 CDT");
        assert_eq!(shown.time(at("2026-11-01T07:30:00Z")), "01:30 CST");
        assert_eq!(shown.time(at("2026-11-01T08:30:00Z")), "02:30");
    }

    #[test]
    fn an_unknown_zone_is_utc_and_says_so() {
        let shown = shown("Mars/Olympus", "2026-11-01T12:00:00Z");
        assert_eq!(shown.moment(at("2026-11-01T13:00:00Z")), "13:00");
        assert!(shown.heading().contains("UTC") && shown.heading().contains("Mars/Olympus"));
    }
}
