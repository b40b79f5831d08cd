//! State machine of a test miner without IO: one firmware over successive connections, with lines
//! in and lines out.
//!
//! It has no socket and reads no clock; [`super::run`] moves its bytes. [`handshake`] has the way
//! to its first job, [`mining`] how it handles jobs and shares.

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

/// The whole state of a miner, over all its connections.
#[derive(Debug)]
pub(super) struct Brain {
    pub(super) config: Arc<MinerConfig>,
    /// The miner's number in the fleet's record of work.
    miner: u64,
    counts: MinerCounts,
    gap: GapWatch,
    awake: bool,
    hashrate: f64,
    log: WireLog,
    last_size: Option<usize>,
    /// Whether the next subscribe has no user agent.
    bare_subscribe: bool,
    /// The id of the former session, for firmware that asks to resume it.
    last_session: Option<String>,
    /// The address of the last `client.reconnect` that the miner followed.
    pub(super) moved_to: Option<String>,
    session: Option<Session>,
    out: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    host: String,
    /// The number of handshake requests written so far.
    steps: usize,
    /// The handshake requests without a reply, with their ids.
    waiting: VecDeque<(Step, String)>,
    ready: bool,
    /// How often configure was repeated because of unrequested keys.
    repeats: u32,
    ending: Option<Ending>,
    heard: Instant,
    next_id: u64,
    /// The ids of handshake requests, whose answers are not answers to submits.
    asked: HashSet<String>,
    extranonce1: Vec<u8>,
    extranonce2_size: usize,
    /// The values of the last `set_extranonce`, in force from the next job on.
    next_extranonce: Option<(Vec<u8>, usize)>,
    mask: u32,
    difficulty: f64,
    job: Option<Job>,
    /// Whether the pool still accepts shares of the job, according to its answers.
    job_usable: bool,
    job_ids: HashSet<String>,
    ids_since_clean: HashSet<String>,
    job_id_order: VecDeque<String>,
    variants: Vec<Variant>,
    position: Position,
    work: Option<Work>,
    /// Hashes that the rate allows and that were not computed yet.
    credit: f64,
    hashed: Instant,
    /// Shares that were found and wait for the configured delay.
    found: VecDeque<(Instant, Submitted, Vec<String>)>,
    outstanding: VecDeque<Submitted>,
    /// Answered submits by id, for firmware that uses each id once.
    answered: HashMap<String, u64>,
    answered_order: VecDeque<String>,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The firmware does not accept the pool's handshake.
    Handshake,
    /// No line was received for too long.
    Silence,
    /// The pool told the miner to reconnect.
    Told,
    /// The miner wants the end: it sleeps without a connection, stops, or returns to its first
    /// pool.
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

    /// Takes the bytes to write.
    pub(super) fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Why the connection must be closed, if it must.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.session.as_ref()?.ending
    }

    /// Whether answers to submits are still expected.
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

    /// Handles a new connection to `host`: writes the first requests.
    pub(super) fn connected(&mut self, host: &str, now: Instant) {
        self.counts.connects += 1;
        self.counts.reconnects += u64::from(self.counts.connects > 1);
        self.session = Some(Session::new(host, self.config.model.habits().first_id, now));
        self.proceed();
    }

    /// Handles the end of the connection; `ending` says why it ended.
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

    /// Puts the machine to sleep or wakes it.
    pub(super) fn set_awake(&mut self, awake: bool, now: Instant) {
        self.counts.sleeps += u64::from(self.awake && !awake);
        self.awake = awake;
        self.gap.wants(awake, now);
        if let Some(session) = &mut self.session {
            session.hashed = now;
            session.credit = 0.0;
        }
    }

    /// Advances the time: computes the hashes that the rate allows, writes shares that are due, and
    /// gives up a silent pool.
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

    /// Handles a line from the pool.
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
            // The next line is taken for the reply, whatever it is.
            (Reading::Lines | Reading::StrictLines | Reading::LinesToUs, Some(Step::Configure))
            | (Reading::StrictLines, Some(Step::Subscribe))
                if method.is_some() =>
            {
                self.end(Ending::Handshake);
            }
            (Reading::LinesToUs, Some(_)) if method.is_none() && message.id() == "null" => {}
            // The first line that is not a known method is taken for the reply.
            (Reading::Lines | Reading::StrictLines | Reading::LinesToUs, Some(step)) if !known => {
                self.replied(step, &message);
            }
            _ if known => self.told(&message, now),
            _ if method == Some("mining.ping") => self.pinged(),
            _ => {}
        }
    }

    /// Handles a notification or request that the firmware supports.
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
            // client.show_message is only for people.
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
