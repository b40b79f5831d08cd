//! Tries nonces fast, which is what a test miner spends its time on.
//!
//! The first 64 bytes of the header are hashed once per scan; then each nonce takes two
//! compressions. The slow code must compute the same hash for a nonce that is found.

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

use super::{Hash, Header, Target};

/// A header whose nonces are being tried.
#[derive(Debug, Clone)]
pub struct Scan {
    midstate: [u32; 8],
    /// The second block that is hashed: the header's last 16 bytes and the padding of SHA-256 for
    /// 80 bytes.
    tail: [u8; 64],
    nonce: u32,
}

impl Scan {
    /// Starts at the header's own nonce.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let bytes = header.bytes();
        let mut midstate = START;
        compress256(&mut midstate, &[GenericArray::clone_from_slice(&bytes[..64])]);
        let mut tail = [0; 64];
        tail[..16].copy_from_slice(&bytes[64..]);
        tail[16] = 0x80;
        tail[62..].copy_from_slice(&(80_u16 * 8).to_be_bytes());
        Self { midstate, tail, nonce: header.nonce }
    }

    /// The nonce to be tried next.
    #[must_use]
    pub const fn nonce(&self) -> u32 {
        self.nonce
    }

    /// Tries up to `count` nonces and stops at the first that meets `target`. Returns that nonce
    /// with its hash, if there is one, and how many nonces were tried.
    pub fn run(&mut self, target: &Target, count: u32) -> (Option<(u32, Hash)>, u32) {
        let top = target.top();
        for tried in 1..=count {
            let nonce = self.nonce;
            self.nonce = nonce.wrapping_add(1);
            let state = self.state(nonce);
            if state[7].swap_bytes() > top {
                continue;
            }
            let hash = digest(&state);
            if target.met_by(&hash) {
                return (Some((nonce, hash)), tried);
            }
        }
        (None, count)
    }

    fn state(&self, nonce: u32) -> [u32; 8] {
        let mut tail = self.tail;
        tail[12..16].copy_from_slice(&nonce.to_le_bytes());
        let mut first = self.midstate;
        compress256(&mut first, &[tail.into()]);
        let mut block = [0; 64];
        block[..32].copy_from_slice(&digest(&first));
        block[32] = 0x80;
        block[62..].copy_from_slice(&(32_u16 * 8).to_be_bytes());
        let mut second = START;
        compress256(&mut second, &[block.into()]);
        second
    }
}

/// SHA-256's initial state, FIPS 180-4 section 5.3.3.
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

fn digest(state: &[u32; 8]) -> Hash {
    let mut bytes = [0; 32];
    for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *place = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::tests::genesis;
    use super::*;

    #[test]
    fn the_genesis_nonce_is_found_where_it_is() {
        let start = Header { nonce: genesis().nonce - 500, ..genesis() };
        let target = Target::of_nbits(start.nbits).unwrap();
        let mut scan = Scan::new(&start);
        assert_eq!(scan.run(&target, 500), (None, 500));
        assert_eq!(scan.run(&target, 500), (Some((genesis().nonce, genesis().hash())), 1));
        assert_eq!(scan.nonce(), genesis().nonce + 1);
    }

    #[test]
    fn every_hash_agrees_with_the_slow_way() {
        let mut scan = Scan::new(&Header { nonce: 7, ..genesis() });
        for nonce in 7..40 {
            let found = scan.run(&Target::MAX, 1).0;
            assert_eq!(found, Some((nonce, Header { nonce, ..genesis() }.hash())));
        }
    }
}
