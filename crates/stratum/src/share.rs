//! A share: the fields a miner submitted, decoded strictly, and the proof of work they make with a
//! job.
//!
//! Decoding gives one value for every spelling, so that duplicates are found on the decoded header.
//! Which job and which target a share is judged by, whether it is a duplicate, and where it goes,
//! is the proxy's.

use bitcoin::hashes::{Hash, sha256d};

use crate::client_message::{Submit, Word};
use crate::difficulty::Target;
use crate::error::RejectCode;
pub use crate::extranonce::SmallBytes;
use crate::hex;
use crate::job::Job;
use crate::version::VersionMask;

/// How far a share's time may run ahead of its job's, in seconds: what ckpool takes.
pub const NTIME_ROLL_MAX_SECS: u32 = 7000;

/// A submitted share's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    /// The miner's part of the search space.
    pub extranonce2: SmallBytes,
    /// The header's time.
    pub ntime: u32,
    /// The header's nonce.
    pub nonce: u32,
    /// The version bits the miner says it rolled.
    pub version_bits: Option<u32>,
}

/// Why a share is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("share rejected with {}: {reason}", code.code())]
pub struct Reject {
    /// The code to answer with.
    pub code: RejectCode,
    /// The reason label: `bad_hex`, `bad_extranonce2`, `bad_ntime`, `bad_nonce`,
    /// `bad_version_bits`, `ntime`, `version_mask`, `version_missing` or `low_difficulty`.
    pub reason: &'static str,
}

impl Reject {
    const fn other(reason: &'static str) -> Self {
        Self { code: RejectCode::Other, reason }
    }

    const LOW: Self = Self { code: RejectCode::LowDifficulty, reason: "low_difficulty" };
}

/// Decodes a submit. Words of fewer than eight digits are zero-padded (NerdMiner), numbers taken as
/// their value.
///
/// # Errors
/// A [`Reject`] with code 20 for what is not hex, or not of the right length.
pub fn decode(submit: &Submit<'_>, extranonce2_size: u8) -> Result<Share, Reject> {
    if !hex::is_hex(&submit.extranonce2) {
        return Err(Reject::other("bad_hex"));
    }
    let size = usize::from(extranonce2_size);
    let mut bytes = [0; crate::extranonce::EXTRANONCE_MAX];
    let room = bytes.get_mut(..size).ok_or(Reject::other("bad_extranonce2"))?;
    hex::fill(&submit.extranonce2, room).ok_or(Reject::other("bad_extranonce2"))?;
    Ok(Share {
        extranonce2: SmallBytes::new(room).expect("cut from sixteen bytes"),
        ntime: word(&submit.ntime, "bad_ntime")?,
        nonce: word(&submit.nonce, "bad_nonce")?,
        version_bits: submit
            .version_bits
            .as_ref()
            .map(|bits| word(bits, "bad_version_bits"))
            .transpose()?,
    })
}

fn word(word: &Word<'_>, reason: &'static str) -> Result<u32, Reject> {
    match word {
        Word::Number(value) => value.ok_or(Reject::other(reason)),
        Word::Hex(digits) if !hex::is_hex(digits) => Err(Reject::other("bad_hex")),
        Word::Hex(digits) => hex::word(digits).ok_or(Reject::other(reason)),
    }
}

/// Returns the mask to judge a share by: what its session negotiated; or, where a miner sends bits
/// unasked (MRR does), the BIP320 bits its pool rolls; or none.
#[must_use]
pub fn mask_for(
    negotiated: Option<VersionMask>,
    pool: Option<VersionMask>,
    share: &Share,
) -> Option<VersionMask> {
    negotiated.or_else(|| share.version_bits.and(pool).map(|mask| mask.and(VersionMask::BIP320)))
}

/// A header that was hashed, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The header the share means.
    pub header: [u8; 80],
    /// Its hash, in header byte order.
    pub hash: [u8; 32],
    /// The bits to forward: the header's version within the mask. `None` where no mask is in force.
    pub version_bits: Option<u32>,
    /// How the version came about.
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

/// How a header's version was put together from the job's and the miner's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rebuilt {
    /// The job's bits inside the mask were replaced by the miner's, as BIP310 says.
    Replaced,
    /// The miner's bits were added to the job's: stock Antminers leave out bits the job has set.
    Ored,
    /// Both ways make the same version, or nothing is rolled.
    Plain,
}

/// Judges a share by a job: the header it means must hash to `target` or below.
///
/// `middle` is what stands between `coinb1` and the miner's extranonce2: the pool's extranonce1,
/// lane, slot. With a mask, a share must carry version bits, inside it. Where the job has set bits
/// inside the mask, both readings of the miner's bits are tried.
///
/// # Errors
/// A [`Reject`] with code 20 for a time or version bits out of bounds, 23 for a hash above the
/// target.
pub fn prove(
    job: &Job,
    middle: &[&[u8]],
    share: &Share,
    mask: Option<VersionMask>,
    target: &Target,
) -> Result<Proof, Reject> {
    let readings = Readings::new(job, middle, share, mask)?;
    let first = readings.first();
    if target.is_met_by(&first.hash) {
        return Ok(first);
    }
    readings.second().filter(|second| target.is_met_by(&second.hash)).ok_or(Reject::LOW)
}

/// Returns the header a share means whatever its hash: of two readings the one with the lower hash.
/// For reports on shares that miss their target.
///
/// # Errors
/// A [`Reject`] with code 20 for a time or version bits out of bounds.
pub fn proof_of(
    job: &Job,
    middle: &[&[u8]],
    share: &Share,
    mask: Option<VersionMask>,
) -> Result<Proof, Reject> {
    let readings = Readings::new(job, middle, share, mask)?;
    let first = readings.first();
    Ok(match readings.second() {
        Some(second) if Target::from_le_bytes(first.hash) > Target::from_le_bytes(second.hash) => {
            second
        }
        _ => first,
    })
}

/// The one or two headers a share may mean. They differ in their version only, so the merkle root
/// is computed once.
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
    ) -> Result<Self, Reject> {
        if share.ntime < job.ntime || share.ntime - job.ntime > NTIME_ROLL_MAX_SECS {
            return Err(Reject::other("ntime"));
        }
        let mask = mask.filter(|mask| !mask.is_empty());
        let (replaced, ored) = match (share.version_bits, mask) {
            (Some(bits), Some(mask)) if mask.contains(bits) => {
                (job.version & !mask.0 | bits, job.version | bits)
            }
            (None, Some(_)) => return Err(Reject::other("version_missing")),
            (None | Some(0), None) => (job.version, job.version),
            (Some(_), _) => return Err(Reject::other("version_mask")),
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

/// Puts the miner's bytes behind `middle` without an allocation for the few parts there are.
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

/// Parts of an extranonce handled without allocation: extranonce1, lane, slot, extranonce2.
const PARTS: usize = 4;

#[cfg(test)]
mod tests;
