//! The share log: one line for each submit, for settlement. Whoever decides a share's fate hands an
//! [`Entry`] to the queue of one writing thread and goes on; nothing here ever makes a share wait.
//!
//! What finds no room in the queue, or cannot be written for long, is lost, counted, and leaves a
//! line that says how many are missing: a reader always knows whether the sums are whole. The lines
//! are made in [`line`], what happens when is decided in [`writer`], the file is the business of
//! [`disk`].

mod disk;
mod line;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use stratum::error::RejectCode;
use tracing::error;

use crate::label::Label as _;
use crate::metrics::{Lost, Metrics};
use crate::outcome::Outcome;
use crate::reasons::Reject;
use crate::work::LaneWork;
use disk::Disk;
use writer::Writer;

/// What the operator wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareLogConfig {
    pub dir: PathBuf,
    /// A file that has reached this is closed, and another begun.
    pub rotate_bytes: u64,
    /// So is one from another such interval, counted from 1970 in UTC.
    pub rotate_every: Duration,
    /// Closed files kept; the oldest go first.
    pub keep: usize,
}

/// Entries that may wait for the writer: two seconds of a very large farm.
const QUEUE: usize = 32_768;

/// A submit, as far as it is known before its end.
#[derive(Debug)]
pub(crate) struct Record {
    /// When it was read.
    pub(crate) read_at: Instant,
    pub(crate) session: u64,
    /// Who the submit says it is from; of one that cannot be read, whose session it is.
    pub(crate) worker_name: Option<Box<str>>,
    /// Its job, where one was found.
    pub(crate) work: Option<Arc<LaneWork>>,
    /// The difficulty advertised with the job.
    pub(crate) difficulty: Option<f64>,
    /// The difficulty its hash would have met.
    pub(crate) found: Option<f64>,
    /// It meets the network target.
    pub(crate) block: bool,
}

impl Record {
    /// Begins with what is known as soon as a submit was read.
    pub(crate) fn new(session: u64, worker_name: Option<&str>, read_at: Instant) -> Self {
        let worker_name = worker_name.map(Into::into);
        Self {
            read_at,
            session,
            worker_name,
            work: None,
            difficulty: None,
            found: None,
            block: false,
        }
    }
}

/// A submit and its end.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    pub(crate) record: Box<Record>,
    pub(crate) verdict: Outcome,
    pub(crate) refusal: Option<Refusal>,
    /// From the reading to the end.
    pub(crate) latency: Duration,
}

/// Why a submit was refused: our reason, or a pool's code and words.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Ours(Reject),
    Pools(RejectCode, Arc<str>),
}

impl Refusal {
    fn code(&self) -> RejectCode {
        match self {
            Self::Ours(reject) => reject.code(),
            Self::Pools(code, _) => *code,
        }
    }

    fn words(&self) -> &str {
        match self {
            Self::Ours(reject) => reject.label(),
            Self::Pools(_, words) => words,
        }
    }
}

enum Message {
    Entry(Entry),
    Close,
}

/// The log's end toward those who decide. Clones write into the same log.
#[derive(Clone)]
pub(crate) struct ShareLog {
    queue: SyncSender<Message>,
    /// Entries that found no room and are not yet told of in the log.
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for ShareLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareLog").finish_non_exhaustive()
    }
}

impl ShareLog {
    /// Opens the log and starts its thread. `proxy` and `targets` are names for the lines.
    pub(crate) fn open(
        config: &ShareLogConfig,
        proxy: &str,
        targets: Vec<String>,
        metrics: Arc<Metrics>,
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

    /// Hands an entry over. Without room it is lost, and told of.
    pub(crate) fn write(&self, entry: Entry) {
        if self.queue.try_send(Message::Entry(entry)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.share_lost(Lost::QueueFull);
        }
    }

    /// Writes all that was handed over, and ends the log. Entries that come later are lost.
    pub(crate) async fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        let queue = self.queue.clone();
        let closing = tokio::task::spawn_blocking(move || {
            // It has gone already if its thread panicked, which the join tells.
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
