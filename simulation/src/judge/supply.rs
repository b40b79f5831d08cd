//! What the API says of feeds that lose their power, held against when they had none: a feed is called
//! dead when it is dark and only then, and its machines get no work before it has been steady again.

use std::time::Duration;

use directive::FeedId;

use super::history::History;
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{MeterShown, Role, Span, State, SupplyShown};

/// Machines are looked for this long after their meter has fallen.
const GONE_WITHIN: Duration = Duration::from_mins(2);
/// What a meter shows as a rule, and which machines work, is known after this time without trouble.
const KNOWN_AFTER: Duration = Duration::from_mins(2);
/// Fewer machines at work may prove too little.
const LEAST_MACHINES: usize = 3;

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for feed in &history.spec.feeds {
        let dark = history.dark(&feed.id);
        let mut before = SupplyShown::Live;
        for (span, shown) in history.supply_shown(&feed.id) {
            let became_dead = shown == SupplyShown::Dead && before != SupplyShown::Dead;
            before = shown;
            if !became_dead {
                continue;
            }
            found.extend(has_power(history, allow, &feed.id, &dark, span));
            found.extend(work(history, allow, &feed.id, &dark, span));
        }
        found.extend(not_called(history, allow, &feed.id, &dark));
    }
    found
}

/// The times in which a feed had no power and was never called dead, although it was dark for longer than
/// it takes to find that, its meter was right, and everybody was heard.
fn not_called(
    history: &History<'_>,
    allow: &Allowances,
    feed: &FeedId,
    dark: &[Span],
) -> Vec<Violation> {
    let Some(meter) = history.meter(feed) else { return Vec::new() };
    let known = known_after(history, allow, feed);
    let shown = history.supply_shown(feed);
    let is_called = |dark: Span| {
        shown.iter().any(|(at, shown)| *shown == SupplyShown::Dead && at.overlap(dark).is_some())
    };
    let ended = history.record.ended;
    let is_doubted = |window: Span| {
        let mut shown = history.meter_shown(&meter.id, ended).into_iter();
        shown.any(|(at, what)| what == MeterShown::Doubted && at.overlap(window).is_some())
    };
    let mut found = Vec::new();
    for (index, &one) in dark.iter().enumerate().filter(|(_, one)| one.length() > known) {
        let window = Span { from: one.from.saturating_sub(KNOWN_AFTER), to: one.from + known };
        let others = dark.iter().enumerate().filter(|(other, _)| *other != index);
        let is_alone = others.into_iter().all(|(_, other)| other.overlap(window).is_none());
        let is_right = history.spec.meters.iter().all(|other| !history.is_faulty(other, window));
        let says =
            format!("{feed} has no power for {}, and is not called dead", secs(one.length()));
        let violation =
            violation(history, Kind::DarkNotCalled, Place::Feed(feed.clone()), window, says);
        if is_alone
            && is_right
            && violation.cause == Cause::Decision
            && working(history, feed, window, one.from) >= LEAST_MACHINES
            && !is_doubted(window)
            && !is_called(one)
        {
            found.push(Violation { span: one, ..violation });
        }
    }
    found
}

/// How many machines at and below `feed` had work throughout `window` until `at`, and were told nothing.
fn working(history: &History<'_>, feed: &FeedId, window: Span, at: Duration) -> usize {
    let works = history.machines.values().filter(|machine| {
        let is_changed = |when: &Duration| window.from < *when && *when < at;
        let mut served = machine.served.iter().rev();
        history.is_within(&machine.spec.feed, feed)
            && served.find(|(when, _)| *when < at).is_some_and(|(_, served)| *served)
            && machine.state(window.from) == State::Awake
            && !machine.states.iter().any(|(when, ..)| is_changed(when))
            && !machine.served.iter().any(|(when, _)| is_changed(when))
            && !machine.told().any(|when| window.from < when && when < window.to)
    });
    works.count()
}

/// A feed that was called dead and had power all the time that the switchboard may have known of.
fn has_power(
    history: &History<'_>,
    allow: &Allowances,
    feed: &FeedId,
    dark: &[Span],
    shown: Span,
) -> Option<Violation> {
    let known = known_after(history, allow, feed);
    let window = Span { from: shown.from.saturating_sub(known), to: shown.from };
    if dark.iter().any(|dark| dark.overlap(window).is_some()) {
        return None;
    }
    let says = format!("{feed} is called dead at {}, and has power", secs(shown.from));
    let kind = Kind::LiveCalledDead;
    Some(violation(history, kind, Place::Feed(feed.clone()), shown, says))
}

/// The machines below a feed that was known to be dead that got work before it had been steady for
/// long enough.
fn work(
    history: &History<'_>,
    allow: &Allowances,
    feed: &FeedId,
    dark: &[Span],
    shown: Span,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let told = shown.from + allow.terms.look_max + allow.terms.message_max;
    for dark in dark.iter().filter(|dark| dark.overlap(shown).is_some() && told <= dark.to) {
        let steady = dark.to + allow.terms.reclose_settle;
        let too_early = |at: &Duration| told < *at && *at < steady;
        for (id, machine) in &history.machines {
            if !history.is_within(&machine.spec.feed, feed) {
                continue;
            }
            let mut begins = machine.served.iter().filter(|(_, served)| *served);
            let Some((at, _)) = begins.find(|(at, _)| too_early(at)) else { continue };
            let says = format!(
                "{id} got work at {}, and {feed}, which was called dead, has power since {}",
                secs(*at),
                secs(dark.to),
            );
            let span = Span { from: *at, to: steady };
            let place = Place::Machine((*id).clone());
            found.push(violation(history, Kind::ServedUnsteady, place, span, says));
        }
    }
    found
}

/// In what time the switchboard may learn that a feed is dark: its meter falls at once, and its machines
/// are found gone later.
fn known_after(history: &History<'_>, allow: &Allowances, feed: &FeedId) -> Duration {
    let evidence = history.meter(feed).map(|meter| allow.evidence(meter));
    GONE_WITHIN + evidence.unwrap_or_default()
}

fn violation(
    history: &History<'_>,
    kind: Kind,
    place: Place,
    span: Span,
    says: String,
) -> Violation {
    let nearby = Span { from: span.from.saturating_sub(GONE_WITHIN), to: span.to };
    let roles = [Role::Switchboard, Role::Agent, Role::Proxy];
    let is_out = |role: Role| history.is_down_in(role, nearby) || history.is_cut_in(role, nearby);
    let cause = if roles.iter().any(|role| history.had_wrong_clock(*role, nearby)) {
        Cause::Clock
    } else if history.lost_state(span.to) {
        Cause::StateLost
    } else if roles.into_iter().any(is_out) {
        Cause::Outage
    } else {
        Cause::Decision
    };
    Violation { kind, cause, place, span, watts: directive::Watts::ZERO, says }
}
