//! How fast power goes up and down, and whether machines are switched to and fro.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::{MachineId, Watts};

use super::history::{History, Machine};
use super::orders::showed_too_much;
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{Commander, MeterFault, Order, Role, Span};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    let ups = turns(history, Order::Wake);
    found.extend(ramp(history, allow, &ups, Kind::RampUp));
    found.extend(steps(history, allow, &ups));
    // A guard that acts on a present excess waits for no ramp.
    let down = ramp(history, allow, &turns(history, Order::Sleep), Kind::RampDown);
    found.extend(down.filter(|found| !carried_too_much(history, found.span)));
    let machines = history.machines.values();
    found.extend(machines.filter_map(|machine| flapping(history, allow, machine)));
    found
}

/// Whether a feed carried more than it may around `span`, as far as a meter with noise may show it, or
/// a meter was wrong that may have said so.
fn carried_too_much(history: &History<'_>, span: Span) -> bool {
    let wide = Span { from: span.from.saturating_sub(MINUTE), to: span.to };
    let shows_more = |fault| matches!(fault, MeterFault::Factor(factor) if factor > 1.0);
    let mut feeds = history.record.feeds.values();
    feeds.any(|feed| feed.load.max(wide) > feed.usable.min(wide).scale(0.97))
        || history.spec.meters.iter().any(|meter| meter.faults_in(wide).any(shows_more))
}

/// The first commands of each change of direction, with the watts of their machines, in order of
/// time. A repeated command moves nothing.
fn turns(history: &History<'_>, order: Order) -> Vec<(Duration, Watts)> {
    let mut turns: Vec<(Duration, Watts)> = Vec::new();
    for machine in history.machines.values() {
        let watts = history.group(machine.spec).nameplate;
        turns.extend(directions(machine).filter(|(_, to)| *to == order).map(|(at, _)| (at, watts)));
    }
    turns.sort();
    turns
}

/// When an agent turned a machine into the other direction.
fn directions<'a>(machine: &'a Machine<'_>) -> impl Iterator<Item = (Duration, Order)> + 'a {
    let mut last = Order::Wake;
    machine.commands.iter().filter_map(move |(at, order, by)| {
        let turns = *by == Commander::Agent && *order != last;
        if *by == Commander::Agent {
            last = *order;
        }
        turns.then_some((*at, *order))
    })
}

/// Watts within any minute. Commands that were decided up to `jitter` apart arrive together: what
/// one minute and that time allow may arrive within a minute, and one machine more.
fn ramp(
    history: &History<'_>,
    allow: &Allowances,
    turns: &[(Duration, Watts)],
    kind: Kind,
) -> Option<Violation> {
    // Commands of one driver wait for each other.
    let groups = history.spec.machines.iter().map(|machine| history.group_size(machine));
    let largest = groups.max().unwrap_or_default();
    let (per_min, jitter) = match kind {
        Kind::RampUp => (allow.terms.up_per_min, allow.terms.look_max + allow.terms.command_max),
        _ => (allow.terms.down_per_min, allow.dispatch(largest) + allow.terms.message_max),
    };
    let window = MINUTE + jitter;
    let one = turns.iter().map(|(_, watts)| *watts).max().unwrap_or_default();
    let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let most = Watts(per_min.0.saturating_mul(millis) / 60_000) + one;
    let (span, watts) = busiest(turns, MINUTE)?;
    if watts <= most {
        return None;
    }
    let says =
        format!("{watts} within a minute; {most} are allowed, {} of jitter included", secs(jitter));
    Some(site(history, allow, kind, span, watts - most, says))
}

/// Machines within one interval between steps. Two neighbouring steps may be drawn together by the
/// jitter of commands.
fn steps(
    history: &History<'_>,
    allow: &Allowances,
    ups: &[(Duration, Watts)],
) -> Option<Violation> {
    let jitter = allow.terms.look_max + allow.terms.command_max;
    let window = allow.terms.up_step_interval.checked_sub(jitter)?;
    let counted: Vec<(Duration, Watts)> = ups.iter().map(|(at, _)| (*at, Watts(1))).collect();
    let (span, count) = busiest(&counted, window)?;
    if usize::try_from(count.0).is_ok_and(|count| count <= allow.terms.up_step_machines) {
        return None;
    }
    let says = format!(
        "{} machines woken within {}; a step has {}",
        count.0,
        secs(window),
        allow.terms.up_step_machines
    );
    let inside = ups.iter().filter(|(at, _)| (span.from..=span.to).contains(at));
    let watts = inside.map(|(_, watts)| *watts).sum();
    Some(site(history, allow, Kind::StepUp, span, watts, says))
}

/// The window of this length in which most happens.
fn busiest(turns: &[(Duration, Watts)], window: Duration) -> Option<(Span, Watts)> {
    let mut first = 0;
    let mut sum = Watts::ZERO;
    let mut most = None;
    for (at, watts) in turns {
        sum += *watts;
        while turns[first].0 + window <= *at {
            sum = sum - turns[first].1;
            first += 1;
        }
        if most.is_none_or(|(_, most)| most < sum) {
            most = Some((Span { from: turns[first].0, to: *at }, sum));
        }
    }
    most
}

/// A machine that is turned three times within its shortest times awake and asleep, although no
/// lease was promised, changed or ended in between and no guard may have acted.
fn flapping(history: &History<'_>, allow: &Allowances, machine: &Machine<'_>) -> Option<Violation> {
    let group = history.group(machine.spec);
    let shortest = group.min_up + group.min_down;
    let turns: Vec<(Duration, Order)> = directions(machine).collect();
    let three = turns.windows(3).find(|three| {
        let span = Span { from: three[0].0, to: three[2].0 };
        // A guard does not ask how long a machine has been up.
        let guarded = three
            .iter()
            .any(|(at, order)| *order == Order::Sleep && showed_too_much(history, machine, *at));
        span.length() < shortest && !guarded && !has_reason(history, span)
    })?;
    let span = Span { from: three[0].0, to: three[2].0 };
    let says = format!("turned three times within {}", secs(span.length()));
    let place = Place::Machine(machine.spec.id.clone());
    let cause = cause(history, allow, span);
    Some(Violation { kind: Kind::Flapping, cause, place, span, watts: group.nameplate, says })
}

/// Whether a lease was promised, changed, began or ended in `span`, or a limit changed.
fn has_reason(history: &History<'_>, span: Span) -> bool {
    let within = |at: Duration| span.from <= at && at <= span.to;
    let leases = history.leases.values().flat_map(|lease| &lease.promises);
    let mut edges = leases.flat_map(|(at, promise)| {
        [*at, promise.start.saturating_sub(promise.ready_before), promise.end]
    });
    let mut limits = history.record.feeds.values().flat_map(|feed| feed.usable.steps());
    edges.any(within) || limits.any(|(at, _)| within(*at))
}

fn cause(history: &History<'_>, allow: &Allowances, span: Span) -> Cause {
    let roles = [Role::Switchboard, Role::Agent];
    // What waited through an outage is made good after it.
    let wide = Span { from: span.from.saturating_sub(MINUTE * 2), to: span.to };
    let was_down = roles.iter().any(|role| history.is_down_in(*role, wide));
    let was_cut = history.is_cut_in(Role::Agent, wide);
    if was_down || was_cut || history.is_behind(wide, allow.terms.message_max) {
        Cause::Outage
    } else if roles.iter().any(|role| history.had_wrong_clock(*role, wide)) {
        Cause::Clock
    } else {
        Cause::Decision
    }
}

fn site(
    history: &History<'_>,
    allow: &Allowances,
    kind: Kind,
    span: Span,
    watts: Watts,
    says: String,
) -> Violation {
    let mut cause = cause(history, allow, span);
    if cause == Cause::Decision && kind == Kind::RampDown {
        let mut limits = history.record.feeds.values().flat_map(|feed| feed.usable.steps());
        let wide = Span { from: span.from.saturating_sub(MINUTE), to: span.to };
        // What a lowered limit takes off does not wait for the ramp.
        if limits.any(|(at, _)| wide.from < *at && *at <= wide.to) {
            cause = Cause::Derate;
        }
    } else if cause == Cause::Decision {
        if waited(history, allow, span) {
            cause = Cause::Permit;
        } else if serves_several(history, span) {
            cause = Cause::Leases;
        }
    }
    Violation { kind, cause, place: Place::Site, span, watts, says }
}

/// Whether a machine that was woken in `span` had waited: no permit counted when its turn came.
fn waited(history: &History<'_>, allow: &Allowances, span: Span) -> bool {
    let soon = allow.terms.look_max + allow.terms.command_max;
    history.machines.iter().any(|(id, machine)| {
        let mut woken = directions(machine)
            .filter(|(at, to)| *to == Order::Wake && span.from <= *at && *at <= span.to);
        woken.any(|(at, _)| {
            let turns = history.agent.held(at).map(|timeline| history.turns(timeline, id));
            let due = turns.unwrap_or_default().into_iter().filter(|due| *due <= at).max();
            // A machine that the timeline no longer names may run since that timeline came.
            let due = due.or_else(|| history.agent.held_since(at)).unwrap_or(at);
            let permitted = history.agent.may_raise_in(id, Span { from: due, to: due + soon });
            !permitted && due + soon < at
        })
    })
}

/// Whether the machines that were woken in `span` had been off for more than one lease, as the
/// timelines' steps say.
fn serves_several(history: &History<'_>, span: Span) -> bool {
    let woken = history.machines.iter().filter(|(_, machine)| {
        directions(machine).any(|(at, to)| to == Order::Wake && span.from <= at && at <= span.to)
    });
    let woken: BTreeSet<&MachineId> = woken.map(|(id, _)| *id).collect();
    let sent = history.issued.iter().take_while(|(at, _)| *at <= span.to);
    let steps = sent.flat_map(|(_, timeline)| &timeline.steps).filter(|step| {
        step.action.sheds() && step.machines.iter().any(|machine| woken.contains(machine))
    });
    steps.map(|step| &step.lease).collect::<BTreeSet<_>>().len() > 1
}

const MINUTE: Duration = Duration::from_secs(60);
