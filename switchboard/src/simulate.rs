//! Gives the crate `simulation` the core, what it is made from, and what is told to receivers.

pub use crate::blackout::FeedSupply;
pub use crate::broadcast::{Broadcast, Change};
pub use crate::commitment::{Breach, Doing, Phase};
pub use crate::core::{Answer, Command, Core, Input, Outputs, Refused};
pub use crate::inventory::{AttachError, Attached, MachineState};
pub use crate::lease::{Lease, LeaseRequest};
pub use crate::ledger::{Entry, Event, Head, LedgerState, WriteError};
pub use crate::plausible::MeterState;
pub use crate::policy::{Policy, parse as parse_policy};
