//! The firmware that a test miner imitates, and the sources of what is known about it.
//!
//! A [`Model`] is a name. [`habits`] has one row for each, with what its firmware does differently.
//! What a row cannot express, the exact text of lines, is in [`super::lines`].

mod habits;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::habits::Habits;
pub(super) use self::habits::{
    Agreed, Difficulties, Ids, Reading, Reconnects, Restart, Sent, Step,
};

/// A firmware family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// cgminer 4.11.1: takes the first unknown line after authorize for the reply; extranonce2
    /// restarts at clean jobs; supports neither `set_extranonce` nor `set_version_mask`.
    Cgminer411,
    /// Stock Antminer S19: configures first and needs the reply as the very next line; rolls three
    /// bits and leaves out those that the job has set; drops shares of work made at a lower
    /// difficulty than the newest.
    StockS19,
    /// cpuminer-opt: id 4 for every submit; extranonce2 restarts with each job id.
    Cpuminer,
    /// bfgminer: string ids in the handshake, `suggest_target` first; extranonce2 restarts at every
    /// notify.
    Bfgminer,
    /// minerd, pooler's cpuminer: uses only the ids 1, 2 and 4.
    Minerd,
    /// bmminer of an S9, S11 or T9+: needs the subscribe reply as the very next line; sends
    /// `multi_version` instead of configure.
    StockS9,
    /// Stock Antminer S17 and T17: its user agent is `cgminer/2.0.0`; needs the subscribe reply as
    /// the very next line; configures after authorize; turns version rolling off without bits 22
    /// and 23.
    StockS17,
    /// Stock Antminer S21: like the S19, but disconnects if `set_version_mask` comes before the
    /// authorize reply.
    StockS21,
    /// WhatsMiner (btminer): ids from 196; names its earlier session; repeats configure without end
    /// if the reply has a key it did not ask for.
    Whatsminer,
    /// Avalon, based on cgminer: accepts no extranonce2 below 3 bytes, and rolls at most 4 bytes of
    /// longer ones.
    Avalon,
    /// Braiins OS (bosminer): four subscribe params; does not mine without version rolling.
    BraiinsOs,
    /// LuxOS: ignores notifications without an `id` key.
    LuxOs,
    /// VNish (xminer): does not mine without version rolling.
    Vnish,
    /// ESP-Miner (Bitaxe): sends its whole handshake at once; applies a new difficulty at once;
    /// ignores job ids it has seen; cannot stop rolling.
    EspMiner,
    /// NerdMiner v2: one fixed extranonce2 for each job, of 2, 4 or 8 bytes; nonces without leading
    /// zeros; no coinbase above 255 bytes.
    NerdMiner,
    /// A NiceHash buyer: accepts no extranonce2 below 4 bytes.
    NiceHash,
    /// A MiningRigRentals buyer: sends version bits without a configure.
    MiningRigRentals,
}

impl Model {
    /// All models, in the order in which a mixed fleet uses them.
    pub const ALL: [Self; 17] = [
        Self::Cgminer411,
        Self::StockS19,
        Self::Cpuminer,
        Self::Bfgminer,
        Self::Minerd,
        Self::StockS9,
        Self::StockS17,
        Self::StockS21,
        Self::Whatsminer,
        Self::Avalon,
        Self::BraiinsOs,
        Self::LuxOs,
        Self::Vnish,
        Self::EspMiner,
        Self::NerdMiner,
        Self::NiceHash,
        Self::MiningRigRentals,
    ];

    /// How long the firmware waits for a line before it considers the pool dead; [`Duration::MAX`]
    /// if it waits for ever.
    #[must_use]
    pub const fn idle_timeout(self) -> Duration {
        match self {
            Self::Cpuminer | Self::Minerd => Duration::from_secs(120),
            Self::NerdMiner => Duration::from_secs(60),
            // ESP-Miner#1964: it never leaves a pool that is silent but connected.
            Self::EspMiner => Duration::MAX,
            _ => Duration::from_secs(90),
        }
    }

    /// The user agent of the firmware's subscribe.
    #[must_use]
    pub const fn user_agent(self) -> &'static str {
        match self {
            Self::Cgminer411 | Self::Avalon => "cgminer/4.11.1",
            Self::StockS19 => "Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022",
            Self::Cpuminer => "cpuminer-opt-26.1-x64L",
            Self::Bfgminer => "bfgminer/5.5.0",
            Self::Minerd => "cpuminer/2.5.1",
            Self::StockS9 => "bmminer/2.0.0",
            Self::StockS17 => "cgminer/2.0.0",
            Self::StockS21 => "Antminer S21/Fri Mar 22 10:12:43 CST 2024",
            Self::Whatsminer => "whatsminer/v1.0",
            Self::BraiinsOs => "bosminer-plus-tuner 0.9.0",
            // A guess: no source was found.
            Self::LuxOs => "LUXminer",
            Self::Vnish => "xminer-1.2.6",
            Self::EspMiner => "bitaxe/BM1370/v2.12.2",
            Self::NerdMiner => "NerdMinerV2",
            Self::NiceHash => "NiceHash/1.0.0",
            // A guess, no source was found. The rig's own user agent passes through.
            Self::MiningRigRentals => "cgminer/4.10.0",
        }
    }

    /// Whether the firmware supports an extranonce2 of `size` bytes. A model that does not
    /// disconnects, or sends shares that no pool can judge.
    #[must_use]
    pub const fn takes_extranonce2(self, size: usize) -> bool {
        match self {
            Self::NerdMiner => matches!(size, 2 | 4 | 8),
            Self::NiceHash => size >= 4,
            Self::Avalon => size >= 3,
            _ => size >= 2,
        }
    }

    /// Whether the firmware rolls version bits if the pool allows it.
    #[must_use]
    pub const fn rolls(self) -> bool {
        self.habits().rolled_bits > 0
    }

    /// Whether the firmware supports `mining.set_extranonce`.
    #[must_use]
    pub fn follows_set_extranonce(self) -> bool {
        self.knows("mining.set_extranonce")
    }

    /// Whether the firmware supports this message of a pool.
    pub(super) fn knows(self, method: &str) -> bool {
        let heard = self.habits().heard;
        match method {
            "mining.notify"
            | "mining.set_difficulty"
            | "client.reconnect"
            | "client.get_version"
            | "client.show_message" => true,
            "mining.ping" => heard.ping,
            "mining.set_extranonce" => heard.set_extranonce,
            "mining.set_version_mask" => heard.set_version_mask,
            _ => false,
        }
    }

    /// The mask that the firmware's configure asks for; `None` if it sends no configure.
    pub(super) const fn asked_mask(self, rolling: bool) -> Option<u32> {
        match self {
            Self::Cgminer411 if !rolling => None,
            _ => self.habits().asked_mask,
        }
    }

    pub(super) const fn habits(self) -> &'static Habits {
        habits::of(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_model_stands_in_the_list_once() {
        let listed: HashSet<Model> = Model::ALL.into_iter().collect();
        let all = <Model as clap::ValueEnum>::value_variants();
        assert_eq!((listed.len(), Model::ALL.len()), (all.len(), all.len()));
    }
}
