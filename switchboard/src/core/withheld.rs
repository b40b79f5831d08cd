//! The reasons why no power may be raised at present.

use directive::FeedId;

/// The reason's text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Withheld {
    #[error("the wall clock was stepped: set it right, or restart to accept it")]
    ClockStepped,
    #[error("the ledger has failed")]
    LedgerFailed,
    /// A decision is not durable yet.
    #[error("the plan is not in the ledger yet")]
    PlanNotDurable,
    #[error("machines are on their way down")]
    MachinesOnTheirWay,
    #[error("the meter of feed {0} is silent")]
    MeterSilent(FeedId),
    /// Machines that were due to return before the restart have not been read yet.
    #[error("machines that were to come back have not been read yet")]
    MachinesNotRead,
    #[error("feed {0} has less headroom than is committed")]
    HeadroomShort(FeedId),
}
