//! A mailbox for each session, in which pools' verdicts and signals about changes are left.
//!
//! A session's task waits on one waker for everything. A [`Mailbox`] takes sixty bytes; a channel
//! for each kind of message would take a kilobyte. It carries no state: a session that is signalled
//! reads the changed state itself.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;

use crate::outcome::PoolVerdict;

/// Messages for one session, and the waker of its task.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waker: AtomicWaker,
    signals: AtomicU8,
    /// Verdicts that were not taken yet. Their number is bounded by the session's forwarded
    /// submits, each of which brings one verdict.
    verdicts: Mutex<Vec<PoolVerdict>>,
}

/// A change that a session must handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Signal {
    /// The session's directions have changed.
    Directions = 1,
    /// The session's lane has an announcement.
    Lane = 2,
    /// Something is due in the session because time has passed.
    Time = 4,
    /// The proxy is shutting down.
    Shutdown = 8,
}

/// The signals left since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Signals(u8);

impl Signals {
    pub(crate) fn has(self, signal: Signal) -> bool {
        self.0 & signal as u8 != 0
    }
}

impl Mailbox {
    /// Leaves a signal, and wakes the session.
    pub(crate) fn signal(&self, signal: Signal) {
        // If the signal is still set, the session was already woken and has not read it yet.
        if self.signals.fetch_or(signal as u8, Ordering::AcqRel) & signal as u8 == 0 {
            self.waker.wake();
        }
    }

    /// Leaves a pool's verdict on a share, and wakes the session.
    pub(crate) fn verdict(&self, verdict: PoolVerdict) {
        let mut verdicts = self.verdicts.lock();
        if verdicts.is_empty() {
            // A verdict is mostly taken before the next one comes.
            verdicts.reserve_exact(1);
        }
        verdicts.push(verdict);
        let first = verdicts.len() == 1;
        drop(verdicts);
        if first {
            self.waker.wake();
        }
    }

    /// Registers `waker`, which is woken by everything left from now on. Call [`Self::take`] after
    /// this, not before.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes out what was left.
    pub(crate) fn take(&self) -> (Signals, Vec<PoolVerdict>) {
        let signals = Signals(self.signals.swap(0, Ordering::AcqRel));
        (signals, std::mem::take(&mut *self.verdicts.lock()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;
    use crate::outcome::PoolOutcome;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn verdict(ticket: u32) -> PoolVerdict {
        PoolVerdict { ticket, outcome: PoolOutcome::Accepted }
    }

    #[test]
    fn what_is_left_before_a_look_wakes_once() {
        let woken = Arc::new(Woken::default());
        let mailbox = Mailbox::default();
        mailbox.register(&woken.clone().into());
        mailbox.signal(Signal::Lane);
        mailbox.signal(Signal::Lane);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        mailbox.register(&woken.clone().into());
        mailbox.verdict(verdict(1));
        mailbox.verdict(verdict(2));
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        let (signals, verdicts) = mailbox.take();
        assert!(signals.has(Signal::Lane) && !signals.has(Signal::Directions));
        assert_eq!(verdicts, [verdict(1), verdict(2)]);
        assert_eq!(mailbox.take(), (Signals::default(), Vec::new()));
    }

    /// A message that arrives between the last check and the sleep still wakes the session. The
    /// sender leaves two at a time and waits until both were taken, so that each pair finds the
    /// receiver about to sleep.
    #[test]
    fn no_word_is_lost_between_threads() {
        const ALL: usize = 20_000;
        let (mailbox, taken) = (Arc::new(Mailbox::default()), Arc::new(AtomicUsize::new(0)));
        let (told, heard) = (mailbox.clone(), taken.clone());
        let telling = std::thread::spawn(move || {
            for pair in 0..ALL / 2 {
                told.verdict(verdict(0));
                told.verdict(verdict(1));
                while heard.load(Ordering::SeqCst) < 2 * pair + 2 {
                    std::thread::yield_now();
                }
            }
        });
        let woken = Arc::new(Woken::default());
        while taken.load(Ordering::SeqCst) < ALL {
            let seen = woken.0.load(Ordering::SeqCst);
            mailbox.register(&woken.clone().into());
            let some = mailbox.take().1.len();
            let all = taken.fetch_add(some, Ordering::SeqCst) + some;
            let asleep = daemon::clock::now();
            while all < ALL && woken.0.load(Ordering::SeqCst) == seen {
                let slept = daemon::clock::now().duration_since(asleep);
                assert!(
                    slept < std::time::Duration::from_secs(20),
                    "slept over a verdict: {all} taken"
                );
                std::thread::yield_now();
            }
        }
        telling.join().expect("no panic");
    }
}
