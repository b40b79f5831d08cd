//! Decides when lines of the share log are written and when a file is closed, and handles a failing
//! disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use daemon::clock;
use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use super::disk::{Before, Sink};
use super::entry::{Entry, Message, ShareLogConfig};
use super::line::{Line, millis, write_entry};
use super::metrics::{Lost, ShareLogMetrics};
use crate::label::Label as _;
use crate::log_limit::{EVERY, LogLimit};
use crate::reasons::Alarm;
use crate::target::PerTarget;

/// Lines are written at least this often.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Lines are also written when there are this many bytes.
const FLUSH_BYTES: usize = 64 * 1024;
/// The maximum number of bytes that wait while the disk fails; further entries are lost. It is half
/// a minute of a large farm.
const BUFFER_MAX: usize = 16 * 1024 * 1024;

/// The state of the writing thread.
pub(super) struct Writer<S> {
    sink: S,
    rotate_bytes: u64,
    rotate_every: Duration,
    keep: usize,
    proxy: String,
    targets: PerTarget<String>,
    /// Lines that are not written yet, from `written` on.
    buffer: Vec<u8>,
    written: usize,
    seq: u64,
    /// The number of entries lost because the queue was full.
    queue_lost: Arc<AtomicU64>,
    /// The number of entries lost because the buffer was full, and not reported in the log yet.
    buffer_lost: u64,
    /// The number of shares since the start, by verdict, for the last line.
    shares: BTreeMap<&'static str, u64>,
    lost: u64,
    flush_at: Instant,
    failing: bool,
    /// Limits log lines about gaps: a disk that is too slow causes one at each flush.
    gaps: LogLimit<Lost>,
    metrics: ShareLogMetrics,
}

impl<S: Sink> Writer<S> {
    pub(super) fn new(
        sink: S,
        before: Before,
        config: &ShareLogConfig,
        proxy: &str,
        targets: PerTarget<String>,
        queue_lost: Arc<AtomicU64>,
        metrics: ShareLogMetrics,
    ) -> Self {
        let mut writer = Self {
            sink,
            rotate_bytes: config.rotate_bytes,
            rotate_every: config.rotate_every,
            keep: config.keep,
            proxy: proxy.to_owned(),
            targets,
            buffer: Vec::new(),
            written: 0,
            seq: 0,
            queue_lost,
            buffer_lost: 0,
            shares: BTreeMap::new(),
            lost: 0,
            flush_at: clock::now(),
            failing: false,
            gaps: LogLimit::default(),
            metrics,
        };
        writer.start_line(before, clock::wall());
        writer
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self, entries: &Receiver<Message>) {
        loop {
            let wait = self.flush_at.saturating_duration_since(clock::now());
            match entries.recv_timeout(wait) {
                Ok(Message::Entry(entry)) => self.take(&entry),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let full = self.buffer.len() >= FLUSH_BYTES && !self.failing;
            if full || clock::now() >= self.flush_at {
                self.flush(clock::wall(), clock::now());
            }
        }
        self.finish();
    }

    /// Makes an entry's line.
    pub(super) fn take(&mut self, entry: &Entry) {
        if self.buffer.len() >= BUFFER_MAX {
            self.buffer_lost += 1;
            self.metrics.dropped.count(Lost::WriteFailed);
            return;
        }
        self.seq += 1;
        *self.shares.entry(entry.verdict.label()).or_default() += 1;
        write_entry(entry, self.seq, &self.targets, &mut self.buffer);
    }

    /// Writes waiting lines, and begins another file when it is time.
    pub(super) fn flush(&mut self, wall: Timestamp, now: Instant) {
        self.flush_at = now + FLUSH_EVERY;
        self.log_gaps(now);
        let written = self.write(wall, now).and_then(|()| self.change_file(wall));
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                info!("share log writes again");
            }
            Ok(()) => {}
            Err(failure) if !self.failing => {
                self.failing = true;
                self.metrics.alarms.raise(Alarm::ShareLogFailed);
                error!(%failure, "share log cannot be written: lines wait, then get lost; mining goes on");
            }
            Err(_) => {}
        }
        self.metrics.failing.set(i64::from(self.failing));
    }

    #[cfg(test)]
    pub(super) fn sink_for_tests(&mut self) -> &mut S {
        &mut self.sink
    }

    fn write(&mut self, wall: Timestamp, now: Instant) -> std::io::Result<()> {
        if self.sink.reopen(wall)? {
            warn!("share log's file was taken away: another one is begun");
            // The old file may end with an unfinished line, which is written again as a whole.
            let whole = self.buffer[..self.written].iter().rposition(|byte| *byte == b'\n');
            self.written = whole.map_or(0, |end| end + 1);
        }
        let queue_lost = self.queue_lost.swap(0, Ordering::Relaxed);
        self.gap(queue_lost, Lost::QueueFull, wall, now);
        self.drain()?;
        let buffer_lost = std::mem::take(&mut self.buffer_lost);
        if buffer_lost > 0 {
            self.gap(buffer_lost, Lost::WriteFailed, wall, now);
            self.drain()?;
        }
        Ok(())
    }

    /// Writes the buffer to the file. Bytes that could not be written stay in the buffer, so no
    /// line is truncated.
    fn drain(&mut self) -> std::io::Result<()> {
        while self.written < self.buffer.len() {
            match self.sink.append(&self.buffer[self.written..]) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(failure) if failure.kind() == std::io::ErrorKind::Interrupted => {}
                Err(failure) => return Err(failure),
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(2 * FLUSH_BYTES);
        self.written = 0;
        Ok(())
    }

    fn gap(&mut self, lost: u64, reason: Lost, wall: Timestamp, now: Instant) {
        if lost == 0 {
            return;
        }
        self.lost += lost;
        self.seq += 1;
        let is_news = self.gaps.admits(reason, lost, now);
        let reason = reason.label();
        Line::Gap { seq: self.seq, time: millis(wall), lost, reason }.write(&mut self.buffer);
        self.metrics.alarms.raise(Alarm::ShareLogLost);
        if is_news {
            warn!(lost, reason, "share log has a gap");
        } else {
            debug!(lost, reason, "share log has a gap");
        }
    }

    /// Logs how many lines are missing since the last log line about gaps.
    fn log_gaps(&mut self, now: Instant) {
        for (reason, lost) in self.gaps.due(now) {
            warn!(lost, reason = reason.label(), "share log has gaps again");
        }
    }

    /// Closes a file that is long enough, or belongs to an earlier interval.
    fn change_file(&mut self, wall: Timestamp) -> std::io::Result<()> {
        let (size, begun) = self.sink.file();
        let every = i64::try_from(self.rotate_every.as_millis()).unwrap_or(i64::MAX).max(1);
        let interval = |at: Timestamp| at.as_millisecond().div_euclid(every);
        if size < self.rotate_bytes && interval(begun) == interval(wall) {
            return Ok(());
        }
        self.sink.rotate(wall)?;
        self.start_line(Before { after: "rotation", torn_bytes: 0 }, wall);
        self.drain()?;
        for name in self.sink.prune(self.keep)? {
            info!(%name, "old share log removed");
        }
        Ok(())
    }

    fn start_line(&mut self, before: Before, wall: Timestamp) {
        self.seq += 1;
        let Before { after, torn_bytes } = before;
        let (seq, time, proxy) = (self.seq, millis(wall), &*self.proxy);
        Line::Start { seq, time, proxy, version: env!("CARGO_PKG_VERSION"), after, torn_bytes }
            .write(&mut self.buffer);
    }

    /// Writes the last line. Lines that the disk does not accept now are lost.
    pub(super) fn finish(&mut self) {
        let (wall, now) = (clock::wall(), clock::now());
        self.flush(wall, now);
        // By then all gaps are due.
        self.log_gaps(now + EVERY);
        self.seq += 1;
        Line::Stop { seq: self.seq, time: millis(wall), shares: &self.shares, lost: self.lost }
            .write(&mut self.buffer);
        if let Err(failure) = self.drain().and_then(|()| self.sink.sync()) {
            error!(%failure, bytes = self.buffer.len() - self.written, "share log's last lines are lost");
        }
    }
}
