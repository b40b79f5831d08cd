//! The test miner: a Stratum V1 client that really hashes, at a configured rate, and behaves like
//! real firmware.
//!
//! A [`TestMiner`] checks from outside what a proxy promises: every submit is answered once, no
//! work is given out twice, no connection is lost. Its [`MinerCounts`] are compared with the counts
//! of the pool and the proxy. A [`PowerSwitch`] puts it to sleep and wakes it; a simulated device
//! can hold the same switch. The pool judges the shares.

mod brain;
mod config;
mod counts;
mod fleet;
mod gap;
mod latency;
mod lines;
mod model;
mod run;
mod space;
mod switch;
mod work;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::brain::Brain;
pub use self::config::{MinerConfig, Rounding};
pub use self::counts::MinerCounts;
pub use self::fleet::{Fleet, FleetConfig};
pub use self::latency::Latencies;
pub use self::model::Model;
pub use self::space::SearchSpace;
pub use self::switch::{PowerSwitch, SleepKind};
use crate::clock;
use crate::wait::{self, NotInTime};
use crate::wire::Direction;

/// A running test miner. Dropping it closes its connection at once; [`TestMiner::stop`] first waits
/// for its answers.
#[derive(Debug)]
pub struct TestMiner {
    shared: Arc<Shared>,
    switch: PowerSwitch,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the miner's task and its handle share.
#[derive(Debug)]
struct Shared {
    brain: Mutex<Brain>,
    changed: watch::Sender<u64>,
    /// Cancelled to make the miner stop hashing, and end when every submit is answered.
    finish: CancellationToken,
    abort: CancellationToken,
}

impl TestMiner {
    /// Starts a miner on the current runtime.
    #[must_use]
    pub fn start(config: MinerConfig) -> Self {
        let switch = config.switch.clone();
        let shared = Arc::new(Shared {
            brain: Mutex::new(Brain::new(Arc::new(config), clock::now())),
            changed: watch::Sender::new(0),
            finish: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let task = tokio::spawn(run::run(Arc::clone(&shared)));
        Self { shared, switch, task: Mutex::new(Some(task)) }
    }

    /// Returns everything counted so far.
    #[must_use]
    pub fn counts(&self) -> MinerCounts {
        self.shared.brain.lock().counts(clock::now())
    }

    /// Returns the newest lines sent and received on all its connections.
    #[must_use]
    pub fn wire(&self) -> Vec<(Direction, String)> {
        self.shared.brain.lock().wire()
    }

    #[must_use]
    pub const fn switch(&self) -> &PowerSwitch {
        &self.switch
    }

    /// Puts the miner to sleep, or wakes it.
    pub fn set_awake(&self, awake: bool) {
        self.switch.set_awake(awake);
    }

    /// Changes the miner's hashrate, in hashes per second.
    pub fn set_hashrate(&self, hashrate: f64) {
        self.shared.brain.lock().set_hashrate(hashrate);
    }

    /// Waits until `wanted` is true of the counts, and returns them.
    ///
    /// # Errors
    /// [`NotInTime`] with the last counts.
    pub async fn until(
        &self,
        limit: Duration,
        wanted: impl FnMut(&MinerCounts) -> bool,
    ) -> Result<MinerCounts, NotInTime> {
        wait::until(self.shared.changed.subscribe(), limit, || self.counts(), wanted).await
    }

    /// Tells the miner to stop, without waiting for it.
    fn finish(&self) {
        self.shared.brain.lock().finish(clock::now());
        self.shared.finish.cancel();
    }

    /// Stops hashing, waits up to half a minute for outstanding answers, closes, and returns the
    /// final counts.
    pub async fn stop(&self) -> MinerCounts {
        self.finish();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // A panic in the task is a bug that the counts would hide, so it is passed on.
            task.await.expect("the miner's task does not panic");
        }
        self.counts()
    }
}

impl Drop for TestMiner {
    fn drop(&mut self) {
        self.shared.abort.cancel();
    }
}

#[cfg(test)]
mod tests;
