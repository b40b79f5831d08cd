//! The state of one machine, compared with what is planned for it: the word that the inventory, the
//! views and the texts for people share. [`crate::inventory`] finds it out.

use serde::{Deserialize, Serialize};

/// The state of one machine, compared with what is planned for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    Running,
    /// Its time off is over, but it has not been seen mining since.
    Returning,
    /// It was commanded to sleep, and still has time to follow.
    Commanded,
    /// Its device reports that it is asleep, but shares may still be in transit.
    Asleep,
    /// It is asleep and sends no shares: it is down.
    Curtailed,
    /// It gets no work, which proves nothing.
    Starved,
    /// It did not fall asleep, or it reports that it did and still hashes.
    Disobedient,
    /// Its time to follow is over, and its state is unknown.
    Unknown,
}
