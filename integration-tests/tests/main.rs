//! The end-to-end suite, one binary: real sockets on loopback, the test pool's and the test miner's
//! own counts.
//!
//! Correctness is judged from outside: nothing here reads the proxy's counters but to compare them
//! with the others'.

mod alone;
mod bench;
mod compatibility;
mod conformance;
mod crowds;
mod curtail;
mod difficulty;
mod external;
mod failover;
mod harness;
mod hostile;
mod hostile_pools;
mod init;
mod lease;
mod links;
mod log;
mod metrics;
mod process;
mod programs;
mod share_log;
mod shares;
mod site;
mod space;
mod tls;
mod unverified;
