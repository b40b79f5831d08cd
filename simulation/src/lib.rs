//! The real cores of the roles and a simulated facility in one event queue, under one virtual clock.
//!
//! Everything is drawn from a seed: delays, losses, restarts, failing disks and stepped clocks. The
//! facility keeps its own record of what happened, and that record, not the roles' own state, is
//! what a run is judged by.

mod client;
mod clocks;
mod disk;
mod due;
pub mod facility;
mod heard;
pub mod judge;
pub mod known;
mod ledger;
mod queue;
pub mod record;
mod role;
pub mod run;
pub mod scenario;
mod stage;
mod story;
mod world;

pub use story::Story;
