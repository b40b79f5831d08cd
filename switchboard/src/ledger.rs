//! The ledger: append-only events in a hash chain, and the state that is a fold over them. A
//! [`LedgerStore`] keeps the events ([`SqliteLedger`] here); [`crate::core`] acts on them.

mod names;
mod selection_change;
mod sqlite;
mod state;
mod writer;

pub use selection_change::SelectionChange;
pub use sqlite::{SqliteLedger, verify};
pub use state::{LeaseRecord, LedgerState, Origin, Sleeper};
pub use writer::{LedgerWriter, WriteError};

use std::collections::BTreeSet;
use std::path::PathBuf;

use directive::{Generation, LeaseId, LedgerHead, MachineId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::admit::Line;
use crate::blackout::SupplyChange;
use crate::commitment::{Breach, Figure, Phase, Unconfirmed};
use crate::lease::Lease;
use crate::plan::{Deficit, Selection};
use crate::plausible::MeterChange;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A switchboard opened the ledger, which begins an epoch.
    Opened {
        /// The number of the epoch: one more than the last.
        epoch: u64,
    },
    LeaseCommitted {
        lease: Lease,
        arithmetic: Vec<Line>,
        /// When shedding must begin at the latest, by the arithmetic of admission.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latest_safe_start: Option<Timestamp>,
        /// The request that the lease came from, if the client gave an idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    },
    /// A lease was cancelled.
    LeaseCancelled {
        lease: LeaseId,
        /// The time from which the lease no longer counts.
        cancelled_at: Timestamp,
        /// The phase in which the lease was.
        phase: Phase,
    },
    /// The end of a lease was changed.
    LeaseAmended {
        lease: LeaseId,
        end: Timestamp,
        end_before: Timestamp,
        /// The arithmetic of the time that was added; empty if the lease was shortened.
        arithmetic: Vec<Line>,
    },
    /// A plan was sent out.
    Decided {
        number: Generation,
        /// SHA-256 of the policy that the plan was made under.
        policy: String,
        /// SHA-256 of the plan.
        plan: String,
        /// The machines chosen, if they changed. Ledgers of schema 1 and 2 have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selection: Option<Selection>,
        /// How the machines chosen changed, if they did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        changes: Option<SelectionChange>,
        /// Feeds that stay short.
        deficits: Vec<Deficit>,
        /// The reasons of the steps as text, each once.
        reasons: Vec<String>,
    },
    /// A lease changed its state.
    CommitmentMoved {
        lease: LeaseId,
        from: Phase,
        to: Phase,
        why: String,
        /// What the meters showed.
        figures: Vec<Figure>,
    },
    /// A lease's power cannot be proven: it relies on machines that are only starved, or no meter
    /// shows what it would have to.
    Unverified {
        lease: LeaseId,
        why: String,
        /// Whether no believed meter showed it; else machines are only starved, or the tenant accepts a
        /// lease that is not proven.
        #[serde(default)]
        unproven: bool,
    },
    /// The meters prove a lease's power free, but the devices of some machines do not confirm it.
    Unconfirmed { lease: LeaseId, unconfirmed: Unconfirmed },
    /// Every device of a lease confirms again that its machine is down.
    Confirmed { lease: LeaseId },
    /// A lease was breached: power that it was promised was missing.
    Breached {
        lease: LeaseId,
        breach: Breach,
        /// What the meters showed.
        figures: Vec<Figure>,
    },
    /// It has become known who put machines to sleep, or that they are awake.
    Sleepers {
        /// Machines that an agent put to sleep, or is about to.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "names::set")]
        ours: BTreeSet<MachineId>,
        /// Machines that somebody else put to sleep.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "names::set")]
        others: BTreeSet<MachineId>,
        /// Machines that were seen awake since.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "names::set")]
        awake: BTreeSet<MachineId>,
    },
    /// A person had machines taken over that somebody else may have put to sleep.
    Adopted {
        machines: BTreeSet<MachineId>,
        /// Whether they were asked to come back before other machines.
        wake: bool,
        /// Who asked, as far as the request says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The machines have changed that may have work without a permit.
    Permitted {
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "names::set")]
        added: BTreeSet<MachineId>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "names::set")]
        removed: BTreeSet<MachineId>,
    },
    /// What is thought of some feeds' meters has changed.
    MetersJudged { meters: Vec<MeterChange> },
    /// Feeds have lost their power, or have it again.
    SupplyChanged { feeds: Vec<SupplyChange> },
    /// A policy came into force.
    PolicyLoaded {
        /// SHA-256 of the file.
        digest: String,
        /// The policy's revision, if it has one.
        revision: Option<u64>,
    },
    /// A policy was refused.
    PolicyRefused {
        /// SHA-256 of the file.
        digest: String,
        why: String,
        /// In entries of former versions, which refused a policy that could not carry the committed
        /// leases: the watts that were missing.
        shortfall: Watts,
    },
}

impl Event {
    /// The kind of the event, as in the ledger's column.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::LeaseCommitted { .. } => "lease_committed",
            Self::LeaseCancelled { .. } => "lease_cancelled",
            Self::LeaseAmended { .. } => "lease_amended",
            Self::Decided { .. } => "decided",
            Self::CommitmentMoved { .. } => "commitment_moved",
            Self::Unverified { .. } => "unverified",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Confirmed { .. } => "confirmed",
            Self::Breached { .. } => "breached",
            Self::Sleepers { .. } => "sleepers",
            Self::Adopted { .. } => "adopted",
            Self::Permitted { .. } => "permitted",
            Self::MetersJudged { .. } => "meters_judged",
            Self::SupplyChanged { .. } => "supply_changed",
            Self::PolicyLoaded { .. } => "policy_loaded",
            Self::PolicyRefused { .. } => "policy_refused",
        }
    }
}

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub at: Timestamp,
    pub event: Event,
}

/// The newest entry: its number and hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the entry; 0 before the first.
    pub seq: u64,
    /// The hash of the entry; zeros before the first.
    pub hash: [u8; 32],
}

impl Head {
    /// The head in the form that is sent with each directive.
    #[must_use]
    pub fn published(&self) -> LedgerHead {
        LedgerHead { seq: self.seq, hash: const_hex::encode(self.hash) }
    }

    /// The head after one more entry. Lengths are hashed too, so that moving a byte from one column
    /// to the next changes the hash.
    #[must_use]
    pub(crate) fn next(&self, at: &str, kind: &str, body: &str) -> Self {
        let seq = self.seq + 1;
        let mut hash = Sha256::new();
        hash.update(self.hash);
        hash.update(seq.to_be_bytes());
        for column in [at, kind, body] {
            hash.update((column.len() as u64).to_be_bytes());
            hash.update(column);
        }
        Self { seq, hash: hash.finalize().into() }
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, const_hex::encode(self.hash))
    }
}

impl std::str::FromStr for Head {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Self, BadHead> {
        let (seq, hash) = text.split_once(':').ok_or(BadHead)?;
        let mut bytes = [0; 32];
        const_hex::decode_to_slice(hash, &mut bytes).map_err(|_| BadHead)?;
        Ok(Self { seq: seq.parse().map_err(|_| BadHead)?, hash: bytes })
    }
}

/// The text is not a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a head is written SEQ:HASH, with 64 hex digits")]
pub struct BadHead;

/// A store of entries. It has one holder at a time.
pub trait LedgerStore: Send + 'static {
    /// Appends all of `entries` or none. When this returns, they survive a loss of power.
    ///
    /// # Errors
    /// [`LedgerError`] if they could not be made durable; then none of them is stored.
    fn append(&mut self, entries: &[Entry]) -> Result<Head, LedgerError>;

    fn head(&self) -> Head;
}

/// The ledger was changed by something other than a switchboard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} was tampered with: {what}")]
pub struct Tampered {
    /// The number of the first entry that is not as it was written.
    pub seq: u64,
    /// What is wrong with the entry.
    pub what: String,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the ledger.
    #[error("{path} is held by another process: only one switchboard may use a ledger")]
    Locked { path: PathBuf },
    /// A later version wrote the ledger.
    #[error(
        "the ledger has schema {found}, this program knows up to {known}: use the newer program"
    )]
    NewerSchema { found: i64, known: i64 },
    /// An entry is not as it was written.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The disk is full.
    #[error("no room for the ledger: {0}")]
    Full(String),
    #[error("ledger database: {0}")]
    Database(String),
    /// A file next to the ledger failed.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

#[cfg(test)]
mod tests;
