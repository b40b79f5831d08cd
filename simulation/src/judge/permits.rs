//! The second half of invariant 6: a permit names no more machines than there is measured room for.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::{FeedId, MachineId, Permit, Watts};

use super::history::{History, Machine};
use super::spare::error;
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::facility::spec::{Measured, MeterSpec};
use crate::record::{Order, Role, Span, State};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut before: Option<&Permit> = None;
    for (live, permit) in &history.agent.permits {
        let former = before.replace(permit);
        // A permit that adds nobody was given for a room that has gone since.
        let adds = permit
            .machines
            .iter()
            .any(|machine| former.is_none_or(|former| !former.machines.contains(machine)));
        if !adds {
            continue;
        }
        for meter in &history.spec.meters {
            if let Measured::Feed(feed) = &meter.of {
                found.extend(beyond(history, allow, meter, feed, &permit.machines, live.from));
            }
        }
    }
    found
}

/// The machines below `feed` that a permit heard at `at` would have woken, if there was no room for
/// all of them at any time of which the switchboard may have had a sample.
fn beyond(
    history: &History<'_>,
    allow: &Allowances,
    meter: &MeterSpec,
    feed: &FeedId,
    named: &BTreeSet<MachineId>,
    at: Duration,
) -> Option<Violation> {
    let known = allow.evidence(meter) + allow.terms.message_max;
    let window = Span { from: at.saturating_sub(known), to: at };
    if history.is_faulty(meter, window) || is_unheard(history, window) {
        return None;
    }
    let machines = history.machines.iter().filter(|(id, machine)| {
        named.contains(**id)
            && history.is_within(&machine.spec.feed, feed)
            && sleeps_on(machine, window)
    });
    let frees = machines.map(|(_, machine)| {
        let group = history.group(machine.spec);
        group.nameplate - group.residual
    });
    let wants: Watts = frees.sum();
    let record = &history.record.feeds[feed];
    // A limit counts for the switchboard a moment before a client hears that it is in force.
    let usable = record.usable.max(Span { to: at + allow.terms.look_max, ..window });
    let room = usable - record.load.min(window);
    let missing = wants - room - error(history, feed);
    if wants == Watts::ZERO || missing <= Watts::ZERO {
        return None;
    }
    let says = format!(
        "a permit heard at {} names sleepers of {wants}, and there was room for {room} at most",
        secs(at),
    );
    let cause = cause(history, window);
    let place = Place::Feed(feed.clone());
    let kind = Kind::PermittedWithoutRoom;
    Some(Violation { kind, cause, place, span: window, watts: missing, says })
}

/// Whether the switchboard had no reports of the agent in `window`, or no memory.
fn is_unheard(history: &History<'_>, window: Span) -> bool {
    history.is_cut_in(Role::Agent, window)
        || history.is_down_in(Role::Agent, window)
        || history.is_down_in(Role::Switchboard, window)
}

/// Whether the machine sleeps throughout `window` and is told nothing in it.
fn sleeps_on(machine: &Machine<'_>, window: Span) -> bool {
    let is_woken =
        matches!(machine.last_command(window.to), Some((at, Order::Wake)) if at >= window.from);
    let turns = machine.states.iter().any(|(at, ..)| window.from < *at && *at <= window.to);
    machine.state(window.from) == State::Asleep && !turns && !is_woken
}

fn cause(history: &History<'_>, window: Span) -> Cause {
    let roles = [Role::Switchboard, Role::Agent];
    if roles.iter().any(|role| history.had_wrong_clock(*role, window)) {
        Cause::Clock
    } else if history.lost_state(window.to) {
        Cause::StateLost
    } else {
        Cause::Decision
    }
}
