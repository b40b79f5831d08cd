//! The switchboard's decisions, as a state machine without clock, socket or disk: an input and the
//! time go in, outputs come out, and the same inputs at the same times give the same outputs.
//! [`crate::reconcile`] reads the clock, takes reports and commands, and carries the outputs out.

mod amendments;
mod blame;
mod commands;
mod drivers;
mod evidence;
mod excess;
mod guard;
mod leases;
mod load;
mod meters;
mod off;
mod outbox;
mod raises;
mod shortages;
mod sleepers;
mod supply;
mod view;
mod withheld;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{
    Claims, Generation, GuardTable, LeaseId, MachineId, Means, Permit, Permitted, ReceiverId,
    ReceiverRole, Report, Timeline, WallGuard,
};
use jiff::{SignedDuration, Timestamp};

pub use commands::{Answer, Command, FileFault, FileKind, Refused};
pub use leases::{LeaseFilter, LeasePlace, LeaseQuery};

use crate::commitment::{Commitment, Phase};
use crate::feed_sums::FeedSums;
use crate::inventory::{
    AttachError, Attached, Census, Exchanges, Inventory, MachineState, Overflow,
};
use crate::lease::Lease;
use crate::ledger::{Entry, Event, Head, LedgerState, SelectionChange, WriteError};
use crate::load::Corrections;
use crate::plan::{self, Chosen, Fleet, Plan, Selection};
use crate::plausible::Plausibility;
use crate::policy::Policy;
use crate::view::{AmendmentAnswer, FileNotice};
use drivers::Drivers;
use evidence::Counted;
use excess::Excess;
use guard::Guards;
use outbox::Outbox;
use raises::{Raises, Recording};
pub use shortages::Notice;
use shortages::{Shortages, Told};
use sleepers::Sleepers;
use supply::Supplies;
use withheld::Withheld;

/// Something that happens to the switchboard.
#[derive(Debug)]
pub enum Input {
    Tick,
    /// A receiver's link wants to be attached: [`Outputs::attached`] answers.
    Attach {
        receiver: ReceiverId,
        role: ReceiverRole,
    },
    /// An attached link has closed.
    Detached(ReceiverId),
    /// A report came by the link of this receiver.
    Report(ReceiverId, Report),
    /// A question or an order; its answer carries the same number.
    Command(u64, Box<Command>),
    /// Whether the last [`Outputs::append`] was written.
    Written(Result<Head, WriteError>),
}

/// What is to be done after an input.
#[derive(Debug, Default)]
pub struct Outputs {
    pub timeline: Option<Arc<Timeline>>,
    pub permit: Option<Permit>,
    /// Withdraw the last permit.
    pub withdraw: bool,
    pub asleep: Option<Arc<BTreeSet<MachineId>>>,
    /// The machines to which proxies give work, from now on.
    pub claims: Option<Arc<Claims>>,
    /// The machines that may have work without a permit, from now on.
    pub permitted: Option<Permitted>,
    /// What the guards of agents work from, from now on.
    pub guard: Option<Arc<GuardTable>>,
    /// The machines that agents put to sleep, by the ledger, and since when they count as such.
    pub owned: Option<Arc<BTreeMap<MachineId, Timestamp>>>,
    /// Whether an agent needs to hear `owned` without delay.
    pub tells_owned: bool,
    /// The answer to [`Input::Attach`].
    pub attached: Option<Result<Attached, AttachError>>,
    /// What [`directive::Downlink::resync`] must be for this receiver from now on.
    pub resync: Option<(ReceiverId, u64)>,
    /// Append these entries to the ledger, all or none, and answer with [`Input::Written`]. The
    /// core asks for the next append only after the answer.
    pub append: Option<Vec<Entry>>,
    pub answers: Vec<(u64, Answer)>,
    /// Lines for the log about leases that lack power.
    pub notices: Vec<Notice>,
    /// A plan is due, or what follows from one. The next input sees to it; an [`Input::Tick`] at once
    /// will do. A report makes no plan.
    pub again: bool,
}

/// Counters since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub directives: u64,
    pub permits: u64,
    /// How often a reason to withhold permits appeared or changed.
    pub permits_withheld: u64,
    pub committed: u64,
    pub refused: u64,
    pub policies_loaded: u64,
    pub policies_refused: u64,
    /// Appends to the ledger that failed.
    pub ledger_failures: u64,
    /// Entries lost because the ledger had failed for too long.
    pub entries_dropped: u64,
    /// Breaches recorded in the ledger.
    pub breaches: u64,
    pub reports: u64,
    /// Steps of the wall clock.
    pub clock_steps: u64,
    pub overflow: Overflow,
    pub exchanges: Exchanges,
}

#[derive(Debug)]
pub struct Core {
    policy: Arc<Policy>,
    /// The state that the durable entries of the ledger give.
    state: LedgerState,
    head: Head,
    outbox: Outbox,
    inventory: Inventory,
    fleet: Fleet,
    census: Census,
    /// Why a changed policy or configuration file is not in force.
    policy_refused: Option<FileNotice>,
    /// The digest of the policy that was refused last, and why, until one comes into force.
    refused_last: Option<(String, String)>,
    configuration_not_applied: Option<FileNotice>,
    /// The open leases, as committed durably.
    leases: Vec<Lease>,
    commitments: BTreeMap<LeaseId, Commitment>,
    /// Sums over the open leases at each feed.
    sums: FeedSums,
    /// What the last plan chose.
    selection: Selection,
    states: BTreeMap<MachineId, MachineState>,
    /// The machines of each lease, counted by `selection` and `states`. It must be dropped when they
    /// change.
    counted: Option<Counted>,
    /// Machines that were released and whose return is not complete.
    raises: Raises,
    recording: Recording,
    sleepers: Sleepers,
    /// The drivers that answer nothing.
    drivers: Drivers,
    excess: Excess,
    /// The machines that waiting commands asked to adopt, by the number of the command.
    adopting: BTreeMap<u64, BTreeSet<MachineId>>,
    /// The leases that waiting commands change, and their answers, by the number of the command.
    amending: BTreeMap<u64, (LeaseId, Box<AmendmentAnswer>)>,
    /// By how much the meters correct the figures of the policy.
    corrections: Corrections,
    /// What is thought of the meters.
    plausible: Plausibility,
    /// Which feeds have power.
    supplies: Supplies,
    guards: Guards,
    /// The holds of agents that the last timeline was made with.
    holds_told: BTreeMap<ReceiverId, u64>,
    /// When the first input came.
    began: Option<Instant>,
    /// When the last input came.
    at: Option<(Timestamp, Instant)>,
    /// The time by which leases begin and end: that of the steady clock while the wall clock is
    /// stepped. Receivers act on a wall clock that runs ahead, which only lowers power early; a
    /// tenant may not draw early because of it, and nothing counts as late.
    schedule: Timestamp,
    plan: Option<Plan>,
    /// The power that leases and feeds lack under the plan in force.
    shortages: Shortages,
    number: Generation,
    /// For each lease, the first timeline that has all its steps as they are now.
    planned_in: BTreeMap<LeaseId, Generation>,
    next_edge: Option<Timestamp>,
    /// Whether a new plan must be made because something changed that it depends on.
    replan: bool,
    owes: Owes,
    /// Whether time has passed or a report has come since the inventory was last looked through.
    unseen: bool,
    looked_at: Option<Instant>,
    /// Whether the next look must see what is off, also if it has much to do: the last one left that out.
    next_look_is_whole: bool,
    asleep: Arc<BTreeSet<MachineId>>,
    /// What was logged last of the machines of no group that wait, and of newcomers.
    waiting_told: Told,
    newcomers_told: Told,
    /// Whether the policy is new, and receivers do not know which machines its groups claim.
    tell_claims: bool,
    /// The selection that the ledger will have once all waiting entries are written; `None` if that
    /// is not known.
    recorded: Option<Selection>,
    /// Whether the plan in force was just made. Until the next input takes it over, `number`, `states` and
    /// `planned_in` are those of the plan before.
    fresh: Option<Fresh>,
    serial: u64,
    permitted: Option<(Generation, Instant)>,
    withheld: Option<Withheld>,
    /// Why some machine must wait.
    waits: Option<Withheld>,
    /// Whether the inventory was looked through since machines were last permitted to return.
    looked: bool,
    /// Since when no permit may be given.
    blocked_since: Option<Instant>,
    /// Guards schedules against steps of the wall clock.
    guard: WallGuard,
    /// By how much the wall clock was stepped; `None` once it has come back.
    stepped: Option<SignedDuration>,
    tally: Tally,
}

/// What an input has left to the next one, which therefore does not look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owes {
    Nothing,
    Plan,
    /// What follows from the plan that was made.
    Consequences,
    /// What follows from what was seen.
    Rest,
}

/// A plan was just made.
#[derive(Debug)]
struct Fresh {
    /// The plan before it.
    before: Option<Plan>,
}

/// The shortest time between two looks through the inventory.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What was permitted is given up when no permit could be given for this long. A decision is usually
/// written within milliseconds.
const BLOCKED: Duration = Duration::from_secs(5);
/// The maximum number of reasons that a ledger entry about a plan lists; the plan itself has all of
/// them.
const REASONS: usize = 64;
/// The same for feeds that stay short, the earliest ones first.
const DEFICITS: usize = 256;

impl Core {
    /// Continues from the ledger's state: the machines it says were chosen stay chosen.
    #[must_use]
    pub fn new(policy: Arc<Policy>, state: LedgerState, head: Head, wall: Timestamp) -> Self {
        let mut core = Self {
            number: Generation { epoch: state.epoch, generation: 0 },
            selection: state.selection.clone(),
            sleepers: Sleepers::resume(&state, wall),
            drivers: Drivers::default(),
            excess: Excess::default(),
            adopting: BTreeMap::new(),
            amending: BTreeMap::new(),
            recorded: Some(state.selection.clone()),
            state,
            head,
            outbox: Outbox::default(),
            inventory: Inventory::default(),
            fleet: Fleet::default(),
            census: Census::default(),
            policy_refused: None,
            refused_last: None,
            configuration_not_applied: None,
            leases: Vec::new(),
            commitments: BTreeMap::new(),
            sums: FeedSums::new(policy.facility.feeds()),
            corrections: Corrections::new(policy.facility.feeds()),
            plausible: Plausibility::new(policy.facility.feeds()),
            supplies: Supplies::new(policy.facility.feeds()),
            policy,
            states: BTreeMap::new(),
            counted: None,
            raises: Raises::default(),
            recording: Recording::default(),
            guards: Guards::default(),
            holds_told: BTreeMap::new(),
            began: None,
            at: None,
            schedule: wall,
            plan: None,
            shortages: Shortages::default(),
            planned_in: BTreeMap::new(),
            fresh: None,
            next_edge: None,
            replan: true,
            owes: Owes::Nothing,
            unseen: true,
            looked_at: None,
            next_look_is_whole: true,
            asleep: Arc::default(),
            waiting_told: Told::default(),
            newcomers_told: Told::default(),
            tell_claims: true,
            serial: 0,
            permitted: None,
            withheld: None,
            waits: None,
            looked: false,
            blocked_since: None,
            guard: WallGuard::default(),
            stepped: None,
            tally: Tally::default(),
        };
        core.fleet.groups = vec![Vec::new(); core.policy.facility.groups().len()];
        let implausible = core.state.meters.values().map(|(change, since)| (change, *since));
        core.plausible.restore(core.policy.facility.feeds(), implausible);
        core.take_up_leases();
        core.release_what_is_over(wall);
        if core.state.policy.as_ref() != Some(&core.policy.digest) {
            let event = Event::PolicyLoaded {
                digest: core.policy.digest.clone(),
                revision: core.policy.revision,
            };
            core.note(event, wall);
        }
        core
    }

    /// Decides what follows from `input`.
    pub fn handle(&mut self, input: Input, wall: Timestamp, now: Instant) -> Outputs {
        let mut outputs = Outputs::default();
        self.began.get_or_insert(now);
        let time = self.guard.read(wall, now);
        let wall = time.later;
        self.at = Some((wall, now));
        if time.stepped.is_some() != self.stepped.is_some() {
            self.tally.clock_steps += u64::from(time.stepped.is_some());
            self.replan = true;
        }
        self.stepped = time.stepped;
        self.schedule = if time.stepped.is_some() { time.steady } else { wall };
        self.take_plan_over(now, &mut outputs);
        self.read_tenants();
        // A tick looks through the inventory, makes a plan, or sees to what follows from either, and what is
        // written or reported leaves the plan to the next input, so that few inputs do the work of two.
        let is_written = matches!(input, Input::Written(_));
        let mut may_plan = !matches!(input, Input::Report(..) | Input::Written(_));
        match input {
            Input::Tick => self.unseen = true,
            Input::Attach { receiver, role } => {
                outputs.attached = Some(self.inventory.attach(&receiver, role, wall, now));
                self.guards.note_change();
            }
            Input::Detached(receiver) => {
                self.inventory.detach(&receiver);
                self.guards.note_change();
            }
            Input::Report(receiver, report) => {
                self.tally.reports += 1;
                if matches!(report, Report::Meters(_)) {
                    self.guards.note_meters();
                }
                let resync = self.inventory.take(&self.policy, &receiver, report, now);
                outputs.resync = resync.map(|resync| (receiver, resync));
                self.read_tenants();
                self.unseen = true;
            }
            Input::Command(number, command) => {
                self.command(number, *command, wall, now, &mut outputs);
            }
            Input::Written(result) => self.written(result, now, &mut outputs),
        }
        self.tally.overflow = self.inventory.overflow();
        self.tally.overflow.names += self.sleepers.ignored();
        self.tally.exchanges = self.inventory.exchanges();
        let mut has_looked = false;
        if self.unseen
            && !is_written
            && self.owes == Owes::Nothing
            && self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY)
        {
            self.look(wall, now, &mut outputs);
            (may_plan, has_looked) = (false, true);
        }
        // What follows from what was seen or written follows from the new plan.
        if self.owes != Owes::Consequences && self.must_plan(wall) {
            outputs.again = true;
            if may_plan {
                // The next input sends it, and has its entry written together with what waits now.
                self.decide(wall);
                self.owes = Owes::Consequences;
            } else {
                outputs.append = self.outbox.next(now);
                self.owes = Owes::Plan;
            }
            return outputs;
        }
        if has_looked {
            self.owes = Owes::Rest;
            outputs.again = true;
            outputs.append = self.outbox.next(now);
            return outputs;
        }
        if std::mem::replace(&mut self.owes, Owes::Nothing) == Owes::Consequences {
            self.find_shortages();
        }
        self.answer_durable(now, &mut outputs);
        self.advance_commitments(wall, now);
        self.permit(wall, now, &mut outputs);
        self.tell_permitted(wall, now, &mut outputs);
        self.record_sleepers(wall, &mut outputs);
        self.tell_shortages(now, &mut outputs);
        outputs.append = self.outbox.next(now);
        outputs
    }

    /// The counters since the start of the process.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The newest durable entry of the ledger.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The fold over the durable entries of the ledger.
    #[must_use]
    pub fn state(&self) -> &LedgerState {
        &self.state
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// By how much the wall clock is off, if it was stepped and has not come back.
    #[must_use]
    pub fn stepped(&self) -> Option<SignedDuration> {
        self.stepped
    }

    /// How many machines are off, or will be, for the lease, and how many of these are down.
    pub(crate) fn machines_of(&self, lease: &LeaseId) -> (usize, usize) {
        let of_lease = || self.selection.of_lease(lease).map(|(machine, _)| machine);
        let down = |machine: &&MachineId| {
            self.states.get(*machine).is_some_and(|state| *state == MachineState::Curtailed)
        };
        (of_lease().count(), of_lease().filter(down).count())
    }

    /// The states of the open leases.
    #[must_use]
    pub fn commitments(&self) -> &BTreeMap<LeaseId, Commitment> {
        &self.commitments
    }

    /// Takes the open leases over from the ledger's state, with a commitment for each.
    fn take_up_leases(&mut self) {
        self.leases = self.state.open().map(|standing| standing.lease.clone()).collect();
        let open: BTreeSet<&LeaseId> = self.leases.iter().map(|lease| &lease.id).collect();
        self.commitments.retain(|lease, _| open.contains(lease));
        self.selection.returning.retain(|_, returning| open.contains(&returning.lease));
        self.counted = None;
        self.planned_in.retain(|lease, _| open.contains(lease));
        for standing in self.state.open() {
            self.commitments.entry(standing.lease.id.clone()).or_insert_with(|| {
                Commitment::restore(
                    standing.phase,
                    (standing.unverified, standing.unverified_why.clone(), standing.unproven),
                    standing.unconfirmed.clone(),
                    standing.breaches.clone(),
                    standing.proven_at,
                )
            });
        }
        self.count_leases();
        self.need_plan();
    }

    /// Has a plan made before anything is said of the present leases, policy and fleet, also if the
    /// consequences of an earlier plan are still owed.
    fn need_plan(&mut self) {
        self.replan = true;
        self.owes = Owes::Nothing;
    }

    /// Updates the sums after a change of the open leases or of the policy.
    pub(super) fn count_leases(&mut self) {
        let feeds = self.policy.facility.feeds();
        self.sums.take_leases(feeds, &self.leases);
        for (lease, commitment) in &self.commitments {
            self.sums.set_active(feeds, lease, commitment.phase == Phase::Active);
        }
        self.read_tenants();
    }

    /// Looks through the inventory: which machines there are, what state each is in, which are back.
    fn look(&mut self, wall: Timestamp, now: Instant, outputs: &mut Outputs) {
        self.unseen = false;
        self.looked = true;
        self.looked_at = Some(now);
        self.read_states(now);
        self.see_take_over(now);
        let (policy, held, states) = (&self.policy, &self.selection, &self.states);
        let is_new = self.inventory.new_fleet(policy, held, states, wall, now).is_some();
        if is_new {
            self.guards.note_change();
        }
        let mut has_done_much = self.see_drivers(wall, now, outputs) || is_new;
        has_done_much |= self.has_excused_others();
        if has_done_much {
            let mut fleet = self.inventory.last_fleet().clone();
            self.leave_out_unanswered(&mut fleet);
            self.keep_unpowered(&mut fleet);
            let population = &self.fleet.population;
            fleet.population.corrections.clone_from(&population.corrections);
            fleet.population.starving.clone_from(&population.starving);
            fleet.population.commands.clone_from(&population.commands);
            self.replan |= is_new || fleet != self.fleet;
            let before = std::mem::replace(&mut self.fleet, fleet).population;
            let joined = self.inventory.take_joined();
            if !joined.is_empty() {
                self.count_joined(&before, &joined);
            }
        }
        // Who waits causes no plan, but admission and the room for newcomers go by them.
        let newcomers = &self.inventory.last_fleet().population.newcomers;
        if self.fleet.population.newcomers != *newcomers {
            self.fleet.population.newcomers.clone_from(newcomers);
        }
        self.time_commands();
        self.take_holds(self.schedule, now);
        has_done_much |= self.make_guard_table(now, has_done_much, outputs);
        self.see_sleepers(wall, now, has_done_much, outputs);
        self.see_raises(now);
        let readings = self.readings(wall, now);
        self.see_supply(&readings, wall, now);
        self.judge_meters(&readings, wall, now);
        self.correct_load(readings, wall, now);
        self.see_who_is_back(wall, now);
        let is_whole = !has_done_much || self.next_look_is_whole;
        self.next_look_is_whole = !is_whole;
        if is_whole {
            self.see_what_is_off(wall, now, outputs);
        }
        self.tell_waiting(now, outputs);
    }

    /// Sees which machines are confirmed to be asleep, which of those that are off are too many, and
    /// how many there are of each kind.
    fn see_what_is_off(&mut self, wall: Timestamp, now: Instant, outputs: &mut Outputs) {
        self.give_back_excess(wall, now);
        let (policy, fleet, held) = (&self.policy, self.inventory.last_fleet(), &self.selection);
        let is_returning = |machine: &MachineId| {
            held.returning.contains_key(machine) || self.raises.is_returning(machine)
        };
        let census = &mut self.census;
        self.inventory.take_census(census, policy, fleet, (held, is_returning), wall, now);
        let asleep = self.inventory.asleep(&self.policy, &self.selection, wall, now);
        if asleep != *self.asleep {
            self.asleep = Arc::new(asleep);
            outputs.asleep = Some(self.asleep.clone());
        }
    }

    /// Reads the states of all machines that are to be off now.
    pub(super) fn read_states(&mut self, now: Instant) {
        self.update_states(now, |_| true);
    }

    /// Updates the states of the machines that are to be off now. Those that `changed` does not
    /// name keep the state that was read last, if there is one.
    fn update_states(&mut self, now: Instant, changed: impl Fn(&MachineId) -> bool) {
        let time = self.schedule;
        let (mut began, mut released) = (Vec::new(), Vec::new());
        // Both are in the order of the names, so that no machine has to be looked up.
        let mut before = std::mem::take(&mut self.states).into_iter().peekable();
        let state = |(id, periods): (&MachineId, &Vec<Chosen>)| {
            let chosen = plan::covering(periods, time)?;
            while let Some((gone, _)) = before.next_if(|(other, _)| other < id) {
                released.push(gone);
            }
            let read = || self.inventory.state(&self.policy, id, Some(chosen), time, now);
            match before.next_if(|(other, _)| other == id) {
                Some(known) if !changed(id) => Some(known),
                Some(_) => Some((id.clone(), read())),
                None => {
                    let draws = chosen.means == Means::Device && self.inventory.draws(id);
                    began.push((id.clone(), draws));
                    Some((id.clone(), read()))
                }
            }
        };
        self.states = self.selection.off.iter().filter_map(state).collect();
        released.extend(before.map(|(gone, _)| gone));
        for (machine, draws) in began {
            self.sleepers.intend(&machine, draws, time);
        }
        self.counted = None;
        self.note_released(&released, time);
    }

    /// Whether something changed that the plan depends on.
    fn must_plan(&self, wall: Timestamp) -> bool {
        // With a wrong clock, leases would seem over and their machines free. The plan in force
        // stays, and receivers still lower power by it.
        if self.stepped.is_some() {
            return false;
        }
        let moved = || {
            self.plan.as_ref().is_none_or(|plan| {
                plan.made_at > wall
                    || plan.horizon != plan::horizon(&self.policy, wall)
                    || self.next_edge.is_some_and(|at| at <= wall)
            })
        };
        self.replan || moved()
    }

    /// Makes a new plan, which the next input takes over.
    fn decide(&mut self, wall: Timestamp) {
        self.replan = false;
        let plan = plan::plan(&self.policy, &self.leases, &self.fleet, &self.selection, wall);
        let edges = [plan.next_edge(wall), self.policy.facility.next_limit_change(wall)];
        self.next_edge = edges.into_iter().flatten().min();
        self.selection = plan.selection.clone();
        self.counted = None;
        // A machine that may be woken at once needs one more plan right after this one, and no
        // later edge would cause it.
        self.replan = plan
            .selection
            .iter()
            .any(|(_, chosen)| chosen.until.is_some_and(|until| until <= wall));
        self.fresh = Some(Fresh { before: self.plan.replace(plan) });
    }

    /// Takes over the plan in force if it was just made. If it changes anything for receivers, it goes
    /// out as a timeline with the next number, and is recorded. At large sites this takes its time, so
    /// that it is left to the input after the plan.
    fn take_plan_over(&mut self, now: Instant, outputs: &mut Outputs) {
        let Some((Fresh { before }, plan)) = self.fresh.take().zip(self.plan.as_ref()) else {
            return;
        };
        // A session that a new policy claims gets work when the plan has found room for it, and not before
        // the timeline that keeps others from work.
        if std::mem::take(&mut self.tell_claims) {
            outputs.claims = Some(Arc::new(self.policy.claims()));
        }
        let changes = plan::diff(before.as_ref(), plan);
        let holds_taken = self.guards.taken();
        if !changes.is_empty() || *holds_taken != self.holds_told {
            self.number.generation += 1;
            self.tally.directives += 1;
            let mut timeline = plan.timeline(self.number, Some(self.head.published()));
            timeline.holds_taken.clone_from(holds_taken);
            self.holds_told.clone_from(holds_taken);
            outputs.timeline = Some(Arc::new(timeline));
            self.record_decision();
        }
        self.number_what_is_planned(&changes.machines, before.as_ref());
        let changed: HashSet<MachineId> = changes.machines.into_iter().collect();
        self.update_states(now, |machine| changed.contains(machine));
    }

    /// Updates `planned_in` for the plan in force, which went out under the present number and changes
    /// the times of `machines` after the plan `before`.
    fn number_what_is_planned(&mut self, machines: &[MachineId], before: Option<&Plan>) {
        let Some(plan) = &self.plan else { return };
        let mut changed: BTreeSet<&LeaseId> = BTreeSet::new();
        for machine in machines {
            for plan in before.into_iter().chain([plan]) {
                let periods = plan.selection.off.get(machine);
                changed.extend(periods.into_iter().flatten().filter_map(Chosen::lease));
            }
        }
        for lease in &self.leases {
            if plan.reaches_from(&self.policy, lease).is_some() {
                self.planned_in.remove(&lease.id);
            } else if changed.contains(&lease.id) || !self.planned_in.contains_key(&lease.id) {
                self.planned_in.insert(lease.id.clone(), self.number);
            }
        }
    }

    /// Queues the entry about the plan in force.
    fn record_decision(&mut self) {
        let Some(plan) = &self.plan else { return };
        let made_at = plan.made_at;
        let changes = SelectionChange::between(self.recorded.as_ref(), &plan.selection);
        if let Some(changes) = &changes {
            changes.apply(self.recorded.get_or_insert_default());
        }
        let mut reasons: Vec<String> = Vec::new();
        for step in &plan.steps {
            if reasons.len() < REASONS && !reasons.contains(&step.reason) {
                reasons.push(step.reason.clone());
            }
        }
        let event = Event::Decided {
            number: self.number,
            policy: plan.policy.clone(),
            plan: plan.digest(),
            selection: None,
            changes,
            deficits: plan.deficits.iter().take(DEFICITS).cloned().collect(),
            reasons,
        };
        self.note(event, made_at);
    }

    /// Drops from the returning machines those that mine again, and those that no group claims.
    fn see_who_is_back(&mut self, wall: Timestamp, now: Instant) {
        let mut returning = std::mem::take(&mut self.selection.returning);
        returning.retain(|machine, returning| {
            !self.inventory.is_back(&self.policy, machine, returning, wall, now)
        });
        self.selection.returning = returning;
        self.counted = None;
    }

    /// After a start: the machines whose time off was over by `wall` wait for their return.
    fn release_what_is_over(&mut self, wall: Timestamp) {
        let over = |(machine, chosen): (&MachineId, &Chosen)| {
            let until = chosen.until.filter(|until| *until <= wall)?;
            self.selection.current(machine, wall).is_none().then(|| (machine.clone(), until))
        };
        let over: Vec<(MachineId, Timestamp)> = self.selection.iter().filter_map(over).collect();
        for (machine, until) in over {
            self.release(&machine, until);
        }
    }

    /// Renews the permit if it is due or other machines may be woken, or withdraws it if no power may
    /// be raised now.
    fn permit(&mut self, wall: Timestamp, now: Instant, outputs: &mut Outputs) {
        let mut withheld = self.why_not_raise();
        if withheld.is_some() {
            // A permit would otherwise stay valid for up to two minutes.
            outputs.withdraw |= self.permitted.take().is_some();
        }
        let is_blocked = withheld.is_some();
        if is_blocked {
            let since = *self.blocked_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= BLOCKED {
                self.raises.take_back();
            }
        } else {
            self.blocked_since = None;
        }
        let mut is_changed = false;
        // What there is room for changes with what is seen.
        if !is_blocked && std::mem::take(&mut self.looked) {
            (is_changed, self.waits) = self.grant(wall, now);
        }
        withheld = withheld.or_else(|| self.waits.clone());
        if withheld != self.withheld {
            self.tally.permits_withheld += u64::from(withheld.is_some());
            self.withheld = withheld;
        }
        let every = self.policy.failsafe.permit_every;
        let due = self.permitted.is_none_or(|(number, at)| {
            number != self.number || now.saturating_duration_since(at) >= every
        });
        if is_blocked || !(due || is_changed) {
            return;
        }
        self.serial += 1;
        self.tally.permits += 1;
        self.permitted = Some((self.number, now));
        let ttl_ms = u64::try_from(self.policy.failsafe.permit_ttl.as_millis()).unwrap_or(u64::MAX);
        let (number, serial) = (self.number, self.serial);
        let machines = self.raises.granted().clone();
        outputs.permit = Some(Permit { number, serial, ttl_ms, machines });
    }

    /// The first reason why no power may be raised anywhere now, if there is one.
    fn why_not_raise(&self) -> Option<Withheld> {
        if self.stepped.is_some() {
            return Some(Withheld::ClockStepped);
        }
        if self.outbox.failure().is_some() {
            return Some(Withheld::LedgerFailed);
        }
        self.outbox.decision_waits().then_some(Withheld::PlanNotDurable)
    }

    /// Whether the switchboard started so recently that some receivers may not have reported yet.
    fn is_young(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| {
            now.saturating_duration_since(began) < self.policy.failsafe.report_stale_after
        })
    }

    /// Queues an entry for the ledger that no command waits for.
    fn note(&mut self, event: Event, wall: Timestamp) {
        self.queue(event, wall, None);
    }

    /// Queues an entry for the ledger, and the number of the command that waits for it.
    fn queue(&mut self, event: Event, wall: Timestamp, reply: Option<u64>) {
        if self.outbox.push(Entry { at: wall, event }, reply) {
            self.tally.entries_dropped += 1;
            // The dropped entry may have changed the selection, so the next decision must hold all
            // of it.
            self.recorded = None;
            self.sleepers.forget_unwritten(&self.state);
        }
    }
}

#[cfg(test)]
mod tests;
