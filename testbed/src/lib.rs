//! The counterparts for testing Tieline: a pool that judges shares, miners that really hash, and a
//! simulated facility.
//!
//! Each part is a library, so that tests can control it, and a program, so that a demo can run it
//! in a process of its own. The judging code is written from the protocol alone and shares no
//! arithmetic with the crates under test.

pub mod arithmetic;
pub mod clock;
pub mod facility;
pub mod load;
pub mod miner;
pub mod pool;
pub mod program;
pub mod relay;
pub mod tls;
pub mod wait;
pub mod wire;
