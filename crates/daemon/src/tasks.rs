//! Long-lived tasks, by name. At shutdown all tasks spawned here are told to stop, and waited for.
//! A task that panics is logged with its name and counted; the caller decides what follows.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

/// The tasks of a process or role. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    book: Arc<Book>,
}

#[derive(Debug, Default)]
struct Book {
    live: Mutex<BTreeMap<u64, Arc<str>>>,
    next: AtomicU64,
    panics: AtomicU64,
}

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that is cancelled when tasks must stop. Tasks watch it.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Spawns a task. It should end soon after [`Self::token`] is cancelled.
    pub fn spawn<F>(&self, name: impl Into<Arc<str>>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_on(name, task, &Handle::current())
    }

    /// Like [`Self::spawn`], on a runtime other than the caller's.
    pub fn spawn_on<F>(
        &self,
        name: impl Into<Arc<str>>,
        task: F,
        runtime: &Handle,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let entry = Entry::new(self.book.clone(), name.into());
        let named = async move {
            let _entry = entry;
            task.await
        };
        self.tracker.spawn_on(named, runtime)
    }

    /// Spawns work that blocks, on the runtime's threads for blocking work.
    pub fn spawn_blocking<F, T>(&self, name: impl Into<Arc<str>>, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let entry = Entry::new(self.book.clone(), name.into());
        self.tracker.spawn_blocking(move || {
            let _entry = entry;
            work()
        })
    }

    /// Runs a part of a task and catches its panic. The panic is counted and logged as a panic of
    /// `task`, and `None` is returned. The state that the part owned has been dropped. The caller
    /// should wait before it starts the part again.
    pub async fn catch_panic<F: Future>(&self, task: &str, part: F) -> Option<F::Output> {
        let mut part = pin!(part);
        // After a panic, state shared with other tasks is as the part left it. That is no different
        // from the panic of a whole task.
        let mut caught =
            |cx: &mut Context<'_>| panic::catch_unwind(AssertUnwindSafe(|| part.as_mut().poll(cx)));
        poll_fn(|cx| match caught(cx) {
            Ok(polled) => polled.map(Some),
            Err(_) => {
                self.panicked(task);
                Poll::Ready(None)
            }
        })
        .await
    }

    /// Counts the panic of a task that was not spawned here, such as one of thousands of sessions.
    /// Call it while the task unwinds.
    pub fn panicked(&self, task: &str) {
        self.book.panicked(task);
    }

    /// How many tasks have panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.book.panics.load(Ordering::Relaxed)
    }

    /// The names of the tasks that run now.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.book.live().values().map(ToString::to_string).collect()
    }

    /// Cancels all tasks and waits for them. Returns the names of those that did not end within
    /// `grace`.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let left = self.running();
        warn!(tasks = ?left, "tasks did not stop in time");
        left
    }
}

impl Book {
    fn panicked(&self, task: &str) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        error!(task, "task panicked");
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<str>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of a running task in the list. Dropping it removes the entry, however the task ends.
struct Entry {
    book: Arc<Book>,
    name: Arc<str>,
    number: u64,
}

impl Entry {
    fn new(book: Arc<Book>, name: Arc<str>) -> Self {
        let number = book.next.fetch_add(1, Ordering::Relaxed);
        book.live().insert(number, name.clone());
        Self { book, name, number }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.book.live().remove(&self.number);
        if std::thread::panicking() {
            self.book.panicked(&self.name);
        } else {
            debug!(task = %self.name, "task ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_those_that_stop_and_names_those_that_do_not() {
        let tasks = Tasks::new();
        let stop = tasks.token();
        let done = tasks.spawn("flush", async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(900)).await;
            7
        });
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(tasks.running(), ["flush", "deaf"]);
        assert_eq!(tasks.shutdown(Duration::from_secs(1)).await, ["deaf"]);
        assert_eq!(done.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_the_task_is_gone() {
        let tasks = Tasks::new();
        let failed = tasks.spawn("fragile", async { panic!("on purpose") });
        assert!(failed.await.unwrap_err().is_panic());
        let blocked = tasks.spawn_blocking("fragile too", || panic!("on purpose"));
        assert!(blocked.await.unwrap_err().is_panic());
        assert_eq!((tasks.panics(), tasks.running().len()), (2, 0));
        assert!(tasks.shutdown(Duration::from_secs(1)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_outlives_the_panic_of_its_part() {
        let tasks = Tasks::new();
        let held = Arc::new(());
        let of_part = held.clone();
        let part = async move {
            let of_part = of_part;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(Arc::strong_count(&of_part), 0, "on purpose");
        };
        assert_eq!(tasks.catch_panic("fragile", part).await, None);
        assert_eq!(
            (tasks.panics(), Arc::strong_count(&held)),
            (1, 1),
            "counted, and what it held is free"
        );
        assert_eq!(tasks.catch_panic("sound", async { 7 }).await, Some(7));
        assert_eq!(tasks.panics(), 1);
    }

    #[tokio::test]
    async fn an_aborted_task_is_no_panic() {
        let tasks = Tasks::new();
        let handle = tasks.spawn("aborted", std::future::pending::<()>());
        handle.abort();
        assert!(handle.await.unwrap_err().is_cancelled());
        assert_eq!((tasks.panics(), tasks.running().len()), (0, 0));
    }
}
