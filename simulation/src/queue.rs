//! What is to happen, in order of virtual time. What is due at one time happens in the order in
//! which it was added, so that a run is the same at each replay.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    added: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    at: Duration,
    number: u64,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: BinaryHeap::new(), added: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn add(&mut self, at: Duration, what: T) {
        self.added += 1;
        self.waiting.push(Reverse(Waiting { at, number: self.added, what }));
    }

    /// When the next thing is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    pub(crate) fn take(&mut self) -> Option<(Duration, T)> {
        self.waiting.pop().map(|Reverse(waiting)| (waiting.at, waiting.what))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_equals_in_the_order_they_were_added() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b')] {
            queue.add(Duration::from_secs(at), what);
        }
        assert_eq!(queue.next(), Some(Duration::from_secs(3)));
        let taken: String = std::iter::from_fn(|| queue.take()).map(|(_, what)| what).collect();
        assert_eq!(taken, "abcd");
    }
}
