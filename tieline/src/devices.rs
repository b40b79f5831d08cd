//! Joins a policy with the agent's drivers and meters where both are in one process: which driver
//! commands which machines follows from the groups of the policy, and how long the machines may
//! take is measured per group. The agent knows what a driver is.

use agent::claims::{Assignment, Claims};
use agent::{Devices, MeterSetup};
use anyhow::Context;
use directive::GroupId;
use switchboard::facility::Group;
use switchboard::policy::Policy;

/// What an agent works with under a policy.
///
/// # Errors
/// When a group names a driver that is not there.
pub fn devices(policy: &Policy, settings: &agent::Settings) -> anyhow::Result<Devices> {
    let index = |name: &str| settings.drivers.iter().position(|driver| driver.name == name);
    let mut assignments = Vec::new();
    for group in policy.facility.groups() {
        let Some(name) = &group.driver else { continue };
        let driver = index(name)
            .with_context(|| format!("group {}: there is no driver {name:?}", group.id))?;
        assignments.push(assign(group, driver));
    }
    let meters = settings.meters.iter().map(|meter| MeterSetup {
        id: meter.id.clone(),
        meter: meter.source.meter.clone(),
        period: meter.period,
    });
    let drivers = settings.drivers.iter().map(|settings| agent::drivers::Driver {
        name: settings.name.clone(),
        ..settings.driver.clone()
    });
    Ok(Devices {
        drivers: drivers.collect(),
        assignments,
        meters: meters.collect(),
        hook: settings.hook.clone(),
        own_guards: settings.guards.iter().map(|guard| guard.guard.clone()).collect(),
    })
}

fn assign(group: &Group, driver: usize) -> Assignment {
    Assignment {
        claims: Claims::patterns(&group.matches),
        driver,
        sleeps_within: group.shed_p95.unwrap_or_default(),
        wakes_within: group.restore_p95,
    }
}

/// The parts of a policy from which the agent was built at the start. A policy in which these parts
/// differ needs a restart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ties {
    groups: Vec<(GroupId, Vec<String>, Option<String>)>,
    /// Drivers and meters in the former spelling, as the file writes them.
    former: Vec<(String, toml::Value)>,
}

impl Ties {
    /// The ties of a policy whose file has this text.
    pub(crate) fn of(policy: &Policy, text: &str) -> Self {
        let groups = policy.facility.groups().iter();
        let groups =
            groups.map(|group| (group.id.clone(), group.matches.clone(), group.driver.clone()));
        Self { groups: groups.collect(), former: former(text) }
    }
}

fn former(text: &str) -> Vec<(String, toml::Value)> {
    let root = text.parse::<toml::Table>().unwrap_or_default();
    let tables = |key: &str| root.get(key).and_then(toml::Value::as_table).into_iter().flatten();
    let drivers = tables("group").filter_map(|(name, group)| {
        Some((format!("group.{name}"), group.get("actuator")?.clone()))
    });
    let meters = tables("meter").filter_map(|(name, meter)| {
        let mut meter = meter.as_table()?.clone();
        // The switchboard alone uses this key, so it may change while the agent runs.
        meter.remove("stale_after");
        meter.contains_key("kind").then(|| (format!("meter.{name}"), toml::Value::Table(meter)))
    });
    drivers.chain(meters).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testbed::facility::{FacilitySpec, SimFacility};

    use super::*;

    fn example() -> (Policy, String) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/policy.toml");
        let text = std::fs::read_to_string(path).expect("the example");
        let policy = switchboard::policy::parse(&text, "policy.toml");
        (policy.unwrap_or_else(|faults| panic!("{faults}")), text)
    }

    fn settings(names: &[&str]) -> agent::Settings {
        let spec = FacilitySpec {
            machines: Vec::new(),
            house: directive::Watts::ZERO,
            tenants: std::collections::BTreeMap::new(),
        };
        let facility = SimFacility::new(spec, testbed::clock::moment()).expect("no machines");
        names.iter().fold(agent::Settings::default(), |settings, name| {
            settings.with_driver(name, facility.actuator())
        })
    }

    #[test]
    fn groups_that_share_a_driver_keep_their_own_machines_and_times() {
        let text = example().1.replace("driver = \"luxctl\"", "driver = \"minerctl\"");
        let policy = switchboard::policy::parse(&text, "policy.toml").expect("a sound policy");
        let devices = devices(&policy, &settings(&["luxctl", "minerctl"])).expect("both are there");
        assert_eq!(devices.assignments.len(), 2, "the third group has no driver");
        assert!(devices.assignments.iter().all(|assignment| assignment.driver == 1));
        let times: Vec<_> = devices.assignments.iter().map(|one| one.sleeps_within).collect();
        assert_eq!(times, [Duration::from_secs(25), Duration::from_secs(8)]);
        assert_eq!(devices.assignments[1].claims.globs, ["childress.b?-*"]);
    }

    #[test]
    fn machines_that_a_group_lists_by_name_are_declared_to_the_agent() {
        let text =
            example().1.replace("\"childress.b?-*\"", "[\"childress.b1-*\", \"childress.b2-7\"]");
        let policy = switchboard::policy::parse(&text, "policy.toml").expect("a sound policy");
        let devices = devices(&policy, &settings(&["luxctl", "minerctl"])).expect("both are there");
        let claims = &devices.assignments[1].claims;
        assert_eq!(claims.globs, ["childress.b1-*"]);
        assert_eq!(claims.machines, ["childress.b2-7".into()].into());
    }

    #[test]
    fn a_driver_that_is_not_there_is_named() {
        let error = devices(&example().0, &settings(&["minerctl"])).err().expect("no luxctl");
        assert_eq!(error.to_string(), "group s21-b: there is no driver \"luxctl\"");
    }

    #[test]
    fn what_the_agent_was_built_from_needs_a_restart_and_nothing_else_does() {
        let (policy, text) = example();
        let ties = Ties::of(&policy, &text);
        let changed = |from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "{from:?} must stand in the policy once");
            let text = text.replace(from, to);
            let policy = switchboard::policy::parse(&text, "p.toml");
            Ties::of(&policy.unwrap_or_else(|faults| panic!("{faults}")), &text) != ties
        };
        assert!(!changed("revision = 12", "revision = 13"));
        assert!(!changed("machines = 3_600", "machines = 3_000"));
        assert!(!changed("[meter.poi]\n", "[meter.more]\n[meter.poi]\n"));
        assert!(changed("driver = \"luxctl\"", "driver = \"minerctl\""));
        assert!(changed("driver = \"luxctl\"", ""));
        assert!(changed("\"childress.b?-*\"", "\"childress.b*\""));
    }

    #[test]
    fn the_former_spelling_counts_except_for_the_age_of_measurements() {
        let (policy, _) = example();
        let text = |timeout: &str, stale: &str| {
            format!(
                "[group.old.actuator]\ntimeout = {timeout:?}\n[meter.a]\nkind = \"file\"\nstale_after = {stale:?}\n"
            )
        };
        let ties = |timeout, stale| Ties::of(&policy, &text(timeout, stale));
        assert_eq!(ties("5s", "30s"), ties("5s", "40s"));
        assert_ne!(ties("5s", "30s"), ties("6s", "30s"));
    }
}
