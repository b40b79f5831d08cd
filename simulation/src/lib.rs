//! The real cores of the roles and a simulated facility in one event queue, under one virtual clock.
//!
//! Everything is drawn from a seed: delays, losses, restarts, failing disks and stepped clocks. The
//! facility keeps its own record of what happened, and that record, not the roles' own state, is
//! what a run is judged by.

pub mod facility;
pub mod judge;
pub mod record;
