//! What is said of devices: a machine counts as asleep only after its device has said so since the
//! machine was last told to sleep.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::MachineId;

use super::history::{History, Machine};
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{Order, Role, Span, State};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    let none = BTreeSet::new();
    let mut before = &none;
    for (at, said) in &history.proxy.asleep {
        for id in said.iter().filter(|id| !before.contains(*id)) {
            if let Some(machine) = history.machines.get(id) {
                found.extend(untrue(history, allow, id, machine, *at));
            }
        }
        before = said;
    }
    found
}

/// A machine that a proxy hears at `at` to be asleep has been off at some time since it was told to
/// sleep. A device that lies, or whose answers are lost, is believed.
fn untrue(
    history: &History<'_>,
    allow: &Allowances,
    id: &MachineId,
    machine: &Machine<'_>,
    at: Duration,
) -> Option<Violation> {
    if machine.spec.habits.lies {
        return None;
    }
    // What was read before the command may have been on its way to the switchboard.
    let on_its_way = allow.answer_max + allow.terms.report_gap + allow.terms.message_max * 2;
    let told = machine.commands.iter().take_while(|(when, ..)| *when <= at);
    let told = told.filter(|(_, order, _)| *order == Order::Sleep).last().map(|(when, ..)| *when);
    let since = told.unwrap_or(at).min(at).saturating_sub(on_its_way);
    let was_off = |state: State| matches!(state, State::Asleep | State::Waking | State::Dead);
    let turned = machine
        .states
        .iter()
        .any(|(when, state, _)| since < *when && *when <= at && was_off(*state));
    if turned || was_off(machine.state(since)) {
        return None;
    }
    let span = Span { from: since, to: at };
    let says = match told {
        Some(told) => format!(
            "said to be asleep at {}, and not off since it was told at {}",
            secs(at),
            secs(told),
        ),
        None => format!("said to be asleep at {}, and never told to sleep", secs(at)),
    };
    let roles = [Role::Switchboard, Role::Agent];
    let cause = if roles.iter().any(|role| history.had_wrong_clock(*role, span)) {
        Cause::Clock
    } else if history.lost_state(at) {
        Cause::StateLost
    } else {
        Cause::Decision
    };
    let place = Place::Machine(id.clone());
    let watts = history.group(machine.spec).nameplate;
    Some(Violation { kind: Kind::SaidAsleep, cause, place, span, watts, says })
}
