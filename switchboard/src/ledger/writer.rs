//! The only thread that writes the ledger. All waiting batches go into one commit, so that many
//! answers share one disk sync.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::{Entry, Head, LedgerError, LedgerStore};

/// The maximum number of waiting batches; at the bound, a further one is refused at once.
const WAITING: usize = 64;
/// The maximum number of batches in one commit.
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
    /// The writer has ended.
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

    /// Appends `entries`. The answer comes when all of them are durable, or none was stored.
    #[must_use]
    pub fn append(&self, entries: Vec<Entry>) -> oneshot::Receiver<Result<Head, WriteError>> {
        let (done, answer) = oneshot::channel();
        if let Err(refused) = self.batches.try_send(Batch { entries, done }) {
            let (batch, error) = match refused {
                mpsc::error::TrySendError::Full(batch) => (batch, WriteError::Busy),
                mpsc::error::TrySendError::Closed(batch) => (batch, WriteError::Closed),
            };
            // This fails only if the caller no longer waits for the answer.
            drop(batch.done.send(Err(error)));
        }
        answer
    }

    /// Ends the thread after it has written the waiting batches, and waits for its end.
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
