//! The last minutes of one meter: the extremes of its samples over time, how far apart they are, and
//! since when it has repeated one value.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use directive::Watts;
use jiff::Timestamp;

use super::Within;
use crate::lease::earlier;

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) watts: Watts,
    pub(crate) taken_at: Timestamp,
}

/// The samples of one meter.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The oldest first. Samples within [`CELL`] share one.
    cells: VecDeque<Cell>,
    /// The largest of the last distances between two samples, roughly.
    gap: Duration,
    streak: Option<Streak>,
    /// Whether the meter has fallen silent since the newest sample.
    is_broken_off: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    first: Timestamp,
    last: Timestamp,
    extremes: Extremes,
}

/// What is known to be drawn at a moment, up to a constant: only differences count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) low: Watts,
    pub(super) high: Watts,
    /// The least and the greatest sum of the meters below that are believed, and how many they are.
    pub(super) below: (Watts, Watts, usize),
}

impl Known {
    /// Covers `other`, too.
    pub(super) fn widen(&mut self, other: &Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        let (low, high, _) = self.below;
        self.below = (low.min(other.below.0), high.max(other.below.1), other.below.2);
    }
}

/// The extremes of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extremes {
    pub(super) low: Watts,
    pub(super) high: Watts,
    pub(super) count: u32,
}

/// A time in which every sample had the same value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streak {
    pub(super) value: Watts,
    pub(super) samples: u32,
    /// What was known to be drawn in its first seconds.
    pub(super) known: Option<Known>,
    /// When it was first looked at.
    pub(super) since: Option<Instant>,
    /// Since when what is known to be drawn has differed from what it was at its beginning, and how
    /// many samples have come since.
    pub(super) changed: Option<(Instant, u32)>,
    /// Whether the meter was found to be frozen at this value.
    pub(super) is_frozen: bool,
}

/// Samples of a fast meter within this time are kept as their extremes.
const CELL: Duration = Duration::from_secs(1);
/// Older samples are forgotten.
pub(super) const KEPT: Duration = Duration::from_secs(240);
/// The maximum number of cells of one meter. [`KEPT`] has fewer unless clocks are wrong; then the
/// oldest are dropped.
const CELLS: usize = 256;

impl History {
    /// Adds a sample. Returns whether it is a new one.
    pub(super) fn note(&mut self, sample: Sample) -> bool {
        let Sample { watts, taken_at } = sample;
        if let Some(last) = self.cells.back().map(|cell| cell.last) {
            if taken_at == last {
                return false;
            }
            if taken_at < last {
                // Its clock was set back: what came before has times that mean nothing now.
                let streak = self.streak.take();
                *self = Self { streak, ..Self::default() };
            } else if self.is_broken_off {
                // How long it was silent is not how far apart its samples are, and what came before
                // cannot be compared with what comes now as if it were one time.
                self.cells.clear();
            } else {
                let gap = Duration::try_from(taken_at.duration_since(last)).unwrap_or_default();
                self.gap = gap.max(self.gap * 3 / 4).min(KEPT);
            }
        }
        self.is_broken_off = false;
        match &mut self.streak {
            Some(streak) if streak.value == watts => {
                streak.samples = streak.samples.saturating_add(1);
                if let Some((_, samples)) = &mut streak.changed {
                    *samples = samples.saturating_add(1);
                }
            }
            streak => {
                *streak = Some(Streak::new(watts, 1));
            }
        }
        match self.cells.back_mut() {
            Some(cell) if since(cell.first, taken_at) < CELL => {
                cell.last = taken_at;
                cell.extremes.low = cell.extremes.low.min(watts);
                cell.extremes.high = cell.extremes.high.max(watts);
                cell.extremes.count += 1;
            }
            _ => {
                let extremes = Extremes { low: watts, high: watts, count: 1 };
                self.cells.push_back(Cell { first: taken_at, last: taken_at, extremes });
            }
        }
        let is_old = |cell: &Cell| since(cell.last, taken_at) > KEPT;
        while self.cells.len() > CELLS || self.cells.front().is_some_and(is_old) {
            self.cells.pop_front();
        }
        true
    }

    /// Forgets the samples of a fault that is over. The streak is about the present value.
    pub(super) fn forget(&mut self) {
        self.cells.drain(..self.cells.len().saturating_sub(1));
    }

    /// Forgets what was known to be drawn while one value was repeated: it was counted by other figures.
    pub(super) fn recount(&mut self) {
        if let Some(streak) = &mut self.streak {
            (streak.known, streak.since, streak.changed) = (None, None, None);
        }
    }

    /// The meter falls silent.
    pub(super) fn break_off(&mut self) {
        self.is_broken_off = true;
    }

    /// Takes up, after a start, that the meter was frozen at `value`.
    pub(super) fn freeze(&mut self, value: Watts) {
        self.streak = Some(Streak { is_frozen: true, ..Streak::new(value, 0) });
    }

    /// How far apart samples are; zero before the second.
    pub(super) fn gap(&self) -> Duration {
        self.gap
    }

    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.cells.back().map(|cell| cell.last)
    }

    pub(super) fn streak(&mut self) -> Option<&mut Streak> {
        self.streak.as_mut()
    }

    /// The time up to the newest sample in which all samples were at most `level`, followed back for
    /// `most` at the longest.
    pub(super) fn below(&self, level: Watts, most: Duration) -> Option<Within> {
        let newest = self.newest()?;
        // A cell of which a part was higher is left out; then only the newest sample counts.
        let low = self.cells.iter().rev().take_while(|cell| cell.extremes.high <= level);
        let mut within = Within { from: newest, to: newest, is_older: false };
        for cell in low {
            if since(cell.first, newest) > most {
                within.is_older = true;
                break;
            }
            within.from = cell.first;
        }
        Some(within)
    }

    /// Whether the samples reach back from `to` for about the time `window`.
    pub(super) fn spans(&self, to: Timestamp, window: Duration) -> bool {
        let first = self.cells.front().map(|cell| cell.first);
        first.is_some_and(|first| since(first, to) + self.gap >= window)
    }

    /// The extremes of the samples in the time `window` up to `to`.
    pub(super) fn extremes(&self, to: Timestamp, window: Duration) -> Option<Extremes> {
        let from = earlier(to, window);
        let cells = self.cells.iter().rev().skip_while(|cell| cell.first > to);
        let inside = cells.take_while(|cell| cell.last >= from);
        inside.map(|cell| cell.extremes).reduce(|sum, cell| Extremes {
            low: sum.low.min(cell.low),
            high: sum.high.max(cell.high),
            count: sum.count.saturating_add(cell.count),
        })
    }
}

impl Streak {
    fn new(value: Watts, samples: u32) -> Self {
        Self { value, samples, known: None, since: None, changed: None, is_frozen: false }
    }
}

impl Extremes {
    pub(super) fn middle(&self) -> Watts {
        Watts(i64::midpoint(self.low.0, self.high.0))
    }
}

/// From `from` to `to`; zero if that is negative.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
