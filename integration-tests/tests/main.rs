//! The end-to-end suite, in one binary: real sockets on loopback, and the counts of the test pools
//! and test miners.
//!
//! Correctness is judged from outside: the proxy's own counters are read only to compare them with
//! the others.

mod alone;
mod bench;
mod compatibility;
mod conformance;
mod crowds;
mod curtail;
mod difficulty;
mod external;
mod failover;
mod guard;
mod harness;
mod hostile;
mod hostile_pools;
mod init;
mod lease;
mod links;
mod log;
mod meters;
mod metrics;
mod ownership;
mod process;
mod programs;
mod roles;
mod share_log;
mod shares;
mod site;
mod space;
mod strangers;
mod tls;
mod unverified;
