//! The pools of the load tool: one thread that sends clean jobs by the clock and judges the shares.
//!
//! The only state of a connection is its extranonce1. A share is judged by rebuilding its header
//! from the values in the submit. A second pool can stand by, to measure what happens when the
//! first one dies.

use std::io::{self, Read, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use super::LoadError;
use super::job::Mark;
use super::line::{Line, elements, split, text};
use judge::{Judge, Verdict};

mod judge;

/// Settings of the tool's pools.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// The address of the pool.
    pub listen: SocketAddr,
    /// The address of a second pool, if there is one.
    pub second: Option<SocketAddr>,
    /// The difficulty of every connection.
    pub difficulty: f64,
    /// The time between two jobs. All jobs are clean.
    pub job_every: Duration,
    /// The size of extranonce2, in bytes.
    pub extranonce2_size: usize,
    /// The number of merkle branches of each job.
    pub branches: usize,
    /// Whether to rebuild and hash the header of each share. Otherwise a share is only checked for
    /// a stale job.
    pub validate: bool,
}

/// How many shares a pool judged, by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolCounts {
    pub accepted: u64,
    /// Shares of a job that a newer one has replaced.
    pub stale: u64,
    /// Shares that miss the pool's difficulty.
    pub low: u64,
    /// Shares that were submitted before.
    pub duplicate: u64,
    /// Shares of a job that this pool never sent.
    pub unknown: u64,
    /// Submits that cannot be read.
    pub malformed: u64,
    /// Accepted connections.
    pub connections: u64,
}

/// A job that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) mark: Mark,
    /// The time just before the job was written to the first connection.
    pub(super) from: Instant,
}

/// What the thread returns at its end.
#[derive(Debug, Default)]
pub(super) struct PoolBooks {
    pub(super) counts: [PoolCounts; POOLS],
    pub(super) jobs: Vec<Sent>,
    /// Which pool died, and when.
    pub(super) deaths: Vec<(usize, Instant)>,
}

/// The maximum number of pools.
pub(super) const POOLS: usize = 2;

#[derive(Debug)]
pub(super) struct Pools {
    pub(super) addrs: Vec<SocketAddr>,
    /// The random number that marks the jobs of this run.
    pub(super) run: u32,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: JoinHandle<io::Result<PoolBooks>>,
}

#[derive(Debug, Clone, Copy)]
enum Command {
    Stop,
    Kill(usize),
    Revive(usize),
}

impl Pools {
    /// Binds the addresses, and starts the thread.
    pub(super) fn open(settings: &PoolSettings) -> Result<Self, LoadError> {
        let run = rand::random();
        let failed = |source| LoadError::Tool { doing: "start the pool", source };
        let poll = Poll::new().map_err(failed)?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(failed)?;
        let mut listeners = Vec::new();
        let mut addrs = Vec::new();
        for (index, listen) in std::iter::once(settings.listen).chain(settings.second).enumerate() {
            let taken = |source| LoadError::Listen { listen, source };
            let mut listener = bind(listen).map_err(taken)?;
            poll.registry()
                .register(&mut listener, Token(index), Interest::READABLE)
                .map_err(taken)?;
            addrs.push(listener.local_addr().map_err(taken)?);
            listeners.push(Some(listener));
        }
        let (commands, told) = mpsc::channel();
        let mut thread = Thread {
            judges: (0..listeners.len())
                .map(|index| {
                    Judge::new(
                        settings,
                        Mark { run, pool: u8::try_from(index).expect("two"), number: 0 },
                    )
                })
                .collect(),
            settings: settings.clone(),
            addrs: addrs.clone(),
            listeners,
            conns: Vec::new(),
            free: Vec::new(),
            next_extranonce1: 1,
            books: PoolBooks::default(),
            rng: StdRng::seed_from_u64(run.into()),
            line: String::new(),
        };
        let thread = std::thread::Builder::new().name("bench-pool".into()).spawn(move || {
            thread.run(poll, &told)?;
            Ok(thread.books)
        });
        Ok(Self { addrs, run, commands, waker: Arc::new(waker), thread: thread.map_err(failed)? })
    }

    /// Closes a pool: its listener and all its connections.
    pub(super) fn kill(&self, pool: usize) {
        self.tell(Command::Kill(pool));
    }

    /// Makes a closed pool listen again.
    pub(super) fn revive(&self, pool: usize) {
        self.tell(Command::Revive(pool));
    }

    /// Ends the thread and returns its books.
    pub(super) fn stop(self) -> Result<PoolBooks, LoadError> {
        self.tell(Command::Stop);
        let failed = |source| LoadError::Tool { doing: "run the pool", source };
        match self.thread.join() {
            Ok(books) => books.map_err(failed),
            Err(_) => Err(failed(io::Error::other("its thread panicked"))),
        }
    }

    fn tell(&self, command: Command) {
        // If the thread has already ended, the command is not needed.
        self.commands.send(command).ok();
        self.waker.wake().ok();
    }
}

struct Thread {
    settings: PoolSettings,
    addrs: Vec<SocketAddr>,
    listeners: Vec<Option<TcpListener>>,
    judges: Vec<Judge>,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    next_extranonce1: u32,
    books: PoolBooks,
    rng: StdRng,
    /// The newest job's line.
    line: String,
}

struct Conn {
    stream: TcpStream,
    pool: usize,
    extranonce1: [u8; 4],
    mask: u32,
    authorized: bool,
    /// The unfinished end of what was read.
    partial: Vec<u8>,
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
}

impl Thread {
    fn run(&mut self, mut poll: Poll, commands: &Receiver<Command>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        let mut next_job = now();
        loop {
            if now() >= next_job {
                self.new_jobs();
                next_job += self.settings.job_every;
            }
            match poll.poll(&mut events, Some(next_job.saturating_duration_since(now()))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    Token(index) if index < POOLS => self.accept(index, &poll)?,
                    Token(index) => self.ready(index - POOLS, event.is_writable(), &mut buffer),
                }
            }
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Stop => return Ok(()),
                    Command::Kill(pool) => self.kill(pool),
                    Command::Revive(pool) => {
                        let mut listener = bind(self.addrs[pool])?;
                        poll.registry().register(&mut listener, Token(pool), Interest::READABLE)?;
                        self.listeners[pool] = Some(listener);
                    }
                }
            }
        }
    }

    fn kill(&mut self, pool: usize) {
        self.books.deaths.push((pool, now()));
        self.listeners[pool] = None;
        for index in 0..self.conns.len() {
            if self.conns[index].as_ref().is_some_and(|conn| conn.pool == pool) {
                self.close(index);
            }
        }
    }

    /// Makes the next job of every pool and writes it to the pool's connections, as fast as they
    /// accept it.
    fn new_jobs(&mut self) {
        for pool in 0..self.judges.len() {
            let judge = &mut self.judges[pool];
            judge.next_job(&mut self.rng);
            self.line.clear();
            judge.job().write_notify(&mut self.line);
            self.books.jobs.push(Sent { mark: judge.job().mark, from: now() });
            for index in 0..self.conns.len() {
                if let Some(conn) = &mut self.conns[index]
                    && conn.pool == pool
                    && conn.authorized
                    && !conn.send(self.line.as_bytes())
                {
                    self.close(index);
                }
            }
        }
    }

    fn accept(&mut self, pool: usize, poll: &Poll) -> io::Result<()> {
        let Some(listener) = &self.listeners[pool] else { return Ok(()) };
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The connection was closed before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.conns.len());
            poll.registry().register(
                &mut stream,
                Token(POOLS + index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let conn = Conn {
                stream,
                pool,
                extranonce1: self.next_extranonce1.to_be_bytes(),
                mask: 0,
                authorized: false,
                partial: Vec::new(),
                unsent: Vec::new(),
            };
            self.next_extranonce1 += 1;
            self.books.counts[pool].connections += 1;
            if index == self.conns.len() {
                self.conns.push(Some(conn));
            } else {
                self.conns[index] = Some(conn);
            }
        }
    }

    fn ready(&mut self, index: usize, writable: bool, buffer: &mut [u8]) {
        let Some(conn) = &mut self.conns[index] else { return };
        let judge = &mut self.judges[conn.pool];
        let counts = &mut self.books.counts[conn.pool];
        let open =
            (!writable || conn.send(b"")) && conn.read(buffer, judge, counts, &self.settings);
        if !open {
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        self.conns[index] = None;
        self.free.push(index);
    }
}

impl Conn {
    /// Reads everything available and answers it with one write. Returns `false` if the connection
    /// has ended.
    fn read(
        &mut self,
        buffer: &mut [u8],
        judge: &mut Judge,
        counts: &mut PoolCounts,
        settings: &PoolSettings,
    ) -> bool {
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(len) => len,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            let mut reply = String::new();
            let mut partial = std::mem::take(&mut self.partial);
            let whole = split(&mut partial, &buffer[..len], LINE_MAX, |line| {
                self.answer(line, judge, counts, settings, &mut reply);
            });
            self.partial = partial;
            if whole.is_none() || !self.send(reply.as_bytes()) {
                return false;
            }
            // After a read that did not fill the buffer, new data raises a new event.
            if len < buffer.len() {
                return true;
            }
        }
    }

    fn answer(
        &mut self,
        line: &[u8],
        judge: &mut Judge,
        counts: &mut PoolCounts,
        settings: &PoolSettings,
        reply: &mut String,
    ) {
        use std::fmt::Write;
        let Some(line) = Line::parse(line) else { return };
        let id = str::from_utf8(line.id).unwrap_or("null");
        let written = match line.method {
            b"mining.submit" => {
                let verdict = judge.judge(line.params, self.extranonce1, self.mask);
                verdict.count(counts);
                match verdict {
                    Verdict::Accepted => {
                        writeln!(reply, r#"{{"id":{id},"result":true,"error":null}}"#)
                    }
                    refused => {
                        let (code, why) = refused.why();
                        writeln!(
                            reply,
                            r#"{{"id":{id},"result":null,"error":[{code},"{why}",null]}}"#
                        )
                    }
                }
            }
            b"mining.configure" => {
                let asked = elements(line.params).next().unwrap_or_default();
                if elements(asked).any(|extension| text(extension) == Some(b"version-rolling")) {
                    self.mask = MASK;
                    writeln!(
                        reply,
                        r#"{{"id":{id},"result":{{"version-rolling":true,"version-rolling.mask":"{MASK:08x}"}},"error":null}}"#
                    )
                } else {
                    writeln!(reply, r#"{{"id":{id},"result":{{}},"error":null}}"#)
                }
            }
            b"mining.subscribe" => {
                let (extranonce1, size) =
                    (const_hex::encode(self.extranonce1), settings.extranonce2_size);
                writeln!(
                    reply,
                    r#"{{"id":{id},"result":[[["mining.set_difficulty","d"],["mining.notify","n"]],"{extranonce1}",{size}],"error":null}}"#
                )
            }
            b"mining.authorize" => {
                let first = !self.authorized;
                self.authorized = true;
                let mut written = writeln!(reply, r#"{{"id":{id},"result":true,"error":null}}"#);
                if first {
                    let difficulty = settings.difficulty;
                    written = written.and(writeln!(
                        reply,
                        r#"{{"id":null,"method":"mining.set_difficulty","params":[{difficulty}]}}"#
                    ));
                    judge.job().write_notify(reply);
                }
                written
            }
            b"mining.ping" => writeln!(reply, r#"{{"id":{id},"result":"pong","error":null}}"#),
            _ if line.method.is_empty() || !line.wants_answer() => Ok(()),
            b"mining.suggest_difficulty" | b"mining.extranonce.subscribe" => {
                writeln!(reply, r#"{{"id":{id},"result":true,"error":null}}"#)
            }
            _ => {
                writeln!(reply, r#"{{"id":{id},"result":null,"error":[20,"unknown method",null]}}"#)
            }
        };
        written.expect("a string takes everything");
    }

    /// Writes the unsent bytes and then `bytes`, and keeps what the socket does not accept. Returns
    /// `false` if the connection has ended.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if self.unsent.is_empty() {
            let Some(sent) = write(&mut self.stream, bytes) else { return false };
            self.unsent.extend_from_slice(&bytes[sent..]);
            return true;
        }
        self.unsent.extend_from_slice(bytes);
        let Some(sent) = write(&mut self.stream, &self.unsent) else { return false };
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        self.unsent.len() <= UNSENT_MAX
    }
}

/// Listens with an accept queue as long as the number of miners that connect at a time. If it were
/// shorter, the system would drop some connections, which are tried again a second later, and the
/// tool would measure that.
fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(listen);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Writes as much as the socket accepts. Returns `None` if the connection has ended.
pub(super) fn write(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(sent)
}

fn now() -> Instant {
    crate::clock::now()
}

/// The length of the accept queue; most systems limit it to less.
const BACKLOG: i32 = 65_535;
const WAKE: Token = Token(usize::MAX);
/// The version mask granted to every miner that asks for one.
const MASK: u32 = 0x1fff_e000;
/// How many events are handled at a time: few enough that the clock is read about every
/// millisecond.
pub(super) const EVENTS: usize = 256;
/// The size of a read. A peer that multiplexes sends many submits at once.
pub(super) const BUFFER: usize = 64 * 1024;
/// The maximum length of a line, in bytes.
pub(super) const LINE_MAX: usize = 64 * 1024;
/// A connection with more unsent bytes than this is closed.
const UNSENT_MAX: usize = 4 * 1024 * 1024;
