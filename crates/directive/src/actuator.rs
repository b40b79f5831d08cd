//! The interface to devices: turns machines off and on, and reads what they do.

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{MachineId, Watts};

/// A boxed future, so that drivers can be chosen at run time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The state that a device reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Hashing, or able to.
    Awake,
    /// Sleeping: boards off.
    Asleep,
    /// The device did not report a state.
    Unknown,
}

/// One reading of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What the device says it does.
    pub state: DeviceState,
    /// The power that the device reports, if it does.
    pub watts: Option<Watts>,
    /// When the device was read.
    pub read_at: Timestamp,
}

/// Why a command to a device failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActuatorError {
    /// No answer in time.
    #[error("no answer within {millis} ms")]
    Timeout {
        /// The time that the driver was given for the answer.
        millis: u64,
    },
    /// The device or its tool refused the command.
    #[error("refused: {why}")]
    Refused {
        /// The message of the device or the tool, truncated and escaped.
        why: String,
    },
    /// The driver could not be run.
    #[error("driver failed: {why}")]
    Failed {
        /// What went wrong.
        why: String,
    },
    /// The answer could not be read.
    #[error("unreadable answer: {why}")]
    Unreadable {
        /// What was wrong with the answer.
        why: String,
    },
}

/// A driver of machines. `Ok(())` from [`Actuator::sleep`] means that the command was *sent*, not
/// that the machine is *down*: only a reading shows that.
pub trait Actuator: Send + Sync + 'static {
    /// Commands the machine to sleep.
    fn sleep<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>>;
    /// Commands the machine to wake, in the mode it had before.
    fn wake<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>>;
    /// Reads the machine back.
    fn read<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<Reading, ActuatorError>>;
}
