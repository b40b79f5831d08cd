//! The params of a miner's calls, method by method.
//!
//! A field of the wrong type results in an error to answer with. Only what no miner sends by
//! mistake closes the connection. Hex digits are not decoded here.

use std::borrow::Cow;

use super::{
    Call, Configure, Extension, LineFault, RollingRequest, STRING_MAX, Submit, USER_AGENT_MAX, Word,
};
use crate::difficulty::{Difficulty, Target};
use crate::envelope::{PARAMS_MAX, Params, Value};
use crate::error::{RejectCode, StratumError, escape};
use crate::hex;
use crate::version::VersionMask;

/// Reads a call. The inner error is answered; the outer one closes the connection.
pub(super) fn read<'a>(
    method: Cow<'a, str>,
    params: Params<'a>,
) -> Result<Result<Call<'a>, StratumError>, LineFault> {
    Ok(match method.as_ref() {
        "mining.submit" => {
            with_list(params, read_submit).or_else(|error| Ok(Call::BadSubmit(error)))
        }
        "mining.subscribe" => with_list(params, read_subscribe),
        "mining.authorize" => with_list(params, read_authorize),
        "mining.configure" => return with_list_or_fault(params, read_configure),
        "mining.extranonce.subscribe" => Ok(Call::ExtranonceSubscribe),
        "mining.suggest_difficulty" => {
            with_list(params, |mut params| Ok(Call::SuggestDifficulty(number(&params.take(0)))))
        }
        "mining.suggest_target" => {
            with_list(params, |mut params| Ok(Call::SuggestTarget(target(&params.take(0)))))
        }
        "mining.multi_version" => Ok(Call::MultiVersion),
        "mining.ping" | "ping" => Ok(Call::Ping),
        "mining.pong" | "pong" => Ok(Call::Pong),
        "mining.get_transactions" | "mining.get_txnhashes" => Ok(Call::GetTransactions),
        "client.get_version" => Ok(Call::GetVersion),
        "mining.capabilities" => Ok(Call::Capabilities),
        name => match legacy_suggestion(name) {
            Some(value) => Ok(Call::SuggestDifficulty(value)),
            None => Ok(Call::Unknown(shown(method))),
        },
    })
}

fn with_list<'a>(
    params: Params<'a>,
    read: impl FnOnce(Params<'a>) -> Result<Call<'a>, StratumError>,
) -> Result<Call<'a>, StratumError> {
    if params.is_list() { read(params) } else { Err(other("params must be an array")) }
}

fn with_list_or_fault<'a>(
    params: Params<'a>,
    read: impl FnOnce(Params<'a>) -> Result<Result<Call<'a>, StratumError>, LineFault>,
) -> Result<Result<Call<'a>, StratumError>, LineFault> {
    if params.is_list() { read(params) } else { Ok(Err(other("params must be an array"))) }
}

fn read_submit(mut params: Params<'_>) -> Result<Call<'_>, StratumError> {
    if params.len() < 5 {
        return Err(other("submit needs worker, job_id, extranonce2, ntime and nonce"));
    }
    let worker = text(params.take(0)).ok_or_else(|| other("worker must be a string"))?;
    let job_id = text(params.take(1)).ok_or_else(|| other("job_id must be a string"))?;
    if job_id.len() > STRING_MAX {
        return Err(StratumError::of(RejectCode::JobNotFound, RejectCode::JobNotFound.text()));
    }
    let extranonce2 = text(params.take(2)).ok_or_else(|| other("extranonce2 must be a string"))?;
    let ntime = word(params.take(3)).ok_or_else(|| other("ntime must be hex or a number"))?;
    let nonce = word(params.take(4)).ok_or_else(|| other("nonce must be hex or a number"))?;
    let version_bits = match params.take(5) {
        Value::Null => None,
        bits => Some(word(bits).ok_or_else(|| other("version_bits must be hex or a number"))?),
    };
    Ok(Call::Submit(Submit { worker, job_id, extranonce2, ntime, nonce, version_bits }))
}

fn read_subscribe(mut params: Params<'_>) -> Result<Call<'_>, StratumError> {
    let user_agent = shown(text(params.take(0)).unwrap_or_default());
    let session =
        text(params.take(1)).filter(|session| !session.is_empty() && session.len() <= STRING_MAX);
    Ok(Call::Subscribe { user_agent, session })
}

fn read_authorize(mut params: Params<'_>) -> Result<Call<'_>, StratumError> {
    let unauthorized = |words| StratumError::of(RejectCode::Unauthorized, words);
    let worker =
        text(params.take(0)).ok_or_else(|| unauthorized("worker name must be a string"))?;
    let password = match params.take(1) {
        Value::Text(password) => password,
        Value::Number(digits) => Cow::Borrowed(digits),
        _ => Cow::Borrowed(""),
    };
    if password.len() > STRING_MAX {
        return Err(unauthorized("password too long"));
    }
    Ok(Call::Authorize { worker, password })
}

fn read_configure(mut params: Params<'_>) -> Result<Result<Call<'_>, StratumError>, LineFault> {
    let Value::Array(names) = params.take(0) else {
        return Ok(Err(other("configure needs a list of extensions")));
    };
    let (names, total) = Value::items_counted(names, PARAMS_MAX);
    let fields = match params.take(1) {
        Value::Object(raw) => Value::fields(raw, 64),
        _ => Vec::new(),
    };
    if total > PARAMS_MAX {
        return Err(LineFault::TooManyParams);
    }
    if (1..fields.len()).any(|at| fields[..at].iter().any(|(key, _)| *key == fields[at].0)) {
        return Err(LineFault::DuplicateKey);
    }
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let mut extensions: Vec<Extension<'_>> = Vec::new();
    for name in names {
        let Value::Text(name) = name else {
            return Ok(Err(other("an extension's name must be a string")));
        };
        let extension = match name.as_ref() {
            "version-rolling" => Extension::VersionRolling(rolling(
                field("version-rolling.mask"),
                field("version-rolling.min-bit-count"),
            )),
            "minimum-difficulty" => Extension::MinimumDifficulty(
                field("minimum-difficulty.value").and_then(number).and_then(Difficulty::new),
            ),
            "subscribe-extranonce" => Extension::SubscribeExtranonce,
            // The name is sent back in the answer, as a key.
            _ if shown(name.clone()) != name => {
                return Ok(Err(other("an extension's name must be short plain text")));
            }
            _ => Extension::Unknown(name),
        };
        if !extensions.contains(&extension) {
            extensions.push(extension);
        }
    }
    Ok(Ok(Call::Configure(Configure { extensions })))
}

fn rolling(mask: Option<&Value<'_>>, min_bit_count: Option<&Value<'_>>) -> Option<RollingRequest> {
    let mask = match mask {
        None => VersionMask(u32::MAX),
        Some(Value::Text(digits)) => VersionMask::parse(digits)?,
        Some(_) => return None,
    };
    let min_bit_count = match min_bit_count {
        None => 0,
        Some(Value::Number(digits)) => digits.parse().ok()?,
        Some(_) => return None,
    };
    Some(RollingRequest { mask, min_bit_count })
}

/// Reads `mining.suggest_difficulty(1000)`: old proxies sent the value inside the method's name.
fn legacy_suggestion(method: &str) -> Option<Option<f64>> {
    let value = method.strip_prefix("mining.suggest_difficulty(")?.strip_suffix(')')?;
    Some(
        value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
            .then(|| value.parse().ok())
            .flatten(),
    )
}

fn text(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Number(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// Reads a target of up to 64 hex digits, most significant first.
fn target(value: &Value<'_>) -> Option<Difficulty> {
    let Value::Text(digits) = value else {
        return None;
    };
    let mut bytes = [0; 32];
    hex::fill(digits, &mut bytes)?;
    bytes.reverse();
    Target::from_le_bytes(bytes).difficulty()
}

fn word(value: Value<'_>) -> Option<Word<'_>> {
    match value {
        Value::Text(digits) => Some(Word::Hex(digits)),
        Value::Number(digits) => Some(Word::Number(whole(digits))),
        _ => None,
    }
}

/// Reads a whole number in any JSON form: `7`, `7.0`, `7e0`.
pub(super) fn whole(digits: &str) -> Option<u32> {
    if let Ok(value) = digits.parse() {
        return Some(value);
    }
    let value: f64 = digits.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within range, checked in this line"
    )]
    (value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u32)
}

/// Returns text that is safe to log: unchanged if it is short and plain, else escaped and
/// truncated.
fn shown(text: Cow<'_, str>) -> Cow<'_, str> {
    let plain = text.len() <= USER_AGENT_MAX
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"'\\".contains(&byte));
    if plain { text } else { Cow::Owned(escape(&text, USER_AGENT_MAX)) }
}

pub(super) fn other(message: &str) -> StratumError {
    StratumError::of(RejectCode::Other, message)
}
