//! What miners send, read tolerantly.
//!
//! A line is a call, the reply to one of ours, or a fault that closes the connection. A call whose method is known but whose
//! params make no sense is still a call: it gets an answer. What an answer is, and in which order calls may come, is decided by
//! [`crate::server_role`]; what a share is worth, by [`crate::share`].

use std::borrow::Cow;

use crate::difficulty::{Difficulty, Target};
use crate::envelope::{Envelope, PARAMS_MAX, Params, Value};
use crate::error::{RejectCode, StratumError, escape};
use crate::hex;
use crate::id::{Id, IdFault};
use crate::version::VersionMask;

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
    /// A `mining.submit` without the fields of one, and the error to answer with. Apart, because every submit is counted.
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

/// A line that ends the connection: the peer speaks something else, or tries something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LineFault {
    /// The line is not UTF-8.
    #[error("line is not UTF-8")]
    NotUtf8,
    /// The line is not one JSON object.
    #[error("line is not one JSON object")]
    Json,
    /// Arrays and objects nest deeper than 8.
    #[error("JSON nests deeper than 8")]
    TooDeep,
    /// A key stands twice in an object.
    #[error("JSON has a key twice")]
    DuplicateKey,
    /// The id is a string or number that is not echoed.
    #[error("id is too long or not printable ASCII")]
    BadId,
    /// There are more than 16 params, extensions or unknown keys.
    #[error("more than 16 params")]
    TooManyParams,
    /// A TLS hello came to a plain port.
    #[error("TLS hello on a plain port")]
    TlsOnPlain,
    /// An HTTP request.
    #[error("HTTP request")]
    Http,
    /// A PROXY protocol header where none is expected.
    #[error("PROXY protocol header")]
    ProxyHeader,
    /// An SSH banner.
    #[error("SSH banner")]
    Ssh,
}

impl LineFault {
    /// Returns the reason label for logs and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Json => "json",
            Self::TooDeep => "json_depth",
            Self::DuplicateKey => "json_duplicate_key",
            Self::BadId => "bad_id",
            Self::TooManyParams => "too_many_params",
            Self::TlsOnPlain => "tls_on_plain",
            Self::Http => "http",
            Self::ProxyHeader => "proxy_header",
            Self::Ssh => "ssh",
        }
    }

    /// Recognises other protocols by their first bytes. A TLS hello may hold no newline: callers that care look at a
    /// connection's first chunk with this before there is a line.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 9] =
            [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"PRI * HTTP"];
        // The version 2 signature is `\r\n\r\n\0\r\nQUIT\n`: seen as lines, two empty ones, a NUL and a QUIT.
        const PROXY: [&[u8]; 4] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b"\0", b"QUIT"];
        if bytes.starts_with(&[0x16, 0x03]) {
            return Some(Self::TlsOnPlain);
        }
        if METHODS.iter().any(|method| bytes.starts_with(method)) {
            return Some(Self::Http);
        }
        if bytes.starts_with(PROXY[0]) || bytes.starts_with(PROXY[1]) || bytes == PROXY[2] || bytes == PROXY[3] {
            return Some(Self::ProxyHeader);
        }
        bytes.starts_with(b"SSH-").then_some(Self::Ssh)
    }
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
                call: Err(other("id must be a number, string or null")),
            }));
        }
        Err(IdFault::Text) => return Err(LineFault::BadId),
    };
    let call = match method {
        Some(Value::Text(method)) => read_call(method, params)?,
        None | Some(Value::Null) if result.is_some() || error.is_some() => return Ok(Some(ClientLine::Reply { id })),
        _ => Err(other("method must be a string")),
    };
    Ok(Some(ClientLine::Call { id, call }))
}

/// Reads a call. The inner error is answered, the outer one closes.
fn read_call<'a>(method: Cow<'a, str>, params: Params<'a>) -> Result<Result<Call<'a>, StratumError>, LineFault> {
    Ok(match method.as_ref() {
        "mining.submit" => with_list(params, read_submit).or_else(|error| Ok(Call::BadSubmit(error))),
        "mining.subscribe" => with_list(params, read_subscribe),
        "mining.authorize" => with_list(params, read_authorize),
        "mining.configure" => return with_list_or_fault(params, read_configure),
        "mining.extranonce.subscribe" => Ok(Call::ExtranonceSubscribe),
        "mining.suggest_difficulty" => {
            with_list(params, |mut params| Ok(Call::SuggestDifficulty(number(&params.take(0)))))
        }
        "mining.suggest_target" => with_list(params, |mut params| Ok(Call::SuggestTarget(target(&params.take(0))))),
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
    let session = text(params.take(1)).filter(|session| !session.is_empty() && session.len() <= STRING_MAX);
    Ok(Call::Subscribe { user_agent, session })
}

fn read_authorize(mut params: Params<'_>) -> Result<Call<'_>, StratumError> {
    let unauthorized = |words| StratumError::of(RejectCode::Unauthorized, words);
    let worker = text(params.take(0)).ok_or_else(|| unauthorized("worker name must be a string"))?;
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

/// Reads `mining.suggest_difficulty(1000)`, the value inside the method's name, as old proxies sent it.
fn legacy_suggestion(method: &str) -> Option<Option<f64>> {
    let value = method.strip_prefix("mining.suggest_difficulty(")?.strip_suffix(')')?;
    Some(value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| value.parse().ok()).flatten())
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
fn whole(digits: &str) -> Option<u32> {
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

/// Returns text fit for logs: as it is where it is short and plain, else escaped and cut.
fn shown(text: Cow<'_, str>) -> Cow<'_, str> {
    let plain = text.len() <= USER_AGENT_MAX
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"'\\".contains(&byte));
    if plain { text } else { Cow::Owned(escape(&text, USER_AGENT_MAX)) }
}

fn other(message: &str) -> StratumError {
    StratumError::of(RejectCode::Other, message)
}

#[cfg(test)]
mod tests;
