//! The task that chooses the target and puts it into the sessions' directions.
//!
//! [`crate::route`] makes the choice from the targets' health; each session finds its own seat.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use daemon::clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::NoUpstream;
use crate::directions::Directions;
use crate::handle::SessionState;
use crate::label::Label as _;
use crate::log_limit::EVERY;
use crate::reasons::Alarm;
use crate::route::{Decision, Route};
use crate::sessions::metrics::STATES_NOWHERE;
use crate::target::TargetId;
use crate::upstream::{Pool, PoolSet};

/// How often the targets' health is checked without a notification.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state of the task.
pub(crate) struct TargetSelector {
    route: Route,
    no_upstream: NoUpstream,
    pools: Arc<PoolSet>,
    directions: Arc<watch::Sender<Directions>>,
    /// When the sessions are next counted for the metrics.
    count_at: Instant,
    /// When the number of connects and disconnects is next logged.
    log_at: Instant,
    /// The numbers of sessions entered and of open sessions when they were logged last.
    logged: (u64, u64),
}

impl TargetSelector {
    pub(crate) fn new(
        route: Route,
        no_upstream: NoUpstream,
        pools: Arc<PoolSet>,
        directions: Arc<watch::Sender<Directions>>,
    ) -> Self {
        let now = clock::now();
        Self {
            route,
            no_upstream,
            pools,
            directions,
            count_at: now,
            log_at: now + EVERY,
            logged: (0, 0),
        }
    }

    /// Checks the targets whenever something may have changed, until shutdown.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let now = clock::now();
            self.look(now);
            let wait =
                self.route.next_change(now).map_or(LOOK_EVERY, |due| LOOK_EVERY.min(due - now));
            tokio::select! {
                () = cancel.cancelled() => {
                    // All events that were only counted are due by then, so they are logged now.
                    return self.log_more(clock::now() + EVERY);
                }
                () = self.pools.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn look(&mut self, now: Instant) {
        let pools = &self.pools;
        let health = pools.targets.map(|_, pool| pools.health(pool));
        let former = self.route.active();
        let Decision { usable, down_since } = self.route.decide(&health, now);
        if self.route.active() != former {
            self.switched(former);
        }
        let metrics = &self.pools.proxy.books.metrics.targets;
        for pool in pools.targets.values() {
            let activity = pools.activity(pool);
            metrics.show(pool.id, activity.up, activity.connections);
        }
        pools.shared().for_each(|pool| self.size(pool));
        let release = match (self.no_upstream, down_since) {
            (NoUpstream::ReleaseAfter(after), Some(since)) => now >= since + after,
            _ => false,
        };
        let waiting = self.pools.waiting.load(Ordering::Relaxed) > 0;
        self.directions.send_if_modified(|directions| {
            let changed = *directions.usable != *usable || directions.release != release;
            if changed {
                directions.usable = usable.into();
                directions.release = release;
            }
            if waiting {
                directions.seats += 1;
            }
            changed || waiting
        });
        // Not at each job, since it visits every session.
        if now >= self.count_at {
            self.count_at = now + LOOK_EVERY;
            self.count_sessions();
            self.log_more(now);
        }
    }

    /// Logs the events of each kind that were only counted when they happened.
    fn log_more(&mut self, now: Instant) {
        for pool in self.pools.targets.values() {
            pool.log_more(now);
        }
        let corrections = self.pools.proxy.corrections.lock().due(now);
        for (correction, more) in corrections {
            info!(step = correction.label(), more, "further miners with only bad shares");
        }
        if now < self.log_at {
            return;
        }
        self.log_at = now + EVERY;
        let sessions = &self.pools.proxy.sessions;
        let (entered, open) = (sessions.entered(), u64::try_from(sessions.len()).unwrap_or(0));
        let (entered_before, open_before) = std::mem::replace(&mut self.logged, (entered, open));
        let connected = entered - entered_before;
        let left = (open_before + connected).saturating_sub(open);
        if connected > 0 || left > 0 {
            info!(connected, left, sessions = open, "miners came and went");
        }
    }

    fn switched(&self, former: Option<TargetId>) {
        let active = self.route.active();
        self.pools.proxy.books.metrics.targets.switches.inc();
        let name = |target: Option<TargetId>| {
            target.map_or("none", |target| &self.pools.targets[target].config.name)
        };
        match active {
            Some(_) if former.is_none() => info!(target = name(active), "mining begins"),
            Some(_) => info!(from = name(former), to = name(active), "mining at another target"),
            None => {
                self.pools.proxy.books.metrics.alarm(Alarm::NoTarget);
                warn!(from = name(former), "no target can be mined at");
            }
        }
    }

    /// Requests as many connections as the sessions need at a target without lane bytes, where each
    /// connection has room for 256. This is done for standby targets too.
    fn size(&self, pool: &Pool) {
        let Some(size) = pool.state().extranonce2_size else { return };
        if self.pools.placement.lane_width(size) == Ok(0) {
            // Sessions that have a seat keep their slot when they move here, so each slot needs as
            // many connections as sessions hold it. For sessions without a seat, the number of
            // seats must suffice.
            let served = self.pools.served.load(Ordering::Relaxed);
            let served = u32::try_from(served.div_ceil(256)).unwrap_or(u32::MAX);
            let needed = served.max(self.pools.placement.depth());
            if needed > 1 {
                pool.want_another(needed - 1);
            }
        }
    }

    fn count_sessions(&self) {
        let targets = &self.pools.targets;
        let mut working = targets.map(|_, _| 0);
        let mut nowhere = STATES_NOWHERE.map(|state| (state, 0));
        self.pools.proxy.sessions.each(|session| {
            let shown = session.shown.lock();
            let target = shown.target.filter(|_| shown.state == SessionState::Working);
            match target {
                Some(target) => working[target] += 1,
                None => {
                    let same = nowhere.iter_mut().filter(|(state, _)| *state == shown.state);
                    same.for_each(|(_, count)| *count += 1);
                }
            }
        });
        let metrics = &self.pools.proxy.books.metrics.sessions;
        for (target, count) in working.iter() {
            metrics.show_working(target, *count);
        }
        for (state, count) in nowhere {
            metrics.show_nowhere(state, count);
        }
    }
}
