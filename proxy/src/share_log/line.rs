//! The lines of the share log: JSON, one object a line. docs/operating.md explains each key.
//!
//! Text from miners and pools (names, job ids, messages) is written as JSON strings, so that a
//! newline or an escape sequence stays inside.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::entry::{Entry, ShareRefusal};
use crate::label::Label as _;
use crate::target::PerTarget;
use crate::work::job_id_text;

#[derive(Debug, Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// The log begins, or continues in another file.
    Start {
        seq: u64,
        time: Timestamp,
        proxy: &'a str,
        version: &'static str,
        /// What came before: `nothing`, `stop`, `rotation`, or `crash`, after which the last lines
        /// may be missing.
        after: &'a str,
        /// How many bytes of an unfinished line were removed.
        torn_bytes: u64,
    },
    Share {
        seq: u64,
        time: Timestamp,
        session: u64,
        worker_name: Option<&'a str>,
        target: Option<&'a str>,
        job_id: Option<&'a str>,
        pool_job_id: Option<&'a str>,
        difficulty: Option<f64>,
        share_difficulty: Option<f64>,
        pool_difficulty: Option<f64>,
        verdict: &'static str,
        code: Option<i32>,
        reason: Option<&'a str>,
        latency_ms: f64,
        block: bool,
    },
    /// Lines are missing here.
    Gap { seq: u64, time: Timestamp, lost: u64, reason: &'static str },
    Stop {
        seq: u64,
        time: Timestamp,
        /// The number of submits since the start of the process, by verdict.
        shares: &'a BTreeMap<&'static str, u64>,
        lost: u64,
    },
}

impl Line<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self)
            .expect("numbers and text are JSON, and memory does not fail");
        out.push(b'\n');
    }
}

/// Appends an entry's line.
pub(super) fn write_entry(entry: &Entry, seq: u64, targets: &PerTarget<String>, out: &mut Vec<u8>) {
    let Entry { at, record, verdict, refusal, latency } = entry;
    let work = record.work.as_ref();
    let job_id = work.map(|work| job_id_text(work.job_id));
    Line::Share {
        seq,
        time: millis(*at),
        session: record.session,
        worker_name: record.worker_name.as_deref(),
        target: work.and_then(|work| targets.get(work.job.upstream.target)).map(String::as_str),
        job_id: job_id.as_deref(),
        pool_job_id: work.map(|work| &*work.job.job.job_id),
        difficulty: record.difficulty,
        share_difficulty: record.found,
        pool_difficulty: work.map(|work| work.job.difficulty.get()),
        verdict: verdict.label(),
        code: refusal.as_ref().map(|refusal| refusal.code().code()),
        reason: refusal.as_ref().map(ShareRefusal::words),
        latency_ms: (latency.as_secs_f64() * 1e6).round() / 1e3,
        block: record.block,
    }
    .write(out);
}

/// A time, truncated to milliseconds.
pub(super) fn millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
