//! Standard output and standard error for a program that is used in pipes.
//!
//! `println!` panics when the reader has closed the pipe, as in `tieline workers | head -1`. The
//! functions here return an error instead, which the caller can distinguish from a full disk, and a
//! failure to write to standard error is ignored.

use std::io::{self, Write};

/// Writes `text` to standard output and ends the line.
///
/// # Errors
/// [`io::ErrorKind::BrokenPipe`] when the reader has closed the pipe: the program then ends without
/// a message. Other kinds are failures, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), text)
}

/// Writes `text` to standard error and ends the line. If that fails, there is no other place to
/// report it.
pub fn complain(text: &str) {
    let _ = write_line(&mut io::stderr().lock(), text);
}

fn write_line(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_ends_its_line_once() {
        let mut written = Vec::new();
        for text in ["one", "two\n", ""] {
            write_line(&mut written, text).expect("a Vec takes everything");
        }
        assert_eq!(written, b"one\ntwo\n\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_not_a_panic() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        drop(reader);
        let error = write_line(&mut writer, "text").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
