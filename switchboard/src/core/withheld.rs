//! The reasons why no power may be raised at present.

use directive::FeedId;
use jiff::Timestamp;

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
    #[error("the meter of feed {0} is silent")]
    MeterSilent(FeedId),
    /// A meter shows what cannot be so, or may not be so; in words.
    #[error("{0}")]
    MeterDoubted(String),
    #[error("feed {feed} has had no power since {since}")]
    FeedDead { feed: FeedId, since: Timestamp },
    /// It has power again.
    #[error("feed {feed} has power again, which it lost at {since}, and is not steady yet")]
    FeedReclosing { feed: FeedId, since: Timestamp },
    /// It may be dead: the next two minutes show it.
    #[error(
        "the meter of feed {0} has just fallen to almost nothing, so that the feed may be without power"
    )]
    MeterFell(FeedId),
    /// Since the start, nothing has been reported of machines that are to come back.
    #[error("machines that are to come back have not been read yet")]
    MachinesNotRead,
    #[error("feed {0} has no measured room for more machines")]
    NoRoom(FeedId),
}
