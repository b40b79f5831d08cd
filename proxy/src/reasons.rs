//! The reasons that appear in metrics, logs and the share log: why sessions end, submits are
//! refused, difficulties change, alarms are raised. Each list is an enum, and its labels
//! ([`crate::label`]) are the only text. docs/metrics.md explains every label, which a test checks.
//!
//! The reasons why a pool connection ends are in [`crate::upstream`], because they also decide when
//! the next attempt is made.

pub(crate) mod metrics;

use stratum::client_message::LineFault;
use stratum::client_role::Ignored;
use stratum::error::RejectCode;
use stratum::server_role::SubmitFault;
use stratum::share::ShareFault;

use crate::label::{Label as _, labels, labels_of};
use crate::outcome::Outcome;
use crate::tls::TlsFault;

labels! {
    /// Why a miner's connection ends.
    pub(crate) enum CloseReason {
        ClosedByMiner = "closed_by_miner",
        ResetByMiner = "reset_by_miner",
        ReadFailed = "read_failed",
        WriteFailed = "write_failed",
        /// The miner reads nothing of what is sent to it, or reads too slowly.
        SlowReader = "slow_reader",
        /// The miner did not subscribe and authorize in time.
        HandshakeTimeout = "handshake_timeout",
        /// Too many calls before a subscribe was answered.
        PrehandshakeQueue = "prehandshake_queue",
        LineTooLong = "line_too_long",
        /// The miner sent too many empty lines.
        EmptyLines = "empty_lines",
        /// Too many malformed calls.
        Malformed = "malformed",
        /// The miner sent too many calls of methods that only servers send.
        ServerMethod = "server_method",
        /// Too many invalid worker names.
        WorkerName = "worker_name",
        /// The session has authorized too many worker names.
        TooManyWorkers = "too_many_workers",
        /// Too many authorize calls during the wait that follows a refused worker name.
        AuthorizeFlood = "authorize_flood",
        /// All shares of the miner have been invalid for minutes.
        BadShares = "bad_shares",
        /// `sessions_max` is reached.
        Full = "full",
        /// Too many handshakes from this address failed recently.
        TooManyFailures = "too_many_failures",
        /// No pool has search space left for the miner.
        NoSearchSpace = "no_search_space",
        /// All pools have been down for `release_after`: the miner may use its own backup pools.
        Released = "released",
        /// The miner must roll fewer version bits, and its firmware cannot be told.
        MaskShrank = "mask_shrank",
        /// A passthrough miner's pool changed the extranonce, and its firmware cannot be told.
        ExtranonceChanged = "extranonce_changed",
        /// A passthrough miner's own pool connection failed.
        TargetLost = "target_lost",
        /// The proxy shuts down.
        Shutdown = "shutdown",
        /// The connection's task panicked.
        Panicked = "panicked",
        /// The connection's task was dropped.
        Aborted = "aborted",
        ;
        /// A line is not a valid message.
        Line(LineFault),
    }
}

labels_of! {
    LineFault {
        NotUtf8 = "not_utf8",
        Json = "json",
        TooDeep = "json_depth",
        DuplicateKey = "json_duplicate_key",
        BadId = "bad_id",
        TooManyParams = "too_many_params",
        TlsOnPlain = "tls_on_plain",
        Http = "http",
        ProxyHeader = "proxy_header",
        Ssh = "ssh",
    }
}

labels! {
    /// Why we refuse a submit.
    pub(crate) enum Reject {
        /// The job is no longer kept, or this miner never got it.
        JobNotFound = "job_not_found",
        /// The pool has retired the job.
        JobStale = "job_stale",
        Duplicate = "duplicate",
        /// So many shares of the miner are remembered that a new one cannot be told from a
        /// duplicate.
        TooManyShares = "too_many_shares",
        LowDifficulty = "low_difficulty",
        BadHex = "bad_hex",
        BadExtranonce2 = "bad_extranonce2",
        BadNtime = "bad_ntime",
        BadNonce = "bad_nonce",
        BadVersionBits = "bad_version_bits",
        /// The ntime is before the job's, or too far ahead of it.
        NtimeOutOfRange = "ntime",
        /// The submit has version bits outside the mask.
        OutsideMask = "version_mask",
        VersionMissing = "version_missing",
        SubmitMalformed = "submit_malformed",
        SubmitBeforeSubscribe = "submit_before_subscribe",
        SubmitUnauthorized = "submit_unauthorized",
        /// The pool did not answer, or could not be reached.
        Unresolved = "unresolved",
    }
}

impl Reject {
    /// The error code in the response to the miner.
    pub(crate) const fn code(self) -> RejectCode {
        match self {
            Self::JobNotFound | Self::JobStale => RejectCode::JobNotFound,
            Self::Duplicate => RejectCode::Duplicate,
            Self::LowDifficulty => RejectCode::LowDifficulty,
            Self::SubmitBeforeSubscribe => RejectCode::NotSubscribed,
            Self::SubmitUnauthorized => RejectCode::Unauthorized,
            Self::TooManyShares
            | Self::BadHex
            | Self::BadExtranonce2
            | Self::BadNtime
            | Self::BadNonce
            | Self::BadVersionBits
            | Self::NtimeOutOfRange
            | Self::OutsideMask
            | Self::VersionMissing
            | Self::SubmitMalformed
            | Self::Unresolved => RejectCode::Other,
        }
    }

    /// The outcome that is counted for the submit.
    pub(crate) const fn outcome(self) -> Outcome {
        match self {
            Self::JobNotFound | Self::JobStale => Outcome::Stale,
            Self::Duplicate => Outcome::Duplicate,
            Self::TooManyShares => Outcome::Overflow,
            Self::LowDifficulty => Outcome::LowDifficulty,
            Self::SubmitBeforeSubscribe | Self::SubmitUnauthorized => Outcome::Unauthorized,
            Self::Unresolved => Outcome::Unresolved,
            Self::BadHex
            | Self::BadExtranonce2
            | Self::BadNtime
            | Self::BadNonce
            | Self::BadVersionBits
            | Self::NtimeOutOfRange
            | Self::OutsideMask
            | Self::VersionMissing
            | Self::SubmitMalformed => Outcome::Malformed,
        }
    }

    /// The error text in the response to the miner.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::JobNotFound => "job not found",
            Self::JobStale => "job is stale",
            Self::Duplicate => "duplicate share",
            Self::TooManyShares => "too many shares for one job",
            Self::Unresolved => "pool did not answer",
            other => other.label(),
        }
    }
}

impl From<ShareFault> for Reject {
    fn from(fault: ShareFault) -> Self {
        match fault {
            ShareFault::BadHex => Self::BadHex,
            ShareFault::BadExtranonce2 => Self::BadExtranonce2,
            ShareFault::BadNtime => Self::BadNtime,
            ShareFault::BadNonce => Self::BadNonce,
            ShareFault::BadVersionBits => Self::BadVersionBits,
            ShareFault::NtimeOutOfRange => Self::NtimeOutOfRange,
            ShareFault::OutsideMask => Self::OutsideMask,
            ShareFault::VersionMissing => Self::VersionMissing,
            ShareFault::LowDifficulty => Self::LowDifficulty,
        }
    }
}

impl From<SubmitFault> for Reject {
    fn from(fault: SubmitFault) -> Self {
        match fault {
            SubmitFault::Malformed => Self::SubmitMalformed,
            SubmitFault::UnknownJob => Self::JobNotFound,
            SubmitFault::BeforeSubscribe => Self::SubmitBeforeSubscribe,
            SubmitFault::Unauthorized => Self::SubmitUnauthorized,
        }
    }
}

labels_of! {
    RejectCode {
        JobNotFound = "job_not_found",
        Duplicate = "duplicate",
        LowDifficulty = "low_difficulty",
        Unauthorized = "unauthorized",
        NotSubscribed = "not_subscribed",
        Other = "other",
    }
}

labels! {
    /// Conditions that an operator should look at.
    pub(crate) enum Alarm {
        /// Every target is down.
        NoTarget = "no_target",
        /// No pool has search space for a miner, or another connection to a pool adds no search
        /// space.
        NoSearchSpace = "no_search_space",
        DoesNotFit = "does_not_fit",
        /// A passthrough pool's extranonce2_size is one that little firmware can use.
        OddExtranonce2Size = "odd_extranonce2_size",
        AuthFailed = "auth_failed",
        Unusable = "unusable",
        Malformed = "malformed",
        HandshakeTimeout = "handshake_timeout",
        Silent = "silent",
        /// A pool answers but has sent no job for a long time.
        Quiet = "quiet",
        RejectsAll = "rejects_all",
        /// A job could not be read and was skipped.
        BadJob = "bad_job",
        BadJobs = "bad_jobs",
        BadDifficulty = "bad_difficulty",
        DifficultyJump = "difficulty_jump",
        UnmatchedAnswers = "unmatched_answers",
        /// A pool asked us to reconnect to a host that is not in `reconnect_hosts`.
        RedirectRefused = "redirect_refused",
        ReconnectTooOften = "reconnect_too_often",
        /// A pool rejects more than a tenth of the shares.
        RejectsMany = "rejects_many",
        Quarantined = "quarantined",
        PayoutFingerprintChanged = "payout_fingerprint_changed",
        /// The ntime of a pool's jobs differs from our clock by hours.
        TimeOff = "time_off",
        UpstreamLineTooLong = "upstream_line_too_long",
        NotReading = "not_reading",
        /// The maximum number of shares wait for a pool's answers.
        InFlightFull = "in_flight_full",
        /// A pool has sent `client.show_message`.
        PoolMessage = "pool_message",
        AcceptFailed = "accept_failed",
        StaleTimeline = "stale_timeline",
        ClockStep = "clock_step",
        StateNotWritten = "state_not_written",
        ShareLogFailed = "share_log_failed",
        ShareLogLost = "share_log_lost",
        ;
        Tls(TlsFault),
    }
}

labels! {
    /// Why the difficulty of a session changed.
    pub(crate) enum Retarget {
        /// This is the session's first difficulty.
        Start = "start",
        /// Shares came too fast.
        Fast = "fast",
        /// Shares came too slowly.
        Slow = "slow",
        /// No shares came.
        Idle = "idle",
        /// The miner suggested a difficulty.
        Wish = "wish",
        /// The pool's difficulty or a hold limits it.
        Pool = "pool",
    }
}

labels! {
    /// The steps taken, in this order, with a miner whose shares are all invalid.
    pub(crate) enum Correction {
        /// The difficulty is sent again, and the job on another lane with `clean_jobs`.
        Renew = "renew",
        /// The miner is asked to reconnect.
        Reconnect = "reconnect",
        Close = "close",
    }
}

labels! {
    /// Why a line from a pool was ignored.
    pub(crate) enum IgnoredLine {
        /// A response to no request of ours.
        UnmatchedAnswer = "unmatched_answer",
        /// A response to a share that had already been counted as unresolved.
        LateAnswer = "late_answer",
        /// A request from the pool, beyond the number that are answered.
        Question = "question",
        ;
        Line(Ignored),
    }
}

labels_of! {
    Ignored {
        UnknownMethod = "unknown_method",
        BadMask = "bad_mask",
        BadPort = "bad_port",
    }
}
