//! What the API says of feeds that lose their power, held against when they had none: a feed is called
//! dead only when it is dark, and its machines get no work before it has been steady again.

use std::time::Duration;

use directive::FeedId;

use super::history::History;
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::record::{Role, Span, SupplyShown};

/// Machines are looked for this long after their meter has fallen.
const GONE_WITHIN: Duration = Duration::from_mins(2);

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
    }
    found
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
