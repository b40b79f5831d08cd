//! Drivers of machines, one file for each kind.

pub mod exec;
