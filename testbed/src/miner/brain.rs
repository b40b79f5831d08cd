//! State machine of a test miner without IO: one firmware's habits on one connection after the
//! other, with lines in and lines out.
//!
//! It holds no socket and reads no clock; [`super::run`] moves its bytes. How it comes to its
//! first job is in [`handshake`], what it does with jobs and shares in [`mining`].

mod handshake;
mod mining;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::mining::Submitted;
pub(super) use self::mining::TICK;
use super::config::MinerConfig;
use super::counts::MinerCounts;
use super::gap::{GapWatch, Kind};
use super::lines;
use super::model::{Model, Reading, Reconnects, Step};
use super::work::{Job, Position, Variant, Work};
use crate::wire::{Direction, Envelope, WireLog};

/// A miner's whole state, across its connections.
#[derive(Debug)]
pub(super) struct Brain {
    pub(super) config: Arc<MinerConfig>,
    /// Its number in the fleet's account of work.
    miner: u64,
    counts: MinerCounts,
    gap: GapWatch,
    awake: bool,
    hashrate: f64,
    log: WireLog,
    last_size: Option<usize>,
    /// The next subscribe comes without a user agent.
    bare_subscribe: bool,
    /// The name of the session before, for firmware that wants it back.
    last_session: Option<String>,
    /// Where a followed `client.reconnect` points.
    pub(super) moved_to: Option<String>,
    session: Option<Session>,
    out: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    host: String,
    /// Handshake requests written so far.
    steps: usize,
    /// Those of them that have no reply yet, with their ids.
    waiting: VecDeque<(Step, String)>,
    ready: bool,
    /// Configures repeated because of unasked keys.
    repeats: u32,
    ending: Option<Ending>,
    heard: Instant,
    next_id: u64,
    /// Ids of handshake requests: their answers are no submits'.
    asked: HashSet<String>,
    extranonce1: Vec<u8>,
    extranonce2_size: usize,
    /// Told by `set_extranonce`, in force from the next job.
    next_extranonce: Option<(Vec<u8>, usize)>,
    mask: u32,
    difficulty: f64,
    job: Option<Job>,
    /// Whether the pool still takes shares of the job, as far as its answers told.
    job_usable: bool,
    job_ids: HashSet<String>,
    ids_since_clean: HashSet<String>,
    job_id_order: VecDeque<String>,
    variants: Vec<Variant>,
    position: Position,
    work: Option<Work>,
    /// Hashes earned by time and not yet tried.
    credit: f64,
    hashed: Instant,
    /// Found, waiting for their delay.
    found: VecDeque<(Instant, Submitted, Vec<String>)>,
    outstanding: VecDeque<Submitted>,
    /// Submits by id that were answered, for ids used once.
    answered: HashMap<String, u64>,
    answered_order: VecDeque<String>,
}

/// Why a miner closes a connection of its own will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The handshake was not what the firmware takes.
    Handshake,
    /// No line came for too long.
    Silence,
    /// It was told to reconnect.
    Told,
    /// It sleeps without a connection, stops, or goes back to its first pool.
    Wanted,
    /// The other side closed.
    Lost,
}

impl Brain {
    pub(super) fn new(config: Arc<MinerConfig>, now: Instant) -> Self {
        Self {
            miner: config.space.join(),
            counts: MinerCounts::default(),
            gap: GapWatch::new(now),
            awake: true,
            hashrate: config.hashrate,
            log: WireLog::new(config.wire_lines),
            last_size: None,
            bare_subscribe: false,
            last_session: None,
            moved_to: None,
            session: None,
            out: Vec::new(),
            config,
        }
    }

    /// Takes the bytes to be written.
    pub(super) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Why the connection is to be closed, if it is.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.session.as_ref()?.ending
    }

    /// Tells whether answers are still to come.
    pub(super) fn waits_for_answers(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| !session.outstanding.is_empty() || !session.found.is_empty())
    }

    pub(super) fn connect_failed(&mut self) {
        self.counts.connect_errors += 1;
    }

    pub(super) fn set_hashrate(&mut self, hashrate: f64) {
        self.hashrate = hashrate;
    }

    /// A connection to `host` is made: says the firmware's first words.
    pub(super) fn connected(&mut self, host: &str, now: Instant) {
        self.counts.connects += 1;
        self.counts.reconnects += u64::from(self.counts.connects > 1);
        self.session = Some(Session::new(host, self.config.model.habits().first_id, now));
        self.proceed();
    }

    /// The connection is gone, by whose will `ending` tells.
    pub(super) fn closed(&mut self, ending: Ending, now: Instant) {
        let Some(session) = self.session.take() else { return };
        self.out.clear();
        self.counts.unanswered += u64::try_from(session.outstanding.len()).unwrap_or(u64::MAX);
        let count = match ending {
            Ending::Handshake => &mut self.counts.failed_handshakes,
            Ending::Silence => &mut self.counts.timeouts,
            Ending::Told => &mut self.counts.reconnects_followed,
            Ending::Lost => &mut self.counts.disconnects,
            Ending::Wanted => &mut 0,
        };
        *count += 1;
        if ending == Ending::Handshake {
            self.bare_subscribe = !self.bare_subscribe;
        }
        self.gap.has(false, now);
    }

    /// The machine fell asleep or woke.
    pub(super) fn set_awake(&mut self, awake: bool, now: Instant) {
        self.counts.sleeps += u64::from(self.awake && !awake);
        self.awake = awake;
        self.gap.wants(awake, now);
        if let Some(session) = &mut self.session {
            session.hashed = now;
            session.credit = 0.0;
        }
    }

    /// Time went on: hashes what the rate allows, writes shares that are due, gives a silent pool
    /// up.
    pub(super) fn tick(&mut self, now: Instant) {
        let idle_timeout =
            self.config.idle_timeout.unwrap_or_else(|| self.config.model.idle_timeout());
        let Some(session) = &mut self.session else { return };
        if now.saturating_duration_since(session.heard) >= idle_timeout {
            session.ending.get_or_insert(Ending::Silence);
        }
        self.hash(now);
        self.write_due(now);
    }

    /// Takes a line from the pool.
    pub(super) fn line(&mut self, line: &[u8], now: Instant) {
        self.log.push(Direction::In, line);
        let Some(session) = &mut self.session else { return };
        session.heard = now;
        let Ok(message) = Envelope::parse(line) else {
            self.counts.bad_lines += 1;
            return;
        };
        let habits = self.config.model.habits();
        let method = message.method.as_deref();
        if method.is_some() && habits.wants_id_key && !lines::has_id_key(line) {
            self.counts.passed_over += 1;
            return;
        }
        let session = self.session.as_ref();
        let expected = session
            .and_then(|session| session.waiting.front())
            .filter(|_| !session.is_some_and(|s| s.ready));
        let expected = expected.map(|(step, _)| *step);
        if habits.fears_early_mask
            && expected.is_some()
            && method == Some("mining.set_version_mask")
        {
            return self.end(Ending::Handshake);
        }
        let known = method.is_some_and(|method| self.config.model.knows(method));
        match (habits.reading, expected) {
            (_, None) | (Reading::Ids, _) if method.is_none() => self.answered(&message, now),
            // Exactly one line is read as the reply, whatever it is.
            (Reading::Lines | Reading::StrictLines | Reading::LinesToUs, Some(Step::Configure))
            | (Reading::StrictLines, Some(Step::Subscribe))
                if method.is_some() =>
            {
                self.end(Ending::Handshake);
            }
            (Reading::LinesToUs, Some(_)) if method.is_none() && message.id() == "null" => {}
            // The first line that is no method it knows is taken for the reply.
            (Reading::Lines | Reading::StrictLines | Reading::LinesToUs, Some(step)) if !known => {
                self.replied(step, &message);
            }
            _ if known => self.told(&message, now),
            _ if method == Some("mining.ping") => self.pinged(),
            _ => {}
        }
    }

    /// Does what a message its firmware knows says.
    fn told(&mut self, message: &Envelope<'_>, now: Instant) {
        match message.method.as_deref().unwrap_or_default() {
            "mining.notify" => self.notify(message, now),
            "mining.set_difficulty" => {
                let told = message.params.get(0).and_then(Value::as_f64).filter(|told| *told > 0.0);
                match (told, &mut self.session) {
                    (Some(told), Some(session)) => session.set_difficulty(told, &self.config),
                    _ => self.counts.bad_lines += 1,
                }
            }
            "mining.set_extranonce" => {
                let params = (message.params.get(0), message.params.get(1));
                let told = if let (Some(value), Some(size)) = params {
                    lines::extranonce(value, size)
                } else {
                    None
                };
                match (told, &mut self.session) {
                    (Some(told), Some(session)) => session.next_extranonce = Some(told),
                    _ => self.counts.bad_lines += 1,
                }
            }
            "mining.set_version_mask" => {
                let told = message.text(0).and_then(|mask| u32::from_str_radix(mask, 16).ok());
                match (told, &mut self.session) {
                    (Some(mask), Some(session)) => session.set_mask(mask, &self.config),
                    _ => self.counts.bad_lines += 1,
                }
            }
            "mining.ping" => {
                self.pinged();
                let id = message.id();
                self.say(&match self.config.model {
                    Model::EspMiner => format!("{{\"id\":{id},\"method\":\"pong\",\"params\":[]}}"),
                    _ => format!("{{\"id\":{id},\"result\":\"pong\",\"error\":null}}"),
                });
            }
            "client.get_version" => {
                let agent = self.config.model.user_agent();
                self.say(&format!(
                    "{{\"id\":{},\"result\":\"{agent}\",\"error\":null}}",
                    message.id()
                ));
            }
            "client.reconnect" => self.reconnect(&message.params),
            // client.show_message is for people.
            _ => {}
        }
    }

    fn pinged(&mut self) {
        let parked = self.session.as_ref().is_none_or(|session| !session.job_usable);
        self.counts.pings += 1;
        self.counts.parked_pings += u64::from(parked);
    }

    fn reconnect(&mut self, params: &Value) {
        let Some(session) = &self.session else { return };
        let reconnects = self.config.model.habits().reconnects;
        if reconnects == Reconnects::Ignores {
            return;
        }
        if reconnects == Reconnects::Follows
            && let Some((host, port)) = lines::reconnect_to(params)
        {
            if !lines::same_domain(&session.host, &host) {
                self.counts.reconnects_refused += 1;
                return;
            }
            self.moved_to = Some(format!("{host}:{port}"));
        }
        self.end(Ending::Told);
    }

    fn end(&mut self, ending: Ending) {
        if let Some(session) = &mut self.session {
            session.ending.get_or_insert(ending);
        }
    }

    fn say(&mut self, line: &str) {
        self.log.push(Direction::Out, line.as_bytes());
        self.out.extend_from_slice(line.as_bytes());
        self.out.push(b'\n');
    }

    pub(super) fn wire(&self) -> Vec<(Direction, String)> {
        self.log.lines()
    }

    /// Returns everything counted up to `now`.
    pub(super) fn counts(&self, now: Instant) -> MinerCounts {
        let ms = |kind| millis(self.gap.longest(kind, now));
        let session = self.session.as_ref();
        MinerCounts {
            miners: 1,
            mining: u64::from(
                session.is_some_and(|session| session.job.is_some() && session.ready),
            ),
            outstanding: session
                .map_or(0, |session| u64::try_from(session.outstanding.len()).unwrap_or(u64::MAX)),
            first_job_ms: ms(Kind::First),
            wake_gap_ms: ms(Kind::Wake),
            gap_ms: ms(Kind::Lost),
            ..self.counts.clone()
        }
    }
}

impl Session {
    fn new(host: &str, first_id: u64, now: Instant) -> Self {
        Self {
            host: host.to_owned(),
            steps: 0,
            waiting: VecDeque::new(),
            ready: false,
            repeats: 0,
            ending: None,
            heard: now,
            next_id: first_id,
            asked: HashSet::new(),
            extranonce1: Vec::new(),
            extranonce2_size: 0,
            next_extranonce: None,
            mask: 0,
            difficulty: 1.0,
            job: None,
            job_usable: false,
            job_ids: HashSet::new(),
            ids_since_clean: HashSet::new(),
            job_id_order: VecDeque::new(),
            variants: Vec::new(),
            position: Position::default(),
            work: None,
            credit: 0.0,
            hashed: now,
            found: VecDeque::new(),
            outstanding: VecDeque::new(),
            answered: HashMap::new(),
            answered_order: VecDeque::new(),
        }
    }

    fn take_id(&mut self) -> String {
        let id = self.next_id.to_string();
        self.next_id += 1;
        id
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
