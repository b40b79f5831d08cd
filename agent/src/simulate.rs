//! The core, its settings and what it remembers, for the crate `simulation`.

pub use crate::claims::{Assignment, Claims};
pub use crate::core::{AgentCore, CoreConfig, DriverLimits, Kind, Output, Timing};
pub use crate::state::AgentState;
