//! `[meter.NAME]`: what measures power, how often, and for how long a measurement counts.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::settings::{Document, Section};
use directive::MeterId;

use super::outside;
use crate::facility::{MeterSource, MeterSpec};

/// Reads all meters; a site may have none.
pub(super) fn read(sections: Vec<(String, Section<'_>)>) -> Option<BTreeMap<MeterId, MeterSpec>> {
    let count = sections.len();
    let meters: BTreeMap<MeterId, MeterSpec> = sections
        .into_iter()
        .filter_map(|(name, section)| read_one(MeterId::from(name), section))
        .map(|meter| (meter.id.clone(), meter))
        .collect();
    (meters.len() == count).then_some(meters)
}

/// Warns of two meters that read one file: one of them was probably copied.
pub(super) fn check_files(document: &Document, sections: &[(String, Section<'_>)]) {
    let mut former: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, section) in sections {
        let Some(path) = section.peek_str("path") else { continue };
        if let Some(other) = former.insert(path, name) {
            let message = format!("is the file of [meter.{other}] too");
            document.warn(&section.spot("path"), message, None);
        }
    }
}

fn read_one(id: MeterId, section: Section<'_>) -> Option<MeterSpec> {
    #[derive(Clone, Copy)]
    enum Kind {
        File,
        Registered,
    }
    // Of an unknown kind no key can be judged.
    let kind = section
        .required_choice("kind", &[("file", Kind::File), ("registered", Kind::Registered)])?;
    let source = match kind {
        Kind::File => section.required_path("path").map(|path| {
            outside::check_meter_file(&section, &path);
            MeterSource::File { path }
        }),
        Kind::Registered => {
            outside::warn_of_registered(&section);
            section
                .required_str("name")
                .map(|name| MeterSource::Registered { name: name.to_owned() })
        }
    };
    let period = section.duration_or("period", PERIOD_MIN..=PERIOD_MAX, PERIOD);
    let stale_after =
        section.duration_or("stale_after", PERIOD_MIN..=STALE_MAX, STALE.max(period * 3));
    if stale_after <= period {
        section.mistake(
            "stale_after",
            "must be longer than the period, or every measurement is stale before the next",
        );
    }
    section.finish();
    Some(MeterSpec { id, source: source?, period, stale_after })
}

const PERIOD: Duration = Duration::from_secs(5);
const PERIOD_MIN: Duration = Duration::from_millis(100);
const PERIOD_MAX: Duration = Duration::from_secs(3600);
const STALE: Duration = Duration::from_secs(30);
const STALE_MAX: Duration = Duration::from_secs(4 * 3600);
