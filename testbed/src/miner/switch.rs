//! The power switch of a machine, which puts its miner to sleep and wakes it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What sleeping firmware does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SleepKind {
    /// The control board stays on: it reads, answers pings, and reconnects.
    KeepsTcp,
    /// It closes the connection, and reconnects when it wakes.
    DropsTcp,
}

/// A machine's power switch. Clones are the same switch.
#[derive(Debug, Clone)]
pub struct PowerSwitch {
    awake: Arc<watch::Sender<bool>>,
    kind: SleepKind,
}

impl PowerSwitch {
    /// Makes a switch that is on.
    #[must_use]
    pub fn new(kind: SleepKind) -> Self {
        Self { awake: Arc::new(watch::Sender::new(true)), kind }
    }

    /// What the machine's firmware does when it sleeps.
    #[must_use]
    pub const fn kind(&self) -> SleepKind {
        self.kind
    }

    /// Tells whether the machine is awake.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        *self.awake.borrow()
    }

    /// Puts the machine to sleep or wakes it; hashing stops or starts at once.
    pub fn set_awake(&self, awake: bool) {
        self.awake.send_if_modified(|now| std::mem::replace(now, awake) != awake);
    }

    /// Follows a simulated machine: awake while it hashes, asleep while it does not. Returns when
    /// the machine is dropped or `stop` is cancelled.
    pub async fn obey(self, mut hashing: watch::Receiver<bool>, stop: CancellationToken) {
        loop {
            self.set_awake(*hashing.borrow_and_update());
            tokio::select! {
                () = stop.cancelled() => return,
                changed = hashing.changed() => if changed.is_err() { return },
            }
        }
    }

    /// A receiver for the state of the switch.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.awake.subscribe()
    }
}

impl Default for PowerSwitch {
    fn default() -> Self {
        Self::new(SleepKind::KeepsTcp)
    }
}
