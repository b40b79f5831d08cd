//! The interface between the switchboard and one receiver, whatever carries it. Reports go up; they
//! are repeated, so they may be dropped when the switchboard is slow.

use std::future::Future;

use crate::{Downlink, Report};

/// The other side is gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switchboard's end of the link is closed")]
pub struct LinkClosed;

/// A receiver's end of the link.
pub trait Link: Send + 'static {
    /// Waits until something newer than the last seen has come, and returns it whole.
    fn changed(&mut self) -> impl Future<Output = Result<Downlink, LinkClosed>> + Send;
    /// What was last received, without waiting.
    fn latest(&mut self) -> Downlink;
    /// Reports upward. Never waits: `false` means that the report was dropped (a later one will say
    /// the same).
    fn report(&self, report: Report) -> bool;
}
