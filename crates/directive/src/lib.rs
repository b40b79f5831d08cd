//! The messages between Tieline's roles, and the rules for receiving them.
//!
//! The switchboard decides; proxies and agents execute. This crate holds the plain data that
//! travels between them ([`Timeline`], [`Permit`], [`Downlink`], [`Report`]), the rules every
//! receiver follows ([`Receiver`]), both ends of the reports ([`ReportSender`], [`Replica`]), and the
//! traits for the outside world ([`Link`], [`Actuator`], [`Meter`]). It does no IO: the in-process
//! link is a pair of channels.

#![warn(missing_docs)]

mod actuator;
mod claims;
mod clock;
mod downlink;
#[cfg(test)]
mod golden;
mod guard;
mod id;
mod in_process;
mod link;
mod meter;
mod permitted;
mod receiver;
mod report;
mod timeline;
mod units;

pub use actuator::{Actuator, ActuatorError, DeviceState, Pending, Reading};
pub use claims::Claims;
pub use clock::{GuardedTime, WallGuard};
pub use downlink::{Downlink, OWNED_MAX};
pub use guard::{
    GuardCohort, GuardFeed, GuardHold, GuardReport, GuardState, GuardTable, GuardedFeed,
    UsableChange,
};
pub use id::{FeedId, GroupId, LeaseId, MachineId, MeterId, ReceiverId};
pub use in_process::{InProcess, Outlet, in_process};
pub use link::{Link, LinkClosed, ReceiverRole};
pub use meter::{Meter, MeterError, MeterReading};
pub use permitted::Permitted;
pub use receiver::{Advance, Change, Offer, Receiver, SEEN_EVERY, Saved};
pub use report::{
    AsleepBy, Delta, Digest, DriverReport, DriversReport, Entry, Fingerprint, Look, MachineReport,
    MeterReport, MetersReport, Replica, Report, ReportSender, ResyncReason, SeenEntry, SeenMachine,
    SeenSession, Serving, SessionReport, Taken,
};
pub use timeline::{Action, Generation, LedgerHead, Means, Permit, Standing, Step, Timeline};
pub use units::Watts;
