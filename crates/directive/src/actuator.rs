//! What can take a machine's power off, and tell whether it is.

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{MachineId, Watts};

/// A boxed future, so that drivers can be chosen at run time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Hashing, or able to.
    Awake,
    /// Sleeping: boards off.
    Asleep,
    /// It did not say.
    Unknown,
}

/// One read-back of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What the device says it does.
    pub state: DeviceState,
    /// What it says it draws, if it says.
    pub watts: Option<Watts>,
    /// When it was read.
    pub read_at: Timestamp,
}

/// Why a device did not do as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActuatorError {
    /// No answer in time.
    #[error("no answer within {millis} ms")]
    Timeout {
        /// The time it was given.
        millis: u64,
    },
    /// The device or its tool said no.
    #[error("refused: {why}")]
    Refused {
        /// Its words, cut and escaped.
        why: String,
    },
    /// The driver could not be run at all.
    #[error("driver failed: {why}")]
    Failed {
        /// What went wrong.
        why: String,
    },
    /// The answer could not be read.
    #[error("unreadable answer: {why}")]
    Unreadable {
        /// What was wrong with it.
        why: String,
    },
}

/// A driver of machines. `Ok(())` from [`Actuator::sleep`] means *sent*, never *down*: only a
/// reading tells.
pub trait Actuator: Send + Sync + 'static {
    /// Tells the machine to sleep.
    fn sleep<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>>;
    /// Tells the machine to wake to the mode it had.
    fn wake<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<(), ActuatorError>>;
    /// Reads the machine back.
    fn read<'a>(&'a self, machine: &'a MachineId) -> Pending<'a, Result<Reading, ActuatorError>>;
}
