//! Process scaffolding that every role shares: clock, settings, logging, tasks, signals, files and admin HTTP. It knows
//! nothing of mining or power.

pub mod clock;
