//! The pool-facing side as a pure state machine: we are the client.
//!
//! It speaks first ([`ClientRole::start`]), follows the handshake, gives each request an id that is
//! never used twice, and turns the pool's lines into events. Deadlines, reconnecting, and what
//! follows from a job or an answer are left to the proxy.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::difficulty::Difficulty;
use crate::envelope::Value;
use crate::error::{RejectCode, StratumError};
use crate::extranonce::Extranonce;
use crate::hex;
use crate::id::Id;
use crate::job::{BadNotify, Job};
use crate::line_fault::LineFault;
use crate::pool_message::{PoolLine, PoolResult, parse_pool};
use crate::server_message::{string, write_error, write_request, write_text};
use crate::version::VersionMask;

const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;
const SUGGEST: u64 = 4;
/// The first id of submits and pings.
const FIRST_REQUEST: u64 = 100;
/// The maximum number of unanswered requests that are remembered, for pools that leave some
/// unanswered. Beyond it the oldest is forgotten, and its answer is a [`ClientEvent::LateAnswer`].
/// A caller should have at most half as many requests outstanding at a time.
pub const OUTSTANDING_MAX: usize = 524_288;
/// How many requests of the pool are answered before it has sent a notify or an answer itself. Each
/// notify or answer allows one more. So a flood of requests is not answered.
const COURTESY_MAX: u8 = 8;

/// What we tell a pool in the handshake.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientConfig {
    /// Our user agent. Some pools choose the length of the coinbase by it.
    pub user_agent: String,
    /// The worker's name at the pool.
    pub worker: String,
    /// The password.
    pub password: String,
    /// The version mask to ask for; `None` sends no configure.
    pub mask: Option<VersionMask>,
    /// The difficulty to suggest once authorized.
    pub suggest: Option<Difficulty>,
}

/// One connection to a pool.
#[derive(Debug)]
pub struct ClientRole {
    config: ClientConfig,
    phase: Phase,
    configured: bool,
    mask: Option<VersionMask>,
    extranonce: Option<Extranonce>,
    /// A notify that came before the answer to the subscribe.
    early: Option<Box<Result<Job, BadNotify>>>,
    first_request: u64,
    next_request: u64,
    /// A request with a lower id that is not in `outstanding` may have been forgotten.
    forgotten_below: u64,
    outstanding: BTreeMap<u64, Request>,
    courtesy: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Subscribing,
    Authorizing,
    Ready,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Submit,
    Ping,
}

/// What a pool's line means.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// Nothing to do.
    Nothing,
    /// The pool assigned a search space; the authorize is written.
    Subscribed {
        /// The extranonce1, 1 to 16 bytes.
        extranonce1: Vec<u8>,
        /// The extranonce2_size, 2 to 16.
        extranonce2_size: u8,
    },
    /// The worker may submit.
    Authorized,
    /// The pool refused the worker.
    Refused(StratumError),
    /// The version bits that may be rolled from now on; an empty mask switches rolling off.
    Mask(VersionMask),
    /// A new job.
    Notify(Job),
    /// A notify that cannot be used; the job before it stays in force.
    BadNotify(BadNotify),
    /// The difficulty of the jobs that follow.
    Difficulty(Difficulty),
    /// A difficulty that is not plausible; the one before it stays in force.
    BadDifficulty,
    /// A new search space, from the next job on.
    Extranonce {
        /// The extranonce1, 1 to 16 bytes.
        extranonce1: Vec<u8>,
        /// The extranonce2_size, 2 to 16.
        extranonce2_size: u8,
    },
    /// The answer to a submit, or to a ping.
    Answer {
        /// The number [`ClientRole::submit`] or [`ClientRole::ping`] returned.
        request: u64,
        /// Whether the pool accepted the request, or why not. Any answer to a ping is a sign of
        /// life, even an error.
        outcome: Result<(), StratumError>,
    },
    /// The answer to a request so old that it was forgotten. The pool is slow, but did nothing
    /// wrong.
    LateAnswer,
    /// An answer to a request that we never sent, or that was answered before.
    UnmatchedAnswer,
    /// The pool asks us to connect to another host, or again to the same one if it names none.
    Reconnect {
        /// The host, escaped: compare it with the configuration, never dial it.
        host: Option<String>,
        /// The port, if one is named.
        port: Option<u16>,
        /// How long to wait before connecting, from 0 to 300 s.
        wait_secs: u32,
    },
    /// The pool asked for our version; the answer is written.
    AskedVersion,
    /// A line that has no effect; count it by its kind.
    Ignored(Ignored),
    /// A message for people, escaped and truncated.
    Message(String),
    /// The connection cannot be used: close it.
    Fatal(StratumError),
}

/// Why a line of a pool has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// A method we do not know. If it was a request, it was answered with an error.
    UnknownMethod,
    /// A `mining.set_version_mask` without a mask.
    BadMask,
    /// A `client.reconnect` to a port that does not exist.
    BadPort,
}

impl ClientRole {
    /// Prepares a connection.
    #[must_use]
    pub const fn new(config: ClientConfig) -> Self {
        Self {
            config,
            phase: Phase::Subscribing,
            configured: false,
            mask: None,
            extranonce: None,
            early: None,
            first_request: FIRST_REQUEST,
            next_request: FIRST_REQUEST,
            forgotten_below: FIRST_REQUEST,
            outstanding: BTreeMap::new(),
            courtesy: COURTESY_MAX,
        }
    }

    /// Gives submits and pings ids from `first` on. With other ids on each connection, an answer to
    /// a request of another connection is not taken for an answer to one of this connection (U42).
    #[must_use]
    pub const fn numbered_from(mut self, first: u64) -> Self {
        self.first_request = if first < FIRST_REQUEST { FIRST_REQUEST } else { first };
        self.next_request = self.first_request;
        self.forgotten_below = self.first_request;
        self
    }

    /// Begins the handshake: configure, then subscribe, in one write. Braiins refuses the other
    /// order.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if let Some(mask) = self.config.mask {
            writeln!(
                out,
                "{{\"id\":{CONFIGURE},\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],\
                 {{\"version-rolling.mask\":\"{mask}\",\"version-rolling.min-bit-count\":2}}]}}"
            )
            .expect("a Vec takes every byte");
        }
        open(SUBSCRIBE, "mining.subscribe", out);
        string(&self.config.user_agent, out);
        close(out);
    }

    /// Processes a line: appends our answer, if it needs one, to `out` and returns what the line
    /// means. Call [`Self::poll`] afterwards.
    ///
    /// # Errors
    /// A [`LineFault`] for a line that is not a Stratum message.
    pub fn receive(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<ClientEvent, LineFault> {
        let Some(line) = parse_pool(line)? else {
            return Ok(ClientEvent::Nothing);
        };
        Ok(match line {
            PoolLine::Reply { request, outcome } => self.receive_reply(request, outcome, out),
            PoolLine::Notify(job) => self.receive_notify(job),
            PoolLine::SetDifficulty(Some(difficulty)) => ClientEvent::Difficulty(difficulty),
            PoolLine::SetDifficulty(None) => ClientEvent::BadDifficulty,
            PoolLine::SetExtranonce(extranonce) => self.receive_extranonce(extranonce),
            PoolLine::SetVersionMask(None) => ClientEvent::Ignored(Ignored::BadMask),
            PoolLine::SetVersionMask(mask) => self.receive_mask(mask),
            PoolLine::Reconnect { port: Some(Err(_)), .. } => {
                ClientEvent::Ignored(Ignored::BadPort)
            }
            PoolLine::Reconnect { host, port, wait_secs } => {
                ClientEvent::Reconnect { host, port: port.and_then(Result::ok), wait_secs }
            }
            PoolLine::ShowMessage(text) => ClientEvent::Message(text),
            PoolLine::GetVersion { id } => {
                self.answer(&id, |id, out, config| write_text(id, &config.user_agent, out), out);
                ClientEvent::AskedVersion
            }
            PoolLine::Ping { id } => {
                self.answer(&id, |id, out, _| write_text(id, "pong", out), out);
                ClientEvent::Nothing
            }
            PoolLine::Unknown { id, .. } => {
                self.answer(
                    &id,
                    |id, out, _| write_error(id, RejectCode::Other, "unknown method", out),
                    out,
                );
                ClientEvent::Ignored(Ignored::UnknownMethod)
            }
        })
    }

    /// Returns an event that had to wait for a different event: a notify that came before the
    /// answer to the subscribe.
    pub fn poll(&mut self) -> Option<ClientEvent> {
        self.extranonce.as_ref()?;
        self.early.take().map(|job| notify(*job))
    }

    /// Submits a share and returns the id its answer will have. The parts of `extranonce2` (lane,
    /// slot, the miner's bytes) are written in order. Without a `worker` the configured name is
    /// used.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the message")]
    pub fn submit<'w>(
        &mut self,
        worker: impl Into<Option<&'w str>>,
        job_id: &str,
        extranonce2: &[&[u8]],
        ntime: u32,
        nonce: u32,
        version_bits: Option<u32>,
        out: &mut Vec<u8>,
    ) -> u64 {
        let request = self.remember(Request::Submit);
        open(request, "mining.submit", out);
        string(worker.into().unwrap_or(&self.config.worker), out);
        out.push(b',');
        string(job_id, out);
        out.extend_from_slice(b",\"");
        for part in extranonce2 {
            hex::push(part, out);
        }
        out.push(b'"');
        for word in [Some(ntime), Some(nonce), version_bits].into_iter().flatten() {
            out.extend_from_slice(b",\"");
            hex::push(&word.to_be_bytes(), out);
            out.push(b'"');
        }
        close(out);
        request
    }

    /// Sends a ping and returns the id its answer will have. Some pools never answer a ping.
    pub fn ping(&mut self, out: &mut Vec<u8>) -> u64 {
        let request = self.remember(Request::Ping);
        write_request(request, "mining.ping", out);
        request
    }

    /// Suggests a difficulty. The answer, if there is one, is ignored: only the `set_difficulty`
    /// that follows has an effect.
    pub fn suggest_difficulty(&mut self, difficulty: Difficulty, out: &mut Vec<u8>) {
        open(SUGGEST, "mining.suggest_difficulty", out);
        write!(out, "{difficulty}").expect("a Vec takes every byte");
        close(out);
    }

    /// Says whether the connection is subscribed and authorized.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Returns the search space in force for the next job.
    #[must_use]
    pub const fn extranonce(&self) -> Option<&Extranonce> {
        self.extranonce.as_ref()
    }

    /// Returns the version bits that may be rolled; `None` until the pool has granted any or
    /// refused.
    #[must_use]
    pub const fn version_mask(&self) -> Option<VersionMask> {
        self.mask
    }

    /// Returns how many submits and pings are unanswered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    fn receive_reply(
        &mut self,
        request: Option<u64>,
        outcome: Result<PoolResult, StratumError>,
        out: &mut Vec<u8>,
    ) -> ClientEvent {
        match request {
            Some(CONFIGURE) if self.config.mask.is_some() && !self.configured => {
                self.configured = true;
                self.receive_configured(&outcome)
            }
            Some(SUBSCRIBE) if self.phase == Phase::Subscribing => {
                self.receive_subscribed(outcome, out)
            }
            Some(AUTHORIZE) if self.phase == Phase::Authorizing => {
                self.receive_authorized(outcome, out)
            }
            Some(SUGGEST) => ClientEvent::Nothing,
            Some(request) => match self.outstanding.remove(&request) {
                Some(asked) => {
                    self.earn_courtesy();
                    ClientEvent::Answer { request, outcome: verdict(asked, outcome) }
                }
                None if (self.first_request..self.forgotten_below).contains(&request) => {
                    ClientEvent::LateAnswer
                }
                None => ClientEvent::UnmatchedAnswer,
            },
            None => ClientEvent::UnmatchedAnswer,
        }
    }

    /// Only a positive answer with a mask allows rolling, unless the pool has already set a mask by
    /// a notification.
    fn receive_configured(&mut self, outcome: &Result<PoolResult, StratumError>) -> ClientEvent {
        let granted = match outcome {
            Ok(PoolResult::Json(raw)) => {
                let fields = Value::fields(raw, 64);
                let field =
                    |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
                match (field("version-rolling"), field("version-rolling.mask")) {
                    (Some(Value::Bool(true)), Some(Value::Text(digits))) => {
                        VersionMask::parse(digits)
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        match (granted, self.mask) {
            (Some(mask), _) => self.receive_mask(Some(mask)),
            (None, Some(mask)) => ClientEvent::Mask(mask),
            (None, None) => self.receive_mask(Some(VersionMask::NONE)),
        }
    }

    fn receive_mask(&mut self, mask: Option<VersionMask>) -> ClientEvent {
        let (Some(mask), Some(asked)) = (mask, self.config.mask) else {
            return ClientEvent::Nothing;
        };
        let mask = mask.and(asked).and(VersionMask::BIP320);
        self.mask = Some(mask);
        ClientEvent::Mask(mask)
    }

    fn receive_subscribed(
        &mut self,
        outcome: Result<PoolResult, StratumError>,
        out: &mut Vec<u8>,
    ) -> ClientEvent {
        let extranonce = match outcome {
            Ok(PoolResult::Json(raw)) if raw.starts_with('[') => {
                let items = Value::items(&raw, 3);
                Extranonce::read(items.get(1), items.get(2))
            }
            Ok(_) => Err(StratumError::of(RejectCode::Other, "subscribe result is not an array")),
            Err(error) => Err(error),
        };
        match extranonce {
            Ok(extranonce) => {
                self.phase = Phase::Authorizing;
                open(AUTHORIZE, "mining.authorize", out);
                string(&self.config.worker, out);
                out.push(b',');
                string(&self.config.password, out);
                close(out);
                self.extranonce = Some(extranonce.clone());
                ClientEvent::Subscribed {
                    extranonce1: extranonce.extranonce1,
                    extranonce2_size: extranonce.extranonce2_size,
                }
            }
            Err(error) => ClientEvent::Fatal(error),
        }
    }

    /// Sends the suggested difficulty only now, after the answer to the authorize: ckpool
    /// disconnects a client that sends one before it is authorized.
    fn receive_authorized(
        &mut self,
        outcome: Result<PoolResult, StratumError>,
        out: &mut Vec<u8>,
    ) -> ClientEvent {
        match verdict(Request::Submit, outcome) {
            Ok(()) => {
                self.phase = Phase::Ready;
                if let Some(difficulty) = self.config.suggest {
                    self.suggest_difficulty(difficulty, out);
                }
                ClientEvent::Authorized
            }
            Err(error) => {
                self.phase = Phase::Refused;
                ClientEvent::Refused(error)
            }
        }
    }

    fn receive_notify(&mut self, job: Result<Job, BadNotify>) -> ClientEvent {
        self.earn_courtesy();
        if self.extranonce.is_some() {
            return notify(job);
        }
        if self.early.is_some() {
            return ClientEvent::Fatal(StratumError::of(
                RejectCode::Other,
                "more than one notify before the subscribe reply",
            ));
        }
        self.early = Some(Box::new(job));
        ClientEvent::Nothing
    }

    fn receive_extranonce(&mut self, extranonce: Result<Extranonce, StratumError>) -> ClientEvent {
        if self.extranonce.is_none() {
            // The answer to the subscribe has not come yet; it will name the extranonce in force.
            return ClientEvent::Nothing;
        }
        match extranonce {
            Ok(extranonce) => {
                self.extranonce = Some(extranonce.clone());
                ClientEvent::Extranonce {
                    extranonce1: extranonce.extranonce1,
                    extranonce2_size: extranonce.extranonce2_size,
                }
            }
            Err(error) => ClientEvent::Fatal(error),
        }
    }

    fn answer(
        &mut self,
        id: &Id,
        write: impl FnOnce(&Id, &mut Vec<u8>, &ClientConfig),
        out: &mut Vec<u8>,
    ) {
        if id.is_null() || self.courtesy == 0 {
            return;
        }
        self.courtesy -= 1;
        write(id, out, &self.config);
    }

    fn earn_courtesy(&mut self) {
        self.courtesy = (self.courtesy + 1).min(COURTESY_MAX);
    }

    fn remember(&mut self, request: Request) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        if self.outstanding.len() >= OUTSTANDING_MAX
            && let Some((oldest, _)) = self.outstanding.pop_first()
        {
            self.forgotten_below = oldest + 1;
        }
        self.outstanding.insert(number, request);
        number
    }
}

fn notify(job: Result<Job, BadNotify>) -> ClientEvent {
    match job {
        Ok(job) => ClientEvent::Notify(job),
        Err(bad) => ClientEvent::BadNotify(bad),
    }
}

/// Only `true` accepts a submit or an authorize.
fn verdict(asked: Request, outcome: Result<PoolResult, StratumError>) -> Result<(), StratumError> {
    match (outcome?, asked) {
        (PoolResult::True, _) | (PoolResult::Json(_), Request::Ping) => Ok(()),
        (PoolResult::Json(_), Request::Submit) => {
            Err(StratumError::of(RejectCode::Other, "result is not true"))
        }
    }
}

fn open(request: u64, method: &str, out: &mut Vec<u8>) {
    write!(out, "{{\"id\":{request},\"method\":\"{method}\",\"params\":[")
        .expect("a Vec takes every byte");
}

fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}\n");
}

#[cfg(test)]
mod tests;
