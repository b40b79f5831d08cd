//! The counts of a test miner, or of a fleet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Latencies;

/// The counts of a miner. `submitted` is the sum of `answered_true`, all of `answered_error`,
/// `unanswered` and `outstanding`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MinerCounts {
    /// The number of miners counted.
    pub miners: u64,
    /// The number of miners that have a job now.
    pub mining: u64,
    pub hashes: u64,
    pub submitted: u64,
    pub answered_true: u64,
    /// Refused submits, by the error's code or its word.
    pub answered_error: BTreeMap<String, u64>,
    /// Submits whose connection ended before the answer.
    pub unanswered: u64,
    /// Submits waiting for their answer.
    pub outstanding: u64,
    /// Answers to submits that were already answered.
    pub double_answers: u64,
    /// Answers to requests that the miner did not send.
    pub unknown_answers: u64,
    /// The sum of the difficulties at which accepted shares were made. A stock S19 applies a new
    /// difficulty in the middle of a job, so the sum of a pool, which credits the job's difficulty,
    /// may differ.
    pub work: f64,
    /// Shares dropped because their work was made at a lower difficulty than the newest.
    pub filtered: u64,
    /// Shares not submitted because extranonce2 is too long for the firmware.
    pub withheld: u64,
    pub connects: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    pub connect_errors: u64,
    /// Connections that the other side closed.
    pub disconnects: u64,
    /// Connections closed because the firmware does not accept the pool's handshake.
    pub failed_handshakes: u64,
    /// Connections closed because no line was received for too long.
    pub timeouts: u64,
    /// `client.reconnect`s that the miner followed.
    pub reconnects_followed: u64,
    /// `client.reconnect`s that the miner refused because they name another domain.
    pub reconnects_refused: u64,
    pub notifies: u64,
    /// The number of clean jobs among the notifies.
    pub cleans: u64,
    /// Lines that were not a message, and jobs that could not be read.
    pub bad_lines: u64,
    /// Job ids that were already used on the same connection.
    pub repeated_job_ids: u64,
    /// Jobs with work that this miner already had.
    pub repeated_work: u64,
    /// Jobs with work that another miner in the fleet had.
    pub shared_work: u64,
    /// How often extranonce1, or the size of extranonce2, changed within a connection.
    pub extranonce_changes: u64,
    /// Connections whose extranonce2_size differs from that of the connection before.
    pub extranonce_size_changes: u64,
    /// How often the miner did not roll, or disconnected, because the pool did not allow the
    /// version bits that its firmware needs.
    pub rolling_off: u64,
    /// How often the miner repeated configure because the reply had a key that it did not ask for.
    pub configure_repeats: u64,
    /// Notifications that the firmware ignored: those without an `id` key, or a job under an id
    /// that it had seen.
    pub passed_over: u64,
    pub pings: u64,
    /// Pings received while the miner had no job.
    pub parked_pings: u64,
    /// How often the miner fell asleep.
    pub sleeps: u64,
    /// The time from the start to the first job, in ms.
    pub first_job_ms: u64,
    /// The longest time, after the first job, in which the miner wanted a job and had no usable
    /// one, in ms.
    pub gap_ms: u64,
    /// The longest time from waking to a job, in ms.
    pub wake_gap_ms: u64,
    /// The times from submit to answer.
    pub latency: Latencies,
}

impl MinerCounts {
    /// Returns the number of refused submits.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.answered_error.values().sum()
    }

    /// Whether every submit is in exactly one count.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.submitted == self.answered_true + self.refused() + self.unanswered + self.outstanding
            && self.double_answers == 0
            && self.unknown_answers == 0
    }

    /// Adds the counts of another miner; of two longest times, the longer is kept.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.miners, other.miners),
            (&mut self.mining, other.mining),
            (&mut self.hashes, other.hashes),
            (&mut self.submitted, other.submitted),
            (&mut self.answered_true, other.answered_true),
            (&mut self.unanswered, other.unanswered),
            (&mut self.outstanding, other.outstanding),
            (&mut self.double_answers, other.double_answers),
            (&mut self.unknown_answers, other.unknown_answers),
            (&mut self.filtered, other.filtered),
            (&mut self.withheld, other.withheld),
            (&mut self.connects, other.connects),
            (&mut self.reconnects, other.reconnects),
            (&mut self.connect_errors, other.connect_errors),
            (&mut self.disconnects, other.disconnects),
            (&mut self.failed_handshakes, other.failed_handshakes),
            (&mut self.timeouts, other.timeouts),
            (&mut self.reconnects_followed, other.reconnects_followed),
            (&mut self.reconnects_refused, other.reconnects_refused),
            (&mut self.notifies, other.notifies),
            (&mut self.cleans, other.cleans),
            (&mut self.bad_lines, other.bad_lines),
            (&mut self.repeated_job_ids, other.repeated_job_ids),
            (&mut self.repeated_work, other.repeated_work),
            (&mut self.shared_work, other.shared_work),
            (&mut self.extranonce_changes, other.extranonce_changes),
            (&mut self.extranonce_size_changes, other.extranonce_size_changes),
            (&mut self.rolling_off, other.rolling_off),
            (&mut self.configure_repeats, other.configure_repeats),
            (&mut self.passed_over, other.passed_over),
            (&mut self.pings, other.pings),
            (&mut self.parked_pings, other.parked_pings),
            (&mut self.sleeps, other.sleeps),
        ] {
            *mine += theirs;
        }
        for (mine, theirs) in [
            (&mut self.first_job_ms, other.first_job_ms),
            (&mut self.gap_ms, other.gap_ms),
            (&mut self.wake_gap_ms, other.wake_gap_ms),
        ] {
            *mine = theirs.max(*mine);
        }
        for (code, count) in &other.answered_error {
            *self.answered_error.entry(code.clone()).or_default() += count;
        }
        self.work += other.work;
        self.latency.merge(&other.latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the sums of all numbers in the JSON: they double when counts are merged with
    /// themselves, unless `merge` forgets a field.
    #[test]
    fn merging_forgets_no_field() {
        let mut json = serde_json::to_value(MinerCounts::default()).unwrap();
        for (key, value) in json.as_object_mut().unwrap() {
            match key.as_str() {
                "latency" => {}
                "answered_error" => *value = serde_json::json!({ "21": 1 }),
                _ => *value = 1.into(),
            }
        }
        let one: MinerCounts = serde_json::from_value(json).unwrap();
        let mut two = one.clone();
        two.merge(&one);
        for (key, value) in serde_json::to_value(&two).unwrap().as_object().unwrap() {
            match key.as_str() {
                "latency" => {}
                "answered_error" => assert_eq!(value["21"], 2),
                "first_job_ms" | "gap_ms" | "wake_gap_ms" => {
                    assert_eq!(value.as_f64(), Some(1.0), "{key}");
                }
                _ => assert_eq!(value.as_f64(), Some(2.0), "{key}"),
            }
        }
    }
}
