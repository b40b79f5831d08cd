//! Who a test miner is: the firmware it behaves like, how fast it hashes, where it connects.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::space::SearchSpace;
use super::switch::PowerSwitch;

/// A firmware family, by its habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// cgminer 4.11.1: takes the first line it does not know after authorize for the reply; extranonce2 restarts at
    /// clean jobs; knows neither `set_extranonce` nor `set_version_mask`.
    Cgminer411,
    /// Stock Antminer S19: configures first and wants the reply as the very next line; rolls three bits and leaves out
    /// those the job has; drops shares of work made at a lower difficulty than the newest.
    StockS19,
    /// cpuminer-opt: id 4 for every submit; extranonce2 restarts with each job id.
    Cpuminer,
    /// bfgminer: string ids in the handshake, `suggest_target` first; extranonce2 restarts at every notify.
    Bfgminer,
}

impl Model {
    /// Every model, in the order a mixed fleet takes them.
    pub const ALL: [Self; 4] = [Self::Cgminer411, Self::StockS19, Self::Cpuminer, Self::Bfgminer];

    /// How long it waits for a line before it takes the pool for dead.
    #[must_use]
    pub const fn idle_timeout(self) -> Duration {
        match self {
            Self::Cgminer411 | Self::StockS19 | Self::Bfgminer => Duration::from_secs(90),
            Self::Cpuminer => Duration::from_secs(120),
        }
    }

    /// The user agent of its subscribe.
    #[must_use]
    pub const fn user_agent(self) -> &'static str {
        match self {
            Self::Cgminer411 => "cgminer/4.11.1",
            Self::StockS19 => "Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022",
            Self::Cpuminer => "cpuminer-opt-26.1-x64L",
            Self::Bfgminer => "bfgminer/5.5.0",
        }
    }

    /// The mask its configure asks for. `None` where it sends none.
    pub(super) const fn asked_mask(self, rolling: bool) -> Option<u32> {
        match self {
            Self::Cgminer411 if rolling => Some(u32::MAX),
            Self::StockS19 => Some(0x1fff_e000),
            _ => None,
        }
    }

    /// How many version bits it rolls.
    pub(super) const fn rolled_bits(self) -> u32 {
        match self {
            Self::StockS19 => 3,
            _ => 2,
        }
    }

    /// Tells whether it has a handler for a pool's message.
    pub(super) fn knows(self, method: &str) -> bool {
        match method {
            "mining.notify"
            | "mining.set_difficulty"
            | "client.reconnect"
            | "client.get_version"
            | "client.show_message" => true,
            "mining.ping" => matches!(self, Self::Cgminer411 | Self::StockS19),
            "mining.set_extranonce" => !matches!(self, Self::Cgminer411),
            "mining.set_version_mask" => matches!(self, Self::StockS19),
            _ => false,
        }
    }
}

/// How firmware takes up a difficulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// As told.
    Exact,
    /// The power of two at or below it: shares then miss any other difficulty one time in four or so.
    PowerOfTwoFloor,
}

/// A test miner's settings.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    /// `host:port` of its pools, the first preferred.
    pub addresses: Vec<String>,
    /// Its worker name.
    pub worker: String,
    /// Its password.
    pub password: String,
    /// The firmware it behaves like.
    pub model: Model,
    /// Hashes per second; zero listens only.
    pub hashrate: f64,
    /// Whether a [`Model::Cgminer411`] configures version rolling.
    pub rolling: bool,
    /// How it takes up a difficulty.
    pub rounding: Rounding,
    /// Whether a [`Model::StockS19`]'s chip keeps version bits the job has set; others overwrite them.
    pub keeps_job_bits: bool,
    /// Replaces the model's own time without a line after which it reconnects.
    pub idle_timeout: Option<Duration>,
    /// Pause between connection attempts.
    pub retry: Duration,
    /// How long it stays with a backup pool before it tries the first again.
    pub failback: Duration,
    /// Time a found share waits before it is written; makes shares late at a switch.
    pub submit_delay: Duration,
    /// Its power switch.
    pub switch: PowerSwitch,
    /// Where the fleet keeps account of work handed out, to find two miners on the same.
    pub space: SearchSpace,
    /// Lines remembered.
    pub wire_lines: usize,
}

impl MinerConfig {
    /// Returns a `model` at `address` that mines as `worker` at 5 kH/s.
    #[must_use]
    pub fn new(model: Model, address: impl ToString, worker: impl Into<String>) -> Self {
        Self {
            addresses: vec![address.to_string()],
            worker: worker.into(),
            password: "x".into(),
            model,
            hashrate: 5000.0,
            rolling: true,
            rounding: if model == Model::StockS19 { Rounding::PowerOfTwoFloor } else { Rounding::Exact },
            keeps_job_bits: true,
            idle_timeout: None,
            retry: Duration::from_secs(5),
            failback: Duration::from_secs(300),
            submit_delay: Duration::ZERO,
            switch: PowerSwitch::default(),
            space: SearchSpace::default(),
            wire_lines: 256,
        }
    }
}
