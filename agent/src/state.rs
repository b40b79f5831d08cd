//! What an agent must remember across a restart, and the file it lies in.
//!
//! The file is replaced whole: written beside, synced, renamed, and the folder synced. A file that cannot be understood is
//! refused, never overwritten: it is the only record of which machines this agent put to sleep.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use directive::{MachineId, Saved};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentState {
    /// The timeline held, and the standings as applied.
    pub saved: Saved,
    /// Machines that sleep, or were told to.
    pub marks: BTreeMap<MachineId, Mark>,
}

/// What is remembered of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Who put it to sleep.
    pub asleep_by: AsleepBy,
    /// When this agent last told it to.
    pub slept_at: Option<Timestamp>,
}

/// Who put a machine to sleep. Only what we put to sleep may we wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsleepBy {
    /// This agent.
    Us,
    /// Somebody else: it slept before we had a reason to tell it.
    Other,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system said no.
    #[error("state file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is there and cannot be understood.
    #[error(
        "state file {}: not readable as an agent's state ({why}); it tells which machines this agent put to sleep: \
         repair it, or remove it to start without that knowledge",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The file, which one agent owns.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

/// The format's number. A file with a higher one comes from a later version and is refused.
const FORMAT: u32 = 1;
/// Larger than the state of any site we know of (100,000 machines, named in 100 steps).
const FILE_MAX_BYTES: u64 = 512 << 20;

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

impl StateFile {
    /// Opens the file at `path` and reads it. A missing one is a first start.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or is no agent's state.
    pub fn open(path: &Path) -> Result<(Self, AgentState), StateError> {
        let io = |source| StateError::Io { path: path.into(), source };
        let corrupt = |why: String| StateError::Corrupt { path: path.into(), why };
        let file = Self { path: path.into() };
        let size = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((file, AgentState::default())),
            Err(error) => return Err(io(error)),
        };
        if size > FILE_MAX_BYTES {
            return Err(corrupt(format!("{size} bytes, more than {FILE_MAX_BYTES}")));
        }
        let bytes = fs::read(path).map_err(io)?;
        let found: Found = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if found.format != FORMAT {
            return Err(corrupt(format!("format {}, this version knows {FORMAT}", found.format)));
        }
        Ok((file, found.state))
    }

    /// Replaces the file. When this returns, the state survives a power cut.
    ///
    /// # Errors
    /// When the file system says no; the former file is then still whole.
    pub fn save(&self, state: &AgentState) -> Result<(), StateError> {
        self.replace(state).map_err(|source| StateError::Io { path: self.path.clone(), source })
    }

    fn replace(&self, state: &AgentState) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&Written { format: FORMAT, state })?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        let (file, empty) = StateFile::open(&path).unwrap();
        assert_eq!(empty, AgentState::default());
        let mut state = AgentState::default();
        state.marks.insert("a.1".into(), Mark { asleep_by: AsleepBy::Us, slept_at: Some(Timestamp::UNIX_EPOCH) });
        file.save(&state).unwrap();
        assert_eq!(StateFile::open(&path).unwrap().1, state);
    }

    #[test]
    fn a_file_that_is_no_state_is_refused_by_name_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        for bad in ["", "{", "[]", r#"{"format":2,"state":{"saved":{"timeline":null,"applied":{}},"marks":{}}}"#] {
            fs::write(&path, bad).unwrap();
            let error = StateFile::open(&path).unwrap_err();
            assert!(matches!(error, StateError::Corrupt { .. }), "{bad}: {error}");
            assert!(error.to_string().contains("agent.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn a_failed_save_leaves_the_former_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        let (file, state) = StateFile::open(&path).unwrap();
        file.save(&state).unwrap();
        fs::create_dir(dir.path().join("agent.json.new")).unwrap();
        assert!(matches!(file.save(&state).unwrap_err(), StateError::Io { .. }));
        assert_eq!(StateFile::open(&path).unwrap().1, state);
    }
}
