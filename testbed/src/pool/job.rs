//! Jobs that a test pool invents: plausible coinbases, random branches, and their notify lines.

use rand::Rng;
use rand::rngs::StdRng;

use crate::arithmetic::{Hash, swap_words};

/// A job of the pool, the same for all connections.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) prevhash: Hash,
    pub(super) branches: Vec<Hash>,
    pub(super) version: u32,
    pub(super) nbits: u32,
    pub(super) ntime: u32,
    /// The part of the coinbase script before the extranonces: height and time.
    script_head: Vec<u8>,
    /// The key hash that receives the reward.
    payee: [u8; 20],
}

impl Job {
    /// Invents a job on `prevhash` at `height`.
    pub(super) fn new(
        id: String,
        prevhash: Hash,
        height: u32,
        shape: Shape,
        rng: &mut StdRng,
    ) -> Self {
        Self {
            id,
            prevhash,
            branches: (0..shape.branches).map(|_| rng.random()).collect(),
            version: shape.version,
            nbits: shape.nbits,
            ntime: shape.ntime,
            payee: shape.payee,
            script_head: [push(&script_number(height)), push(&rng.random::<[u8; 4]>())].concat(),
        }
    }

    /// Returns the coinbase up to the extranonces, which take `extranonce_len` bytes together.
    pub(super) fn coinb1(&self, extranonce_len: usize) -> Vec<u8> {
        let script_len = self.script_head.len() + 1 + extranonce_len + TAG.len();
        let mut coinb1 = Vec::with_capacity(64);
        coinb1.extend_from_slice(&1_u32.to_le_bytes());
        coinb1.push(1);
        coinb1.extend_from_slice(&[0; 32]);
        coinb1.extend_from_slice(&[0xff; 4]);
        coinb1.push(
            u8::try_from(script_len)
                .expect("height, time, at most 24 bytes and the tag stay below 100"),
        );
        coinb1.extend_from_slice(&self.script_head);
        coinb1.push(u8::try_from(extranonce_len).expect("at most 24 bytes"));
        coinb1
    }

    /// Returns the coinbase after the extranonces: tag, sequence, two outputs, lock time.
    pub(super) fn coinb2(&self) -> Vec<u8> {
        let mut coinb2 = TAG.to_vec();
        coinb2.extend_from_slice(&[0xff; 4]);
        coinb2.push(2);
        coinb2.extend_from_slice(&312_500_000_u64.to_le_bytes());
        coinb2.push(22);
        coinb2.extend_from_slice(&[0x00, 0x14]);
        coinb2.extend_from_slice(&self.payee);
        coinb2.extend_from_slice(&0_u64.to_le_bytes());
        coinb2.push(38);
        coinb2.extend_from_slice(&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
        coinb2.extend_from_slice(&[0xe2; 32]);
        coinb2.extend_from_slice(&[0; 4]);
        coinb2
    }

    /// Returns the notify line, without its newline. `clean` is an argument because the first job
    /// of a connection is always clean.
    pub(super) fn notify(&self, extranonce_len: usize, clean: bool) -> String {
        let branches: Vec<String> = self.branches.iter().map(const_hex::encode).collect();
        serde_json::json!({
            "id": null,
            "method": "mining.notify",
            "params": [
                self.id,
                const_hex::encode(swap_words(self.prevhash)),
                const_hex::encode(self.coinb1(extranonce_len)),
                const_hex::encode(self.coinb2()),
                branches,
                format!("{:08x}", self.version),
                format!("{:08x}", self.nbits),
                format!("{:08x}", self.ntime),
                clean,
            ],
        })
        .to_string()
    }
}

/// The properties of a job, apart from its random contents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) branches: usize,
    pub(super) version: u32,
    pub(super) nbits: u32,
    pub(super) ntime: u32,
    pub(super) payee: [u8; 20],
}

/// The key hash that is paid by default.
pub(super) const PAYEE: [u8; 20] = [0x75; 20];

/// Invents a block hash, with zeros as in a real one.
pub(super) fn prevhash(rng: &mut StdRng) -> Hash {
    let mut hash: Hash = rng.random();
    hash[24..].fill(0);
    hash
}

/// The last push of the coinbase script.
const TAG: &[u8] = b"\x0e/tieline test/";

fn push(bytes: &[u8]) -> Vec<u8> {
    let mut script = vec![u8::try_from(bytes.len()).expect("a few bytes")];
    script.extend_from_slice(bytes);
    script
}

/// Encodes a height for BIP34: little-endian, in as few bytes as possible, with the top bit clear.
fn script_number(number: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.push(0);
    while bytes.len() > 1 && bytes[bytes.len() - 1] == 0 && bytes[bytes.len() - 2] & 0x80 == 0 {
        bytes.pop();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn job(seed: u64) -> Job {
        let mut rng = StdRng::seed_from_u64(seed);
        let prevhash = prevhash(&mut rng);
        let shape =
            Shape { branches: 3, version: 0x2000_0000, nbits: 0x1d00_ffff, ntime: 5, payee: PAYEE };
        Job::new("1a".into(), prevhash, 850_000, shape, &mut rng)
    }

    #[test]
    fn heights_are_written_as_bip34_wants() {
        assert_eq!(script_number(850_000), [0x50, 0xf8, 0x0c]);
        assert_eq!(script_number(128), [0x80, 0x00]);
        assert_eq!(script_number(0), [0]);
        assert_eq!(
            script_number(227_836),
            [0xfc, 0x79, 0x03],
            "block 227,836, the first under BIP34's rule"
        );
    }

    #[test]
    fn the_coinbase_is_a_whole_transaction() {
        let job = job(1);
        for extranonce_len in [3, 12, 24] {
            let coinb1 = job.coinb1(extranonce_len);
            let whole = [coinb1, vec![0xee; extranonce_len], job.coinb2()].concat();
            let script_len = usize::from(whole[41]);
            assert!((2..=100).contains(&script_len));
            let script = &whole[42..42 + script_len];
            assert_eq!(script[..4], [3, 0x50, 0xf8, 0x0c]);
            assert!(script.ends_with(b"/tieline test/"));
            let rest = &whole[42 + script_len..];
            assert_eq!(rest[..5], [0xff, 0xff, 0xff, 0xff, 2]);
            assert_eq!(rest.len(), 5 + (8 + 1 + 22) + (8 + 1 + 38) + 4);
        }
    }

    #[test]
    fn one_seed_gives_one_job() {
        assert_eq!(job(1).notify(12, true), job(1).notify(12, true));
        assert_ne!(job(1).notify(12, true), job(2).notify(12, true));
        assert!(job(1).notify(12, false).contains("\"00000005\",false]"));
    }
}
