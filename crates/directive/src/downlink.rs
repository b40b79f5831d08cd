//! What the switchboard says to a receiver: state, so a receiver that was away misses nothing by
//! reading only the latest.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{MachineId, Permit, Timeline};

/// Everything the switchboard tells a receiver, as of the latest change.
#[derive(Debug, Clone, Default)]
pub struct Downlink {
    /// The newest timeline.
    pub timeline: Option<Arc<Timeline>>,
    /// The newest permit. `None` withdraws one that was given earlier.
    pub permit: Option<Permit>,
    /// Machines that a device has confirmed to be asleep: their sessions need no work.
    pub asleep: Arc<BTreeSet<MachineId>>,
}
