//! Whether what a meter shows is steady.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use directive::Watts;

/// Readings are kept in so many cells, whatever the time is over which they must be steady.
const CELLS: u32 = 60;

/// The readings of a feed that settles.
#[derive(Debug, Clone, Default)]
pub(super) struct Settling {
    /// The newest last.
    cells: VecDeque<Cell>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    from: Instant,
    sum: i64,
    looks: i64,
}

impl Settling {
    /// Keeps a reading for `settle`. Without one, what was read before does not count.
    pub(super) fn keep(&mut self, reading: Option<Watts>, settle: Duration, now: Instant) {
        let Some(Watts(watts)) = reading else {
            self.cells.clear();
            return;
        };
        let age = |at: Instant| now.saturating_duration_since(at);
        match self.cells.back_mut().filter(|last| age(last.from) < settle / CELLS) {
            Some(last) => {
                last.sum = last.sum.saturating_add(watts);
                last.looks += 1;
            }
            None => self.cells.push_back(Cell { from: now, sum: watts, looks: 1 }),
        }
        // One that began before the time shows that the time is complete.
        while self.cells.get(1).is_some_and(|second| age(second.from) >= settle) {
            self.cells.pop_front();
        }
    }

    /// Whether the mean of the second half of `settle` is at most `band` above that of the first half.
    /// What swings about a mean is steady, and what falls leaves more room.
    pub(super) fn is_steady(&self, settle: Duration, band: Watts, now: Instant) -> bool {
        if self.rest(settle, now) != Some(Duration::ZERO) {
            return false;
        }
        let is_late = |cell: &&Cell| now.saturating_duration_since(cell.from) < settle / 2;
        let early = mean(self.cells.iter().filter(|cell| !is_late(cell)));
        let late = mean(self.cells.iter().filter(is_late));
        early.zip(late).is_none_or(|(early, late)| late - early <= band.0)
    }

    /// How long the readings must still go on before they reach over `settle`. `None` without any.
    pub(super) fn rest(&self, settle: Duration, now: Instant) -> Option<Duration> {
        let first = self.cells.front()?;
        Some(settle.saturating_sub(now.saturating_duration_since(first.from)))
    }
}

/// The mean of all readings of `cells`, if there are any.
fn mean<'a>(cells: impl Iterator<Item = &'a Cell>) -> Option<i64> {
    let (sum, looks) = cells
        .fold((0_i64, 0), |(sum, looks), cell| (sum.saturating_add(cell.sum), looks + cell.looks));
    (looks > 0).then(|| sum / looks)
}
