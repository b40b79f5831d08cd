//! The one binary an operator installs: roles by subcommand, and the commands that talk to them.

pub mod announce;
pub mod apart;
pub mod bench;
pub mod check;
pub mod cli;
pub mod client;
mod configuration;
pub mod demo;
pub mod devices;
pub mod failure;
pub mod figures;
pub mod files;
mod former;
pub mod healthcheck;
pub mod init;
pub mod lease;
pub mod ledger;
pub mod list;
pub mod machine;
pub mod output;
pub mod plan;
pub mod run;
pub mod settings;
pub mod site;
pub mod status;
pub mod table;
pub mod times;
