//! The switchboard's host: its core with a ledger, links to the receivers, and commands of clients.

use std::sync::Arc;
use std::time::Duration;

use directive::{Downlink, ReceiverId, ReceiverRole, Report};
use switchboard::simulate::{
    AttachError, Attached, Broadcast, Command, Core, Input, Outputs, Policy,
};

use crate::due::{Due, Life};
use crate::ledger::Ledger;
use crate::record::{Event, Role, StateFound};
use crate::scenario::Path;
use crate::stage::{Stage, Ticker, name};

const ROLE: Role = Role::Switchboard;
/// The receivers of a world.
pub(crate) const RECEIVERS: [Role; 2] = [Role::Agent, Role::Proxy];

#[derive(Debug)]
pub(crate) struct Switchboard {
    core: Option<Core>,
    policy: Arc<Policy>,
    broadcast: Broadcast,
    /// What each receiver is to hold.
    downlinks: [Downlink; 2],
    /// Whether the downlinks have changed since they were sent.
    unsent: bool,
    pub(crate) ledger: Ledger,
    ticker: Ticker,
    life: Life,
    tick_every: Duration,
}

impl Switchboard {
    pub(crate) fn new(policy: Arc<Policy>, tick_every: Duration) -> Self {
        Self {
            core: None,
            policy,
            broadcast: Broadcast::default(),
            downlinks: [Downlink::default(), Downlink::default()],
            unsent: false,
            ledger: Ledger::default(),
            ticker: Ticker::default(),
            life: 0,
            tick_every,
        }
    }

    pub(crate) fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// Starts, unless the disk takes nothing. Returns whether it runs.
    pub(crate) fn start(&mut self, stage: &mut Stage, found: StateFound) -> bool {
        let wall = stage.clocks.wall(ROLE, stage.now);
        let Some((state, head)) = self.ledger.open(found, wall, &mut stage.rng) else {
            return false;
        };
        self.life += 1;
        self.core = Some(Core::new(self.policy.clone(), state, head, wall));
        self.broadcast = Broadcast::default();
        self.ticker.clear();
        for receiver in RECEIVERS {
            self.attach(stage, receiver);
        }
        self.handle(stage, Input::Tick);
        self.wish(stage);
        true
    }

    pub(crate) fn die(&mut self, stage: &mut Stage) {
        self.core = None;
        self.ledger.crash(&mut stage.rng);
    }

    /// The policy's file has changed; a switchboard that starts later reads it, too.
    pub(crate) fn set_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
    }

    /// A receiver joins, or comes back.
    pub(crate) fn attach(&mut self, stage: &mut Stage, receiver: Role) {
        if self.core.is_none() {
            return;
        }
        let role = match receiver {
            Role::Proxy => ReceiverRole::Proxy,
            _ => ReceiverRole::Agent,
        };
        let attach = Input::Attach { receiver: id(receiver), role };
        let Some(Ok(attached)) = self.handle(stage, attach) else { return };
        let joining = self.broadcast.joining();
        self.downlinks[number(receiver)] = Downlink { resync: attached.resync, ..joining };
        self.send(stage, receiver);
    }

    pub(crate) fn tick(&mut self, stage: &mut Stage) {
        if self.core.is_some() && self.ticker.is_due(stage.now) {
            self.handle(stage, Input::Tick);
            self.wish(stage);
        }
    }

    pub(crate) fn report(&mut self, stage: &mut Stage, from: Role, report: Report) {
        self.handle(stage, Input::Report(id(from), report));
    }

    pub(crate) fn ask(&mut self, stage: &mut Stage, asked: u64, command: Command) {
        self.handle(stage, Input::Command(asked, Box::new(command)));
    }

    /// Takes in the end of an append.
    pub(crate) fn written(&mut self, stage: &mut Stage, life: Life) {
        if life == self.life && self.core.is_some() {
            let result = self.ledger.end();
            if let Err(error) = &result {
                stage.story.tell(stage.now, "switchboard", || format!("cannot write: {error}"));
            }
            self.handle(stage, Input::Written(result));
        }
    }

    fn wish(&mut self, stage: &mut Stage) {
        let at = stage.now + self.tick_every;
        self.ticker.wish(stage, at, Due::Tick(ROLE));
    }

    /// Returns the answer to an attachment.
    fn handle(&mut self, stage: &mut Stage, input: Input) -> Option<Result<Attached, AttachError>> {
        let (wall, now) = (stage.clocks.wall(ROLE, stage.now), stage.clocks.monotonic(stage.now));
        let core = self.core.as_mut()?;
        let stepped = core.stepped();
        let outputs = core.handle(input, wall, now);
        let attached = outputs.attached;
        if core.stepped().is_some() != stepped.is_some() {
            stage.tell_clock(ROLE, core.stepped());
        }
        let again = outputs.again;
        self.perform(stage, outputs);
        if again {
            self.handle(stage, Input::Tick);
        }
        attached
    }

    fn perform(&mut self, stage: &mut Stage, outputs: Outputs) {
        if let Some(timeline) = &outputs.timeline {
            stage.story.tell(stage.now, "switchboard", || {
                let steps = timeline.steps.iter().map(|step| {
                    let at = step.at.duration_since(stage.clocks.truth(Duration::ZERO)).as_secs();
                    format!("{:?} {} at {at} s", step.action, step.machines.len())
                });
                let steps = steps.collect::<Vec<_>>().join(", ");
                format!("sends timeline {}: {steps}", timeline.number)
            });
            stage.note(Event::Issued(timeline.clone()));
        }
        let again = outputs.again;
        if let Some(change) = self.broadcast.take(&outputs) {
            self.unsent = true;
            self.downlinks.iter_mut().for_each(|downlink| change.apply(downlink));
        }
        // The next input follows at once; a link sends what its downlink has then.
        if !again && std::mem::take(&mut self.unsent) {
            RECEIVERS.into_iter().for_each(|receiver| self.send(stage, receiver));
        }
        if let Some((asked, resync)) = outputs.resync
            && let Some(receiver) = RECEIVERS.into_iter().find(|receiver| id(*receiver) == asked)
        {
            self.downlinks[number(receiver)].resync = resync;
            self.send(stage, receiver);
        }
        if let Some(entries) = outputs.append {
            for entry in &entries {
                stage.story.tell(stage.now, "ledger", || format!("{:?}", entry.event));
            }
            self.ledger.begin(entries);
            let wait = stage.delay(Path::Disk);
            stage.after(wait, Due::Written { role: ROLE, life: self.life, version: 0 });
        }
        for (asked, answer) in outputs.answers {
            let wait = stage.delay(Path::Client);
            stage.after(wait, Due::Answer { asked, answer: Box::new(answer) });
        }
    }

    /// Sends a receiver the newest state. A lost message is followed by a new connection; one that
    /// was overtaken or repeated arrives later than one that was sent after it.
    fn send(&mut self, stage: &mut Stage, receiver: Role) {
        if stage.cut.contains(&receiver) {
            return;
        }
        if stage.chance(stage.weather.down_loss_percent) {
            let wait = stage.delay(Path::Reconnect);
            stage.after(wait, Due::Reconnect(receiver));
            return;
        }
        let downlink = Box::new(self.downlinks[number(receiver)].clone());
        if stage.chance(stage.weather.repeat_percent) {
            // A repeated message says only what still holds of itself: the permit in it was used.
            let repeated = Downlink { permit: None, ..Downlink::clone(&downlink) };
            let wait = stage.delay(Path::Reconnect);
            stage.after(wait, Due::Down { to: receiver, downlink: Box::new(repeated) });
        }
        let at = stage.down_at(receiver);
        stage.queue.add(at, Due::Down { to: receiver, downlink });
    }
}

/// The name by which a receiver's link is attached.
fn id(receiver: Role) -> ReceiverId {
    name(receiver).into()
}

fn number(receiver: Role) -> usize {
    usize::from(receiver == Role::Proxy)
}
