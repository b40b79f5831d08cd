//! What a client is shown of why machines are off is true: a lease that machines are off for is open,
//! and a machine that a guard put to sleep was told to sleep by an agent.

use directive::{LeaseId, Watts};

use super::history::{History, Machine};
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{Commander, Order, Phase, Role, Shown, Span};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, (at, shown)) in history.shown.iter().enumerate() {
        let to = history.shown.get(index + 1).map_or(history.record.ended, |(next, _)| *next);
        let span = Span { from: *at, to };
        found.extend(shown.leases.iter().filter_map(|lease| over(history, allow, lease, span)));
        found.extend(never_told(history, allow, shown, span));
    }
    found
}

/// A lease is named for a while after it is closed: the next plan gives its machines another cause,
/// and a client looks now and then. While the switchboard is down, nothing new is shown.
fn over(
    history: &History<'_>,
    allow: &Allowances,
    lease: &LeaseId,
    span: Span,
) -> Option<Violation> {
    let allowed = allow.terms.look_max + allow.terms.shown_every * 2 + allow.terms.message_max;
    let phases = history.leases.get(lease).map(|known| known.phases.as_slice()).unwrap_or_default();
    let says = if let Some((closed, _)) = phases.iter().find(|(_, phase)| *phase == Phase::Closed) {
        let since = span.from.max(*closed);
        let shown = Span { from: since, to: span.to };
        let is_down =
            || history.down(Role::Switchboard).iter().any(|down| down.overlap(shown).is_some());
        if span.to.saturating_sub(since) <= allowed || is_down() {
            return None;
        }
        let shown = secs(span.to.saturating_sub(since));
        format!("machines are shown to be off for {lease} for {shown} after it was closed")
    } else {
        let is_known = phases.iter().any(|(at, _)| *at <= span.from + allowed);
        if is_known {
            return None;
        }
        format!("machines are shown to be off for {lease}, which was never committed")
    };
    Some(violation(history, Place::Lease(lease.clone()), span, says))
}

/// A guard reports a hold when it decides, and its command reaches the device a little later. A device
/// that hangs keeps a command waiting until the call before it is given up.
fn never_told(
    history: &History<'_>,
    allow: &Allowances,
    shown: &Shown,
    span: Span,
) -> Option<Violation> {
    let is_told = |machine: &Machine<'_>| {
        let by_agent = machine.commands.iter().filter(|(.., by)| *by == Commander::Agent);
        let arrived = by_agent.map(|(at, order, _)| (*at, *order));
        arrived
            .chain(machine.lost.iter().copied())
            .any(|(at, order)| order == Order::Sleep && at <= span.from + allow.answer_max)
    };
    let machine = shown.guarded.iter().find(|id| {
        let machine = history.machines.get(*id);
        machine.is_none_or(|one| one.spec.habits.hangs_percent == 0 && !is_told(one))
    })?;
    let says = "shown as put to sleep by a guard, and not told to sleep by an agent".to_owned();
    Some(violation(history, Place::Machine(machine.clone()), span, says))
}

fn violation(history: &History<'_>, place: Place, span: Span, says: String) -> Violation {
    let lost = history.lost_state(span.to);
    let cause = if lost { Cause::StateLost } else { Cause::Decision };
    Violation { kind: Kind::CauseUntrue, cause, place, span, watts: Watts::ZERO, says }
}
