//! Splits a byte stream into lines of bounded length.
//!
//! A [`Splitter`] keeps only the unfinished part of a line, and nothing while a connection is idle:
//! with ten thousand sessions, read buffers would take most of the proxy's memory.

use memchr::memchr;

/// The maximum length of a line from a miner, in bytes without its newline.
pub const MINER_LINE_MAX: usize = 16 * 1024;
/// The maximum length of a line from a pool, in bytes: several times that of a notify with a large
/// coinbase and 32 branches.
pub const POOL_LINE_MAX: usize = 64 * 1024;

/// A line is longer than the limit. Where the next line begins is not known then: close the
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {limit} bytes")]
pub struct LineTooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Splits a byte stream into lines.
///
/// Give it each chunk as it was read, and take lines until there are no more:
///
/// ```
/// use stratum::frame::Splitter;
///
/// let mut splitter = Splitter::new(64);
/// let mut lines = Vec::new();
/// for mut chunk in [&b"{\"id\":1}\r\n{\"id\""[..], &b":2}\n"[..]] {
///     while let Some(line) = splitter.next_line(&mut chunk).unwrap() {
///         lines.push(line.to_vec());
///     }
/// }
/// assert_eq!(lines, [b"{\"id\":1}", b"{\"id\":2}"]);
/// ```
#[derive(Debug)]
pub struct Splitter {
    /// A `u32`, to keep the splitter small: each of ten thousand connections has one.
    limit: u32,
    partial: Vec<u8>,
    /// `partial` holds a line that was returned; the next call drops it.
    handed_out: bool,
}

impl Splitter {
    /// Makes a splitter for lines of at most `limit` bytes (and at most 4 GiB).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            partial: Vec::new(),
            handed_out: false,
        }
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Returns how many bytes of an unfinished line are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        if self.handed_out { 0 } else { self.partial.len() }
    }

    /// Removes the next whole line from `input` and returns it without its newline and carriage
    /// return. Returns `None` when `input` holds no further whole line.
    ///
    /// # Errors
    /// [`LineTooLong`] at the first byte beyond the limit, even if no newline has come.
    pub fn next_line<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'s [u8]>, LineTooLong> {
        if self.handed_out {
            self.partial = Vec::new();
            self.handed_out = false;
        }
        let Some(end) = memchr(b'\n', input) else {
            if self.partial.len() + input.len() > self.limit() {
                return Err(LineTooLong { limit: self.limit() });
            }
            self.partial.extend_from_slice(input);
            *input = &[];
            return Ok(None);
        };
        let (line, rest) = input.split_at(end);
        *input = &rest[1..];
        if self.partial.len() + line.len() > self.limit() {
            return Err(LineTooLong { limit: self.limit() });
        }
        if self.partial.is_empty() {
            return Ok(Some(trim(line)));
        }
        self.partial.extend_from_slice(line);
        self.handed_out = true;
        Ok(Some(trim(&self.partial)))
    }
}

/// Removes the carriage return with which some firmware ends its lines.
fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut splitter = Splitter::new(limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(line) = splitter.next_line(&mut input)? {
                lines.push(line.to_vec());
            }
        }
        Ok(lines)
    }

    #[test]
    fn s01_a_line_is_refused_at_the_byte_past_the_cap() {
        let limit = 8;
        assert_eq!(split(&[b"12345678\n"], limit), Ok(vec![b"12345678".to_vec()]));
        assert_eq!(split(&[b"1234", b"5678", b"9"], limit), Err(LineTooLong { limit }));
        assert_eq!(split(&[b"123456789\n"], limit), Err(LineTooLong { limit }));
    }

    #[test]
    fn nothing_is_kept_between_lines() {
        let mut splitter = Splitter::new(100);
        let mut input = &b"ab"[..];
        assert_eq!(splitter.next_line(&mut input), Ok(None));
        assert_eq!(splitter.buffered(), 2);
        let mut input = &b"c\n"[..];
        assert_eq!(splitter.next_line(&mut input), Ok(Some(&b"abc"[..])));
        assert_eq!(splitter.buffered(), 0);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(0usize..300, 0..20),
        ) {
            let whole = split(&[&text], 400);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks: Vec<&[u8]> = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&text[from..cut]);
                from = cut;
            }
            chunks.push(&text[from..]);
            prop_assert_eq!(split(&chunks, 400), whole);
        }
    }
}
