//! `kind = "exec"`: a driver that runs a program for each command, for any device for which a site
//! has a tool.
//!
//! No shell is involved: a command is a list of arguments in which `{machine}` stands for the
//! machine's name. Names come from miners and are checked before they reach a program. What the
//! program prints is read up to a limit, the rest is thrown away. Exit status 0 means that the
//! command was sent; only [`directive::Actuator::read`] tells whether the machine sleeps.

mod config;

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use daemon::clock;
use daemon::settings::Section;
use directive::{Actuator, ActuatorError, DeviceState, MachineId, Pending, Reading, Watts};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::driver::Driver;
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
/// The maximum number of bytes kept of a program's output.
const OUTPUT_MAX_BYTES: usize = 4096;
/// The maximum number of characters of a program's error output in a message.
const COMPLAINT_MAX: usize = 200;
/// How long a pipe may stay open after the program has ended: one of its children may hold it.
const PIPE_GRACE: Duration = Duration::from_millis(100);

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
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .map_err(|error| ActuatorError::Failed { why: format!("{}: {error}", argv[0]) })?;
        let group = Group::of(&child);
        let Ok(ended) = tokio::time::timeout(self.config.timeout, finish(&mut child)).await else {
            // The program is killed and reaped here, so that nothing of it is left when the machine
            // gets its next command.
            drop(group);
            drop(child.kill().await);
            return Err(ActuatorError::Timeout { millis: millis(self.config.timeout) });
        };
        group.ended();
        let ended = ended
            .map_err(|error| ActuatorError::Failed { why: format!("{}: {error}", argv[0]) })?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        Err(ActuatorError::Refused { why: complaint(ended.status, &ended.stderr) })
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

/// A program with all processes that it has started: a script's children would otherwise outlive
/// it, and carry out its command after a newer one. Dropping this kills them. It must be dropped
/// before the program is reaped, because then the process id may belong to another process.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.and_then(rustix::process::Pid::from_raw))
    }

    /// Records that the program ended by itself: processes that it left behind were left on
    /// purpose.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The process group may have ended just now.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Waits for the program's end and reads its output. A pipe that stays open after that is read for
/// [`PIPE_GRACE`] only.
async fn finish(child: &mut Child) -> std::io::Result<Ended> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let pipes =
            async { tokio::join!(keep_some(out, &mut stdout), keep_some(err, &mut stderr)) };
        tokio::pin!(pipes);
        let mut closed = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = &mut pipes, if !closed => closed = true,
            }
        };
        if !closed {
            // After a timeout, the output read so far is used.
            let _gave_up = tokio::time::timeout(PIPE_GRACE, pipes).await;
        }
        status
    };
    Ok(Ended { status, stdout, stderr })
}

/// Reads to the end and keeps one byte more than allowed, so that too much output can be detected.
async fn keep_some(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut scratch = [0u8; 1024];
    // A pipe that fails has ended: the output before that is used.
    while let Ok(count @ 1..) = pipe.read(&mut scratch).await {
        let room = (OUTPUT_MAX_BYTES + 1).saturating_sub(kept.len());
        kept.extend_from_slice(&scratch[..count.min(room)]);
    }
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

fn complaint(status: ExitStatus, stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let said: String = said.trim().escape_debug().take(COMPLAINT_MAX).collect();
    if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
}

/// A word of a program's output for a message: shortened, with control characters escaped.
fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(40).collect::<String>())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
