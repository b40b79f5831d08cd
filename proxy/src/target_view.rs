//! A target as the API and readiness show it.

use serde::{Deserialize, Serialize};

use crate::config::{Tls, Trust};
use crate::upstream::{Activity, Pool, PoolSet, PoolState};

/// A target as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetView {
    pub name: String,
    pub address: String,
    /// What the TLS connection to the pool trusts; `None` without TLS.
    pub tls: Option<Trust>,
    /// Whether this is the target that miners are sent to first.
    pub active: bool,
    /// Whether each of its miners has a connection of its own to it. Then it is never `active`.
    #[serde(default)]
    pub passthrough: bool,
    /// Whether its section says that nothing is done with it. Then it is never `up`, nor down.
    #[serde(default)]
    pub disabled: bool,
    /// It has a job.
    pub up: bool,
    /// Whether the target answers but has sent no job for a long time.
    pub quiet: bool,
    /// Whether the target has misbehaved: it is mined at only when no other target is usable.
    pub quarantined: bool,
    /// Connections with a job.
    pub connections: u32,
    /// The number of sessions that work for the target.
    pub sessions: u32,
    /// The pool's difficulty at the newest job.
    pub difficulty: Option<f64>,
    /// The length of the pool's extranonce1, in bytes.
    pub extranonce1_size: Option<usize>,
    /// The pool's extranonce2_size, in bytes.
    pub extranonce2_size: Option<u8>,
    /// Why the connection that was lost last ended.
    pub last_fault: Option<String>,
}

/// What a target is doing, in one word for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// It should have work for miners and has none.
    Down,
    MinedAt,
    /// A passthrough target that works, and for which no miner is connected.
    NoMiners,
    Standby,
    Disabled,
}

impl TargetState {
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Down => "DOWN",
            Self::MinedAt => "mined at",
            Self::NoMiners => "no miners",
            Self::Standby => "standby",
            Self::Disabled => "disabled",
        }
    }
}

impl TargetView {
    #[must_use]
    pub const fn state(&self) -> TargetState {
        match self {
            Self { disabled: true, .. } => TargetState::Disabled,
            Self { up: false, .. } => TargetState::Down,
            Self { active: true, .. } => TargetState::MinedAt,
            Self { passthrough: true, sessions: 1.., .. } => TargetState::MinedAt,
            Self { passthrough: true, .. } => TargetState::NoMiners,
            _ => TargetState::Standby,
        }
    }

    /// Whether the target should have work for miners and has none.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state() == TargetState::Down
    }
}

impl PoolSet {
    /// The views of all targets, as they are at present.
    pub(crate) fn target_views(&self) -> Vec<TargetView> {
        // The one that miners are sent to first.
        let active = self.directions.borrow().usable.first().map(|usable| usable.target);
        let view = |pool: &std::sync::Arc<Pool>| {
            let health = self.health(pool);
            let PoolState { difficulty, extranonce1_size, extranonce2_size, last_fault, .. } =
                pool.state();
            let Activity { up, connections, sessions } = self.activity(pool);
            TargetView {
                name: pool.config.name.clone(),
                address: pool.config.at().to_string(),
                tls: pool.config.tls.as_ref().map(Tls::trust),
                active: active == Some(pool.id),
                passthrough: pool.own_connections().is_some(),
                disabled: !pool.is_used(),
                up,
                quiet: health.quiet,
                quarantined: health.quarantined,
                connections,
                sessions,
                difficulty,
                extranonce1_size,
                extranonce2_size,
                last_fault,
            }
        };
        self.targets.values().map(view).collect()
    }
}
