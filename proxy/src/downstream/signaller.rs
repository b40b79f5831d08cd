//! The task that signals what concerns all sessions: new directions, the passing of time, shutdown.
//!
//! Sessions hold no timer and wait on no channel of their own. Each states when something of its
//! own is due, and this task looks every half second. That is accurate enough for everything a
//! miner sees: handshakes end after ten seconds, pings come every twenty-five.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::clock;
use tokio::time::MissedTickBehavior;

use super::Downstream;
use crate::mailbox::Signal;

/// How often sessions with something due are signalled.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Signals sessions until the proxy shuts down and the last of them has ended.
pub(crate) async fn run(shared: Arc<Downstream>) {
    let mut directions = shared.directions.clone();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        tokio::select! {
            changed = directions.changed(), if !ending => match changed {
                Ok(()) => {
                    directions.mark_unchanged();
                    shared.sessions.signal_all(Signal::Directions);
                }
                // The sender of directions is gone: the proxy is ending.
                Err(_) => ending = true,
            },
            () = shared.cancel.cancelled(), if !ending => ending = true,
            _ = looks.tick() => {
                if ending && shared.sessions.len() == 0 {
                    return;
                }
                shared.sessions.signal_due(shared.millis(clock::now()));
            }
        }
        if ending && !shared.ending.swap(true, Ordering::Relaxed) {
            shared.sessions.signal_all(Signal::Shutdown);
        }
    }
}
