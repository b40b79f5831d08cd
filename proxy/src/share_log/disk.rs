//! The files of the share log: the current one, `shares.jsonl`, and closed ones, named after the
//! UTC time of their first line. A closed file is synced to disk, and gets its name by a rename.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

/// The operations of the current file that the writer needs.
pub(super) trait Sink {
    /// Appends some of the bytes, and returns how many.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Syncs the file: returns when everything written is on disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Closes the file and begins another.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()>;
    /// Removes the oldest closed files beyond `keep`, and returns their names.
    fn prune(&mut self, keep: usize) -> io::Result<Vec<String>>;
    /// Begins another file if this one was moved or removed by somebody else. Returns whether that
    /// was so.
    fn reopen(&mut self, now: Timestamp) -> io::Result<bool>;
    /// The size of the file in bytes, and when it was begun.
    fn file(&self) -> (u64, Timestamp);
}

/// What the file held when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) after: &'static str,
    pub(super) torn_bytes: u64,
}

/// The folder, and the current file.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    file: File,
    size: u64,
    begun: Timestamp,
    /// The lock on the folder, held as long as the process runs: the lines of two writers would be
    /// mixed.
    _lock: File,
}

const ACTIVE: &str = "shares.jsonl";
const LOCK: &str = "shares.lock";
/// How many bytes at the end of a file are searched for its last line: several times the longest
/// line.
const TAIL: u64 = 64 * 1024;

impl Disk {
    /// Opens the folder, and continues at the end of the current file. An unfinished line at its
    /// end is removed.
    pub(super) fn open(dir: &Path, now: Timestamp) -> io::Result<(Self, Before)> {
        make(dir)?;
        let lock = options().open(dir.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another process writes there",
                ));
            }
            Err(TryLockError::Error(failure)) => return Err(failure),
        }
        let mut file = options().read(true).open(dir.join(ACTIVE))?;
        let (size, before) = repair(&mut file)?;
        let begun = first_time(&mut file)?.unwrap_or(now);
        Ok((Self { dir: dir.to_owned(), file, size, begun, _lock: lock }, before))
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<()> {
        self.file = options().read(true).open(self.dir.join(ACTIVE))?;
        self.size = self.file.metadata()?.len();
        self.begun = now;
        Ok(())
    }

    /// A name that is not in use: after the clock was set back, two files may have begun in the
    /// same millisecond.
    fn closed_name(&self) -> PathBuf {
        let time = self.begun.strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
        (0..)
            .map(|number| match number {
                0 => self.dir.join(format!("shares-{time}.jsonl")),
                _ => self.dir.join(format!("shares-{time}-{number}.jsonl")),
            })
            .find(|path| !path.exists())
            .expect("a folder does not hold every number")
    }
}

impl Sink for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(self.dir.join(ACTIVE), self.closed_name())?;
        self.begin(now)?;
        // Syncs the folder: otherwise the rename may be lost when power fails.
        File::open(&self.dir)?.sync_all()
    }

    fn prune(&mut self, keep: usize) -> io::Result<Vec<String>> {
        let mut closed = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("shares-") && name.ends_with(".jsonl") {
                closed.push(name);
            }
        }
        closed.sort_unstable();
        closed.truncate(closed.len().saturating_sub(keep));
        for name in &closed {
            fs::remove_file(self.dir.join(name))?;
        }
        Ok(closed)
    }

    fn reopen(&mut self, now: Timestamp) -> io::Result<bool> {
        let written = self.file.metadata()?;
        let there = match fs::metadata(self.dir.join(ACTIVE)) {
            Ok(there) => Some((there.dev(), there.ino())),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => None,
            Err(failure) => return Err(failure),
        };
        if there == Some((written.dev(), written.ino())) {
            return Ok(false);
        }
        make(&self.dir)?;
        self.begin(now)?;
        Ok(true)
    }

    fn file(&self) -> (u64, Timestamp) {
        (self.size, self.begun)
    }
}

/// Makes the folder if it is missing. Only its owner and group may read it, because it shows who
/// earned what; the group is for a log shipper.
fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(dir)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    options
}

/// Removes an unfinished line at the end. Returns the size of the file and its last line.
fn repair(file: &mut File) -> io::Result<(u64, Before)> {
    let size = file.metadata()?.len();
    let from = size.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let torn_bytes = (tail.len() - whole) as u64;
    if torn_bytes > 0 {
        file.set_len(size - torn_bytes)?;
    }
    let last =
        tail[..whole].strip_suffix(b"\n").map(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    let after = match last.flatten().map(serde_json::from_slice::<Any>) {
        None if size == 0 => "nothing",
        Some(Ok(Any { record, .. })) if record == "stop" && torn_bytes == 0 => "stop",
        _ => "crash",
    };
    Ok((size - torn_bytes, Before { after, torn_bytes }))
}

/// When the file's first line was written.
fn first_time(file: &mut File) -> io::Result<Option<Timestamp>> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    file.take(TAIL).read_to_end(&mut head)?;
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice::<Any>(first).ok().map(|line| line.time))
}

/// The keys that every line has.
#[derive(Deserialize)]
struct Any {
    record: String,
    time: Timestamp,
}
