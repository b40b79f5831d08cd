//! Machines that are kept asleep although the facility could carry them: mining lost for nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::{FeedId, Watts};

use super::history::{History, Lease};
use super::sleepers::wanted;
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::facility::spec::GroupSpec;
use crate::record::{Role, Series, Span, State};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    history.spec.groups.iter().filter_map(|group| surplus(history, allow, group)).collect()
}

/// The first machine of a group that sleeps for longer than it takes to notice and to wake, while
/// every feed above it has room for it.
fn surplus(history: &History<'_>, allow: &Allowances, group: &GroupSpec) -> Option<Violation> {
    let frees = group.nameplate - group.residual;
    let mut idle = vec![Span { from: Duration::ZERO, to: history.record.ended }];
    let mut figures = idle.clone();
    for feed in history.path(&group.feed) {
        let needs = frees + slack(history, allow, feed);
        idle = both(&idle, &room(history, allow, feed, true).above(needs, history.record.ended));
        let planned = room(history, allow, feed, false);
        figures = both(&figures, &planned.above(needs, history.record.ended));
    }
    let patience = allow.back_again(group) + group.min_up;
    let machines = history.machines.iter().filter(|(_, machine)| machine.spec.group == group.id);
    for (id, machine) in machines {
        for sleep in machine.sleeps_of_ours(history.record.ended) {
            let kept = both(&wanted(history, id, sleep), &idle);
            let Some(span) = kept.into_iter().find(|span| span.length() > patience) else {
                continue;
            };
            // By the policy's own figures there is no room: the plan counts nameplates.
            let by_figures = both(&figures, &[span]).iter().all(|part| part.length() <= patience);
            let is_wrong = |feed: &&FeedId| {
                history.meter(feed).is_some_and(|meter| history.is_faulty(meter, span))
            };
            let cause = if history.path(&group.feed).iter().any(is_wrong) {
                // Nothing is raised by the word of a meter that is silent or contradicts others.
                Cause::Meter
            } else if disobeyed(history, group, span) {
                Cause::Device
            } else if by_figures {
                Cause::Nameplate
            } else if [Role::Agent, Role::Switchboard]
                .iter()
                .any(|role| history.had_wrong_clock(*role, span))
            {
                // A role that doubts its clock raises nothing.
                Cause::Clock
            } else if history.lost_state(span.to) {
                // A switchboard whose ledger was set back is not heard.
                Cause::StateLost
            } else {
                Cause::Decision
            };
            let says = format!(
                "asleep for {} while every feed above it had room for it; {} are allowed",
                secs(span.length()),
                secs(patience),
            );
            let place = Place::Machine((*id).clone());
            let kind = Kind::ShedTooMuch;
            return Some(Violation { kind, cause, place, span, watts: frees, says });
        }
    }
    None
}

/// What is left at a feed beside the load and what leases may still take, now or within the time in
/// which machines must go for one. `metered`: by what is really drawn; else by the policy's figures.
fn room(history: &History<'_>, allow: &Allowances, feed: &FeedId, metered: bool) -> Series {
    let record = &history.record.feeds[feed];
    let lead = allow.lead();
    let within = |lease: &&Lease<'_>| {
        let first = lease.promises.first();
        first.is_some_and(|(_, promise)| history.is_within(&promise.feed, feed))
    };
    let leases: Vec<_> = history.leases.iter().filter(|(_, lease)| within(lease)).collect();
    let load = if metered { record.load.clone() } else { planned(history, feed) };
    let mut times: BTreeSet<Duration> = load.steps().iter().map(|(at, _)| *at).collect();
    times.extend(record.usable.steps().iter().map(|(at, _)| *at));
    // A limit that is known to be lower soon counts from when machines must go for it.
    let spec = history.spec.feeds.iter().find(|known| known.id == *feed);
    let falls: Vec<(Duration, Watts)> = spec.iter().flat_map(|spec| spec.falls()).collect();
    times.extend(falls.iter().map(|(at, _)| at.saturating_sub(lead)));
    for (id, lease) in &leases {
        times.extend(history.drawn(id).into_iter().flat_map(Series::steps).map(|step| step.0));
        for (at, promise) in &lease.promises {
            let from = promise.start.saturating_sub(promise.ready_before + lead);
            times.extend([*at, from, promise.end]);
        }
    }
    let mut room = Series::default();
    for at in times {
        let soon = falls.iter().filter(|(from, _)| at < *from && *from <= at + lead);
        let usable = soon.map(|(_, usable)| *usable).fold(record.usable.at(at), Watts::min);
        let mut left = usable - load.at(at);
        for (id, lease) in &leases {
            let Some(promise) = lease.promise(at) else { continue };
            let from = promise.start.saturating_sub(promise.ready_before + lead);
            if from <= at && at < promise.end {
                let drawn = history.drawn(id).filter(|_| metered);
                let drawn = drawn.map_or(Watts::ZERO, |drawn| drawn.at(at));
                left = left - promise.watts.saturating_sub(drawn);
            }
        }
        room.set(at, left);
    }
    room
}

/// What a plan by nameplates counts at a feed, tenants apart: the house as declared, and each
/// machine that is not asleep at its nameplate.
fn planned(history: &History<'_>, feed: &FeedId) -> Series {
    let below = history.spec.feeds.iter().filter(|below| history.is_within(&below.id, feed));
    let house: Watts = below.map(|below| below.declared_house).sum();
    let mut changes: Vec<(Duration, Watts)> = Vec::new();
    for machine in history.machines.values() {
        if !history.is_within(&machine.spec.feed, feed) {
            continue;
        }
        let group = history.group(machine.spec);
        let counts = |state| if state == State::Asleep { group.residual } else { group.nameplate };
        let mut last = Watts::ZERO;
        for (at, state, _) in &machine.states {
            changes.push((*at, counts(*state) - last));
            last = counts(*state);
        }
    }
    changes.sort();
    let mut load = Series::constant(house);
    changes.into_iter().for_each(|(at, change)| load.add(at, change));
    load
}

/// The power that may be off at `feed` beyond what its leases need: the make-up, the band below the
/// limit, and one machine of the largest kind, because machines cannot be divided.
fn slack(history: &History<'_>, allow: &Allowances, feed: &FeedId) -> Watts {
    let groups = history.spec.groups.iter();
    let inside = groups.filter(|group| history.is_within(&group.feed, feed));
    let largest = inside.map(|group| group.nameplate).max().unwrap_or_default();
    let promises = history.leases.values().filter_map(|lease| lease.promises.last());
    let reserved: Watts = promises
        .filter(|(_, promise)| history.is_within(&promise.feed, feed))
        .map(|(_, promise)| promise.watts)
        .sum();
    let usable = history.record.feeds[feed].usable.steps().first().map(|(_, usable)| *usable);
    let band = usable.unwrap_or_default().scale(BAND).max(largest);
    largest + band + Watts(reserved.0 * allow.terms.make_up_percent / 100)
}

/// The part of the usable power that is left free below the limit.
const BAND: f64 = 0.01;

/// Whether a device that shares a feed with the group did not follow a command around `span`: its
/// replacement is off in its place.
fn disobeyed(history: &History<'_>, group: &GroupSpec, span: Span) -> bool {
    let path = history.path(&group.feed);
    history.machines.values().any(|machine| {
        let shares = path.iter().any(|feed| history.is_within(&machine.spec.feed, feed));
        let habits = &machine.spec.habits;
        let is_bad = habits.lies
            || habits.refuses
            || habits.hangs_percent > 0
            || habits.late.is_some()
            || habits.wakes_after.is_some()
            || habits.reboots_every.is_some()
            || habits.dies_at.is_some();
        let commanded = machine.commands.iter().any(|(at, ..)| *at <= span.to);
        shares && commanded && is_bad
    })
}

/// What lies in spans of both lists.
fn both(left: &[Span], right: &[Span]) -> Vec<Span> {
    left.iter().flat_map(|a| right.iter().filter_map(|b| a.overlap(*b))).collect()
}
