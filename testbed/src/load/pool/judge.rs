//! Judges submits for one pool: whether the job is known and the newest, whether the header meets
//! the target, and whether it was submitted before.

use std::collections::HashSet;

use rand::rngs::StdRng;

use super::{PoolCounts, PoolSettings};
use crate::arithmetic::{Target, parse_u32};
use crate::load::job::{Job, Mark};
use crate::load::line::{elements, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Stale,
    Low,
    Duplicate,
    Unknown,
    Malformed,
}

impl Verdict {
    pub(super) fn count(self, counts: &mut PoolCounts) {
        *match self {
            Self::Accepted => &mut counts.accepted,
            Self::Stale => &mut counts.stale,
            Self::Low => &mut counts.low,
            Self::Duplicate => &mut counts.duplicate,
            Self::Unknown => &mut counts.unknown,
            Self::Malformed => &mut counts.malformed,
        } += 1;
    }

    /// The code and message of the error answer.
    pub(super) const fn why(self) -> (u8, &'static str) {
        match self {
            Self::Accepted => (0, "accepted"),
            Self::Stale => (21, "stale"),
            Self::Low => (23, "low difficulty share"),
            Self::Duplicate => (22, "duplicate share"),
            Self::Unknown => (21, "unknown job"),
            Self::Malformed => (20, "malformed"),
        }
    }
}

/// The newest job of a pool, and the shares of it.
pub(super) struct Judge {
    job: Job,
    /// Whether this is the first job.
    first: bool,
    branches: usize,
    extranonce2_size: usize,
    validate: bool,
    target: Target,
    /// A part of the hash of every share of the newest job. Shares of older jobs are stale, so they
    /// are not kept.
    seen: HashSet<u64>,
    scratch: Vec<u8>,
}

impl Judge {
    pub(super) fn new(settings: &PoolSettings, mark: Mark) -> Self {
        let mut rng = <StdRng as rand::SeedableRng>::seed_from_u64(mark.run.into());
        Self {
            job: job(mark, settings.branches, settings.extranonce2_size, &mut rng),
            first: true,
            branches: settings.branches,
            extranonce2_size: settings.extranonce2_size,
            validate: settings.validate,
            target: Target::of_difficulty(settings.difficulty).unwrap_or(Target::MAX),
            seen: HashSet::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) const fn job(&self) -> &Job {
        &self.job
    }

    /// Makes the next job; all earlier ones are stale from now on.
    pub(super) fn next_job(&mut self, rng: &mut StdRng) {
        if std::mem::take(&mut self.first) {
            return;
        }
        let mark = Mark { number: self.job.mark.number + 1, ..self.job.mark };
        self.job = job(mark, self.branches, self.extranonce2_size, rng);
        self.seen.clear();
    }

    /// Judges a submit's parameters.
    pub(super) fn judge(&mut self, params: &[u8], extranonce1: [u8; 4], mask: u32) -> Verdict {
        let mut texts =
            elements(params).map(|part| text(part).and_then(|text| str::from_utf8(text).ok()));
        let mut next = || texts.next().flatten();
        let (Some(_worker), Some(job_id), Some(extranonce2)) = (next(), next(), next()) else {
            return Verdict::Malformed;
        };
        let (Some(ntime), Some(nonce)) = (next().and_then(parse_u32), next().and_then(parse_u32))
        else {
            return Verdict::Malformed;
        };
        let bits = match texts.next() {
            None => None,
            Some(bits) => match bits.and_then(parse_u32) {
                Some(bits) if bits & !mask == 0 => Some(bits),
                _ => return Verdict::Malformed,
            },
        };
        match u32::from_str_radix(job_id, 16) {
            Ok(number) if number == self.job.mark.number => {}
            Ok(number) if number < self.job.mark.number => return Verdict::Stale,
            _ => return Verdict::Unknown,
        }
        if !self.validate {
            return Verdict::Accepted;
        }
        let mut extranonce2_bytes = [0; 32];
        let extranonce2_bytes = &mut extranonce2_bytes[..self.extranonce2_size];
        if const_hex::decode_to_slice(extranonce2, extranonce2_bytes).is_err() {
            return Verdict::Malformed;
        }
        let root = self.job.merkle_root([&extranonce1, extranonce2_bytes], &mut self.scratch);
        let version = bits.map_or(self.job.version, |bits| (self.job.version & !mask) | bits);
        let hash = self.job.header(root, version, ntime, nonce).hash();
        if !self.target.met_by(&hash) {
            return Verdict::Low;
        }
        let (part, _) = hash.split_first_chunk().expect("a hash is longer");
        if self.seen.insert(u64::from_le_bytes(*part)) {
            Verdict::Accepted
        } else {
            Verdict::Duplicate
        }
    }
}

fn job(mark: Mark, branches: usize, extranonce2_size: usize, rng: &mut StdRng) -> Job {
    Job::new(mark, branches, 4 + extranonce2_size, crate::clock::moment().ntime(), rng)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judge(difficulty: f64) -> Judge {
        let settings = PoolSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            second: None,
            difficulty,
            job_every: Duration::from_secs(1),
            extranonce2_size: 8,
            branches: 2,
            validate: true,
        };
        Judge::new(&settings, Mark { run: 1, pool: 0, number: 5 })
    }

    fn submit(judge: &Judge, job: &str, nonce: u32) -> String {
        format!(
            r#"["w","{job}","0000000000000001","{:08x}","{nonce:08x}","00002000"]"#,
            judge.job.ntime
        )
    }

    #[test]
    fn a_share_is_good_once_and_only_for_the_newest_job() {
        let mut judge = judge(f64::MIN_POSITIVE);
        let good = submit(&judge, "5", 1);
        assert_eq!(judge.judge(good.as_bytes(), [1; 4], MASK), Verdict::Accepted);
        assert_eq!(judge.judge(good.as_bytes(), [1; 4], MASK), Verdict::Duplicate);
        assert_eq!(judge.judge(good.as_bytes(), [2; 4], MASK), Verdict::Accepted, "another header");
        assert_eq!(judge.judge(submit(&judge, "4", 1).as_bytes(), [1; 4], MASK), Verdict::Stale);
        assert_eq!(judge.judge(submit(&judge, "6", 1).as_bytes(), [1; 4], MASK), Verdict::Unknown);
        let mut rng = <StdRng as rand::SeedableRng>::seed_from_u64(2);
        judge.next_job(&mut rng);
        assert_eq!(judge.job().mark.number, 5, "the first job is the one it was made with");
        judge.next_job(&mut rng);
        assert_eq!(judge.judge(good.as_bytes(), [3; 4], MASK), Verdict::Stale);
    }

    #[test]
    fn work_is_asked_for() {
        let mut judge = judge(1.0);
        let share = submit(&judge, "5", 1);
        assert_eq!(judge.judge(share.as_bytes(), [1; 4], MASK), Verdict::Low);
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        let mut judge = judge(f64::MIN_POSITIVE);
        for params in [
            "[]",
            "null",
            r#"["w","5"]"#,
            r#"["w","5","00","00000001","00000001"]"#,
            r#"["w","5",1,2,3]"#,
        ] {
            assert_eq!(
                judge.judge(params.as_bytes(), [1; 4], MASK),
                Verdict::Malformed,
                "{params}"
            );
        }
        let share = submit(&judge, "5", 1);
        assert_eq!(
            judge.judge(share.as_bytes(), [1; 4], 0),
            Verdict::Malformed,
            "bits that were not granted"
        );
    }

    const MASK: u32 = 0x1fff_e000;
}
