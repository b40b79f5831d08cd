//! The parts of a process that all roles need: clock, settings, logging, tasks, signals, files and
//! admin HTTP. This crate knows nothing about mining or power.

pub mod admin;
pub mod clock;
pub mod log_pace;
pub mod logging;
pub mod private;
pub mod process;
pub mod settings;
pub mod signals;
pub mod state_file;
pub mod stdio;
pub mod tasks;
pub mod watch_file;
