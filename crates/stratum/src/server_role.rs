//! The miner-facing handshake as a pure state machine: we are the server.
//!
//! Every request is answered exactly once. Most are answered here; those that need a decision of
//! the proxy (subscribe, authorize, submit) are passed to it as an event. The proxy owns slots,
//! jobs and verdicts. It also decides *when* lines are written: between a subscribe or configure
//! and its answer no other line may be sent, because firmware takes the next line for the answer.

use std::borrow::Cow;

use crate::client_message::{Call, ClientLine, Configure, Extension, Submit};
use crate::difficulty::Difficulty;
use crate::error::RejectCode;
use crate::extranonce::SmallBytes;
use crate::id::Id;
use crate::server_message::{
    Granted, write_configured, write_error, write_error_code, write_set_extranonce,
    write_set_version_mask, write_subscribed, write_text, write_true,
};
use crate::version::VersionMask;

/// The maximum number of worker names on one connection.
pub const WORKERS_MAX: usize = 8;
/// The maximum length of a worker name, in characters.
pub const WORKER_NAME_MAX: usize = 128;
/// The maximum number of calls before a subscribe is answered; one more closes the connection.
pub const PREHANDSHAKE_MAX: u8 = 4;

/// The server's side of one miner's connection: its handshake, and which workers it authorized.
#[derive(Debug, Clone)]
pub struct ServerRole {
    offer: VersionMask,
    /// The mask the miner asked for. It is kept to compute the grant again when the offer changes.
    requested: Option<VersionMask>,
    granted: Option<VersionMask>,
    minimum_difficulty: Option<Difficulty>,
    /// Whether the miner has said that it follows `mining.set_extranonce`.
    takes_extranonce: bool,
    subscription: Subscription,
    /// Calls since the start, or since a subscribe was refused.
    unsubscribed_calls: u8,
    workers: Vec<Box<str>>,
}

#[derive(Debug, Clone)]
enum Subscription {
    None,
    Asked,
    Made(Box<Subscribed>),
}

#[derive(Debug, Clone)]
struct Subscribed {
    session: Box<str>,
    extranonce1: SmallBytes,
    extranonce2_size: u8,
}

/// What the proxy must do about a line.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent<'a> {
    /// The line was answered; nothing is left to do.
    Answered,
    /// The line needs no answer: it was a reply, a pong, or a suggestion without an id.
    Ignored,
    /// Answer with [`ServerRole::accept_subscription`] or [`ServerRole::refuse_subscription`].
    Subscribe {
        /// The id to answer under.
        id: Id,
        /// The firmware's name, escaped and truncated.
        user_agent: Cow<'a, str>,
    },
    /// Answer with [`ServerRole::answer_authorize`].
    Authorize {
        /// The id to answer under.
        id: Id,
        /// The worker's name, which [`valid_worker_name`] accepts.
        worker: Cow<'a, str>,
        /// The password, which may be a secret.
        password: Cow<'a, str>,
    },
    /// Answer with `write_true` or `write_error`. The session is subscribed and the worker is
    /// authorized, which was checked already.
    Submit {
        /// The id to answer under.
        id: Id,
        /// The share, not yet decoded.
        submit: Submit<'a>,
    },
    /// The line was answered; the miner asks for this difficulty.
    SuggestDifficulty(Difficulty),
    /// A configure was answered; this version mask is now granted.
    Configured(Option<VersionMask>),
    /// A submit was refused without being judged. The error was sent; count it as a submit.
    BadSubmit(SubmitFault),
    /// The line was answered with an error; count it.
    Abuse(Abuse),
    /// More than [`PREHANDSHAKE_MAX`] calls before a subscribe was answered: close the connection.
    TooManyCalls,
}

/// Why a submit is refused before its share is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubmitFault {
    /// The submit lacks some of its fields.
    Malformed,
    /// The job id of the submit is longer than every job id the proxy gives out.
    UnknownJob,
    /// The miner has not subscribed.
    BeforeSubscribe,
    /// The worker is not authorized on this connection.
    Unauthorized,
}

impl SubmitFault {
    /// Returns the error code sent to the miner.
    #[must_use]
    pub const fn code(self) -> RejectCode {
        match self {
            Self::Malformed => RejectCode::Other,
            Self::UnknownJob => RejectCode::JobNotFound,
            Self::BeforeSubscribe => RejectCode::NotSubscribed,
            Self::Unauthorized => RejectCode::Unauthorized,
        }
    }
}

/// A request that was refused. Honest firmware sends such requests sometimes, but never many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abuse {
    /// A known method with unusable params.
    Malformed,
    /// A method that only servers send.
    ServerMethod,
    /// An unknown method. Firmware tries many.
    UnknownMethod,
    /// A worker name that `valid_worker_name` refuses.
    WorkerName,
    /// More worker names than [`WORKERS_MAX`].
    TooManyWorkers,
}

impl ServerRole {
    /// Starts a handshake in which `offer` is the widest mask granted.
    #[must_use]
    pub const fn new(offer: VersionMask) -> Self {
        Self {
            offer,
            requested: None,
            granted: None,
            minimum_difficulty: None,
            takes_extranonce: false,
            subscription: Subscription::None,
            unsubscribed_calls: 0,
            workers: Vec::new(),
        }
    }

    /// Processes a line: appends an answer to `out` if no decision is needed, and returns what the
    /// caller must do.
    pub fn receive<'a>(&mut self, line: ClientLine<'a>, out: &mut Vec<u8>) -> ServerEvent<'a> {
        let ClientLine::Call { id, call } = line else {
            return ServerEvent::Ignored;
        };
        if !self.is_subscribed() {
            if self.unsubscribed_calls >= PREHANDSHAKE_MAX {
                return ServerEvent::TooManyCalls;
            }
            self.unsubscribed_calls += 1;
        }
        let call = match call {
            Ok(call) => call,
            Err(error) => {
                write_error_code(&id, error.code, &error.message, out);
                return ServerEvent::Abuse(Abuse::Malformed);
            }
        };
        match call {
            Call::Submit(submit) => self.receive_submit(id, submit, out),
            Call::BadSubmit(error) => {
                write_error_code(&id, error.code, &error.message, out);
                ServerEvent::BadSubmit(match RejectCode::from_code(error.code) {
                    RejectCode::JobNotFound => SubmitFault::UnknownJob,
                    _ => SubmitFault::Malformed,
                })
            }
            Call::Subscribe { user_agent, .. } => self.receive_subscribe(id, user_agent, out),
            Call::Authorize { worker, password } => {
                self.receive_authorize(id, worker, password, out)
            }
            Call::Configure(configure) => self.receive_configure(&id, &configure, out),
            Call::SuggestDifficulty(value) => {
                suggest(&id, value.and_then(Difficulty::new), "not a difficulty", out)
            }
            Call::SuggestTarget(difficulty) => suggest(&id, difficulty, "not a target", out),
            Call::ExtranonceSubscribe => {
                self.takes_extranonce = true;
                answer_true(&id, out)
            }
            Call::MultiVersion | Call::Capabilities if id.is_null() => ServerEvent::Ignored,
            Call::MultiVersion | Call::Capabilities => answer_true(&id, out),
            Call::Ping => {
                write_text(&id, "pong", out);
                ServerEvent::Answered
            }
            Call::Pong => ServerEvent::Ignored,
            Call::GetVersion => {
                write_text(&id, concat!("tieline/", env!("CARGO_PKG_VERSION")), out);
                ServerEvent::Answered
            }
            Call::GetTransactions => {
                write_error(&id, RejectCode::Other, "transactions are not available", out);
                ServerEvent::Answered
            }
            Call::Unknown(method) => {
                write_error(&id, RejectCode::Other, "unknown method", out);
                ServerEvent::Abuse(if is_server_method(&method) {
                    Abuse::ServerMethod
                } else {
                    Abuse::UnknownMethod
                })
            }
        }
    }

    /// Answers a [`ServerEvent::Subscribe`]. From now on a repeated subscribe gets the same answer.
    ///
    /// An `extranonce1` longer than sixteen bytes would be an error in the proxy. The subscribe is
    /// then refused.
    pub fn accept_subscription(
        &mut self,
        id: &Id,
        session: &str,
        extranonce1: &[u8],
        extranonce2_size: u8,
        out: &mut Vec<u8>,
    ) {
        let Some(extranonce1) = SmallBytes::new(extranonce1) else {
            return self.refuse_subscription(id, "extranonce1 too long", out);
        };
        write_subscribed(id, session, &extranonce1, extranonce2_size, out);
        self.unsubscribed_calls = 0;
        self.subscription = Subscription::Made(Box::new(Subscribed {
            session: session.into(),
            extranonce1,
            extranonce2_size,
        }));
    }

    /// Answers a [`ServerEvent::Subscribe`] with error 20. The miner may ask again.
    pub fn refuse_subscription(&mut self, id: &Id, message: &str, out: &mut Vec<u8>) {
        write_error(id, RejectCode::Other, message, out);
        self.unsubscribed_calls = 0;
        self.subscription = Subscription::None;
    }

    /// Answers a [`ServerEvent::Authorize`]. A name beyond [`WORKERS_MAX`] is refused even if
    /// `accepted`.
    pub fn answer_authorize(&mut self, id: &Id, worker: &str, accepted: bool, out: &mut Vec<u8>) {
        let known = self.knows_worker(worker);
        if !accepted || (!known && self.workers.len() >= WORKERS_MAX) {
            write_error(id, RejectCode::Unauthorized, RejectCode::Unauthorized.text(), out);
            return;
        }
        if !known {
            // A connection nearly always has one worker.
            self.workers.reserve_exact(1);
            self.workers.push(worker.into());
        }
        write_true(id, out);
    }

    /// Changes the version mask offered, because the session's pool now allows different bits. A
    /// miner whose granted mask changes is sent the new one. Call it only after authorize was
    /// answered: before that, older firmware takes a notification it does not know for the answer.
    pub fn change_offer(&mut self, offer: VersionMask, out: &mut Vec<u8>) {
        self.offer = offer;
        let Some(requested) = self.requested else {
            return;
        };
        let granted = requested.and(offer);
        if self.granted != Some(granted) {
            self.granted = Some(granted);
            write_set_version_mask(granted, out);
        }
    }

    /// Gives a subscribed miner a new extranonce, valid from the next job on. Returns `false` and
    /// writes nothing if the miner has not said that it follows `mining.set_extranonce`; such a
    /// miner must reconnect.
    pub fn change_extranonce(
        &mut self,
        extranonce1: &[u8],
        extranonce2_size: u8,
        out: &mut Vec<u8>,
    ) -> bool {
        let (Subscription::Made(made), Some(extranonce1)) =
            (&mut self.subscription, SmallBytes::new(extranonce1))
        else {
            return false;
        };
        if !self.takes_extranonce {
            return false;
        }
        made.extranonce1 = extranonce1;
        made.extranonce2_size = extranonce2_size;
        write_set_extranonce(extranonce1.as_slice(), extranonce2_size, out);
        true
    }

    /// Says whether a subscribe was accepted.
    #[must_use]
    pub const fn is_subscribed(&self) -> bool {
        matches!(self.subscription, Subscription::Made(_))
    }

    /// Says whether any worker was authorized.
    #[must_use]
    pub fn is_authorized(&self) -> bool {
        !self.workers.is_empty()
    }

    /// Says whether the miner can be given jobs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_subscribed() && self.is_authorized()
    }

    /// Returns the mask granted by a configure.
    #[must_use]
    pub const fn version_mask(&self) -> Option<VersionMask> {
        self.granted
    }

    /// Returns the minimum difficulty that a configure promised the miner: the miner gets no lower
    /// one.
    #[must_use]
    pub const fn minimum_difficulty(&self) -> Option<Difficulty> {
        self.minimum_difficulty
    }

    /// Says whether `worker` was authorized on this connection.
    #[must_use]
    pub fn knows_worker(&self, worker: &str) -> bool {
        self.workers.iter().any(|known| **known == *worker)
    }

    /// Returns the first worker authorized: the machine's id.
    #[must_use]
    pub fn first_worker(&self) -> Option<&str> {
        self.workers.first().map(AsRef::as_ref)
    }

    fn receive_subscribe<'a>(
        &mut self,
        id: Id,
        user_agent: Cow<'a, str>,
        out: &mut Vec<u8>,
    ) -> ServerEvent<'a> {
        match &self.subscription {
            Subscription::Made(made) => {
                write_subscribed(&id, &made.session, &made.extranonce1, made.extranonce2_size, out);
                ServerEvent::Answered
            }
            Subscription::Asked => {
                write_error(&id, RejectCode::Other, "subscribe is being answered", out);
                ServerEvent::Answered
            }
            Subscription::None => {
                self.subscription = Subscription::Asked;
                ServerEvent::Subscribe { id, user_agent }
            }
        }
    }

    fn receive_authorize<'a>(
        &self,
        id: Id,
        worker: Cow<'a, str>,
        password: Cow<'a, str>,
        out: &mut Vec<u8>,
    ) -> ServerEvent<'a> {
        if self.knows_worker(&worker) {
            return answer_true(&id, out);
        }
        let abuse = if !valid_worker_name(&worker) {
            Abuse::WorkerName
        } else if self.workers.len() >= WORKERS_MAX {
            Abuse::TooManyWorkers
        } else {
            return ServerEvent::Authorize { id, worker, password };
        };
        write_error(&id, RejectCode::Unauthorized, RejectCode::Unauthorized.text(), out);
        ServerEvent::Abuse(abuse)
    }

    fn receive_submit<'a>(&self, id: Id, submit: Submit<'a>, out: &mut Vec<u8>) -> ServerEvent<'a> {
        let fault = if !self.is_subscribed() {
            SubmitFault::BeforeSubscribe
        } else if !self.knows_worker(&submit.worker) {
            SubmitFault::Unauthorized
        } else {
            return ServerEvent::Submit { id, submit };
        };
        write_error(&id, fault.code(), fault.code().text(), out);
        ServerEvent::BadSubmit(fault)
    }

    fn receive_configure<'a>(
        &mut self,
        id: &Id,
        configure: &Configure<'a>,
        out: &mut Vec<u8>,
    ) -> ServerEvent<'a> {
        for extension in &configure.extensions {
            match extension {
                Extension::VersionRolling(request) => {
                    self.requested = request.map(|request| request.mask);
                    self.granted = request
                        .map(|request| (request.mask.and(self.offer), request.min_bit_count))
                        .filter(|(mask, min_bit_count)| {
                            !mask.is_empty() && mask.bit_count() >= *min_bit_count
                        })
                        .map(|(mask, _)| mask);
                    if self.granted.is_none() {
                        self.requested = None;
                    }
                }
                Extension::MinimumDifficulty(difficulty) => self.minimum_difficulty = *difficulty,
                Extension::SubscribeExtranonce => self.takes_extranonce = true,
                Extension::Unknown(_) => {}
            }
        }
        let granted = configure.extensions.iter().map(|extension| match extension {
            Extension::VersionRolling(_) => Granted::VersionRolling(self.granted),
            Extension::MinimumDifficulty(difficulty) => {
                Granted::MinimumDifficulty(difficulty.is_some())
            }
            Extension::SubscribeExtranonce => Granted::SubscribeExtranonce(true),
            Extension::Unknown(name) => Granted::Unknown(name),
        });
        write_configured(id, granted, out);
        ServerEvent::Configured(self.granted)
    }
}

/// Says whether a worker name is acceptable: 1 to 128 printable ASCII characters without spaces
/// or quotes. Even so, a name is never used in a file path, a metric label or a format string.
#[must_use]
pub fn valid_worker_name(name: &str) -> bool {
    (1..=WORKER_NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'`".contains(&byte))
}

/// Says whether a method is one that only servers send.
fn is_server_method(method: &str) -> bool {
    const METHODS: [&str; 7] = [
        "mining.notify",
        "mining.set_difficulty",
        "mining.set_extranonce",
        "mining.set_version_mask",
        "mining.set_goal",
        "client.reconnect",
        "client.show_message",
    ];
    METHODS.contains(&method)
}

/// Answers a suggested difficulty, unless it has no id. bfgminer sends one without an id right
/// before its subscribe, and would take an answer to it for the answer to the subscribe.
fn suggest<'a>(
    id: &Id,
    difficulty: Option<Difficulty>,
    complaint: &str,
    out: &mut Vec<u8>,
) -> ServerEvent<'a> {
    match difficulty {
        _ if id.is_null() => {}
        Some(_) => write_true(id, out),
        None => write_error(id, RejectCode::Other, complaint, out),
    }
    match difficulty {
        Some(difficulty) => ServerEvent::SuggestDifficulty(difficulty),
        None if id.is_null() => ServerEvent::Ignored,
        None => ServerEvent::Answered,
    }
}

fn answer_true<'a>(id: &Id, out: &mut Vec<u8>) -> ServerEvent<'a> {
    write_true(id, out);
    ServerEvent::Answered
}

#[cfg(test)]
mod tests;
