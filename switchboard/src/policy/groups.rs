//! `[group.NAME]`: machines that are planned alike, and the driver that reaches them.

mod globs;
mod patterns;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use daemon::settings::{Document, Section, Spot};
use directive::{FeedId, GroupId, Watts};

use super::outside::{self, Outside};
use super::{DefinedNames, power, reference};
use crate::facility::{ActuatorSpec, Group};
use patterns::Claims;

/// Reads all groups in the order of the file. `lacking` names the feeds without a default
/// constraint.
pub(super) fn read(
    document: &Document,
    root: &Section<'_>,
    sections: Vec<(String, Section<'_>)>,
    names: &DefinedNames,
    lacking: BTreeMap<String, Spot>,
    outside: Outside<'_>,
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
    let mut reader = Reader { document, names, claims: Claims::default(), lacking, outside };
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

/// What is kept from one group to the next.
struct Reader<'a> {
    document: &'a Document,
    names: &'a DefinedNames,
    claims: Claims,
    lacking: BTreeMap<String, Spot>,
    outside: Outside<'a>,
}

impl Reader<'_> {
    fn read(&mut self, name: &str, section: Section<'_>) -> Option<Group> {
        for (old, new) in [("asic_w", "asic_kw"), ("residual_w", "residual_kw")] {
            section.renamed(old, new);
        }
        if !section.has("feed") {
            section.required_str("feed");
        }
        let feed = reference(self.document, &section, "feed", "feed", &self.names.feeds);
        // A feed that carries groups needs a ceiling for when the plan has run out. Told once for
        // each feed.
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
        let joules_per_terahash = section.required_float("j_per_th", 0.1..=100_000.0);
        if let (Some(watts), Some(joules)) = (watts, joules_per_terahash) {
            warn_of_hashrate(&section, watts, joules);
        }
        let shed_p95 = section.optional_duration("shed_p95", SECOND..=DAY);
        let restore_p95 = section.duration_or("restore_p95", SECOND..=DAY, RESTORE);
        let min_up = section.duration_or("min_up", Duration::ZERO..=DAY, MIN_UP);
        let min_down = section.duration_or("min_down", Duration::ZERO..=DAY, MIN_DOWN);
        let has_actuator = section.has("actuator");
        let actuator =
            section.table("actuator").and_then(|section| read_actuator(section, &mut self.outside));
        if shed_p95.is_some() && !has_actuator {
            let message = "has no effect without [group.NAME.actuator]: machines that can only be starved of work back no \
                 firm lease";
            section.warn("shed_p95", message.replace("NAME", name));
        }
        section.finish();
        if has_actuator && actuator.is_none() {
            return None;
        }
        Some(Group {
            id: GroupId::from(name),
            feed: FeedId::from(feed?),
            matches: matches?.into_iter().map(str::to_owned).collect(),
            machines: machines?,
            watts: watts?,
            joules_per_terahash: joules_per_terahash?,
            residual,
            actuator,
            shed_p95,
            restore_p95,
            min_up,
            min_down,
        })
    }
}

/// Reads what one machine draws, awake and asleep.
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

/// Warns of an efficiency that no machine has: it or the power is probably in another unit.
fn warn_of_hashrate(section: &Section<'_>, watts: Watts, joules_per_terahash: f64) {
    if !EFFICIENCIES.contains(&joules_per_terahash) {
        let terahashes = watts.kw() * 1000.0 / joules_per_terahash;
        let message = format!(
            "{joules_per_terahash} J/TH at {watts} would be {terahashes:.1} TH/s: is the figure in joules per terahash?"
        );
        section.warn("j_per_th", message);
    }
}

fn read_actuator(section: Section<'_>, outside: &mut Outside<'_>) -> Option<ActuatorSpec> {
    #[derive(Clone, Copy)]
    enum Kind {
        Exec,
        Registered,
    }
    // Of an unknown kind no key can be judged.
    let kind = section
        .required_choice("kind", &[("exec", Kind::Exec), ("registered", Kind::Registered)])?;
    let actuator = match kind {
        Kind::Exec => {
            let [sleep, wake, read] =
                ["sleep", "wake", "read"].map(|key| read_command(&section, key, outside));
            let timeout =
                section.duration_or("timeout", Duration::from_millis(100)..=TIMEOUT_MAX, TIMEOUT);
            let concurrency = section.integer_or("concurrency", 1..=1024_u16, 8);
            sleep.zip(wake).zip(read).map(|((sleep, wake), read)| ActuatorSpec::Exec {
                sleep,
                wake,
                read,
                timeout,
                concurrency: usize::from(concurrency),
            })
        }
        Kind::Registered => {
            outside::warn_of_registered(&section);
            section
                .required_str("name")
                .map(|name| ActuatorSpec::Registered { name: name.to_owned() })
        }
    };
    section.finish();
    actuator
}

/// Reads a program with its arguments. The machine's name comes from a miner: it may fill an
/// argument, never choose the program.
fn read_command(
    section: &Section<'_>,
    key: &str,
    outside: &mut Outside<'_>,
) -> Option<Vec<String>> {
    let command = section.required_strings(key)?;
    let (program, arguments) = command.split_first()?;
    if program.contains("{machine}")
        || (arguments.is_empty() && program.contains(char::is_whitespace))
    {
        let how =
            "write a list, the program first: [\"/usr/local/bin/miner\", \"sleep\", \"{machine}\"]";
        section.mistake(key, format!("{program:?} is no program; {how}"));
        return None;
    }
    if !arguments.iter().any(|argument| argument.contains("{machine}")) {
        section.mistake(
            key,
            "no argument holds {machine}, so the command could not tell the machines apart",
        );
        return None;
    }
    outside.check_program(&section.spot_in(key, 0), program);
    Some(command.into_iter().map(str::to_owned).collect())
}

/// What machines have that anybody still runs: from the newest to first-generation ones.
const EFFICIENCIES: RangeInclusive<f64> = 3.0..=1000.0;
const MACHINES_MAX: u32 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const RESTORE: Duration = Duration::from_secs(600);
const MIN_UP: Duration = Duration::from_secs(600);
const MIN_DOWN: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
