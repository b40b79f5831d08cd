//! `[group.NAME]`: machines that are planned alike, and the name of the driver that commands them.
//! What the driver is stands in the configuration of the agent.

mod globs;
mod patterns;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use daemon::settings::{Document, Section, Spot};
use directive::{FeedId, GroupId, Watts};

use super::names::reference;
use super::power;
use crate::facility::Group;
pub use globs::covers;
use patterns::Claims;

/// Reads all groups in the order of the file. `lacking` names the feeds without a default
/// constraint.
pub(super) fn read(
    document: &Document,
    root: &Section<'_>,
    sections: Vec<(String, Section<'_>)>,
    feed_names: &[String],
    lacking: BTreeMap<String, Spot>,
) -> Option<Vec<Group>> {
    if sections.is_empty() {
        if root.is_empty("group") {
            root.mistake(
                "group",
                "no groups: write a [group.NAME] section for each kind of machine at each feed",
            );
        }
        return None;
    }
    let count = sections.len();
    let mut reader = Reader { document, feed_names, claims: Claims::default(), lacking };
    let mut groups = Vec::with_capacity(count);
    let mut fleet = Some(Watts::ZERO);
    for (name, section) in sections {
        let machines_spot = section.spot("machines");
        let Some(group) = reader.read(&name, section) else { continue };
        let drawn = group.watts.0.checked_mul(i64::from(group.machines));
        fleet = fleet.zip(drawn).and_then(|(sum, drawn)| sum.0.checked_add(drawn)).map(Watts);
        if fleet.is_none_or(|sum| sum > Watts::LIMIT) {
            let message = format!(
                "the groups up to here draw more than {}, which no site does",
                Watts::LIMIT
            );
            document.report(&machines_spot, message, None);
            return None;
        }
        groups.push(group);
    }
    (groups.len() == count).then_some(groups)
}

/// The state kept from one group to the next.
struct Reader<'a> {
    document: &'a Document,
    feed_names: &'a [String],
    claims: Claims,
    lacking: BTreeMap<String, Spot>,
}

impl Reader<'_> {
    fn read(&mut self, name: &str, section: Section<'_>) -> Option<Group> {
        for (old, new) in [("asic_w", "asic_kw"), ("residual_w", "residual_kw")] {
            section.renamed(old, new);
        }
        if !section.has("feed") {
            section.required_str("feed");
        }
        let feed = reference(self.document, &section, "feed", "feed", self.feed_names);
        // A feed with groups needs a default constraint. This is reported once for each feed.
        if let Some(spot) = feed.and_then(|feed| self.lacking.remove(feed)) {
            let message = format!(
                "missing: [group.{name}] hangs here and needs a ceiling for when the plan has run out"
            );
            self.document.report(&spot, message, None);
        }
        let matches = section.required_strings("match");
        let patterns = matches.as_deref().unwrap_or_default();
        self.claims.check(self.document, name, &section, patterns);
        let machines = section.required_integer("machines", 1..=MACHINES_MAX);
        let (watts, residual) = read_power(&section);
        let poolless = read_poolless(&section, watts, residual);
        let joules_per_terahash = section.required_float("j_per_th", 0.1..=100_000.0);
        if let (Some(watts), Some(joules)) = (watts, joules_per_terahash) {
            warn_of_hashrate(&section, watts, joules);
        }
        let shed_p95 = section.optional_duration("shed_p95", SECOND..=DAY);
        let restore_p95 = section.duration_or("restore_p95", SECOND..=DAY, RESTORE);
        let min_up = section.duration_or("min_up", Duration::ZERO..=DAY, MIN_UP);
        let min_down = section.duration_or("min_down", Duration::ZERO..=DAY, MIN_DOWN);
        let protected = section.bool_or("protected", false);
        let driver = read_driver(name, &section);
        if shed_p95.is_some() && driver.is_none() && !section.has("driver") {
            let message = "has no effect without `driver`: machines that can only be starved of work back no firm lease";
            section.warn("shed_p95", message);
        }
        section.finish();
        Some(Group {
            id: GroupId::from(name),
            feed: FeedId::from(feed?),
            matches: matches?.into_iter().map(str::to_owned).collect(),
            machines: machines?,
            watts: watts?,
            joules_per_terahash: joules_per_terahash?,
            residual,
            poolless,
            driver,
            shed_p95,
            restore_p95,
            min_up,
            min_down,
            protected,
        })
    }
}

/// Reads the power of one machine, awake and asleep.
fn read_power(section: &Section<'_>) -> (Option<Watts>, Watts) {
    let watts = section.required("asic_kw", power::of_machine);
    let residual = section.optional("residual_kw", power::of_sleep).unwrap_or(Watts::ZERO);
    if let Some(watts) = watts
        && residual >= watts
    {
        let guess = Watts(residual.0 / 1000);
        let message = if guess > Watts::ZERO && guess < watts && residual.kw() >= 5.0 {
            format!(
                "{residual} is not below asic_kw {watts}; it looks like watts: write {}",
                guess.kw()
            )
        } else {
            format!(
                "residual {residual} is not below what one machine draws: nothing would be freed"
            )
        };
        section.mistake("residual_kw", message);
    }
    (watts, residual)
}

/// Reads the power of one machine that is awake and has no work.
fn read_poolless(section: &Section<'_>, watts: Option<Watts>, residual: Watts) -> Option<Watts> {
    let poolless = section.optional("poolless_kw", power::of_sleep)?;
    if let Some(watts) = watts
        && poolless > watts
    {
        let guess = Watts(poolless.0 / 1000);
        let message = if guess > Watts::ZERO && poolless.kw() >= 5.0 {
            format!(
                "{poolless} is above asic_kw {watts}; it looks like watts: write {}",
                guess.kw()
            )
        } else {
            format!(
                "{poolless} is above asic_kw {watts}: a machine draws no more without work than with it"
            )
        };
        section.mistake("poolless_kw", message);
    } else if poolless < residual {
        let message = format!(
            "{poolless} is below residual_kw {residual}: a machine draws no less awake than asleep"
        );
        section.mistake("poolless_kw", message);
    }
    Some(poolless)
}

/// Warns of an efficiency that no machine has: the efficiency or the power was probably given in a
/// different unit.
fn warn_of_hashrate(section: &Section<'_>, watts: Watts, joules_per_terahash: f64) {
    if !EFFICIENCIES.contains(&joules_per_terahash) {
        let terahashes = watts.kw() * 1000.0 / joules_per_terahash;
        let message = format!(
            "{joules_per_terahash} J/TH at {watts} would be {terahashes:.1} TH/s: is the figure in joules per terahash?"
        );
        section.warn("j_per_th", message);
    }
}

/// Reads the name of the driver. In the former spelling the driver stood in the group itself and had
/// its name; the program that builds drivers reads it there.
fn read_driver(group: &str, section: &Section<'_>) -> Option<String> {
    let driver = section.optional_name("driver").map(str::to_owned);
    if section.has("driver") {
        section.refuse("actuator", "is the former spelling of `driver`, which this group has too");
        return driver;
    }
    section.leave("actuator");
    section.has("actuator").then(|| group.to_owned())
}

/// The efficiency of ASICs in J/TH, from the newest to the first generation.
const EFFICIENCIES: RangeInclusive<f64> = 3.0..=1000.0;
const MACHINES_MAX: u32 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const RESTORE: Duration = Duration::from_secs(600);
const MIN_UP: Duration = Duration::from_secs(600);
const MIN_DOWN: Duration = Duration::from_secs(300);
