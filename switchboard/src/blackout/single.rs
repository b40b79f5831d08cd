//! One feed: from a meter that falls to a feed that is dead, is reclosing, and is live again.

use std::time::{Duration, Instant};

use directive::Watts;
use jiff::Timestamp;

use super::usual::{Level, MINUTE, Usual};
use super::{FeedSupply, Machines, Seen, SupplyChange};

/// A meter that shows at most this part of what it showed before has fallen to almost nothing. It may
/// also show at most this part of what the machines draw that should be awake.
pub(super) const FALLEN: f64 = 0.05;
/// A feed that is reclosing is dead again at this part, so that a reading near the limit does not make
/// it dead and reclosing in turn.
const FALLEN_AGAIN: f64 = 0.025;
/// So long after the meter, the machines must be gone: devices are read now and then, and a read that
/// nobody answers takes half a minute.
const GONE_WITHIN: Duration = Duration::from_mins(2);
/// This part of the machines must be gone, in percent, and at least so many of them, or all.
const GONE_PERCENT: u64 = 80;
const GONE_LEAST: u32 = 3;

/// What is known of one feed.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    state: State,
    usual: Usual,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Live,
    /// The meter shows almost nothing, or is silent, and the machines have not been gone for long
    /// enough to tell.
    Fell(Fall),
    Dead(Loss),
    Reclosing {
        loss: Loss,
        /// What its meter has shown since when, as long as that stays within the band.
        steady: Option<Steady>,
    },
}

/// A meter has fallen.
#[derive(Debug, Clone, Copy)]
struct Fall {
    since: Timestamp,
    at: Instant,
    level: Level,
    is_silent: bool,
    /// Whether most of the machines have no work any more.
    has_stopped: bool,
}

/// A loss of power.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) since: Timestamp,
    pub(super) level: Level,
    /// The machines that had work before.
    pub(super) machines: u32,
    /// From when on machines are counted.
    from: Instant,
    /// The fewest machines that have shown themselves since; `None` before they were counted.
    fewest: Option<u32>,
}

/// A reading that stays within the band.
#[derive(Debug, Clone, Copy)]
struct Steady {
    since: Instant,
    low: Watts,
    high: Watts,
}

/// What a look at the feed has found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) to: FeedSupply,
    pub(super) loss: Loss,
}

impl Machines {
    fn are_gone(self) -> bool {
        is_most(self.gone, self.worked)
    }

    fn have_stopped(self) -> bool {
        is_most(self.stopped, self.worked)
    }
}

/// Whether `some` are most of `all`: 80 %, and at least three or all.
fn is_most(some: u32, all: u32) -> bool {
    all > 0
        && u64::from(some) * 100 >= u64::from(all) * GONE_PERCENT
        && (some >= GONE_LEAST || some == all)
}

impl Feed {
    /// As it was by its last change on record.
    pub(super) fn restored(change: &SupplyChange, now: Instant) -> Self {
        let level = Level { all: change.before, own: change.own_before };
        let (since, machines) = (change.since, change.machines);
        let loss = Loss { since, level, machines, from: now, fewest: None };
        let state = match change.to {
            FeedSupply::Live => State::Live,
            FeedSupply::Dead => State::Dead(loss),
            FeedSupply::Reclosing => State::Reclosing { loss, steady: None },
        };
        Self { state, usual: Usual::default() }
    }

    pub(super) fn supply(&self) -> FeedSupply {
        match self.state {
            State::Live | State::Fell(_) => FeedSupply::Live,
            State::Dead(_) => FeedSupply::Dead,
            State::Reclosing { .. } => FeedSupply::Reclosing,
        }
    }

    pub(super) fn loss(
        &self,
        settle: Duration,
        now: Instant,
    ) -> Option<(Timestamp, Option<Duration>)> {
        match self.state {
            State::Live | State::Fell(_) => None,
            State::Dead(loss) => Some((loss.since, None)),
            State::Reclosing { loss, steady } => {
                let rest = |steady: Steady| {
                    settle.saturating_sub(now.saturating_duration_since(steady.since))
                };
                Some((loss.since, steady.map(rest)))
            }
        }
    }

    pub(super) fn has_fallen(&self) -> bool {
        matches!(self.state, State::Fell(Fall { is_silent: false, .. }))
    }

    pub(super) fn may_be_dead(&self) -> bool {
        matches!(self.state, State::Fell(Fall { is_silent: false, has_stopped: true, .. }))
    }

    /// Whether `watts` is more than almost nothing of what its meter showed lately.
    pub(super) fn shows_power(&self, watts: Watts, now: Instant) -> bool {
        let is_live = matches!(self.state, State::Live);
        let usual = self.usual.mean(now).filter(|usual| is_live && usual.all > Watts::ZERO);
        usual.is_some_and(|usual| watts > usual.all.scale(FALLEN))
    }

    /// What its meter showed before, if it shows less because the power is gone, or may be.
    pub(super) fn lost(&self) -> Option<Level> {
        match self.state {
            State::Fell(Fall { level, is_silent: false, .. }) => Some(level),
            State::Dead(loss) | State::Reclosing { loss, .. } => Some(loss.level),
            State::Live | State::Fell(_) => None,
        }
    }

    /// From when on machines are counted, if they are.
    pub(super) fn counts_from(&self) -> Option<Instant> {
        match self.state {
            State::Live => None,
            State::Fell(Fall { at, .. }) => Some(at.checked_sub(MINUTE).unwrap_or(at)),
            State::Dead(loss) | State::Reclosing { loss, .. } => Some(loss.from),
        }
    }

    /// Keeps what the meter shows, or notes that it has fallen.
    pub(super) fn note(&mut self, seen: &Seen, wall: Timestamp, now: Instant) {
        if !matches!(self.state, State::Live) {
            return;
        }
        let usual = self.usual.mean(now).filter(|usual| usual.all > Watts::ZERO);
        let fallen = usual.filter(|level| match seen.metered {
            Some(watts) => watts <= level.all.scale(FALLEN),
            None => seen.is_mute,
        });
        if let Some(level) = fallen {
            self.state = State::Fell(Fall {
                since: wall,
                at: now,
                level,
                is_silent: seen.metered.is_none(),
                has_stopped: false,
            });
        } else if let Some(all) = seen.metered.filter(|_| seen.is_believed) {
            let own = all.saturating_sub(seen.leased);
            self.usual.keep(Level { all, own }, FALLEN, now);
        }
    }

    /// Finds what follows from a look. `has_live_below`: a feed below this one has power.
    pub(super) fn turn(
        &mut self,
        seen: &Seen,
        machines: Machines,
        has_live_below: bool,
        settle: Duration,
        now: Instant,
    ) -> Option<Found> {
        let loss = match &mut self.state {
            State::Live => return None,
            State::Fell(fall) => {
                let turned = fall.turn(seen, machines, has_live_below, now)?;
                self.state = turned;
                match turned {
                    State::Dead(loss) | State::Reclosing { loss, .. } => loss,
                    State::Live | State::Fell(_) => return None,
                }
            }
            State::Dead(loss) => {
                let fewest = loss.fewest.unwrap_or(machines.shown).min(machines.shown);
                loss.fewest = Some(fewest);
                if !loss.has_power(seen, machines, FALLEN) {
                    return None;
                }
                let loss = *loss;
                self.state = State::Reclosing { loss, steady: Steady::begin(seen, now) };
                loss
            }
            State::Reclosing { loss, steady } => {
                loss.fewest.get_or_insert(machines.shown);
                let loss = *loss;
                if !loss.has_power(seen, machines, FALLEN_AGAIN) {
                    self.state = State::Dead(loss);
                } else {
                    *steady = Steady::next(*steady, seen, now);
                    let lasts =
                        |steady: Steady| now.saturating_duration_since(steady.since) >= settle;
                    if !steady.is_some_and(lasts) {
                        return None;
                    }
                    *self = Self::default();
                }
                loss
            }
        };
        Some(Found { to: self.supply(), loss })
    }
}

impl Fall {
    /// What the feed is now, if that is known.
    fn turn(
        &mut self,
        seen: &Seen,
        machines: Machines,
        has_live_below: bool,
        now: Instant,
    ) -> Option<State> {
        let Self { since, at, level, .. } = *self;
        self.has_stopped = machines.have_stopped();
        self.is_silent &= seen.metered.is_none();
        let from = at.checked_sub(MINUTE).unwrap_or(at);
        let fewest = Some(machines.shown);
        let loss = Loss { since, level, machines: machines.worked, from, fewest };
        if seen.metered.is_some_and(|watts| watts > level.all.scale(FALLEN)) {
            // It was gone for a moment, or the sample was wrong.
            return Some(if self.has_stopped {
                State::Reclosing { loss, steady: Steady::begin(seen, now) }
            } else {
                State::Live
            });
        }
        let shows_load = seen.metered.is_some_and(|watts| watts > machines.draws.scale(FALLEN));
        if machines.are_gone() && !shows_load && !has_live_below {
            return Some(State::Dead(loss));
        }
        (now.saturating_duration_since(at) > GONE_WITHIN).then_some(State::Live)
    }
}

impl Loss {
    /// Whether the meter shows more than `part` of what it showed before, or machines show themselves
    /// again.
    fn has_power(&self, seen: &Seen, machines: Machines, part: f64) -> bool {
        let fewest = self.fewest.unwrap_or(machines.shown);
        let back = u64::from(machines.shown.saturating_sub(fewest)) * 100;
        seen.metered.is_some_and(|watts| watts > self.level.all.scale(part))
            || back > u64::from(self.machines) * (100 - GONE_PERCENT)
    }
}

impl Steady {
    fn begin(seen: &Seen, now: Instant) -> Option<Self> {
        let own = seen.metered?.saturating_sub(seen.leased);
        Some(Self { since: now, low: own, high: own })
    }

    /// Goes on with what the meter shows now, or begins anew.
    fn next(before: Option<Self>, seen: &Seen, now: Instant) -> Option<Self> {
        let new = Self::begin(seen, now)?;
        let Some(before) = before else { return Some(new) };
        let (low, high) = (before.low.min(new.low), before.high.max(new.high));
        Some(if high - low <= seen.band { Self { low, high, ..before } } else { new })
    }
}
