//! A bounded queue between the code that logs and one thread that writes to standard error, whose
//! reader may be slow or stopped. If the queue is full, a line is dropped and counted: mining does
//! not wait for a full pipe (F57).

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How many lines may wait.
const LINES: usize = 8192;
/// How long the process waits at its end until the last lines are written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

enum Message {
    Line(Box<[u8]>),
    Flush(SyncSender<()>),
}

/// The end of the queue into which lines are logged.
#[derive(Debug, Clone)]
pub(super) struct LineQueue {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl LineQueue {
    /// Starts the writing thread.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(LINES);
        std::thread::Builder::new().name("log".into()).spawn(move || write(&lines, &mut out))?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines logged so far are written, for at most a second. Returns whether they
    /// are.
    pub(super) fn flush(&self) -> bool {
        let (done, written) = sync_channel(1);
        self.queue.try_send(Message::Flush(done)).is_ok()
            && !matches!(written.recv_timeout(FLUSH_MAX), Err(RecvTimeoutError::Timeout))
    }
}

/// Each call holds one whole line, because the formatter writes line by line.
impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.into())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(lines: &Receiver<Message>, out: &mut impl Write) {
    while let Ok(message) = lines.recv() {
        // The reader may have closed the pipe. That must not stop the process, so the error is
        // ignored.
        match message {
            Message::Line(line) => drop(out.write_all(&line)),
            Message::Flush(done) => {
                drop(out.flush());
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A pipe that is not read until the test says so, like that of a hanging log collector.
    struct Pipe {
        opened: Receiver<()>,
        open: bool,
        read: Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                self.open = self.opened.recv().is_ok();
            }
            self.read.send(bytes.to_vec()).expect("the test listens");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn f57_a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        let ((opener, opened), (read, seen)) = (channel(), channel());
        let mut queue = LineQueue::start(Pipe { opened, open: false, read }).expect("a thread");
        let logged = 3 * LINES as u64;
        // This loop would hang if logging a line waited for the pipe.
        for number in 0..logged {
            queue.write_all(format!("{number}\n").as_bytes()).expect("never fails");
        }
        assert!(queue.dropped() >= logged - LINES as u64 - 1, "{} of {logged}", queue.dropped());
        assert!(!queue.flush(), "and neither does the end of the process");
        opener.send(()).expect("it waits");
        let kept = logged - queue.dropped();
        let lines: Vec<String> = seen
            .iter()
            .take(usize::try_from(kept).expect("small"))
            .map(|line| String::from_utf8(line).expect("text"))
            .collect();
        assert_eq!(
            lines[LINES - 1],
            format!("{}\n", LINES - 1),
            "whole, in their order, the oldest first"
        );
        // One call waits for a second at most, which may be too short on a busy machine.
        assert!((0..120).any(|_| queue.flush()), "all is written");
        queue.write_all(b"after\n").expect("never fails");
        assert_eq!(seen.recv().expect("it writes again"), b"after\n");
    }
}
