//! The proxy's end of the link: it follows the switchboard's timeline and reports its sessions.
//!
//! [`core`] decides; the task here moves the bytes between it, the link, the state file and the
//! sessions. The file is written by a thread for blocking work, so that a slow disk never holds up
//! the thread of the miners.

mod cadence;
pub(crate) mod core;
pub(crate) mod metrics;
mod record;
mod starved;

use std::sync::Arc;
use std::time::Duration;

use daemon::clock;
use daemon::state_file::{StateError, StateFile};
use directive::{Downlink, Generation, Link, Report, ReportSender, Saved};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::core::{ControlCore, Output};
use self::metrics::ControlMetrics;
use crate::directions::Directions;
use crate::machines::Machines;
use crate::reasons::Alarm;

/// What the task works with.
pub(crate) struct Setup {
    pub(crate) core: ControlCore,
    /// Turns the sessions into reports, which are changes after the first.
    pub(crate) sender: ReportSender,
    pub(crate) file: Option<Arc<StateFile>>,
    pub(crate) directions: Arc<watch::Sender<Directions>>,
    pub(crate) machines: Arc<Machines>,
    pub(crate) metrics: ControlMetrics,
}

/// The task.
pub(crate) struct Control {
    setup: Setup,
    /// The write of the state that is under way.
    write: JoinSet<Result<(), StateError>>,
    /// Whether the last write failed; it was logged then.
    unwritten: bool,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the writing thread failed: {0}")]
    Thread(#[from] JoinError),
}

impl Control {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, write: JoinSet::new(), unwritten: false }
    }

    /// Follows the link until shutdown. A link that closes leaves the timeline in force.
    pub(crate) async fn run(mut self, mut link: impl Link, cancel: CancellationToken) {
        let mut linked = true;
        self.hear(link.latest());
        loop {
            self.turn(&link);
            let wait: Duration = self.setup.core.wait(clock::now());
            tokio::select! {
                () = cancel.cancelled() => return self.stop().await,
                written = ended(&mut self.write), if !self.write.is_empty() => {
                    self.written(&written);
                }
                changed = link.changed(), if linked => match changed {
                    Ok(newer) => self.hear(newer),
                    Err(closed) => {
                        linked = false;
                        warn!(%closed, "following the last timeline");
                    }
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn hear(&mut self, downlink: Downlink) {
        self.setup.sender.request(downlink.resync);
        self.setup.core.hear(downlink, clock::now());
    }

    fn turn(&mut self, link: &impl Link) {
        let Setup { core, machines, metrics, .. } = &mut self.setup;
        core.turn(clock::wall(), clock::now(), |machine| machines.works(machine));
        // The metrics are set even if nothing has changed yet, because after a restart a timeline
        // is held and machines are off from the start.
        if let Some(number) = core.receiver().number() {
            metrics.generation.set(i64::try_from(number.generation).unwrap_or(i64::MAX));
        }
        let shed = core.receiver().applied().len();
        metrics.machines_shed.set(i64::try_from(shed).unwrap_or(i64::MAX));
        self.perform(link);
    }

    fn perform(&mut self, link: &impl Link) {
        while let Some(output) = self.setup.core.poll_output() {
            let Setup { directions, metrics, .. } = &self.setup;
            match output {
                Output::Orders(orders) => {
                    directions.send_modify(|directions| directions.orders = orders);
                }
                Output::Write(saved) => self.begin_write(saved),
                Output::Report { acknowledged, at } => self.report(acknowledged, at, link),
                Output::Stale => metrics.alarms.raise(Alarm::StaleTimeline),
                Output::Clock(off) => {
                    clock::tell_step(off);
                    if off.is_some() {
                        metrics.alarms.raise(Alarm::ClockStep);
                    }
                }
            }
        }
    }

    fn report(&mut self, acknowledged: Option<Generation>, at: Timestamp, link: &impl Link) {
        let Setup { sender, machines, metrics, .. } = &mut self.setup;
        let mut look = sender.begin();
        machines.report(at, &mut look);
        if link.report(Report::Sessions(look.finish(at, acknowledged))) {
            sender.handed_over();
        } else {
            metrics.reports_dropped.inc();
        }
    }

    /// Handles the end of a write. A disk that fails is logged once, not at each attempt.
    fn written(&mut self, written: &Result<(), WriteError>) {
        match written {
            Err(failure) => {
                self.setup.metrics.alarms.raise(Alarm::StateNotWritten);
                if !self.unwritten {
                    error!(%failure, "state not written: a restart would forget it, trying again");
                }
            }
            Ok(()) if self.unwritten => info!("state written again"),
            Ok(()) => {}
        }
        self.unwritten = written.is_err();
        self.setup.core.written(written.is_ok(), clock::wall());
    }

    /// Logs the events that were only counted, and writes the state if it is not written yet. The
    /// write is tried once, because a disk that fails now will fail again in a moment.
    async fn stop(mut self) {
        self.setup.core.stop(clock::now());
        self.finish_write().await;
        self.setup.core.write();
        while let Some(output) = self.setup.core.poll_output() {
            // A process that ends sends no more reports.
            if let Output::Write(saved) = output {
                self.begin_write(saved);
            }
        }
        self.finish_write().await;
    }

    fn begin_write(&mut self, saved: Box<Saved>) {
        if let Some(file) = self.setup.file.clone() {
            self.write.spawn_blocking(move || file.store::<Saved>(&saved));
        }
    }

    async fn finish_write(&mut self) {
        if !self.write.is_empty() {
            let written = ended(&mut self.write).await;
            self.written(&written);
        }
    }
}

/// Waits for the end of the write that is under way.
async fn ended(write: &mut JoinSet<Result<(), StateError>>) -> Result<(), WriteError> {
    match write.join_next().await {
        None => Ok(()),
        Some(Ok(stored)) => stored.map_err(WriteError::from),
        // A write is cancelled only when the runtime ends, and then this task ends, too.
        Some(Err(failure)) if failure.is_cancelled() => std::future::pending().await,
        Some(Err(failure)) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests;
