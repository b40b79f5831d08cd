//! The messages between Tieline's roles, and the rules for receiving them.
//!
//! The switchboard decides; proxies and agents execute. This crate holds the plain data that
//! travels between them ([`Timeline`], [`Permit`], [`Report`]), the rules every receiver follows
//! ([`Receiver`]), and the traits for the outside world ([`Link`], [`Actuator`], [`Meter`]). It
//! does no IO: the in-process link is a pair of channels.

#![warn(missing_docs)]

mod actuator;
mod guard;
mod id;
mod link;
mod meter;
mod receiver;
mod report;
mod timeline;
mod units;

pub use actuator::{Actuator, ActuatorError, DeviceState, Pending, Reading};
pub use guard::{GuardedTime, WallGuard};
pub use id::{FeedId, GroupId, LeaseId, MachineId, MeterId};
pub use link::{Downlink, InProcess, Link, LinkClosed, Outlet, in_process};
pub use meter::{Meter, MeterError, MeterReading};
pub use receiver::{Advance, Change, Offer, Receiver, SEEN_EVERY, Saved};
pub use report::{
    AgentReport, MachineReport, MeterReport, ProxyReport, Report, Serving, SessionReport,
};
pub use timeline::{Action, Generation, LedgerHead, Means, Permit, Standing, Step, Timeline};
pub use units::Watts;
