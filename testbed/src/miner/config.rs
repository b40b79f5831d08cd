//! The settings of a test miner: the firmware it imitates, its hashrate, the addresses it connects
//! to.

use std::time::Duration;

use super::model::Model;
use super::space::SearchSpace;
use super::switch::PowerSwitch;

/// How firmware rounds a difficulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    Exact,
    /// To the power of two at or below the difficulty. At difficulties that are not powers of two,
    /// about one share in four then misses the target.
    PowerOfTwoFloor,
}

/// A test miner's settings.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    /// `host:port` of the miner's pools, the preferred one first.
    pub addresses: Vec<String>,
    pub worker: String,
    pub password: String,
    /// The firmware that the miner behaves like.
    pub model: Model,
    /// Hashes per second; with zero the miner only receives jobs.
    pub hashrate: f64,
    /// Whether a [`Model::Cgminer411`] configures version rolling.
    pub rolling: bool,
    /// How the firmware rounds a difficulty.
    pub rounding: Rounding,
    /// Whether the chip of a stock Antminer or Bitaxe keeps version bits that the job has set;
    /// other chips overwrite them.
    pub keeps_job_bits: bool,
    /// The difficulty that a [`Model::EspMiner`] or [`Model::NerdMiner`] suggests; `None` for one
    /// share in about a tenth of a second.
    pub suggested_difficulty: Option<f64>,
    /// The time without a line after which the miner reconnects, in place of the model's own.
    pub idle_timeout: Option<Duration>,
    /// Pause between connection attempts.
    pub retry: Duration,
    /// How long the miner stays with a backup pool before it tries the first one again.
    pub failback: Duration,
    /// The time between finding and writing a share, which makes shares late at a switch.
    pub submit_delay: Duration,
    pub switch: PowerSwitch,
    /// The fleet's record of work, with which work that two miners get is found.
    pub space: SearchSpace,
    pub wire_lines: usize,
}

impl MinerConfig {
    /// Returns a `model` that connects to `address` and mines as `worker` at 5 kH/s.
    #[must_use]
    pub fn new(model: Model, address: impl ToString, worker: impl Into<String>) -> Self {
        Self {
            addresses: vec![address.to_string()],
            worker: worker.into(),
            password: "x".into(),
            model,
            hashrate: 5000.0,
            rolling: true,
            rounding: match model {
                Model::StockS19 | Model::StockS21 => Rounding::PowerOfTwoFloor,
                _ => Rounding::Exact,
            },
            keeps_job_bits: true,
            suggested_difficulty: None,
            idle_timeout: None,
            retry: Duration::from_secs(5),
            failback: Duration::from_secs(300),
            submit_delay: Duration::ZERO,
            switch: PowerSwitch::default(),
            space: SearchSpace::default(),
            wire_lines: 256,
        }
    }

    /// The worker name, truncated to the length that the firmware keeps.
    pub(super) fn kept_name(&self) -> &str {
        let end = self
            .worker
            .char_indices()
            .nth(self.model.habits().name_max)
            .map_or(self.worker.len(), |(at, _)| at);
        &self.worker[..end]
    }

    /// The difficulty that the miner suggests, if its firmware suggests one.
    pub(super) fn suggestion(&self) -> f64 {
        let hashes_per_difficulty = f64::from(u32::MAX);
        self.suggested_difficulty
            .unwrap_or((self.hashrate / 10.0 / hashes_per_difficulty).max(SMALLEST_SUGGESTION))
    }
}

/// The lowest difficulty that test pools accept.
const SMALLEST_SUGGESTION: f64 = 1.0 / (1_u64 << 28) as f64;
