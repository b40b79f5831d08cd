//! What is kept of one miner's session, and what others may ask of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::difficulty::Difficulty;
use stratum::server_role::ServerRole;
use stratum::version::VersionMask;

use super::answers::Answers;
use super::conduct::Conduct;
use super::difficulty::{Aim, DifficultyRules, Limits};
use super::issues::Issues;
use crate::work::LaneWork;

/// Settings of all sessions of one listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRules {
    /// How difficulties are set.
    pub(crate) difficulty: DifficultyRules,
    /// A miner that has not subscribed and authorized after this time is closed.
    pub(crate) handshake_timeout: Duration,
    /// The miner gets a line at least this often, so that its firmware does not consider us dead.
    pub(crate) ping_every: Duration,
    /// Version bits that may be granted.
    pub(crate) offer: VersionMask,
    /// The miner's extranonce2_size.
    pub(crate) extranonce2_size: u8,
    /// Index of the listener.
    pub(crate) server: u16,
    /// Whether a share log is kept.
    pub(crate) share_log: bool,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(super) rules: Arc<SessionRules>,
    pub(super) role: ServerRole,
    pub(super) slot: u8,
    pub(super) session_name: u64,
    pub(super) aim: Aim,
    pub(super) issues: Issues,
    pub(super) answers: Answers,
    pub(super) next_ticket: u32,
    pub(super) connected_at: Instant,
    /// When something was last sent to the miner, in tenths of a second since it was accepted.
    pub(super) last_sent_tenths: u32,
    pub(super) pings: u32,
    /// When the miner will be made to reconnect, in tenths of a second since it was accepted; 0 for
    /// never.
    pub(super) leave_tenths: u32,
    /// What the miner has done wrong recently; `None` for most miners.
    pub(super) conduct: Option<Box<Conduct>>,
    /// Version bits that may be granted on this connection.
    pub(super) offer: VersionMask,
    /// Whether no target can ever have a seat for it, so that a subscribe is refused.
    pub(super) no_room: bool,
    /// Whether the miner's firmware understands `mining.set_version_mask`.
    pub(super) hears_mask: bool,
    pub(super) user_agent: Option<Box<str>>,
}

impl Session {
    /// Makes a session for a connection that was just accepted and has `slot`.
    pub(crate) fn new(rules: Arc<SessionRules>, slot: u8, session_name: u64, now: Instant) -> Self {
        Self {
            role: ServerRole::new(rules.offer),
            aim: Aim::new(&rules.difficulty),
            offer: rules.offer,
            rules,
            slot,
            session_name,
            issues: Issues::default(),
            answers: Answers::default(),
            next_ticket: 0,
            connected_at: now,
            last_sent_tenths: 0,
            pings: 0,
            leave_tenths: 0,
            conduct: None,
            no_room: false,
            hears_mask: false,
            user_agent: None,
        }
    }

    /// Limits the version bits that are granted to `offer`. Call it before the first line, because
    /// a mask that was granted should not shrink.
    pub(crate) fn narrow(&mut self, offer: VersionMask) {
        self.offer = self.rules.offer.and(offer);
        self.role = ServerRole::new(self.offer);
    }

    /// Makes the session refuse the subscribe: no target can ever have a seat for it.
    pub(crate) fn refuse(&mut self) {
        self.no_room = true;
    }

    /// Whether the miner can be given work: subscribed and authorized.
    pub(crate) fn is_ready(&self) -> bool {
        self.role.is_ready()
    }

    /// The version bits that were granted to the miner, if it asked for any.
    pub(crate) fn version_mask(&self) -> Option<VersionMask> {
        self.role.version_mask()
    }

    /// The miner's worker name.
    pub(crate) fn worker(&self) -> Option<&str> {
        self.role.first_worker()
    }

    /// Takes out the user agent, for the session's view.
    pub(crate) fn take_user_agent(&mut self) -> Option<Box<str>> {
        self.user_agent.take()
    }

    pub(super) fn last_sent(&self) -> Instant {
        self.connected_at + Duration::from_millis(u64::from(self.last_sent_tenths) * 100)
    }

    pub(crate) fn difficulty(&self) -> Option<Difficulty> {
        self.aim.sent()
    }

    /// The machine's work rate, once shares have shown it.
    pub(crate) fn measured_rate(&self) -> Option<f32> {
        self.aim.measured_rate(&self.rules.difficulty)
    }

    /// The work rate that the session adds to the fleet's sum.
    pub(crate) fn fleet_rate(&self) -> f32 {
        self.aim.fleet_rate(&self.rules.difficulty)
    }

    /// Takes the machine's work rate from its last connection.
    pub(crate) fn recall(&mut self, work_rate: f32) {
        self.aim.recall(work_rate, &self.rules.difficulty);
    }

    /// Records that the miner has no work from now on, so that missing shares mean nothing.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.aim.rest(&self.rules.difficulty, self.age(now));
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.connected_at)
    }

    /// Whether the pool still accepts shares of its newest job.
    pub(crate) fn has_live_work(&self) -> bool {
        self.issues.newest().is_some_and(|work| work.job.is_live())
    }

    /// Submits that still wait for a pool's verdict.
    pub(crate) fn unanswered(&self) -> usize {
        self.answers.waiting()
    }

    /// When [`super::Input::Tick`] is next needed.
    pub(crate) fn wake_at(&self) -> Instant {
        if self.is_ready() {
            let ping_at = self.last_sent() + self.rules.ping_every;
            self.leave_at().map_or(ping_at, |leave_at| leave_at.min(ping_at))
        } else {
            self.connected_at + self.rules.handshake_timeout
        }
    }

    /// The difficulty bounds of the newest job.
    pub(super) fn limits(&self) -> Option<Limits> {
        self.issues.newest().map(|work| self.limits_of(work))
    }

    pub(super) fn limits_of(&self, work: &LaneWork) -> Limits {
        let (pool, load) = (work.job.difficulty, work.job.upstream.load());
        let own = self.aim.work_rate(&self.rules.difficulty);
        // Miners of a listener without vardiff are not held, because the operator sets their
        // difficulty.
        let hold = self.rules.difficulty.interval.and_then(|_| load.hold(pool, own));
        Limits { pool, hold, promised: self.role.minimum_difficulty() }
    }

    /// When the miner will be made to reconnect, if it will.
    pub(super) fn leave_at(&self) -> Option<Instant> {
        (self.leave_tenths > 0)
            .then(|| self.connected_at + Duration::from_millis(u64::from(self.leave_tenths) * 100))
    }
}
