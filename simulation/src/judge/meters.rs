//! What the API says of meters, held against what was wrong with them: a meter that is off by a
//! thousand is not believed for long, and one that is right is never called wrong.

use std::time::Duration;

use directive::FeedId;

use super::history::History;
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::facility::spec::{Measured, MeterSpec};
use crate::record::{MeterFault, MeterShown, Role, Span, State};

/// How far a meter must be off so that it has to be found.
const FAR: f64 = 100.0;
/// What a fault leaves behind: samples of its time are compared for as long, and a doubt lasts.
const AFTER: Duration = Duration::from_mins(6);
/// What is allowed beside the meter's own times: a contradiction by single samples must last, shares
/// must come that prove it, and a fall that nothing proves wrong is doubted for a minute.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// Below this part of the usable power there is little to be wrong about.
const LEAST_LOAD: f64 = 0.2;
/// Fewer machines at work may prove too little.
const LEAST_MACHINES: usize = 3;

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for meter in &history.spec.meters {
        let Measured::Feed(feed) = &meter.of else { continue };
        found.extend(believed(history, allow, meter, feed));
        found.extend(doubted(history, meter, feed));
    }
    found
}

/// The times in which a meter was off by far and shown as believed.
fn believed(
    history: &History<'_>,
    allow: &Allowances,
    meter: &MeterSpec,
    feed: &FeedId,
) -> Vec<Violation> {
    let ended = history.record.ended;
    let allowed = allow.evidence(meter) * 2 + meter.period * 3 + FOUND_WITHIN;
    let mut found = Vec::new();
    for (index, (from, fault)) in meter.faults.iter().enumerate() {
        let Some(MeterFault::Factor(factor)) = fault else { continue };
        if *factor < FAR && *factor > 1.0 / FAR {
            continue;
        }
        let to = meter.faults.get(index + 1).map_or(ended, |(next, _)| *next).min(ended);
        let judged = Span { from: *from + allowed, to };
        if judged.from >= judged.to || !is_at_work(history, feed, Span { from: *from, to }) {
            continue;
        }
        for (part, shown) in history.meter_shown(&meter.id, ended) {
            let Some(part) = part.overlap(judged).filter(|_| shown == MeterShown::Believed) else {
                continue;
            };
            let says = format!(
                "{} is off by {factor} since {}, and believed for {}",
                meter.id,
                secs(*from),
                secs(part.length()),
            );
            found.push(violation(history, Kind::ImplausibleBelieved, feed, part, says));
        }
    }
    found
}

/// Whether enough is drawn, and enough machines work, throughout `span`.
fn is_at_work(history: &History<'_>, feed: &FeedId, span: Span) -> bool {
    let record = &history.record.feeds[feed];
    let works = history.machines.values().filter(|machine| {
        history.is_within(&machine.spec.feed, feed)
            && machine.state(span.from) == State::Awake
            && machine.states.iter().all(|(at, ..)| *at <= span.from || *at >= span.to)
    });
    record.load.min(span) >= record.usable.max(span).scale(LEAST_LOAD)
        && works.count() >= LEAST_MACHINES
}

/// The times in which a meter was called wrong although all meters of the site were right: what one
/// shows may be held against others.
fn doubted(history: &History<'_>, meter: &MeterSpec, feed: &FeedId) -> Vec<Violation> {
    let mut found = Vec::new();
    for (part, shown) in history.meter_shown(&meter.id, history.record.ended) {
        if shown != MeterShown::Doubted {
            continue;
        }
        let nearby = Span { from: part.from.saturating_sub(AFTER), to: part.to };
        if history.spec.meters.iter().any(|other| history.is_faulty(other, nearby)) {
            continue;
        }
        let says = format!("{} is right, and called wrong for {}", meter.id, secs(part.length()));
        found.push(violation(history, Kind::HonestDoubted, feed, part, says));
    }
    found
}

fn violation(
    history: &History<'_>,
    kind: Kind,
    feed: &FeedId,
    span: Span,
    says: String,
) -> Violation {
    let nearby = Span { from: span.from.saturating_sub(AFTER), to: span.to };
    let roles = [Role::Switchboard, Role::Agent, Role::Proxy];
    let lies = || {
        history.machines.values().any(|machine| {
            let habits = &machine.spec.habits;
            (habits.lies || habits.late.is_some()) && history.is_within(&machine.spec.feed, feed)
        })
    };
    let cause = if roles.iter().any(|role| history.had_wrong_clock(*role, nearby)) {
        Cause::Clock
    } else if roles
        .iter()
        .any(|role| history.is_down_in(*role, nearby) || history.is_cut_in(*role, nearby))
    {
        Cause::Outage
    } else if history.lost_state(span.to) {
        Cause::StateLost
    } else if lies() {
        Cause::Device
    } else {
        Cause::Decision
    };
    let watts = history.record.feeds[feed].load.at(span.from);
    Violation { kind, cause, place: Place::Feed(feed.clone()), span, watts, says }
}
