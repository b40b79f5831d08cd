//! Reports when a file was changed, whichever way an editor or a deployment does that: by writing
//! it in place, by a rename, or by changing a link. The caller reads the file, and keeps the old
//! content if the new one is invalid.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify_debouncer_full::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use tokio::sync::Notify;
use tracing::warn;

/// How long a file must be unchanged before a change is reported: a program that writes in place
/// may not have finished.
pub const QUIET: Duration = Duration::from_millis(500);

/// How often the file is checked where the system reports no changes (network file systems, or no
/// watches left).
pub const POLL: Duration = Duration::from_secs(2);

/// How many checks in a row may find the file changed again; after that, the change is reported
/// anyway.
const RESTLESS_MAX: u32 = 20;

/// A watch on one file. The file need not exist yet.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    seen: Option<Print>,
    hint: Arc<Notify>,
    /// Dropping this ends the system's watch.
    _watcher: Option<Debouncer<RecommendedWatcher, RecommendedCache>>,
}

/// The properties that distinguish two versions of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    modified: (i64, i64),
    len: u64,
    inode: u64,
}

impl FileWatch {
    /// Starts to watch. If the system offers no watch, the file is only polled.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let hint = Arc::new(Notify::new());
        // Read before the watch starts, so that no change is missed in between.
        let seen = Print::of(&path);
        let watcher = watch_folder(&path, hint.clone())
            .inspect_err(|err| warn!(path = %path.display(), %err, "no watch on the file's folder, polling it"))
            .ok();
        Self { path, seen, hint, _watcher: watcher }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file differs from what it was when the watch was made, or when this last
    /// returned, and no longer changes. Several changes in a row count as one; so does a removal.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let mut now = Print::of(&self.path);
            if now != self.seen {
                for _ in 0..RESTLESS_MAX {
                    tokio::time::sleep(QUIET).await;
                    let later = Print::of(&self.path);
                    if later == now {
                        break;
                    }
                    now = later;
                }
                // The file may be the same as before, after it was renamed away and back.
                if now != self.seen {
                    self.seen = now;
                    return;
                }
            }
            tokio::select! {
                () = self.hint.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

impl Print {
    fn of(path: &Path) -> Option<Self> {
        let facts = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: (facts.mtime(), facts.mtime_nsec()),
            len: facts.len(),
            inode: facts.ino(),
        })
    }
}

/// Watches the folder and not the file, because a rename puts a different file in its place.
fn watch_folder(
    path: &Path,
    hint: Arc<Notify>,
) -> notify_debouncer_full::notify::Result<Debouncer<RecommendedWatcher, RecommendedCache>> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut watcher =
        new_debouncer(QUIET / 5, None, move |_: DebounceEventResult| hint.notify_one())?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn within(watch: &mut FileWatch, secs: u64) -> bool {
        tokio::time::timeout(Duration::from_secs(secs), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn writing_in_place_renaming_over_and_removing_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let mut watch = FileWatch::new(&path);
        fs::write(&path, "a = 1").unwrap();
        assert!(within(&mut watch, 20).await, "created");
        fs::write(&path, "a = 22").unwrap();
        assert!(within(&mut watch, 20).await, "written");
        fs::write(folder.path().join("other"), "a = 22").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(within(&mut watch, 20).await, "renamed over");
        fs::remove_file(&path).unwrap();
        assert!(within(&mut watch, 20).await, "removed");
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, "a = 1").unwrap();
        let mut watch = FileWatch::new(&path);
        fs::write(folder.path().join("neighbour"), "b = 1").unwrap();
        assert!(!within(&mut watch, 60).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watch_polling_finds_the_change_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, "a = 1").unwrap();
        let seen = Print::of(&path);
        let mut watch =
            FileWatch { path: path.clone(), seen, hint: Arc::default(), _watcher: None };
        assert!(!within(&mut watch, 10).await);
        for text in ["a = 22", "a = 333", "a = 4444"] {
            fs::write(&path, text).unwrap();
        }
        assert!(within(&mut watch, 10).await);
        assert!(!within(&mut watch, 10).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_folder_is_polled_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later").join("policy.toml");
        let mut watch = FileWatch::new(&path);
        fs::create_dir(folder.path().join("later")).unwrap();
        fs::write(&path, "a = 1").unwrap();
        assert!(within(&mut watch, 10).await);
    }
}
