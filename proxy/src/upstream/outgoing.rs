//! The bytes waiting for a pool's socket: lines in order, except that shares that meet the network
//! target are sent first.

use std::io::ErrorKind;

use super::stream::PoolStream;

/// Whole lines, some of which the socket has accepted, one possibly in part. Only that line cannot
/// be overtaken: a share that is sent first waits for the rest of it, and for bytes in the stream
/// below (the system's buffer and, with TLS, one record).
///
/// ```text
/// lines   taken already | rest of a line | blocks, as they came | the others, as they came
///                       ^ written                               ^ first_until
/// ```
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    lines: Vec<u8>,
    written: usize,
    first_until: usize,
}

impl Outgoing {
    pub(super) const fn len(&self) -> usize {
        self.lines.len() - self.written
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, lines: &[u8]) {
        self.lines.extend_from_slice(lines);
    }

    /// Inserts whole lines before all others, except a line that is partly written and lines that
    /// were inserted like this earlier.
    pub(super) fn push_first(&mut self, lines: &[u8]) {
        let at = self.line_start().max(self.first_until);
        self.lines.splice(at..at, lines.iter().copied());
        self.first_until = at + lines.len();
    }

    /// Writes as much as the socket accepts.
    pub(super) fn write(&mut self, stream: &mut PoolStream) -> std::io::Result<()> {
        while !self.is_empty() {
            match stream.try_write(&self.lines[self.written..]) {
                Ok(written) => self.written += written,
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    self.forget_written();
                    return Ok(());
                }
                Err(failure) => return Err(failure),
            }
        }
        self.forget_written();
        stream.flush()
    }

    /// Returns the start of the first line of which nothing was written.
    fn line_start(&self) -> usize {
        let Some(last) = self.written.checked_sub(1) else { return 0 };
        let end = self.lines[last..].iter().position(|byte| *byte == b'\n');
        end.map_or(self.lines.len(), |end| last + end + 1)
    }

    /// Removes written lines, once they are more than half of the buffer.
    fn forget_written(&mut self) {
        if self.written <= self.lines.len() / 2 {
            return;
        }
        let end = self.lines[..self.written]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        self.lines.drain(..end);
        self.written -= end;
        self.first_until = self.first_until.saturating_sub(end);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use tokio::net::{TcpSocket, TcpStream};
    use tokio::time::timeout;

    use super::*;

    /// Takes `taken` bytes, as a socket would.
    fn take(outgoing: &mut Outgoing, taken: usize) -> Vec<u8> {
        let from = outgoing.written;
        outgoing.written += taken;
        let bytes = outgoing.lines[from..outgoing.written].to_vec();
        outgoing.forget_written();
        bytes
    }

    #[test]
    fn a_block_goes_before_what_waits_and_blocks_keep_their_order() {
        // The socket has accepted any part of two lines, and freed memory or not.
        for taken in 0..=8 {
            let mut outgoing = Outgoing::default();
            outgoing.push(b"one\ntwo\nthree\n");
            let mut all = take(&mut outgoing, taken);
            outgoing.push_first(b"block\n");
            outgoing.push_first(b"another\n");
            outgoing.push(b"four\n");
            assert_eq!(outgoing.len(), 14 + 6 + 8 + 5 - taken);
            while !outgoing.is_empty() {
                all.extend(take(&mut outgoing, 1));
            }
            let expected = match taken {
                0 => "block\nanother\none\ntwo\nthree\nfour\n",
                1..=4 => "one\nblock\nanother\ntwo\nthree\nfour\n",
                _ => "one\ntwo\nblock\nanother\nthree\nfour\n",
            };
            assert_eq!(String::from_utf8(all).unwrap(), expected, "after {taken}");
            assert!(outgoing.lines.is_empty() && outgoing.first_until == 0, "{outgoing:?}");
        }
    }

    /// The pool does not read and its socket is full: only the rest of one line is sent before a
    /// block.
    #[tokio::test]
    async fn a_block_waits_for_the_rest_of_one_line_when_the_socket_is_full() {
        const LINE: usize = 160;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        let mut stream =
            PoolStream::plain(socket.connect(listener.local_addr().unwrap()).await.unwrap());
        let (pool, _) = listener.accept().unwrap();
        pool.set_nonblocking(true).unwrap();
        let pool = TcpStream::from_std(pool).unwrap();

        let line = [&[b'x'; LINE - 1][..], b"\n"].concat();
        let mut outgoing = Outgoing::default();
        let (mut pushed, mut waiting) = (0, 0);
        // The system may accept some more bytes a moment later.
        while outgoing.len() < 64 * 1024 || outgoing.len() < waiting {
            waiting = outgoing.len();
            outgoing.push(&line.repeat(100));
            pushed += 100 * LINE;
            outgoing.write(&mut stream).unwrap();
            tokio::task::yield_now().await;
        }
        let taken = pushed - outgoing.len();
        outgoing.push_first(b"block\n");

        let read_all = async {
            let mut read = Vec::new();
            while read.len() < pushed + 6 {
                outgoing.write(&mut stream).unwrap();
                pool.readable().await.unwrap();
                match pool.try_read_buf(&mut read) {
                    Ok(some) => assert!(some > 0, "closed"),
                    Err(failure) => assert_eq!(failure.kind(), ErrorKind::WouldBlock),
                }
                tokio::task::yield_now().await;
            }
            read
        };
        let read = timeout(Duration::from_secs(20), read_all).await.expect("in time");
        let at = read.windows(6).position(|bytes| bytes == b"block\n").expect("it arrives");
        assert!(
            at % LINE == 0 && at >= taken && at < taken + LINE,
            "after {at} bytes, of which {taken} were taken"
        );
    }
}
