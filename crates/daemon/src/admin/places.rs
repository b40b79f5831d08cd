//! The places of a listener: how many connections it keeps, and which connection loses its place to
//! a new one when all are taken. A caller that only keeps its connection open cannot lock others
//! out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{CONNECTIONS_KEPT, CONNECTIONS_MAX};

/// How long a caller may take to send the rest of its request, or to read the answer, before a new
/// connection may take its place.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// All places of a listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    held: BTreeMap<u64, (Progress, CancellationToken)>,
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    places: Places,
    pub(super) progress: Progress,
    /// Cancelled when the place was given to another connection.
    pub(super) lost: CancellationToken,
}

impl Places {
    /// Gives a new connection a place, if necessary that of the connection that has kept us waiting
    /// the longest. Returns `None` if all places are in use. A few extra places are reserved for
    /// callers on this machine.
    pub(super) fn take(&self, is_local: bool, now: Instant) -> Option<Place> {
        let mut table = self.lock();
        if table.held.len() >= CONNECTIONS_MAX && !table.make_room(now) {
            let most = CONNECTIONS_MAX + CONNECTIONS_KEPT;
            if !is_local || table.held.len() >= most {
                return None;
            }
        }
        let number = table.next;
        table.next += 1;
        let (progress, lost) = (Progress::new(), CancellationToken::new());
        table.held.insert(number, (progress.clone(), lost.clone()));
        drop(table);
        Some(Place { number, places: self.clone(), progress, lost })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Frees the place of the connection that has been idle the longest or, if none is idle, of the
    /// one that has been slow the longest with its request or with reading. Returns whether there
    /// was one.
    fn make_room(&mut self, now: Instant) -> bool {
        let longest = self
            .held
            .iter()
            .filter_map(|(number, (progress, _))| Some((progress.claim(now)?, *number)))
            .min();
        let Some((_, number)) = longest else { return false };
        if let Some((_, lost)) = self.held.remove(&number) {
            lost.cancel();
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().held.remove(&self.number);
    }
}

/// The step of its request that a connection has reached. The connection records it; [`Places`]
/// reads it.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<Step>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing was read since the connection was accepted, or since the last answer: a request may
    /// be waiting in the socket.
    Fresh,
    /// No request has begun, or only a part of its head has come.
    Idle { since: Instant },
    /// The body of a request is being received.
    Body { since: Instant },
    /// The request is complete, and the answer is being made.
    Working,
    /// The answer is being written. A stream has no known length, and may be read for as long as it
    /// lasts.
    Answer { since: Instant, is_stream: bool, has_ended: bool },
}

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Step::Fresh)))
    }

    fn lock(&self) -> MutexGuard<'_, Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that the caller has sent was read.
    pub(super) fn read_all(&self, now: Instant) {
        let mut step = self.lock();
        if *step == Step::Fresh {
            *step = Step::Idle { since: now };
        }
    }

    /// The head of a request was received.
    pub(super) fn request(&self, has_body: bool, now: Instant) {
        *self.lock() = if has_body { Step::Body { since: now } } else { Step::Working };
    }

    /// The body was read, or the handler does not need the rest of it.
    pub(super) fn body_ended(&self) {
        let mut step = self.lock();
        if matches!(*step, Step::Body { .. }) {
            *step = Step::Working;
        }
    }

    /// The head of the answer was made.
    pub(super) fn answer(&self, is_stream: bool, now: Instant) {
        *self.lock() = Step::Answer { since: now, is_stream, has_ended: false };
    }

    /// The whole body of the answer was passed to hyper for writing.
    pub(super) fn answer_ended(&self) {
        if let Step::Answer { has_ended, .. } = &mut *self.lock() {
            *has_ended = true;
        }
    }

    /// Everything passed to hyper was written to the socket.
    pub(super) fn flushed(&self) {
        let mut step = self.lock();
        if matches!(*step, Step::Answer { has_ended: true, .. }) {
            *step = Step::Fresh;
        }
    }

    /// Whether a new connection may take this place, and since when. The connection with the
    /// smallest value loses its place first.
    fn claim(&self, now: Instant) -> Option<(bool, Instant)> {
        match *self.lock() {
            Step::Idle { since } => Some((false, since)),
            Step::Body { since } | Step::Answer { since, is_stream: false, .. } => {
                (now.saturating_duration_since(since) >= PATIENCE).then_some((true, since))
            }
            Step::Fresh | Step::Working | Step::Answer { is_stream: true, .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Fills all places: connections made one after the other, a millisecond apart.
    fn full(places: &Places, start: Instant) -> Vec<Place> {
        (0..CONNECTIONS_MAX)
            .map(|n| {
                let now = start + Duration::from_millis(n as u64);
                let place = places.take(false, now).expect("there is room");
                place.progress.read_all(now);
                place
            })
            .collect()
    }

    fn lost(held: &[Place]) -> Vec<usize> {
        (0..held.len()).filter(|n| held[*n].lost.is_cancelled()).collect()
    }

    #[test]
    fn the_longest_idle_give_way_first() {
        let (places, start) = (Places::default(), clock::now());
        let held = full(&places, start);
        let now = start + Duration::from_millis(500);
        // The first two have an unfinished request; the third has just been answered.
        held[0].progress.request(false, now);
        held[1].progress.request(true, now);
        held[2].progress.request(false, now);
        held[2].progress.answer(false, now);
        held[2].progress.answer_ended();
        held[2].progress.flushed();
        held[2].progress.read_all(now);
        let newcomers: Vec<Place> =
            (0..3).map(|_| places.take(false, now).expect("one gives way")).collect();
        assert_eq!(lost(&held), [3, 4, 5]);
        assert_eq!(places.lock().held.len(), CONNECTIONS_MAX);
        drop(held);
        assert_eq!(places.lock().held.len(), newcomers.len(), "a lost place is left only once");
        drop(newcomers);
        assert_eq!(places.lock().held.len(), 0);
    }

    #[test]
    fn who_is_slow_with_a_request_gives_way_after_the_idle() {
        let (places, start) = (Places::default(), clock::now());
        let held = full(&places, start);
        for place in &held {
            place.progress.request(false, start);
        }
        held[10].progress.request(true, start);
        held[20].progress.answer(false, start + PATIENCE / 2);
        held[30].progress.answer(true, start);
        held[40].progress.answer(false, start);
        held[40].progress.answer_ended();
        held[40].progress.flushed();
        held[40].progress.read_all(start + PATIENCE / 2);
        held[60].progress.answer(false, start);
        held[60].progress.answer_ended();
        held[60].progress.flushed();
        held[50].progress.request(true, start);
        held[50].progress.body_ended();
        let soon = start + PATIENCE - Duration::from_millis(1);
        let first = places.take(false, soon).expect("the idle one gives way");
        first.progress.request(false, soon);
        assert_eq!(lost(&held), [40]);
        assert!(places.take(false, soon).is_none(), "nobody is slow yet");
        let late = start + PATIENCE * 2;
        for want in [&[10, 40][..], &[10, 20, 40]] {
            let next = places.take(false, late).expect("the slow one gives way");
            next.progress.request(false, late);
            assert_eq!(lost(&held), want);
            std::mem::forget(next);
        }
        assert!(
            places.take(false, late).is_none(),
            "the others wait for us, stream, or may have sent more"
        );
    }

    #[test]
    fn a_few_places_are_kept_for_this_machine() {
        let (places, now) = (Places::default(), clock::now());
        let busy = |is_local| {
            let place = places.take(is_local, now)?;
            place.progress.request(false, now);
            Some(place)
        };
        let held: Vec<Place> = std::iter::from_fn(|| busy(false)).take(1000).collect();
        assert_eq!(held.len(), CONNECTIONS_MAX);
        let kept: Vec<Place> = std::iter::from_fn(|| busy(true)).take(1000).collect();
        assert_eq!(kept.len(), CONNECTIONS_KEPT);
        drop(held);
        assert!(busy(false).is_some());
    }
}
