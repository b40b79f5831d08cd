//! The message that carries the changes of a view.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::{Generation, MachineId};

/// What changed in a view since the report before, or the whole view.
///
/// Reports of one incarnation are numbered from 1. The reader applies them in that order, and a
/// report with an older number changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta<T> {
    /// Identifies one life of the sender, from start to end: the number differs after each start.
    /// It fits into 53 bits.
    pub incarnation: u64,
    /// The number of the report within the incarnation.
    pub seq: u64,
    /// When the report was made.
    pub at: Timestamp,
    /// The timeline that the sender holds.
    pub number: Option<Generation>,
    /// Whether `changed` has every entry of the view.
    pub full: bool,
    /// The request for a full report that the sender answered last, or 0
    /// ([`crate::Downlink::resync`]).
    pub resync: u64,
    /// The digest of the whole view, with this report's changes.
    pub digest: Digest,
    /// Entries that are new or have changed, each of them whole.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<T>,
    /// Machines that are no longer in the view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<MachineId>,
}
