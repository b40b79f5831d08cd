//! Why no power may be raised just now.

use directive::FeedId;

/// It shows as people read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Withheld {
    #[error("the wall clock was stepped: set it right, or restart to accept it")]
    ClockStepped,
    #[error("the ledger has failed")]
    LedgerFailed,
    /// A decision waits to be durable.
    #[error("the plan is not in the ledger yet")]
    PlanNotDurable,
    #[error("machines are on their way down")]
    MachinesOnTheirWay,
    #[error("the meter of feed {0} is silent")]
    MeterSilent(FeedId),
    /// They were to come back before the start.
    #[error("machines that were to come back have not been read yet")]
    MachinesNotRead,
    #[error("feed {0} has less headroom than is committed")]
    HeadroomShort(FeedId),
}
