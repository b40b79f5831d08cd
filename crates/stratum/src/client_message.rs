//! The messages miners send, parsed tolerantly.
//!
//! A line is a call, a reply to one of our calls, or a fault that closes the connection. A call
//! with a known method and unusable params is still a call: it is answered with an error.
//! [`crate::server_role`] decides what is answered and in which order calls may come;
//! [`crate::share`] judges shares.

use std::borrow::Cow;

use crate::difficulty::Difficulty;
use crate::envelope::{Envelope, PARAMS_MAX, Value};
use crate::error::StratumError;
use crate::id::{Id, IdFault};
pub use crate::line_fault::LineFault;
use crate::version::VersionMask;

mod call;

/// The maximum length of a string from a miner, in bytes, where no shorter bound applies.
pub const STRING_MAX: usize = 512;
/// How much of a user agent is kept, in characters after escaping.
pub const USER_AGENT_MAX: usize = 64;

/// One line received from a miner.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientLine<'a> {
    /// A request or notification.
    Call {
        /// The id to answer under; null if the line has no id, or one that cannot be echoed.
        id: Id,
        /// The request, or the error to answer with.
        call: Result<Call<'a>, StratumError>,
    },
    /// The reply to one of our requests, such as a ping.
    Reply {
        /// The id of our request.
        id: Id,
    },
}

/// A request from a miner, by method.
#[derive(Debug, Clone, PartialEq)]
pub enum Call<'a> {
    /// `mining.configure`: BIP310 extensions.
    Configure(Configure<'a>),
    /// `mining.subscribe`.
    Subscribe {
        /// The firmware's name for itself, escaped and truncated to 64 characters; often empty.
        user_agent: Cow<'a, str>,
        /// The id of an earlier session that the miner asks to resume.
        session: Option<Cow<'a, str>>,
    },
    /// `mining.authorize`.
    Authorize {
        /// The worker's name as sent.
        worker: Cow<'a, str>,
        /// The password, empty if there is none. It may be a secret.
        password: Cow<'a, str>,
    },
    /// `mining.submit`.
    Submit(Submit<'a>),
    /// A `mining.submit` that lacks fields, and the error to answer with. It has a variant of its
    /// own because every submit is counted.
    BadSubmit(StratumError),
    /// `mining.extranonce.subscribe`.
    ExtranonceSubscribe,
    /// `mining.suggest_difficulty`; `None` if its value is not a number.
    SuggestDifficulty(Option<f64>),
    /// `mining.suggest_target`; `None` if its value is not a target.
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
    /// Any other method, escaped and truncated to 64 characters.
    Unknown(Cow<'a, str>),
}

/// The extensions a miner asks for, each once, in the order in which it names them.
#[derive(Debug, Clone, PartialEq)]
pub struct Configure<'a> {
    /// The extensions, at most sixteen.
    pub extensions: Vec<Extension<'a>>,
}

/// An extension of BIP310.
#[derive(Debug, Clone, PartialEq)]
pub enum Extension<'a> {
    /// `version-rolling`; `None` if its parameters are unusable.
    VersionRolling(Option<RollingRequest>),
    /// `minimum-difficulty`; `None` if its value is not a difficulty.
    MinimumDifficulty(Option<Difficulty>),
    /// `subscribe-extranonce`.
    SubscribeExtranonce,
    /// Any other, by its name.
    Unknown(Cow<'a, str>),
}

/// The parameters of `version-rolling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingRequest {
    /// The bits the miner can roll: all of them if it names no mask.
    pub mask: VersionMask,
    /// The minimum number of bits that the miner can work with.
    pub min_bit_count: u32,
}

/// A submitted share as text; [`crate::share::decode`] reads its fields.
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
    /// The rolled bits of the version, if the miner sent any.
    pub version_bits: Option<Word<'a>>,
}

/// A 32-bit field: hex digits in a string, or a JSON number, which is taken as the value itself.
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
/// A [`LineFault`] for a line that must close the connection.
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
