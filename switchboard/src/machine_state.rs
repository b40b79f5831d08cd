//! The state of one machine, compared with what is planned for it: the word that the inventory, the
//! views and the texts for people share. [`crate::inventory`] finds it out.

use serde::{Deserialize, Serialize};

/// The state of one machine, compared with what is planned for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    Running,
    /// The machine's time off is over, but it has not been seen mining since.
    Returning,
    /// The machine was commanded to sleep, and still has time to follow.
    Commanded,
    /// The machine's device reports that it is asleep, but shares may still be in transit.
    Asleep,
    /// The machine is asleep and sends no shares: it is down.
    Curtailed,
    /// The machine gets no work, which proves nothing.
    Starved,
    /// The machine did not fall asleep, or its device reports that it did and it still hashes.
    Disobedient,
    /// The machine's time to follow is over, and its state is unknown.
    Unknown,
}
