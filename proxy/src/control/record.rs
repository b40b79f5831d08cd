//! Writes down what must survive a restart: the timeline held and what of it is applied.
//!
//! The file is written by a thread for blocking work, so that a slow disk never holds up the thread
//! of the miners. One write is under way at a time; what changes meanwhile goes into the next one.
//! A lowering does not wait for its write. The acknowledgement of a timeline does: what the
//! switchboard takes for heard is still known after a restart.

use std::sync::Arc;

use daemon::state_file::{StateError, StateFile};
use directive::{Generation, Receiver};
use tokio::task::{JoinError, JoinSet};

/// The state file and the write that is under way.
#[derive(Debug)]
pub(crate) struct Record {
    file: Option<Arc<StateFile>>,
    write: JoinSet<(Option<Generation>, Result<(), StateError>)>,
    /// The state has changed since the last write began, or that write failed.
    unsaved: bool,
    /// The newest timeline of which a write has ended.
    tried: Option<Generation>,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the writing thread failed: {0}")]
    Thread(#[from] JoinError),
}

impl Record {
    /// A record in `file`, from which the state of `receiver` was read. Without a file nothing
    /// survives, and nothing is waited for.
    pub(crate) fn new(file: Option<Arc<StateFile>>, receiver: &Receiver) -> Self {
        Self { file, write: JoinSet::new(), unsaved: false, tried: receiver.number() }
    }

    /// Notes that the state has changed.
    pub(super) fn changed(&mut self) {
        self.unsaved = true;
    }

    /// Begins a write, if one is due and none is under way.
    pub(super) fn write(&mut self, receiver: &Receiver) {
        let Some(file) = self.file.clone().filter(|_| self.unsaved && self.write.is_empty()) else {
            return;
        };
        self.unsaved = false;
        let (number, saved) = (receiver.number(), receiver.saved().clone());
        self.write.spawn_blocking(move || (number, file.store(&saved)));
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.write.is_empty()
    }

    /// Waits for the end of the write that is under way; a failed one is due again.
    pub(super) async fn ended(&mut self) -> Result<(), WriteError> {
        let written = match self.write.join_next().await {
            None => Ok(()),
            Some(Ok((number, stored))) => {
                self.tried = number;
                stored.map_err(WriteError::from)
            }
            // Only the end of the runtime cancels a write, and with it whoever waits here.
            Some(Err(failure)) if failure.is_cancelled() => std::future::pending().await,
            Some(Err(failure)) => Err(failure.into()),
        };
        self.unsaved |= written.is_err();
        written
    }

    /// The timeline to acknowledge while `held` is the newest: that of the last write that ended.
    /// One that failed counts, too: it has raised its alarm, and is tried again.
    pub(super) fn acknowledged(&self, held: Option<Generation>) -> Option<Generation> {
        if self.file.is_some() { self.tried } else { held }
    }
}
