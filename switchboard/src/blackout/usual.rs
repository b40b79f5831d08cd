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
    /// The sum of the means of all cells but the newest.
    former: Level,
}

/// The readings of some seconds.
#[derive(Debug, Clone, Copy)]
struct Cell {
    from: Instant,
    to: Instant,
    looks: i64,
    sum: Level,
}

impl Cell {
    fn mean(&self) -> Level {
        Level { all: Watts(self.sum.all.0 / self.looks), own: Watts(self.sum.own.0 / self.looks) }
    }
}

impl Usual {
    /// Keeps what a believed meter shows. `fallen` is the part that is almost nothing: before the minute
    /// is complete, such a reading begins a new one.
    pub(super) fn keep(&mut self, level: Level, fallen: f64, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        let is_over = self.cells.back().is_some_and(|last| age(last.to) > MINUTE);
        let has_fallen = || self.average().is_some_and(|mean| level.all <= mean.all.scale(fallen));
        if is_over || (!self.is_complete() && has_fallen()) {
            *self = Self::default();
        }
        match self.cells.back_mut() {
            Some(last) if age(last.from) < CELL => {
                last.sum.all += level.all;
                last.sum.own += level.own;
                (last.looks, last.to) = (last.looks + 1, now);
            }
            last => {
                if let Some(last) = last {
                    let mean = last.mean();
                    self.former.all += mean.all;
                    self.former.own += mean.own;
                }
                self.cells.push_back(Cell { from: now, to: now, looks: 1, sum: level });
            }
        }
        // One that began before the minute shows that the minute is complete.
        while self.cells.get(1).is_some_and(|second| age(second.from) >= MINUTE) {
            if let Some(first) = self.cells.pop_front() {
                let mean = first.mean();
                self.former.all = self.former.all - mean.all;
                self.former.own = self.former.own - mean.own;
            }
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
        let cells = i64::try_from(self.cells.len()).ok()?;
        let last = self.cells.back()?.mean();
        let mean = |former: Watts, last: Watts| Watts((former + last).0 / cells);
        Some(Level { all: mean(self.former.all, last.all), own: mean(self.former.own, last.own) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::origin;

    #[test]
    fn the_average_is_the_mean_of_the_means_of_the_cells_of_a_minute() {
        let mut usual = Usual::default();
        let watts = |secs: u64| Watts(40_000 + i64::try_from(secs * 7_919 % 5_000).unwrap());
        for secs in 0..300 {
            let now = origin() + Duration::from_secs(secs);
            usual.keep(Level { all: watts(secs), own: Watts(1_000) }, 0.05, now);
        }
        // Cells of five seconds: the oldest one began before the minute.
        let cells = (47..60).map(|cell| {
            let sum: Watts = (cell * 5..cell * 5 + 5).map(watts).sum();
            sum.0 / 5
        });
        let mean = usual.mean(origin() + Duration::from_secs(300)).unwrap();
        assert_eq!(mean, Level { all: Watts(cells.sum::<i64>() / 13), own: Watts(1_000) });
    }
}
