//! One feed: from a meter that falls to a feed that is dead, is reclosing, and is live again.

use std::time::{Duration, Instant};

use directive::{FeedId, Watts};
use jiff::Timestamp;

use super::settling::Settling;
use super::usual::{Level, MINUTE, Usual};
use super::{Counting, FeedSupply, Machines, Seen, SupplyChange};

/// A meter that shows at most this part of what it showed before has fallen to almost nothing. It may
/// also show at most this part of what the machines draw that should be awake.
pub(super) const FALLEN: f64 = 0.05;
/// A feed that is reclosing is dead again at this part, so that a reading near the limit does not make
/// it dead and reclosing in turn.
const FALLEN_AGAIN: f64 = 0.025;
/// A device that has power is read within this time as a rule: each is read every 20 s.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// So long after the meter, the machines must be gone: a session may seem to live for a while.
const GONE_WITHIN: Duration = Duration::from_mins(2);
/// The same while nobody is heard who knows some of the machines: what reports them may have lost its
/// power with them.
const UNHEARD_WITHIN: Duration = Duration::from_mins(10);
/// This part of the machines must be gone, in percent, and at least so many of them, or all.
const GONE_PERCENT: u64 = 80;
const GONE_LEAST: u32 = 3;
/// A feed is reclosing for at most so many times the time in which it must be steady.
const SETTLES_WITHIN: u32 = 10;
/// Machines are counted at most this often.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Machines of a dead feed are counted at most this often while its meter shows almost nothing.
const COUNT_DEAD_EVERY: Duration = Duration::from_secs(5);

/// What is known of one feed.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    state: State,
    usual: Usual,
    /// What its meter has shown since it is reclosing.
    settling: Settling,
    /// When its machines were counted last.
    counted_at: Option<Instant>,
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
        since: Instant,
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
    /// When it was seen that the feed had fallen.
    fell: Instant,
    /// The fewest machines that have shown themselves since; `None` before they were counted.
    fewest: Option<u32>,
}

/// What a look at the feed has found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) to: FeedSupply,
    pub(super) loss: Loss,
}

impl Machines {
    /// Whether most of those that worked are gone. `waited` is the time since the feed fell: a device that
    /// was not read in it may still answer. After a while, those that were read decide.
    fn are_gone(self, waited: Duration) -> bool {
        let left_out = if waited < ANSWERS_WITHIN { 0 } else { self.awaited };
        is_most(self.gone - self.awaited, self.worked - left_out)
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
        let loss = Loss { since, level, machines, from: now, fell: now, fewest: None };
        let state = match change.to {
            FeedSupply::Live => State::Live,
            FeedSupply::Dead => State::Dead(loss),
            FeedSupply::Reclosing => State::Reclosing { loss, since: now },
        };
        Self { state, ..Self::default() }
    }

    /// Whether nothing shows that its power is, or may be, gone.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Live)
    }

    /// Whether it would count as fallen if its meter fell silent.
    pub(super) fn minds_silence(&self, now: Instant) -> bool {
        self.is_live() && self.usual.mean(now).is_some_and(|usual| usual.all > Watts::ZERO)
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
            State::Reclosing { loss, .. } => Some((loss.since, self.settling.rest(settle, now))),
        }
    }

    /// What is on record of its loss of power.
    pub(super) fn recorded(&self) -> Option<Loss> {
        match self.state {
            State::Live | State::Fell(_) => None,
            State::Dead(loss) | State::Reclosing { loss, .. } => Some(loss),
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
        let usual = self.usual.mean(now).filter(|usual| self.is_live() && usual.all > Watts::ZERO);
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

    /// From when on machines are counted, if they are to be counted now.
    pub(super) fn counts_from(&mut self, seen: &Seen, now: Instant) -> Option<Counting> {
        let ((from, fell), every) = match self.state {
            State::Live => return None,
            State::Fell(Fall { at, .. }) => {
                ((at.checked_sub(MINUTE).unwrap_or(at), at), COUNT_EVERY)
            }
            State::Dead(loss) if !loss.is_shown(seen, FALLEN) => {
                ((loss.from, loss.fell), COUNT_DEAD_EVERY)
            }
            State::Dead(loss) | State::Reclosing { loss, .. } => {
                ((loss.from, loss.fell), COUNT_EVERY)
            }
        };
        let is_due = |at: Instant| now.saturating_duration_since(at) >= every;
        if !self.counted_at.is_none_or(is_due) {
            return None;
        }
        self.counted_at = Some(now);
        Some(Counting { from, fell })
    }

    /// Keeps what the meter shows, or notes that it has fallen.
    pub(super) fn note(&mut self, seen: &Seen, wall: Timestamp, now: Instant) {
        if !self.is_live() {
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
                self.settling = Settling::default();
                if machines.worked == 0 {
                    // What it showed with machines at work says nothing any more.
                    self.usual = Usual::default();
                }
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
                self.state = State::Reclosing { loss, since: now };
                self.settling = Settling::default();
                self.settling.keep(seen.own(), settle, now);
                loss
            }
            State::Reclosing { loss, since } => {
                loss.fewest.get_or_insert(machines.shown);
                let loss = *loss;
                if loss.has_power(seen, machines, FALLEN_AGAIN) {
                    self.settling.keep(seen.own(), settle, now);
                    let longest = settle.saturating_mul(SETTLES_WITHIN);
                    let is_over = now.saturating_duration_since(*since) >= longest;
                    if !is_over && !self.settling.is_steady(settle, seen.band, now) {
                        return None;
                    }
                    *self = Self::default();
                } else {
                    self.state = State::Dead(loss);
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
        let loss = Loss { since, level, machines: machines.worked, from, fell: at, fewest };
        // Those that worked have all been put to sleep: it fell by our own doing.
        if machines.worked == 0 {
            return Some(State::Live);
        }
        if seen.metered.is_some_and(|watts| watts > level.all.scale(FALLEN)) {
            // It was gone for a moment, or the sample was wrong.
            return Some(if self.has_stopped {
                State::Reclosing { loss, since: now }
            } else {
                State::Live
            });
        }
        let shows_load = seen.metered.is_some_and(|watts| watts > machines.draws.scale(FALLEN));
        let waited = now.saturating_duration_since(at);
        if machines.are_gone(waited) && !shows_load && !has_live_below {
            return Some(State::Dead(loss));
        }
        let within = if machines.unheard > 0 { UNHEARD_WITHIN } else { GONE_WITHIN };
        (waited > within).then_some(State::Live)
    }
}

impl Loss {
    /// What goes on record of it.
    pub(super) fn change(self, feed: FeedId, to: FeedSupply, with: Option<FeedId>) -> SupplyChange {
        let Self { since, level, machines, .. } = self;
        SupplyChange { feed, to, since, before: level.all, own_before: level.own, machines, with }
    }

    /// Whether the meter shows more than `part` of what it showed before.
    fn is_shown(&self, seen: &Seen, part: f64) -> bool {
        seen.metered.is_some_and(|watts| watts > self.level.all.scale(part))
    }

    /// Whether the meter shows more than `part` of what it showed before, or machines show themselves
    /// again.
    fn has_power(&self, seen: &Seen, machines: Machines, part: f64) -> bool {
        let fewest = self.fewest.unwrap_or(machines.shown);
        let back = u64::from(machines.shown.saturating_sub(fewest)) * 100;
        self.is_shown(seen, part) || back > u64::from(self.machines) * (100 - GONE_PERCENT)
    }
}
