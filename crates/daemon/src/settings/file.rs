//! Reads a file that an operator named: of bounded length, and never a pipe or device that would
//! block the process.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The maximum length of a settings file, in bytes.
pub const FILE_MAX: usize = 1024 * 1024;

/// Reads a regular file of at most `max` bytes. The error is the reason, in words.
pub(super) fn read_regular(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    // Checked before the file is opened, because opening a pipe blocks until its other end is
    // opened.
    let facts = std::fs::metadata(path).map_err(|err| in_words(&err))?;
    if !facts.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let file = File::open(path).map_err(|err| in_words(&err))?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|err| in_words(&err))?;
    if bytes.len() > max {
        return Err(format!("is longer than the {max} bytes allowed"));
    }
    Ok(bytes)
}

fn in_words(err: &std::io::Error) -> String {
    match err.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        ErrorKind::PermissionDenied => "may not be read: permission denied".to_owned(),
        _ => format!("cannot be read: {err}"),
    }
}
