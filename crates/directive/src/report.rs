//! What receivers report to the switchboard, repeatedly. The inventory is built from these reports.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DeviceState, Generation, MachineId, MeterId, Watts};

/// A report from one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Report {
    /// What a proxy sees.
    Proxy(ProxyReport),
    /// What an agent sees.
    Agent(AgentReport),
}

/// What a proxy sees of its miners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyReport {
    /// The proxy's name.
    pub receiver: String,
    /// When it was made.
    pub at: Timestamp,
    /// The timeline it holds.
    pub number: Option<Generation>,
    /// Every machine with a live session, or with one that ended in the last ten minutes.
    pub sessions: Vec<SessionReport>,
}

/// How a machine's session is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// It has work.
    Working,
    /// It is connected and gets no new work.
    Parked,
    /// It has no session now.
    Gone,
}

/// One machine as its sessions show it. Two sessions with one name are one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The machine.
    pub machine: MachineId,
    /// Live sessions under this name.
    pub sessions: u32,
    /// How it is served.
    pub serving: Serving,
    /// Shares that met their difficulty, since the proxy started.
    pub shares: u64,
    /// Their summed difficulty.
    pub work: f64,
    /// When the last one came.
    pub last_share_at: Option<Timestamp>,
    /// Shares that came although the machine is starved (no actuator reaches it).
    pub still_hashing: u64,
}

/// What an agent sees of machines and meters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The agent's name.
    pub receiver: String,
    /// When it was made.
    pub at: Timestamp,
    /// The timeline it holds.
    pub number: Option<Generation>,
    /// Every machine an actuator reaches.
    pub machines: Vec<MachineReport>,
    /// Every meter.
    pub meters: Vec<MeterReport>,
}

/// One machine as its actuator reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineReport {
    /// The machine.
    pub machine: MachineId,
    /// What the device says it does.
    pub state: DeviceState,
    /// What it says it draws.
    pub watts: Option<Watts>,
    /// When it was last read successfully.
    pub read_at: Option<Timestamp>,
    /// When it was last told to sleep.
    pub slept_at: Option<Timestamp>,
    /// Commands in a row that failed or were not followed.
    pub failures: u32,
    /// The last failure, in words.
    pub fault: Option<String>,
}

/// One meter as last read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterReport {
    /// The meter.
    pub meter: MeterId,
    /// Power measured, unless it failed.
    pub watts: Option<Watts>,
    /// When that was measured.
    pub taken_at: Option<Timestamp>,
    /// Why there is no measurement.
    pub fault: Option<String>,
}
