//! Commands end normally when nobody reads their output, as in `| head -1`: without a panic, and
//! with their usual exit code.

use std::io::PipeWriter;
use std::process::{Command, Stdio};

/// The writing end of a pipe whose reader has closed it.
fn closed() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer
}

/// Runs `tieline` with a standard output and standard error that nobody reads.
fn unread(arguments: &[&str]) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieline"));
    command.args(arguments).stdin(Stdio::null()).stdout(closed()).stderr(closed());
    command.status().expect("it starts").code()
}

#[test]
fn nothing_to_say_to_anybody_is_no_failure() {
    assert_eq!(unread(&["--help"]), Some(0));
    assert_eq!(unread(&["--version"]), Some(0));
    assert_eq!(unread(&["lease", "add", "--help"]), Some(0));
}

#[test]
fn a_demo_that_nobody_watches_ends() {
    assert_eq!(unread(&["demo", "--for", "40s"]), Some(0));
}

#[test]
fn failures_keep_their_exit_codes() {
    assert_eq!(unread(&["fly"]), Some(2));
    assert_eq!(unread(&["lease", "list", "--url", "ftp://nowhere"]), Some(2));
    assert_eq!(unread(&["lease", "list", "--url", "127.0.0.1:1"]), Some(1));
    assert_eq!(unread(&["ledger", "verify", "/nowhere/ledger.db"]), Some(1));
    assert_eq!(unread(&["ledger", "verify", "/nowhere/ledger.db", "--json"]), Some(1));
    assert_eq!(unread(&["check", "--config", "/nowhere/tieline.toml"]), Some(78));
    assert_eq!(unread(&["run", "--config", "/nowhere/tieline.toml"]), Some(78));
}

#[test]
fn a_disk_that_is_full_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there is one");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tieline"));
    command.args(["demo", "--for", "40s"]).stdin(Stdio::null()).stdout(full);
    let done = command.output().expect("it starts");
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.starts_with("failed to write to standard output: "), "{said}");
}
