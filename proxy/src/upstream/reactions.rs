//! What a pool's lines mean for the rest of the proxy: for placement, for the state of the pool that
//! all its connections share, and for the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use daemon::clock;
use stratum::difficulty::Difficulty;
use stratum::job::Job;
use tracing::{debug, error, info, warn};

use super::end::{End, Fault};
use super::news::News;
use super::pool_requests::{ConnectionPlan, Reaction, Redirect};
use super::pool_session::{PoolEvent, PoolSession};
use super::pools::{Pool, PoolSet};
use super::tripwire;
use crate::config::OnPayoutChange;
use crate::ends::Settled;
use crate::label::Label as _;
use crate::load::Sizing;
use crate::reasons::Alarm;
use crate::work::Upstream;

/// What one connection changes in the rest of the proxy. It does no IO: it returns what must be
/// written to the pool, and an error if the connection must end.
pub(super) struct Reactions<'c> {
    pub(super) pools: Arc<PoolSet>,
    pub(super) pool: Arc<Pool>,
    pub(super) upstream: Arc<Upstream>,
    /// What the pool has asked for; it is kept when the connection ends.
    plan: &'c mut ConnectionPlan,
    sizing: Sizing,
    /// Whether the connection has had a job.
    has_job: bool,
    refreshed_at: Instant,
}

impl<'c> Reactions<'c> {
    pub(super) fn new(
        pools: &Arc<PoolSet>,
        pool: &Arc<Pool>,
        upstream: Arc<Upstream>,
        plan: &'c mut ConnectionPlan,
        sizing: Sizing,
    ) -> Self {
        Self {
            pools: pools.clone(),
            pool: pool.clone(),
            upstream,
            plan,
            sizing,
            has_job: false,
            refreshed_at: clock::now(),
        }
    }

    /// Whether the connection has had a job.
    pub(super) const fn has_worked(&self) -> bool {
        self.has_job
    }

    /// Handles an event from the pool.
    pub(super) fn event(
        &mut self,
        event: PoolEvent,
        session: &mut PoolSession,
        now: Instant,
    ) -> Result<(), Fault> {
        match event {
            PoolEvent::Subscribed { extranonce1, extranonce2_size } => {
                self.sized(&extranonce1, extranonce2_size)?;
                self.pools
                    .placement
                    .connection_up(&self.upstream, &extranonce1, extranonce2_size)
                    .map_err(|misfit| Fault::new(End::DoesNotFit, misfit.to_string()))?;
                if let Some(own) = &self.pool.own {
                    own.lock().works = true;
                    // The passthrough miner's subscribe waits for this.
                    self.pools.changed.notify_one();
                }
                Ok(())
            }
            PoolEvent::Authorized => {
                debug!(user = ?self.pool.config.user, "authorized");
                Ok(())
            }
            PoolEvent::Job { job, difficulty, mask } => {
                self.look(&job, session.extranonce_len(), now);
                {
                    let mut state = self.pool.state.lock();
                    state.mask = mask;
                    state.difficulty = Some(difficulty.get());
                }
                let was_quiet = self.upstream.set_quiet(false);
                let new = self.pools.placement.job(self.upstream.id, job, difficulty, mask, now);
                session.note_name(self.pools.placement.current(self.upstream.id));
                self.refreshed_at = now;
                if let Some(new) = new {
                    self.pools.proxy.executor.tell(new.untold);
                    self.has_job = true;
                    if let Some(after) = new.former_took {
                        self.pools.proxy.books.metrics.targets.fanned_out(self.pool.id, after);
                    }
                    if new.first {
                        let difficulty = difficulty.get();
                        if self.pool.is_news(News::Work, now) {
                            info!(difficulty, "upstream connection has work");
                        } else {
                            debug!(difficulty, "upstream connection has work");
                        }
                    }
                    // Sessions that wait for a seat may get one with a new job.
                    if new.first || was_quiet || !new.repeated {
                        self.pools.changed.notify_one();
                    }
                }
                Ok(())
            }
            PoolEvent::Extranonce { extranonce1, extranonce2_size } => {
                if self.pool.is_news(News::Extranonce, now) {
                    info!(extranonce2_size, "pool changed our extranonce");
                } else {
                    debug!(extranonce2_size, "pool changed our extranonce");
                }
                self.sized(&extranonce1, extranonce2_size)?;
                self.pools
                    .placement
                    .extranonce(&self.upstream, &extranonce1, extranonce2_size)
                    .map_err(|misfit| Fault::new(End::DoesNotFit, misfit.to_string()))
            }
            PoolEvent::Alarm { alarm, detail } => {
                self.alarm(alarm, &detail, now);
                Ok(())
            }
            PoolEvent::Ignored(line) => {
                self.pools.proxy.books.metrics.targets.ignored_lines.count(line);
                Ok(())
            }
            PoolEvent::Quarantine { reason } => {
                self.pools.quarantine(&self.pool, reason, now);
                Ok(())
            }
            PoolEvent::Reconnect(asked) => {
                self.reconnect(&asked, now);
                Ok(())
            }
            PoolEvent::Dead { end, detail } => Err(Fault::new(end, detail)),
        }
    }

    /// Counts an alarm, and logs it unless one of its kind was logged just now.
    pub(super) fn alarm(&self, alarm: Alarm, detail: &str, now: Instant) {
        self.pools.proxy.books.metrics.alarm(alarm);
        let what = alarm.label();
        if self.pool.is_news(News::Odd(alarm), now) {
            warn!(what, ?detail, "pool did something odd");
        } else {
            debug!(what, ?detail, "pool did something odd");
        }
    }

    fn reconnect(&mut self, asked: &Redirect, now: Instant) {
        let config = &self.pool.config;
        let random = rand::random();
        match self.plan.requests.reconnect(
            asked,
            &config.at(),
            &config.reconnect_hosts,
            random,
            now,
        ) {
            Reaction::Stay(alarm) => self.alarm(alarm, &format!("{asked:?}"), now),
            Reaction::Leave { to, at } => {
                let (host, wait_ms) =
                    (to.as_ref().map(ToString::to_string), (at - now).as_millis());
                if self.pool.is_news(News::Reconnect, now) {
                    info!(to = host, wait_ms, "pool asked to reconnect");
                } else {
                    debug!(to = host, wait_ms, "pool asked to reconnect");
                }
                self.plan.leave = Some((at, to));
            }
            Reaction::Quarantine => {
                self.alarm(Alarm::ReconnectTooOften, &format!("{asked:?}"), now);
                self.pools.quarantine(&self.pool, Alarm::ReconnectTooOften, now);
            }
        }
    }

    /// Checks what a job says about its pool: its clock, and whom its coinbase pays.
    fn look(&self, job: &Job, extranonce: Option<usize>, now: Instant) {
        if tripwire::is_time_off(job.ntime, clock::wall().as_second()) {
            self.alarm(Alarm::TimeOff, &format!("a job of {} by Unix time", job.ntime), now);
        }
        let policy = self.pool.config.on_payout_change;
        let Some(extranonce) = extranonce.filter(|_| policy != OnPayoutChange::Ignore) else {
            return;
        };
        let learn = policy == OnPayoutChange::Alarm;
        let Some(change) = self.pool.tripwire.lock().look(job, extranonce, learn, now) else {
            return;
        };
        if change.news {
            self.pools.proxy.books.metrics.alarm(Alarm::PayoutFingerprintChanged);
            error!(detail = ?change.detail, "coinbase changed");
        }
        if change.payees && policy == OnPayoutChange::FailOver {
            self.pools.quarantine(&self.pool, Alarm::PayoutFingerprintChanged, now);
        }
    }

    /// Records the sizes that the pool has assigned. Fails if they add no space to what another
    /// connection has.
    fn sized(&self, extranonce1: &[u8], extranonce2_size: u8) -> Result<(), Fault> {
        let mut state = self.pool.state.lock();
        state.extranonce1_size = Some(extranonce1.len());
        state.extranonce2_size = Some(extranonce2_size);
        drop(state);
        let adds = self.pools.placement.adds_space(&self.upstream, extranonce1, extranonce2_size);
        self.pool.adds_none.store(!adds, Ordering::Relaxed);
        if adds {
            return Ok(());
        }
        let detail = "same extranonce1 as another connection, and no lanes left";
        Err(Fault::new(End::AddsNoSpace, detail))
    }

    /// Counts the outcomes of forwarded shares.
    pub(super) fn count(&self, settled: &mut Vec<Settled>) {
        self.pools.count(&self.pool, settled);
    }

    /// Fails if the pool asked to reconnect, and it is time to.
    pub(super) fn leave(&mut self, now: Instant) -> Result<(), Fault> {
        let Some((_, to)) = self.plan.leave.take_if(|(at, _)| now >= *at) else { return Ok(()) };
        self.plan.next = to;
        Err(Fault::new(End::Reconnect, "the pool asked for it"))
    }

    /// Moves the sessions to fresh lanes if the pool has brought no job for long.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.has_job && now >= self.refreshed_at + self.pools.proxy.refresh_after {
            self.refreshed_at = now;
            self.pools.placement.refresh(self.upstream.id);
        }
    }

    /// Counts the work that the pool does not credit while miners are held above its difficulty.
    /// Returns a difficulty to ask the pool for, if a different one suits the fleet better.
    pub(super) fn size(&mut self, session: &PoolSession, now: Instant) -> Option<Difficulty> {
        let state = self.pools.placement.target_state(self.pool.id);
        let may_ask = session.is_settled(now) && self.pool.config.suggest_difficulty.is_none();
        let look = self.sizing.look(session.difficulty(), state.seated > 0, may_ask, now);
        // Every connection of the target counts its part.
        let part = f64::from(state.ready.max(1));
        let metrics = &self.pools.proxy.books.metrics.targets;
        metrics.held(self.pool.id, look.held.as_secs_f64() / part, look.uncredited / part);
        look.ask
    }

    /// Takes the answer to a probe: the pool brought no job for long, and another connection has
    /// asked whether it is alive.
    pub(super) fn probed(&mut self, alive: bool) -> Result<(), Fault> {
        if alive && !self.has_job {
            let detail = "the pool lives, but this connection never got a job";
            return Err(Fault::new(End::NoJob, detail));
        }
        if !alive {
            let detail = "no job for long, and a new connection got no answer";
            return Err(Fault::new(End::Silent, detail));
        }
        let state = self.pools.placement.target_state(self.pool.id);
        if state.ready > state.quiet + 1 {
            // The target's other connections have work, so a new one will have some, too.
            let detail = "no job for long, while other connections of the target had some";
            return Err(Fault::new(End::Quiet, detail));
        }
        self.upstream.set_quiet(true);
        self.pools.proxy.books.metrics.alarm(Alarm::Quiet);
        self.pools.changed.notify_one();
        Ok(())
    }
}
