//! Works on site: puts machines to sleep, wakes them, and reads machines and meters.
//!
//! An agent hears from the switchboard which machines may run ([`directive::Timeline`]), puts those
//! that may not to sleep through a driver ([`directive::Actuator`]), reads them back, reads the
//! meters, and reports all of it. What to do is decided by [`core::AgentCore`], which is pure;
//! [`Agent`] is the task that moves the bytes. The drivers here are the two that need no vendor's
//! protocol: a program per command ([`drivers::exec`]) and a meter in a file ([`meters::file`]). The
//! switchboard decides which machines go and whether a shed is proven.

pub mod claims;
pub mod core;
pub mod drivers;
pub mod meters;
pub mod metrics;
pub mod state;
mod task;

pub use task::{Agent, AgentConfig, DriverSetup, MeterSetup, StartError};
