//! Stratum V1 without IO.

pub mod frame;
