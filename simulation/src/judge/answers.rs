//! The guard's part of invariant 4: a feed's meter that shows too much is answered by a command at
//! once, whoever else may answer it later. Whether that is enough is judged by what the feed carries.

use std::time::Duration;

use directive::{FeedId, Watts};

use super::history::{History, Machine};
use super::terms::{Allowances, noise};
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::facility::spec::{Habits, Measured, MeterSpec};
use crate::record::{Order, Role, Span, State, StateFound};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for meter in &history.spec.meters {
        if let Measured::Feed(feed) = &meter.of {
            found.extend(unanswered(history, allow, meter, feed));
        }
    }
    found
}

/// The times in which a feed carried more than it ever may, beyond what its meter may be off by, for
/// as long as it takes to see that and to command machines, and the machines that were told to sleep
/// do not make up for it.
fn unanswered(
    history: &History<'_>,
    allow: &Allowances,
    meter: &MeterSpec,
    feed: &FeedId,
) -> Vec<Violation> {
    let record = &history.record.feeds[feed];
    let ended = history.record.ended;
    let most = record.usable.max(Span { from: Duration::ZERO, to: ended });
    let most = most + noise(meter, most);
    // A machine that was told to sleep is on its way for this long, and a meter shows it then.
    let credit = allow.slowest_shed + allow.terms.settle + allow.terms.command_max;
    let first = meter.period * 3 + meter.lag + allow.terms.look_max + allow.terms.command_max * 2;
    let Some(heard) = history.agent.first_held() else { return Vec::new() };
    let mut found = Vec::new();
    for over in record.load.above(most, ended) {
        let from = over.from.max(heard + allow.table());
        let below = || {
            let machines = history.machines.values();
            machines.filter(|machine| history.is_within(&machine.spec.feed, feed))
        };
        let told_by = |to: Duration| {
            let recent = Span { from: from.saturating_sub(credit), to };
            below().filter(move |machine| was_told(machine, recent))
        };
        // Where the first was told in time, the others may wait for the answers of those before them.
        let waits = match told_by(from + first).count() {
            0 => Duration::ZERO,
            told => allow.dispatch(told + 1),
        };
        let allowed = first + waits;
        let judged = Span { from, to: from + allowed };
        let lasting = Span { from: from.saturating_sub(LASTING), to: judged.to };
        if over.to <= judged.to
            || history.is_faulty(meter, lasting)
            || history.is_down_in(Role::Agent, lasting)
            || has_lost_its_table(history, judged.to)
        {
            continue;
        }
        let frees = told_by(judged.to).map(|machine| {
            let group = history.group(machine.spec);
            group.nameplate - group.residual
        });
        let watts = record.load.min(judged) - most - frees.sum();
        if watts <= Watts::ZERO || !below().any(|machine| can_go(history, machine, lasting)) {
            continue;
        }
        let says = format!(
            "above usable for {}, and by {watts} more than was told to sleep in the first {}",
            secs(over.to - from),
            secs(allowed),
        );
        let place = Place::Feed(feed.clone());
        // A device that hangs keeps back the command that waits for its answer.
        let hangs = below().any(|machine| machine.spec.habits.hangs_percent > 0);
        let cause = if hangs { Cause::Device } else { Cause::Decision };
        found.push(Violation { kind: Kind::Unanswered, cause, place, span: judged, watts, says });
    }
    found
}

/// Whether the machine was told to sleep in `span`.
fn was_told(machine: &Machine<'_>, span: Span) -> bool {
    let within = |at: Duration| span.from <= at && at <= span.to;
    machine.commands.iter().any(|(at, order, _)| *order == Order::Sleep && within(*at))
        || machine.lost.iter().any(|(at, order)| *order == Order::Sleep && within(*at))
}

/// Whether a guard must have found the machine to draw, and to do as it is told.
fn can_go(history: &History<'_>, machine: &Machine<'_>, span: Span) -> bool {
    let habits = &machine.spec.habits;
    let is_good = Habits {
        answers_after: habits.answers_after,
        keeps_session: habits.keeps_session,
        ..Habits::default()
    } == *habits;
    let turns = machine.states.iter().any(|(at, ..)| span.from < *at && *at <= span.to);
    is_good
        && history.group(machine.spec).reachable
        && machine.state(span.from) == State::Awake
        && !turns
}

/// Whether the agent had lost its table of feeds by `at`, or had found an older one.
fn has_lost_its_table(history: &History<'_>, at: Duration) -> bool {
    history
        .agent
        .starts
        .iter()
        .any(|(when, state)| *when <= at && matches!(state, StateFound::Lost | StateFound::Older))
}

/// A machine or a meter that has been as it is for this long is known to be.
const LASTING: Duration = Duration::from_secs(30);
