//! `tieline ledger`: reads a ledger file without the process that holds it.

use std::path::Path;

use serde_json::json;
use switchboard::ledger::{Head, verify};

use crate::failure::Failure;
use crate::figures::grouped;
use crate::output::print;

/// Checks the hash chain, and that it still contains a head seen earlier.
///
/// # Errors
/// [`Failure::Usage`] for a head that cannot be read, [`Failure::Runtime`] for a ledger that is not
/// as it was written.
pub fn verify_file(path: &Path, head: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let known = head.map(parse_head).transpose()?;
    if !path.is_file() {
        let what = if path.exists() { "is not a regular file" } else { "does not exist" };
        return Err(Failure::runtime(format!("{}: {what}", path.display())));
    }
    match verify(path, known) {
        Ok(head) => {
            let hash = const_hex::encode(head.hash);
            if as_json {
                return print(&json!({ "ok": true, "seq": head.seq, "hash": hash }).to_string());
            }
            let seq = head.seq;
            print(&format!(
                "{}: the hash chain is unbroken\nentries  {}\nhead     {seq}:{hash}",
                path.display(),
                grouped(seq)
            ))
        }
        Err(error) => {
            if as_json {
                // A ledger with a fault is a failure even if nobody reads the message.
                let _ = print(&json!({ "ok": false, "why": error.to_string() }).to_string());
            }
            Err(Failure::Runtime(anyhow::anyhow!("{}: {error}", path.display())))
        }
    }
}

fn parse_head(text: &str) -> Result<Head, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "--head {text:?} must be SEQ:HASH, as `tieline ledger verify` prints it"
        ))
    };
    let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
    let mut head = Head { seq: seq.parse().map_err(|_| wrong())?, ..Head::default() };
    const_hex::decode_to_slice(hash, &mut head.hash).map_err(|_| wrong())?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let nothing = folder.path().join("ledger.db");
        let said = |path: &Path| verify_file(path, None, false).expect_err("no ledger").to_string();
        assert_eq!(said(&nothing), format!("{}: does not exist", nothing.display()));
        let name = folder.path().display();
        assert_eq!(said(folder.path()), format!("{name}: is not a regular file"));
    }

    #[test]
    fn heads_are_read_as_they_are_printed() {
        let hash = "ab".repeat(32);
        assert_eq!(parse_head(&format!("7:{hash}")).expect("a head").seq, 7);
        for wrong in ["7", "x:00", "7:00", &format!("7:{hash}00")] {
            assert!(matches!(parse_head(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
