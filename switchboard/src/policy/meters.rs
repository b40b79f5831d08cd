//! `[meter.NAME]`: for how long a measurement counts. Which meters there are and how they are read
//! stands in the configuration of the agent that reads them; the policy names them.
//!
//! The age at which a measurement stops counting is decided here, and not by the agent or in its
//! reports, for two reasons: the same policy judges every agent alike, and its digest, which the
//! ledger records with each decision, covers the rule.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use daemon::settings::Section;
use directive::MeterId;

use crate::facility::{Feed, MeterSpec};

/// Reads all meters: those with a section, which a lease may name, and those that feeds name.
pub(super) fn read(
    sections: Vec<(String, Section<'_>)>,
    feeds: Option<&[Feed]>,
) -> BTreeMap<MeterId, MeterSpec> {
    let of_feeds = feeds.unwrap_or_default().iter().filter_map(|feed| feed.meter.clone());
    let mut meters: BTreeMap<MeterId, MeterSpec> =
        of_feeds.map(|id| (id.clone(), MeterSpec { id, stale_after: STALE })).collect();
    for (name, section) in sections {
        let meter = read_one(MeterId::from(name), &section);
        meters.insert(meter.id.clone(), meter);
    }
    meters
}

fn read_one(id: MeterId, section: &Section<'_>) -> MeterSpec {
    let default = read_former(section).map_or(STALE, |period| STALE.max(period * 3));
    let stale_after = section.duration_or("stale_after", STALE_AFTER, default);
    section.finish();
    MeterSpec { id, stale_after }
}

/// Leaves the keys of the former spelling, in which a policy said how its meters are read, to the
/// program that reads them. Returns the period: the default of `stale_after` depended on it.
fn read_former(section: &Section<'_>) -> Option<Duration> {
    const KEYS: [&str; 4] = ["kind", "path", "name", "period"];
    if !section.has("kind") {
        let message = format!("stands in [{}] of the configuration", section.path());
        KEYS.iter().for_each(|key| section.refuse(key, message.clone()));
        return None;
    }
    KEYS.iter().for_each(|key| section.leave(key));
    let period = section.optional("period", |value| Ok(value.duration(&PERIODS).ok()));
    Some(period.flatten().unwrap_or(PERIOD))
}

const STALE: Duration = Duration::from_secs(30);
const STALE_AFTER: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(4 * 3600);
/// The default period in the former spelling.
const PERIOD: Duration = Duration::from_secs(5);
const PERIODS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
