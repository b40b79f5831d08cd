//! The messages to miners, in the one form that every firmware understands.
//!
//! Each function appends one whole line. Notifications always have `"id":null`, because LuxOS drops
//! those without it. A job is rendered once for all miners of a lane. [`crate::server_role`] and
//! the proxy decide the order of messages.

use std::io::Write as _;

use bytes::Bytes;

use crate::difficulty::Difficulty;
use crate::error::RejectCode;
use crate::hex;
use crate::id::Id;
use crate::job::{Job, swap_words};
use crate::version::VersionMask;

/// The end of a notify line that tells miners to drop earlier jobs.
pub const NOTIFY_CLEAN: &[u8] = b"true]}\n";
/// The end of a notify line that lets miners finish earlier jobs.
pub const NOTIFY_KEEP: &[u8] = b"false]}\n";

/// The answer to one extension of `mining.configure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted<'a> {
    /// `version-rolling` with the mask granted; `None` refuses it.
    VersionRolling(Option<VersionMask>),
    /// `minimum-difficulty`.
    MinimumDifficulty(bool),
    /// `subscribe-extranonce`.
    SubscribeExtranonce(bool),
    /// An extension we do not support: refused.
    Unknown(&'a str),
}

/// Answers `true`.
pub fn write_true(id: &Id, out: &mut Vec<u8>) {
    write_result(id, b"true", out);
}

/// Answers with a string.
pub fn write_text(id: &Id, text: &str, out: &mut Vec<u8>) {
    open(id, out);
    string(text, out);
    out.extend_from_slice(b",\"error\":null}\n");
}

/// Answers with an error: `{"id":4,"result":null,"error":[21,"Job not found",null]}`.
pub fn write_error(id: &Id, code: RejectCode, message: &str, out: &mut Vec<u8>) {
    write_error_code(id, code.code(), message, out);
}

/// Answers with an error code that is not a [`RejectCode`].
pub(crate) fn write_error_code(id: &Id, code: i32, message: &str, out: &mut Vec<u8>) {
    open(id, out);
    out.extend_from_slice(b"null,\"error\":[");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    out.push(b',');
    string(message, out);
    out.extend_from_slice(b",null]}\n");
}

/// Answers a subscribe with two subscription pairs, `mining.set_difficulty` and `mining.notify`.
pub fn write_subscribed(
    id: &Id,
    session: &str,
    extranonce1: &[u8],
    extranonce2_size: u8,
    out: &mut Vec<u8>,
) {
    open(id, out);
    out.extend_from_slice(b"[[[\"mining.set_difficulty\",");
    string(session, out);
    out.extend_from_slice(b"],[\"mining.notify\",");
    string(session, out);
    out.extend_from_slice(b"]],\"");
    hex::push(extranonce1, out);
    out.extend_from_slice(b"\",");
    out.extend_from_slice(itoa::Buffer::new().format(extranonce2_size).as_bytes());
    out.extend_from_slice(b"],\"error\":null}\n");
}

/// Answers a configure. Only the extensions asked for are named: some firmware repeats its request
/// for ever if the answer names more.
pub fn write_configured<'a>(
    id: &Id,
    granted: impl IntoIterator<Item = Granted<'a>>,
    out: &mut Vec<u8>,
) {
    open(id, out);
    out.push(b'{');
    for (at, granted) in granted.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match granted {
            Granted::VersionRolling(Some(mask)) => {
                out.extend_from_slice(b"\"version-rolling\":true,\"version-rolling.mask\":\"");
                hex::push(&mask.0.to_be_bytes(), out);
                out.push(b'"');
            }
            Granted::VersionRolling(None) => out.extend_from_slice(b"\"version-rolling\":false"),
            Granted::MinimumDifficulty(granted) => flag("minimum-difficulty", granted, out),
            Granted::SubscribeExtranonce(granted) => flag("subscribe-extranonce", granted, out),
            Granted::Unknown(name) => flag(name, false, out),
        }
    }
    out.extend_from_slice(b"},\"error\":null}\n");
}

/// Sets the difficulty of the jobs that follow. An integer is written as one; a fraction is written
/// so that parsing it gives the same value.
pub fn write_set_difficulty(difficulty: Difficulty, out: &mut Vec<u8>) {
    notification("mining.set_difficulty", out);
    write!(out, "{difficulty}").expect("a Vec takes every byte");
    out.extend_from_slice(b"]}\n");
}

/// Sets the version bits that may be rolled from the next job on.
pub fn write_set_version_mask(mask: VersionMask, out: &mut Vec<u8>) {
    notification("mining.set_version_mask", out);
    out.push(b'"');
    hex::push(&mask.0.to_be_bytes(), out);
    out.extend_from_slice(b"\"]}\n");
}

/// Sets the extranonce from the next job on. Not every firmware knows it.
pub fn write_set_extranonce(extranonce1: &[u8], extranonce2_size: u8, out: &mut Vec<u8>) {
    notification("mining.set_extranonce", out);
    out.push(b'"');
    hex::push(extranonce1, out);
    out.extend_from_slice(b"\",");
    out.extend_from_slice(itoa::Buffer::new().format(extranonce2_size).as_bytes());
    out.extend_from_slice(b"]}\n");
}

/// Sends a ping, which also resets the miner's own timer for a silent pool.
pub fn write_ping(n: u64, out: &mut Vec<u8>) {
    write_request(n, "mining.ping", out);
}

/// Asks for the firmware's version.
pub fn write_get_version(n: u64, out: &mut Vec<u8>) {
    write_request(n, "client.get_version", out);
}

/// Asks the miner to reconnect to the same address: the only form all firmware understands.
pub fn write_reconnect(out: &mut Vec<u8>) {
    notification("client.reconnect", out);
    out.extend_from_slice(b"]}\n");
}

/// Shows a message on the miner's display or log.
pub fn write_show_message(text: &str, out: &mut Vec<u8>) {
    notification("client.show_message", out);
    string(text, out);
    out.extend_from_slice(b"]}\n");
}

/// Renders a notify without its last part, which is [`NOTIFY_CLEAN`] or [`NOTIFY_KEEP`].
/// `coinb1_tail` is appended to the pool's coinb1: it is the pool's extranonce1 and the lane.
#[must_use]
pub fn render_notify(job_id: &str, job: &Job, coinb1_tail: &[u8]) -> Bytes {
    let room = 300
        + 2 * (job.coinb1.len() + coinb1_tail.len() + job.coinb2.len())
        + 67 * job.branches.len();
    let mut out = Vec::with_capacity(room);
    notification("mining.notify", &mut out);
    string(job_id, &mut out);
    out.extend_from_slice(b",\"");
    let mut prev_hash = job.prev_hash;
    swap_words(&mut prev_hash);
    hex::push(&prev_hash, &mut out);
    out.extend_from_slice(b"\",\"");
    hex::push(&job.coinb1, &mut out);
    hex::push(coinb1_tail, &mut out);
    out.extend_from_slice(b"\",\"");
    hex::push(&job.coinb2, &mut out);
    out.extend_from_slice(b"\",[");
    for (at, branch) in job.branches.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        hex::push(branch, &mut out);
        out.push(b'"');
    }
    out.push(b']');
    for word in [job.version, job.nbits, job.ntime] {
        out.extend_from_slice(b",\"");
        hex::push(&word.to_be_bytes(), &mut out);
        out.push(b'"');
    }
    out.push(b',');
    Bytes::from(out)
}

/// Appends a request without params.
pub(crate) fn write_request(n: u64, method: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":[]}\n");
}

fn write_result(id: &Id, result: &[u8], out: &mut Vec<u8>) {
    open(id, out);
    out.extend_from_slice(result);
    out.extend_from_slice(b",\"error\":null}\n");
}

fn open(id: &Id, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b",\"result\":");
}

fn notification(method: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":null,\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":[");
}

fn flag(name: &str, value: bool, out: &mut Vec<u8>) {
    string(name, out);
    out.extend_from_slice(if value { b":true" } else { b":false" });
}

/// Appends a JSON string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text)
        .expect("a string always has a JSON form, and a Vec takes every byte");
}

#[cfg(test)]
mod tests;
