//! Power meters, one file for each kind.

pub mod file;
