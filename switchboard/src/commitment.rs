//! One lease's way from being planned to being over, as a pure state machine: evidence in, moves
//! out. A flag that stands is never taken back. Where evidence comes from is left to
//! [`crate::core`].
//!
//! A lease is proven by its feeds' meters and nothing else. What devices say decides only how long
//! the proof waits for them: one that does not answer leaves the lease *unconfirmed*, not breached.

mod evidence;
mod reason;

use std::time::{Duration, Instant};

use directive::Watts;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use evidence::{Evidence, Figure, Held};

use crate::lease::{Lease, later};
use crate::words::{Named, when};

/// How far a lease's power has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Committed; no plan that every receiver holds frees its power yet.
    #[default]
    Planned,
    /// Every receiver holds the timeline that frees its power.
    Armed,
    Shedding,
    /// Meters show that its power is free.
    Proven,
    /// The tenant may draw it.
    Active,
    /// It is over; machines come back.
    Releasing,
    /// Nothing of it is left.
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

    /// Whether its power counts as proven.
    #[must_use]
    pub fn is_proven(self) -> bool {
        matches!(self, Self::Proven | Self::Active)
    }
}

/// A promise that was not kept: it stays on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// When it was found.
    pub at: Timestamp,
    /// Since when the power was missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Watts missing; all that was promised where nothing was measured.
    pub missing: Watts,
    /// Whether that was measured.
    pub measured: bool,
    pub why: String,
}

/// Machines of a proven lease whose devices do not say that they are down.
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
    /// It rests on something that proves nothing.
    Unverified {
        why: String,
    },
    /// The meters prove it, and some devices do not confirm it.
    Unconfirmed(Unconfirmed),
    /// Every device confirms it again.
    Confirmed,
    /// The promise is not kept.
    Breached(Breach),
}

/// What a policy says about proof.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long headroom must hold.
    pub prove_for: Duration,
    /// How long a shortage may show that is only two meters read at different moments.
    pub settle: Duration,
    /// How long a device may be silent before that is worth a record.
    pub silence: Duration,
    /// Where people read times.
    pub zone: TimeZone,
}

/// Where a lease stands. `phase` and the flags live in the ledger; the clocks begin anew after a
/// restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commitment {
    /// How far it has come.
    pub phase: Phase,
    /// Whether it rests on something that proves nothing.
    pub unverified: bool,
    /// Machines that do not confirm what the meters prove, as of now.
    pub unconfirmed: Option<Unconfirmed>,
    /// What was not kept, first and later ones.
    pub breaches: Vec<Breach>,
    /// When its power was first proven free.
    pub proven_at: Option<Timestamp>,
    free_since: Option<Instant>,
    short_since: Option<(Instant, Timestamp)>,
    silent_since: Option<(Instant, Timestamp)>,
    /// Since when the plan cannot free enough.
    uncovered_since: Option<Instant>,
    /// Since when nobody is there to carry it out.
    deserted_since: Option<Instant>,
    /// Whether the present shortage is on record.
    reported: bool,
}

/// Breaches kept per lease; after that only the ledger has them.
const BREACHES: usize = 100;
/// A lease that was armed steps back when the plan has been short, or its receivers away, for this
/// long: after a restart the miners need about so long to be seen again.
const STEP_BACK_AFTER: Duration = Duration::from_mins(1);
/// A lease whose machines do not come back is closed this long after its end, with their names on
/// record.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

impl Commitment {
    /// Takes up what the ledger says.
    #[must_use]
    pub fn restore(
        phase: Phase,
        unverified: bool,
        unconfirmed: Option<Unconfirmed>,
        breaches: Vec<Breach>,
        proven_at: Option<Timestamp>,
    ) -> Self {
        // What is missing then is taken for what was missing before, until meters show otherwise.
        let reported = !breaches.is_empty();
        Self { phase, unverified, unconfirmed, breaches, proven_at, reported, ..Self::default() }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Judges the evidence and moves on as far as it carries.
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
        // A missed deadline is one record until the proof has come; a later shortage is another.
        if self.short_since.is_none() && evidence.is_measured() && self.phase.is_proven() {
            self.reported = false;
        }
        if evidence.starved && !self.unverified && self.phase < Phase::Releasing {
            self.flag_unverified("machines are only starved of work".to_owned(), &mut happenings);
        }
        while let Some((to, why)) = self.next(lease, evidence, terms, wall, now) {
            if to == Phase::Active && self.phase != Phase::Proven && !self.unverified {
                self.flag_unverified(
                    "not proven at its start, which the tenant accepts".to_owned(),
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

    /// Keeps the clocks of what lasts.
    fn watch(&mut self, evidence: &Evidence, wall: Timestamp, now: Instant) {
        self.free_since = evidence.is_free().then(|| self.free_since.unwrap_or(now));
        self.short_since = evidence.surely_short().map(|_| self.short_since.unwrap_or((now, wall)));
        let silent = !evidence.unconfirmed.is_empty();
        self.silent_since = silent.then(|| self.silent_since.unwrap_or((now, wall)));
        self.uncovered_since = evidence.short.as_ref().map(|_| self.uncovered_since.unwrap_or(now));
        self.deserted_since =
            evidence.held.is_deserted().then(|| self.deserted_since.unwrap_or(now));
    }

    fn is_held_free(&self, terms: &Terms, now: Instant) -> bool {
        self.free_since.is_some_and(|since| lasted(since, now) >= terms.prove_for)
    }

    fn is_held_short(&self, terms: &Terms, now: Instant) -> bool {
        self.short_since.is_some_and(|(since, _)| lasted(since, now) >= terms.settle)
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
        // Devices have until the lease must be proven; then the meters' word alone counts.
        let decided = evidence.under_way == 0 || wall >= lease.reserved_from();
        let proven = self.is_held_free(terms, now) && decided;
        let beyond = evidence.in_plan_from.is_some();
        let for_long = |since: Option<Instant>| {
            since.is_some_and(|since| lasted(since, now) >= STEP_BACK_AFTER)
        };
        let (short, deserted) = (for_long(self.uncovered_since), for_long(self.deserted_since));
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
            Phase::Armed if beyond || (short && !evidence.due) => {
                Some((Phase::Planned, reason::plan(evidence, terms)?))
            }
            Phase::Armed if deserted && !evidence.due => {
                Some((Phase::Planned, reason::held(evidence)))
            }
            Phase::Armed if evidence.due => Some((Phase::Shedding, reason::due(evidence))),
            Phase::Shedding if proven => Some((Phase::Proven, evidence.words())),
            Phase::Proven if wall >= lease.start => {
                Some((Phase::Active, format!("started at {}", when(lease.start, &terms.zone))))
            }
            Phase::Proven if self.is_held_short(terms, now) => {
                Some((Phase::Shedding, format!("headroom was lost: {}", evidence.words())))
            }
            Phase::Armed | Phase::Shedding if lease.accept_unverified && wall >= lease.start => {
                Some((Phase::Active, "started unverified, as accepted".to_owned()))
            }
            Phase::Planned | Phase::Armed | Phase::Shedding | Phase::Proven | Phase::Active => None,
        }
    }

    /// Puts on record which machines do not confirm what the meters prove, and when all do again.
    fn confirm(
        &mut self,
        evidence: &Evidence,
        terms: &Terms,
        just_proven: bool,
        now: Instant,
        happenings: &mut Vec<Happening>,
    ) {
        if !self.phase.is_proven() {
            // What its machines do then is said otherwise: under way, or not back.
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

    /// Puts on record what is not kept.
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
        if self.reported || self.phase >= Phase::Releasing || early {
            return;
        }
        let found = match self.phase {
            // While tenants draw, what no meter of theirs shows may be theirs: only what is missing
            // for certain is a breach.
            Phase::Active => {
                let short = evidence.surely_short().filter(|_| self.is_held_short(terms, now));
                short.zip(self.short_since).map(|((figure, missing), (_, since))| {
                    let why = format!("{figure} since {}", when(since, &terms.zone));
                    (since, missing, true, why)
                })
            }
            Phase::Proven => None,
            _ => self.missed(lease, evidence, terms),
        };
        let Some((since, missing, measured, why)) = found else { return };
        let breach = Breach { at: wall, since: Some(since), missing, measured, why };
        self.reported = true;
        if self.breaches.len() < BREACHES {
            self.breaches.push(breach.clone());
        }
        happenings.push(Happening::Breached(breach));
    }

    /// What is missing of a lease that should be proven by now: since when, how much, whether that
    /// was measured, and in words.
    fn missed(
        &self,
        lease: &Lease,
        evidence: &Evidence,
        terms: &Terms,
    ) -> Option<(Timestamp, Watts, bool, String)> {
        let since = lease.reserved_from();
        let why = |what: &str| format!("not proven by {}: {what}", when(since, &terms.zone));
        if let (Some(_), Some((_, lost))) = (self.proven_at, self.short_since) {
            let since = lost.max(since);
            let (figure, missing) = evidence.surely_short()?;
            let why =
                format!("lost after it was proven: {figure} since {}", when(since, &terms.zone));
            return Some((since, missing, true, why));
        }
        if let Some((figure, missing)) = evidence.worst() {
            // What was measured before does not show what a lease that ended then has left.
            let shown = evidence.is_measured_since(since);
            return shown.then(|| (since, missing, true, why(&figure.to_string())));
        }
        // What the tenant accepted not to be proven is no breach until a meter says so. And where
        // the meters show it free, nothing is missing: it is proven as soon as that has held.
        if lease.accept_unverified || evidence.is_free() {
            return None;
        }
        Some((since, lease.gross, false, why(&evidence.words())))
    }

    fn flag_unverified(&mut self, why: String, happenings: &mut Vec<Happening>) {
        self.unverified = true;
        happenings.push(Happening::Unverified { why });
    }
}

/// Why a lease that is over is closed, if it is to be.
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
