//! `kind = "exec"`: a driver that runs a program for each command, for any device for which a site
//! has a tool.
//!
//! No shell is involved: a command is a list of arguments in which `{machine}` stands for the
//! machine's name. Names come from miners and are checked before they reach a program. What the
//! program prints is read up to a limit, the rest is thrown away. Exit status 0 means that the
//! command was sent; only [`directive::Actuator::read`] tells whether the machine sleeps.

mod config;

use std::sync::Arc;

use daemon::clock;
use daemon::settings::Section;
use directive::{Actuator, ActuatorError, DeviceState, MachineId, Pending, Reading, Watts};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::driver::Driver;
use crate::program::{self, OUTPUT_MAX_BYTES};
use config::MACHINE;
pub use config::{ExecConfig, ExecConfigError};

/// Reads the keys of a `[driver.NAME]` section and builds its driver.
pub(super) fn read(section: &Section<'_>) -> Option<Driver> {
    let config = ExecConfig::read(section)?;
    let (in_flight, timeout) = (config.concurrency, config.timeout);
    let summary = format!("exec {}, {in_flight} at once", config.sleep.first()?);
    let actuator = ExecActuator::new(config);
    let actuator = actuator.map_err(|why| section.mistake("kind", why.to_string())).ok()?;
    Some(Driver { name: String::new(), actuator: Arc::new(actuator), in_flight, timeout, summary })
}

/// Runs a program per command.
#[derive(Debug)]
pub struct ExecActuator {
    config: ExecConfig,
    running: Semaphore,
    reading: Semaphore,
}

/// The maximum length of a machine name that is passed to a program.
const NAME_MAX: usize = 128;
impl ExecActuator {
    /// An actuator that runs these commands.
    ///
    /// # Errors
    /// When a command has no program, does not say where the machine's name goes, or a limit is
    /// zero.
    pub fn new(config: ExecConfig) -> Result<Self, ExecConfigError> {
        config.check()?;
        let concurrency = config.concurrency.min(Semaphore::MAX_PERMITS);
        let reading = Semaphore::new((concurrency / 2).max(1));
        Ok(Self { config, running: Semaphore::new(concurrency), reading })
    }

    /// Runs one command to its end. The time limit begins when the command starts, and not while it
    /// waits for others.
    async fn run(
        &self,
        template: &[String],
        machine: &MachineId,
    ) -> Result<Vec<u8>, ActuatorError> {
        let argv = fill(template, machine)?;
        let _turn = self.running.acquire().await.expect("the semaphore is never closed");
        program::run(&argv, &[], self.config.timeout).await
    }
}

impl Actuator for ExecActuator {
    fn sleep<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>> {
        Box::pin(async move { self.run(&self.config.sleep, machine).await.map(drop) })
    }

    fn wake<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>> {
        Box::pin(async move { self.run(&self.config.wake, machine).await.map(drop) })
    }

    fn read<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<Reading, ActuatorError>> {
        Box::pin(async move {
            let _turn = self.reading.acquire().await.expect("the semaphore is never closed");
            let output = self.run(&self.config.read, machine).await?;
            parse(&output, clock::wall()).map_err(|why| ActuatorError::Unreadable { why })
        })
    }
}

/// Puts the machine's name into the arguments.
fn fill(template: &[String], machine: &MachineId) -> Result<Vec<String>, ActuatorError> {
    let name = machine.as_str();
    let refused =
        |why: &str| ActuatorError::Failed { why: format!("machine name {}: {why}", shown(name)) };
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(refused("must have 1 to 128 characters"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`')) {
        return Err(refused("must be printable ASCII without spaces and quotes"));
    }
    if name.starts_with('-') && template.iter().any(|argument| argument.starts_with(MACHINE)) {
        return Err(refused("starts with '-' and would be taken for an option"));
    }
    let filled = template.iter().skip(1).map(|argument| argument.replace(MACHINE, name));
    Ok(template.first().cloned().into_iter().chain(filled).collect())
}

fn parse(output: &[u8], read_at: Timestamp) -> Result<Reading, String> {
    if output.len() > OUTPUT_MAX_BYTES {
        return Err(format!("more than {OUTPUT_MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(output).map_err(|_| "not text".to_owned())?;
    let mut words = text.split_whitespace();
    let state = match words.next() {
        Some("awake") => DeviceState::Awake,
        Some("asleep") => DeviceState::Asleep,
        Some(other) => return Err(format!("{} is neither awake nor asleep", shown(other))),
        None => return Err("nothing was printed".into()),
    };
    let watts = match words.next() {
        None => None,
        Some(word) => {
            let watts = word.parse::<f64>().ok().filter(|watts| *watts >= 0.0);
            let watts = watts.and_then(|watts| Watts::from_kw(watts / 1000.0));
            Some(watts.ok_or_else(|| format!("{} is no power in watts", shown(word)))?)
        }
    };
    if let Some(more) = words.next() {
        return Err(format!("unexpected {} after the state", shown(more)));
    }
    Ok(Reading { state, watts, read_at })
}

/// A word of a program's output for a message: shortened, with control characters escaped.
fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests;
