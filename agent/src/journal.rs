//! The journal: what the agent is about to command, on disk before the command goes.
//!
//! The state file is written beside the commands, so that a process that dies right after a command
//! would not know that it gave it, and the machine would sleep for ever. The journal is an
//! append-only file beside the state file; at a start its lines are folded into the state. When a
//! newer state is on disk, lines that it contains are removed. Lines carry numbers, so that a crash
//! between these two steps neither loses nor repeats one. Lowering never waits long for the
//! journal: how long is decided by `task`.

mod fold;
mod intent;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use fold::{Contents, fold};
pub use intent::{BadLine, Cause, Intent, Order};

/// The maximum length of the file, in bytes. A journal that would become longer is rewritten with
/// the newest lines of each machine; if that is still too long, it takes nothing.
pub const JOURNAL_MAX: u64 = 16 * 1024 * 1024;
/// Above this length, a journal of which only a part is needed is rewritten.
const REWRITE_ABOVE: u64 = 64 * 1024;

/// The file. Reading and writing block: do not call them where a task must not wait.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` while the file cannot be opened.
    file: Option<File>,
    /// Whether the file's contents were read. Until then nothing is removed from it: it may have
    /// intents that nobody else knows.
    is_read: bool,
    /// What was read after the start, until [`Journal::take_late`] takes it.
    late: Option<Contents>,
    /// The intents in the file.
    intents: Vec<Intent>,
    /// The length of the file up to the end of its last whole line.
    length: u64,
    /// Whether something that is no whole line may follow at the end of the file.
    is_torn: bool,
    max: u64,
}

/// Why the journal takes nothing. Trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system reported an error.
    #[error("journal {}: {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    /// The file is as long as it may be.
    #[error("journal {}: full, {JOURNAL_MAX} bytes", path.display())]
    Full { path: PathBuf },
}

impl Journal {
    /// Opens the journal at `path` and reads what it contains. If that fails, the next write tries
    /// it again before it does anything else ([`Journal::take_late`]): the agent starts without its
    /// journal, because lowering must never depend on it.
    pub fn open(path: &Path) -> (Self, Result<Contents, JournalError>) {
        let mut inner = Inner::new(JOURNAL_MAX);
        let contents = inner.load(path);
        (Self { path: path.to_owned(), inner: Mutex::new(inner) }, contents)
    }

    /// Takes what the file contained, if it could not be read at the start and was read since. The
    /// caller adds it to its state, and removes nothing with [`Journal::forget`] before a state that
    /// contains it is on disk.
    pub fn take_late(&self) -> Option<Contents> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).late.take()
    }

    /// A file whose writes hang until the result is dropped.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `intents`. When this returns, they survive a power cut.
    ///
    /// # Errors
    /// When the file takes nothing, or has no room.
    pub fn append(&self, intents: &[Intent]) -> Result<(), JournalError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.append(&self.path, intents)
    }

    /// Removes the intents up to number `known`, which a state on disk contains. If this fails,
    /// they are skipped at the next start. From a file that was not read yet nothing is removed: it
    /// is read instead.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget(&self, known: u64) -> Result<(), JournalError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.is_read {
            return inner.load_late(&self.path);
        }
        inner.intents.retain(|intent| intent.number > known);
        if inner.intents.is_empty() {
            return if inner.length > 0 || inner.is_torn {
                inner.empty(&self.path)
            } else {
                Ok(())
            };
        }
        if inner.length > REWRITE_ABOVE { inner.rewrite(&self.path) } else { Ok(()) }
    }
}

impl Inner {
    fn new(max: u64) -> Self {
        let intents = Vec::new();
        Self { file: None, is_read: false, late: None, intents, length: 0, is_torn: false, max }
    }

    fn load(&mut self, path: &Path) -> Result<Contents, JournalError> {
        let read = self.read(path);
        if read.is_err() {
            self.file = None;
        }
        let (bytes, length) = read?;
        let contents = fold::read(&bytes);
        self.length = length;
        self.is_torn = contents.is_torn;
        self.intents.clone_from(&contents.intents);
        self.is_read = true;
        Ok(contents)
    }

    fn load_late(&mut self, path: &Path) -> Result<(), JournalError> {
        self.late = Some(self.load(path)?);
        Ok(())
    }

    /// Reads the file; of one that is longer than it may be, the end. Returns also its length.
    fn read(&mut self, path: &Path) -> Result<(Vec<u8>, u64), JournalError> {
        let max = self.max;
        let file = self.open(path)?;
        let io = |action| move |source| JournalError::Io { path: path.to_owned(), action, source };
        let length = file.metadata().map_err(io("read"))?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(max))).map_err(io("read"))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes).map_err(io("read"))?;
        Ok((bytes, length))
    }

    fn open(&mut self, path: &Path) -> Result<&mut File, JournalError> {
        let io = |action| move |source| JournalError::Io { path: path.to_owned(), action, source };
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600);
            let file = options.open(path).map_err(io("open"))?;
            // Otherwise the file itself may be lost when power fails.
            sync_folder(path).map_err(io("sync the folder"))?;
            let length = file.metadata().map_err(io("read"))?.len();
            // It may be another file than the one that was open before: what is in it stays.
            if length != self.length {
                (self.length, self.is_torn) = (length, true);
            }
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was opened above"))
    }

    fn append(&mut self, path: &Path, intents: &[Intent]) -> Result<(), JournalError> {
        if !self.is_read {
            self.load_late(path)?;
        }
        let lines: String = intents.iter().map(Intent::to_line).collect();
        if self.length + lines.len() as u64 > self.max {
            self.intents = fold::newest(&self.intents);
            self.rewrite(path)?;
            if self.length + lines.len() as u64 > self.max {
                return Err(JournalError::Full { path: path.to_owned() });
            }
        }
        self.open(path)?;
        // A line must not be glued to what is left of a broken one.
        let separator = if self.is_torn { "\n" } else { "" };
        let text = format!("{separator}{lines}");
        self.is_torn = true;
        let length = self.length;
        let file = self.open(path)?;
        let written = file.write_all(text.as_bytes()).map_err(|error| ("write", error));
        match written.and_then(|()| file.sync_data().map_err(|error| ("sync", error))) {
            Ok(()) => {
                self.length += text.len() as u64;
                self.is_torn = false;
                self.intents.extend_from_slice(intents);
                Ok(())
            }
            Err((action, source)) => {
                // What was written of it is removed, if that is possible; if not, the lines may
                // count at the next start, which is right as well.
                if separator.is_empty() && file.set_len(length).is_ok() {
                    self.is_torn = false;
                }
                // The file system may be another one when the file is opened again.
                self.file = None;
                Err(JournalError::Io { path: path.to_owned(), action, source })
            }
        }
    }

    fn empty(&mut self, path: &Path) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), action: "empty", source };
        self.open(path)?.set_len(0).map_err(io)?;
        (self.length, self.is_torn) = (0, false);
        Ok(())
    }

    /// Replaces the file by one with the intents at hand.
    fn rewrite(&mut self, path: &Path) -> Result<(), JournalError> {
        let lines: String = self.intents.iter().map(Intent::to_line).collect();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&temporary)?;
            file.write_all(lines.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            sync_folder(path)
        };
        write().map_err(|source| JournalError::Io {
            path: path.to_owned(),
            action: "rewrite",
            source,
        })?;
        self.file = None;
        (self.length, self.is_torn) = (lines.len() as u64, false);
        Ok(())
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
