//! State machine of the test pool without IO: connections, jobs, counts and switches, with lines in
//! and lines out.
//!
//! It has no socket and reads no clock; [`super::serve`] moves its bytes. [`requests`] answers the
//! requests of connections; [`controls`] carries out commands.

mod controls;
mod requests;
mod seen;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use self::seen::SeenHashes;
use super::config::{DifficultyOrder, Extranonce1, FirstJob, PoolConfig};
use super::counts::{ConnectionCounts, Counts, Tally};
use super::job::{Job, PAYEE, Shape, prevhash};
use super::judge::Issued;
use super::{ConnectionId, Mood, Verdicts};
use crate::arithmetic::Hash;
use crate::clock::Moment;
use crate::wire::{Direction, WireLog};

/// An action for the task of a connection. The actions are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Out {
    Line(Arc<str>),
    /// Write a line after a delay.
    Late(Arc<str>, Duration),
    /// Close the connection after everything that precedes was written.
    Close,
}

/// The pool's whole state.
pub(super) struct Core {
    pub(super) config: PoolConfig,
    rng: StdRng,
    pub(super) mood: Mood,
    pub(super) verdicts: Verdicts,
    pub(super) answer_delay: Duration,
    /// Whether later jobs have the id of the latest job.
    pub(super) repeat_job_ids: bool,
    /// The key hash that later jobs pay.
    pub(super) payee: [u8; 20],
    /// Whether a new connection gets the extranonce1 of the connection that closed last.
    pub(super) reuse_extranonce1: bool,
    job: Option<Arc<Job>>,
    job_number: u64,
    jobs_since_clean: u32,
    height: u32,
    prevhash: Hash,
    connections: BTreeMap<ConnectionId, Connection>,
    closed: VecDeque<(ConnectionId, ConnectionCounts, WireLog)>,
    next_connection: u64,
    next_extranonce1: u64,
    freed_extranonce1: Option<Arc<[u8]>>,
    seen: SeenHashes,
    workers: BTreeMap<String, Tally>,
    counts: Counts,
    outs: Vec<(ConnectionId, Out)>,
}

/// One connection, with the difficulty, mask and jobs it was sent.
struct Connection {
    counts: ConnectionCounts,
    extranonce1: Arc<[u8]>,
    /// The mask that the connection's configure asked for; `None` before a configure.
    asked_mask: Option<u32>,
    subscribed: bool,
    authorized: bool,
    /// The difficulty in the last `set_difficulty`.
    told: Option<f64>,
    /// The number of answers so far.
    answers: u64,
    issued: VecDeque<Issued>,
    log: WireLog,
}

/// How many jobs are remembered per connection. Shares of older ones are for an unknown job.
const ISSUED_MAX: usize = 256;
/// How many closed connections keep their counts and lines; beyond that the oldest is forgotten.
const CLOSED_MAX: usize = 4096;
/// How many workers are counted by name; the submits of all others are counted together.
const WORKERS_MAX: usize = 100_000;
/// The delay of an answer that lets the next one overtake it.
const OUT_OF_ORDER: Duration = Duration::from_millis(20);
/// The name under which workers beyond the bound are counted.
const OTHER_WORKERS: &str = "(others)";

impl Core {
    pub(super) fn new(config: PoolConfig, now: Moment) -> Self {
        let mut rng = StdRng::seed_from_u64(config.seed);
        let prevhash = prevhash(&mut rng);
        let mut core = Self {
            rng,
            mood: Mood::Normal,
            verdicts: Verdicts::Truthful,
            answer_delay: Duration::ZERO,
            repeat_job_ids: false,
            payee: PAYEE,
            reuse_extranonce1: false,
            job: None,
            job_number: 0,
            jobs_since_clean: 0,
            height: 850_000,
            prevhash,
            connections: BTreeMap::new(),
            closed: VecDeque::new(),
            next_connection: 1,
            next_extranonce1: config.seed << 8,
            freed_extranonce1: None,
            seen: SeenHashes::default(),
            workers: BTreeMap::new(),
            counts: Counts::default(),
            outs: Vec::new(),
            config,
        };
        core.new_job(true, now);
        core
    }

    /// Takes the actions that were added since the last call.
    pub(super) fn drain(&mut self) -> std::vec::Drain<'_, (ConnectionId, Out)> {
        self.outs.drain(..)
    }

    /// Adds a new connection.
    pub(super) fn open(&mut self, peer: SocketAddr) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.counts.connects += 1;
        let reused = self.freed_extranonce1.take_if(|_| self.reuse_extranonce1);
        let extranonce1 = reused.unwrap_or_else(|| self.fresh_extranonce1());
        let counts = ConnectionCounts {
            peer,
            open: true,
            user_agent: None,
            workers: Vec::new(),
            extranonce1: const_hex::encode(&extranonce1),
            extranonce2_size: self.config.extranonce2_size,
            difficulty: self.config.difficulty,
            version_mask: 0,
            jobs: 0,
            total: Tally::default(),
        };
        let connection = Connection {
            counts,
            extranonce1,
            asked_mask: None,
            subscribed: false,
            authorized: false,
            told: None,
            answers: 0,
            issued: VecDeque::new(),
            log: WireLog::new(self.config.wire_lines),
        };
        self.connections.insert(id, connection);
        id
    }

    /// Removes a connection. Its counts and lines are kept.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        connection.counts.open = false;
        self.freed_extranonce1 = Some(connection.extranonce1);
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back((id, connection.counts, connection.log));
    }

    /// Closes a connection that did not read what was sent.
    pub(super) fn close_slow(&mut self, id: ConnectionId) {
        self.counts.slow_readers += 1;
        self.close(id);
    }

    /// Counts bytes that a connection sent.
    pub(super) fn received(&mut self, bytes: usize) {
        self.counts.received_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Closes a connection whose TLS handshake failed.
    pub(super) fn close_unsecured(&mut self, id: ConnectionId) {
        self.counts.failed_handshakes += 1;
        self.close(id);
    }

    /// Closes all connections.
    pub(super) fn close_all(&mut self) {
        for id in self.ids() {
            self.outs.push((id, Out::Close));
            self.close(id);
        }
    }

    /// Makes a job if one is due by the interval.
    pub(super) fn tick(&mut self, now: Moment) {
        let clean =
            self.config.clean_every != 0 && self.jobs_since_clean + 1 >= self.config.clean_every;
        let every = u64::from(self.config.extranonce_every);
        if every != 0 && (self.counts.jobs + 1).is_multiple_of(every) {
            return self.change_extranonces(now);
        }
        self.new_job(clean, now);
    }

    /// Makes a job and sends it to every connection that is ready for it. A clean one is for a new
    /// block and retires the jobs before it.
    pub(super) fn new_job(&mut self, clean: bool, now: Moment) {
        if self.mood != Mood::Normal {
            return;
        }
        let clean = clean || self.job.is_none();
        if clean {
            self.height += 1;
            self.prevhash = prevhash(&mut self.rng);
            self.jobs_since_clean = 0;
        } else {
            self.jobs_since_clean += 1;
        }
        if !self.repeat_job_ids || self.job_number == 0 {
            self.job_number += 1;
        }
        self.counts.jobs += 1;
        let shape = Shape {
            branches: self.config.branches,
            version: self.config.job_version,
            nbits: self.config.nbits,
            ntime: now.ntime(),
            payee: self.payee,
        };
        let id = format!("{}{:x}", self.config.job_id_prefix, self.job_number);
        let job = Arc::new(Job::new(id, self.prevhash, self.height, shape, &mut self.rng));
        self.job = Some(Arc::clone(&job));
        let mut rendered: HashMap<usize, Arc<str>> = HashMap::new();
        for id in self.ids() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if clean {
                connection.retire(now);
            }
            if !connection.ready(self.config.first_job) {
                continue;
            }
            let length = connection.extranonce_len();
            let jsonrpc = self.config.jsonrpc;
            let render = || Arc::from(dressed(jsonrpc, job.notify(length, clean)));
            let line = rendered.entry(length).or_insert_with(render).clone();
            self.issue(id, &job, line);
        }
    }

    /// Sends the current job to one connection, as its first.
    fn first_job(&mut self, id: ConnectionId) {
        let Some(job) = self.job.clone() else { return };
        let Some(connection) = self.connections.get(&id) else { return };
        if self.mood != Mood::Normal
            || !connection.issued.is_empty()
            || !connection.ready(self.config.first_job)
        {
            return;
        }
        let line =
            Arc::from(dressed(self.config.jsonrpc, job.notify(connection.extranonce_len(), true)));
        self.issue(id, &job, line);
    }

    fn issue(&mut self, id: ConnectionId, job: &Arc<Job>, line: Arc<str>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.issued.len() >= ISSUED_MAX {
            connection.issued.pop_front();
        }
        connection.issued.push_back(Issued {
            job: Arc::clone(job),
            extranonce1: Arc::clone(&connection.extranonce1),
            extranonce2_size: connection.counts.extranonce2_size,
            difficulty: connection.counts.difficulty,
            retired: None,
        });
        connection.counts.jobs += 1;
        match self.config.difficulty_order {
            DifficultyOrder::Before => {
                self.tell_difficulty(id);
                self.send(id, line);
            }
            DifficultyOrder::After => {
                self.send(id, line);
                self.tell_difficulty(id);
            }
        }
    }

    /// Sends a connection its difficulty, unless it was already sent this difficulty.
    fn tell_difficulty(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let difficulty = connection.counts.difficulty;
        if connection.told.replace(difficulty) == Some(difficulty) {
            return;
        }
        let number =
            if self.config.floats { format!("{difficulty:?}") } else { difficulty.to_string() };
        let key = if self.config.difficulty_without_id { "" } else { "\"id\":null," };
        let line = format!("{{{key}\"method\":\"mining.set_difficulty\",\"params\":[{number}]}}");
        self.send(id, dressed(self.config.jsonrpc, line).into());
    }

    /// Sends a notification to one connection. `params` is JSON.
    fn notification(&mut self, id: ConnectionId, method: &str, params: &serde_json::Value) {
        let line = format!("{{\"id\":null,\"method\":\"{method}\",\"params\":{params}}}");
        self.send(id, dressed(self.config.jsonrpc, line).into());
    }

    /// Sends a line to everyone connected.
    pub(super) fn send_all(&mut self, line: &str) {
        let line: Arc<str> = line.into();
        for id in self.ids() {
            self.send(id, Arc::clone(&line));
        }
    }

    /// Sends a line to one connection, without checking it.
    pub(super) fn send(&mut self, id: ConnectionId, line: Arc<str>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if self.mood != Mood::Silent {
            connection.log.push(Direction::Out, line.as_bytes());
            self.outs.push((id, Out::Line(line)));
        }
    }

    /// Sends an answer, with a delay if answers are delayed.
    fn reply(&mut self, id: ConnectionId, line: String) {
        let line = dressed(self.config.jsonrpc, line);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.answers += 1;
        let waits = self.config.answers_out_of_order && connection.answers % 2 == 1;
        let delay = if waits { self.answer_delay + OUT_OF_ORDER } else { self.answer_delay };
        if delay.is_zero() {
            return self.send(id, line.into());
        }
        connection.log.push(Direction::Out, line.as_bytes());
        self.outs.push((id, Out::Late(line.into(), delay)));
    }

    pub(super) fn counts(&self) -> Counts {
        let closed = self.closed.iter().map(|(id, counts, _)| (id.0, counts.clone()));
        let open =
            self.connections.iter().map(|(id, connection)| (id.0, connection.counts.clone()));
        Counts {
            workers: self.workers.clone(),
            connections: closed.chain(open).collect(),
            open: u64::try_from(self.connections.len()).unwrap_or(u64::MAX),
            ..self.counts.clone()
        }
    }

    /// Returns the recorded lines of a connection, open or closed; none if it is unknown.
    pub(super) fn wire(&self, id: ConnectionId) -> Vec<(Direction, String)> {
        if let Some(connection) = self.connections.get(&id) {
            return connection.log.lines();
        }
        self.closed
            .iter()
            .find(|(closed, ..)| *closed == id)
            .map_or_else(Vec::new, |(_, _, log)| log.lines())
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    #[cfg(test)]
    fn extranonce1(&self, id: ConnectionId) -> Option<Arc<[u8]>> {
        self.connections.get(&id).map(|connection| Arc::clone(&connection.extranonce1))
    }

    fn fresh_extranonce1(&mut self) -> Arc<[u8]> {
        match &self.config.extranonce1 {
            Extranonce1::Fixed(value) => value.as_slice().into(),
            Extranonce1::PerConnection(length) => {
                self.next_extranonce1 = self.next_extranonce1.wrapping_add(1);
                let counter = self.next_extranonce1.to_be_bytes();
                let mut value = vec![0; *length];
                for (place, byte) in value.iter_mut().rev().zip(counter.iter().rev()) {
                    *place = *byte;
                }
                value.into()
            }
        }
    }

    /// Counts one submit for the pool, its worker and its connection.
    fn tally(&mut self, id: ConnectionId, worker: &str, change: impl Fn(&mut Tally)) {
        change(&mut self.counts.total);
        let known = self.workers.contains_key(worker) || self.workers.len() < WORKERS_MAX;
        change(
            self.workers.entry(if known { worker } else { OTHER_WORKERS }.to_owned()).or_default(),
        );
        if let Some(connection) = self.connections.get_mut(&id) {
            change(&mut connection.counts.total);
        }
    }
}

/// Adds the `jsonrpc` key to a line, if the pool sends one.
fn dressed(jsonrpc: bool, line: String) -> String {
    if jsonrpc { format!("{{\"jsonrpc\":\"2.0\",{}", &line[1..]) } else { line }
}

impl Connection {
    fn extranonce_len(&self) -> usize {
        self.extranonce1.len() + self.counts.extranonce2_size
    }

    fn ready(&self, first_job: FirstJob) -> bool {
        self.subscribed && (self.authorized || first_job == FirstJob::AfterSubscribe)
    }

    fn retire(&mut self, now: Moment) {
        self.issued.iter_mut().for_each(|issued| {
            issued.retired.get_or_insert(now.at);
        });
    }

    /// Finds the latest job with this id.
    fn issued(&self, job_id: &str) -> Option<&Issued> {
        self.issued.iter().rev().find(|issued| issued.job.id == job_id)
    }
}

#[cfg(test)]
mod tests;
