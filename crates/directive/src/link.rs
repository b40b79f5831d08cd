//! The interface between the switchboard and one receiver, whatever carries it.

use std::fmt;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::{Downlink, Report};

/// What a receiver is. Each link is for one role, and a report that does not belong to it is
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverRole {
    /// Serves miners; reports sessions.
    Proxy,
    /// Works on site; reports devices and meters.
    Agent,
}

impl fmt::Display for ReceiverRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy => "proxy",
            Self::Agent => "agent",
        })
    }
}

/// The other end of the link is closed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switchboard's end of the link is closed")]
pub struct LinkClosed;

/// A receiver's end of the link.
pub trait Link: Send + 'static {
    /// Waits until the state is newer than when it was last returned, and returns it as a whole.
    fn changed(&mut self) -> impl Future<Output = Result<Downlink, LinkClosed>> + Send;
    /// The state that was last received, without waiting.
    fn latest(&mut self) -> Downlink;
    /// Reports upward. Never waits: `false` means that the link did not take the report, because
    /// the switchboard is slow. `true` does not mean that the report arrives.
    fn report(&self, report: Report) -> bool;
}
