//! The list of live sessions, used to signal them and to show them in the API.
//!
//! The map holds handles. It is touched when a session joins or leaves, never per share; views are
//! made on request.

pub(crate) mod metrics;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::handle::{ConfiguredNames, SessionHandle, SessionView};
use crate::mailbox::Signal;

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_number: DashMap<u64, Arc<SessionHandle>>,
    user_agents: Mutex<HashSet<Arc<str>>>,
    /// How many sessions have been entered since the start.
    entered: AtomicU64,
}

/// Maximum number of user agents whose text is shared between sessions. A fleet has a handful;
/// beyond this number each session keeps a copy of its own.
const USER_AGENTS_MAX: usize = 256;

impl Sessions {
    /// Adds a session; dropping the entry removes it.
    pub(crate) fn enter(self: &Arc<Self>, handle: Arc<SessionHandle>) -> SessionEntry {
        self.by_number.insert(handle.number, handle.clone());
        self.entered.fetch_add(1, Ordering::Relaxed);
        SessionEntry { handle, sessions: self.clone() }
    }

    /// Returns the text of a user agent. Sessions with the same one share it, up to
    /// `USER_AGENTS_MAX` different texts.
    pub(crate) fn user_agent(&self, text: Box<str>) -> Arc<str> {
        let mut known = self.user_agents.lock();
        if let Some(shared) = known.get(&*text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        if known.len() < USER_AGENTS_MAX {
            known.insert(shared.clone());
        }
        shared
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// How many sessions have been entered since the start.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Calls `look` for every session.
    pub(crate) fn each(&self, mut look: impl FnMut(&SessionHandle)) {
        for entry in &self.by_number {
            look(entry.value());
        }
    }

    /// Signals every session.
    pub(crate) fn signal_all(&self, signal: Signal) {
        self.each(|session| session.mailbox.signal(signal));
    }

    /// Signals the sessions for which something is due.
    pub(crate) fn signal_due(&self, now_ms: u64) {
        self.each(|session| {
            if session.is_due(now_ms) {
                session.mailbox.signal(Signal::Time);
            }
        });
    }

    /// Returns handles to every session, so that the caller can look at them without blocking
    /// sessions that join and leave.
    pub(crate) fn handles(&self) -> Vec<Arc<SessionHandle>> {
        self.by_number.iter().map(|entry| entry.value().clone()).collect()
    }

    /// The views of all sessions, ordered by number.
    pub(crate) fn views(&self, names: &ConfiguredNames) -> Vec<SessionView> {
        let mut handles = self.handles();
        handles.sort_unstable_by_key(|handle| handle.number);
        handles.iter().map(|handle| handle.view(names)).collect()
    }
}

/// A session's entry in [`Sessions`].
#[derive(Debug)]
pub(crate) struct SessionEntry {
    pub(crate) handle: Arc<SessionHandle>,
    sessions: Arc<Sessions>,
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        self.sessions.by_number.remove(&self.handle.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::tests::handle;
    use crate::target::TargetId;

    #[test]
    fn only_sessions_with_something_due_are_told_of_the_time() {
        let sessions = Arc::new(Sessions::default());
        let (early, late, idle) = (handle(1), handle(2), handle(3));
        let _entries = [&early, &late, &idle].map(|handle| sessions.enter(handle.clone()));
        early.wake_at(1000);
        late.wake_at(1001);
        sessions.signal_due(1000);
        assert!(early.mailbox.take().0.has(Signal::Time));
        assert!(
            !late.mailbox.take().0.has(Signal::Time) && !idle.mailbox.take().0.has(Signal::Time)
        );
    }

    #[test]
    fn a_session_that_ends_is_gone_from_the_list() {
        let sessions = Arc::new(Sessions::default());
        let entry = sessions.enter(handle(1));
        entry.handle.shown.lock().target = Some(TargetId::nth(1));
        let names =
            ConfiguredNames { targets: vec!["a".into(), "b".into()].into(), servers: vec![] };
        assert_eq!(sessions.views(&names)[0].target.as_deref(), Some("b"));
        drop(entry);
        assert_eq!(sessions.len(), 0);
    }
}
