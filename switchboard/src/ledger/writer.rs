//! The one thread that writes the ledger. All waiting batches go into one commit, so that many
//! answers share one sync of the disk.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::{Entry, Head, LedgerError, LedgerStore};

/// Batches that may wait; a further one is refused at once.
const WAITING: usize = 64;
/// Batches that share one commit at most.
const TOGETHER: usize = 256;

/// Why a batch is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The disk is full.
    #[error("the ledger has no room: {0}")]
    Full(String),
    #[error("the ledger failed: {0}")]
    Failed(String),
    #[error("the ledger is busy: {WAITING} batches wait")]
    Busy,
    /// The writer is gone.
    #[error("the ledger is closed")]
    Closed,
}

struct Batch {
    entries: Vec<Entry>,
    done: oneshot::Sender<Result<Head, WriteError>>,
}

/// A handle to the writing thread. When it is dropped, the thread ends and releases the ledger.
#[derive(Debug)]
pub struct LedgerWriter {
    batches: mpsc::Sender<Batch>,
    thread: Option<JoinHandle<()>>,
}

impl LedgerWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(store: impl LedgerStore) -> std::io::Result<Self> {
        let (batches, waiting) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write(store, waiting))?;
        Ok(Self { batches, thread: Some(thread) })
    }

    /// Appends `entries`; the answer comes when they are durable. All of them are in the ledger
    /// then, or none.
    #[must_use]
    pub fn append(&self, entries: Vec<Entry>) -> oneshot::Receiver<Result<Head, WriteError>> {
        let (done, answer) = oneshot::channel();
        if let Err(refused) = self.batches.try_send(Batch { entries, done }) {
            let (batch, error) = match refused {
                mpsc::error::TrySendError::Full(batch) => (batch, WriteError::Busy),
                mpsc::error::TrySendError::Closed(batch) => (batch, WriteError::Closed),
            };
            // The receiver is gone only if the caller gave up.
            drop(batch.done.send(Err(error)));
        }
        answer
    }

    /// Ends the thread after what waits, and waits for it.
    pub fn close(mut self) {
        let (closed, _) = mpsc::channel(1);
        self.batches = closed;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn write(mut store: impl LedgerStore, mut waiting: mpsc::Receiver<Batch>) {
    let mut batches = Vec::new();
    while waiting.blocking_recv_many(&mut batches, TOGETHER) > 0 {
        let all: Vec<Entry> = batches.iter().flat_map(|batch| &batch.entries).cloned().collect();
        let result = store.append(&all).map_err(|error| match error {
            LedgerError::Full(why) => WriteError::Full(why),
            other => WriteError::Failed(other.to_string()),
        });
        for batch in batches.drain(..) {
            drop(batch.done.send(result.clone()));
        }
    }
}
