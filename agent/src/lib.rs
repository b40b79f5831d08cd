//! Works on site: puts machines to sleep, wakes them, and reads machines and meters.
//!
//! The switchboard tells an agent which machines may run ([`directive::Timeline`]). The agent puts
//! the others to sleep through a driver ([`directive::Actuator`]), reads them back, reads the meters,
//! and reports both. What to do is decided by [`core::AgentCore`], which is pure; [`Agent`] is the
//! task around it. The kinds of drivers are in [`drivers`], those of meters in [`meters`]; both are
//! read from the agent's part of a configuration ([`settings`]). The switchboard decides which
//! machines are taken off and whether a shed is proven.

pub mod claims;
pub mod core;
pub mod drivers;
pub mod guard;
pub mod hook;
pub mod journal;
pub mod meters;
pub mod metrics;
mod program;
pub mod settings;
#[cfg(feature = "simulate")]
pub mod simulate;
pub mod state;
mod task;

pub use settings::Settings;
pub use task::{Agent, AgentConfig, Devices, MeterSetup, StartError};
