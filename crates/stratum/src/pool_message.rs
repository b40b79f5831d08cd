//! The messages pools send. They are parsed tolerantly, and every value is checked.
//!
//! A reply becomes a result or an error, whatever its form. A notification becomes values within
//! bounds, or an error. [`crate::client_role`] finds the request that a reply answers and decides
//! what follows from it.

use crate::difficulty::Difficulty;
use crate::envelope::{Envelope, Params, Value};
use crate::error::{RejectCode, StratumError, escape};
use crate::extranonce::Extranonce;
use crate::id::Id;
use crate::job::{BadNotify, Job};
use crate::line_fault::LineFault;
use crate::version::VersionMask;

/// How much text of `client.show_message` is kept, in characters after escaping.
pub const SHOW_MESSAGE_MAX: usize = 256;
/// How much of the host of `client.reconnect` is kept, in characters after escaping.
pub const HOST_MAX: usize = 255;
/// The longest wait of `client.reconnect` that is honoured, in seconds.
pub const WAIT_MAX_SECS: u32 = 300;

/// One line received from a pool.
#[derive(Debug, Clone, PartialEq)]
pub enum PoolLine {
    /// A reply to a request of ours.
    Reply {
        /// The request's id; `None` if it is not of the form of our ids.
        request: Option<u64>,
        /// The result, or any form of error.
        outcome: Result<PoolResult, StratumError>,
    },
    /// `mining.notify`.
    Notify(Result<Job, BadNotify>),
    /// `mining.set_difficulty`; `None` if its value is not a plausible difficulty.
    SetDifficulty(Option<Difficulty>),
    /// `mining.set_extranonce`; the error says what is wrong with it.
    SetExtranonce(Result<Extranonce, StratumError>),
    /// `mining.set_version_mask`; `None` if its value is not a mask.
    SetVersionMask(Option<VersionMask>),
    /// `client.reconnect`.
    Reconnect {
        /// The host to connect to, escaped and truncated; `None` if the pool names none.
        host: Option<String>,
        /// The port, if there is one; an error if its value is not a port.
        port: Option<Result<u16, BadPort>>,
        /// How long to wait before connecting, from 0 to 300 s.
        wait_secs: u32,
    },
    /// `client.show_message`, escaped and truncated to 256 characters.
    ShowMessage(String),
    /// `client.get_version`.
    GetVersion {
        /// The id to answer under.
        id: Id,
    },
    /// `mining.ping`.
    Ping {
        /// The id to answer under.
        id: Id,
    },
    /// Any other method.
    Unknown {
        /// The id to answer under.
        id: Id,
        /// The method, escaped and truncated.
        method: String,
    },
}

/// A reply's result that is neither an error nor `false` nor null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolResult {
    /// `true`, the answer to most requests.
    True,
    /// Any other JSON, as text.
    Json(Box<str>),
}

/// A value that is not a port number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a port from 1 to 65535")]
pub struct BadPort;

/// Reads a pool's line, without its newline. Returns `None` for an empty one.
///
/// # Errors
/// A [`LineFault`] for a line that is not a Stratum message.
pub fn parse_pool(line: &[u8]) -> Result<Option<PoolLine>, LineFault> {
    let Some(Envelope { id, method, mut params, result, error, reject_reason }) =
        Envelope::read(line)?
    else {
        return Ok(None);
    };
    let Some(Value::Text(method)) = method else {
        if result.is_none() && error.is_none() {
            return Ok(Some(PoolLine::Unknown { id: Id::NULL, method: String::new() }));
        }
        let outcome = outcome(result.as_ref(), error.as_ref(), reject_reason.as_ref());
        return Ok(Some(PoolLine::Reply { request: id.and_then(|id| id.parse().ok()), outcome }));
    };
    let id = id.and_then(|id| Id::from_raw(id).ok()).unwrap_or(Id::NULL);
    Ok(Some(match method.as_ref() {
        "mining.notify" => PoolLine::Notify(Job::read(&mut params)),
        "mining.set_difficulty" => {
            PoolLine::SetDifficulty(number(&params.take(0)).and_then(Difficulty::plausible))
        }
        "mining.set_extranonce" => {
            PoolLine::SetExtranonce(Extranonce::read(Some(&params.take(0)), Some(&params.take(1))))
        }
        "mining.set_version_mask" => PoolLine::SetVersionMask(match params.take(0) {
            Value::Text(digits) => VersionMask::parse(&digits),
            _ => None,
        }),
        "client.reconnect" | "mining.reconnect" => read_reconnect(&mut params),
        "client.show_message" => PoolLine::ShowMessage(match params.take(0) {
            Value::Text(text) => escape(&text, SHOW_MESSAGE_MAX),
            _ => String::new(),
        }),
        "client.get_version" => PoolLine::GetVersion { id },
        "mining.ping" | "client.ping" | "ping" => PoolLine::Ping { id },
        method => PoolLine::Unknown { id, method: escape(method, 64) },
    }))
}

/// Reduces a reply to a result or an error. An error takes precedence over a result; a result that
/// is missing, null or `false` is an error.
fn outcome(
    result: Option<&Value<'_>>,
    error: Option<&Value<'_>>,
    reject_reason: Option<&Value<'_>>,
) -> Result<PoolResult, StratumError> {
    if let Some(error) = error.and_then(StratumError::read) {
        return Err(error);
    }
    match result {
        Some(Value::Bool(true)) => Ok(PoolResult::True),
        Some(Value::Array(raw) | Value::Object(raw) | Value::Number(raw)) => {
            Ok(PoolResult::Json((*raw).into()))
        }
        Some(Value::Text(text)) => {
            Ok(PoolResult::Json(serde_json::Value::from(text.as_ref()).to_string().into()))
        }
        Some(Value::Bool(false)) => Err(reject_reason
            .and_then(StratumError::read)
            .unwrap_or_else(|| StratumError::of(RejectCode::Other, "refused without a reason"))),
        None | Some(Value::Null) => Err(reject_reason
            .and_then(StratumError::read)
            .unwrap_or_else(|| StratumError::of(RejectCode::Other, "neither result nor error"))),
    }
}

fn read_reconnect(params: &mut Params<'_>) -> PoolLine {
    let host = match params.take(0) {
        Value::Null => None,
        Value::Text(host) if host.is_empty() => None,
        Value::Text(host) => Some(escape(&host, HOST_MAX)),
        _ => Some("<not a host>".to_owned()),
    };
    let port = match params.take(1) {
        Value::Null => None,
        Value::Number(digits) => Some(port(digits)),
        Value::Text(digits) => Some(port(&digits)),
        _ => Some(Err(BadPort)),
    };
    let wait = match params.take(2) {
        Value::Number(digits) => digits.parse().unwrap_or(0.0),
        Value::Text(digits) => digits.parse().unwrap_or(0.0),
        _ => 0.0f64,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=300; NaN becomes 0"
    )]
    let wait_secs = wait.clamp(0.0, f64::from(WAIT_MAX_SECS)) as u32;
    PoolLine::Reconnect { host, port, wait_secs }
}

fn port(digits: &str) -> Result<u16, BadPort> {
    digits.parse().ok().filter(|port| *port != 0).ok_or(BadPort)
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Number(digits) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
