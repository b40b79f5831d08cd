//! The switchboard's task: it owns the core and the receivers' links, reads the clocks, and only
//! moves bytes. [`crate::core`] makes the decisions.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use directive::{Downlink, Outlet, ReceiverId, Report};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::broadcast::Broadcast;
use crate::core::{Answer, Command, Core, Input, Notice, Outputs};
use crate::inventory::{AttachError, Attached};
use crate::ledger::{Head, LedgerState, LedgerStore, LedgerWriter, WriteError};
use crate::log::Told;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::view::DriverDownView;

/// Commands that may wait; a further caller waits in turn.
const COMMANDS: usize = 256;
/// New links that may wait.
const LINKS: usize = 16;
/// How often the core gets a tick while nothing else happens.
const TICK: Duration = Duration::from_millis(250);
/// In so many inputs after an entry is written, at most, the plan is made with it and its command is
/// answered.
const ANSWERED_WITHIN: usize = 3;
/// At the end, so many times at most, what is left is written: each time, more may follow from it.
const WRITES_AT_END: usize = 3;
/// The maximum number of reports of one receiver taken in a row before other events get their turn.
const REPORTS: usize = 64;

/// The control plane's task. [`Switchboard::run`] it; ask it through its [`Handle`].
#[derive(Debug)]
pub struct Switchboard {
    core: Core,
    writer: LedgerWriter,
    /// Links from the start, which are attached when the task begins.
    joining: Vec<Outlet>,
    /// The attached links.
    outlets: BTreeMap<ReceiverId, Outlet>,
    commands: mpsc::Receiver<Asked>,
    links: mpsc::Receiver<Outlet>,
    metrics: Metrics,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    asked: u64,
    writing: Option<oneshot::Receiver<Result<Head, WriteError>>>,
    told: Told,
    /// Whether the last append failed.
    unwritten: bool,
    /// Whether the wall clock counts as stepped. It was logged when this became true.
    stepped: bool,
    /// Whether the core has a plan to make.
    again: bool,
    /// Whether metrics are to be shown when the core has no plan to make.
    shows: bool,
    broadcast: Broadcast,
}

#[derive(Debug)]
struct Asked {
    command: Command,
    answer: oneshot::Sender<Answer>,
}

/// A handle to the switchboard for other tasks.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Asked>,
    links: mpsc::Sender<Outlet>,
}

/// The switchboard has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switchboard has stopped")]
pub struct Stopped;

impl Handle {
    /// Sends a command and waits for the answer. A change is durable when its answer comes.
    ///
    /// # Errors [`Stopped`] when the switchboard no longer answers.
    pub async fn ask(&self, command: Command) -> Result<Answer, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Asked { command, answer }).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Puts a new policy into force, unless it lacks the feed of a committed lease: then the
    /// answer says so.
    ///
    /// # Errors [`Stopped`] when the switchboard no longer answers.
    pub async fn change_policy(&self, policy: Arc<Policy>) -> Result<Answer, Stopped> {
        self.ask(Command::Policy(policy)).await
    }

    /// Adds a receiver's link.
    ///
    /// # Errors [`Stopped`] when the switchboard no longer takes links.
    pub async fn attach(&self, outlet: Outlet) -> Result<(), Stopped> {
        self.links.send(outlet).await.map_err(|_| Stopped)
    }
}

impl Switchboard {
    /// Takes up where the ledger stops. `store` and `state` come from opening it.
    ///
    /// # Errors
    /// When the system gives no thread for the ledger.
    pub fn new(
        policy: Arc<Policy>,
        store: impl LedgerStore,
        state: LedgerState,
        outlets: Vec<Outlet>,
        registry: &mut Registry,
    ) -> std::io::Result<(Self, Handle)> {
        let core = Core::new(policy, state, store.head(), daemon::clock::wall());
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let (links_tx, links) = mpsc::channel(LINKS);
        let switchboard = Self {
            core,
            writer: LedgerWriter::spawn(store)?,
            joining: outlets,
            outlets: BTreeMap::new(),
            commands,
            links,
            metrics: Metrics::register(registry),
            waiting: BTreeMap::new(),
            asked: 0,
            writing: None,
            told: Told::default(),
            unwritten: false,
            stepped: false,
            again: false,
            shows: false,
            broadcast: Broadcast::default(),
        };
        Ok((switchboard, Handle { commands: commands_tx, links: links_tx }))
    }

    /// Runs until `stop`. Receivers continue with their last timeline; no further permit is sent.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for outlet in std::mem::take(&mut self.joining) {
            self.join(outlet);
        }
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                written = written(&mut self.writing), if self.writing.is_some() => {
                    self.writing = None;
                    self.written(written);
                }
                Some(asked) = self.commands.recv() => {
                    self.asked += 1;
                    self.waiting.insert(self.asked, asked.answer);
                    self.handle(Input::Command(self.asked, Box::new(asked.command)));
                }
                _ = tick.tick() => {
                    self.handle(Input::Tick);
                    self.shows = true;
                }
                // After the commands: a person waits for them, and each may make the plan that is due.
                () = std::future::ready(()), if self.again => {
                    self.handle(Input::Tick);
                }
                Some(outlet) = self.links.recv() => self.join(outlet),
                (receiver, report) = next_report(&mut self.outlets) => self.take(receiver, report),
            }
            // Between a plan and the next input, the states of its machines are still those of before.
            if !self.again && std::mem::take(&mut self.shows) {
                self.show();
            }
        }
        self.finish().await;
    }

    fn take(&mut self, receiver: ReceiverId, report: Option<Report>) {
        let Some(report) = report else {
            self.outlets.remove(&receiver);
            info!(%receiver, "link closed");
            self.handle(Input::Detached(receiver));
            return;
        };
        self.handle(Input::Report(receiver.clone(), report));
        for _ in 1..REPORTS {
            if self.again {
                return;
            }
            let next = self.outlets.get_mut(&receiver).and_then(Outlet::try_report);
            let Some(report) = next else { return };
            self.handle(Input::Report(receiver.clone(), report));
        }
    }

    /// Attaches a link, if the core takes it. When a link is refused or replaced, its other end
    /// closes, and the receiver continues with what it holds.
    fn join(&mut self, outlet: Outlet) {
        let (receiver, role) = (outlet.receiver().clone(), outlet.role());
        match self.handle(Input::Attach { receiver: receiver.clone(), role }) {
            Some(Ok(Attached { replaces, resync })) => {
                outlet.update(|down| *down = Downlink { resync, ..self.broadcast.joining() });
                self.outlets.insert(receiver.clone(), outlet);
                if replaces {
                    warn!(%receiver, %role, "a second link of this receiver replaces the first");
                } else {
                    info!(%receiver, %role, "link attached");
                }
            }
            Some(Err(refused)) => {
                warn!(%receiver, %role, %refused, "link refused");
            }
            None => error!(%receiver, "the core did not answer a link"),
        }
    }

    fn written(&mut self, result: Result<Head, WriteError>) {
        let failure = result.as_ref().err().map(ToString::to_string);
        match &failure {
            Some(failure) if !self.unwritten => {
                error!(failure, "ledger takes nothing, no lease is committed and nothing rises");
            }
            None if self.unwritten => info!("ledger takes entries again"),
            _ => {}
        }
        self.unwritten = failure.is_some();
        // The next append may follow at once.
        let events = self.told.take();
        self.handle(Input::Written(result));
        if failure.is_none() {
            self.told.tell(&events, &self.core);
        }
    }

    /// Passes an input to the core and carries out its outputs. Returns the core's answer to a
    /// link.
    fn handle(&mut self, input: Input) -> Option<Result<Attached, AttachError>> {
        let before = self.core.tally();
        let outputs = self.core.handle(input, daemon::clock::wall(), daemon::clock::now());
        let attached = outputs.attached;
        self.again = outputs.again;
        let stepped = self.core.stepped();
        if stepped.is_some() != self.stepped {
            self.stepped = stepped.is_some();
            daemon::clock::tell_step(stepped);
        }
        self.perform(outputs);
        self.metrics.count(before, self.core.tally());
        attached
    }

    fn perform(&mut self, outputs: Outputs) {
        outputs.notices.iter().for_each(|notice| self.tell(notice));
        if let Some(timeline) = &outputs.timeline {
            debug!(number = %timeline.number, steps = timeline.steps.len(), "timeline sent");
        }
        if let Some(change) = self.broadcast.take(&outputs) {
            for outlet in self.outlets.values() {
                outlet.update(|down| change.apply(down));
            }
        }
        if let Some((receiver, resync)) = outputs.resync
            && let Some(outlet) = self.outlets.get(&receiver)
        {
            debug!(%receiver, resync, "full report asked for");
            outlet.update(|down| down.resync = resync);
        }
        if let Some(entries) = outputs.append {
            self.told.keep(&entries);
            self.writing = Some(self.writer.append(entries));
        }
        for (number, answer) in outputs.answers {
            // The caller may have stopped waiting; its command is carried out nevertheless.
            if self.waiting.remove(&number).is_some_and(|waiting| waiting.send(answer).is_err()) {
                debug!(number, "nobody waits for the answer");
            }
        }
    }

    fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Short { lease, short } => {
                let zone = self.core.policy().facility.timezone();
                let words = short.words(zone, daemon::clock::wall());
                warn!(%lease, "{words}");
            }
            Notice::NotShort { lease } => info!(%lease, "not short any more"),
            Notice::DriverDown(down) => {
                let DriverDownView { driver, machines_reached, machines_unanswered, fault, .. } =
                    down;
                warn!(
                    driver,
                    machines_reached,
                    machines_unanswered,
                    fault = fault.as_deref().unwrap_or_default(),
                    "driver down: machines of other drivers go in place of its own"
                );
            }
            Notice::DriverUp { driver, since } => {
                let down_for = daemon::clock::wall().duration_since(*since).as_secs();
                info!(driver, down_for_secs = down_for, "driver answers again");
            }
            Notice::Unassigned(named) if named.is_empty() => {
                info!("no machine waits any more that no group of the policy claims");
            }
            Notice::Unassigned(named) => {
                let (machines, names) = (named.count, named.names());
                warn!(machines, names, "no group of the policy claims these, they get no work");
            }
            Notice::Newcomers(named) if named.is_empty() => {
                info!("no machine waits any more for room before it gets work");
            }
            Notice::Newcomers(named) => {
                let (machines, names) = (named.count, named.names());
                info!(machines, names, "these machines wait for room before they get work");
            }
            Notice::AsleepNotByUs(named) if named.is_empty() => {
                info!("no machine sleeps any more that somebody else put to sleep");
            }
            Notice::AsleepNotByUs(named) => {
                let (machines, names) = (named.count, named.names());
                warn!(
                    machines,
                    names, "asleep, not by us: `tieline machine adopt` takes them over"
                );
            }
        }
    }

    fn show(&self) {
        let (wall, now) = (daemon::clock::wall(), daemon::clock::now());
        let dropped = self.outlets.values().map(Outlet::dropped).sum();
        self.metrics.show(
            &self.core.policy().facility,
            &self.core.status_view(wall, now),
            &self.core.feed_views(wall, now),
            dropped,
        );
    }

    /// Has the plan made that is due, and what follows from it: it is recorded, and the commands are
    /// answered whose entries it was made with.
    fn catch_up(&mut self) {
        for _ in 0..ANSWERED_WITHIN {
            if self.again {
                self.handle(Input::Tick);
            }
        }
    }

    /// Writes what is left and releases the ledger.
    async fn finish(mut self) {
        self.catch_up();
        for _ in 0..WRITES_AT_END {
            let Some(writing) = self.writing.take() else { break };
            let result = writing.await.unwrap_or(Err(WriteError::Closed));
            self.written(result);
            self.catch_up();
        }
        let writer = self.writer;
        drop(tokio::task::spawn_blocking(move || writer.close()).await);
    }
}

async fn written(
    writing: &mut Option<oneshot::Receiver<Result<Head, WriteError>>>,
) -> Result<Head, WriteError> {
    match writing {
        Some(writing) => writing.await.unwrap_or(Err(WriteError::Closed)),
        None => std::future::pending().await,
    }
}

/// The next report of any link, or `None` if that link closed. No report is lost if this future is
/// dropped while it waits.
async fn next_report(outlets: &mut BTreeMap<ReceiverId, Outlet>) -> (ReceiverId, Option<Report>) {
    std::future::poll_fn(|context| {
        for (receiver, outlet) in &mut *outlets {
            if let Poll::Ready(report) = pin!(outlet.report()).poll(context) {
                return Poll::Ready((receiver.clone(), report));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
