//! The proxy's end of the link: it follows the switchboard's timeline and tells what it sees.
//!
//! Lowering steps are applied when they are due, heard or not; what may rise is decided by
//! [`directive::Receiver`]. What was applied is written down behind the act, so that a restart
//! knows it.

mod cadence;

use std::sync::Arc;
use std::time::Duration;

use daemon::clock;
use daemon::state_file::StateFile;
use directive::{
    Downlink, Generation, Link, MachineId, Offer, ProxyReport, Receiver, Report, Saved, WallGuard,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::directions::{Directions, Orders, Serve};
use crate::machines::Machines;
use crate::metrics::Metrics;
use cadence::Cadence;

/// Looks at the wall clock at least this often: it may jump.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the task needs.
pub(crate) struct Control {
    pub(crate) name: String,
    pub(crate) receiver: Receiver,
    pub(crate) state: Option<Arc<StateFile>>,
    pub(crate) directions: Arc<watch::Sender<Directions>>,
    pub(crate) machines: Arc<Machines>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) report_every: Duration,
    /// Guards the timeline against steps of the wall clock.
    pub(crate) guard: WallGuard,
    /// The wall clock was stepped and has not come back.
    pub(crate) stepped: bool,
    /// The older timeline that was refused last.
    pub(crate) refused: Option<Generation>,
    /// Whether the last write of the state failed: it is tried again.
    pub(crate) unsaved: bool,
}

/// Takes up what a former life wrote down.
pub(crate) fn restore(saved: Option<Saved>) -> (Receiver, Orders) {
    let heard = saved.as_ref().is_some_and(|saved| saved.timeline.is_some());
    let receiver = saved.map(Receiver::restore).unwrap_or_default();
    let orders =
        Orders { unheard: !heard, standing: receiver.applied().clone(), ..Orders::default() };
    (receiver, orders)
}

impl Control {
    /// Follows the link until shutdown. A link that closes leaves the timeline in force.
    pub(crate) async fn run(mut self, mut link: impl Link, cancel: CancellationToken) {
        let mut downlink = link.latest();
        let mut linked = true;
        let mut cadence = Cadence::new(self.report_every, clock::now());
        let mut apply_at = clock::now();
        loop {
            // It walks over all that the timeline names: not at each look at who is parked.
            if clock::now() >= apply_at {
                let parking = self.apply(&downlink);
                let now = clock::now();
                cadence.parking(parking, now);
                apply_at = now + self.until_due().min(LOOK_EVERY);
            }
            let now = clock::now();
            if cadence.is_due(now, |machine| self.machines.works(machine)) {
                self.report(&link);
            }
            let wait = apply_at
                .saturating_duration_since(now)
                .min(cadence.wait(now).max(Duration::from_millis(5)));
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = link.changed(), if linked => match changed {
                    Ok(newer) => {
                        downlink = newer;
                        apply_at = clock::now();
                    }
                    Err(closed) => {
                        linked = false;
                        warn!(%closed, "following the last timeline");
                    }
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// How long no step of the timeline is due, and a moment more.
    fn until_due(&self) -> Duration {
        let wall = clock::wall();
        let due =
            self.receiver.saved().timeline.as_ref().and_then(|timeline| timeline.next_due(wall));
        due.map_or(Duration::MAX, |due| {
            Duration::try_from(due.duration_since(wall)).unwrap_or_default()
                + Duration::from_millis(1)
        })
    }

    /// Takes up what the switchboard says and what is due. Returns the machines that are to be
    /// parked by it.
    fn apply(&mut self, downlink: &Downlink) -> Vec<MachineId> {
        let mut parking = Vec::new();
        let mut store = self.unsaved;
        if let Some(timeline) = &downlink.timeline {
            match self.receiver.offer(timeline) {
                Offer::Taken => {
                    info!(generation = %timeline.number, steps = timeline.steps.len(), "timeline taken");
                    self.metrics
                        .generation
                        .set(i64::try_from(timeline.number.generation).unwrap_or(i64::MAX));
                    store = true;
                }
                Offer::Same => {}
                // Said once: the downlink is state, and shows it at every look.
                Offer::Stale { .. } if self.refused == Some(timeline.number) => {}
                Offer::Stale { have } => {
                    self.refused = Some(timeline.number);
                    self.metrics.alarm("stale_timeline");
                    warn!(got = %timeline.number, %have, "timeline refused: older than the one held");
                }
            }
        }
        let now = clock::now();
        let time = self.guard.read(clock::wall(), now);
        if time.stepped.is_some() != self.stepped {
            self.stepped = time.stepped.is_some();
            if let Some(by) = time.stepped {
                self.metrics.alarm("clock_step");
                error!(%by, "the wall clock was stepped: nothing rises until it is right again");
            }
        }
        match downlink.permit.filter(|_| !self.stepped) {
            Some(permit) => {
                self.receiver.permit(permit, now);
            }
            None => self.receiver.withdraw(),
        }
        let advance = self.receiver.advance(time.at, now);
        store |= !advance.changes.is_empty();
        let heard = self.receiver.number().is_some();
        let former = self.directions.borrow().orders.clone();
        if !advance.changes.is_empty()
            || former.unheard == heard
            || former.asleep != downlink.asleep
        {
            if !advance.changes.is_empty() {
                info!(
                    changes = advance.changes.len(),
                    waiting = advance.waiting.len(),
                    "machines changed standing"
                );
            }
            let orders = Arc::new(Orders {
                unheard: !heard,
                standing: self.receiver.applied().clone(),
                asleep: downlink.asleep.clone(),
            });
            let parks = |machine: &&MachineId| orders.serve(machine, true) == Serve::Park;
            let lowered = advance.changes.iter().map(|change| &change.machine);
            let fell_asleep = orders.asleep.difference(&former.asleep);
            parking.extend(lowered.chain(fell_asleep).filter(parks).cloned());
            self.metrics
                .machines_shed
                .set(i64::try_from(orders.standing.len()).unwrap_or(i64::MAX));
            self.directions.send_modify(|directions| directions.orders = orders);
        }
        if store {
            self.store();
        }
        parking
    }

    /// Writes down what is applied, behind the act.
    fn store(&mut self) {
        let Some(state) = &self.state else { return };
        // A few kilobytes a few times a lease; the runtime has other threads for the sessions.
        let stored = tokio::task::block_in_place(|| state.store(self.receiver.saved()));
        self.unsaved = stored.is_err();
        if let Err(failure) = stored {
            self.metrics.alarm("state_not_written");
            error!(%failure, "standing not written down: a restart would forget it, trying again");
        }
    }

    fn report(&self, link: &impl Link) {
        let at = clock::wall();
        let report = ProxyReport {
            receiver: self.name.clone(),
            at,
            number: self.receiver.number(),
            sessions: self.machines.report(at),
        };
        if !link.report(Report::Proxy(report)) {
            self.metrics.reports_dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use directive::{Action, Generation, Means, Step, Timeline};
    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_could_not_be_written_down_is_tried_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("late").join("proxy.json");
        let file = Arc::new(StateFile::new(&path));
        let (receiver, orders) = restore(None);
        let directions = watch::channel(Directions {
            usable: [].into(),
            orders: Arc::new(orders),
            release: false,
            seats: 0,
        })
        .0;
        let mut control = Control {
            name: "p".into(),
            receiver,
            state: Some(file.clone()),
            directions: Arc::new(directions),
            machines: Arc::default(),
            metrics: Metrics::register(&[], &mut Registry::default()),
            report_every: Duration::from_secs(1),
            guard: WallGuard::default(),
            stepped: false,
            refused: None,
            unsaved: false,
        };
        let now = clock::wall();
        let step = Step {
            at: now,
            group: "g".into(),
            action: Action::Drain,
            means: Means::Starve,
            machines: vec!["rig".into()],
            lease: None,
            reason: String::new(),
        };
        let number = Generation { epoch: 1, generation: 1 };
        let timeline =
            Timeline { number, issued_at: now, horizon: now, ledger_head: None, steps: vec![step] };
        let downlink = Downlink { timeline: Some(Arc::new(timeline)), ..Downlink::default() };
        control.apply(&downlink);
        assert_eq!(control.receiver.applied().len(), 1, "lowering does not wait for the disk");
        std::fs::create_dir(dir.path().join("late")).expect("a folder");
        control.apply(&downlink);
        let saved: Saved = file.load().expect("readable").expect("written by now");
        assert_eq!(saved.applied.len(), 1, "a restart knows the machine is off");
    }
}
