//! The life of one lease, from planned to closed, as a pure state machine: evidence in, changes
//! out. A flag that was set is never cleared. [`crate::core`] collects the evidence.
//!
//! Only the meters of its feeds prove a lease. The devices only decide how long the proof waits:
//! one that does not answer makes the lease *unconfirmed*, not breached.

mod blame;
mod evidence;
mod reason;

use std::time::{Duration, Instant};

use directive::Watts;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub(crate) use blame::Causes;
pub use blame::{Blame, Doing};
pub use evidence::{Evidence, Figure, Held};

use crate::lease::{Lease, later};
use crate::words::{Named, when};

/// The state of a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The lease is committed, but not every receiver holds a plan that frees its power yet.
    #[default]
    Planned,
    /// Every receiver holds the timeline that frees its power.
    Armed,
    Shedding,
    /// The meters have shown that the lease's power is free.
    Proven,
    /// The tenant may draw the power.
    Active,
    /// The lease is over, and its machines are coming back.
    Releasing,
    /// Everything is done.
    Closed,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 7] = [
        Self::Planned,
        Self::Armed,
        Self::Shedding,
        Self::Proven,
        Self::Active,
        Self::Releasing,
        Self::Closed,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Armed => "armed",
            Self::Shedding => "shedding",
            Self::Proven => "proven",
            Self::Active => "active",
            Self::Releasing => "releasing",
            Self::Closed => "closed",
        }
    }

    /// Whether the lease's power counts as proven in this phase.
    #[must_use]
    pub fn is_proven(self) -> bool {
        matches!(self, Self::Proven | Self::Active)
    }
}

/// A breached promise, which stays on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// When the breach was detected.
    pub at: Timestamp,
    /// Since when the power was missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The missing watts.
    pub missing: Watts,
    /// Whether a meter measured the missing power. In records of older programs it may not have; then
    /// everything that was promised counted as missing.
    pub measured: bool,
    /// Whose doing it is; `None` in records of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Doing>,
    pub why: String,
}

/// Machines of a proven lease whose devices do not confirm that they are down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    pub since: Timestamp,
    #[serde(flatten)]
    pub machines: Named,
}

/// What happened to a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    Moved {
        from: Phase,
        to: Phase,
        why: String,
    },
    /// The lease's power cannot be proven: it relies on machines that are only starved, or no meter
    /// shows what it would have to.
    Unverified {
        why: String,
        /// Whether no believed meter showed it; else machines are only starved, or the tenant accepts a
        /// lease that is not proven.
        unproven: bool,
    },
    /// The meters prove the lease's power to be free, but some devices do not confirm that their
    /// machines are down.
    Unconfirmed(Unconfirmed),
    /// Every device confirms again that its machine is down.
    Confirmed,
    /// The promise is breached.
    Breached(Breach),
}

/// The policy's terms of proof.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long headroom must last to be proven.
    pub prove_for: Duration,
    /// For how long headroom that is missing may only be a difference between two meters that are
    /// read at different moments.
    pub settle: Duration,
    /// How long a device may be silent before that is recorded.
    pub silence: Duration,
    /// The time zone in which times are shown.
    pub zone: TimeZone,
}

/// The state of a lease. `phase` and the flags are kept in the ledger; the clocks start again after
/// a restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commitment {
    /// The phase of the lease.
    pub phase: Phase,
    /// Whether the lease's power could not be proven at some time.
    pub unverified: bool,
    /// Why it could not, the last time that this was recorded.
    pub unverified_why: Option<String>,
    /// The machines that at present do not confirm what the meters prove.
    pub unconfirmed: Option<Unconfirmed>,
    /// All breaches: the first one and later ones.
    pub breaches: Vec<Breach>,
    /// When the lease's power was first proven free.
    pub proven_at: Option<Timestamp>,
    free_since: Option<Instant>,
    short_since: Option<(Instant, Timestamp)>,
    silent_since: Option<(Instant, Timestamp)>,
    /// Since when the plan cannot free enough power.
    uncovered_since: Option<Instant>,
    /// Since when some attached receiver does not hold the plan, or no receiver is there to carry
    /// it out.
    unheld_since: Option<Instant>,
    /// Whether the current shortage is recorded as a breach.
    reported: bool,
    /// Since when the meters have shown neither that the power is free nor that it is missing.
    unmeasured_since: Option<(Instant, Timestamp)>,
    /// Whether it is recorded that they do not.
    unproven: bool,
}

/// How many breaches are kept per lease; later ones are only in the ledger.
const BREACHES: usize = 100;
/// An armed lease returns to planned when the plan has been short, or not every receiver has held
/// it, for this long. After a restart, miners need about as long to be seen again, and a receiver
/// needs a moment to take a changed plan and to say so.
const STEP_BACK_AFTER: Duration = Duration::from_mins(1);
/// A lease whose machines do not return is closed this long after its end, and their names are
/// recorded.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

impl Commitment {
    /// Restores the state from the ledger.
    #[must_use]
    pub fn restore(
        phase: Phase,
        (unverified, unverified_why, unproven): (bool, Option<String>, bool),
        unconfirmed: Option<Unconfirmed>,
        breaches: Vec<Breach>,
        proven_at: Option<Timestamp>,
    ) -> Self {
        // After a restart, missing power counts as the same shortage as before, until meters show
        // otherwise.
        let reported = !breaches.is_empty();
        Self {
            phase,
            unverified,
            unverified_why,
            unconfirmed,
            breaches,
            proven_at,
            reported,
            unproven,
            ..Self::default()
        }
    }

    /// Whether the lease is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether power that is missing at this look may be recorded as a breach: only then it must be known
    /// whose doing it is, which takes a look at all machines. `lasts` is how long it must be missing.
    pub(crate) fn asks_whose_doing(
        &self,
        lease: &Lease,
        lasts: Duration,
        wall: Timestamp,
        now: Instant,
    ) -> bool {
        let since = self.short_since.map_or(now, |(since, _)| since);
        self.phase < Phase::Releasing
            && !self.reported
            && wall >= lease.reserved_from()
            && lasted(since, now) >= lasts
    }

    /// Judges the evidence, and changes the phase as far as the evidence allows.
    pub fn advance(
        &mut self,
        lease: &Lease,
        evidence: &Evidence,
        terms: &Terms,
        wall: Timestamp,
        now: Instant,
    ) -> Vec<Happening> {
        let mut happenings = Vec::new();
        self.watch(evidence, wall, now);
        // A missed deadline is recorded once, until the proof has come; a later shortage is
        // recorded again.
        if self.short_since.is_none() && evidence.is_measured() && self.phase.is_proven() {
            (self.reported, self.unproven) = (false, false);
        }
        if evidence.starved && !self.unverified && self.phase < Phase::Releasing {
            let why = "machines are only starved of work".to_owned();
            self.flag_unverified(why, false, &mut happenings);
        }
        while let Some((to, why)) = self.next(lease, evidence, terms, wall, now) {
            if to == Phase::Active && self.phase != Phase::Proven && !self.unverified {
                self.flag_unverified(
                    "not proven at its start, which the tenant accepts".to_owned(),
                    false,
                    &mut happenings,
                );
            }
            happenings.push(Happening::Moved { from: self.phase, to, why });
            if to == Phase::Proven {
                self.proven_at = self.proven_at.or(Some(wall));
            }
            self.phase = to;
        }
        let just_proven =
            happenings.iter().any(|h| matches!(h, Happening::Moved { to: Phase::Proven, .. }));
        self.confirm(evidence, terms, just_proven, now, &mut happenings);
        self.judge(lease, evidence, terms, wall, now, &mut happenings);
        happenings
    }

    /// Updates the clocks of conditions that must last for a time.
    fn watch(&mut self, evidence: &Evidence, wall: Timestamp, now: Instant) {
        self.free_since = evidence.is_free().then(|| self.free_since.unwrap_or(now));
        self.short_since = evidence.surely_short().map(|_| self.short_since.unwrap_or((now, wall)));
        let silent = !evidence.unconfirmed.is_empty();
        self.silent_since = silent.then(|| self.silent_since.unwrap_or((now, wall)));
        self.uncovered_since = evidence.short.as_ref().map(|_| self.uncovered_since.unwrap_or(now));
        self.unheld_since = (!evidence.is_held()).then(|| self.unheld_since.unwrap_or(now));
        let decided = evidence.is_free() || evidence.surely_short().is_some();
        self.unmeasured_since = (!decided).then(|| self.unmeasured_since.unwrap_or((now, wall)));
    }

    fn is_held_free(&self, terms: &Terms, now: Instant) -> bool {
        self.free_since.is_some_and(|since| lasted(since, now) >= terms.prove_for)
    }

    fn is_held_short(&self, evidence: &Evidence, terms: &Terms, now: Instant) -> bool {
        let lasts = terms.settle + evidence.skew;
        self.short_since.is_some_and(|(since, _)| lasted(since, now) >= lasts)
    }

    fn next(
        &self,
        lease: &Lease,
        evidence: &Evidence,
        terms: &Terms,
        wall: Timestamp,
        now: Instant,
    ) -> Option<(Phase, String)> {
        let over = wall >= lease.ends() && !evidence.doubtful;
        // Devices can delay the proof until the lease must be proven; then only the meters count.
        let decided = evidence.under_way == 0 || wall >= lease.reserved_from();
        let proven = self.is_held_free(terms, now) && decided;
        let beyond = evidence.in_plan_from.is_some();
        let for_long = |since: Option<Instant>| {
            since.is_some_and(|since| lasted(since, now) >= STEP_BACK_AFTER)
        };
        let (short, unheld) = (for_long(self.uncovered_since), for_long(self.unheld_since));
        match self.phase {
            Phase::Closed => None,
            Phase::Releasing => released(lease, evidence, wall).map(|why| (Phase::Closed, why)),
            _ if over => {
                let why = lease.cancelled_at.map_or_else(
                    || format!("ended at {}", when(lease.end, &terms.zone)),
                    |at| format!("cancelled at {}", when(at, &terms.zone)),
                );
                Some((Phase::Releasing, why))
            }
            Phase::Planned | Phase::Armed if proven && wall >= lease.reserved_from() => {
                Some((Phase::Proven, evidence.words()))
            }
            Phase::Planned if evidence.is_covered() && evidence.is_held() => Some((
                Phase::Armed,
                "every receiver holds the steps that free its power".to_owned(),
            )),
            Phase::Planned if evidence.due && evidence.is_held() && !beyond => {
                Some((Phase::Shedding, format!("due, and {}", reason::plan(evidence, terms)?)))
            }
            // The receivers that hold its steps follow them, and the meters decide.
            Phase::Planned if evidence.due && unheld && evidence.held.is_behind() && !beyond => {
                Some((Phase::Shedding, format!("due, and {}", reason::held(evidence))))
            }
            Phase::Armed if beyond || (short && !evidence.due) => {
                Some((Phase::Planned, reason::plan(evidence, terms)?))
            }
            Phase::Armed if unheld && !evidence.due => {
                Some((Phase::Planned, reason::held(evidence)))
            }
            Phase::Armed if evidence.due => Some((Phase::Shedding, reason::due(evidence))),
            Phase::Shedding if proven => Some((Phase::Proven, evidence.words())),
            Phase::Proven if wall >= lease.start => {
                Some((Phase::Active, format!("started at {}", when(lease.start, &terms.zone))))
            }
            Phase::Proven if self.is_held_short(evidence, terms, now) => {
                Some((Phase::Shedding, format!("headroom was lost: {}", evidence.words())))
            }
            Phase::Armed | Phase::Shedding if lease.accept_unverified && wall >= lease.start => {
                Some((Phase::Active, "started unverified, as accepted".to_owned()))
            }
            Phase::Planned | Phase::Armed | Phase::Shedding | Phase::Proven | Phase::Active => None,
        }
    }

    /// Records which machines do not confirm what the meters prove, and when all of them confirm it
    /// again.
    fn confirm(
        &mut self,
        evidence: &Evidence,
        terms: &Terms,
        just_proven: bool,
        now: Instant,
        happenings: &mut Vec<Happening>,
    ) {
        if !self.phase.is_proven() {
            // After the end of the lease, its machines are reported as returning or as not back
            // instead.
            self.unconfirmed = None;
            return;
        }
        match (&mut self.unconfirmed, self.silent_since) {
            (Some(unconfirmed), Some(_)) => unconfirmed.machines.clone_from(&evidence.unconfirmed),
            (Some(_), None) => {
                self.unconfirmed = None;
                happenings.push(Happening::Confirmed);
            }
            (None, Some((since, at))) if just_proven || lasted(since, now) >= terms.silence => {
                let unconfirmed = Unconfirmed { since: at, machines: evidence.unconfirmed.clone() };
                self.unconfirmed = Some(unconfirmed.clone());
                happenings.push(Happening::Unconfirmed(unconfirmed));
            }
            (None, _) => {}
        }
    }

    /// Records breaches, and power that cannot be proven.
    fn judge(
        &mut self,
        lease: &Lease,
        evidence: &Evidence,
        terms: &Terms,
        wall: Timestamp,
        now: Instant,
        happenings: &mut Vec<Happening>,
    ) {
        let early = evidence.young || wall < lease.reserved_from();
        if self.phase >= Phase::Releasing || early {
            return;
        }
        let found = match self.phase {
            Phase::Active => self.lost(evidence, terms, now),
            Phase::Proven => None,
            _ => self.missed(lease, evidence, terms, now),
        };
        match found {
            Some(Fault::Missing { since, missing, blame, why }) if !self.reported => {
                let blame = blame.unwrap_or(Blame { doing: Doing::Ours, watts: Watts::ZERO });
                let breach = Breach {
                    at: wall,
                    since: Some(since),
                    missing,
                    measured: true,
                    doing: Some(blame.doing),
                    why: format!("{why}; {blame}"),
                };
                self.reported = true;
                if self.breaches.len() < BREACHES {
                    self.breaches.push(breach.clone());
                }
                happenings.push(Happening::Breached(breach));
            }
            Some(Fault::Unproven { why }) if !self.unproven => {
                self.unproven = true;
                self.flag_unverified(why, true, happenings);
            }
            _ => {}
        }
    }

    /// What is wrong with an active lease. Power that no tenant's meter shows may be the tenant's, so
    /// only power that is certainly missing is a breach.
    fn lost(&self, evidence: &Evidence, terms: &Terms, now: Instant) -> Option<Fault> {
        if let Some(short) = evidence.surely_short() {
            let (_, since) =
                self.short_since.filter(|_| self.is_held_short(evidence, terms, now))?;
            return Some(Fault::missing(short, since, |figure| {
                format!("{figure} since {}", when(since, &terms.zone))
            }));
        }
        // A silent meter is on record by itself, and may only be restarting.
        let (doubted, since) = (evidence.doubted()?, self.unmeasured_since?.0);
        (lasted(since, now) >= terms.silence)
            .then(|| Fault::Unproven { why: format!("while it was active: {doubted}") })
    }

    /// What is wrong with a lease that should be proven by now.
    fn missed(
        &self,
        lease: &Lease,
        evidence: &Evidence,
        terms: &Terms,
        now: Instant,
    ) -> Option<Fault> {
        let due = lease.reserved_from();
        let why = |what: &str| format!("not proven by {}: {what}", when(due, &terms.zone));
        if let Some(short) = evidence.surely_short() {
            // A measurement from before does not show the power of a lease that ended then.
            if !self.is_held_short(evidence, terms, now) || !evidence.is_measured_since(due) {
                return None;
            }
            return Some(match (self.proven_at, self.short_since) {
                (Some(_), Some((_, lost))) => {
                    let since = lost.max(due);
                    Fault::missing(short, since, |figure| {
                        let since = when(since, &terms.zone);
                        format!("lost after it was proven: {figure} since {since}")
                    })
                }
                _ => Fault::missing(short, due, |figure| why(&figure.to_string())),
            });
        }
        // Whoever accepts an unproven lease need not be told that it is.
        let (since, _) = self.unmeasured_since.filter(|_| !lease.accept_unverified)?;
        (lasted(since, now) >= terms.settle + evidence.skew)
            .then(|| Fault::Unproven { why: why(&evidence.words()) })
    }

    fn flag_unverified(&mut self, why: String, unproven: bool, happenings: &mut Vec<Happening>) {
        self.unverified = true;
        self.unverified_why = Some(why.clone());
        happenings.push(Happening::Unverified { why, unproven });
    }
}

/// What is wrong with a lease.
#[derive(Debug)]
enum Fault {
    /// Power is missing, by meters that are believed.
    Missing { since: Timestamp, missing: Watts, blame: Option<Blame>, why: String },
    /// No meter shows whether its power is free.
    Unproven { why: String },
}

impl Fault {
    fn missing(
        (figure, missing): (&Figure, Watts),
        since: Timestamp,
        why: impl FnOnce(&Figure) -> String,
    ) -> Self {
        Self::Missing { since, missing, blame: figure.blame, why: why(figure) }
    }
}

/// Returns why a lease that is over can be closed, if it can.
fn released(lease: &Lease, evidence: &Evidence, wall: Timestamp) -> Option<String> {
    if evidence.off > 0 {
        return None;
    }
    let missing = &evidence.not_back;
    if missing.is_empty() {
        return Some("every machine is back".to_owned());
    }
    let given_up = wall >= later(lease.ends(), GIVE_UP_AFTER) && !evidence.doubtful;
    given_up.then(|| {
        let hours = GIVE_UP_AFTER.as_secs() / 3600;
        format!("{} not back after {hours} h: {}", missing.counted(), missing.names())
    })
}

fn lasted(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

#[cfg(test)]
mod tests;
