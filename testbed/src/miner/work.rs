//! Makes work from a job: headers to try, with one extranonce2 and version after the other.

use serde_json::Value;

use super::config::MinerConfig;
use super::model::{Agreed, Restart, Sent};
use crate::arithmetic::scan::Scan;
use crate::arithmetic::{Hash, Header, Target, coinbase, double_sha256, merkle_root};
use crate::arithmetic::{parse_array, parse_bytes, parse_u32, swap_words};

/// A job as a connection received it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: String,
    coinb1: Vec<u8>,
    coinb2: Vec<u8>,
    branches: Vec<Hash>,
    prevhash: Hash,
    pub(super) version: u32,
    nbits: u32,
    pub(super) ntime: u32,
    pub(super) clean: bool,
    pub(super) extranonce1: Vec<u8>,
    pub(super) extranonce2_size: usize,
    /// The difficulty in force when the job came.
    pub(super) difficulty: f64,
}

impl Job {
    /// Reads the params of a notify. Returns `None` if they are not a job.
    pub(super) fn parse(
        params: &Value,
        extranonce: (&[u8], usize),
        difficulty: f64,
    ) -> Option<Self> {
        let text = |index: usize| params.get(index).and_then(Value::as_str);
        let branches = params.get(4)?.as_array()?;
        Some(Self {
            id: text(0)?.to_owned(),
            prevhash: swap_words(parse_array(text(1)?)?),
            coinb1: parse_bytes(text(2)?)?,
            coinb2: parse_bytes(text(3)?)?,
            branches: branches
                .iter()
                .map(|branch| parse_array(branch.as_str()?))
                .collect::<Option<_>>()?,
            version: parse_u32(text(5)?)?,
            nbits: parse_u32(text(6)?)?,
            ntime: parse_u32(text(7)?)?,
            clean: params.get(8)?.as_bool()?,
            extranonce1: extranonce.0.to_vec(),
            extranonce2_size: extranonce.1,
            difficulty,
        })
    }

    /// A key of the work in this job. Two jobs have the same key exactly if the same extranonce2
    /// gives the same header.
    pub(super) fn work_key(&self) -> Hash {
        let mut bytes = [self.coinb1.as_slice(), &self.extranonce1].concat();
        bytes.extend_from_slice(&u64::try_from(self.extranonce2_size).unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.coinb2);
        bytes.extend(self.branches.iter().flatten());
        bytes.extend_from_slice(&self.prevhash);
        for number in [self.version, self.nbits, self.ntime] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        double_sha256(&bytes)
    }

    /// Builds the header of one extranonce2 and version. The coinbase is truncated to
    /// `coinbase_max`, the size of the firmware's buffer for it.
    fn header(&self, extranonce2: &[u8], version: u32, coinbase_max: usize) -> Header {
        let mut made = coinbase(&self.coinb1, &self.extranonce1, extranonce2, &self.coinb2);
        made.truncate(coinbase_max);
        Header {
            version,
            prevhash: self.prevhash,
            merkle_root: merkle_root(&made, &self.branches),
            ntime: self.ntime,
            nbits: self.nbits,
            nonce: 0,
        }
    }
}

/// One header to try, and the values with which its shares are submitted.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) scan: Scan,
    pub(super) target: Target,
    pub(super) difficulty: f64,
    pub(super) extranonce2: Vec<u8>,
    pub(super) version_bits: Option<u32>,
    /// How many nonces are still to be tried.
    pub(super) left: u32,
}

/// The position of a miner in its search space.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    /// The next extranonce2, counted from zero, written little-endian.
    extranonce2: u64,
    variant: usize,
}

impl Position {
    /// Continues with the next extranonce2.
    pub(super) fn skip(&mut self) {
        self.variant = usize::MAX;
    }

    /// Makes the next work, with `nonces` nonces to try. Returns `None` if extranonce2 is used up.
    pub(super) fn next(
        &mut self,
        config: &MinerConfig,
        job: &Job,
        variants: &[Variant],
        (difficulty, target): (f64, Target),
        nonces: u32,
    ) -> Option<Work> {
        if self.variant >= variants.len() {
            self.variant = 0;
            self.extranonce2 += 1;
        }
        let habits = config.model.habits();
        let fixed = habits.restart == Restart::Fixed;
        // Some firmware changes only `extranonce2_rolled` bytes of extranonce2; the others stay
        // zero.
        let rolled = if fixed { 0 } else { job.extranonce2_size.min(habits.extranonce2_rolled) };
        if rolled < 8 && self.extranonce2 >> (8 * rolled) != 0 {
            return None;
        }
        let extranonce2 = if fixed {
            fixed_extranonce2(config, job.extranonce2_size)
        } else {
            let mut bytes = self.extranonce2.to_le_bytes().to_vec();
            bytes.resize(job.extranonce2_size, 0);
            bytes
        };
        let nonces = if fixed { u32::MAX } else { nonces };
        let variant = variants[self.variant];
        self.variant += 1;
        let scan = Scan::new(&job.header(&extranonce2, variant.version, habits.coinbase_max));
        Some(Work {
            scan,
            target,
            difficulty,
            extranonce2,
            version_bits: variant.sent,
            left: nonces,
        })
    }
}

/// The only extranonce2 that NerdMiner uses: the number 1 in `size` bytes, or in four bytes if the
/// firmware does not support that size.
fn fixed_extranonce2(config: &MinerConfig, size: usize) -> Vec<u8> {
    let size = if config.model.takes_extranonce2(size) { size } else { 4 };
    let mut bytes = vec![0; size];
    if let Some(last) = bytes.last_mut() {
        *last = 1;
    }
    bytes
}

/// A header version, and the version bits submitted for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) version: u32,
    pub(super) sent: Option<u32>,
}

/// Returns the versions that a miner tries for a job, as its firmware and chip roll them.
pub(super) fn variants(config: &MinerConfig, job_version: u32, mask: u32) -> Vec<Variant> {
    let habits = config.model.habits();
    let without_jobs = habits.sent == Sent::RolledWithoutJobs;
    let mask = match habits.agreed {
        Agreed::RollsAnyway if mask == 0 => BIP320,
        _ if without_jobs => mask & BIP320,
        _ => mask,
    };
    if mask == 0 || habits.sent == Sent::Never {
        return vec![Variant { version: job_version, sent: None }];
    }
    let mut bits = vec![0_u32];
    let mut left = mask;
    for _ in 0..habits.rolled_bits {
        let lowest = left & left.wrapping_neg();
        if lowest == 0 {
            break;
        }
        left &= !lowest;
        bits.extend(bits.clone().iter().map(|bits| bits | lowest));
    }
    let mut variants: Vec<Variant> = Vec::new();
    for bits in bits {
        let keeps = without_jobs && config.keeps_job_bits;
        let version = if keeps { job_version | bits } else { (job_version & !mask) | bits };
        let sent = if without_jobs { bits & !job_version } else { bits };
        // If the chip keeps a bit of the job, two versions can be the same.
        if variants.iter().all(|known| known.version != version) {
            variants.push(Variant { version, sent: Some(sent) });
        }
    }
    variants
}

/// The bits that may be rolled.
const BIP320: u32 = 0x1fff_e000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miner::model::Model;

    fn notify(clean: bool) -> Value {
        let hash = "00".repeat(32);
        serde_json::json!([
            "1",
            hash,
            "aa",
            "bb",
            [hash],
            "20000000",
            "207fffff",
            "00000005",
            clean
        ])
    }

    fn job(extranonce1: &[u8], size: usize) -> Job {
        Job::parse(&notify(true), (extranonce1, size), 1.0).unwrap()
    }

    #[test]
    fn work_is_the_same_only_when_every_header_is() {
        let key = job(&[1], 4).work_key();
        assert_eq!(job(&[1], 4).work_key(), key);
        assert_ne!(job(&[2], 4).work_key(), key);
        assert_ne!(job(&[1], 3).work_key(), key);
        let mut later = notify(true);
        later[7] = "00000006".into();
        assert_ne!(Job::parse(&later, (&[1], 4), 1.0).unwrap().work_key(), key);
        let mut renamed = notify(false);
        renamed[0] = "2".into();
        assert_eq!(
            Job::parse(&renamed, (&[1], 4), 9.0).unwrap().work_key(),
            key,
            "another name, the same work"
        );
        // The same bytes, divided in a different way: what was extranonce1 is now in coinb1.
        let mut cut = notify(true);
        cut[2] = "aa01".into();
        assert_eq!(Job::parse(&cut, (&[], 4), 1.0).unwrap().work_key(), key);
    }

    #[test]
    fn jobs_that_cannot_be_read_are_none() {
        for (index, wrong) in
            [(0, 1.into()), (1, "00".into()), (2, "zz".into()), (4, "".into()), (8, "true".into())]
        {
            let mut params = notify(true);
            params[index] = wrong;
            assert!(Job::parse(&params, (&[1], 4), 1.0).is_none(), "field {index}");
        }
    }

    #[test]
    fn no_header_is_made_twice_until_the_space_ends() {
        let job = job(&[1], 1);
        let config = MinerConfig::new(Model::StockS19, "x:1", "w");
        let variants = variants(&config, job.version, 0x1fff_e000);
        assert_eq!(variants.len(), 8);
        let mut position = Position::default();
        let mut pieces = std::collections::HashSet::new();
        while let Some(work) = position.next(&config, &job, &variants, (1.0, Target::MAX), 1) {
            assert!(pieces.insert((work.extranonce2.clone(), work.version_bits)));
            assert_eq!(work.extranonce2.len(), 1);
        }
        assert_eq!(pieces.len(), 256 * 8);
    }

    #[test]
    fn chips_and_firmware_differ_in_the_bits_they_send() {
        let mut config = MinerConfig::new(Model::StockS19, "x:1", "w");
        let keeping = variants(&config, 0x2000_2000, 0x1fff_e000);
        assert_eq!(keeping.len(), 4, "the kept bit halves them");
        assert!(keeping.contains(&Variant { version: 0x2000_6000, sent: Some(0x4000) }));
        config.keeps_job_bits = false;
        let overwriting = variants(&config, 0x2000_2000, 0x1fff_e000);
        assert!(overwriting.contains(&Variant { version: 0x2000_6000, sent: Some(0x4000) }));
        assert!(overwriting.contains(&Variant { version: 0x2000_4000, sent: Some(0x4000) }));
        let cgminer = MinerConfig::new(Model::Cgminer411, "x:1", "w");
        assert_eq!(variants(&cgminer, 0x2000_0000, 0x1fff_e000).len(), 4);
        assert_eq!(
            variants(&cgminer, 0x2000_0000, 0),
            [Variant { version: 0x2000_0000, sent: None }]
        );
    }
}
