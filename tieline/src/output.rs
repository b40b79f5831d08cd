//! Prints the output of commands, in the width of the terminal.

use std::io::{self, IsTerminal};

use anyhow::Context;
use daemon::stdio;

use crate::failure::Failure;

/// Prints `text` to standard output and ends its line.
///
/// # Errors
/// [`Failure::Unread`] when the reader has closed the pipe; [`Failure::Runtime`] when it cannot be
/// written, as to a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    match stdio::print(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unread),
        written => Ok(written.context("failed to write to standard output")?),
    }
}

/// The width of tables in columns: that of the terminal or of `COLUMNS`, but at least 80. In a pipe
/// or a file it is 80.
#[must_use]
pub fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    let stdout = io::stdout();
    let terminal = || {
        let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok());
        size.flatten().map(|size| usize::from(size.ws_col))
    };
    told.or_else(terminal).unwrap_or_default().max(LEAST_WIDTH)
}

/// The width that every table fits.
pub const LEAST_WIDTH: usize = 80;

/// Breaks `text` between words into lines of at most `width` columns, each indented by `indent`
/// spaces. A word that is longer is not broken.
#[must_use]
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    use unicode_width::UnicodeWidthStr;
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        if used > 0 && used + 1 + word.width() > width {
            lines.push('\n');
            used = 0;
        }
        if used == 0 {
            lines.push_str(&" ".repeat(indent));
            used = indent;
        } else {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += word.width();
    }
    lines.push('\n');
    lines
}

/// Lines of text, wrapped; all but the first are indented.
#[must_use]
pub fn hanging(text: &str, width: usize) -> String {
    let mut hanging = String::new();
    for line in text.lines() {
        let indented = wrapped(line, width, 2);
        let first = hanging.is_empty();
        hanging.push_str(if first {
            indented.strip_prefix("  ").unwrap_or(&indented)
        } else {
            &indented
        });
    }
    hanging
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 9, 2), "  one two\n  three\n");
        assert_eq!(wrapped("a-word-that-is-long b", 5, 0), "a-word-that-is-long\nb\n");
    }
}
