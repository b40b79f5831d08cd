//! One lease's way from being planned to being over, as a pure state machine: evidence in, moves
//! out. A flag that stands is never taken back. Where evidence comes from is left to
//! [`crate::core`].

use std::time::{Duration, Instant};

use directive::{FeedId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lease::Lease;

/// How far a lease's power has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
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
}

/// A promise that was not kept: it stays on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// When it was found.
    pub at: Timestamp,
    /// Watts missing; all that was promised where nothing was measured.
    pub missing: Watts,
    /// Whether that was measured.
    pub measured: bool,
    pub why: String,
}

/// What one feed shows against what it must keep free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    pub feed: FeedId,
    /// Headroom that its meter proves.
    pub headroom: Option<Watts>,
    /// What is committed here and below, this lease included.
    pub needed: Watts,
    /// What active tenants without a meter may draw: headroom is estimated low by at most this
    /// much.
    #[serde(default)]
    pub unmetered: Watts,
}

impl Figure {
    /// Watts that are not proven to be free, as far as is known.
    #[must_use]
    pub fn missing(&self) -> Option<Watts> {
        self.headroom.map(|headroom| self.needed.saturating_sub(headroom))
    }

    /// Watts that are missing for certain, even if tenants without a meter draw all they may.
    #[must_use]
    pub fn surely_missing(&self) -> Option<Watts> {
        self.headroom.map(|headroom| self.needed.saturating_sub(headroom + self.unmetered))
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.headroom {
            Some(headroom) => {
                write!(f, "{}: headroom {headroom}, needed {}", self.feed, self.needed)
            }
            None => write!(f, "{}: not measured, needed {}", self.feed, self.needed),
        }
    }
}

/// What is known about a lease's power at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Every live receiver holds the timeline that frees it.
    pub acked: bool,
    /// The first machine is due to go, or none needs to and the time of proof has come.
    pub due: bool,
    /// Every machine that a device takes off is confirmed down, those replaced for disobedience
    /// aside.
    pub confirmed: bool,
    /// Some machine of it is only starved.
    pub starved: bool,
    /// The lease's feed has a meter.
    pub metered: bool,
    /// The feeds on its path that have meters, bottom-up.
    pub figures: Vec<Figure>,
    /// No machine is held for it any more, and those that were mine again.
    pub released: bool,
    /// The wall clock was stepped: nothing is over by its word.
    pub doubtful: bool,
}

impl Evidence {
    fn free(&self) -> bool {
        self.metered
            && !self.figures.is_empty()
            && self.figures.iter().all(|figure| figure.missing() == Some(Watts::ZERO))
    }

    /// The figure that lacks most, of those measured.
    fn worst(&self) -> Option<(&Figure, Watts)> {
        let measured = self.figures.iter().filter_map(|figure| Some((figure, figure.missing()?)));
        measured.max_by_key(|(_, missing)| *missing)
    }

    /// The figure that lacks most for certain, if one does.
    fn short(&self) -> Option<(&Figure, Watts)> {
        let measured =
            self.figures.iter().filter_map(|figure| Some((figure, figure.surely_missing()?)));
        measured.filter(|(_, missing)| *missing > Watts::ZERO).max_by_key(|(_, missing)| *missing)
    }

    fn measured(&self) -> bool {
        !self.figures.is_empty() && self.figures.iter().all(|figure| figure.headroom.is_some())
    }
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
    /// The promise is not kept.
    Breached(Breach),
}

/// Where a lease stands. `phase` and the flags live in the ledger; the two clocks begin anew after
/// a restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commitment {
    /// How far it has come.
    pub phase: Phase,
    /// Whether it rests on something that proves nothing.
    pub unverified: bool,
    /// What was not kept, first and later ones.
    pub breaches: Vec<Breach>,
    /// When its power was first proven free.
    pub proven_at: Option<Timestamp>,
    free_since: Option<Instant>,
    short_since: Option<Instant>,
    /// Whether the present shortage is on record.
    reported: bool,
}

/// Breaches kept per lease; after that only the ledger has them.
const BREACHES: usize = 100;

impl Commitment {
    /// Takes up what the ledger says.
    #[must_use]
    pub fn restore(
        phase: Phase,
        unverified: bool,
        breaches: Vec<Breach>,
        proven_at: Option<Timestamp>,
    ) -> Self {
        let reported = !breaches.is_empty() && phase < Phase::Proven;
        Self { phase, unverified, breaches, proven_at, reported, ..Self::default() }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Judges the evidence and moves on as far as it carries. `prove_for` is how long headroom must
    /// hold, `settle` how long a shortage may show that is only two meters read at different
    /// moments.
    pub fn advance(
        &mut self,
        lease: &Lease,
        evidence: &Evidence,
        (prove_for, settle): (Duration, Duration),
        wall: Timestamp,
        now: Instant,
    ) -> Vec<Happening> {
        let mut happenings = Vec::new();
        let free = evidence.free() && evidence.confirmed;
        self.free_since = if free { self.free_since.or(Some(now)) } else { None };
        let held_free =
            self.free_since.is_some_and(|since| now.saturating_duration_since(since) >= prove_for);
        let short = evidence.short();
        self.short_since = short.and(self.short_since.or(Some(now)));
        let held_short =
            self.short_since.is_some_and(|since| now.saturating_duration_since(since) >= settle);
        // A missed deadline is one record until the proof has come; a later shortage is another.
        if short.is_none()
            && evidence.measured()
            && matches!(self.phase, Phase::Proven | Phase::Active)
        {
            self.reported = false;
        }
        if evidence.starved && !self.unverified && self.phase < Phase::Releasing {
            self.flag_unverified("machines are only starved of work".to_owned(), &mut happenings);
        }
        while let Some((to, why)) = self.next(lease, evidence, held_free, held_short, wall) {
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
        self.judge(lease, evidence, held_short, wall, &mut happenings);
        happenings
    }

    fn next(
        &self,
        lease: &Lease,
        evidence: &Evidence,
        held_free: bool,
        held_short: bool,
        wall: Timestamp,
    ) -> Option<(Phase, String)> {
        let over = wall >= lease.ends();
        match self.phase {
            Phase::Closed => None,
            Phase::Releasing => {
                evidence.released.then(|| (Phase::Closed, "every machine is back".to_owned()))
            }
            _ if over && !evidence.doubtful => {
                let why = lease.cancelled_at.map_or_else(
                    || format!("ended at {}", lease.end),
                    |at| format!("cancelled at {at}"),
                );
                Some((Phase::Releasing, why))
            }
            Phase::Planned => evidence
                .acked
                .then(|| (Phase::Armed, "every receiver holds the timeline".to_owned())),
            Phase::Armed if evidence.due => {
                Some((Phase::Shedding, "the first step is due".to_owned()))
            }
            Phase::Shedding if held_free => Some((Phase::Proven, words(evidence))),
            Phase::Proven if wall >= lease.start => {
                Some((Phase::Active, format!("started at {}", lease.start)))
            }
            Phase::Proven if held_short => {
                Some((Phase::Shedding, format!("headroom was lost: {}", words(evidence))))
            }
            Phase::Armed | Phase::Shedding if lease.accept_unverified && wall >= lease.start => {
                Some((Phase::Active, "started unverified, as accepted".to_owned()))
            }
            Phase::Armed | Phase::Shedding | Phase::Proven | Phase::Active => None,
        }
    }

    /// Puts on record what is not kept.
    fn judge(
        &mut self,
        lease: &Lease,
        evidence: &Evidence,
        held_short: bool,
        wall: Timestamp,
        happenings: &mut Vec<Happening>,
    ) {
        if self.reported || self.phase >= Phase::Releasing || wall < lease.reserved_from() {
            return;
        }
        let worst = evidence.worst().filter(|(_, missing)| *missing > Watts::ZERO);
        // While tenants draw, what no meter of theirs shows may be theirs: only what is missing for
        // certain is a breach.
        let worst = if self.phase == Phase::Active { evidence.short() } else { worst };
        let breach = match (self.phase, worst) {
            (Phase::Active, Some((figure, missing))) if held_short => Breach {
                at: wall,
                missing,
                measured: true,
                why: format!("headroom fell below what is committed at {figure}"),
            },
            (Phase::Active | Phase::Proven, _) => return,
            (_, Some((figure, missing))) => Breach {
                at: wall,
                missing,
                measured: true,
                why: format!("not proven in time at {figure}"),
            },
            // What the tenant accepted not to be proven is no breach until a meter says so.
            (_, None) if lease.accept_unverified => return,
            (phase, None) => {
                let why = format!("not proven in time: {}; {}", phase.as_str(), words(evidence));
                let measured = evidence.free();
                Breach {
                    at: wall,
                    missing: if measured { Watts::ZERO } else { lease.gross },
                    measured,
                    why,
                }
            }
        };
        self.reported = true;
        if self.breaches.len() < BREACHES {
            self.breaches.push(breach.clone());
        }
        happenings.push(Happening::Breached(breach));
    }

    fn flag_unverified(&mut self, why: String, happenings: &mut Vec<Happening>) {
        self.unverified = true;
        happenings.push(Happening::Unverified { why });
    }
}

fn words(evidence: &Evidence) -> String {
    if evidence.figures.is_empty() {
        return "no feed on its path has a meter".to_owned();
    }
    let figures: Vec<String> = evidence.figures.iter().map(ToString::to_string).collect();
    let confirmed = if evidence.confirmed {
        "every machine confirmed down"
    } else {
        "not every machine confirmed down"
    };
    format!("{}; {confirmed}", figures.join("; "))
}

#[cfg(test)]
mod tests;
