//! The arithmetic of proof of work, on SHA-256 alone: coinbase, merkle root, header, share hash.
//!
//! It judges the results of the crates under test, so it shares no code with them. Its tests use
//! real blocks, and a share recorded from an unmodified pool. Difficulties and targets are in
//! [`target`], fast hashing for the test miner in [`scan`].

use sha2::{Digest, Sha256};

pub mod scan;
pub mod target;

pub use target::Target;

/// A SHA-256d digest, in the byte order in which it is computed; as a number it is little-endian.
pub type Hash = [u8; 32];

/// Hashes twice with SHA-256.
#[must_use]
pub fn double_sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// Returns the coinbase: `coinb1 | extranonce1 | extranonce2 | coinb2`.
#[must_use]
pub fn coinbase(coinb1: &[u8], extranonce1: &[u8], extranonce2: &[u8], coinb2: &[u8]) -> Vec<u8> {
    [coinb1, extranonce1, extranonce2, coinb2].concat()
}

/// Computes the merkle root from the hash of the coinbase and the branches.
#[must_use]
pub fn merkle_root(coinbase: &[u8], merkle_branch: &[Hash]) -> Hash {
    merkle_branch.iter().fold(double_sha256(coinbase), |left, right| {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&left);
        pair[32..].copy_from_slice(right);
        double_sha256(&pair)
    })
}

/// Converts between the `prevhash` of a notify and the byte order of a header: the bytes of each
/// four-byte word are reversed.
#[must_use]
pub fn swap_words(mut bytes: Hash) -> Hash {
    bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|word| word.reverse());
    bytes
}

/// The fields of a block header; hashes are in header byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The block version, including rolled bits.
    pub version: u32,
    /// Hash of the block before.
    pub prevhash: Hash,
    /// Root over all transactions.
    pub merkle_root: Hash,
    pub ntime: u32,
    pub nbits: u32,
    pub nonce: u32,
}

impl Header {
    /// Returns the 80 bytes that are hashed: numbers little-endian.
    #[must_use]
    pub fn bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..36].copy_from_slice(&self.prevhash);
        bytes[36..68].copy_from_slice(&self.merkle_root);
        bytes[68..72].copy_from_slice(&self.ntime.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        bytes[76..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// Returns the header's hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        double_sha256(&self.bytes())
    }
}

/// Reads exactly eight hex digits, most significant first: the form of numbers in notify and
/// submit.
#[must_use]
pub fn parse_u32(hex: &str) -> Option<u32> {
    let bytes: [u8; 4] = parse_array(hex)?;
    Some(u32::from_be_bytes(bytes))
}

/// Reads exactly `N` bytes of hex, without prefix or spaces.
#[must_use]
pub fn parse_array<const N: usize>(hex: &str) -> Option<[u8; N]> {
    parse_bytes(hex)?.try_into().ok()
}

/// Reads bytes of hex, without prefix or spaces.
#[must_use]
pub fn parse_bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.starts_with("0x") || hex.len() % 2 == 1 {
        return None;
    }
    const_hex::decode(hex).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads a hash with the most significant byte first, as people write it.
    pub(crate) fn displayed(hex: &str) -> Hash {
        let mut hash: Hash = parse_array(hex).unwrap();
        hash.reverse();
        hash
    }

    const GENESIS_COINBASE: &str = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";

    pub(crate) fn genesis() -> Header {
        Header {
            version: 1,
            prevhash: [0; 32],
            merkle_root: displayed(
                "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
            ),
            ntime: 1_231_006_505,
            nbits: 0x1d00_ffff,
            nonce: 2_083_236_893,
        }
    }

    pub(crate) fn block_100_000() -> Header {
        Header {
            version: 1,
            prevhash: displayed("000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250"),
            merkle_root: displayed(
                "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766",
            ),
            ntime: 1_293_623_863,
            nbits: 0x1b04_864c,
            nonce: 274_148_111,
        }
    }

    #[test]
    fn the_genesis_block_hashes_to_its_hash() {
        let expected =
            displayed("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f");
        assert_eq!(genesis().hash(), expected);
    }

    #[test]
    fn the_genesis_coinbase_gives_its_merkle_root_wherever_it_is_cut() {
        let whole = parse_bytes(GENESIS_COINBASE).unwrap();
        for (first, second, third) in [(42, 46, 54), (60, 61, 65), (0, 1, 203)] {
            let made = coinbase(
                &whole[..first],
                &whole[first..second],
                &whole[second..third],
                &whole[third..],
            );
            assert_eq!(merkle_root(&made, &[]), genesis().merkle_root);
        }
    }

    #[test]
    fn block_100000_is_rebuilt_from_its_branches() {
        let transactions = [
            "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
            "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
            "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
            "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
        ]
        .map(displayed);
        let far = double_sha256(&[transactions[2], transactions[3]].concat());
        let near = double_sha256(&[transactions[0], transactions[1]].concat());
        assert_eq!(double_sha256(&[near, far].concat()), block_100_000().merkle_root);
        let expected =
            displayed("000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506");
        assert_eq!(block_100_000().hash(), expected);
    }

    #[test]
    fn branches_fold_in_order() {
        let made = coinbase(b"a", b"b", b"c", b"d");
        let (one, two) = ([1; 32], [2; 32]);
        let by_hand =
            double_sha256(&[double_sha256(&[double_sha256(b"abcd"), one].concat()), two].concat());
        assert_eq!(merkle_root(&made, &[one, two]), by_hand);
    }

    #[test]
    fn prevhash_words_are_swapped_as_pools_send_them() {
        let sent = parse_array("0a8ce26f72b3f1b646a2a6c14ff763ae65831e939c085ae10019d66800000000")
            .unwrap();
        assert_eq!(swap_words(sent), genesis().hash());
        assert_eq!(swap_words(genesis().hash()), sent);
    }

    /// A recorded share of minerd 2.5.1 that an unmodified ckpool accepted at difficulty 0.0005.
    #[test]
    fn a_recorded_share_is_what_the_pool_said_it_is() {
        let coinb1 = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff2b01020004f9ca026b0434306f130c";
        let coinb2 = "0a636b706f6f6c092f706565726c61622fffffffff0200f2052a01000000160014751e76e8199196d454941c45d1b3a323f1433bd60000000000000000266a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf900000000";
        let prevhash = "432ebc07f740825041fcefe912ec52bd2d7b1893a83f60367fe1e5ca3a97d82a";
        let made = coinbase(
            &parse_bytes(coinb1).unwrap(),
            &parse_bytes("faca026b").unwrap(),
            &[0; 8],
            &parse_bytes(coinb2).unwrap(),
        );
        for nonce in ["36f01580", "b07e3900", "e3493c00"] {
            let header = Header {
                version: parse_u32("20000000").unwrap(),
                prevhash: swap_words(parse_array(prevhash).unwrap()),
                merkle_root: merkle_root(&made, &[]),
                ntime: parse_u32("6b02caf9").unwrap(),
                nbits: parse_u32("207fffff").unwrap(),
                nonce: parse_u32(nonce).unwrap(),
            };
            assert!(Target::of_difficulty(0.0005).unwrap().met_by(&header.hash()), "nonce {nonce}");
            let other = Header { nonce: header.nonce ^ 1, ..header };
            assert!(
                !Target::of_difficulty(0.0005).unwrap().met_by(&other.hash()),
                "nonce {nonce} with a bit flipped"
            );
        }
    }

    #[test]
    fn hex_is_read_strictly() {
        assert_eq!(parse_u32("0000002a"), Some(42));
        for wrong in ["", "2a", "0x00002a", "0000002g", " 000002a", "00000002a", "0000002a00"] {
            assert_eq!(parse_u32(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_bytes("0x12"), None);
        assert_eq!(parse_bytes("123"), None);
    }
}
