//! The one binary an operator installs: roles by subcommand, and the commands that talk to them.

pub mod cli;
pub mod client;
pub mod run;
pub mod settings;
