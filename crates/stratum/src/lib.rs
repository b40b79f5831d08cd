//! Stratum V1 without IO.
//!
//! Bytes become lines ([`frame`]), lines become messages ([`client_message`], [`pool_message`]),
//! and messages drive one of two pure state machines: [`server_role`] towards miners,
//! [`client_role`] towards pools. Jobs, shares and the arithmetic that judges them stand in
//! [`job`], [`share`] and [`difficulty`]. Sockets, clocks and the accounting of shares are the
//! caller's.
//!
//! The crate is tolerant in what it reads and canonical in what it writes. Nothing a peer sends is
//! passed on unparsed, and no bytes make it panic.

#![warn(missing_docs)]

pub mod client_message;
pub mod client_role;
pub mod difficulty;
mod envelope;
pub mod error;
pub mod extranonce;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hex;
pub mod id;
pub mod job;
mod line_fault;
pub mod pool_message;
pub mod server_message;
pub mod server_role;
pub mod share;
pub mod version;
