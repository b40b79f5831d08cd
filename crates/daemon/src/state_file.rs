//! A small state that must survive the process: a JSON file that is always replaced as a whole, so
//! that a crash leaves either the old state or the new one. The owner of the state interprets it,
//! and decides what to do if there is none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum length of a state file, in bytes.
pub const STATE_MAX: u64 = 64 * 1024 * 1024;

/// The file. Reading and writing block: do not call them where a task must not wait.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Held while writing, because all writers use the same temporary file.
    writing: Mutex<()>,
}

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system reported an error. Trying again may help.
    #[error("state file {}: {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    /// The file exists, but its content is not valid. Trying again does not help.
    #[error("state file {} is corrupt: {source}; move it away to start without it", path.display())]
    Corrupt { path: PathBuf, source: serde_json::Error },
    /// The file is longer than [`STATE_MAX`].
    #[error("state file {} is longer than {STATE_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    /// The value cannot be written as JSON.
    #[error("state for {} cannot be written as JSON: {source}", path.display())]
    Unwritable { path: PathBuf, source: serde_json::Error },
}

impl StateFile {
    /// Sets the path. The file need not exist, but its folder must.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), writing: Mutex::new(()) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state. Returns `None` if there is no file, and an error with its path if its
    /// content is not valid.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(self.io("open", err)),
        };
        let mut bytes = Vec::new();
        file.take(STATE_MAX + 1).read_to_end(&mut bytes).map_err(|err| self.io("read", err))?;
        if bytes.len() as u64 > STATE_MAX {
            return Err(StateError::TooLong { path: self.path.clone() });
        }
        let corrupt = |source| StateError::Corrupt { path: self.path.clone(), source };
        serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
    }

    /// Replaces the state. When this returns, the new state is on disk; after an error the old one
    /// still is.
    pub fn store<T: Serialize>(&self, state: &T) -> Result<(), StateError> {
        let unwritable = |source| StateError::Unwritable { path: self.path.clone(), source };
        let bytes = serde_json::to_vec(state).map_err(unwritable)?;
        if bytes.len() as u64 > STATE_MAX {
            return Err(StateError::TooLong { path: self.path.clone() });
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = self.temporary();
        let written = self.write(&temporary, &bytes);
        if written.is_err() {
            // A failure is ignored: the next store truncates the file anyway.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write(&self, temporary: &Path, bytes: &[u8]) -> Result<(), StateError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(temporary).map_err(|err| self.io("create", err))?;
        file.write_all(bytes).map_err(|err| self.io("write", err))?;
        file.sync_all().map_err(|err| self.io("sync", err))?;
        fs::rename(temporary, &self.path).map_err(|err| self.io("rename", err))?;
        // Syncs the folder: otherwise the rename may be lost when power fails.
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|err| self.io("sync the folder", err))
    }

    /// The path of the temporary file. It is in the same folder, because a rename cannot cross file
    /// systems.
    fn temporary(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        self.path.with_file_name(name)
    }

    fn io(&self, action: &'static str, source: io::Error) -> StateError {
        StateError::Io { path: self.path.clone(), action, source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("state.json"));
        assert_eq!(file.load::<Vec<u32>>().unwrap(), None);
        file.store(&vec![1, 2, 3]).unwrap();
        file.store(&vec![4]).unwrap();
        assert_eq!(file.load::<Vec<u32>>().unwrap(), Some(vec![4]));
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["state.json"]);
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_half_written_temporary_file_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("state.json"));
        file.store(&1).unwrap();
        fs::write(folder.path().join("state.json.new"), "{\"half").unwrap();
        assert_eq!(file.load::<u32>().unwrap(), Some(1));
        file.store(&2).unwrap();
        assert_eq!(file.load::<u32>().unwrap(), Some(2));
    }

    #[test]
    fn a_corrupt_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("state.json"));
        for bytes in [&b""[..], b"{\"a\":", b"\xff\xfe", b"[1]junk"] {
            fs::write(file.path(), bytes).unwrap();
            let err = file.load::<Vec<u32>>().unwrap_err();
            assert!(matches!(err, StateError::Corrupt { .. }));
            assert!(err.to_string().contains("state.json is corrupt: "), "{err}");
        }
    }

    #[test]
    fn a_missing_folder_is_an_error_and_the_old_state_stays() {
        let folder = tempfile::tempdir().unwrap();
        let gone = StateFile::new(folder.path().join("none").join("state.json"));
        let err = gone.store(&1).unwrap_err().to_string();
        assert!(err.contains("none/state.json: create: "), "{err}");
        let file = StateFile::new(folder.path().join("state.json"));
        file.store(&1).unwrap();
        fs::create_dir(folder.path().join("state.json.new")).unwrap();
        assert!(matches!(file.store(&2), Err(StateError::Io { action: "create", .. })));
        assert_eq!(file.load::<u32>().unwrap(), Some(1));
    }
}
