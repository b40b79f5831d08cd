//! The meters of the facility.

use std::time::Duration;

use directive::MeterId;

/// A meter by which headroom and leases are judged. Who reads it is the agent's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterSpec {
    pub id: MeterId,
    /// A measurement older than this does not count.
    pub stale_after: Duration,
}
