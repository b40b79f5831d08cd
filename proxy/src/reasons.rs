//! Why things happen that people count: each list of reasons is an enum, and its labels are the only
//! text ([`crate::label`]). docs/metrics.md explains every label, which a test checks.
//!
//! Why a pool's connection ends stands in [`crate::upstream`], as it also decides when the next one
//! is made.

use stratum::client_role::Ignored;

use crate::label::{labels, labels_of};

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
