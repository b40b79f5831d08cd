//! What miners send, read tolerantly.
//!
//! A line is a call, the reply to one of ours, or a fault that closes the connection. A call whose
//! method is known but whose params make no sense is still a call: it gets an answer. What an
//! answer is, and in which order calls may come, is decided by [`crate::server_role`]; what a share
//! is worth, by [`crate::share`].

use std::borrow::Cow;

use crate::difficulty::Difficulty;
use crate::envelope::{Envelope, PARAMS_MAX, Value};
use crate::error::StratumError;
use crate::id::{Id, IdFault};
pub use crate::line_fault::LineFault;
use crate::version::VersionMask;

mod call;

/// Longest string taken from a miner where no shorter bound applies, in bytes.
pub const STRING_MAX: usize = 512;
/// Longest user agent kept, in characters after escaping.
pub const USER_AGENT_MAX: usize = 64;

/// One line of a miner.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientLine<'a> {
    /// A request or notification.
    Call {
        /// The id to answer under; null where there was none, or none that can be echoed.
        id: Id,
        /// What is asked, or the error to answer with.
        call: Result<Call<'a>, StratumError>,
    },
    /// The reply to a request of ours, such as a ping.
    Reply {
        /// The id of our request.
        id: Id,
    },
}

/// What a miner asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Call<'a> {
    /// `mining.configure`: BIP310 extensions.
    Configure(Configure<'a>),
    /// `mining.subscribe`.
    Subscribe {
        /// The firmware's name for itself, escaped and cut at 64 characters; often empty.
        user_agent: Cow<'a, str>,
        /// A session the miner wishes to resume.
        session: Option<Cow<'a, str>>,
    },
    /// `mining.authorize`.
    Authorize {
        /// The worker's name as sent.
        worker: Cow<'a, str>,
        /// The password; empty where there was none. It may be a secret.
        password: Cow<'a, str>,
    },
    /// `mining.submit`.
    Submit(Submit<'a>),
    /// A `mining.submit` without the fields of one, and the error to answer with. Apart, because
    /// every submit is counted.
    BadSubmit(StratumError),
    /// `mining.extranonce.subscribe`.
    ExtranonceSubscribe,
    /// `mining.suggest_difficulty`; `None` where the value is no number.
    SuggestDifficulty(Option<f64>),
    /// `mining.suggest_target`; `None` where the value is no target.
    SuggestTarget(Option<Difficulty>),
    /// `mining.multi_version`, the version rolling of S9 firmware.
    MultiVersion,
    /// `mining.ping`.
    Ping,
    /// `pong` as a method of its own, which ESP-Miner sends.
    Pong,
    /// `mining.get_transactions` and `mining.get_txnhashes`.
    GetTransactions,
    /// `client.get_version`.
    GetVersion,
    /// `mining.capabilities`.
    Capabilities,
    /// Any other method, escaped and cut at 64 characters.
    Unknown(Cow<'a, str>),
}

/// The extensions a miner asks for, in its order, each once.
#[derive(Debug, Clone, PartialEq)]
pub struct Configure<'a> {
    /// At most sixteen extensions.
    pub extensions: Vec<Extension<'a>>,
}

/// An extension of BIP310.
#[derive(Debug, Clone, PartialEq)]
pub enum Extension<'a> {
    /// `version-rolling`; `None` where its parameters make no sense.
    VersionRolling(Option<RollingRequest>),
    /// `minimum-difficulty`; `None` where its value is no difficulty.
    MinimumDifficulty(Option<Difficulty>),
    /// `subscribe-extranonce`.
    SubscribeExtranonce,
    /// Any other, by its name.
    Unknown(Cow<'a, str>),
}

/// The parameters of `version-rolling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingRequest {
    /// The bits the miner can roll: all where it names none.
    pub mask: VersionMask,
    /// The fewest bits it can work with.
    pub min_bit_count: u32,
}

/// A submitted share, unread: what its fields mean is for [`crate::share::decode`].
#[derive(Debug, Clone, PartialEq)]
pub struct Submit<'a> {
    /// The worker's name.
    pub worker: Cow<'a, str>,
    /// The id of the job, compared exactly.
    pub job_id: Cow<'a, str>,
    /// The miner's part of the search space.
    pub extranonce2: Cow<'a, str>,
    /// The header's time.
    pub ntime: Word<'a>,
    /// The header's nonce.
    pub nonce: Word<'a>,
    /// The rolled bits of the version, where the miner sent any.
    pub version_bits: Option<Word<'a>>,
}

/// A 32-bit field: hex digits in a string, or a JSON number that means its value.
#[derive(Debug, Clone, PartialEq)]
pub enum Word<'a> {
    /// The string as sent.
    Hex(Cow<'a, str>),
    /// The number, if it is a whole one from 0 to 2^32 - 1.
    Number(Option<u32>),
}

/// Reads a miner's line, without its newline. Returns `None` for an empty one.
///
/// # Errors
/// A [`LineFault`] for a line after which the connection is to be closed.
pub fn parse_client(line: &[u8]) -> Result<Option<ClientLine<'_>>, LineFault> {
    let Some(envelope) = Envelope::read(line)? else {
        return Ok(None);
    };
    let Envelope { id, method, params, result, error, .. } = envelope;
    if params.len() > PARAMS_MAX {
        return Err(LineFault::TooManyParams);
    }
    let id = match id.map_or(Ok(Id::NULL), Id::from_raw) {
        Ok(id) => id,
        Err(IdFault::Kind) => {
            return Ok(Some(ClientLine::Call {
                id: Id::NULL,
                call: Err(call::other("id must be a number, string or null")),
            }));
        }
        Err(IdFault::Text) => return Err(LineFault::BadId),
    };
    let call = match method {
        Some(Value::Text(method)) => call::read(method, params)?,
        None | Some(Value::Null) if result.is_some() || error.is_some() => {
            return Ok(Some(ClientLine::Reply { id }));
        }
        _ => Err(call::other("method must be a string")),
    };
    Ok(Some(ClientLine::Call { id, call }))
}

#[cfg(test)]
mod tests;
