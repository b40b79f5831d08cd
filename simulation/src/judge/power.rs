//! Invariant 4: what is drawn at a feed stays within what may be planned there, and what takes it
//! above is answered in the time that meters, commands and machines need.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::{FeedId, Watts};

use super::excess::Excess;
use super::history::{History, Machine};
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation};
use crate::record::{Role, Series, Span, State};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let feeds = history.spec.feeds.iter();
    feeds.flat_map(|feed| above_usable(history, allow, &feed.id)).collect()
}

fn above_usable(history: &History<'_>, allow: &Allowances, feed: &FeedId) -> Vec<Violation> {
    let record = &history.record.feeds[feed];
    let over = record.load.with(&record.usable, |load, usable| load - usable);
    let over = beyond_help(history, feed, &over);
    let allowed = allowed(history, allow, feed);
    let spans = over.above(Watts::ZERO, history.record.ended).into_iter();
    let long = spans.filter(|span| span.length() > allowed);
    long.map(|span| {
        let (cause, watts, at) = explain(history, feed, &over, span, allowed);
        let says = format!(
            "{} above usable for {:.1} s, most at {:.1} s; {:.1} s are allowed",
            watts,
            span.length().as_secs_f64(),
            at.as_secs_f64(),
            allowed.as_secs_f64(),
        );
        let place = Place::Feed(feed.clone());
        Violation { kind: Kind::AboveUsable, cause, place, span, watts, says }
    })
    .collect()
}

/// Leaves out what tenants draw within their leases where the limit is lower than it was and no machine
/// is left that could be put to sleep: a limit may be lowered below what leases hold.
fn beyond_help(history: &History<'_>, feed: &FeedId, over: &Series) -> Series {
    let usable = &history.record.feeds[feed].usable;
    let at_first = usable.at(Duration::ZERO);
    let is_helpless = |at: Duration| {
        usable.at(at) < at_first
            && !history.machines.values().any(|machine| {
                let is_off = matches!(machine.state(at), State::Asleep | State::Dead);
                !is_off && history.is_within(&machine.spec.feed, feed)
            })
    };
    let mut left = Series::default();
    for &(at, watts) in over.steps() {
        let leased = if is_helpless(at) { leased(history, feed, at) } else { Watts::ZERO };
        left.set(at, watts - leased);
    }
    left
}

/// What tenants draw at `feed` within their leases.
fn leased(history: &History<'_>, feed: &FeedId, at: Duration) -> Watts {
    let leases = history.leases.iter().filter_map(|(id, lease)| {
        let promise = lease.promise(at)?;
        let is_theirs = promise.start <= at && at < promise.end;
        let drawn = history.drawn(id).map_or(Watts::ZERO, |drawn| drawn.at(at));
        (is_theirs && history.is_within(&promise.feed, feed)).then(|| drawn.min(promise.watts))
    });
    leases.sum()
}

/// Two samples must be above, and are read with the meter's lag; then commands go out and machines
/// fall asleep, and the meter shows that within two periods. A feed without a meter is given the
/// time of the slowest meter of the site.
fn allowed(history: &History<'_>, allow: &Allowances, feed: &FeedId) -> Duration {
    let meters: Vec<_> = history
        .meter(feed)
        .map_or_else(|| history.spec.meters.iter().collect(), |meter| vec![meter]);
    let period = meters.iter().map(|meter| meter.period).max().unwrap_or_default();
    let lag = meters.iter().map(|meter| meter.lag).max().unwrap_or_default();
    let below = history.machines.values();
    let machines = below.filter(|machine| history.is_within(&machine.spec.feed, feed)).count();
    period * 4 + lag + allow.terms.message_max + allow.dispatch(machines) + allow.slowest_shed
}

/// The cause of a span above usable, the largest excess in it, and when that was. The excess is a
/// decision's where a part of the span that is longer than `allowed` is not explained.
fn explain(
    history: &History<'_>,
    feed: &FeedId,
    over: &Series,
    span: Span,
    allowed: Duration,
) -> (Cause, Watts, Duration) {
    let changes = over.steps().iter().map(|(at, _)| *at).filter(|at| *at > span.from);
    let changes = changes.take_while(|at| *at < span.to);
    // What explains an excess changes with commands too.
    let below = history.machines.values().filter(|one| history.is_within(&one.spec.feed, feed));
    let told = below.flat_map(Machine::told).filter(|at| span.from < *at && *at < span.to);
    let times: BTreeSet<Duration> = std::iter::once(span.from).chain(changes).chain(told).collect();
    let mut unexplained = Series::default();
    let mut most = (Watts::ZERO, span.from);
    for at in times {
        let watts = over.at(at);
        if watts > most.0 {
            most = (watts, at);
        }
        unexplained.set(at, watts - Excess::at(history, feed, at).total());
    }
    let left = unexplained.above(Watts::ZERO, span.to);
    let (watts, at) = most;
    if let Some(part) = left.iter().find(|part| part.length() > allowed) {
        let wrong_clock = || {
            [Role::Agent, Role::Switchboard]
                .iter()
                .any(|role| history.had_wrong_clock(*role, *part))
        };
        let cause = if lowered(history, feed, *part, allowed) {
            Cause::Derate
        } else if wrong_clock() {
            Cause::Clock
        } else if history.lost_state(part.to) {
            Cause::StateLost
        } else if history.meter(feed).is_some_and(|meter| history.is_faulty(meter, *part)) {
            Cause::Meter
        } else {
            Cause::Decision
        };
        return (cause, watts, at);
    }
    let cause = match Excess::at(history, feed, at).cause(watts) {
        // The largest moment was short enough to be the end of something lawful: what lasted
        // explains the span.
        Cause::Decision => {
            Excess::at(history, feed, span.to.saturating_sub(Duration::from_millis(1))).largest()
        }
        cause => cause,
    };
    (cause, watts, at)
}

/// Whether the limit was lowered within `allowed` before `part`, or in it.
fn lowered(history: &History<'_>, feed: &FeedId, part: Span, allowed: Duration) -> bool {
    let usable = &history.record.feeds[feed].usable;
    let before = Span { from: part.from.saturating_sub(allowed), to: part.from };
    usable.max(before) > usable.min(part)
}
