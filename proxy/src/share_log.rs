//! The share log: one line for each submit, for settlement. The code that counts a share's outcome
//! passes an [`Entry`] to the queue of one writing thread and goes on; nothing here makes a share
//! wait.
//!
//! An entry is lost and counted if the queue has no room for it, or if writing has failed for so
//! long that the buffer is full. A line in the share log then says how many are missing, so that a
//! reader always knows whether the sums are complete. [`mod@line`] makes the lines, [`writer`]
//! decides what to write when, [`disk`] handles the files.

mod disk;
mod entry;
mod line;
pub(crate) mod metrics;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tracing::error;

use crate::target::PerTarget;
use disk::Disk;
use entry::Message;
pub use entry::ShareLogConfig;
pub(crate) use entry::{Entry, ShareRefusal};
use metrics::{Lost, ShareLogMetrics};
use writer::Writer;

/// Maximum number of entries that wait for the writer: two seconds of a very large farm.
const QUEUE: usize = 32_768;

/// A handle for writing entries. Clones write into the same log.
#[derive(Clone)]
pub(crate) struct ShareLog {
    queue: SyncSender<Message>,
    /// Lost entries that are not reported in the log yet.
    lost: Arc<AtomicU64>,
    metrics: ShareLogMetrics,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for ShareLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareLog").finish_non_exhaustive()
    }
}

impl ShareLog {
    /// Opens the log and starts its thread. `proxy` and `targets` are the names that the lines
    /// show.
    pub(crate) fn open(
        config: &ShareLogConfig,
        proxy: &str,
        targets: PerTarget<String>,
        metrics: ShareLogMetrics,
    ) -> std::io::Result<Self> {
        let (disk, before) = Disk::open(&config.dir, daemon::clock::wall())?;
        let lost = Arc::new(AtomicU64::new(0));
        let writer =
            Writer::new(disk, before, config, proxy, targets, lost.clone(), metrics.clone());
        let (queue, entries) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("share-log".into())
            .spawn(move || writer.run(&entries))?;
        Ok(Self { queue, lost, metrics, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Passes an entry to the writing thread. If the queue is full, the entry is lost and counted.
    pub(crate) fn write(&self, entry: Entry) {
        if self.queue.try_send(Message::Entry(entry)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.dropped.count(Lost::QueueFull);
        }
    }

    /// Writes all entries that were passed on, and ends the log. Later entries are lost.
    pub(crate) async fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        let queue = self.queue.clone();
        let closing = tokio::task::spawn_blocking(move || {
            // This fails if the thread has panicked, which the join reports.
            let _ = queue.send(Message::Close);
            thread.join()
        });
        if !matches!(closing.await, Ok(Ok(()))) {
            error!("the share log's thread ended badly: its last lines may be missing");
        }
    }
}

#[cfg(test)]
mod tests;
