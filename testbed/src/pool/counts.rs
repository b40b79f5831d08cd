//! The counts of a test pool, with which the figures of a proxy are compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Submits by outcome; each is in exactly one of the first six counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Shares that met the difficulty of their job.
    pub accepted: u64,
    /// Shares whose job was retired before they came, whether they were valid or not.
    pub stale: u64,
    /// Shares whose header was submitted before.
    pub duplicate: u64,
    /// Shares that missed the difficulty of their job.
    pub low: u64,
    /// Submits for a job that this connection never had, or had too long ago.
    pub unknown_job: u64,
    /// Submits that could not be judged: wrong lengths, not hex, version bits outside the mask,
    /// worker not authorized.
    pub malformed: u64,
    /// Accepted shares that met the network target.
    pub blocks: u64,
    pub work: f64,
    /// When the latest accepted share came.
    pub last_share: Option<Timestamp>,
}

impl Tally {
    /// Returns how many submits were judged.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        self.accepted + self.stale + self.duplicate + self.low + self.unknown_job + self.malformed
    }

    pub(super) fn add(&mut self, outcome: &SubmitOutcome, wall: Timestamp) {
        match outcome {
            SubmitOutcome::Accepted { difficulty, block } => {
                self.accepted += 1;
                self.blocks += u64::from(*block);
                self.work += difficulty;
                self.last_share = Some(wall);
            }
            SubmitOutcome::Stale { .. } => self.stale += 1,
            SubmitOutcome::Duplicate => self.duplicate += 1,
            SubmitOutcome::Low => self.low += 1,
            SubmitOutcome::UnknownJob => self.unknown_job += 1,
            SubmitOutcome::Malformed { .. } => self.malformed += 1,
        }
    }
}

/// The outcome of a submit.
#[derive(Debug, Clone, PartialEq)]
pub enum SubmitOutcome {
    /// The share met the difficulty of its job.
    Accepted {
        /// The difficulty that the share is credited with.
        difficulty: f64,
        /// Whether the share also met the network target.
        block: bool,
    },
    /// The job of the share was retired before.
    Stale {
        age_ms: u64,
        /// Whether the share would have been a block.
        block: bool,
    },
    /// The header of the share was submitted before.
    Duplicate,
    /// The share missed the difficulty of its job.
    Low,
    /// The job of the share is not known.
    UnknownJob,
    /// The submit could not be judged.
    Malformed {
        code: i32,
        /// The reason, as in the answer.
        why: &'static str,
    },
}

impl SubmitOutcome {
    /// Returns the code and message of a refusal; `None` for an accepted share.
    #[must_use]
    pub const fn refusal(&self) -> Option<(i32, &'static str)> {
        match self {
            Self::Accepted { .. } => None,
            Self::Stale { .. } => Some((21, "Stale")),
            Self::Duplicate => Some((22, "Duplicate share")),
            Self::Low => Some((23, "Low difficulty share")),
            Self::UnknownJob => Some((21, "Job not found")),
            Self::Malformed { code, why } => Some((*code, why)),
        }
    }
}

/// Everything a test pool counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// All submits. In the JSON, these counts are at the top level.
    #[serde(flatten)]
    pub total: Tally,
    /// The counts by worker name.
    pub workers: BTreeMap<String, Tally>,
    /// The counts by connection. Those of closed connections are kept, up to a few thousand.
    pub connections: BTreeMap<u64, ConnectionCounts>,
    /// Connections accepted since the start.
    pub connects: u64,
    pub open: u64,
    /// Bytes of Stratum read, over all connections.
    pub received_bytes: u64,
    /// TLS handshakes that failed or were aborted.
    pub failed_handshakes: u64,
    pub jobs: u64,
    /// The longest time between the retirement of a job and a stale share of it, in ms.
    pub stale_age_ms_max: u64,
    /// Stale shares that came more than one second after the retirement of their job.
    pub stale_late: u64,
    /// Stale shares that met the network target.
    pub stale_blocks: u64,
    /// Submits refused unjudged because the pool was told to reject all.
    pub rejected_by_order: u64,
    /// Submits that were read, but neither judged nor answered, while the pool was silent.
    pub ignored_submits: u64,
    /// Lines that were not a message; each closed its connection.
    pub bad_lines: u64,
    /// Connections closed because they did not read what was sent.
    pub slow_readers: u64,
}

/// A connection and its counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// The address of the client.
    pub peer: SocketAddr,
    /// Whether the connection is still open.
    pub open: bool,
    /// The user agent of the connection's subscribe.
    pub user_agent: Option<String>,
    /// Workers authorized on the connection.
    pub workers: Vec<String>,
    /// The connection's extranonce1, in hex.
    pub extranonce1: String,
    /// The connection's extranonce2_size, in bytes.
    pub extranonce2_size: usize,
    /// The difficulty of the connection's next job.
    pub difficulty: f64,
    /// The version bits granted to the connection; zero if none were.
    pub version_mask: u32,
    /// The number of jobs sent to the connection.
    pub jobs: u64,
    #[serde(flatten)]
    pub total: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_json_with_their_keys_on_top() {
        let mut counts = Counts { connects: 3, ..Counts::default() };
        counts
            .total
            .add(&SubmitOutcome::Accepted { difficulty: 0.5, block: true }, Timestamp::UNIX_EPOCH);
        counts.total.add(&SubmitOutcome::Stale { age_ms: 5, block: false }, Timestamp::UNIX_EPOCH);
        counts.workers.insert("acme.rig-1".into(), counts.total.clone());
        counts.connections.insert(
            7,
            ConnectionCounts {
                peer: "127.0.0.1:9".parse().unwrap(),
                open: true,
                user_agent: None,
                workers: vec!["acme".into()],
                extranonce1: "00".into(),
                extranonce2_size: 6,
                difficulty: 1.0,
                version_mask: 0,
                jobs: 1,
                total: counts.total.clone(),
            },
        );
        let json = serde_json::to_value(&counts).unwrap();
        for (key, value) in [
            ("accepted", 1),
            ("stale", 1),
            ("duplicate", 0),
            ("low", 0),
            ("unknown_job", 0),
            ("malformed", 0),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(serde_json::from_str::<Counts>(&json.to_string()).unwrap(), counts);
        assert_eq!(counts.total.judged(), 2);
    }
}
