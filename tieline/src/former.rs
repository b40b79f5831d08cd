//! The former spelling of drivers and meters, in which they stood in the policy:
//! `[group.NAME.actuator]`, and `[meter.NAME]` with `kind` and `path`. They are read as before, and each
//! is warned of with the new spelling.

use daemon::settings::{Document, Section};

/// Reads the drivers and meters that stand in a policy. A driver has its group's name. `None` after a
/// mistake in one of them.
pub(crate) fn read(policy: &Document) -> Option<agent::Settings> {
    let root = policy.root();
    let groups = root.named_tables("group");
    let groups: Vec<_> = groups
        .iter()
        .filter(|(_, group)| group.has("actuator") && !group.has("driver"))
        .map(|(name, group)| read_driver(name, group))
        .collect();
    let mut meters = root.named_tables("meter");
    meters.retain(|(_, meter)| meter.has("kind"));
    agent::settings::warn_of_shared_files(
        meters.iter().map(|(name, meter)| (name.as_str(), meter)),
    );
    let meters: Vec<_> = meters.iter().map(|(name, meter)| read_meter(name, meter)).collect();
    Some(agent::Settings {
        drivers: groups.into_iter().collect::<Option<_>>()?,
        meters: meters.into_iter().collect::<Option<_>>()?,
        ..agent::Settings::default()
    })
}

fn read_driver(name: &str, group: &Section<'_>) -> Option<agent::settings::DriverSettings> {
    let section = group.table("actuator")?;
    if refuse_registered(&section, &format!("driver = \"NAME\" in [group.{name}]")) {
        return None;
    }
    let message = format!(
        "deprecated: in the configuration, write [driver.{name}] with these keys, and here driver = {name:?} in place of them"
    );
    group.warn("actuator", message);
    let driver = agent::drivers::read(&section)?;
    let spot = Some(section.here());
    Some(agent::settings::DriverSettings {
        name: name.to_owned(),
        driver,
        machines: Vec::new(),
        spot,
    })
}

fn read_meter(name: &str, section: &Section<'_>) -> Option<agent::settings::MeterSettings> {
    if refuse_registered(section, &format!("meter = {name:?} in the feed")) {
        return None;
    }
    let message = format!(
        "deprecated: in the configuration, write [meter.{name}] with kind, path and period; only stale_after stays here"
    );
    section.warn("kind", message);
    section.leave("stale_after");
    agent::settings::read_meter(name, section)
}

/// Refuses `kind = "registered"`: a program registers its own drivers and meters under the names
/// that groups and feeds use, so this kind is no longer needed. `tieline run` never had such
/// drivers.
fn refuse_registered(section: &Section<'_>, instead: &str) -> bool {
    let registered = section.peek_str("kind") == Some("registered");
    if registered {
        let message = format!("there is no kind \"registered\" any more: {instead} is enough");
        section.refuse("kind", message);
    }
    registered
}
