//! Why things happen that people count: each list of reasons is an enum, and its labels are the only
//! text ([`crate::label`]). docs/metrics.md explains every label, which a test checks.
//!
//! Why a pool's connection ends stands in [`crate::upstream`], as it also decides when the next one
//! is made.

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
        /// It takes nothing of what we send, or too little.
        SlowReader = "slow_reader",
        /// Not subscribed and authorized in time.
        HandshakeTimeout = "handshake_timeout",
        /// Too many calls before a subscribe was answered.
        PrehandshakeQueue = "prehandshake_queue",
        LineTooLong = "line_too_long",
        /// Too many empty lines.
        EmptyLines = "empty_lines",
        /// Too many calls that make no sense.
        Malformed = "malformed",
        /// Too many calls of methods that only servers send.
        ServerMethod = "server_method",
        /// Too many worker names that cannot be taken.
        WorkerName = "worker_name",
        /// Too many worker names.
        TooManyWorkers = "too_many_workers",
        /// Too many names within the wait that a refused one costs.
        AuthorizeFlood = "authorize_flood",
        /// All its shares have been bad for minutes.
        BadShares = "bad_shares",
        /// As many sessions as configured.
        Full = "full",
        /// Its address has failed too often lately.
        TooManyFailures = "too_many_failures",
        /// No pool has room for it.
        NoSearchSpace = "no_search_space",
        /// Every pool is down: it may use its own.
        Released = "released",
        /// It cannot be told to roll fewer version bits.
        MaskShrank = "mask_shrank",
        /// It cannot be told of its pool's new extranonce.
        ExtranonceChanged = "extranonce_changed",
        /// The pool that it has to itself cannot be reached.
        UpstreamLost = "upstream_lost",
        /// We stop.
        Shutdown = "shutdown",
        /// Its task panicked.
        Panicked = "panicked",
        /// Its task was dropped.
        Aborted = "aborted",
        ;
        /// A line that is no message.
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
        /// We do not hold its job any more, or never gave it.
        JobNotFound = "job_not_found",
        /// Its pool has retired the job.
        JobStale = "job_stale",
        Duplicate = "duplicate",
        /// Too many shares of one job to tell whether it is new.
        TooManyShares = "too_many_shares",
        LowDifficulty = "low_difficulty",
        BadHex = "bad_hex",
        BadExtranonce2 = "bad_extranonce2",
        BadNtime = "bad_ntime",
        BadNonce = "bad_nonce",
        BadVersionBits = "bad_version_bits",
        /// The time is before the job's, or too far ahead of it.
        NtimeOutOfRange = "ntime",
        /// Version bits outside the mask.
        OutsideMask = "version_mask",
        VersionMissing = "version_missing",
        SubmitMalformed = "submit_malformed",
        SubmitBeforeSubscribe = "submit_before_subscribe",
        SubmitUnauthorized = "submit_unauthorized",
        /// The pool never said.
        Unresolved = "unresolved",
    }
}

impl Reject {
    /// The code that the miner is told.
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

    /// How the submit is counted.
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

    /// The words that the miner is told.
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
    /// What somebody should look at.
    pub(crate) enum Alarm {
        /// Every target is down.
        NoUpstream = "no_upstream",
        /// A miner finds no room at any pool, or a pool's further connection adds none.
        NoSearchSpace = "no_search_space",
        DoesNotFit = "does_not_fit",
        /// A passthrough gives its miners a size that few of them can use.
        OddExtranonce2Size = "odd_extranonce2_size",
        AuthFailed = "auth_failed",
        Unusable = "unusable",
        Malformed = "malformed",
        HandshakeTimeout = "handshake_timeout",
        Silent = "silent",
        /// A pool answers, and brings no jobs.
        Quiet = "quiet",
        RejectsAll = "rejects_all",
        /// One unreadable job.
        BadJob = "bad_job",
        BadJobs = "bad_jobs",
        BadDifficulty = "bad_difficulty",
        DifficultyJump = "difficulty_jump",
        UnmatchedAnswers = "unmatched_answers",
        /// A pool sends us to a host that is not listed.
        RedirectRefused = "redirect_refused",
        ReconnectTooOften = "reconnect_too_often",
        /// More than a tenth of a pool's answers are refusals.
        RejectsMany = "rejects_many",
        Quarantined = "quarantined",
        PayoutFingerprintChanged = "payout_fingerprint_changed",
        /// A pool's jobs are hours off our clock.
        TimeOff = "time_off",
        UpstreamLineTooLong = "upstream_line_too_long",
        NotReading = "not_reading",
        /// A pool owes as many answers as may be owed.
        InFlightFull = "in_flight_full",
        /// A pool has shown a message for people.
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
    /// Why a session was given another difficulty.
    pub(crate) enum Retarget {
        /// It is its first.
        Start = "start",
        /// Its shares came too fast.
        Fast = "fast",
        /// Its shares came too slowly.
        Slow = "slow",
        /// No shares came.
        Idle = "idle",
        /// The miner has asked for it.
        Wish = "wish",
        /// The pool's difficulty, or a hold, sets its bounds.
        Pool = "pool",
    }
}

labels! {
    /// The steps against a miner whose shares are all bad.
    pub(crate) enum Correction {
        /// Difficulty and work again, on a lane of its own, with `clean_jobs`.
        Renew = "renew",
        /// It is asked to reconnect.
        Reconnect = "reconnect",
        Close = "close",
    }
}

labels! {
    /// A line of a pool that means nothing to us.
    pub(crate) enum IgnoredLine {
        /// An answer to nothing we asked.
        UnmatchedAnswer = "unmatched_answer",
        /// An answer to a share that was given up.
        LateAnswer = "late_answer",
        /// A question beyond those that are answered.
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
