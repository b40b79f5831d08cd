//! Power meters: the only proof that power is not used.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Pending, Watts};

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterReading {
    /// Power drawn through the meter.
    pub watts: Watts,
    /// When the power was measured (not when the meter was read).
    pub taken_at: Timestamp,
}

/// Why there is no measurement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// The source cannot be reached.
    #[error("unreachable: {why}")]
    Unreachable {
        /// What went wrong.
        why: String,
    },
    /// The source's answer is not a power: it is text, NaN or infinite.
    #[error("unreadable: {why}")]
    Unreadable {
        /// What was wrong with the answer.
        why: String,
    },
}

/// A power meter.
pub trait Meter: Send + Sync + 'static {
    /// Reads the meter.
    fn read(&self) -> Pending<'_, Result<MeterReading, MeterError>>;
}
