//! Why things happen that people count: each list of reasons is an enum, and its labels are the only
//! text ([`crate::label`]). docs/metrics.md explains every label, which a test checks.
//!
//! Why a pool's connection ends stands in [`crate::upstream`], as it also decides when the next one
//! is made.

use stratum::client_role::Ignored;

use crate::label::{labels, labels_of};
use crate::tls::TlsFault;

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
