//! The jobs of the load tool's pools, and how its miners read the jobs they receive.
//!
//! A job has a mark in `prevhash`, which every proxy passes on unchanged. So a miner knows which
//! job of which pool it has received, whatever job id the proxy gave it.

use std::fmt::Write;

use rand::Rng;
use rand::rngs::StdRng;

use super::line::{elements, text};
use crate::arithmetic::{
    Hash, Header, merkle_root, parse_array, parse_bytes, parse_u32, swap_words,
};

/// The mark of a job: its run, its pool and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The run, a random number, so that a job that a proxy kept from an earlier run is not taken
    /// for one of this run.
    pub(super) run: u32,
    /// The number of the pool, from 0.
    pub(super) pool: u8,
    /// The number of the job at this pool, from 0.
    pub(super) number: u32,
}

impl Mark {
    /// The length of the mark, which is the first bytes of prevhash as written in a notify: `run |
    /// pool | number`.
    const LEN: usize = 9;

    fn write(self, sent: &mut Hash) {
        sent[..4].copy_from_slice(&self.run.to_be_bytes());
        sent[4] = self.pool;
        sent[5..Self::LEN].copy_from_slice(&self.number.to_be_bytes());
    }

    fn read(sent: &Hash) -> Self {
        let word =
            |at: usize| u32::from_be_bytes([sent[at], sent[at + 1], sent[at + 2], sent[at + 3]]);
        Self { run: word(0), pool: sent[4], number: word(5) }
    }
}

/// The parts of a header and its coinbase, without the extranonces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) mark: Mark,
    prevhash: Hash,
    coinb1: Vec<u8>,
    coinb2: Vec<u8>,
    branches: Vec<Hash>,
    pub(super) version: u32,
    nbits: u32,
    pub(super) ntime: u32,
}

impl Job {
    /// Invents a job with `branches` merkle branches and room for `extranonce_len` bytes of
    /// extranonces.
    pub(super) fn new(
        mark: Mark,
        branches: usize,
        extranonce_len: usize,
        ntime: u32,
        rng: &mut StdRng,
    ) -> Self {
        let mut sent: Hash = rng.random();
        mark.write(&mut sent);
        // A block hash ends with zeros, and a notify writes that end last.
        sent[24..].fill(0);
        let (coinb1, coinb2) = coinbase(mark.number, extranonce_len);
        Self {
            id: format!("{:x}", mark.number),
            mark,
            prevhash: swap_words(sent),
            coinb1,
            coinb2,
            branches: (0..branches).map(|_| rng.random()).collect(),
            version: 0x2000_0000,
            nbits: NBITS,
            ntime,
        }
    }

    /// Reads the params of a notify. Returns `None` if they are not a job.
    pub(super) fn parse(params: &[u8]) -> Option<Self> {
        let mut parts = elements(params);
        let mut next_text = || str::from_utf8(text(parts.next()?)?).ok();
        let id = next_text()?.to_owned();
        let sent: Hash = parse_array(next_text()?)?;
        let coinb1 = parse_bytes(next_text()?)?;
        let coinb2 = parse_bytes(next_text()?)?;
        let branches =
            elements(parts.next()?).map(|branch| parse_array(str::from_utf8(text(branch)?).ok()?));
        let branches = branches.collect::<Option<_>>()?;
        let mut next_number = || parse_u32(str::from_utf8(text(parts.next()?)?).ok()?);
        Some(Self {
            id,
            mark: Mark::read(&sent),
            prevhash: swap_words(sent),
            coinb1,
            coinb2,
            branches,
            version: next_number()?,
            nbits: next_number()?,
            ntime: next_number()?,
        })
    }

    /// Appends the job's notify line, in which `clean_jobs` is always true.
    pub(super) fn write_notify(&self, line: &mut String) {
        let hex = |bytes: &[u8]| const_hex::encode(bytes);
        let branches: Vec<String> =
            self.branches.iter().map(|branch| format!("\"{}\"", hex(branch))).collect();
        let written = writeln!(
            line,
            r#"{{"id":null,"method":"mining.notify","params":["{}","{}","{}","{}",[{}],"{:08x}","{:08x}","{:08x}",true]}}"#,
            self.id,
            hex(&swap_words(self.prevhash)),
            hex(&self.coinb1),
            hex(&self.coinb2),
            branches.join(","),
            self.version,
            self.nbits,
            self.ntime,
        );
        written.expect("a string takes everything");
    }

    /// The merkle root with these extranonces; `scratch` is only reused memory.
    pub(super) fn merkle_root(&self, extranonces: [&[u8]; 2], scratch: &mut Vec<u8>) -> Hash {
        scratch.clear();
        for part in [&self.coinb1, extranonces[0], extranonces[1], &self.coinb2] {
            scratch.extend_from_slice(part);
        }
        merkle_root(scratch, &self.branches)
    }

    /// The header to be searched or judged.
    pub(super) fn header(&self, merkle_root: Hash, version: u32, ntime: u32, nonce: u32) -> Header {
        Header { version, prevhash: self.prevhash, merkle_root, ntime, nbits: self.nbits, nonce }
    }
}

/// Reads only the job id and the mark of a notify's params, which is fast.
pub(super) fn peek(params: &[u8]) -> Option<(&[u8], Mark)> {
    let mut parts = elements(params);
    let id = text(parts.next()?)?;
    let head = text(parts.next()?)?.get(..2 * Mark::LEN)?;
    let mut sent = [0; 32];
    const_hex::decode_to_slice(head, &mut sent[..Mark::LEN]).ok()?;
    Some((id, Mark::read(&sent)))
}

/// A plausible coinbase: the height in the script, a payout, and a large commitment as pools with
/// merge mining send it. With it, a notify with twelve branches has about 1.6 kB.
fn coinbase(height: u32, extranonce_len: usize) -> (Vec<u8>, Vec<u8>) {
    const TAG: &[u8] = b"\x07/bench/";
    let height = (0x000d_0000 + height % 0x0001_0000).to_le_bytes();
    let script_len = 4 + 1 + extranonce_len + TAG.len();
    let mut coinb1 = [&1_u32.to_le_bytes()[..], &[1], &[0; 32], &[0xff; 4]].concat();
    coinb1.push(u8::try_from(script_len).expect("at most 24 bytes of extranonces"));
    coinb1.extend_from_slice(&[3, height[0], height[1], height[2]]);
    coinb1.push(u8::try_from(extranonce_len).expect("at most 24 bytes of extranonces"));
    let mut coinb2 =
        [TAG, &[0xff; 4], &[4], &312_500_000_u64.to_le_bytes(), &[22, 0x00, 0x14], &[0x75; 20]]
            .concat();
    for length in [36_u8, 75, 75] {
        coinb2.extend_from_slice(&0_u64.to_le_bytes());
        coinb2.extend_from_slice(&[length + 2, 0x6a, length]);
        coinb2.extend(std::iter::repeat_n(0xe2, usize::from(length)));
    }
    coinb2.extend_from_slice(&[0; 4]);
    (coinb1, coinb2)
}

/// A network difficulty of about 9e13, far above what the shares of a run reach.
const NBITS: u32 = 0x1703_1abe;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::arithmetic::coinbase;
    use crate::load::line::Line;

    const MARK: Mark = Mark { run: 0xfeed_beef, pool: 1, number: 0x0102_0304 };

    fn job() -> Job {
        Job::new(MARK, 12, 12, 1_700_000_000, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_job_is_read_back_from_its_notify() {
        let mut line = String::new();
        job().write_notify(&mut line);
        assert!((1500..1700).contains(&line.len()), "{} bytes", line.len());
        let message = Line::parse(line.as_bytes()).unwrap();
        assert_eq!(Job::parse(message.params), Some(job()));
        assert_eq!(peek(message.params), Some((&b"1020304"[..], MARK)));
    }

    #[test]
    fn jobs_that_cannot_be_read_are_none() {
        for params in ["", "[]", "[\"1\"]", "[\"1\",\"00\"]", "[1,2,3,4,[],5,6,7]"] {
            assert_eq!(Job::parse(params.as_bytes()), None, "{params}");
            assert_eq!(peek(params.as_bytes()), None, "{params}");
        }
    }

    #[test]
    fn the_root_is_that_of_the_whole_coinbase() {
        let job = job();
        let by_hand =
            merkle_root(&coinbase(&job.coinb1, &[1; 4], &[2; 8], &job.coinb2), &job.branches);
        assert_eq!(job.merkle_root([&[1; 4], &[2; 8]], &mut vec![9]), by_hand);
    }

    #[test]
    fn the_coinbase_is_a_whole_transaction() {
        let job = job();
        let whole = [&job.coinb1[..], &[0xee; 12], &job.coinb2].concat();
        let script_end = 42 + usize::from(whole[41]);
        assert!(whole[42..script_end].ends_with(b"/bench/"));
        let mut rest = &whole[script_end + 4..];
        let outputs = rest[0];
        rest = &rest[1..];
        for _ in 0..outputs {
            rest = &rest[8 + 1 + usize::from(rest[8])..];
        }
        assert_eq!(rest, [0; 4]);
    }
}
