//! Invariants 5 and 6, and whether steps are carried out on time: every command that an agent gave,
//! and all work that a proxy gave, is compared with the timelines and permits that had arrived.

use std::time::Duration;

use directive::{Action, Means, Timeline};
use jiff::SignedDuration;

use super::history::{FOLLOWED, History, Machine, Receiver};
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{Commander, Order, Role, Span, State, StateFound};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in history.machines.values() {
        commands(history, allow, machine, &mut found);
        late(history, allow, machine, &mut found);
        served(history, allow, machine, &mut found);
    }
    found
}

/// Judges each command of an agent by what it may have known when it decided: at most
/// `command_max` before the command arrived.
fn commands(
    history: &History<'_>,
    allow: &Allowances,
    machine: &Machine<'_>,
    found: &mut Vec<Violation>,
) {
    let by_agent = machine.commands.iter().filter(|(.., by)| *by == Commander::Agent);
    for (at, order, _) in by_agent {
        let window = Span { from: at.saturating_sub(allow.terms.command_max), to: *at };
        let wish = Wish { history, receiver: &history.agent, role: Role::Agent, machine };
        let kind = match order {
            Order::Wake if !history.agent.may_raise_in(&machine.spec.id, window) => {
                Some(Kind::RaisedWithoutPermit)
            }
            Order::Wake if wish.may_run_in(window) => None,
            Order::Wake if wish.once_let_run(*at) => Some(Kind::OldTimelineObeyed),
            Order::Wake => Some(Kind::RaisedAgainstTimeline),
            Order::Sleep if wish.was_shed(window) => None,
            // A guard acts on what a meter shows, and until the feed is well below its limit.
            Order::Sleep if showed_too_much(history, machine, *at) => None,
            Order::Sleep => Some(wish.wrong_sleep(*at)),
        };
        let Some(kind) = kind else { continue };
        let number = history.agent.held(*at).map(|timeline| timeline.number.to_string());
        let says = format!(
            "told to {order:?} at {} while the agent held timeline {}",
            secs(*at),
            number.unwrap_or_else(|| "none".to_owned()),
        );
        let mut violation = wish.violation(kind, window, says);
        // Where commands are lost, a machine is told again that may have followed.
        if *order == Order::Sleep
            && violation.cause == Cause::Decision
            && allow.terms.loses_commands
        {
            violation.cause = Cause::Device;
        }
        found.push(violation);
    }
}

/// Whether in the time before `at` a feed of the machine carried more than it may, or a faulty meter
/// may have said so. A machine that is held is told again when it wakes by itself.
pub(super) fn showed_too_much(history: &History<'_>, machine: &Machine<'_>, at: Duration) -> bool {
    let held = Span { from: at.saturating_sub(HELD), to: at };
    history.path(&machine.spec.feed).iter().any(|feed| {
        let record = &history.record.feeds[*feed];
        let is_above = record.load.max(held) > record.usable.min(held).scale(NOISE);
        is_above || history.meter(feed).is_some_and(|meter| history.is_faulty(meter, held))
    })
}

/// How long a guard may hold a machine before a timeline takes it over, while the switchboard runs.
const HELD: Duration = Duration::from_secs(180);
/// Meters show up to 3 % more than is drawn.
const NOISE: f64 = 0.97;

/// A proxy's work for a machine that its timeline keeps from work, or that it raised without a
/// permit.
fn served(
    history: &History<'_>,
    allow: &Allowances,
    machine: &Machine<'_>,
    found: &mut Vec<Violation>,
) {
    let wish = Wish { history, receiver: &history.proxy, role: Role::Proxy, machine };
    for (at, _) in machine.served.iter().filter(|(_, served)| *served) {
        // What was heard a moment ago is applied at the next look.
        let window = Span { from: at.saturating_sub(allow.terms.look_max), to: *at };
        let kind = match wish.last_kept_off(*at) {
            _ if !wish.may_run_in(window) => Kind::RaisedAgainstTimeline,
            Some(off)
                if !history.proxy.may_raise_in(&machine.spec.id, Span { from: off, to: *at }) =>
            {
                Kind::RaisedWithoutPermit
            }
            _ => continue,
        };
        let says =
            format!("given work at {}, which its timeline or permit did not allow", secs(*at));
        found.push(wish.violation(kind, window, says));
    }
}

/// A machine that its agent's timeline wants asleep has a command in time, or sleeps.
fn late(
    history: &History<'_>,
    allow: &Allowances,
    machine: &Machine<'_>,
    found: &mut Vec<Violation>,
) {
    let group = history.group(machine.spec);
    if !group.reachable {
        return;
    }
    let wish = Wish { history, receiver: &history.agent, role: Role::Agent, machine };
    let machines = history.group_size(machine.spec);
    let allowed = allow.dispatch(machines) + allow.terms.command_max;
    for due in wish.due_asleep() {
        // It is followed as the clock goes that time servers moved by a little.
        // The machines that a guard puts to sleep at the same time go first.
        let guarded = showed_too_much(history, machine, due.from + allowed);
        let allowed = if guarded { allowed + allow.dispatch(machines) } else { allowed };
        let deadline = due.from + allowed + history.followed(Role::Agent, due.to);
        if deadline >= due.to {
            continue;
        }
        let sleeps = machine.commands.iter().filter(|(at, order, by)| {
            *order == Order::Sleep && *by == Commander::Agent && *at >= due.from
        });
        let told = sleeps.map(|(at, ..)| *at).min().unwrap_or(Duration::MAX);
        let lost = machine.lost.iter().any(|(at, _)| (due.from..=deadline).contains(at));
        // A machine that sleeps, or was told to before, is only read.
        let is_off = matches!(machine.state(deadline), State::Asleep | State::Dead)
            || matches!(machine.last_command(deadline), Some((_, Order::Sleep)));
        if told <= deadline || lost || is_off {
            continue;
        }
        // It is late from then on until it is told, or nobody wants it asleep any more.
        let span = Span { from: deadline, to: told.min(due.to) };
        let says = format!(
            "due asleep at {}, and told {} after the {} that are allowed",
            secs(due.from),
            secs(span.length()),
            secs(allowed),
        );
        let mut late = wish.violation(Kind::LateShed, span, says);
        // It was told to wake by a former life of the agent, which the present one does not know.
        let woken = matches!(machine.last_command(due.from), Some((at, Order::Wake))
            if history.down(Role::Agent).iter().any(|down| at <= down.to && down.to <= deadline));
        if late.cause == Cause::Decision && woken {
            late.cause = Cause::Outage;
        }
        // A device that hangs keeps its driver busy.
        let is_hanging = history.machines.values().any(|other| {
            other.spec.group == machine.spec.group && other.spec.habits.hangs_percent > 0
        });
        if late.cause == Cause::Decision && is_hanging {
            late.cause = Cause::Device;
        }
        found.push(late);
    }
}

/// What one receiver may have wanted of one machine.
struct Wish<'a> {
    history: &'a History<'a>,
    receiver: &'a Receiver<'a>,
    role: Role,
    machine: &'a Machine<'a>,
}

impl Wish<'_> {
    /// Whether a timeline that was held in `window` let the machine run then, by a clock that small
    /// steps may have moved.
    fn may_run_in(&self, window: Span) -> bool {
        let slack = self.history.followed(self.role, window.to);
        let wide = Span { from: window.from.saturating_sub(slack), to: window.to + slack };
        self.receiver.held_in(window).into_iter().any(|(_, timeline)| {
            timeline.is_some_and(|timeline| self.is_in(timeline, wide, Action::Run))
        })
    }

    /// Whether a step of `timeline` with `action` counts at some time in `span`.
    fn is_in(&self, timeline: &Timeline, span: Span, action: Action) -> bool {
        self.times(timeline, span).into_iter().any(|at| self.action(timeline, at) == action)
    }

    fn action(&self, timeline: &Timeline, at: Duration) -> Action {
        let id = &self.machine.spec.id;
        self.history.standing(timeline, id, at, SignedDuration::ZERO).action
    }

    /// The beginning of `span`, and the steps of `timeline` in it.
    fn times(&self, timeline: &Timeline, span: Span) -> Vec<Duration> {
        let turns = self.history.turns(timeline, &self.machine.spec.id).into_iter();
        let inside = turns.filter(|at| *at > span.from && *at <= span.to);
        std::iter::once(span.from).chain(inside).collect()
    }

    /// Whether an older timeline than the one held lets the machine run at `at`.
    fn once_let_run(&self, at: Duration) -> bool {
        let now = self.receiver.held(at).map(|timeline| timeline.number);
        let former = self.receiver.held_before(at).filter(|t| Some(t.number) != now);
        former.into_iter().any(|timeline| self.action(timeline, at) == Action::Run)
    }

    /// Whether the receiver had a reason to put the machine to sleep in `window`. A shed that once
    /// applied stays until a raise is allowed, and a clock that is ahead brings lowerings forward:
    /// both are as they should be.
    fn was_shed(&self, window: Span) -> bool {
        let ahead = self.history.most_ahead(self.role, window.to);
        let id = &self.machine.spec.id;
        // Backward from the command: shed somewhere before a raise could apply?
        let parts = self.receiver.held_in(Span { from: Duration::ZERO, to: window.to });
        for (part, timeline) in parts.into_iter().rev() {
            let Some(timeline) = timeline else { continue };
            let mut times = self.times(timeline, part);
            times.extend(
                self.times(timeline, part)
                    .iter()
                    .map(|at| earlier(*at, ahead).max(part.from))
                    .collect::<Vec<_>>(),
            );
            times.sort();
            times.dedup();
            for (index, from) in times.iter().enumerate().rev() {
                let to = times.get(index + 1).map_or(part.to, |next| *next);
                let sheds = |by| self.history.standing(timeline, id, *from, by).action.sheds();
                if sheds(SignedDuration::ZERO) || (!ahead.is_zero() && sheds(ahead)) {
                    return true;
                }
                let lasts = Span { from: *from, to: to.min(window.from) };
                let agrees = !self.history.doubts_clock(self.role, lasts);
                if lasts.from < lasts.to && agrees && self.receiver.permits_within(id, lasts) {
                    return false;
                }
            }
        }
        false
    }

    /// What a sleep is that nothing held asks for.
    fn wrong_sleep(&self, at: Duration) -> Kind {
        let held = self.receiver.held(at);
        let sheds = |timeline: &Timeline, at| self.action(timeline, at).sheds();
        let comes = held.is_some_and(|timeline| {
            self.history
                .turns(timeline, &self.machine.spec.id)
                .into_iter()
                .any(|due| due > at && sheds(timeline, due))
        });
        let was = self.receiver.held_before(at).any(|timeline| sheds(timeline, at));
        match (comes, was) {
            (true, _) => Kind::EarlyShed,
            (false, true) => Kind::OldTimelineObeyed,
            (false, false) => Kind::SleptUnwanted,
        }
    }

    /// The last time up to `at` at which a held timeline kept the machine from work.
    fn last_kept_off(&self, at: Duration) -> Option<Duration> {
        let parts = self.receiver.held_in(Span { from: Duration::ZERO, to: at });
        for (part, timeline) in parts.into_iter().rev() {
            let Some(timeline) = timeline else { continue };
            let times = self.times(timeline, part);
            for (index, from) in times.iter().enumerate().rev() {
                let to = times.get(index + 1).map_or(part.to, |next| *next);
                if self.action(timeline, *from) != Action::Run {
                    return Some(to.min(at));
                }
            }
        }
        None
    }

    /// The times in which a held timeline wants the machine asleep through its device, while the
    /// agent runs.
    fn due_asleep(&self) -> Vec<Span> {
        let all = Span { from: Duration::ZERO, to: self.history.record.ended };
        let mut spans: Vec<Span> = Vec::new();
        for (part, timeline) in self.receiver.held_in(all) {
            let Some(timeline) = timeline else { continue };
            let times = self.times(timeline, part);
            for (index, from) in times.iter().enumerate() {
                let to = times.get(index + 1).map_or(part.to, |next| *next);
                let id = &self.machine.spec.id;
                let standing = self.history.standing(timeline, id, *from, SignedDuration::ZERO);
                if !standing.action.sheds() || standing.means != Means::Device || *from >= to {
                    continue;
                }
                match spans.last_mut() {
                    Some(last) if last.to == *from => last.to = to,
                    _ => spans.push(Span { from: *from, to }),
                }
            }
        }
        let down = self.history.down(self.role);
        down.iter().fold(spans, |spans, down| cut(spans, *down))
    }

    fn violation(&self, kind: Kind, span: Span, says: String) -> Violation {
        let lost = self.receiver.starts.iter().any(|(at, state)| {
            *at <= span.to && matches!(state, StateFound::Lost | StateFound::Older)
        });
        // A clock that was wrong when the role started is believed: by one that is behind a
        // lowering is not due yet, by one that is ahead it is over. Only the latter raises or lowers
        // anything early. A clock that is stepped while the role runs explains nothing.
        let ahead = self.history.ahead_at_start(self.role, span.from);
        let clock = match (self.role, kind) {
            // New sessions are parked by the same clock, and by the time that a former life wrote.
            (Role::Proxy, _) => self.history.started_on_wrong_clock(self.role, span.to),
            (_, Kind::LateShed) => ahead.unsigned_abs() > FOLLOWED,
            _ => ahead > SignedDuration::try_from(FOLLOWED).unwrap_or(SignedDuration::MAX),
        };
        let cause = match (clock, lost) {
            // What is late is measured by the timeline held, which a lost state has no part in.
            (true, _) if kind == Kind::LateShed => Cause::Clock,
            (_, true) => Cause::StateLost,
            (true, false) => Cause::Clock,
            (false, false) => Cause::Decision,
        };
        let place = Place::Machine(self.machine.spec.id.clone());
        let watts = self.history.group(self.machine.spec).nameplate;
        Violation { kind, cause, place, span, watts, says }
    }
}

fn earlier(at: Duration, by: SignedDuration) -> Duration {
    at.saturating_sub(by.unsigned_abs())
}

/// `spans` without what lies in `without`.
fn cut(spans: Vec<Span>, without: Span) -> Vec<Span> {
    let parts = spans.into_iter().flat_map(|span| {
        [
            Span { from: span.from, to: span.to.min(without.from) },
            Span { from: span.from.max(without.to), to: span.to },
        ]
    });
    parts.filter(|part| part.from < part.to).collect()
}
