//! The settings of a test pool. Each field is something that real pools do differently from one
//! another. [`presets`] has the settings of known pools.

mod presets;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use self::presets::Like;
use crate::arithmetic::Target;
use crate::tls::Identity;

/// A test pool's settings. [`PoolConfig::default`] is a plain, honest pool on a free local port.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The TLS identity; `None` speaks without TLS.
    pub tls: Option<Identity>,
    /// Where connections get their extranonce1 from.
    pub extranonce1: Extranonce1,
    /// The size of extranonce2, 2 to 8 bytes.
    pub extranonce2_size: usize,
    /// Share difficulty of a new connection, 2^-28 to 2^48.
    pub difficulty: f64,
    /// Version bits that may be rolled; `None` refuses rolling.
    pub version_mask: Option<u32>,
    /// How the header's version is rebuilt from the submitted bits.
    pub rolling: Rolling,
    /// Accept version bits from connections that sent no configure: MiningRigRentals does that.
    pub unasked_rolling: bool,
    /// Accept nonces without leading zeros: NerdMiner sends them.
    pub short_nonces: bool,
    /// The block version of the jobs. Real pools signal with bits that may be inside the mask.
    pub job_version: u32,
    /// The time between jobs; with zero, jobs are made only by command.
    pub job_interval: Duration,
    /// Every n-th job is clean; with zero, only the first one.
    pub clean_every: u32,
    /// Merkle branches in a job, at most 32.
    pub branches: usize,
    /// The network target of the jobs, in compact form.
    pub nbits: u32,
    /// By how many seconds the `ntime` of a share may be ahead of that of its job.
    pub ntime_window: u32,
    pub authorize: Authorize,
    /// What must have happened before the first job is sent.
    pub first_job: FirstJob,
    /// The shape of the subscribe reply.
    pub subscribe_reply: SubscribeReply,
    /// The shape of a refusal.
    pub error_form: ErrorForm,
    /// Leave the `error` key out of positive answers, as AntPool and miningcore do.
    pub omit_error_key: bool,
    /// Whether `set_difficulty` comes before or after the notify it belongs to.
    pub difficulty_order: DifficultyOrder,
    /// Send the first `set_difficulty` before the configure reply, as OCEAN sometimes does.
    pub early_difficulty: bool,
    /// Leave the `id` key out of `set_difficulty`, as AntPool does.
    pub difficulty_without_id: bool,
    /// Write difficulties and sizes as `1024.0`, as miningcore does.
    pub floats: bool,
    /// Put `"jsonrpc":"2.0"` into every message, as miningcore does.
    pub jsonrpc: bool,
    /// Delay the answer to every second request until after the next answer, as AntPool does.
    pub answers_out_of_order: bool,
    /// Do not answer unknown methods, nor `mining.ping`, as ckpool does.
    pub silent_to_unknown: bool,
    /// Refuse shares without version bits from connections that configured rolling, as DATUM does.
    pub wants_version_bits: bool,
    /// A prefix of all job ids, which are opaque to clients.
    pub job_id_prefix: String,
    /// The message for a share that misses its difficulty.
    pub low_words: &'static str,
    /// Change the extranonce1 of every connection at every n-th job, as NiceHash may at any time;
    /// zero: never.
    pub extranonce_every: u32,
    /// Send `set_version_mask` right after the configure reply, before the subscribe reply, as
    /// Braiins does.
    pub early_version_mask: bool,
    /// Refuse configure after subscribe, as Braiins does.
    pub configure_first: bool,
    /// Honour `suggest_difficulty` and `d=` in the password.
    pub honour_suggestions: bool,
    /// How the pool answers `mining.extranonce.subscribe`.
    pub extranonce_subscribe: ExtranonceSubscribe,
    /// Make a clean job when a share meets the network target.
    pub clean_on_block: bool,
    /// The seed of job contents; two pools with the same seed send the same jobs.
    pub seed: u64,
    /// How many lines are recorded per connection.
    pub wire_lines: usize,
}

/// Where connections get their extranonce1 from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extranonce1 {
    /// Each connection has its own value of this length (1 to 16 bytes).
    PerConnection(usize),
    /// All connections have the same value, as Braiins serves `00`.
    Fixed(Vec<u8>),
}

/// How the header's version is rebuilt from the submitted bits; the two differ where the job's
/// version has a bit inside the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rolling {
    /// `(job & !mask) | bits`, BIP310.
    MaskReplace,
    /// `job | bits`, as ckpool and DATUM do.
    Or,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorize {
    All,
    Only(Vec<String>),
    Nobody,
}

/// What must have happened before the first job is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstJob {
    /// After subscribe, before the authorize reply, as ckpool does.
    AfterSubscribe,
    AfterAuthorize,
}

/// The form of the reply to a subscribe, with a session id, extranonce1 and extranonce2_size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeReply {
    /// `[[["mining.notify","id"]],"e1",n]`
    OnePair,
    /// `[[["mining.set_difficulty","id"],["mining.notify","id"]],"e1",n]`
    TwoPairs,
    /// `[[["mining.notify","id"],["mining.set_difficulty","id"]],"e1",n]`
    TwoPairsNotifyFirst,
    /// `[["mining.notify","id"],"e1",n]`
    Flat,
}

/// The form of the answer to a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// `"result":null,"error":[21,"Job not found",null]`
    Array,
    /// `"result":false,"error":null,"reject-reason":"Job not found"`, as ckpool writes it.
    RejectReason,
    /// `"result":null,"error":"Job not found"`
    Text,
    /// `"result":null,"error":{"code":21,"message":"Job not found"}`
    Object,
    /// `"result":null,"error":[21,"Job not found"]`
    TwoElements,
    /// `"result":null,"error":["21","Job not found",null]`, as Lumerin writes it.
    StringCode,
    /// `"result":null,"error":[-21,"Job not found",null]`: codes that mean nothing to miners.
    Negative,
    /// `"result":false` and nothing else.
    Bare,
}

/// Whether `set_difficulty` comes before or after the notify it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifficultyOrder {
    Before,
    After,
}

/// How the pool answers `mining.extranonce.subscribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtranonceSubscribe {
    /// `true`
    Accept,
    /// `[20,"Not supported.",null]`
    Refuse,
    Silence,
}

/// The lowest difficulty a test pool accepts.
pub const DIFFICULTY_MIN: f64 = 1.0 / (1_u64 << 28) as f64;
/// The highest difficulty a test pool accepts.
pub const DIFFICULTY_MAX: f64 = (1_u64 << 48) as f64;

/// Why the settings of a test pool are invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The extranonce2 is too short or too long.
    #[error("extranonce2_size {0}: must be 2 to 8")]
    Extranonce2Size(usize),
    /// The extranonce1 has a length that no client accepts.
    #[error("extranonce1 of {0} bytes: must be 1 to 16")]
    Extranonce1Length(usize),
    /// The difficulty is outside 2^-28 to 2^48.
    #[error("difficulty {0}: must be 2^-28 to 2^48")]
    Difficulty(f64),
    /// There are more branches than a block can need.
    #[error("{0} merkle branches: at most 32")]
    Branches(usize),
    #[error("nbits {0:08x}: zero, negative or past 256 bits")]
    Nbits(u32),
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            extranonce1: Extranonce1::PerConnection(4),
            extranonce2_size: 8,
            difficulty: 1.0,
            version_mask: Some(0x1fff_e000),
            rolling: Rolling::MaskReplace,
            unasked_rolling: false,
            short_nonces: false,
            job_version: 0x2000_0000,
            job_interval: Duration::from_secs(30),
            clean_every: 10,
            branches: 12,
            nbits: 0x1d00_ffff,
            ntime_window: 7000,
            authorize: Authorize::All,
            first_job: FirstJob::AfterAuthorize,
            subscribe_reply: SubscribeReply::OnePair,
            error_form: ErrorForm::Array,
            omit_error_key: false,
            difficulty_order: DifficultyOrder::Before,
            early_difficulty: false,
            difficulty_without_id: false,
            floats: false,
            jsonrpc: false,
            answers_out_of_order: false,
            silent_to_unknown: false,
            wants_version_bits: false,
            job_id_prefix: String::new(),
            low_words: "Low difficulty share",
            extranonce_every: 0,
            early_version_mask: false,
            configure_first: false,
            honour_suggestions: true,
            extranonce_subscribe: ExtranonceSubscribe::Accept,
            clean_on_block: false,
            seed: 1,
            wire_lines: 512,
        }
    }
}

impl PoolConfig {
    /// Checks that the settings are valid.
    ///
    /// # Errors
    /// The first setting that is invalid.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_size(self.extranonce2_size)?;
        check_difficulty(self.difficulty)?;
        let length = match &self.extranonce1 {
            Extranonce1::PerConnection(length) => *length,
            Extranonce1::Fixed(value) => value.len(),
        };
        check_extranonce1(length)?;
        if self.branches > 32 {
            return Err(ConfigError::Branches(self.branches));
        }
        Target::of_nbits(self.nbits).map(|_| ()).ok_or(ConfigError::Nbits(self.nbits))
    }
}

pub(super) fn check_size(size: usize) -> Result<(), ConfigError> {
    if (2..=8).contains(&size) { Ok(()) } else { Err(ConfigError::Extranonce2Size(size)) }
}

pub(super) fn check_extranonce1(length: usize) -> Result<(), ConfigError> {
    if (1..=16).contains(&length) { Ok(()) } else { Err(ConfigError::Extranonce1Length(length)) }
}

pub(super) fn check_difficulty(difficulty: f64) -> Result<(), ConfigError> {
    if (DIFFICULTY_MIN..=DIFFICULTY_MAX).contains(&difficulty) {
        Ok(())
    } else {
        Err(ConfigError::Difficulty(difficulty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let refused = |change: fn(&mut PoolConfig)| {
            let mut config = PoolConfig::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert_eq!(PoolConfig::default().check(), Ok(()));
        assert_eq!(refused(|config| config.extranonce2_size = 9), ConfigError::Extranonce2Size(9));
        assert_eq!(
            refused(|config| config.extranonce1 = Extranonce1::Fixed(vec![])),
            ConfigError::Extranonce1Length(0)
        );
        assert_eq!(refused(|config| config.difficulty = 0.0), ConfigError::Difficulty(0.0));
        assert_eq!(refused(|config| config.branches = 33), ConfigError::Branches(33));
        assert_eq!(refused(|config| config.nbits = 0), ConfigError::Nbits(0));
        assert!(matches!(
            refused(|config| config.difficulty = f64::NAN),
            ConfigError::Difficulty(_)
        ));
    }
}
