//! The data plane: carries work from pools to miners and shares back, and moves live miners between
//! pools without a reconnect.
//!
//! A miner keeps its extranonce1 (its *slot*) for the life of its connection; the pool's
//! extranonce1 and a *lane* go into coinb1. So moving a miner to another pool is one write of
//! difficulty and job (modules `placement` and `space`). `session` judges shares, `upstream` keeps
//! pool connections, `route` chooses the target that is mined at, and the switchboard's timeline
//! (`control`) says which machines may work. Everything else moves bytes.

mod admission;
mod api;
#[doc(hidden)]
pub mod bench_support;
mod books;
pub mod config;
mod control;
mod directions;
mod downstream;
mod ends;
mod error;
mod executor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handle;
mod histogram;
mod label;
mod lane;
mod level;
mod load;
mod log_limit;
mod machines;
mod mailbox;
mod metrics;
mod outcome;
mod placement;
mod reasons;
mod recall;
mod route;
mod running;
mod seating;
mod series;
mod session;
mod sessions;
mod share_log;
#[cfg(feature = "simulate")]
pub mod simulate;
#[cfg(test)]
mod simulation;
mod sizes;
mod slot;
mod socket;
mod space;
mod start;
mod state;
mod target;
mod target_metrics;
mod target_selector;
mod target_view;
mod tls;
mod upstream;
mod work;

pub use api::{Listing, Rejects, WorkerView, Workers};
pub use config::Config;
pub use error::StartError;
pub use executor::EVENT_INTERVAL;
pub use handle::{SessionState, SessionView};
pub use machines::Hashrate;
pub use metrics::Counts;
pub use running::Proxy;
pub use share_log::ShareLogConfig;
pub use target::{PerTarget, TargetId, TargetUse};
pub use target_view::{TargetState, TargetView};
