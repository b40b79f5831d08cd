//! Compares a policy with the drivers and meters of a configuration: whether everything that the policy
//! names is there, can do what is asked of it, and is used. Each file by itself is read elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::claims::Claims;
use daemon::settings::{Document, Section, Spot};
use directive::MeterId;
use switchboard::policy::Policy;

use crate::settings::describes_proxy;

/// What a configuration has for a policy to name. A section with a mistake counts too: the mistake is
/// reported there, once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Equipment {
    /// The `machines` of each driver; empty if it reaches all that its groups have.
    drivers: BTreeMap<String, Vec<String>>,
    /// The period of each meter, if its section has no mistake.
    meters: BTreeMap<String, Option<Duration>>,
    /// Whether there is a proxy, which reports the machines that mine through it.
    proxy: bool,
    /// Whether this is what a running process was started with. Its file may have changed since.
    in_force: bool,
}

impl Equipment {
    /// The equipment of a configuration, whose agent's part is `settings` unless it has mistakes.
    pub(super) fn of(configuration: &Document, settings: Option<&agent::Settings>) -> Self {
        let root = configuration.root();
        let names = |key| root.named_tables(key).into_iter().map(|(name, _)| name);
        let mut equipment = Self {
            drivers: names("driver").map(|name| (name, Vec::new())).collect(),
            meters: names("meter").map(|name| (name, None)).collect(),
            proxy: describes_proxy(&root),
            in_force: false,
        };
        if let Some(settings) = settings {
            equipment.add(settings);
        }
        equipment
    }

    /// Marks this equipment as what a running process was started with.
    pub(crate) fn in_force(self) -> Self {
        Self { in_force: true, ..self }
    }

    /// What a message calls the configuration.
    fn configuration(&self) -> &'static str {
        if self.in_force { "the configuration in force" } else { "the configuration" }
    }

    fn add(&mut self, settings: &agent::Settings) {
        let drivers = settings.drivers.iter();
        self.drivers.extend(drivers.map(|one| (one.name.clone(), one.machines.clone())));
        let meters = settings.meters.iter();
        self.meters.extend(meters.map(|one| (one.id.to_string(), Some(one.period))));
    }
}

/// Reports what a policy names and the configuration does not have. `equipment` is `None` where a
/// policy is read by itself; `former` is what the policy has in the former spelling.
pub(super) fn check_policy(
    document: &Document,
    policy: Option<&Policy>,
    equipment: Option<&Equipment>,
    former: Option<&agent::Settings>,
) {
    let root = document.root();
    if let (Some(equipment), Some(former)) = (equipment, former) {
        check_doubles(document, equipment, former);
    }
    let alone = equipment.is_none();
    let mut equipment = equipment.cloned().unwrap_or_default();
    if let Some(former) = former {
        equipment.add(former);
    }
    if !alone {
        for (_, group) in root.named_tables("group") {
            check_driver(document, &group, &equipment);
        }
        for (_, feed) in root.named_tables("feed") {
            check_meter_of(document, &feed, &equipment);
        }
        for (name, meter) in root.named_tables("meter") {
            if !meter.has("kind") && !equipment.meters.contains_key(&name) {
                let meant = document.suggest(&name, equipment.meters.keys().map(String::as_str));
                let configuration = equipment.configuration();
                let message = format!("{configuration} has no such meter, so nothing measures it");
                document.report(&meter.here(), message, meant);
            }
        }
    }
    if let Some(policy) = policy {
        check_periods(document, policy, &equipment);
        if !alone && !equipment.proxy {
            warn_of_unknown_machines(document, policy);
        }
    }
}

/// Warns of groups whose machines nobody can tell to the switchboard. Without a proxy only the agent
/// reports machines: those that a driver commands and that are listed by name.
fn warn_of_unknown_machines(document: &Document, policy: &Policy) {
    const EFFECT: &str = "they are neither counted nor taken off";
    let sections: BTreeMap<_, _> = document.root().named_tables("group").into_iter().collect();
    for group in policy.facility.groups() {
        let Some(section) = sections.get(group.id.as_str()) else { continue };
        let globs = Claims::patterns(&group.matches).globs;
        if group.driver.is_none() {
            let message = format!(
                "without a proxy nothing reports the machines of this group, because it has no driver: {EFFECT}"
            );
            section.warn("match", message);
        } else if let Some(first) = globs.first() {
            let more = match globs.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!(
                "without a proxy nothing tells which machines match {first:?}{more}, because an agent reports only machines that are listed by name, without * and ?: {EFFECT}"
            );
            section.warn("match", message);
        }
    }
}

/// Refuses names that the former and the new spelling both define.
fn check_doubles(document: &Document, equipment: &Equipment, former: &agent::Settings) {
    let drivers = former.drivers.iter().map(|one| ("driver", one.name.as_str(), &one.spot));
    let meters = former.meters.iter().map(|one| ("meter", one.id.as_str(), &one.spot));
    for (kind, name, spot) in drivers.chain(meters) {
        let known = match kind {
            "driver" => equipment.drivers.contains_key(name),
            _ => equipment.meters.contains_key(name),
        };
        if let Some(spot) = spot.as_ref().filter(|_| known) {
            let message = format!("the configuration has a [{kind}.{name}] too: remove this one");
            document.report(spot, message, None);
        }
    }
}

fn check_driver(document: &Document, group: &Section<'_>, equipment: &Equipment) {
    let Some(name) = group.peek_str("driver") else { return };
    let Some(machines) = equipment.drivers.get(name) else {
        let meant = document.suggest(name, equipment.drivers.keys().map(String::as_str));
        let message =
            format!("{} has no [driver.{}]", equipment.configuration(), name.escape_debug());
        document.report(&group.spot("driver"), message, meant);
        return;
    };
    let patterns = group.strings("match").unwrap_or_default();
    for (index, pattern) in patterns.iter().enumerate() {
        let reached = machines.iter().any(|wide| switchboard::policy::covers(wide, pattern));
        if !reached && !machines.is_empty() {
            let message = format!("{pattern:?} is not within the `machines` of [driver.{name}]");
            document.report(&group.spot_in("match", index), message, None);
        }
    }
}

fn check_meter_of(document: &Document, feed: &Section<'_>, equipment: &Equipment) {
    let Some(name) = feed.peek_str("meter") else { return };
    if !equipment.meters.contains_key(name) {
        let meant = document.suggest(name, equipment.meters.keys().map(String::as_str));
        let message =
            format!("{} has no [meter.{}]", equipment.configuration(), name.escape_debug());
        document.report(&feed.spot("meter"), message, meant);
    }
}

/// Refuses meters whose measurements stop counting before the next one comes.
fn check_periods(document: &Document, policy: &Policy, equipment: &Equipment) {
    let root = document.root();
    let sections: BTreeMap<String, Section<'_>> = root.named_tables("meter").into_iter().collect();
    for (id, meter) in policy.facility.meters() {
        let period = equipment.meters.get(id.as_str()).copied().flatten();
        if period.is_none_or(|period| meter.stale_after > period) {
            continue;
        }
        let message =
            "must be longer than the period, or every measurement is stale before the next";
        if let Some(section) = sections.get(id.as_str()) {
            document.report(&section.spot("stale_after"), message, None);
        } else if let Some(feed) = feed_of(&root, id) {
            let message = format!("write [meter.{id}] with stale_after: it {message}");
            document.report(&feed.spot("meter"), message, None);
        }
    }
}

fn feed_of<'a>(root: &Section<'a>, meter: &MeterId) -> Option<Section<'a>> {
    let feeds = root.named_tables("feed").into_iter().map(|(_, feed)| feed);
    feeds.into_iter().find(|feed| feed.peek_str("meter") == Some(meter.as_str()))
}

/// Warns of drivers and meters that no part of the policy names, and of guarded feeds that it does not
/// have.
pub(super) fn warn_of_unused(configuration: &Document, agent: &agent::Settings, policy: &Policy) {
    for driver in &agent.drivers {
        let used = policy
            .facility
            .groups()
            .iter()
            .any(|group| group.driver.as_ref() == Some(&driver.name));
        if let Some(spot) = driver.spot.as_ref().filter(|_| !used) {
            configuration.warn(spot, "no group of the policy names this driver", None);
        }
    }
    for guard in &agent.guards {
        let feed = &guard.guard.feed;
        if policy.facility.feeds().number(feed).is_none() {
            let message = format!("the policy has no [feed.{feed}]");
            configuration.warn(&guard.spot, message, None);
        }
    }
    for meter in &agent.meters {
        let used = policy.facility.meters().contains_key(&meter.id);
        if let Some(spot) = meter.spot.as_ref().filter(|_| !used) {
            let message = format!(
                "no feed of the policy names this meter; for leases, write [meter.{}] in the policy",
                meter.id
            );
            configuration.warn(spot, message, None);
        }
    }
}

/// Warns of drivers and meters that no switchboard uses.
pub(super) fn warn_of_no_switchboard(configuration: &Document, agent: &agent::Settings) {
    if let Some(spot) = first_spot(agent) {
        let message = "without [switchboard], drivers, meters, [hook] and [guard.NAME] are not used: an agent cannot run apart from its switchboard yet";
        configuration.warn(spot, message, None);
    }
}

/// Refuses a configuration that describes an agent and no other role.
pub(super) fn refuse_agent_alone(configuration: &Document, agent: &agent::Settings) {
    if let Some(spot) = first_spot(agent) {
        let message = "an agent cannot run in a process of its own yet: add the [switchboard] that it works for";
        configuration.report(spot, message, None);
    }
}

/// Where the agent's part begins: its first driver, its first meter, its hook, or its first
/// `[guard.NAME]`.
fn first_spot(agent: &agent::Settings) -> Option<&Spot> {
    let drivers = agent.drivers.iter().map(|driver| &driver.spot);
    let meters = agent.meters.iter().map(|meter| &meter.spot);
    let hook = agent.hook.iter().map(|hook| &hook.spot);
    let guards = agent.guards.iter().map(|guard| &guard.spot);
    drivers.chain(meters).chain(hook).flatten().chain(guards).next()
}
