//! What a meter showed on average in the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use directive::Watts;

/// What a meter shows on average is taken over this time.
pub(super) const MINUTE: Duration = Duration::from_mins(1);
/// Looks within this time are kept as one.
const CELL: Duration = Duration::from_secs(5);

/// What a meter shows: in all, and without what tenants' own meters show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) all: Watts,
    pub(super) own: Watts,
}

/// The believed readings of the last minute.
#[derive(Debug, Clone, Default)]
pub(super) struct Usual {
    /// The newest last.
    cells: VecDeque<Cell>,
}

/// The readings of some seconds.
#[derive(Debug, Clone, Copy)]
struct Cell {
    from: Instant,
    to: Instant,
    looks: i64,
    sum: Level,
}

impl Usual {
    /// Keeps what a believed meter shows. `fallen` is the part that is almost nothing: before the minute
    /// is complete, such a reading begins a new one.
    pub(super) fn keep(&mut self, level: Level, fallen: f64, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        let is_over = self.cells.back().is_some_and(|last| age(last.to) > MINUTE);
        let has_fallen = self.average().is_some_and(|mean| level.all <= mean.all.scale(fallen));
        if is_over || (has_fallen && !self.is_complete()) {
            self.cells.clear();
        }
        match self.cells.back_mut() {
            Some(last) if age(last.from) < CELL => {
                last.sum.all += level.all;
                last.sum.own += level.own;
                (last.looks, last.to) = (last.looks + 1, now);
            }
            _ => self.cells.push_back(Cell { from: now, to: now, looks: 1, sum: level }),
        }
        // One that began before the minute shows that the minute is complete.
        while self.cells.get(1).is_some_and(|second| age(second.from) >= MINUTE) {
            self.cells.pop_front();
        }
    }

    /// The average of the minute up to the last believed reading; `None` if the readings at hand do not
    /// reach over a minute, or end a minute ago.
    pub(super) fn mean(&self, now: Instant) -> Option<Level> {
        let last = self.cells.back()?;
        let is_young = now.saturating_duration_since(last.to) <= MINUTE;
        self.average().filter(|_| is_young && self.is_complete())
    }

    /// Whether the readings at hand reach over a minute.
    fn is_complete(&self) -> bool {
        let ends = self.cells.front().zip(self.cells.back());
        ends.is_some_and(|(first, last)| last.to.saturating_duration_since(first.from) >= MINUTE)
    }

    /// The average of the readings at hand.
    fn average(&self) -> Option<Level> {
        let cells = i64::try_from(self.cells.len()).ok().filter(|cells| *cells > 0)?;
        let mean = |part: fn(&Level) -> Watts| {
            let sum: i64 = self.cells.iter().map(|cell| part(&cell.sum).0 / cell.looks).sum();
            Watts(sum / cells)
        };
        Some(Level { all: mean(|level| level.all), own: mean(|level| level.own) })
    }
}
