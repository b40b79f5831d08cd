//! A client of the API: it asks for leases, cancels them, and looks at what the API shows. What it
//! is promised goes into the record; its tenants come and go as their leases say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::{DeviceState, FeedId, LeaseId, MeterId, Watts};
use jiff::SignedDuration;
use serde_json::json;
use switchboard::cause::OffBy;
use switchboard::simulate::{
    Answer, Command, Core, Doing, FeedSupply, LeaseRequest, MachineState, MeterState,
};

use crate::facility::spec::TenantSpec;
use crate::record::{Event, MeterShown, Phase, Promise, Shown, Side, SupplyShown};
use crate::scenario::LeaseSpec;
use crate::stage::Stage;

/// A client that gets no answer asks again after this long, with the same key.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Machines that one look shows: all of them.
const LOOKS_AT: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Client {
    leases: Vec<LeaseSpec>,
    asked: u64,
    open: BTreeMap<u64, Question>,
    promised: BTreeMap<LeaseId, Promise>,
    phases: BTreeMap<LeaseId, (Phase, usize)>,
    shown: Shown,
    meters: BTreeMap<MeterId, MeterShown>,
    supplies: BTreeMap<FeedId, SupplyShown>,
}

#[derive(Debug, Clone, Copy)]
enum Question {
    Lease(usize),
    Cancel(usize),
    Machines,
    Policy,
}

impl Client {
    pub(crate) fn new(leases: Vec<LeaseSpec>) -> Self {
        Self {
            leases,
            asked: 0,
            open: BTreeMap::new(),
            promised: BTreeMap::new(),
            phases: BTreeMap::new(),
            shown: Shown::default(),
            meters: BTreeMap::new(),
            supplies: BTreeMap::new(),
        }
    }

    /// Asks for a lease. The request has a key of its own, so that it can be repeated.
    pub(crate) fn ask(&mut self, stage: &mut Stage, lease: usize) -> (u64, Command) {
        let spec = &self.leases[lease];
        let wall = |at: Duration| stage.clocks.truth(at).to_string();
        let request = LeaseRequest {
            id: Some(json!(spec.lease.as_str())),
            tenant: Some(json!("tenant")),
            it_kw: Some(json!(spec.watts.kw())),
            feed: Some(json!(spec.feed.as_str())),
            start: Some(json!(wall(spec.start))),
            end: Some(json!(wall(spec.end))),
            ready_before: Some(json!(format!("{}s", spec.ready_before.as_secs()))),
            accept_unverified: Some(json!(spec.accept_unverified)),
            meter: spec.meter.as_ref().map(|meter| json!(meter.as_str())),
            ..LeaseRequest::default()
        };
        stage.story.tell(stage.now, "client", || {
            format!(
                "asks for {} of {} at {} from {} s to {} s",
                spec.lease,
                spec.watts,
                spec.feed,
                spec.start.as_secs(),
                spec.end.as_secs()
            )
        });
        let key = Some(format!("key-{lease}"));
        (self.number(Question::Lease(lease)), Command::Commit(request, key))
    }

    pub(crate) fn cancel(
        &mut self,
        stage: &mut Stage,
        lease: usize,
        force: bool,
    ) -> (u64, Command) {
        let id = self.leases[lease].lease.clone();
        stage.story.tell(stage.now, "client", || format!("cancels {id}, force {force}"));
        (self.number(Question::Cancel(lease)), Command::Cancel { lease: id, force })
    }

    pub(crate) fn look(&mut self) -> (u64, Command) {
        let command = Command::Machines { after: None, limit: LOOKS_AT };
        (self.number(Question::Machines), command)
    }

    /// A number for an edit of the policy, whose answer only the story tells.
    pub(crate) fn edit(&mut self) -> u64 {
        self.number(Question::Policy)
    }

    fn number(&mut self, question: Question) -> u64 {
        self.asked += 1;
        self.open.insert(self.asked, question);
        self.asked
    }

    /// Whether this lease has an answer by now.
    pub(crate) fn is_answered(&self, lease: usize) -> bool {
        !self.open.values().any(|question| matches!(question, Question::Lease(at) if *at == lease))
    }

    /// The switchboard has died: what it was asked is not answered any more.
    pub(crate) fn forget_looks(&mut self) {
        self.open.retain(|_, question| matches!(question, Question::Lease(_)));
    }

    /// Takes an answer. Returns whether a policy came into force.
    pub(crate) fn answered(&mut self, stage: &mut Stage, asked: u64, answer: Answer) -> bool {
        let Some(question) = self.open.remove(&asked) else { return false };
        match (question, answer) {
            (Question::Lease(lease), Answer::Committed(_) | Answer::Lease(_)) => {
                // An earlier request of the same lease may have been lost on its way back.
                self.open.retain(|_, open| !matches!(open, Question::Lease(at) if *at == lease));
                self.promise(stage, lease);
            }
            (Question::Cancel(lease), Answer::Committed(answer) | Answer::Lease(answer)) => {
                self.cancelled(stage, lease, answer.lease.cancelled_at);
            }
            (Question::Machines, Answer::Machines(answer)) => self.show(stage, &answer.machines),
            (Question::Policy, Answer::Done) => return true,
            (Question::Lease(_) | Question::Cancel(_) | Question::Policy, Answer::Refused(why)) => {
                stage.story.tell(stage.now, "client", || format!("is refused: {why}"));
            }
            _ => {}
        }
        false
    }

    fn promise(&mut self, stage: &mut Stage, lease: usize) {
        let spec = &self.leases[lease];
        let promise = Promise {
            lease: spec.lease.clone(),
            feed: spec.feed.clone(),
            watts: spec.watts,
            start: spec.start,
            end: spec.end,
            ready_before: spec.ready_before,
            unverified: spec.accept_unverified,
            meter: spec.meter.clone(),
        };
        if self.promised.insert(spec.lease.clone(), promise.clone()).is_some() {
            return;
        }
        stage.story.tell(stage.now, "client", || format!("is promised {}", spec.lease));
        stage.note(Event::Promised(promise));
        stage.facility.tenant(tenant(spec, spec.end), stage.now);
    }

    fn cancelled(&mut self, stage: &mut Stage, lease: usize, at: Option<jiff::Timestamp>) {
        let spec = &self.leases[lease];
        let Some(promise) = self.promised.get_mut(&spec.lease) else { return };
        let Some(at) = at else { return };
        promise.end = promise.end.min(stage.facility.record().virtual_time(at));
        stage.story.tell(stage.now, "client", || format!("has cancelled {}", spec.lease));
        let (promise, end) = (promise.clone(), promise.end);
        stage.note(Event::Promised(promise));
        stage.facility.tenant(tenant(spec, end), stage.now);
    }

    fn show(&mut self, stage: &mut Stage, machines: &[switchboard::view::MachineView]) {
        let wall = stage.clocks.truth(stage.now);
        let mut shown = Shown::default();
        for view in machines {
            if let Some(off) = &view.off {
                shown.leases.extend(off.lease.clone());
                if off.cause == OffBy::Guard {
                    shown.guarded.insert(view.machine.clone());
                }
            }
            let is_wanted = view.chosen.iter().any(|chosen| chosen.covers(wall));
            let is_asleep =
                view.device.as_ref().is_some_and(|device| device.state == DeviceState::Asleep);
            let list = match view.state {
                _ if is_wanted => &mut shown.wanted,
                MachineState::Returning => &mut shown.returning,
                _ if is_asleep => &mut shown.foreign,
                _ => continue,
            };
            list.insert(view.machine.clone());
        }
        if shown != self.shown {
            self.shown = shown.clone();
            stage.note(Event::Shown(shown));
        }
    }

    /// Takes in how the leases stand, and what is thought of the meters.
    pub(crate) fn see(&mut self, stage: &mut Stage, core: &Core) {
        self.see_meters(stage, core);
        self.see_supplies(stage, core);
        for (lease, commitment) in core.commitments() {
            let phase = phase(commitment.phase);
            let breaches = &commitment.breaches;
            let (before, seen) =
                self.phases.get(lease).map_or((None, 0), |(phase, seen)| (Some(*phase), *seen));
            if before == Some(phase) && seen == breaches.len() {
                continue;
            }
            if before != Some(phase) {
                stage.story.tell(stage.now, "lease", || format!("{lease} is {phase:?}"));
                stage.note(Event::Phase { lease: lease.clone(), phase });
            }
            for breach in breaches.iter().skip(seen) {
                stage
                    .story
                    .tell(stage.now, "lease", || format!("{lease} breached: {}", breach.why));
                let since = breach.since.unwrap_or(breach.at);
                let since = stage.facility.record().virtual_time(since);
                stage.note(Event::Breach {
                    lease: lease.clone(),
                    since,
                    missing: breach.missing,
                    blamed: side(breach.doing),
                });
            }
            self.phases.insert(lease.clone(), (phase, breaches.len()));
        }
    }

    fn see_meters(&mut self, stage: &mut Stage, core: &Core) {
        for (meter, state) in core.meter_states() {
            let shown = match state {
                MeterState::Ok => MeterShown::Believed,
                MeterState::Silent => MeterShown::Silent,
                _ => MeterShown::Doubted,
            };
            if self.meters.get(meter) == Some(&shown) {
                continue;
            }
            self.meters.insert(meter.clone(), shown);
            stage.story.tell(stage.now, "meter", || format!("{meter} is {state}"));
            stage.note(Event::MeterShown { meter: meter.clone(), shown });
        }
    }

    fn see_supplies(&mut self, stage: &mut Stage, core: &Core) {
        for (feed, supply) in core.feed_supplies() {
            let shown = match supply {
                FeedSupply::Live => SupplyShown::Live,
                FeedSupply::Dead => SupplyShown::Dead,
                FeedSupply::Reclosing => SupplyShown::Reclosing,
            };
            if self.supplies.get(feed).copied().unwrap_or_default() == shown {
                continue;
            }
            self.supplies.insert(feed.clone(), shown);
            stage.story.tell(stage.now, "feed", || format!("{feed} is {}", supply.as_str()));
            stage.note(Event::SupplyShown { feed: feed.clone(), shown });
        }
    }

    /// A lease that the core holds no longer is closed.
    pub(crate) fn see_closed(&mut self, stage: &mut Stage, core: &Core) {
        let open: BTreeSet<&LeaseId> = core.commitments().keys().collect();
        for (lease, (phase, _)) in &mut self.phases {
            let is_over = core
                .state()
                .leases
                .get(lease)
                .is_some_and(|record| record.phase == switchboard::simulate::Phase::Closed);
            if *phase != Phase::Closed && is_over && !open.contains(lease) {
                *phase = Phase::Closed;
                stage.story.tell(stage.now, "lease", || format!("{lease} is Closed"));
                stage.note(Event::Phase { lease: lease.clone(), phase: Phase::Closed });
            }
        }
    }
}

/// The load that comes with a lease which ends at `end`.
fn tenant(spec: &LeaseSpec, end: Duration) -> TenantSpec {
    const STEPS: u32 = 4;
    let habit = spec.tenant;
    let full = spec.watts.scale(f64::from(habit.percent) / 100.0);
    let (comes, goes) = (shifted(spec.start, habit.comes), shifted(end, habit.goes));
    let mut draws: Vec<(Duration, Watts)> = Vec::new();
    if comes < goes {
        draws.extend((1..=STEPS).map(|step| {
            let at = comes + habit.ramp * step / STEPS;
            (at, full.scale(f64::from(step) / f64::from(STEPS)))
        }));
        draws.retain(|(at, _)| *at < goes);
    }
    draws.push((goes, Watts::ZERO));
    TenantSpec {
        lease: spec.lease.clone(),
        feed: spec.feed.clone(),
        meter: spec.meter.clone(),
        draws,
    }
}

fn shifted(at: Duration, by: SignedDuration) -> Duration {
    if by.is_negative() { at.saturating_sub(by.unsigned_abs()) } else { at + by.unsigned_abs() }
}

/// Against whom a breach is held: a house that grows and a wrong meter are the facility's own.
fn side(doing: Option<Doing>) -> Side {
    match doing {
        Some(Doing::Tenant) => Side::Tenant,
        Some(Doing::Derate) => Side::Derate,
        Some(Doing::Ours | Doing::House | Doing::Meter) | None => Side::Facility,
    }
}

fn phase(phase: switchboard::simulate::Phase) -> Phase {
    use switchboard::simulate::Phase as Known;
    match phase {
        Known::Planned => Phase::Planned,
        Known::Armed => Phase::Armed,
        Known::Shedding => Phase::Shedding,
        Known::Proven => Phase::Proven,
        Known::Active => Phase::Active,
        Known::Releasing => Phase::Releasing,
        Known::Closed => Phase::Closed,
    }
}
