//! The messages between Tieline's roles, and the rules for receiving them.
//!
//! The switchboard decides; proxies and agents execute. This crate holds the plain data that
//! travels between them ([`Timeline`], [`Permit`], [`Report`]), the rules every receiver follows
//! ([`Receiver`]), and the traits for the outside world ([`Link`], [`Actuator`], [`Meter`]). It
//! does no IO: the in-process link is a pair of channels.

#![warn(missing_docs)]

mod actuator;
mod downlink;
mod guard;
mod id;
mod in_process;
mod link;
mod meter;
mod receiver;
mod report;
mod timeline;
mod units;

pub use actuator::{Actuator, ActuatorError, DeviceState, Pending, Reading};
pub use downlink::Downlink;
pub use guard::{GuardedTime, WallGuard};
pub use id::{FeedId, GroupId, LeaseId, MachineId, MeterId};
pub use in_process::{InProcess, Outlet, in_process};
pub use link::{Link, LinkClosed};
pub use meter::{Meter, MeterError, MeterReading};
pub use receiver::{Advance, Change, Offer, Receiver, SEEN_EVERY, Saved};
pub use report::{
    AgentReport, MachineReport, MeterReport, ProxyReport, Report, Serving, SessionReport,
};
pub use timeline::{Action, Generation, LedgerHead, Means, Permit, Standing, Step, Timeline};
pub use units::Watts;
