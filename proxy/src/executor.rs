//! Runs the sessions: one worker always, helpers when there is much to do at once.
//!
//! The worker is a task on the runtime of the miners, next to the tasks of the pools. A single
//! share is handled on the thread that waits for its socket, and wakes no other thread. But a new
//! job for ten thousand miners is ten thousand writes. Then the queue is long, and helper threads,
//! which otherwise sleep, work on it too.
//!
//! Sessions with a share or a verdict run first. Sessions that only need a new job run after them;
//! one that is woken for another reason picks the job up in the same turn. So an answer does not
//! wait for the writes to ten thousand other sessions.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_task::Runnable;
use atomic_waker::AtomicWaker;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::error;

use crate::handle::SessionHandle;
use crate::lane::{Lane, Untold};
use crate::mailbox::Signal;

/// One helper thread is woken per this many sessions that wait for a job. Below it, waking a thread
/// costs more than the writes.
const TELLINGS_A_HELPER: usize = 64;
/// One helper thread is woken per this many sessions that were woken for another reason. The number
/// is much higher than for jobs, because much of that work is creating sessions, and memory
/// allocated by several threads takes more space than memory allocated by one.
const TURNS_A_HELPER: usize = 1024;
/// How many turns the worker takes in a row before sockets and pools are served.
const TURNS_IN_A_ROW: u32 = 16;
/// The `event_interval` for the runtime of a proxy. The worker is one task and runs sixteen
/// sessions whenever it is polled. With tokio's default of 61 polls between two checks of the
/// sockets, a share could wait for a thousand turns.
pub const EVENT_INTERVAL: u32 = 8;
/// After this many turns, one session that needs a job is run, even if others with shares wait: a
/// flood of shares must not hold jobs back.
const TURNS_A_TELLING: u32 = 4;

/// The queue of sessions with something to do, and the threads that run them.
#[derive(Debug, Default)]
pub(crate) struct Executor {
    queue: Mutex<Queue>,
    /// Wakes the task that is the worker.
    worker: AtomicWaker,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Sessions that were woken.
    woken: VecDeque<Runnable>,
    /// Lanes on which sessions have to be notified.
    untold: VecDeque<Arc<Lane>>,
    /// Approximately how many sessions have to be notified.
    untold_sessions: usize,
    /// Turns since a session was notified.
    turns: u32,
    /// Whether the worker is running, or was woken.
    worker_is_up: bool,
    asleep: usize,
    /// How many helpers were called and have not woken yet.
    calls: usize,
    closed: bool,
}

enum Next {
    Turn(Runnable),
    Tell(Arc<SessionHandle>),
}

impl Queue {
    fn next(&mut self) -> Option<Next> {
        if self.turns < TURNS_A_TELLING || self.untold.is_empty() {
            self.turns += 1;
            if let Some(turn) = self.woken.pop_front() {
                return Some(Next::Turn(turn));
            }
        }
        self.turns = 0;
        while let Some(lane) = self.untold.front() {
            if let Some(session) = lane.next_to_tell() {
                self.untold_sessions = self.untold_sessions.saturating_sub(1);
                return Some(Next::Tell(session));
            }
            self.untold.pop_front();
        }
        self.untold_sessions = 0;
        self.woken.pop_front().map(Next::Turn)
    }
}

impl Executor {
    /// Starts this many helpers. They end when the executor is closed.
    pub(crate) fn start_helpers(self: &Arc<Self>, helpers: usize) -> std::io::Result<()> {
        for index in 1..=helpers {
            let executor = self.clone();
            std::thread::Builder::new()
                .name(format!("miners-{index}"))
                .spawn(move || executor.help())?;
        }
        Ok(())
    }

    /// Returns the worker. It ends when the executor is closed; dropping it closes the executor.
    pub(crate) fn worker(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        // Without tokio's budget: the reads of one session must not keep the next one from reading.
        tokio::task::coop::unconstrained(Worker { executor: self.clone() })
    }

    /// Runs a session to its end.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        session: impl Future<Output = ()> + Send + Unpin + 'static,
    ) {
        let executor = self.clone();
        let (turn, session) =
            async_task::spawn(Guarded(Some(session)), move |turn| executor.woken(turn));
        session.detach();
        turn.schedule();
    }

    /// Notifies sessions of their lane's announcement, after sessions with a share or a verdict
    /// have run.
    pub(crate) fn tell(&self, untold: Untold) {
        let mut queue = self.queue.lock();
        if !queue.closed && untold.sessions > 0 {
            queue.untold.extend(untold.lanes);
            queue.untold_sessions += untold.sessions;
            self.call(queue);
        }
    }

    fn woken(&self, turn: Runnable) {
        let mut queue = self.queue.lock();
        // If the executor is closed, the session is dropped with the turn, after the lock.
        if !queue.closed {
            queue.woken.push_back(turn);
            self.call(queue);
        }
    }

    /// Wakes the worker, and as many helpers as the queue needs.
    fn call(&self, mut queue: MutexGuard<'_, Queue>) {
        let worker = !std::mem::replace(&mut queue.worker_is_up, true);
        let wanted = queue.untold_sessions / TELLINGS_A_HELPER + queue.woken.len() / TURNS_A_HELPER;
        let helpers = wanted.min(queue.asleep).saturating_sub(queue.calls);
        queue.calls += helpers;
        drop(queue);
        if worker {
            self.worker.wake();
        }
        for _ in 0..helpers {
            self.called.notify_one();
        }
    }

    /// Runs one session. If there is none, the locked queue is returned, before anything can be
    /// added to it.
    fn step(&self) -> Option<MutexGuard<'_, Queue>> {
        let mut queue = self.queue.lock();
        let Some(next) = queue.next() else { return Some(queue) };
        drop(queue);
        match next {
            // A panic ends the session, which has been counted by then.
            Next::Turn(turn) => drop(catch_unwind(AssertUnwindSafe(|| turn.run()))),
            // The session runs with the woken ones, unless it has already picked the job up.
            Next::Tell(session) => session.mailbox.signal(Signal::Lane),
        }
        None
    }

    fn help(&self) {
        loop {
            let Some(mut queue) = self.step() else { continue };
            if queue.closed {
                return;
            }
            queue.asleep += 1;
            self.called.wait(&mut queue);
            queue.asleep -= 1;
            queue.calls = queue.calls.saturating_sub(1);
        }
    }

    /// Ends the sessions in the queue, and those that are woken from now on; then the workers.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        let left = (std::mem::take(&mut queue.woken), std::mem::take(&mut queue.untold));
        drop(queue);
        drop(left);
        self.called.notify_all();
        self.worker.wake();
    }
}

/// Wraps a session whose drop may panic like one of its turns: the panic would otherwise abort the
/// process.
struct Guarded<F>(Option<F>);

impl<F: Future<Output = ()> + Unpin> Future for Guarded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |session| Pin::new(session).poll(cx))
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        if catch_unwind(AssertUnwindSafe(|| drop(self.0.take()))).is_err() {
            error!("a session panicked at its end");
        }
    }
}

struct Worker {
    executor: Arc<Executor>,
}

impl Future for Worker {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.executor.worker.register(cx.waker());
        for _ in 0..TURNS_IN_A_ROW {
            if let Some(mut queue) = self.executor.step() {
                queue.worker_is_up = false;
                return if queue.closed { Poll::Ready(()) } else { Poll::Pending };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.executor.close();
    }
}

#[cfg(test)]
mod tests;
