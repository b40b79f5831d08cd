//! The limit of a feed: one power, or a series of powers with the times from which they hold.

use directive::Watts;
use jiff::Timestamp;

/// The limit of a feed over time. Most feeds have one that never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limit {
    /// What holds before the first change.
    first: Watts,
    /// From when on another limit holds, in order. Each differs from the one before.
    changes: Vec<(Timestamp, Watts)>,
    highest: Watts,
    lowest: Watts,
}

/// A change of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    pub at: Timestamp,
    pub before: Watts,
    pub after: Watts,
}

impl LimitChange {
    /// Whether less may be drawn from then on.
    #[must_use]
    pub fn lowers(&self) -> bool {
        self.after < self.before
    }
}

impl From<Watts> for Limit {
    fn from(watts: Watts) -> Self {
        Self { first: watts, changes: Vec::new(), highest: watts, lowest: watts }
    }
}

impl Limit {
    /// `first` holds until the first of `later`, and each of these from its time on until the next.
    /// `None` if one of them is not later than the one before it.
    #[must_use]
    pub fn series(
        first: Watts,
        later: impl IntoIterator<Item = (Timestamp, Watts)>,
    ) -> Option<Self> {
        let mut limit = Self::from(first);
        let mut last = None;
        for (from, watts) in later {
            if last.is_some_and(|last| from <= last) {
                return None;
            }
            last = Some(from);
            if watts != limit.last() {
                limit.changes.push((from, watts));
            }
            limit.highest = limit.highest.max(watts);
            limit.lowest = limit.lowest.min(watts);
        }
        Some(limit)
    }

    /// Whether it changes at some time.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The limit at `at`.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Watts {
        if self.changes.is_empty() {
            return self.first;
        }
        let place = self.changes.partition_point(|(from, _)| *from <= at);
        place.checked_sub(1).map_or(self.first, |place| self.changes[place].1)
    }

    /// The highest limit of all times.
    #[must_use]
    pub fn highest(&self) -> Watts {
        self.highest
    }

    /// The lowest limit of all times.
    #[must_use]
    pub fn lowest(&self) -> Watts {
        self.lowest
    }

    /// The lowest limit from `from` until just before `to`; the limit at `from` if `to` is not later.
    #[must_use]
    pub fn lowest_within(&self, from: Timestamp, to: Timestamp) -> Watts {
        let inside = self.after(from).take_while(|change| change.at < to);
        inside.map(|change| change.after).min().unwrap_or(self.highest).min(self.at(from))
    }

    /// What holds before all changes.
    #[must_use]
    pub fn first(&self) -> Watts {
        self.first
    }

    /// The changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = LimitChange> + '_ {
        let before =
            std::iter::once(self.first).chain(self.changes.iter().map(|(_, watts)| *watts));
        let changes = self.changes.iter().zip(before);
        changes.map(|(&(at, after), before)| LimitChange { at, before, after })
    }

    /// The changes after `at`, in order.
    pub fn after(&self, at: Timestamp) -> impl Iterator<Item = LimitChange> + '_ {
        self.changes().skip(self.changes.partition_point(|(from, _)| *from <= at))
    }

    fn last(&self) -> Watts {
        self.changes.last().map_or(self.first, |(_, watts)| *watts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::at;

    fn derate() -> Limit {
        let later =
            [(at(10), Watts(45)), (at(20), Watts(45)), (at(30), Watts(70)), (at(40), Watts(60))];
        Limit::series(Watts(60), later).unwrap()
    }

    #[test]
    fn each_entry_holds_from_its_time_until_the_next() {
        let limit = derate();
        let values = [9, 10, 25, 29, 30, 40, 1000].map(|secs| limit.at(at(secs)).0);
        assert_eq!(values, [60, 45, 45, 45, 70, 60, 60]);
        assert_eq!((limit.highest(), limit.lowest()), (Watts(70), Watts(45)));
        assert!(limit.is_dated() && !Limit::from(Watts(5)).is_dated());
        assert_eq!(Limit::from(Watts(5)).at(at(1)), Watts(5));
    }

    #[test]
    fn an_entry_that_changes_nothing_is_no_change() {
        let limit = derate();
        let changes: Vec<_> = limit.changes().map(|change| (change.at, change.lowers())).collect();
        assert_eq!(changes, [(at(10), true), (at(30), false), (at(40), true)]);
        assert_eq!(limit.after(at(10)).next().map(|change| change.at), Some(at(30)));
        assert_eq!(limit.after(at(9)).next().map(|change| change.after), Some(Watts(45)));
    }

    #[test]
    fn the_lowest_within_a_span_counts_its_first_instant_and_not_its_last() {
        let lowest = |from, to| derate().lowest_within(at(from), at(to)).0;
        assert_eq!(lowest(0, 10), 60);
        assert_eq!(lowest(0, 11), 45);
        assert_eq!(lowest(29, 31), 45);
        assert_eq!(lowest(30, 40), 70);
        assert_eq!(lowest(30, 30), 70);
        assert_eq!(lowest(50, 0), 60);
    }

    #[test]
    fn times_that_do_not_rise_are_no_series() {
        assert!(Limit::series(Watts(1), [(at(5), Watts(2)), (at(5), Watts(3))]).is_none());
        assert!(Limit::series(Watts(1), [(at(5), Watts(2)), (at(4), Watts(3))]).is_none());
    }
}
