//! From the policy's words to drivers: the agent knows no policy, and the policy no drivers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent::claims::Claims;
use agent::drivers::exec::{ExecActuator, ExecConfig};
use agent::meters::file::FileMeter;
use agent::{DriverSetup, MeterSetup};
use anyhow::Context;
use directive::{Actuator, Meter};
use switchboard::facility::{ActuatorSpec, MeterSource, Policy};

/// Drivers that a program brings along: the demo's simulated machines and meters.
#[derive(Default, Clone)]
pub struct Registered {
    /// Actuators by the name that a policy uses.
    pub actuators: BTreeMap<String, Arc<dyn Actuator>>,
    /// Meters by the name that a policy uses.
    pub meters: BTreeMap<String, Arc<dyn Meter>>,
}

/// Commands that a registered driver is given at once.
const REGISTERED_IN_FLIGHT: usize = 64;

/// How long the slowest driver may need for an answer: its own time, and twice that for those
/// before it in line.
#[must_use]
pub fn answers_within(policy: &Policy) -> Duration {
    let timeout = |spec: &ActuatorSpec| match spec {
        ActuatorSpec::Exec { timeout, .. } => *timeout,
        ActuatorSpec::Registered { .. } => Duration::ZERO,
    };
    let slowest =
        policy.groups.iter().filter_map(|group| group.actuator.as_ref()).map(timeout).max();
    slowest.unwrap_or_default() * 3
}

/// Makes the drivers that a policy names.
///
/// # Errors
/// When a command cannot be used, or no driver is registered under a name.
pub fn drivers(
    policy: &Policy,
    registered: &Registered,
) -> anyhow::Result<(Vec<DriverSetup>, Vec<MeterSetup>)> {
    let mut actuators = Vec::new();
    for group in &policy.groups {
        let Some(spec) = &group.actuator else { continue };
        let (actuator, in_flight): (Arc<dyn Actuator>, usize) = match spec {
            ActuatorSpec::Exec { sleep, wake, read, timeout, concurrency } => {
                let config = ExecConfig {
                    sleep: sleep.clone(),
                    wake: wake.clone(),
                    read: read.clone(),
                    timeout: *timeout,
                    concurrency: *concurrency,
                };
                let driver = ExecActuator::new(config)
                    .with_context(|| format!("group {}: failed to make its actuator", group.id))?;
                (Arc::new(driver), *concurrency)
            }
            ActuatorSpec::Registered { name } => {
                let driver = registered.actuators.get(name).with_context(|| {
                    format!("group {}: no actuator is registered as {name:?}", group.id)
                })?;
                (driver.clone(), REGISTERED_IN_FLIGHT)
            }
        };
        actuators.push(DriverSetup {
            claims: Claims::globs(group.matches.clone()),
            actuator,
            in_flight,
            sleeps_within: group.shed_p95.unwrap_or_default(),
            wakes_within: group.restore_p95,
        });
    }
    let mut meters = Vec::new();
    for spec in policy.meters.values() {
        let meter: Arc<dyn Meter> = match &spec.source {
            MeterSource::File { path } => Arc::new(FileMeter::new(path)),
            MeterSource::Registered { name } => registered
                .meters
                .get(name)
                .with_context(|| format!("meter {}: none is registered as {name:?}", spec.id))?
                .clone(),
        };
        meters.push(MeterSetup { id: spec.id.clone(), meter, period: spec.period });
    }
    Ok((actuators, meters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_tool_has_the_time_that_the_policy_gives_it() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/policy.toml");
        let text = std::fs::read_to_string(path).expect("the example");
        let slow = text.replacen("timeout = \"10s\"", "timeout = \"2m\"", 1);
        let policy = switchboard::policy::parse(&slow, "policy.toml")
            .unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(
            answers_within(&policy),
            Duration::from_mins(6),
            "the agent's own 30 s would cut it off"
        );
    }
}
