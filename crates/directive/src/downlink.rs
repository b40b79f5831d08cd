//! What the switchboard says to a receiver: state, not events, so that a receiver that was away
//! misses nothing by reading only the latest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Claims, GuardTable, MachineId, Permit, Permitted, Timeline};

/// Everything the switchboard tells a receiver, as of the latest change.
///
/// Fields that this version does not know are ignored, because a lowering must never be lost for
/// them. A permit and a permitted set are the exceptions: one that is not understood is left out as a
/// whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downlink {
    /// The newest timeline.
    #[serde(default)]
    pub timeline: Option<Arc<Timeline>>,
    /// The newest permit. `None` withdraws one that was given earlier.
    #[serde(default, deserialize_with = "understood")]
    pub permit: Option<Permit>,
    /// Machines that a device has confirmed to be asleep: their sessions need no work.
    #[serde(default)]
    pub asleep: Arc<BTreeSet<MachineId>>,
    /// Machines that the switchboard's ledger says agents put to sleep, and that nobody has seen
    /// awake since, with the time from which they count as such. An agent that has lost its state
    /// learns from it which machines it may wake. At most [`OWNED_MAX`]; `None` says nothing about
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned: Option<Arc<BTreeMap<MachineId, Timestamp>>>,
    /// Counts requests for a full report. A receiver whose last full report had a different number
    /// makes its next one full.
    #[serde(default)]
    pub resync: u64,
    /// The machines that groups claim. Others get no work, but for the sessions that have some. `None`
    /// says nothing about it: the receiver keeps what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Arc<Claims>>,
    /// The machines that may have work without a permit. `None` says nothing about it: the receiver
    /// keeps what it has.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "understood")]
    pub permitted: Option<Permitted>,
    /// The newest guard table. `None` says nothing about it: the receiver keeps the one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Arc<GuardTable>>,
}

/// The maximum number of machines in [`Downlink::owned`].
pub const OWNED_MAX: usize = 100_000;

/// Reads what lets power rise only if every part of it is understood: a field of a later version may
/// be a condition, and power must not rise against it. The rest of the downlink is used nevertheless.
fn understood<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read<T> {
        Understood(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Option::<Read<T>>::deserialize(deserializer)? {
        Some(Read::Understood(read)) => Some(read),
        Some(Read::Other(_)) | None => None,
    })
}

#[cfg(test)]
mod tests;
