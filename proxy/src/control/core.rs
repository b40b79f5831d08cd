//! What the proxy decides about the switchboard's timeline: which machines may work, what must be
//! written to the state file, and when to report.
//!
//! Pure: what the switchboard said, the ends of writes and both clocks go in, [`Output`]s come out.
//! Lowering steps are applied when they are due, whether or not the switchboard can be heard;
//! [`directive::Receiver`] decides what may rise. The link, the file and the sessions are left to
//! the task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    Advance, Downlink, Generation, MachineId, Offer, Receiver, SEEN_EVERY, Saved, Timeline,
};
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, warn};

use super::cadence::Cadence;
use super::record::Record;
use super::starved::Starved;
use crate::directions::{Orders, Serve};

/// Looks at the wall clock at least this often: it may jump.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The shortest wait for a report, so that a check that is due at once does not spin.
const WAIT_MIN: Duration = Duration::from_millis(5);

/// What the task has to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// The sessions follow these orders from now on.
    Orders(Arc<Orders>),
    /// Write this, and answer with [`ControlCore::written`]. There is never a second write under
    /// way.
    Write(Box<Saved>),
    /// Report the sessions, and acknowledge this timeline.
    Report { acknowledged: Option<Generation>, at: Timestamp },
    /// An older timeline than the one held was refused.
    Stale,
    /// The wall clock was stepped by this much; `None` when it is right again.
    Clock(Option<SignedDuration>),
}

/// Call [`ControlCore::turn`] after each input and when [`ControlCore::wait`] is over, and carry out
/// every output after it.
#[derive(Debug)]
pub(crate) struct ControlCore {
    receiver: Receiver,
    record: Record,
    cadence: Cadence,
    starved: Starved,
    /// What the switchboard said last.
    downlink: Downlink,
    /// The orders that the sessions have.
    orders: Arc<Orders>,
    outputs: VecDeque<Output>,
    /// When the timeline is looked at next. That walks over all machines that it names, so it is
    /// not done at each check of who is parked.
    apply_at: Instant,
    /// Whether the wall clock counts as stepped. The task is told when this changes.
    stepped: bool,
    /// The timeline that was acknowledged last.
    reported: Option<Generation>,
    /// The number of the last timeline that was refused as older than the one held. It is reported
    /// once: the downlink is state, and contains the same timeline at every look.
    refused: Option<Generation>,
    /// When the state last had to be written.
    saved_at: Option<Instant>,
}

impl ControlCore {
    /// Takes up the state of the former process. `has_file` when there is a file to write to.
    pub(crate) fn new(
        saved: Option<Saved>,
        has_file: bool,
        report_every: Duration,
        now: Instant,
    ) -> Self {
        let receiver = saved.map(Receiver::restore).unwrap_or_default();
        let number = receiver.number();
        let standing = receiver.applied().clone();
        let Saved { claims, permitted, .. } = receiver.saved();
        let (claims, permitted) = (claims.clone(), permitted.clone());
        let unheard = number.is_none();
        let orders = Orders { unheard, standing, claims, permitted, ..Orders::default() };
        Self {
            record: Record::new(has_file, number),
            receiver,
            cadence: Cadence::new(report_every, now),
            starved: Starved::default(),
            downlink: Downlink::default(),
            orders: Arc::new(orders),
            outputs: VecDeque::new(),
            apply_at: now,
            stepped: false,
            reported: number,
            refused: None,
            saved_at: None,
        }
    }

    /// The orders that the sessions have now.
    pub(crate) fn orders(&self) -> &Arc<Orders> {
        &self.orders
    }

    /// The timeline held, and how far it is applied.
    pub(crate) fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Takes what the switchboard says, which replaces what it said before.
    pub(crate) fn hear(&mut self, downlink: Downlink, now: Instant) {
        if downlink.resync != self.downlink.resync {
            self.cadence.report_now(now);
        }
        self.downlink = downlink;
        self.apply_at = now;
    }

    /// Does what is due. `works` tells whether a machine has a session with work.
    pub(crate) fn turn(
        &mut self,
        wall: Timestamp,
        now: Instant,
        works: impl Fn(&MachineId) -> bool,
    ) {
        if now >= self.apply_at {
            let wait = self.apply(wall, now);
            self.apply_at = now + wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        }
        if self.cadence.is_due(now, works) {
            self.report(wall);
        }
    }

    /// The next thing to do, if there is one. Ask until there is none.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The time until something is due.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let reports = self.cadence.wait(now).max(WAIT_MIN);
        self.apply_at.saturating_duration_since(now).min(reports)
    }

    /// Handles the end of the write that is under way. If a timeline can be acknowledged now, it is
    /// reported at once.
    pub(crate) fn written(&mut self, succeeded: bool, wall: Timestamp) {
        self.record.ended(succeeded);
        let acknowledged = self.acknowledged();
        if std::mem::replace(&mut self.reported, acknowledged) != acknowledged {
            self.report(wall);
        }
    }

    /// Prepares the end of the process: logs the events that were only counted. One last write is
    /// due then, because the next process compares its clock with the time in the file: call
    /// [`Self::write`] when no write is under way.
    pub(crate) fn stop(&mut self, now: Instant) {
        if self.receiver.number().is_some() {
            self.record.changed();
        }
        self.starved.tell(now);
    }

    /// Begins a write, if one is due and none is under way.
    pub(crate) fn write(&mut self) {
        if self.record.begin(self.receiver.number()) {
            self.outputs.push_back(Output::Write(Box::new(self.receiver.saved().clone())));
        }
    }

    /// The timeline to acknowledge to the switchboard.
    fn acknowledged(&self) -> Option<Generation> {
        self.record.acknowledged(self.receiver.number())
    }

    fn report(&mut self, at: Timestamp) {
        let acknowledged = self.acknowledged();
        self.outputs.push_back(Output::Report { acknowledged, at });
    }

    /// Applies what the switchboard sent and the steps that are due. Returns the time until the
    /// next step.
    fn apply(&mut self, wall: Timestamp, now: Instant) -> Option<Duration> {
        let mut changed = false;
        if let Some(timeline) = self.downlink.timeline.clone() {
            changed = self.offer(&timeline);
        }
        // What comes with an older timeline is as old.
        let is_stale = self.downlink.timeline.as_ref().is_some_and(|timeline| {
            self.receiver.number().is_some_and(|held| timeline.number < held)
        });
        if let Some(claims) = self.downlink.claims.as_ref().filter(|_| !is_stale) {
            changed |= self.receiver.hear_claims(claims);
        }
        if let Some(permitted) = self.downlink.permitted.as_ref().filter(|_| !is_stale) {
            changed |= self.receiver.hear_permitted(permitted);
        }
        match &self.downlink.permit {
            Some(permit) => {
                self.receiver.permit(permit, wall, now);
            }
            None => self.receiver.withdraw(),
        }
        let advance = self.receiver.advance(wall, now);
        self.watch_clock();
        changed |= !advance.changes.is_empty();
        self.give_orders(&advance, now);
        self.starved.tell_if_due(now);
        // A restart compares the wall clock with the time that was written last.
        let since = *self.saved_at.get_or_insert(now);
        changed |=
            self.receiver.number().is_some() && now.saturating_duration_since(since) >= SEEN_EVERY;
        if changed {
            self.saved_at = Some(now);
            self.record.changed();
        }
        self.write();
        advance.wait
    }

    /// Takes the timeline, unless it is held already or older than the one held. Returns whether it
    /// was taken.
    fn offer(&mut self, timeline: &Timeline) -> bool {
        match self.receiver.offer(timeline) {
            Offer::Taken => {
                debug!(number = %timeline.number, steps = timeline.steps.len(), "timeline taken");
                true
            }
            Offer::Same => false,
            Offer::Stale { .. } if self.refused == Some(timeline.number) => false,
            Offer::Stale { have } => {
                self.refused = Some(timeline.number);
                self.outputs.push_back(Output::Stale);
                warn!(got = %timeline.number, %have, "timeline refused: older than the one held");
                false
            }
        }
    }

    /// Gives the sessions new orders if anything changed for them. The machines that these orders
    /// park are watched until they have no work.
    fn give_orders(&mut self, advance: &Advance, now: Instant) {
        let unheard = self.receiver.number().is_none();
        let asleep = &self.downlink.asleep;
        if advance.changes.is_empty()
            && self.orders.unheard == unheard
            && self.orders.asleep == *asleep
            && self.orders.claims == self.receiver.saved().claims
            && self.orders.permitted == self.receiver.saved().permitted
        {
            return;
        }
        self.starved.count(&advance.changes, now);
        let Saved { applied, claims, permitted, .. } = self.receiver.saved();
        let orders = Arc::new(Orders {
            unheard,
            standing: applied.clone(),
            asleep: asleep.clone(),
            claims: claims.clone(),
            permitted: permitted.clone(),
        });
        let parks = |machine: &&MachineId| orders.serve(machine, true) == Serve::Park;
        let changed = advance.changes.iter().map(|change| &change.machine);
        let fell_asleep = orders.asleep.difference(&self.orders.asleep);
        let parking = changed.chain(fell_asleep).filter(parks).cloned().collect();
        self.cadence.parking(parking, now);
        self.orders = orders.clone();
        self.outputs.push_back(Output::Orders(orders));
    }

    /// Tells when the wall clock is stepped, and when it is right again.
    fn watch_clock(&mut self) {
        let off = self.receiver.stepped();
        if std::mem::replace(&mut self.stepped, off.is_some()) == off.is_some() {
            return;
        }
        if self.receiver.number().is_some() {
            // The time with which a restart compares its clock has changed.
            self.record.changed();
        }
        self.outputs.push_back(Output::Clock(off));
    }
}

#[cfg(test)]
mod tests;
