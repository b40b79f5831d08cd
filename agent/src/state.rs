//! The state that an agent keeps across a restart, and its file.
//!
//! A file that cannot be read is refused and never overwritten: it is the only record of which
//! machines this agent put to sleep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use directive::{AsleepBy, MachineId, Saved};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guard::GuardSaved;

/// Everything that survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentState {
    /// The timeline held, and the standings as applied.
    pub saved: Saved,
    /// Machines that are asleep, or were commanded to sleep.
    pub marks: BTreeMap<MachineId, Mark>,
    /// The guard's table and holds. Files of older versions do not have it.
    #[serde(default, skip_serializing_if = "GuardSaved::is_empty")]
    pub guard: GuardSaved,
    /// The number of the newest intent ([`crate::journal::Intent`]) that `marks` contains. Files of
    /// older versions do not have it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub intents: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is remembered of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Who put the machine to sleep.
    pub asleep_by: AsleepBy,
    /// When this agent last commanded the machine to sleep.
    pub slept_at: Option<Timestamp>,
    /// When this agent last commanded the machine to wake, while the machine may still be booting.
    /// Files of older versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woken_at: Option<Timestamp>,
}

impl Mark {
    /// The mark of a machine that this agent, or a former life of it, put to sleep.
    #[must_use]
    pub fn ours(slept_at: Option<Timestamp>) -> Self {
        Self { asleep_by: AsleepBy::Us, slept_at, woken_at: None }
    }
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AgentStateError {
    /// The file cannot be read or written, or is not a state file.
    #[error(transparent)]
    File(#[from] daemon::state_file::StateError),
    /// A later version wrote it.
    #[error("state file {}: format {found}, this version knows {FORMAT}", path.display())]
    Format {
        path: PathBuf,
        /// The format number in the file.
        found: u32,
    },
}

/// The state file. One agent owns it.
#[derive(Debug)]
pub struct AgentStateFile {
    file: daemon::state_file::StateFile,
}

/// The format number of the file. A file with a different number comes from a different version and
/// is refused.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    state: &'a AgentState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    format: u32,
    state: AgentState,
}

impl AgentStateFile {
    /// Opens and reads the file at `path`. A missing file means a first start.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or is no agent's state.
    pub fn open(path: &Path) -> Result<(Self, AgentState), AgentStateError> {
        let file = daemon::state_file::StateFile::new(path);
        let state = match file.load::<Found>()? {
            Some(Found { format: FORMAT, state }) => state,
            Some(Found { format: found, .. }) => {
                return Err(AgentStateError::Format { path: path.into(), found });
            }
            None => AgentState::default(),
        };
        Ok((Self { file }, state))
    }

    /// Replaces the file. When this returns, the state survives a power cut.
    ///
    /// # Errors
    /// When the file system reports an error; the old file is then still intact.
    pub fn save(&self, state: &AgentState) -> Result<(), AgentStateError> {
        Ok(self.file.store(&Written { format: FORMAT, state })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use directive::GuardHold;
    use std::fs;

    #[test]
    fn what_was_saved_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        let (file, empty) = AgentStateFile::open(&path).unwrap();
        assert_eq!(empty, AgentState::default());
        let mut state = AgentState::default();
        state.marks.insert("a.1".into(), Mark::ours(Some(Timestamp::UNIX_EPOCH)));
        file.save(&state).unwrap();
        assert_eq!(AgentStateFile::open(&path).unwrap().1, state);
        let older = fs::read_to_string(&path).unwrap();
        assert!(!older.contains("intents"), "nor does it number intents");
        assert!(!older.contains("guard"), "a file without a guard is that of an older version");
        let machines = vec!["a.1".into()];
        state.guard = GuardSaved {
            table: None,
            last_hold: 2,
            holds: vec![GuardHold { number: 2, feed: "f".into(), machines }],
        };
        file.save(&state).unwrap();
        assert_eq!(AgentStateFile::open(&path).unwrap().1, state);
    }

    #[test]
    fn a_file_that_is_no_state_is_refused_by_name_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        for bad in [
            "",
            "{",
            "[]",
            r#"{"format":2,"state":{"saved":{"timeline":null,"applied":{}},"marks":{}}}"#,
        ] {
            fs::write(&path, bad).unwrap();
            let error = AgentStateFile::open(&path).unwrap_err();
            assert!(error.to_string().contains("agent.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn a_failed_save_leaves_the_former_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        let (file, state) = AgentStateFile::open(&path).unwrap();
        file.save(&state).unwrap();
        fs::create_dir(dir.path().join("agent.json.new")).unwrap();
        assert!(file.save(&state).is_err());
        assert_eq!(AgentStateFile::open(&path).unwrap().1, state);
    }
}
