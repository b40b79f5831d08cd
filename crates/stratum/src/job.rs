//! A job: the checked content of a pool's notify, and the arithmetic from it to a block header.
//!
//! ```text
//! coinbase   coinb1 | extranonce1 | extranonce2 | coinb2      its double SHA-256 is folded with the branches to the merkle root
//! header     version 4 | prevhash 32 | merkle root 32 | ntime 4 | nbits 4 | nonce 4      integers least significant byte first
//! ```
//!
//! Which session works on which job, and at what difficulty, is left to the proxy.

use bitcoin::hashes::{Hash, HashEngine, sha256d};

use crate::difficulty::Target;
use crate::envelope::{Params, Value};
use crate::hex;

/// The maximum length of a pool's job id, in characters.
pub const JOB_ID_MAX: usize = 64;
/// The maximum number of merkle branches: enough for 2^32 transactions.
pub const BRANCHES_MAX: usize = 32;
/// The maximum length of `coinb1` and of `coinb2`, in bytes.
pub const COINBASE_PART_MAX: usize = 20 * 1024;
/// The maximum number of params of a notify: the nine that all pools send, and a few extra ones.
const NOTIFY_PARAMS_MAX: usize = 12;

/// Work from a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The pool's id of the job: 1 to 64 characters of printable ASCII, without `"` and `\`. It
    /// means nothing to us.
    pub job_id: String,
    /// The previous block's hash, in header byte order.
    pub prev_hash: [u8; 32],
    /// The coinbase up to the extranonces.
    pub coinb1: Vec<u8>,
    /// The coinbase after the extranonces.
    pub coinb2: Vec<u8>,
    /// The hashes that lead from the coinbase to the merkle root; at most 32.
    pub branches: Vec<[u8; 32]>,
    /// The header's version, before any rolling.
    pub version: u32,
    /// The network's target in compact form.
    pub nbits: u32,
    /// The earliest time the header may carry.
    pub ntime: u32,
    /// Whether the pool no longer accepts shares of earlier jobs.
    pub clean: bool,
}

/// Why a notify is refused. The job before it stays in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadNotify {
    /// The number of params is wrong: there are nine, and up to three more from some pools.
    #[error("notify has {count} params, not 9")]
    ParamCount {
        /// How many params there were.
        count: usize,
    },
    /// A field has a wrong JSON type, a wrong length, or characters that are not hex digits.
    #[error("notify has a bad {field}")]
    Field {
        /// The field's name.
        field: &'static str,
    },
    /// There are more branches than any block needs.
    #[error("notify has {count} merkle branches, more than 32")]
    Branches {
        /// How many branches there were.
        count: usize,
    },
    /// The compact target is zero, negative, overflows, or lies above every network's limit.
    #[error("notify has an impossible nbits {nbits:08x}")]
    Nbits {
        /// The compact target of the notify.
        nbits: u32,
    },
}

impl Job {
    /// Returns the network's target. A job made by hand with impossible `nbits` has
    /// [`Target::NEVER`]; the `nbits` of a pool's job were checked when it was read.
    #[must_use]
    pub fn network_target(&self) -> Target {
        Target::from_nbits(self.nbits).unwrap_or(Target::NEVER)
    }

    /// Returns the merkle root of the block whose coinbase is `coinb1`, the parts of `extranonce`
    /// in order, and `coinb2`.
    #[must_use]
    pub fn merkle_root(&self, extranonce: &[&[u8]]) -> [u8; 32] {
        let mut engine = sha256d::Hash::engine();
        engine.input(&self.coinb1);
        for part in extranonce {
            engine.input(part);
        }
        engine.input(&self.coinb2);
        let coinbase = sha256d::Hash::from_engine(engine).to_byte_array();
        self.branches.iter().fold(coinbase, |node, branch| {
            let mut pair = [0; 64];
            pair[..32].copy_from_slice(&node);
            pair[32..].copy_from_slice(branch);
            sha256d::Hash::hash(&pair).to_byte_array()
        })
    }

    /// Returns the header a miner hashed.
    #[must_use]
    pub fn header(&self, merkle_root: &[u8; 32], version: u32, ntime: u32, nonce: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(merkle_root);
        header[68..72].copy_from_slice(&ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        header
    }

    /// Reads the params of `mining.notify`.
    pub(crate) fn read(params: &mut Params<'_>) -> Result<Self, BadNotify> {
        let count = params.len();
        let clean = read_clean(params).ok_or(BadNotify::ParamCount { count })?;
        let bad = |field| BadNotify::Field { field };
        let job_id = match params.take(0) {
            Value::Text(job_id) if is_job_id(&job_id) => job_id.into_owned(),
            _ => return Err(bad("job_id")),
        };
        let mut prev_hash = [0; 32];
        text(&params.take(1))
            .and_then(|digits| hex::fill(digits, &mut prev_hash))
            .ok_or(bad("prevhash"))?;
        swap_words(&mut prev_hash);
        let coinb1 = coinbase_part(&params.take(2)).ok_or(bad("coinb1"))?;
        let coinb2 = coinbase_part(&params.take(3)).ok_or(bad("coinb2"))?;
        let branches = read_branches(&params.take(4))?;
        let version = word(&params.take(5)).ok_or(bad("version"))?;
        let nbits = word(&params.take(6)).ok_or(bad("nbits"))?;
        let ntime = word(&params.take(7)).ok_or(bad("ntime"))?;
        Target::from_nbits(nbits).ok_or(BadNotify::Nbits { nbits })?;
        Ok(Self { job_id, prev_hash, coinb1, coinb2, branches, version, nbits, ntime, clean })
    }
}

/// Converts between the `prevhash` of Stratum, in which the bytes of each 4-byte word are reversed,
/// and the byte order of a header.
pub(crate) fn swap_words(hash: &mut [u8; 32]) {
    hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
}

/// Finds `clean_jobs`: the ninth param or, if that is not a boolean because the pool inserted
/// others before it, the last one (ESP-Miner does the same). A value that is neither true nor false
/// counts as true, which may waste work but never loses a share.
fn read_clean(params: &Params<'_>) -> Option<bool> {
    let Params::List { items, total } = params else {
        return None;
    };
    let flag = |at: usize| match items.get(at) {
        Some(Value::Bool(clean)) => Some(*clean),
        Some(Value::Number("0")) => Some(false),
        Some(Value::Number("1")) => Some(true),
        _ => None,
    };
    match *total {
        9 => Some(flag(8).unwrap_or(true)),
        10..=NOTIFY_PARAMS_MAX => flag(8).or_else(|| flag(total - 1)),
        _ => None,
    }
}

fn read_branches(value: &Value<'_>) -> Result<Vec<[u8; 32]>, BadNotify> {
    let bad = BadNotify::Field { field: "merkle_branch" };
    let Value::Array(raw) = value else {
        return Err(bad);
    };
    let (items, count) = Value::items_counted(raw, BRANCHES_MAX);
    if count > BRANCHES_MAX {
        return Err(BadNotify::Branches { count });
    }
    items
        .iter()
        .map(|item| {
            let mut branch = [0; 32];
            text(item).and_then(|digits| hex::fill(digits, &mut branch)).map(|()| branch).ok_or(bad)
        })
        .collect()
}

fn is_job_id(job_id: &str) -> bool {
    (1..=JOB_ID_MAX).contains(&job_id.len())
        && job_id.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

fn coinbase_part(value: &Value<'_>) -> Option<Vec<u8>> {
    text(value)
        .and_then(|digits| hex::bytes(digits, COINBASE_PART_MAX))
        .filter(|part| !part.is_empty())
}

/// Reads exactly eight digits.
fn word(value: &Value<'_>) -> Option<u32> {
    text(value).filter(|digits| digits.len() == 8).and_then(hex::word)
}

fn text<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
