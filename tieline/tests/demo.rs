//! The README's first command, as short as it can be.

use std::process::Command;

#[test]
fn the_demo_keeps_its_promises() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_tieline"));
    let done = demo.args(["demo", "--for", "40s"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("every machine mines again"), "{said}");
}
