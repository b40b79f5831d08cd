//! Judges one submit: rebuilds the header from its fields, hashes it, and compares the hash with
//! the targets.
//!
//! This is pure arithmetic. The caller checks whether the job is retired, and whether the header
//! was submitted before.

use std::sync::Arc;
use std::time::Instant;

use super::config::Rolling;
use super::job::Job;
use crate::arithmetic::{Hash, Header, Target, coinbase, merkle_root, parse_bytes, parse_u32};
use crate::wire::Envelope;

/// A job as it was sent to one connection.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    pub(super) job: Arc<Job>,
    pub(super) extranonce1: Arc<[u8]>,
    pub(super) extranonce2_size: usize,
    pub(super) difficulty: f64,
    /// When the job was retired, by a clean job or a new extranonce1.
    pub(super) retired: Option<Instant>,
}

/// The params of a submit as text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Submission<'a> {
    pub(super) worker: &'a str,
    pub(super) job_id: &'a str,
    extranonce2: &'a str,
    ntime: &'a str,
    nonce: &'a str,
    version_bits: Option<&'a str>,
}

impl<'a> Submission<'a> {
    /// Reads the params of a submit. Returns `None` if one is missing or not a string.
    pub(super) fn of(message: &'a Envelope<'_>) -> Option<Self> {
        Some(Self {
            worker: message.text(0)?,
            job_id: message.text(1)?,
            extranonce2: message.text(2)?,
            ntime: message.text(3)?,
            nonce: message.text(4)?,
            version_bits: match message.params.get(5) {
                None | Some(serde_json::Value::Null) => None,
                Some(bits) => Some(bits.as_str()?),
            },
        })
    }
}

impl<'a> Submission<'a> {
    /// The nonce, padded with leading zeros.
    pub(super) fn padded_nonce(&self) -> String {
        format!("{:0>8}", self.nonce)
    }

    /// Returns the same submission with this nonce.
    pub(super) const fn with_nonce(self, nonce: &'a str) -> Self {
        Self { nonce, ..self }
    }

    /// Whether the submission has version bits.
    pub(super) const fn has_version_bits(&self) -> bool {
        self.version_bits.is_some()
    }
}

/// Which version bits a connection may set, and how they are combined with those of the job.
#[derive(Debug, Clone, Copy)]
pub(super) struct VersionRule {
    /// The mask granted; zero if none was.
    pub(super) mask: u32,
    pub(super) rolling: Rolling,
}

/// The hash of a share, and which targets it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weighed {
    pub(super) hash: Hash,
    /// Whether the share meets the difficulty of its job.
    pub(super) good: bool,
    /// Whether the share meets the network target.
    pub(super) block: bool,
}

/// Rebuilds the header and compares its hash with the targets.
///
/// # Errors
/// What is wrong with the submit, as the message of the answer.
pub(super) fn weigh(
    issued: &Issued,
    submission: &Submission<'_>,
    rule: VersionRule,
    ntime_window: u32,
) -> Result<Weighed, &'static str> {
    let extranonce2 = parse_bytes(submission.extranonce2).ok_or("Invalid extranonce2")?;
    if extranonce2.len() != issued.extranonce2_size {
        return Err("Invalid extranonce2 size");
    }
    let ntime = parse_u32(submission.ntime).ok_or("Invalid ntime")?;
    let nonce = parse_u32(submission.nonce).ok_or("Invalid nonce")?;
    let job = &*issued.job;
    if ntime < job.ntime || ntime - job.ntime > ntime_window {
        return Err("Ntime out of range");
    }
    let version = match submission.version_bits {
        None => job.version,
        Some(bits) => rolled(job.version, parse_u32(bits).ok_or("Invalid version bits")?, rule)?,
    };
    let extranonce_len = issued.extranonce1.len() + issued.extranonce2_size;
    let made =
        coinbase(&job.coinb1(extranonce_len), &issued.extranonce1, &extranonce2, &job.coinb2());
    let merkle_root = merkle_root(&made, &job.branches);
    let header =
        Header { version, prevhash: job.prevhash, merkle_root, ntime, nbits: job.nbits, nonce };
    let hash = header.hash();
    let meets = |target: Option<Target>| target.is_some_and(|target| target.met_by(&hash));
    Ok(Weighed {
        hash,
        good: meets(Target::of_difficulty(issued.difficulty)),
        block: meets(Target::of_nbits(job.nbits)),
    })
}

fn rolled(version: u32, bits: u32, rule: VersionRule) -> Result<u32, &'static str> {
    if bits & !rule.mask != 0 {
        return Err("Invalid version mask");
    }
    Ok(match rule.rolling {
        Rolling::MaskReplace => (version & !rule.mask) | bits,
        Rolling::Or => version | bits,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::job::Shape;
    use super::*;
    use crate::arithmetic::{double_sha256, target::difficulty_of_hash};

    const RULE: VersionRule = VersionRule { mask: 0x1fff_e000, rolling: Rolling::MaskReplace };

    fn issued(difficulty: f64) -> Issued {
        let shape = Shape {
            branches: 2,
            version: 0x2000_2000,
            nbits: 0x207f_ffff,
            ntime: 1000,
            payee: [0x75; 20],
        };
        let job = Job::new("1".into(), [7; 32], 9, shape, &mut StdRng::seed_from_u64(3));
        Issued {
            job: Arc::new(job),
            extranonce1: [1, 2].into(),
            extranonce2_size: 4,
            difficulty,
            retired: None,
        }
    }

    fn submission<'a>(
        extranonce2: &'a str,
        ntime: &'a str,
        nonce: &'a str,
        bits: Option<&'a str>,
    ) -> Submission<'a> {
        Submission { worker: "w", job_id: "1", extranonce2, ntime, nonce, version_bits: bits }
    }

    /// Builds the header with separate code, from the values of the notify line.
    fn by_hand(version: u32, extranonce2: [u8; 4], ntime: u32, nonce: u32) -> Hash {
        let notify: serde_json::Value =
            serde_json::from_str(&issued(1.0).job.notify(6, true)).unwrap();
        let bytes = |index: usize| parse_bytes(notify["params"][index].as_str().unwrap()).unwrap();
        let mut root =
            double_sha256(&[bytes(2), vec![1, 2], extranonce2.to_vec(), bytes(3)].concat());
        for branch in notify["params"][4].as_array().unwrap() {
            root = double_sha256(
                &[root.to_vec(), parse_bytes(branch.as_str().unwrap()).unwrap()].concat(),
            );
        }
        let mut header = version.to_le_bytes().to_vec();
        header.extend(
            bytes(1).chunks(4).flat_map(|word| word.iter().rev().copied().collect::<Vec<u8>>()),
        );
        header.extend(root);
        for number in [ntime, 0x207f_ffff, nonce] {
            header.extend(number.to_le_bytes());
        }
        double_sha256(&header)
    }

    #[test]
    fn the_header_is_rebuilt_from_the_notify() {
        let share = submission("00000005", "000003e9", "0000002a", None);
        let weighed = weigh(&issued(1.0), &share, RULE, 7000).unwrap();
        assert_eq!(weighed.hash, by_hand(0x2000_2000, [0, 0, 0, 5], 1001, 42));
    }

    #[test]
    fn version_bits_replace_or_join_the_jobs_own() {
        let share = submission("00000005", "000003e8", "0000002a", Some("00004000"));
        let replaced = weigh(&issued(1.0), &share, RULE, 7000).unwrap();
        assert_eq!(replaced.hash, by_hand(0x2000_4000, [0, 0, 0, 5], 1000, 42));
        let joined =
            weigh(&issued(1.0), &share, VersionRule { rolling: Rolling::Or, ..RULE }, 7000)
                .unwrap();
        assert_eq!(joined.hash, by_hand(0x2000_6000, [0, 0, 0, 5], 1000, 42));
    }

    #[test]
    fn a_share_is_good_up_to_the_difficulty_it_reaches() {
        let share = submission("00000005", "000003e8", "0000002a", None);
        let reached = difficulty_of_hash(&weigh(&issued(1.0), &share, RULE, 7000).unwrap().hash);
        assert!(weigh(&issued(reached * 0.999), &share, RULE, 7000).unwrap().good);
        assert!(!weigh(&issued(reached * 1.001), &share, RULE, 7000).unwrap().good);
    }

    #[test]
    fn what_cannot_be_judged_is_named() {
        let refused = |share| weigh(&issued(1.0), &share, RULE, 7000).unwrap_err();
        assert_eq!(
            refused(submission("000005", "000003e8", "0000002a", None)),
            "Invalid extranonce2 size"
        );
        assert_eq!(
            refused(submission("0000000005", "000003e8", "0000002a", None)),
            "Invalid extranonce2 size"
        );
        assert_eq!(
            refused(submission("0000000g", "000003e8", "0000002a", None)),
            "Invalid extranonce2"
        );
        assert_eq!(refused(submission("00000005", "3e8", "0000002a", None)), "Invalid ntime");
        assert_eq!(
            refused(submission("00000005", "000003e7", "0000002a", None)),
            "Ntime out of range"
        );
        assert_eq!(
            refused(submission("00000005", "00001f41", "0000002a", None)),
            "Ntime out of range"
        );
        assert_eq!(refused(submission("00000005", "000003e8", "2a", None)), "Invalid nonce");
        assert_eq!(
            refused(submission("00000005", "000003e8", "0000002a", Some("20000000"))),
            "Invalid version mask"
        );
        assert_eq!(
            refused(submission("00000005", "000003e8", "0000002a", Some("zz"))),
            "Invalid version bits"
        );
        assert!(
            weigh(&issued(1.0), &submission("00000005", "00001f40", "0000002a", None), RULE, 7000)
                .is_ok()
        );
    }
}
