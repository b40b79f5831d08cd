//! The programs end normally when nobody reads their output, as in `| head -1`.

use std::io::PipeWriter;
use std::process::{Command, Stdio};

/// The writing end of a pipe whose reader has closed it.
fn closed() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer
}

/// Runs a program whose standard output and standard error nobody reads, and returns its exit code.
fn unread(program: &str, args: &[&str]) -> Option<i32> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(closed()).stderr(closed());
    command.status().expect("the program starts").code()
}

#[test]
fn a_pool_ends_quietly() {
    let pool = env!("CARGO_BIN_EXE_test-pool");
    assert_eq!(unread(pool, &["--listen", "127.0.0.1:0", "--for", "10ms"]), Some(0));
}

#[test]
fn a_miner_without_a_job_ends_with_1() {
    let miner = env!("CARGO_BIN_EXE_test-miner");
    assert_eq!(unread(miner, &["--connect", "127.0.0.1:1", "--for", "10ms"]), Some(1));
}

#[test]
fn a_facility_ends_quietly_and_its_failures_keep_their_code() {
    let dir = tempfile::tempdir().expect("a folder");
    let facility = env!("CARGO_BIN_EXE_test-facility");
    let folder = dir.path().to_str().expect("a plain name");
    std::fs::write(dir.path().join("rig.now"), "asleep 30\n").expect("written");
    assert_eq!(unread(facility, &["read", "--dir", folder, "rig"]), Some(0));
    let missing = dir.path().join("missing");
    let missing = missing.to_str().expect("a plain name");
    assert_eq!(unread(facility, &["set", "--dir", missing, "rig", "asleep"]), Some(1));
}
