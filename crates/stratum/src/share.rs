//! A share: the fields that a miner submitted, decoded strictly, and the proof of work that they
//! give together with a job.
//!
//! Different spellings of a field decode to the same value, so that the proxy can find duplicates
//! by the decoded header. The proxy also decides which job and target a share is judged by, and
//! whether it is forwarded.

use bitcoin::hashes::{Hash, sha256d};

use crate::client_message::{Submit, Word};
use crate::difficulty::Target;
use crate::error::RejectCode;
pub use crate::extranonce::SmallBytes;
use crate::hex;
use crate::job::Job;
use crate::version::VersionMask;

/// How far the time of a share may be ahead of that of its job, in seconds: the bound of ckpool.
pub const NTIME_ROLL_MAX_SECS: u32 = 7000;

/// The decoded fields of a submitted share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    /// The miner's part of the search space: bytes of the coinbase that it chooses.
    pub extranonce2: SmallBytes,
    /// The header's time.
    pub ntime: u32,
    /// The header's nonce.
    pub nonce: u32,
    /// The version bits as submitted.
    pub version_bits: Option<u32>,
}

/// Why a share is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ShareFault {
    /// A field is not hex.
    #[error("a field is not hex")]
    BadHex,
    /// The extranonce2 has the wrong length.
    #[error("extranonce2 has the wrong length")]
    BadExtranonce2,
    /// The time is not a 32-bit value.
    #[error("ntime is no 32-bit value")]
    BadNtime,
    /// The nonce is not a 32-bit value.
    #[error("nonce is no 32-bit value")]
    BadNonce,
    /// The version bits are not a 32-bit value.
    #[error("version bits are no 32-bit value")]
    BadVersionBits,
    /// The time is before its job's, or too far ahead of it.
    #[error("ntime is out of range")]
    NtimeOutOfRange,
    /// The submit has version bits outside the mask.
    #[error("version bits outside the mask")]
    OutsideMask,
    /// The submit has no version bits, although rolling was negotiated.
    #[error("no version bits although rolling was agreed")]
    VersionMissing,
    /// The hash misses the target.
    #[error("the hash misses the target")]
    LowDifficulty,
}

impl ShareFault {
    /// Returns the code to answer with.
    #[must_use]
    pub const fn code(self) -> RejectCode {
        match self {
            Self::LowDifficulty => RejectCode::LowDifficulty,
            Self::BadHex
            | Self::BadExtranonce2
            | Self::BadNtime
            | Self::BadNonce
            | Self::BadVersionBits
            | Self::NtimeOutOfRange
            | Self::OutsideMask
            | Self::VersionMissing => RejectCode::Other,
        }
    }
}

/// Decodes a submit. Hex words with fewer than eight digits are padded with zeros (NerdMiner sends
/// them); JSON numbers are taken as the value itself.
///
/// # Errors
/// A [`ShareFault`] with code 20 for a field that is not hex or has a wrong length.
pub fn decode(submit: &Submit<'_>, extranonce2_size: u8) -> Result<Share, ShareFault> {
    if !hex::is_hex(&submit.extranonce2) {
        return Err(ShareFault::BadHex);
    }
    let size = usize::from(extranonce2_size);
    let mut bytes = [0; crate::extranonce::EXTRANONCE_MAX];
    let room = bytes.get_mut(..size).ok_or(ShareFault::BadExtranonce2)?;
    hex::fill(&submit.extranonce2, room).ok_or(ShareFault::BadExtranonce2)?;
    Ok(Share {
        extranonce2: SmallBytes::new(room).expect("cut from sixteen bytes"),
        ntime: word(&submit.ntime, ShareFault::BadNtime)?,
        nonce: word(&submit.nonce, ShareFault::BadNonce)?,
        version_bits: submit
            .version_bits
            .as_ref()
            .map(|bits| word(bits, ShareFault::BadVersionBits))
            .transpose()?,
    })
}

fn word(word: &Word<'_>, otherwise: ShareFault) -> Result<u32, ShareFault> {
    match word {
        Word::Number(value) => value.ok_or(otherwise),
        Word::Hex(digits) if !hex::is_hex(digits) => Err(ShareFault::BadHex),
        Word::Hex(digits) => hex::word(digits).ok_or(otherwise),
    }
}

/// Returns the version mask to judge a share by. It is the one its session negotiated. A miner that
/// sends bits without having negotiated (MRR does) gets the BIP320 bits that its pool allows. Any
/// other share gets none.
#[must_use]
pub fn mask_for(
    negotiated: Option<VersionMask>,
    pool: Option<VersionMask>,
    share: &Share,
) -> Option<VersionMask> {
    negotiated.or_else(|| share.version_bits.and(pool).map(|mask| mask.and(VersionMask::BIP320)))
}

/// The header of a share, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The header that the miner hashed.
    pub header: [u8; 80],
    /// The header's hash, in header byte order.
    pub hash: [u8; 32],
    /// The version bits to forward: the header's version within the mask. `None` if there is no
    /// mask.
    pub version_bits: Option<u32>,
    /// Which way of combining the version bits gave the header.
    pub rebuilt: Rebuilt,
}

impl Proof {
    /// Returns the header's version.
    #[must_use]
    pub fn version(&self) -> u32 {
        let [a, b, c, d, ..] = self.header;
        u32::from_le_bytes([a, b, c, d])
    }
}

/// How the version of a header was combined from the job's bits and the miner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rebuilt {
    /// The job's bits inside the mask were replaced by the miner's, as BIP310 says.
    Replaced,
    /// The miner's bits were OR-ed to the job's: stock Antminers leave out bits that the job has
    /// set.
    Ored,
    /// Both ways make the same version, or nothing is rolled.
    Plain,
}

/// Judges a share: the header that it makes with `job` must hash to `target` or below.
///
/// `middle` is the bytes between `coinb1` and the miner's extranonce2: the pool's extranonce1, the
/// lane and the slot. If there is a mask, a share must have version bits, and none outside the
/// mask. If the job has bits set inside the mask, both ways of combining the bits ([`Rebuilt`]) are
/// tried.
///
/// # Errors
/// A [`ShareFault`] with code 20 for a time or version bits out of bounds, 23 for a hash above the
/// target.
pub fn prove(
    job: &Job,
    middle: &[&[u8]],
    share: &Share,
    mask: Option<VersionMask>,
    target: &Target,
) -> Result<Proof, ShareFault> {
    let readings = Readings::new(job, middle, share, mask)?;
    let first = readings.first();
    if target.is_met_by(&first.hash) {
        return Ok(first);
    }
    readings
        .second()
        .filter(|second| target.is_met_by(&second.hash))
        .ok_or(ShareFault::LowDifficulty)
}

/// Returns the header of a share without judging it: of two possible headers, the one with the
/// lower hash. This is for reports on shares that miss their target.
///
/// # Errors
/// A [`ShareFault`] with code 20 for a time or version bits out of bounds.
pub fn proof_of(
    job: &Job,
    middle: &[&[u8]],
    share: &Share,
    mask: Option<VersionMask>,
) -> Result<Proof, ShareFault> {
    let readings = Readings::new(job, middle, share, mask)?;
    let first = readings.first();
    Ok(match readings.second() {
        Some(second) if Target::from_le_bytes(first.hash) > Target::from_le_bytes(second.hash) => {
            second
        }
        _ => first,
    })
}

/// The one or two headers that a share can stand for. They differ only in the version, so the
/// merkle root is computed once.
struct Readings<'j> {
    job: &'j Job,
    merkle_root: [u8; 32],
    share: Share,
    mask: Option<VersionMask>,
    replaced: u32,
    ored: u32,
}

impl<'j> Readings<'j> {
    fn new(
        job: &'j Job,
        middle: &[&[u8]],
        share: &Share,
        mask: Option<VersionMask>,
    ) -> Result<Self, ShareFault> {
        if share.ntime < job.ntime || share.ntime - job.ntime > NTIME_ROLL_MAX_SECS {
            return Err(ShareFault::NtimeOutOfRange);
        }
        let mask = mask.filter(|mask| !mask.is_empty());
        let (replaced, ored) = match (share.version_bits, mask) {
            (Some(bits), Some(mask)) if mask.contains(bits) => {
                (job.version & !mask.0 | bits, job.version | bits)
            }
            (None, Some(_)) => return Err(ShareFault::VersionMissing),
            (None | Some(0), None) => (job.version, job.version),
            (Some(_), _) => return Err(ShareFault::OutsideMask),
        };
        Ok(Self {
            job,
            merkle_root: merkle_root(job, middle, &share.extranonce2),
            share: *share,
            mask,
            replaced,
            ored,
        })
    }

    fn first(&self) -> Proof {
        self.hash(
            self.replaced,
            if self.replaced == self.ored { Rebuilt::Plain } else { Rebuilt::Replaced },
        )
    }

    fn second(&self) -> Option<Proof> {
        (self.replaced != self.ored).then(|| self.hash(self.ored, Rebuilt::Ored))
    }

    fn hash(&self, version: u32, rebuilt: Rebuilt) -> Proof {
        let header =
            self.job.header(&self.merkle_root, version, self.share.ntime, self.share.nonce);
        let hash = sha256d::Hash::hash(&header).to_byte_array();
        Proof { header, hash, version_bits: self.mask.map(|mask| version & mask.0), rebuilt }
    }
}

/// Computes the merkle root with `extranonce2` after the parts of `middle`, without an allocation.
fn merkle_root(job: &Job, middle: &[&[u8]], extranonce2: &[u8]) -> [u8; 32] {
    let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
    match parts.get_mut(..=middle.len()) {
        Some(parts) => {
            parts[..middle.len()].copy_from_slice(middle);
            parts[middle.len()] = extranonce2;
            job.merkle_root(parts)
        }
        None => {
            let joined = middle.concat();
            job.merkle_root(&[&joined, extranonce2])
        }
    }
}

/// How many parts of an extranonce need no allocation: extranonce1, lane, slot, extranonce2.
const PARTS: usize = 4;

#[cfg(test)]
mod tests;
