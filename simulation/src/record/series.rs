//! A power over time: constant between its changes, so that sums, extremes and the times above a
//! limit are exact.

use std::time::Duration;

use directive::Watts;

/// A power that changes in steps. Before its first step it is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    steps: Vec<(Duration, Watts)>,
}

/// An interval of time, its end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Duration,
    pub to: Duration,
}

impl Span {
    #[must_use]
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }

    /// What lies in both.
    #[must_use]
    pub fn overlap(&self, other: Self) -> Option<Self> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (from < to).then_some(Self { from, to })
    }
}

impl Series {
    /// A power that never changes.
    #[must_use]
    pub fn constant(watts: Watts) -> Self {
        Self { steps: vec![(Duration::ZERO, watts)] }
    }

    /// From `at` on it is `watts`. Times do not run backward.
    pub fn set(&mut self, at: Duration, watts: Watts) {
        debug_assert!(self.steps.last().is_none_or(|(last, _)| *last <= at), "time runs forward");
        if self.last() == watts && !self.steps.is_empty() {
            return;
        }
        match self.steps.last_mut() {
            Some(last) if last.0 == at => last.1 = watts,
            _ => self.steps.push((at, watts)),
        }
    }

    /// Changes it by `change` from `at` on.
    pub fn add(&mut self, at: Duration, change: Watts) {
        self.set(at, self.last() + change);
    }

    /// Its newest value.
    #[must_use]
    pub fn last(&self) -> Watts {
        self.steps.last().map_or(Watts::ZERO, |(_, watts)| *watts)
    }

    #[must_use]
    pub fn at(&self, at: Duration) -> Watts {
        match self.steps.partition_point(|(from, _)| *from <= at) {
            0 => Watts::ZERO,
            next => self.steps[next - 1].1,
        }
    }

    #[must_use]
    pub fn steps(&self) -> &[(Duration, Watts)] {
        &self.steps
    }

    /// Its largest value in `span`; at its beginning if the span is empty.
    #[must_use]
    pub fn max(&self, span: Span) -> Watts {
        self.values(span).max().unwrap_or_default()
    }

    /// Its smallest value in `span`; at its beginning if the span is empty.
    #[must_use]
    pub fn min(&self, span: Span) -> Watts {
        self.values(span).min().unwrap_or_default()
    }

    fn values(&self, span: Span) -> impl Iterator<Item = Watts> {
        let next = self.steps.partition_point(|(from, _)| *from <= span.from);
        let inside = self.steps[next..].iter().take_while(move |(from, _)| *from < span.to);
        std::iter::once(self.at(span.from)).chain(inside.map(|(_, watts)| *watts))
    }

    /// The series of what `combine` returns at every instant for the power of this series and that
    /// of `other`.
    #[must_use]
    pub fn with(&self, other: &Self, combine: impl Fn(Watts, Watts) -> Watts) -> Self {
        let mut all = Self::default();
        let (mut left, mut right) = (0, 0);
        let (mut a, mut b) = (Watts::ZERO, Watts::ZERO);
        loop {
            let next =
                |steps: &[(Duration, Watts)], index: usize| steps.get(index).map(|step| step.0);
            let (of_left, of_right) = (next(&self.steps, left), next(&other.steps, right));
            let Some(at) = of_left.into_iter().chain(of_right).min() else { return all };
            if of_left == Some(at) {
                a = self.steps[left].1;
                left += 1;
            }
            if of_right == Some(at) {
                b = other.steps[right].1;
                right += 1;
            }
            all.set(at, combine(a, b));
        }
    }

    /// The spans up to `end` in which it is above `limit`.
    #[must_use]
    pub fn above(&self, limit: Watts, end: Duration) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (index, (from, watts)) in self.steps.iter().enumerate() {
            let to = self.steps.get(index + 1).map_or(end, |next| next.0).min(end);
            if *watts <= limit || *from >= to {
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.to == *from => last.to = to,
                _ => spans.push(Span { from: *from, to }),
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn series(steps: &[(u64, i64)]) -> Series {
        let mut series = Series::default();
        steps.iter().for_each(|(at, watts)| series.set(secs(*at), Watts(*watts)));
        series
    }

    #[test]
    fn a_series_has_the_value_of_its_newest_step() {
        let power = series(&[(10, 5), (20, 7), (20, 8), (30, 8)]);
        assert_eq!(power.steps().len(), 2);
        for (at, watts) in [(0, 0), (10, 5), (19, 5), (20, 8), (99, 8)] {
            assert_eq!(power.at(secs(at)), Watts(watts), "at {at}");
        }
        let span = Span { from: secs(12), to: secs(20) };
        assert_eq!((power.min(span), power.max(span)), (Watts(5), Watts(5)), "its end is excluded");
        assert_eq!(power.max(Span { from: secs(12), to: secs(21) }), Watts(8));
    }

    #[test]
    fn times_above_a_limit_are_joined() {
        let power = series(&[(0, 1), (10, 5), (15, 6), (20, 2), (30, 9)]);
        let spans = power.above(Watts(4), secs(40));
        let of = |from, to| Span { from: secs(from), to: secs(to) };
        assert_eq!(spans, [of(10, 20), of(30, 40)]);
    }

    #[test]
    fn two_series_are_combined_at_every_change() {
        let load = series(&[(0, 10), (10, 20)]);
        let tenant = series(&[(5, 4), (10, 6)]);
        assert_eq!(load.with(&tenant, |a, b| a - b), series(&[(0, 10), (5, 6), (10, 14)]));
    }
}
