//! The task that signals sessions when their directions change, when time has passed, and at
//! shutdown.
//!
//! Sessions hold no timer and wait on no channel of their own. Each session's handle says when the
//! session must next be signalled, and this task checks all of them every half second. That is
//! accurate enough: a handshake may take ten seconds, and pings are sent every twenty-five.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::clock;
use tokio::time::MissedTickBehavior;

use crate::mailbox::Signal;
use crate::upstream::PoolSet;

/// How often sessions are checked for something due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Signals sessions until the proxy shuts down and the last of them has ended.
pub(crate) async fn run(pools: Arc<PoolSet>) {
    let proxy = &pools.proxy;
    let mut directions = pools.directions.clone();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    loop {
        tokio::select! {
            changed = directions.changed(), if !ending => match changed {
                Ok(()) => {
                    directions.mark_unchanged();
                    proxy.sessions.signal_all(Signal::Directions);
                }
                // The sender of directions is gone: the proxy is ending.
                Err(_) => ending = true,
            },
            () = proxy.cancel.cancelled(), if !ending => ending = true,
            _ = looks.tick() => {
                if ending && proxy.sessions.len() == 0 {
                    return;
                }
                proxy.sessions.signal_due(proxy.millis(clock::now()));
            }
        }
        if ending && !proxy.ending.swap(true, Ordering::Relaxed) {
            proxy.sessions.signal_all(Signal::Shutdown);
        }
    }
}
