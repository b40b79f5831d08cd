//! The control plane: it holds the facility's electrical model, the policy and the ledger of
//! leases, and decides which machines go off when, so that committed power is proven free before it
//! is needed.
//!
//! [`Switchboard`] is the task that owns the state; [`core`] makes the decisions, without a clock;
//! [`api`] serves people and programs.

pub mod admit;
pub mod api;
pub mod blackout;
pub mod broadcast;
pub mod cause;
pub mod commitment;
pub mod core;
pub mod facility;
mod feed_sums;
pub mod inventory;
pub mod lease;
pub mod ledger;
mod load;
mod log;
mod machine_state;
mod metrics;
pub mod plan;
pub mod plausible;
pub mod policy;
pub mod reconcile;
pub mod reload;
mod reservation;
mod shortage;
#[cfg(feature = "simulate")]
pub mod simulate;
pub mod view;
pub mod words;

pub use facility::Population;
pub use reconcile::{Handle, Stopped, Switchboard};

#[cfg(test)]
mod fixture;
