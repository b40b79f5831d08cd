//! `site.timezone`: a name of the IANA database, and suggestions for names that are not in it.

use daemon::settings::{Section, nearest};
use jiff::tz::TimeZone;

/// Reads the zone in which times are shown.
pub(super) fn read(section: &Section<'_>) -> Option<TimeZone> {
    let name = section.str_or("timezone", "UTC");
    let spot = section.spot("timezone");
    let Ok(zone) = TimeZone::get(name) else {
        let message = format!("{name:?} is no time zone this machine knows");
        section.document().report(&spot, message, meant(name));
        return None;
    };
    if let Some((_, place)) = FIXED.iter().find(|(fixed, _)| fixed.eq_ignore_ascii_case(name)) {
        let message = format!("{name:?} stays on standard time all year");
        section.document().warn(&spot, message, Some((*place).to_owned()));
    }
    Some(zone)
}

/// The zone that was probably meant by an abbreviation, a city alone, or a name with a typing
/// error.
fn meant(name: &str) -> Option<String> {
    let abbreviation = ABBREVIATIONS
        .iter()
        .find(|(names, _)| names.iter().any(|one| one.eq_ignore_ascii_case(name)));
    if let Some((_, zone)) = abbreviation {
        return Some((*zone).to_owned());
    }
    let known: Vec<String> = jiff::tz::db().available().map(|known| known.to_string()).collect();
    let city = name.rsplit('/').next().unwrap_or(name).replace(' ', "_");
    let of_city = known.iter().find(|zone| {
        zone.rsplit_once('/').is_some_and(|(_, last)| last.eq_ignore_ascii_case(&city))
    });
    of_city.cloned().or_else(|| nearest(name, known.iter().map(String::as_str)))
}

/// Abbreviations that people write, and the zone each stands for. Abbreviations are not unique in
/// the world: these are from places with sites, mainly in North America.
const ABBREVIATIONS: [(&[&str], &str); 15] = [
    (&["ET", "EDT", "Eastern", "US Eastern"], "America/New_York"),
    (&["CT", "CST", "CDT", "Central", "US Central", "Texas"], "America/Chicago"),
    (&["MT", "MDT", "Mountain", "US Mountain"], "America/Denver"),
    (&["PT", "PST", "PDT", "Pacific", "US Pacific"], "America/Los_Angeles"),
    (&["AKT", "AKST", "AKDT", "Alaska"], "America/Anchorage"),
    (&["HDT", "Hawaii"], "Pacific/Honolulu"),
    (&["AST", "ADT", "Atlantic"], "America/Halifax"),
    (&["NST", "NDT", "Newfoundland"], "America/St_Johns"),
    (&["BST"], "Europe/London"),
    (&["CEST"], "Europe/Berlin"),
    (&["EEST"], "Europe/Helsinki"),
    (&["IST"], "Asia/Kolkata"),
    (&["JST"], "Asia/Tokyo"),
    (&["AEST", "AEDT"], "Australia/Sydney"),
    (&["Z", "Zulu time"], "UTC"),
];

/// Names in the database with the same offset all year, although the places that use the
/// abbreviation change their clocks.
const FIXED: [(&str, &str); 2] = [("EST", "America/New_York"), ("MST", "America/Denver")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_none_leads_to_the_one_that_was_meant() {
        for (name, want) in [
            ("CST", Some("America/Chicago")),
            ("cdt", Some("America/Chicago")),
            ("PST", Some("America/Los_Angeles")),
            ("EDT", Some("America/New_York")),
            ("Chicago", Some("America/Chicago")),
            ("US/Chicago", Some("America/Chicago")),
            ("new york", Some("America/New_York")),
            ("America/Chicagoo", Some("America/Chicago")),
            ("qqqqqqqqqqqq", None),
        ] {
            assert_eq!(meant(name).as_deref(), want, "{name}");
        }
        for (names, zone) in ABBREVIATIONS {
            assert!(TimeZone::get(zone).is_ok(), "{zone} is a zone");
            for name in names {
                assert!(TimeZone::get(name).is_err(), "{name} is one already");
            }
        }
    }
}
