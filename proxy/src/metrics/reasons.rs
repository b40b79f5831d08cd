//! The reasons that stand as labels. A reason that is missing here is still counted, from its first
//! event on; one that is here shows as zero before. docs/metrics.md lists them all, which a test
//! checks.

use stratum::error::RejectCode;

/// Why a miner's connection ended.
pub(super) const CLOSES: &[&str] = &[
    "closed_by_miner",
    "reset_by_miner",
    "read_failed",
    "write_failed",
    "slow_reader",
    "handshake_timeout",
    "prehandshake_queue",
    "line_too_long",
    "not_utf8",
    "json",
    "json_depth",
    "json_duplicate_key",
    "bad_id",
    "too_many_params",
    "tls_on_plain",
    "http",
    "proxy_header",
    "ssh",
    "empty_lines",
    "malformed",
    "bad_worker_name",
    "worker_name",
    "too_many_workers",
    "server_method",
    "panicked",
    "aborted",
    "authorize_flood",
    "no_search_space",
    "bad_shares",
    "full",
    "too_many_failures",
    "released",
    "extranonce_changed",
    "upstream_lost",
    "mask_shrank",
    "shutdown",
];

/// Why we refuse a submit.
pub(super) const REJECTS: &[&str] = &[
    "job_not_found",
    "job_stale",
    "duplicate",
    "too_many_shares",
    "low_difficulty",
    "bad_hex",
    "bad_extranonce2",
    "bad_ntime",
    "bad_nonce",
    "bad_version_bits",
    "ntime",
    "version_mask",
    "version_missing",
    "submit_malformed",
    "submit_before_subscribe",
    "submit_unauthorized",
    "unresolved",
];

/// Codes that a pool may refuse with.
pub(super) const CODES: [RejectCode; 6] = [
    RejectCode::Other,
    RejectCode::JobNotFound,
    RejectCode::Duplicate,
    RejectCode::LowDifficulty,
    RejectCode::Unauthorized,
    RejectCode::NotSubscribed,
];

/// The label of a pool's code.
pub(super) const fn of_code(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Other => "other",
        RejectCode::JobNotFound => "job_not_found",
        RejectCode::Duplicate => "duplicate",
        RejectCode::LowDifficulty => "low_difficulty",
        RejectCode::Unauthorized => "unauthorized",
        RejectCode::NotSubscribed => "not_subscribed",
    }
}
