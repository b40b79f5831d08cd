//! Known pools, as settings of the test pool (docs/protocol.md 2.4).
//!
//! What is not known about a pool is as in the default settings. Addresses, difficulty, jobs and
//! seed are left to the caller.

use super::{
    ErrorForm, Extranonce1, ExtranonceSubscribe, FirstJob, PoolConfig, Rolling, SubscribeReply,
};

/// A known pool, to be imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Like {
    /// ckpool and its solo instances: job and difficulty are sent before authorize; refusals use
    /// `reject-reason`; version bits are OR-ed; unknown methods get no answer.
    Ckpool,
    /// Braiins, 2024: the same extranonce1, `00`, for all connections, with 6 bytes of extranonce2;
    /// configure must come before subscribe, and the mask is sent before the subscribe reply.
    Braiins,
    /// AntPool, 2024: 8 bytes of extranonce2; answers out of order; `set_difficulty` without an
    /// `id`.
    Antpool,
    /// AntPool, 2020: 4 bytes of extranonce2, mask `5fffe000`, no `error` key.
    Antpool2020,
    /// OCEAN: difficulties that are not powers of two, sent before the configure reply; version
    /// bits are OR-ed and required; low shares are refused as `high-hash`.
    Ocean,
    /// public-pool: 4 bytes of extranonce2.
    PublicPool,
    /// miningcore: 4 bytes of extranonce2, a `jsonrpc` key, numbers as floats, no `error` key.
    Miningcore,
    /// NiceHash: 3 bytes of extranonce2, which leaves room for only one miner, and a new
    /// extranonce1 at any time.
    Nicehash,
}

impl Like {
    /// All known pools.
    pub const ALL: [Self; 8] = [
        Self::Ckpool,
        Self::Braiins,
        Self::Antpool,
        Self::Antpool2020,
        Self::Ocean,
        Self::PublicPool,
        Self::Miningcore,
        Self::Nicehash,
    ];

    /// Returns the pool with this name, such as `public-pool`, as options use it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        <Self as clap::ValueEnum>::from_str(name, true).ok()
    }

    /// Returns the settings that imitate it. All others are those of [`PoolConfig::default`].
    #[must_use]
    pub fn config(self) -> PoolConfig {
        match self {
            Self::Ckpool => PoolConfig::ckpool(),
            Self::Braiins => PoolConfig::braiins(),
            Self::Antpool => PoolConfig::antpool(),
            Self::Antpool2020 => PoolConfig::antpool_2020(),
            Self::Ocean => PoolConfig::ocean(),
            Self::PublicPool => PoolConfig::public_pool(),
            Self::Miningcore => PoolConfig::miningcore(),
            Self::Nicehash => PoolConfig::nicehash(),
        }
    }
}

impl PoolConfig {
    /// Returns [`Like::Ckpool`].
    #[must_use]
    pub fn ckpool() -> Self {
        Self {
            rolling: Rolling::Or,
            first_job: FirstJob::AfterSubscribe,
            error_form: ErrorForm::RejectReason,
            extranonce_subscribe: ExtranonceSubscribe::Silence,
            silent_to_unknown: true,
            low_words: "Above target",
            job_id_prefix: "6b02d9cc0000".into(),
            ..Self::default()
        }
    }

    /// Returns [`Like::Braiins`].
    #[must_use]
    pub fn braiins() -> Self {
        Self {
            extranonce1: Extranonce1::Fixed(vec![0]),
            extranonce2_size: 6,
            subscribe_reply: SubscribeReply::TwoPairs,
            early_version_mask: true,
            configure_first: true,
            job_id_prefix: "0xc01490b3b0_".into(),
            ..Self::default()
        }
    }

    /// Returns [`Like::Antpool`].
    #[must_use]
    pub fn antpool() -> Self {
        Self {
            subscribe_reply: SubscribeReply::TwoPairsNotifyFirst,
            answers_out_of_order: true,
            difficulty_without_id: true,
            honour_suggestions: false,
            ..Self::default()
        }
    }

    /// Returns [`Like::Antpool2020`].
    #[must_use]
    pub fn antpool_2020() -> Self {
        Self {
            extranonce2_size: 4,
            version_mask: Some(0x5fff_e000),
            omit_error_key: true,
            answers_out_of_order: false,
            ..Self::antpool()
        }
    }

    /// Returns [`Like::Ocean`].
    #[must_use]
    pub fn ocean() -> Self {
        Self {
            subscribe_reply: SubscribeReply::TwoPairsNotifyFirst,
            rolling: Rolling::Or,
            early_difficulty: true,
            wants_version_bits: true,
            extranonce_subscribe: ExtranonceSubscribe::Refuse,
            low_words: "high-hash",
            difficulty: 16_383.75,
            ..Self::default()
        }
    }

    /// Returns [`Like::PublicPool`].
    #[must_use]
    pub fn public_pool() -> Self {
        Self { extranonce2_size: 4, ..Self::default() }
    }

    /// Returns [`Like::Miningcore`].
    #[must_use]
    pub fn miningcore() -> Self {
        Self {
            extranonce2_size: 4,
            jsonrpc: true,
            floats: true,
            omit_error_key: true,
            ..Self::default()
        }
    }

    /// Returns [`Like::Nicehash`].
    #[must_use]
    pub fn nicehash() -> Self {
        Self {
            extranonce1: Extranonce1::PerConnection(5),
            extranonce2_size: 3,
            extranonce_every: 2,
            difficulty: 500_000.0,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pool_to_be_like_can_work() {
        for like in Like::ALL {
            assert_eq!(like.config().check(), Ok(()), "{like:?}");
        }
        assert_eq!(Like::ALL.len(), <Like as clap::ValueEnum>::value_variants().len());
    }
}
