//! What receivers report to the switchboard. The inventory is built from these reports.
//!
//! A proxy or an agent sees thousands of machines, of which few change from one report to the next.
//! So a report has the changes since the last one and a digest of the whole view. [`ReportSender`]
//! makes such reports from the present view; [`Replica`] rebuilds the view at the other end, notices
//! what is missing, and asks for a full report (`docs/adr/0010-reports-are-deltas.md`). Meters are few and are
//! reported whole, in messages of their own.

mod delta;
mod digest;
mod driver;
mod entry;
mod replica;
mod sender;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::GuardReport;

pub use delta::Delta;
pub use digest::{Digest, Fingerprint};
pub use driver::{DriverReport, DriversReport};
pub use entry::{
    AsleepBy, Entry, MachineReport, MeterReport, SeenEntry, SeenMachine, SeenSession, Serving,
    SessionReport,
};
pub use replica::{Replica, ResyncReason, Taken};
pub use sender::{Look, ReportSender};

/// One message from a receiver to the switchboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// From a proxy: every machine with a live session, or with one that ended in the last ten
    /// minutes.
    Sessions(Delta<SessionReport>),
    /// From an agent: every machine that one of its actuators reaches.
    Machines(Delta<MachineReport>),
    /// From an agent: its meters.
    Meters(MetersReport),
    /// From an agent: its guard.
    Guard(GuardReport),
    /// From an agent: its drivers.
    Drivers(DriversReport),
}

/// Meters as last read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetersReport {
    /// When the report was made.
    pub at: Timestamp,
    /// Whether `meters` has every meter of the agent, so that a meter that is not in it is gone.
    pub full: bool,
    /// The meters, all of them or those measured since the last report.
    pub meters: Vec<MeterReport>,
}

#[cfg(test)]
mod tests;
