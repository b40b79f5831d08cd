//! What a running proxy shows of itself: to the API, to readiness, and to the task that chooses the
//! target.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::{Tls, Trust};
use crate::handle::ConfiguredNames;
use crate::machines::Machines;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::target::TargetId;
use crate::upstream::{PoolState, Pools};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) machines: Arc<Machines>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) names: ConfiguredNames,
    pub(crate) active: Mutex<Option<TargetId>>,
}

impl Shared {
    pub(crate) fn targets(&self) -> Vec<TargetView> {
        let active = *self.active.lock();
        self.pools
            .targets
            .values()
            .map(|pool| {
                let seats = self.pools.placement.target_state(pool.id);
                let health = self.pools.health(pool);
                let PoolState {
                    difficulty, extranonce1_size, extranonce2_size, last_fault, ..
                } = pool.state();
                let own = pool.own_connections();
                TargetView {
                    name: pool.config.name.clone(),
                    address: pool.config.at().to_string(),
                    tls: pool.config.tls.as_ref().map(Tls::trust),
                    active: active == Some(pool.id),
                    up: health.ready || own.is_some_and(|own| own.works),
                    quiet: health.quiet,
                    quarantined: health.quarantined,
                    connections: own.map_or(seats.ready, |own| own.count),
                    sessions: own.map_or(seats.seated, |own| own.count),
                    difficulty,
                    extranonce1_size,
                    extranonce2_size,
                    last_fault,
                }
            })
            .collect()
    }
}

/// A target as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetView {
    pub name: String,
    pub address: String,
    /// What its TLS trusts; `None` for a plain connection.
    pub tls: Option<Trust>,
    /// Miners are sent here first.
    pub active: bool,
    /// It has a job.
    pub up: bool,
    /// It answers, but has brought no job for a long time.
    pub quiet: bool,
    /// It has misbehaved: mined at only when there is no other.
    pub quarantined: bool,
    /// Connections with a job.
    pub connections: u32,
    /// Sessions that work for it.
    pub sessions: u32,
    /// Its difficulty at the newest job.
    pub difficulty: Option<f64>,
    /// Length of its extranonce1, in bytes.
    pub extranonce1_size: Option<usize>,
    /// Its extranonce2_size, in bytes.
    pub extranonce2_size: Option<u8>,
    /// Why its last lost connection ended.
    pub last_fault: Option<String>,
}
