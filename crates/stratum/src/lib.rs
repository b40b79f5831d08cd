//! Stratum V1 without IO.
//!
//! Bytes become lines ([`frame`]), lines become messages ([`client_message`], [`pool_message`]),
//! and messages drive one of two pure state machines: [`server_role`] towards miners,
//! [`client_role`] towards pools. Jobs, shares and the arithmetic that judges them are in [`job`],
//! [`share`] and [`difficulty`]. Sockets, clocks and the counting of shares are left to the caller.
//!
//! The crate accepts many forms of a message and writes one. Nothing that a peer sends is passed on
//! unparsed, and no input makes it panic.

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
