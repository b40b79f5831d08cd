//! A lane as its sessions see it: the newest work, and who is told when there is newer.
//!
//! One rendering serves everybody on the lane, at most 256 sessions. A session that is still writing the former job skips
//! to the newest; nothing is queued.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::mailbox::Signal;
use crate::sessions::SessionHandle;
use crate::work::LaneWork;

/// What a lane tells the sessions on it.
#[derive(Debug, Clone)]
pub(crate) enum LaneState {
    /// Work on this.
    Work(Arc<LaneWork>),
    /// Take another seat if there is one: the job at hand is one that somebody here has had.
    Refresh,
    /// Take another seat: this one is no more.
    Vacate,
}

/// One lane of one connection.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Counts what was said; with it the newest.
    state: Mutex<(u64, LaneState)>,
    /// Apart from the state: whoever is told reads that at once.
    told: Mutex<Vec<Arc<SessionHandle>>>,
}

/// A seat's view of its lane. Dropping it ends the telling.
#[derive(Debug)]
pub(crate) struct LaneView {
    lane: Arc<Lane>,
    seen: u64,
    /// The session that is told; none has the number 0.
    session: u64,
}

impl Lane {
    /// A lane that has nothing to give yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((1, LaneState::Vacate)), told: Mutex::default() })
    }

    /// Replaces what the lane says and tells everybody on it.
    pub(crate) fn publish(&self, state: LaneState) {
        self.say(state);
        for session in &*self.told.lock() {
            session.mailbox.signal(Signal::Lane);
        }
    }

    /// Replaces what the lane says, and adds to `untold` who is to be told.
    pub(crate) fn announce(&self, state: LaneState, untold: &mut Vec<Arc<SessionHandle>>) {
        self.say(state);
        untold.extend(self.told.lock().iter().cloned());
    }

    fn say(&self, state: LaneState) {
        let mut current = self.state.lock();
        current.0 += 1;
        current.1 = state;
    }

    /// Looks at what it says just now.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&LaneState) -> T) -> T {
        look(&self.state.lock().1)
    }

    /// Opens a view, to which what the lane says now is new.
    pub(crate) fn view(self: &Arc<Self>) -> LaneView {
        LaneView { lane: self.clone(), seen: 0, session: 0 }
    }
}

impl LaneView {
    /// Has `session` told of what the lane says from now on.
    pub(crate) fn tell(&mut self, session: &Arc<SessionHandle>) {
        self.session = session.number;
        self.lane.told.lock().push(session.clone());
    }

    /// Whether the lane has said something since [`Self::take`].
    pub(crate) fn has_changed(&self) -> bool {
        self.lane.state.lock().0 != self.seen
    }

    /// Takes what the lane says.
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
        if let Some(index) = told.iter().position(|session| session.number == self.session) {
            told.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::tests::handle;

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
}
