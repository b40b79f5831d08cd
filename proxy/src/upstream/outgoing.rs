//! Bytes for a pool's socket: lines in order, but for shares that meet the network target.

use std::io::ErrorKind;

use super::stream::PoolStream;

/// What is being written, and what comes after it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    current: Vec<u8>,
    written: usize,
    next: Vec<u8>,
}

impl Outgoing {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.current.len() - self.written + self.next.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends whole lines.
    pub(super) fn push(&mut self, lines: &[u8]) {
        self.next.extend_from_slice(lines);
    }

    /// Puts whole lines before everything that is not being written already.
    pub(super) fn push_first(&mut self, lines: &[u8]) {
        self.next.splice(0..0, lines.iter().copied());
    }

    /// Writes as much as the socket takes.
    pub(super) fn write(&mut self, stream: &mut PoolStream) -> std::io::Result<()> {
        loop {
            if self.written == self.current.len() {
                self.current.clear();
                self.written = 0;
                if self.next.is_empty() {
                    return stream.flush();
                }
                std::mem::swap(&mut self.current, &mut self.next);
            }
            match stream.try_write(&self.current[self.written..]) {
                Ok(written) => self.written += written,
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_before_what_waits() {
        let mut outgoing = Outgoing::default();
        outgoing.push(b"one\n");
        outgoing.push(b"two\n");
        outgoing.push_first(b"block\n");
        assert_eq!(outgoing.next, b"block\none\ntwo\n");
        assert_eq!(outgoing.len(), 14);
    }
}
