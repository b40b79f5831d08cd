//! A lane, as its sessions use it: the newest work, and which sessions are notified of newer work.
//!
//! A job is rendered once for all sessions on the lane, at most 256. A session that is still
//! writing an older job skips to the newest; nothing is queued.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::handle::SessionHandle;
use crate::mailbox::Signal;
use crate::work::LaneWork;

/// What a lane announces to the sessions on it.
#[derive(Debug, Clone)]
pub(crate) enum LaneState {
    Work(Arc<LaneWork>),
    /// Take another seat if there is one, because a session on this lane has had the current job
    /// before.
    Refresh,
    /// Take another seat, because the lane no longer exists.
    Vacate,
}

/// One lane of one connection.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The newest announcement, and how many there have been.
    state: Mutex<(u64, LaneState)>,
    /// The sessions of the lane. They have a lock of their own, because a session that is notified
    /// reads the announcement at once.
    told: Mutex<Told>,
}

/// The sessions that are notified of a lane's announcements.
#[derive(Debug, Default)]
struct Told {
    sessions: Vec<Arc<SessionHandle>>,
    /// How many sessions, from the front of the list, have not been notified yet.
    left: usize,
}

/// Lanes on which sessions have to be notified.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    pub(crate) lanes: Vec<Arc<Lane>>,
    /// How many sessions have to be notified.
    pub(crate) sessions: usize,
}

impl Untold {
    /// Announces something on a lane, and records that the sessions on it must be notified.
    pub(crate) fn announce(&mut self, lane: &Arc<Lane>, state: LaneState) {
        let sessions = lane.announce(state);
        if sessions > 0 {
            self.lanes.push(lane.clone());
            self.sessions += sessions;
        }
    }
}

/// A seat's view of its lane. Dropping it ends the notifications.
#[derive(Debug)]
pub(crate) struct LaneView {
    lane: Arc<Lane>,
    seen: u64,
    /// The number of the session that is notified; 0 if there is none.
    session: u64,
}

impl Lane {
    /// A lane that has no work yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((1, LaneState::Vacate)), told: Mutex::default() })
    }

    /// Replaces the announcement and notifies all sessions on the lane.
    pub(crate) fn publish(&self, state: LaneState) {
        self.say(state);
        let sessions = self.told.lock().sessions.clone();
        for session in sessions {
            session.mailbox.signal(Signal::Lane);
        }
    }

    /// Replaces the announcement. The caller must see to it that [`Self::next_to_tell`] is called
    /// for all sessions on the lane. Returns the number of these sessions, or 0 if another caller
    /// is already notifying them.
    fn announce(&self, state: LaneState) -> usize {
        self.say(state);
        let mut told = self.told.lock();
        let all = told.sessions.len();
        let former = std::mem::replace(&mut told.left, all);
        if former == 0 { all } else { 0 }
    }

    /// Returns the next session to be notified.
    pub(crate) fn next_to_tell(&self) -> Option<Arc<SessionHandle>> {
        let mut told = self.told.lock();
        // From the last to the first: when a session leaves, the last one takes its place, and that
        // one has been notified already. This must also work when all have left: a lane that
        // counted as being notified but stood in no queue would never be notified again.
        let left = told.left.min(told.sessions.len());
        told.left = left.saturating_sub(1);
        (left > 0).then(|| told.sessions[told.left].clone())
    }

    fn say(&self, state: LaneState) {
        let mut current = self.state.lock();
        current.0 += 1;
        current.1 = state;
    }

    /// Returns the present announcement without taking it.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&LaneState) -> T) -> T {
        look(&self.state.lock().1)
    }

    /// Opens a view that has not taken the present announcement yet.
    pub(crate) fn view(self: &Arc<Self>) -> LaneView {
        LaneView { lane: self.clone(), seen: 0, session: 0 }
    }
}

impl LaneView {
    /// Notifies `session` of the lane's announcements from now on.
    pub(crate) fn tell(&mut self, session: &Arc<SessionHandle>) {
        self.session = session.number;
        self.lane.told.lock().sessions.push(session.clone());
    }

    /// Whether there was an announcement since [`Self::take`].
    pub(crate) fn has_changed(&self) -> bool {
        self.lane.state.lock().0 != self.seen
    }

    /// Takes the current announcement.
    pub(crate) fn take(&mut self) -> LaneState {
        let state = self.lane.state.lock();
        self.seen = state.0;
        state.1.clone()
    }
}

impl Drop for LaneView {
    fn drop(&mut self) {
        if self.session == 0 {
            return;
        }
        let mut told = self.lane.told.lock();
        if let Some(index) = told.sessions.iter().position(|session| session.number == self.session)
        {
            told.sessions.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handle::tests::handle;

    #[test]
    fn who_sits_on_a_lane_is_told_until_it_leaves() {
        let lane = Lane::new();
        let (one, other) = (handle(1), handle(2));
        let mut view = lane.view();
        view.tell(&one);
        let mut gone = lane.view();
        gone.tell(&other);
        assert!(view.has_changed(), "what it says is new to who comes");
        assert!(matches!(view.take(), LaneState::Vacate) && !view.has_changed());
        drop(gone);
        lane.publish(LaneState::Refresh);
        assert!(one.mailbox.take().0.has(Signal::Lane) && view.has_changed());
        assert!(!other.mailbox.take().0.has(Signal::Lane));
    }

    /// If all sessions leave a lane during a notification, later ones are still notified.
    #[test]
    fn a_lane_that_all_have_left_meanwhile_is_told_of_again() {
        for after in 0..3 {
            let lane = Lane::new();
            let mut views: Vec<_> = (0..3).map(|_| lane.view()).collect();
            for (view, number) in views.iter_mut().zip(1..) {
                view.tell(&handle(number));
            }
            assert_eq!(lane.announce(LaneState::Refresh), 3);
            assert_eq!((0..after).filter_map(|_| lane.next_to_tell()).count(), after);
            views.clear();
            assert!(lane.next_to_tell().is_none());
            let mut comes = lane.view();
            comes.tell(&handle(4));
            assert_eq!(lane.announce(LaneState::Refresh), 1, "after {after}");
            assert_eq!(lane.next_to_tell().map(|one| one.number), Some(4));
        }
    }

    /// While sessions are notified one by one, others leave and join and the lane announces more:
    /// no session is skipped.
    #[test]
    fn whoever_leaves_meanwhile_nobody_is_passed_over() {
        for leaver in 0..6 {
            for after in 0..6 {
                let lane = Lane::new();
                let sessions: Vec<_> = (1..=6).map(handle).collect();
                let mut views: Vec<_> = sessions.iter().map(|_| Some(lane.view())).collect();
                for (view, session) in views.iter_mut().flatten().zip(&sessions) {
                    view.tell(session);
                }
                assert_eq!(lane.announce(LaneState::Refresh), 6);
                let mut told: Vec<u64> =
                    (0..after).filter_map(|_| lane.next_to_tell()).map(|one| one.number).collect();
                views[leaver] = None;
                let again = lane.announce(LaneState::Refresh);
                assert_eq!(again, 0, "it is being told of already");
                told.clear();
                told.extend(std::iter::from_fn(|| lane.next_to_tell()).map(|one| one.number));
                told.sort_unstable();
                let there: Vec<u64> =
                    (1..=6).filter(|number| *number != leaver as u64 + 1).collect();
                assert_eq!(told, there, "{leaver} left after {after}");
                assert_eq!(lane.announce(LaneState::Refresh), 5);
                drop(lane.next_to_tell());
                views[(leaver + 1) % 6] = None;
                let mut rest: Vec<u64> =
                    std::iter::from_fn(|| lane.next_to_tell()).map(|one| one.number).collect();
                rest.dedup();
                assert!(rest.len() >= 3, "{rest:?}");
            }
        }
    }

    /// What may happen to a lane and five sessions, in any order.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Comes(usize),
        Leaves(usize),
        /// The session runs, for any reason, and takes the announcement.
        Looks(usize),
        Announce,
        Publish,
        /// The executor notifies the next.
        Tell,
    }

    proptest! {
        /// When all notifications are done, each session without the newest announcement has been
        /// woken for it.
        #[test]
        fn nobody_sleeps_over_what_its_lane_says(
            steps in proptest::collection::vec(
                prop_oneof![
                    2 => (0..5usize).prop_map(Step::Comes),
                    3 => (0..5usize).prop_map(Step::Leaves),
                    1 => (0..5usize).prop_map(Step::Looks),
                    2 => Just(Step::Announce),
                    1 => Just(Step::Publish),
                    3 => Just(Step::Tell),
                ],
                1..60,
            )
        ) {
            let lane = Lane::new();
            let handles: Vec<_> = (1..=5).map(handle).collect();
            let mut views: Vec<Option<LaneView>> = (0..5).map(|_| None).collect();
            let mut queued = 0;
            let tell = |queued: &mut u32| match lane.next_to_tell() {
                Some(session) => session.mailbox.signal(Signal::Lane),
                None => *queued -= 1,
            };
            for step in steps {
                match step {
                    Step::Comes(who) => {
                        let view = views[who].get_or_insert_with(|| {
                            let mut view = lane.view();
                            view.tell(&handles[who]);
                            view
                        });
                        view.take();
                    }
                    Step::Leaves(who) => views[who] = None,
                    Step::Looks(who) => {
                        handles[who].mailbox.take();
                        if let Some(view) = &mut views[who] {
                            view.take();
                        }
                    }
                    Step::Announce => queued += u32::from(lane.announce(LaneState::Refresh) > 0),
                    Step::Publish => lane.publish(LaneState::Refresh),
                    Step::Tell if queued > 0 => tell(&mut queued),
                    Step::Tell => {}
                }
            }
            while queued > 0 {
                tell(&mut queued);
            }
            for (view, handle) in views.iter().zip(&handles) {
                let asleep = !handle.mailbox.take().0.has(Signal::Lane);
                prop_assert!(!(asleep && view.as_ref().is_some_and(LaneView::has_changed)), "{}", handle.number);
            }
        }
    }
}
