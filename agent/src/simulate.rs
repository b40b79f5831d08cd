//! Gives the crate `simulation` the core, its settings, and what it remembers.

pub use crate::claims::{Assignment, Claims};
pub use crate::core::{AgentCore, CoreConfig, DriverLimits, Kind, Output, Timing};
pub use crate::journal::{Intent, fold};
pub use crate::state::AgentState;
