//! The second half of invariant 6: no machine sleeps that nobody wants asleep or shows, and none is
//! forgotten.

use std::time::Duration;

use directive::MachineId;
use jiff::SignedDuration;

use super::history::{History, Machine};
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{Role, Span, StateFound};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for (id, machine) in &history.machines {
        for sleep in machine.sleeps_of_ours(history.record.ended) {
            for idle in unwanted(history, id, sleep) {
                found.extend(unshown(history, allow, machine, idle));
                if idle.to == history.record.ended {
                    found.extend(forgotten(history, allow, machine, sleep, idle));
                }
            }
        }
    }
    found
}

/// The parts of `sleep` in which the newest timeline sent does not want the machine asleep.
fn unwanted(history: &History<'_>, id: &MachineId, sleep: Span) -> Vec<Span> {
    parts(history, id, sleep, false)
}

/// The parts of `sleep` in which the newest timeline sent wants the machine asleep.
pub(super) fn wanted(history: &History<'_>, id: &MachineId, sleep: Span) -> Vec<Span> {
    parts(history, id, sleep, true)
}

/// The parts of `sleep` in which the newest timeline sent wants the machine asleep, or does not.
fn parts(history: &History<'_>, id: &MachineId, sleep: Span, asleep: bool) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let sent = history.issued.iter().map(|(at, _)| *at);
    let mut times: Vec<Duration> = sent.filter(|at| *at > sleep.from && *at < sleep.to).collect();
    let held = history.newest(sleep.from).into_iter();
    let later = history.issued.iter().filter(|(at, _)| *at > sleep.from && *at < sleep.to);
    for timeline in held.chain(later.map(|(_, timeline)| *timeline)) {
        let turns = history.turns(timeline, id).into_iter();
        times.extend(turns.filter(|at| *at > sleep.from && *at < sleep.to));
    }
    times.push(sleep.from);
    times.sort();
    times.dedup();
    for (index, from) in times.iter().enumerate() {
        let to = times.get(index + 1).map_or(sleep.to, |next| *next);
        let sheds = history.newest(*from).is_some_and(|timeline| {
            history.standing(timeline, id, *from, SignedDuration::ZERO).action.sheds()
        });
        if sheds != asleep {
            continue;
        }
        match spans.last_mut() {
            Some(last) if last.to == *from => last.to = to,
            _ => spans.push(Span { from: *from, to }),
        }
    }
    spans
}

/// A view shows a sleeper as soon as its device was read, the report has come and a client has
/// looked. A switchboard that does not run shows nothing, and knows nothing for a while after.
fn unshown(
    history: &History<'_>,
    allow: &Allowances,
    machine: &Machine<'_>,
    idle: Span,
) -> Option<Violation> {
    let allowed = allow.answer_max
        + allow.terms.report_gap
        + allow.terms.message_max
        + allow.terms.shown_every * 2
        + allow.terms.look_max;
    let id = &machine.spec.id;
    let mut from = idle.from;
    let mut dark: Vec<Span> = Vec::new();
    let looks = history.shown.iter().filter(|(at, _)| *at > idle.from && *at < idle.to);
    let first = history.shown.iter().rev().find(|(at, _)| *at <= idle.from);
    let mut was_shown = first.is_some_and(|(_, shown)| shown.contains(id));
    for (at, is_shown) in
        looks.map(|(at, shown)| (*at, shown.contains(id))).chain([(idle.to, true)])
    {
        if !was_shown {
            dark.push(Span { from, to: at });
        }
        (from, was_shown) = (at, is_shown);
    }
    let down = [Role::Switchboard, Role::Agent].map(|role| history.down(role));
    let excused = |span: &Span| {
        let wide = Span { from: span.from.saturating_sub(allowed), to: span.to };
        down.iter().copied().flatten().any(|down| down.overlap(wide).is_some())
    };
    let span = dark.into_iter().find(|span| span.length() > allowed && !excused(span))?;
    let says = format!(
        "asleep by our command, wanted by nobody, and in no view for {}; {} are allowed",
        secs(span.length()),
        secs(allowed),
    );
    Some(violation(history, machine, Kind::AsleepUnshown, span, says))
}

/// A machine that nobody wants asleep is back in the time that [`Allowances::back_again`] gives it, counted
/// from when the world troubles nobody any more.
fn forgotten(
    history: &History<'_>,
    allow: &Allowances,
    machine: &Machine<'_>,
    sleep: Span,
    idle: Span,
) -> Option<Violation> {
    let group = history.group(machine.spec);
    if !group.reachable {
        return None;
    }
    let since = idle.from.max(allow.terms.quiet_from);
    let patience = allow.back_again(group);
    if history.record.ended.saturating_sub(since) <= patience {
        return None;
    }
    // A clock that stays wrong is a trouble that has not ended: a role that doubts its clock raises
    // nothing.
    let waits = Span { from: since, to: history.record.ended };
    if [Role::Agent, Role::Switchboard].iter().any(|role| history.doubts_clock(*role, waits)) {
        return None;
    }
    let says = format!(
        "asleep by our command since {}, wanted by nobody since {}, and never woken in {}",
        secs(sleep.from),
        secs(idle.from),
        secs(patience),
    );
    Some(violation(history, machine, Kind::Forgotten, idle, says))
}

fn violation(
    history: &History<'_>,
    machine: &Machine<'_>,
    kind: Kind,
    span: Span,
    says: String,
) -> Violation {
    let habits = &machine.spec.habits;
    let bad_device = habits.hangs_percent > 0
        || habits.late.is_some()
        || habits.repeated.is_some()
        || habits.lies
        || habits.wake_starts_over;
    let starts = history.agent.starts.iter();
    let lost =
        starts.clone().any(|(_, state)| matches!(state, StateFound::Lost | StateFound::Older));
    // Killed between a command and the record of it.
    let cut = history.down(Role::Agent).iter().any(|down| {
        machine
            .commands
            .iter()
            .any(|(at, ..)| down.from <= *at + KILLED_AFTER && *at <= down.from + KILLED_AFTER)
    });
    let roles = [Role::Agent, Role::Switchboard];
    // By the switchboard's own clock a timeline may want it asleep.
    let cause = if kind == Kind::AsleepUnshown
        && roles.iter().any(|role| history.had_wrong_clock(*role, span))
    {
        Cause::Clock
    } else if lost || cut || history.lost_state(span.to) {
        Cause::StateLost
    } else if bad_device {
        Cause::Device
    } else {
        Cause::Decision
    };
    let place = Place::Machine(machine.spec.id.clone());
    let watts = history.group(machine.spec).nameplate;
    Violation { kind, cause, place, span, watts, says }
}

/// A command may be on its way, or its record unwritten, for this long around a kill.
const KILLED_AFTER: Duration = Duration::from_secs(3);
