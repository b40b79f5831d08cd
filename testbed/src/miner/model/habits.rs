//! One row for each firmware: what it does differently from others. The sources are in
//! docs/protocol.md 2.1 to 2.3 and 3.2.

use super::Model;

/// The habits of a firmware.
#[derive(Debug, Clone, Copy)]
pub(in crate::miner) struct Habits {
    /// The requests of the firmware's handshake, in order. It mines once it is authorized.
    pub(in crate::miner) steps: &'static [Step],
    /// Whether the firmware sends all requests at once, without waiting for replies.
    pub(in crate::miner) pipelined: bool,
    /// The id of the firmware's first request.
    pub(in crate::miner) first_id: u64,
    /// The ids of the firmware's submits.
    pub(in crate::miner) submit_ids: Ids,
    /// How the firmware finds the reply to a request of its handshake.
    pub(in crate::miner) reading: Reading,
    /// The mask that the firmware's configure asks for.
    pub(in crate::miner) asked_mask: Option<u32>,
    /// `version-rolling.min-bit-count` of the firmware's configure.
    pub(in crate::miner) min_bit_count: Option<u32>,
    /// What the firmware does if the pool refuses version rolling.
    pub(in crate::miner) agreed: Agreed,
    /// The maximum number of version bits that the firmware rolls.
    pub(in crate::miner) rolled_bits: u32,
    /// Which version bits the firmware submits.
    pub(in crate::miner) sent: Sent,
    /// When the firmware's extranonce2 starts again from the beginning.
    pub(in crate::miner) restart: Restart,
    /// From when on the firmware applies a new difficulty.
    pub(in crate::miner) difficulties: Difficulties,
    /// The longest extranonce2 for which the firmware submits shares; shares of longer ones are
    /// dropped silently.
    pub(in crate::miner) extranonce2_max: usize,
    /// How many bytes of extranonce2 the firmware changes; the others stay zero.
    pub(in crate::miner) extranonce2_rolled: usize,
    /// The longest coinbase that the firmware hashes, in bytes. It truncates longer ones, so their
    /// shares are invalid.
    pub(in crate::miner) coinbase_max: usize,
    /// The messages of a pool that the firmware supports, besides those that every firmware
    /// supports.
    pub(in crate::miner) heard: Heard,
    /// How the firmware reacts to `client.reconnect`.
    pub(in crate::miner) reconnects: Reconnects,
    /// Whether the firmware names its earlier session when it subscribes again.
    pub(in crate::miner) resumes: bool,
    /// The length to which the firmware truncates worker names.
    pub(in crate::miner) name_max: usize,
    /// Whether the firmware ignores notifications without an `id` key.
    pub(in crate::miner) wants_id_key: bool,
    /// Whether the firmware ignores a job id that it has seen since the last clean job.
    pub(in crate::miner) skips_known_ids: bool,
    /// Whether the firmware disconnects if `set_version_mask` comes before the authorize reply.
    pub(in crate::miner) fears_early_mask: bool,
    /// Whether the firmware repeats configure if the reply has more keys than it asked for.
    pub(in crate::miner) fears_unasked_keys: bool,
}

/// A request of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Step {
    /// `mining.configure`
    Configure,
    /// `mining.subscribe`
    Subscribe,
    /// `mining.authorize`
    Authorize,
}

/// The ids of submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Ids {
    /// Ascending numbers.
    Counting,
    /// Always 4.
    Four,
}

/// How firmware finds the reply to a request of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Reading {
    /// The next line is taken for the configure reply, whatever it is; then the first line that is
    /// not a known message is the reply.
    Lines,
    /// Like [`Self::Lines`], but the next line is also taken for the subscribe reply, whatever it
    /// is.
    StrictLines,
    /// Like [`Self::Lines`], but answers with other ids are ignored.
    LinesToUs,
    Ids,
}

/// What firmware does if a pool does not allow all the bits it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Agreed {
    MinesWithout,
    /// The firmware mines without rolling if one of these bits is missing, with a fifth less
    /// hashrate.
    Needs(u32),
    Leaves,
    /// The firmware rolls nevertheless, because its chips cannot stop.
    RollsAnyway,
}

/// Which version bits are submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Sent {
    Never,
    /// The rolled bits, as BIP310 says.
    Rolled,
    /// The rolled bits that the job does not have set.
    RolledWithoutJobs,
}

/// When the extranonce2 starts again from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Restart {
    Clean,
    /// At a job id other than the last one.
    NewId,
    EveryNotify,
    /// The extranonce2 is the same in each job.
    Fixed,
}

/// From when on a new difficulty applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Difficulties {
    /// The difficulty applies to later jobs.
    NextJob,
    /// The difficulty applies to the next work; shares of work made at a lower difficulty are
    /// dropped.
    NextWork,
    /// The difficulty applies at once, to the firmware's current work too.
    AtOnce,
}

/// The messages of a pool that a firmware supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) struct Heard {
    pub(in crate::miner) ping: bool,
    pub(in crate::miner) set_extranonce: bool,
    pub(in crate::miner) set_version_mask: bool,
}

/// How firmware reacts to `client.reconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::miner) enum Reconnects {
    /// The firmware connects to the named host, if that is in the same domain.
    Follows,
    /// The firmware connects to its configured pool again, whatever host is named.
    GoesHome,
    Ignores,
}

const ANY: usize = usize::MAX;
const CONFIGURES_FIRST: &[Step] = &[Step::Configure, Step::Subscribe, Step::Authorize];
const PLAIN: &[Step] = &[Step::Subscribe, Step::Authorize];
const CONFIGURES_LAST: &[Step] = &[Step::Subscribe, Step::Authorize, Step::Configure];

/// cgminer 4.11.1, from which most other firmware is derived.
const CGMINER: Habits = Habits {
    steps: CONFIGURES_FIRST,
    pipelined: false,
    first_id: 1,
    submit_ids: Ids::Counting,
    reading: Reading::Lines,
    asked_mask: Some(u32::MAX),
    min_bit_count: None,
    agreed: Agreed::MinesWithout,
    rolled_bits: 2,
    sent: Sent::Rolled,
    restart: Restart::Clean,
    difficulties: Difficulties::NextJob,
    extranonce2_max: 8,
    extranonce2_rolled: ANY,
    coinbase_max: ANY,
    heard: Heard { ping: true, set_extranonce: false, set_version_mask: false },
    reconnects: Reconnects::Follows,
    resumes: true,
    name_max: ANY,
    wants_id_key: false,
    skips_known_ids: false,
    fears_early_mask: false,
    fears_unasked_keys: false,
};

const STOCK_S19: Habits = Habits {
    asked_mask: Some(0x1fff_e000),
    min_bit_count: Some(3),
    rolled_bits: 3,
    sent: Sent::RolledWithoutJobs,
    difficulties: Difficulties::NextWork,
    heard: Heard { ping: true, set_extranonce: true, set_version_mask: true },
    resumes: false,
    ..CGMINER
};

const STOCK_S9: Habits = Habits {
    steps: PLAIN,
    reading: Reading::StrictLines,
    asked_mask: None,
    rolled_bits: 0,
    sent: Sent::Never,
    heard: Heard { ping: true, set_extranonce: true, set_version_mask: false },
    ..CGMINER
};

const STOCK_S17: Habits = Habits {
    steps: CONFIGURES_LAST,
    asked_mask: Some(0x00c0_0000),
    min_bit_count: Some(2),
    agreed: Agreed::Needs(0x00c0_0000),
    rolled_bits: 2,
    sent: Sent::RolledWithoutJobs,
    ..STOCK_S9
};

/// cpuminer-opt 26.1; minerd is the same without `extranonce.subscribe`.
const CPUMINER: Habits = Habits {
    steps: PLAIN,
    submit_ids: Ids::Four,
    reading: Reading::Ids,
    asked_mask: None,
    rolled_bits: 0,
    sent: Sent::Never,
    restart: Restart::NewId,
    extranonce2_max: 16,
    heard: Heard { ping: false, set_extranonce: true, set_version_mask: false },
    resumes: false,
    ..CGMINER
};

pub(super) const fn of(model: Model) -> &'static Habits {
    match model {
        Model::Cgminer411 => &CGMINER,
        Model::StockS19 => &STOCK_S19,
        Model::StockS21 => &Habits { fears_early_mask: true, ..STOCK_S19 },
        Model::StockS9 => &STOCK_S9,
        Model::StockS17 => &STOCK_S17,
        Model::Cpuminer => &CPUMINER,
        Model::Minerd => &Habits {
            heard: Heard { ping: false, set_extranonce: false, set_version_mask: false },
            ..CPUMINER
        },
        Model::Bfgminer => &Habits {
            steps: PLAIN,
            reading: Reading::LinesToUs,
            asked_mask: None,
            rolled_bits: 0,
            sent: Sent::Never,
            restart: Restart::EveryNotify,
            extranonce2_max: ANY,
            heard: Heard { ping: false, set_extranonce: true, set_version_mask: false },
            ..CGMINER
        },
        // It is not known whether a WhatsMiner supports set_extranonce.
        Model::Whatsminer => &Habits {
            first_id: 196,
            asked_mask: Some(0x1fff_e000),
            fears_unasked_keys: true,
            ..CGMINER
        },
        Model::Avalon => &Habits {
            steps: PLAIN,
            asked_mask: None,
            rolled_bits: 0,
            sent: Sent::Never,
            extranonce2_rolled: 4,
            name_max: 63,
            ..CGMINER
        },
        Model::BraiinsOs => &Habits {
            reading: Reading::Ids,
            asked_mask: Some(0x1fff_e000),
            min_bit_count: Some(2),
            agreed: Agreed::Leaves,
            heard: Heard { ping: false, set_extranonce: false, set_version_mask: true },
            resumes: false,
            ..CGMINER
        },
        Model::LuxOs => &Habits { asked_mask: Some(0x1fff_e000), wants_id_key: true, ..CGMINER },
        Model::Vnish => {
            &Habits { asked_mask: Some(0x1fff_e000), agreed: Agreed::Leaves, ..CGMINER }
        }
        Model::EspMiner => &Habits {
            pipelined: true,
            reading: Reading::Ids,
            agreed: Agreed::RollsAnyway,
            sent: Sent::RolledWithoutJobs,
            restart: Restart::EveryNotify,
            difficulties: Difficulties::AtOnce,
            extranonce2_max: 32,
            heard: Heard { ping: true, set_extranonce: true, set_version_mask: true },
            reconnects: Reconnects::GoesHome,
            resumes: false,
            skips_known_ids: true,
            ..CGMINER
        },
        Model::NerdMiner => &Habits {
            steps: PLAIN,
            reading: Reading::StrictLines,
            asked_mask: None,
            rolled_bits: 0,
            sent: Sent::Never,
            restart: Restart::Fixed,
            coinbase_max: 255,
            heard: Heard { ping: false, set_extranonce: false, set_version_mask: false },
            reconnects: Reconnects::Ignores,
            resumes: false,
            ..CGMINER
        },
        Model::NiceHash => &Habits {
            asked_mask: Some(0x1fff_e000),
            heard: Heard { ping: false, set_extranonce: true, set_version_mask: true },
            ..CGMINER
        },
        Model::MiningRigRentals => &Habits {
            steps: PLAIN,
            asked_mask: None,
            agreed: Agreed::RollsAnyway,
            heard: Heard { ping: true, set_extranonce: true, set_version_mask: false },
            ..CGMINER
        },
    }
}
