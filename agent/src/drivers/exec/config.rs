//! The commands of an exec driver, and how its section is read: `sleep`, `wake` and `read` are each a
//! list of a program and its arguments, in which `{machine}` stands for the machine's name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use daemon::settings::Section;

use crate::program::cannot_run;

/// What an exec driver runs, and within which limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecConfig {
    /// Puts a machine to sleep.
    pub sleep: Vec<String>,
    /// Wakes a machine.
    pub wake: Vec<String>,
    /// Prints `awake` or `asleep`, optionally followed by the watts that the machine draws, on one
    /// line.
    pub read: Vec<String>,
    /// A command that takes longer is killed.
    pub timeout: Duration,
    /// The maximum number of commands that run at once. Reads take at most half of it (rounded
    /// down, but at least one), so that a command need not wait for reads of devices that do not
    /// answer.
    pub concurrency: usize,
}

/// Why a configuration cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecConfigError {
    #[error("{command}: empty")]
    Empty { command: &'static str },
    /// A worker name, which comes from a miner, would choose the program.
    #[error("{command}[0]: the program may not contain {{machine}}")]
    MachineInProgram { command: &'static str },
    /// The command would not know which machine is meant.
    #[error("{command}: no argument contains {{machine}}")]
    NoMachine { command: &'static str },
    #[error("{key}: must be more than 0")]
    Zero { key: &'static str },
}

/// The placeholder for the machine's name.
pub(super) const MACHINE: &str = "{machine}";

impl ExecConfig {
    /// Checks that every command has a program and says where the machine's name goes, and that no
    /// limit is zero.
    pub(super) fn check(&self) -> Result<(), ExecConfigError> {
        for (command, argv) in [("sleep", &self.sleep), ("wake", &self.wake), ("read", &self.read)]
        {
            let Some((program, arguments)) = argv.split_first() else {
                return Err(ExecConfigError::Empty { command });
            };
            if program.is_empty() {
                return Err(ExecConfigError::Empty { command });
            }
            if program.contains(MACHINE) {
                return Err(ExecConfigError::MachineInProgram { command });
            }
            if !arguments.iter().any(|argument| argument.contains(MACHINE)) {
                return Err(ExecConfigError::NoMachine { command });
            }
        }
        if self.timeout.is_zero() {
            return Err(ExecConfigError::Zero { key: "timeout" });
        }
        if self.concurrency == 0 {
            return Err(ExecConfigError::Zero { key: "concurrency" });
        }
        Ok(())
    }

    /// Reads the keys of a `[driver.NAME]` section. `None` after a mistake.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let mut missing = BTreeSet::new();
        let [sleep, wake, read] =
            ["sleep", "wake", "read"].map(|key| read_command(section, key, &mut missing));
        let timeout = section.duration_or("timeout", TIMEOUTS, TIMEOUT);
        let concurrency = section.integer_or("concurrency", 1..=1024_u16, CONCURRENCY);
        Some(Self {
            sleep: sleep?,
            wake: wake?,
            read: read?,
            timeout,
            concurrency: usize::from(concurrency),
        })
    }
}

/// Reads one command. A program that cannot be run on this machine causes one warning for each
/// driver: `missing` has the programs that were already reported.
fn read_command<'a>(
    section: &Section<'a>,
    key: &str,
    missing: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    let command = section.required_strings(key)?;
    let (&program, arguments) = command.split_first()?;
    if program.contains(MACHINE) || (arguments.is_empty() && program.contains(char::is_whitespace))
    {
        let how =
            "write a list, the program first: [\"/usr/local/bin/miner\", \"sleep\", \"{machine}\"]";
        section.mistake(key, format!("{program:?} is no program; {how}"));
        return None;
    }
    if !arguments.iter().any(|argument| argument.contains(MACHINE)) {
        section.mistake(
            key,
            "no argument holds {machine}, so the command could not tell the machines apart",
        );
        return None;
    }
    if let Some(why) = cannot_run(program)
        && missing.insert(program)
    {
        let message = format!("{program:?} {why}: its machines could not be commanded");
        section.document().warn(&section.spot_in(key, 0), message, None);
    }
    Some(command.into_iter().map(str::to_owned).collect())
}

const CONCURRENCY: u16 = 8;
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
