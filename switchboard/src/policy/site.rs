//! `[site]`: the site's name and time zone, and how sessions are counted that no group claims.

use std::time::Duration;

use daemon::settings::{Document, Section};
use directive::{FeedId, Watts};
use jiff::tz::TimeZone;

use super::names::reference;
use super::rules::{Newcomers, Unassigned};
use super::{power, timezone};

pub(super) struct Site {
    pub(super) name: String,
    pub(super) timezone: TimeZone,
    pub(super) unassigned: Watts,
    pub(super) unassigned_feed: FeedId,
    pub(super) unassigned_sessions: Unassigned,
    pub(super) newcomers: Newcomers,
    pub(super) reclose_settle: Duration,
}

/// Reads the section. Sessions that no group claims count at `root_feed` unless it says otherwise.
pub(super) fn read(
    document: &Document,
    root: &Section<'_>,
    feed_names: &[String],
    root_feed: Option<FeedId>,
) -> Option<Site> {
    let section = root.required_table("site");
    section.renamed("unassigned_w", "unassigned_kw");
    let name = section.required_str("name").map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.len() > NAME_MAX || name.chars().any(char::is_control))
    {
        section.mistake(
            "name",
            format!("must be at most {NAME_MAX} bytes without control characters"),
        );
    }
    let timezone = timezone::read(&section);
    let unassigned =
        section.optional("unassigned_kw", power::of_machine_or_none).unwrap_or(UNASSIGNED);
    let feed =
        reference(document, &section, "unassigned_feed", "feed", feed_names).map(FeedId::from);
    let choices = [("park", Unassigned::Park), ("count", Unassigned::Count)];
    let unassigned_sessions = section.choice_or("unassigned", &choices, Unassigned::Park);
    let newcomers = newcomers(&section);
    let reclose_settle =
        section.duration_or("reclose_settle", Duration::ZERO..=HOUR, RECLOSE_SETTLE);
    section.finish();
    Some(Site {
        name: name?,
        timezone: timezone?,
        unassigned,
        unassigned_feed: feed.or(root_feed)?,
        unassigned_sessions,
        newcomers,
        reclose_settle,
    })
}

fn newcomers(section: &Section<'_>) -> Newcomers {
    let default = Newcomers::default();
    let choices = [("wait", true), ("serve", false)];
    Newcomers {
        wait: section.choice_or("newcomers", &choices, default.wait),
        take_over: section.duration_or("take_over", Duration::ZERO..=DAY, default.take_over),
        away_after: section.duration_or(
            "away_after",
            Duration::from_secs(10)..=DAY,
            default.away_after,
        ),
    }
}

const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);

/// Machines boot within one to two minutes, and each that does moves the reading.
const RECLOSE_SETTLE: Duration = Duration::from_secs(60);

/// The power of one current air-cooled machine.
const UNASSIGNED: Watts = Watts(3500);
const NAME_MAX: usize = 128;
