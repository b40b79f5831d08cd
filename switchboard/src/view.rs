//! What the switchboard's API answers, as types: they are the only definition of its JSON. Programs
//! read the answers back into the same types. [`crate::core`] fills them.
//!
//! - Power is a [`Watts`](directive::Watts) here and two numbers in JSON, `NAME_kw` and
//!   `NAME_watts`: no figure is without its unit.
//! - Durations end in `_secs`; instants are RFC 3339 in UTC. `timezone` names the zone in which the
//!   site's people want to read them.
//! - A name has one type in all answers.

mod lease;
mod off;
mod plan;
mod power;
mod problem;
mod shortage;
mod site;

pub use lease::{
    AdmissionAnswer, AmendRequest, AmendmentAnswer, BreachView, LeadView, LeaseAnswer,
    LeasePlanView, LeaseView, LeasesAnswer, LineView,
};
pub use off::{OffCountView, OffView, PeriodView};
pub use plan::{PlanBody, PlanView, RoomView, StepView};
pub use problem::{ErrorAnswer, ErrorView, MistakeView};
pub use shortage::{ShortLease, Shortage};
pub use site::{
    AdoptRequest, AdoptedAnswer, AdoptedState, AdoptedView, DeadFeedView, DoubtedMeter,
    DriverDownView, FeedGuardView, FeedMeterView, FeedView, FeedsAnswer, FileNotice, GroupView,
    HeadAnswer, LedgerView, MachineCounts, MachineView, MachinesAnswer, NewcomersView,
    ReceiverView, SleeperView, SleepersView, StatusView, SupplyView, UnassignedView,
};

/// The version of the JSON: it stands once in every answer, and rises when a name or a type changes.
pub const API_VERSION: u32 = 1;

#[cfg(test)]
mod tests;
