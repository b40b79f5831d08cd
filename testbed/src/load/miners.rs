//! The miners of the load tool: all sockets on one thread. Shares are sent by the clock, whether or
//! not answers come.
//!
//! The thread reads the clock between batches of events, so that a burst of jobs delays a submit by
//! about a millisecond. How late submits were sent is recorded and reported beside the figures of
//! the peer.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::LoadError;
use super::job::{Job, Mark, peek};
use super::line::{Line, split};
use super::miner::{FIRST_SHARE, Habits, Miner, NoShare, Step};
use super::pool::{BUFFER, EVENTS, LINE_MAX, POOLS, write};
use books::Books;

pub(super) mod books;

/// The miners and their sockets.
pub(super) struct Fleet {
    connect: SocketAddr,
    habits: Habits,
    /// The random number that marks the jobs of this run.
    run: u32,
    window: usize,
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    /// The number of miners that are connecting at present.
    joining: usize,
    pub(super) ready: usize,
    works: Works,
    pub(super) books: Books,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    /// Why a handshake failed, if one did.
    fault: Option<String>,
}

struct Member {
    stream: Option<TcpStream>,
    miner: Miner,
    connected: bool,
    ready: bool,
    /// The number of shares without an answer.
    owed: u32,
    /// The unfinished end of what was read.
    partial: Vec<u8>,
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
    /// For each pool, the number of the newest job read, plus one.
    newest: [u32; POOLS],
    /// The pool whose job the miner works on.
    pool: Option<u8>,
}

/// The jobs read so far. A notify that many miners receive is parsed once.
#[derive(Default)]
struct Works {
    by_id: HashMap<Box<[u8]>, Known>,
    newest: u32,
}

/// A job, and the params from which it was parsed.
struct Known {
    params: Box<[u8]>,
    job: Rc<Job>,
}

impl Works {
    fn job(&mut self, id: &[u8], mark: Mark, params: &[u8]) -> Option<Rc<Job>> {
        if let Some(known) = self.by_id.get(id)
            && *known.params == *params
        {
            return Some(known.job.clone());
        }
        if mark.number > self.newest {
            self.newest = mark.number;
            self.by_id.retain(|_, known| known.job.mark.number + 1 >= mark.number);
        }
        let job = Rc::new(Job::parse(params)?);
        self.by_id.insert(id.into(), Known { params: params.into(), job: job.clone() });
        Some(job)
    }
}

impl Fleet {
    pub(super) fn new(
        connect: SocketAddr,
        run: u32,
        window: usize,
        habits: Habits,
    ) -> Result<Self, LoadError> {
        let poll =
            Poll::new().map_err(|source| LoadError::Tool { doing: "start the miners", source })?;
        Ok(Self {
            connect,
            habits,
            run,
            window,
            poll,
            events: Events::with_capacity(EVENTS),
            members: Vec::new(),
            joining: 0,
            ready: 0,
            works: Works::default(),
            books: Books::new(now()),
            buffer: vec![0; BUFFER],
            scratch: Vec::new(),
            out: Vec::new(),
            fault: None,
        })
    }

    /// Connects until `count` miners are ready, `window` at a time. Returns how long it took.
    ///
    /// # Errors
    /// When a miner is refused or disconnected, or when no miner becomes ready for [`STUCK`].
    pub(super) fn join(&mut self, count: usize) -> Result<Duration, LoadError> {
        let from = now();
        let (mut last, mut at) = (self.ready, from);
        self.members.reserve_exact(count.saturating_sub(self.members.len()));
        while self.ready < count {
            while self.joining < self.window && self.members.len() < count {
                self.connect()?;
            }
            self.turn(Duration::from_millis(100))?;
            if let Some(fault) = self.fault.take() {
                return Err(LoadError::Handshake {
                    connect: self.connect,
                    fault,
                    ready: self.ready,
                });
            }
            if self.ready > last {
                (last, at) = (self.ready, now());
            } else if now() - at > STUCK {
                let fault = format!("no further miner got a job within {} s", STUCK.as_secs());
                return Err(LoadError::Handshake {
                    connect: self.connect,
                    fault,
                    ready: self.ready,
                });
            }
        }
        Ok(now() - from)
    }

    /// Handles jobs for `span` without sending shares.
    pub(super) fn idle(&mut self, span: Duration) -> Result<(), LoadError> {
        let until = now() + span;
        while now() < until {
            self.turn(until - now())?;
        }
        Ok(())
    }

    /// Sends `rate` shares a second, from all miners in turn, for `span`, or longer until every
    /// miner has sent one. `watch` is called between turns with the time since the start.
    pub(super) fn mine(
        &mut self,
        rate: f64,
        span: Duration,
        mut watch: impl FnMut(Duration),
    ) -> Result<(), LoadError> {
        let order = shuffled(self.members.len());
        let from = now();
        let mut sent = 0_u64;
        loop {
            let passed = now() - from;
            watch(passed);
            if passed >= span && sent >= order.len() as u64 {
                return Ok(());
            }
            // Even when sending is late, the tool must read: otherwise answers that are only unread
            // would seem late.
            let most = sent + BURST;
            while sent < most && due(sent, rate) <= now() - from {
                let index = order[usize::try_from(sent % order.len() as u64)
                    .expect("below the number of miners")];
                self.share(index, from + due(sent, rate))?;
                sent += 1;
            }
            self.turn(due(sent, rate).saturating_sub(now() - from).min(Duration::from_millis(50)))?;
        }
    }

    /// Handles answers until every share is answered and `caught_up` is true, for `limit` at most.
    pub(super) fn drain(
        &mut self,
        limit: Duration,
        caught_up: impl Fn(&Books, usize) -> bool,
    ) -> Result<(), LoadError> {
        let until = now() + limit;
        while (self.books.awaited() > 0 || !caught_up(&self.books, self.ready)) && now() < until {
            self.turn(Duration::from_millis(10))?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), LoadError> {
        let index = self.members.len();
        let unreachable = |source| LoadError::Unreachable { connect: self.connect, source };
        let mut stream = TcpStream::connect(self.connect).map_err(unreachable)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest).map_err(unreachable)?;
        self.joining += 1;
        self.members.push(Member {
            stream: Some(stream),
            miner: Miner::new(index + 1),
            connected: false,
            ready: false,
            owed: 0,
            partial: Vec::new(),
            unsent: Vec::new(),
            newest: [0; POOLS],
            pool: None,
        });
        Ok(())
    }

    fn share(&mut self, index: usize, due: Instant) -> Result<(), LoadError> {
        let member = &mut self.members[index];
        if !member.ready || member.stream.is_none() {
            self.books.unsendable += 1;
            return Ok(());
        }
        self.out.clear();
        let id = FIRST_SHARE + self.books.submitted();
        match member.miner.share(id, &self.habits, &mut self.scratch, &mut self.out) {
            Ok(()) => {}
            Err(NoShare::NoWork) => {
                self.books.unsendable += 1;
                return Ok(());
            }
            Err(NoShare::TooHard) => return Err(LoadError::TooHard { connect: self.connect }),
        }
        self.books.sent(index, due, now());
        member.owed += 1;
        if !member.send(&self.out) {
            self.lost(index, "its connection broke");
        }
        Ok(())
    }

    /// Waits for events and handles them.
    fn turn(&mut self, most: Duration) -> Result<(), LoadError> {
        match self.poll.poll(&mut self.events, Some(most)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => {
                polled.map_err(|source| LoadError::Tool { doing: "run the miners", source })?;
            }
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut buffer = std::mem::take(&mut self.buffer);
        for event in &events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.writable(index);
            }
            self.read(index, &mut buffer);
        }
        self.buffer = buffer;
        self.events = events;
        Ok(())
    }

    fn writable(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(stream) = &member.stream else { return };
        self.out.clear();
        if !member.connected {
            match (stream.take_error(), stream.peer_addr()) {
                (Ok(None), Ok(_)) => {}
                (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => return,
                (Ok(Some(error)) | Err(error), _) | (Ok(None), Err(error)) => {
                    return self.lost(index, &error.to_string());
                }
            }
            member.connected = true;
            stream.set_nodelay(true).ok();
            member.miner.greet(&self.habits, &mut self.out);
        }
        if !member.send(&self.out) {
            self.lost(index, "its connection broke");
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let member = &mut self.members[index];
            if !member.connected {
                return;
            }
            let Some(stream) = &mut member.stream else { return };
            let len = match stream.read(buffer) {
                Ok(0) => return self.lost(index, "the peer closed its connection"),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.lost(index, &error.to_string()),
            };
            let read_at = now();
            let mut partial = std::mem::take(&mut member.partial);
            self.out.clear();
            let whole = split(&mut partial, &buffer[..len], LINE_MAX, |line| {
                self.line(index, line, read_at);
            });
            let member = &mut self.members[index];
            member.partial = partial;
            if whole.is_none() {
                return self.lost(index, "the peer sent a line without an end");
            }
            if !self.out.is_empty() && !member.send(&self.out) {
                return self.lost(index, "its connection broke");
            }
            if !member.ready && member.miner.is_ready() {
                member.ready = true;
                self.joining -= 1;
                self.ready += 1;
            }
            // After a read that did not fill the buffer, new data raises a new event.
            if len < buffer.len() {
                return;
            }
        }
    }

    fn line(&mut self, index: usize, bytes: &[u8], read_at: Instant) {
        let Some(line) = Line::parse(bytes) else {
            self.books.unreadable += 1;
            return;
        };
        let member = &mut self.members[index];
        match line.method {
            b"" => match line.number() {
                Some(id) if id >= FIRST_SHARE => {
                    if self.books.answered(index, id - FIRST_SHARE, &line, read_at) {
                        member.owed -= 1;
                    }
                }
                _ => {
                    if member.miner.answered(&line, &self.habits, &mut self.out) == Step::Refused {
                        self.fault =
                            Some(format!("the peer answered {}", String::from_utf8_lossy(bytes)));
                    }
                }
            },
            b"mining.notify" => {
                let Some((id, mark)) = peek(line.params) else {
                    self.books.unreadable += 1;
                    return;
                };
                let Some(job) = self.works.job(id, mark, line.params) else {
                    self.books.unreadable += 1;
                    return;
                };
                member.miner.take(job);
                self.books.last_notify = Some(read_at);
                let Some(newest) =
                    member.newest.get_mut(usize::from(mark.pool)).filter(|_| mark.run == self.run)
                else {
                    self.books.foreign_jobs += 1;
                    return;
                };
                if mark.number >= *newest {
                    *newest = mark.number + 1;
                    self.books.read_job(mark, read_at);
                }
                if member.pool.replace(mark.pool).is_some_and(|former| former != mark.pool) {
                    self.books.moved(mark.pool, read_at);
                }
            }
            b"client.reconnect" => self.books.reconnects_asked += 1,
            _ => member.miner.told(&line, &mut self.out),
        }
    }

    fn lost(&mut self, index: usize, why: &str) {
        let member = &mut self.members[index];
        if member.stream.take().is_none() {
            return;
        }
        if std::mem::take(&mut member.ready) {
            self.ready -= 1;
            self.books.lost(member.owed);
        } else {
            self.joining -= 1;
            self.fault = Some(format!("a miner is lost in its handshake: {why}"));
        }
    }
}

impl Member {
    /// Writes the unsent bytes and then `bytes`, and keeps what the socket does not accept. Returns
    /// `false` if the connection has ended.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        if self.unsent.is_empty() {
            let Some(sent) = write(stream, bytes) else { return false };
            self.unsent.extend_from_slice(&bytes[sent..]);
            return true;
        }
        self.unsent.extend_from_slice(bytes);
        let Some(sent) = write(stream, &self.unsent) else { return false };
        self.unsent.drain(..sent);
        true
    }
}

/// When share number `sent` is due, counted from the start.
#[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 shares")]
fn due(sent: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(sent as f64 / rate)
}

/// All miners in an order in which neighbours are far apart: miners that submit one after the other
/// should not be neighbours in the memory of the peer.
fn shuffled(count: usize) -> Vec<usize> {
    let step = (count * 5 / 8..).find(|step| *step > 0 && coprime(*step, count)).unwrap_or(1);
    (0..count).map(|index| index * step % count).collect()
}

fn coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { coprime(b, a % b) }
}

fn now() -> Instant {
    crate::clock::now()
}

/// How many shares are written before answers are read again: at most those of some milliseconds.
const BURST: u64 = 64;
/// If no further miner becomes ready for this long, the run fails.
const STUCK: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_miner_has_its_turn_once() {
        for count in [1, 2, 7, 8, 100, 9900] {
            let mut order = shuffled(count);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_notify_is_read_once_and_a_changed_one_anew() {
        use rand::SeedableRng;
        let mut works = Works::default();
        let line = |number: u32| {
            let mut line = String::new();
            let mark = Mark { run: 1, pool: 0, number };
            Job::new(mark, 2, 12, 7, &mut rand::rngs::StdRng::seed_from_u64(number.into()))
                .write_notify(&mut line);
            line
        };
        let mut take = |text: &str| {
            let message = Line::parse(text.as_bytes()).unwrap();
            let (id, mark) = peek(message.params).unwrap();
            (works.job(id, mark, message.params).unwrap(), works.by_id.len())
        };
        let (first, _) = take(&line(1));
        assert!(Rc::ptr_eq(&first, &take(&line(1)).0));
        let (changed, _) = take(&line(1).replace("e2e2", "e2e3"));
        assert_ne!(first, changed);
        take(&line(2));
        assert_eq!(take(&line(4)).1, 1, "what is long over is forgotten");
    }
}
