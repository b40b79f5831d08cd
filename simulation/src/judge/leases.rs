//! What the API says of leases, held against what was really there: proofs, silence about missing
//! power, breaches that are on record, and whom they blame.

use std::time::Duration;

use directive::{FeedId, LeaseId, Watts};

use super::excess::Excess;
use super::history::{Breach, History, Lease};
use super::spare::{error, spare};
use super::terms::Allowances;
use super::violation::{Cause, Kind, Place, Violation, secs};
use crate::facility::spec::Measured;
use crate::record::{Phase, Promise, Role, Series, Side, Span};

pub(super) fn judge(history: &History<'_>, allow: &Allowances) -> Vec<Violation> {
    let mut found = Vec::new();
    for (id, lease) in &history.leases {
        let Some((_, promise)) = lease.promises.last() else { continue };
        let feeds = history.path(&promise.feed).iter();
        let feeds: Vec<OnPath<'_>> =
            feeds.map(|feed| OnPath::new(history, allow, feed, id)).collect();
        let case = Case { history, allow, id, lease, feeds };
        found.extend(case.proofs());
        found.extend(case.silence());
        found.extend(case.breaches());
        found.extend(case.unproven(promise));
    }
    found
}

/// A feed on a lease's way up, and what is spare there.
struct OnPath<'a> {
    feed: &'a FeedId,
    spare: Series,
    /// The largest error of its meters.
    error: Watts,
    /// How long the switchboard may take to know a change; none where nothing is measured.
    evidence: Option<Duration>,
}

impl<'a> OnPath<'a> {
    fn new(history: &History<'_>, allow: &Allowances, feed: &'a FeedId, lease: &LeaseId) -> Self {
        let evidence = history.meter(feed).map(|meter| allow.evidence(meter));
        Self { feed, spare: spare(history, feed, lease), error: error(history, feed), evidence }
    }
}

struct Case<'a> {
    history: &'a History<'a>,
    allow: &'a Allowances,
    id: &'a LeaseId,
    lease: &'a Lease<'a>,
    feeds: Vec<OnPath<'a>>,
}

impl Case<'_> {
    /// A lease is shown proven, or active after that, only if its power was free when the last
    /// sample was taken that can have been known.
    fn proofs(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut before = None;
        for (at, phase) in &self.lease.phases {
            if *phase == Phase::Proven && before != Some(Phase::Proven) {
                found.extend(self.feeds.iter().filter_map(|feed| self.proof(feed, *at)));
            }
            before = Some(*phase);
        }
        found
    }

    fn proof(&self, feed: &OnPath<'_>, at: Duration) -> Option<Violation> {
        let known = feed.evidence?;
        let window = Span { from: at.saturating_sub(known), to: at };
        let best = feed.spare.max(window) + feed.error;
        if best >= Watts::ZERO {
            return None;
        }
        let missing = Watts(-best.0);
        let says = format!(
            "shown proven at {}, and at {} at least {missing} were missing throughout the {} before",
            secs(at),
            feed.feed,
            secs(known),
        );
        let cause = self.cause(feed, window, missing);
        Some(self.violation(Kind::ProvenNotFree, cause, window, missing, says))
    }

    /// Power that is missing while a lease is shown proven or active is put on record in the time
    /// that it takes to see it, twice over, and to be sure of it.
    fn silence(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let ends = self.lease.promises.last().map_or(Duration::ZERO, |(_, promise)| promise.end);
        for shown in self.lease.proven(self.history.record.ended.min(ends)) {
            for feed in &self.feeds {
                let Some(known) = feed.evidence else { continue };
                let allowed = known * 2 + self.allow.terms.settle;
                let missing = feed.spare.with(&Series::default(), |spare, _| {
                    Watts(-spare.0).saturating_sub(feed.error)
                });
                for short in missing.above(Watts::ZERO, self.history.record.ended) {
                    let Some(part) = short.overlap(shown).filter(|part| part.length() > allowed)
                    else {
                        continue;
                    };
                    let nearby =
                        Span { from: part.from.saturating_sub(allowed), to: part.to + allowed };
                    let told = self.lease.breaches.iter().any(|breach| {
                        (nearby.from..=nearby.to).contains(&breach.at) || breach.at >= part.from
                    });
                    if told {
                        continue;
                    }
                    let watts = missing.max(part);
                    let says = format!(
                        "up to {watts} missing at {} for {} while shown proven or active, and no breach",
                        feed.feed,
                        secs(part.length()),
                    );
                    let cause = self.cause(feed, nearby, watts);
                    found.push(self.violation(Kind::MissingUnrecorded, cause, part, watts, says));
                }
            }
        }
        found
    }

    /// A breach is on record for what was really missing, against the side that caused it.
    fn breaches(&self) -> Vec<Violation> {
        self.lease.breaches.iter().filter_map(|breach| self.breach(breach)).collect()
    }

    fn breach(&self, breach: &Breach) -> Option<Violation> {
        let known = self.feeds.iter().filter_map(|feed| feed.evidence).max().unwrap_or_default();
        let window = Span { from: breach.since.saturating_sub(known), to: breach.at };
        let short = self.feeds.iter().find(|feed| feed.spare.min(window) < feed.error);
        let Some(feed) = short else {
            let says = format!(
                "a breach of {} since {} is on record at {}, and nothing was missing at any feed",
                breach.missing,
                secs(breach.since),
                secs(breach.at),
            );
            let cause = self.feeds.iter().map(|feed| self.cause(feed, window, Watts::ZERO)).max();
            let cause = cause.unwrap_or(Cause::Decision);
            return Some(self.violation(
                Kind::BreachOfNothing,
                cause,
                window,
                breach.missing,
                says,
            ));
        };
        let (side, cause) = self.caused(feed, window)?;
        // Another side may have caused what was missing before the breach began.
        let (since, _) = self.caused(feed, Span { from: breach.since, to: breach.at })?;
        if side == breach.blamed || since == breach.blamed {
            return None;
        }
        let says = format!("a breach is on record against {:?}, caused by {side:?}", breach.blamed);
        Some(self.violation(Kind::BreachOfWrongSide, cause, window, breach.missing, says))
    }

    /// Who brought about what is missing at `feed` in `window`: a tenant where at each moment the
    /// excess of tenants covers it, a derate where the limit before it would have. `None` when the
    /// facility's own part is no clear one.
    fn caused(&self, feed: &OnPath<'_>, window: Span) -> Option<(Side, Cause)> {
        let steps = feed.spare.steps().iter();
        let inside = steps.filter(|(at, _)| *at > window.from && *at < window.to);
        let moments = std::iter::once((window.from, feed.spare.at(window.from)))
            .chain(inside.copied())
            .filter(|(_, spare)| *spare < Watts::ZERO);
        let (mut over, mut outside, mut all) = (false, false, true);
        let mut any = false;
        for (at, spare) in moments {
            any = true;
            let excess = Excess::at(self.history, feed.feed, at);
            over |= excess.tenant_over > Watts::ZERO;
            outside |= excess.tenant_outside > Watts::ZERO;
            all &= excess.tenant_over + excess.tenant_outside + spare >= Watts::ZERO;
        }
        if any && all {
            let cause = if over && !outside { Cause::TenantOver } else { Cause::TenantOutside };
            return Some((Side::Tenant, cause));
        }
        let usable = &self.history.record.feeds[feed.feed].usable;
        let cut = usable.at(Duration::ZERO) - usable.min(window);
        if any && cut > Watts::ZERO && feed.spare.min(window) + cut >= Watts::ZERO {
            return Some((Side::Derate, Cause::Derate));
        }
        any.then_some((Side::Facility, Cause::Decision))
    }

    /// A lease whose power was free for as long as a proof takes is shown proven at its start.
    fn unproven(&self, promise: &Promise) -> Option<Violation> {
        let known = self.feeds.iter().map(|feed| feed.evidence).collect::<Option<Vec<_>>>()?;
        let known = known.into_iter().max().unwrap_or_default();
        let takes = self.allow.terms.prove_for + known + self.allow.terms.settle;
        let from = promise.start.saturating_sub(promise.ready_before);
        let window = Span { from: from.saturating_sub(takes), to: promise.start + takes };
        let made = self.lease.promises.first().map_or(window.to, |(at, _)| *at);
        let proven = self.lease.proven(self.history.record.ended);
        let is_shown = proven.iter().any(|shown| shown.overlap(window).is_some());
        let is_over = promise.end < window.to || self.history.record.ended < window.to;
        if is_shown || is_over || made > window.from {
            return None;
        }
        // One error covers the samples, another the switchboard's own rounding to their sum.
        let free = |feed: &OnPath<'_>| feed.spare.min(window) >= feed.error + feed.error;
        if !self.feeds.iter().all(free) {
            return None;
        }
        let says = format!(
            "its power was free from {} to {}, and it was not shown proven",
            secs(window.from),
            secs(window.to),
        );
        let causes = self.feeds.iter().map(|feed| self.cause(feed, window, Watts::ZERO));
        let cause = causes.max().unwrap_or(Cause::Decision);
        Some(self.violation(Kind::FreeNotProven, cause, window, promise.watts, says))
    }

    /// What kept the switchboard from knowing what was so in `window`; where nothing did, what else
    /// explains `missing` watts.
    fn cause(&self, feed: &OnPath<'_>, window: Span, missing: Watts) -> Cause {
        let history = self.history;
        let roles = [Role::Switchboard, Role::Agent];
        let metered = history.spec.meters.iter().filter(|meter| {
            history.meter(feed.feed) == Some(meter) || meter.of == Measured::Tenants
        });
        let window = Span { from: window.from, to: window.to.max(window.from + TICK) };
        let is_down = |role: &Role| history.is_down_in(*role, window);
        if roles.iter().any(is_down) || history.is_cut_in(Role::Agent, window) {
            return Cause::Outage;
        }
        if metered.into_iter().any(|meter| history.is_faulty(meter, window)) {
            return Cause::Meter;
        }
        if roles.iter().any(|role| history.is_stepped(*role, window)) {
            return Cause::Clock;
        }
        if self.unmetered(feed.feed, window) {
            return Cause::Unmetered;
        }
        if missing == Watts::ZERO && self.settles_late() {
            return Cause::Settle;
        }
        let cause = if missing > Watts::ZERO {
            Excess::at(history, feed.feed, window.to).cause(missing)
        } else {
            Cause::Decision
        };
        // A switchboard whose ledger was set back is not heard.
        if cause == Cause::Decision && history.lost_state(window.to) {
            Cause::StateLost
        } else {
            cause
        }
    }

    /// Whether one of the meters concerned shows a change later than the policy says. Then the feed
    /// and its tenant seem to differ for longer than the policy takes for a difference of time.
    fn settles_late(&self) -> bool {
        let shows = self.history.spec.meters.iter().map(|meter| self.allow.evidence(meter)).max();
        shows.is_some_and(|shows| shows > self.allow.terms.settle)
    }

    /// Whether a tenant without a meter drew at `feed` in `window`, or the feed has none itself.
    fn unmetered(&self, feed: &FeedId, window: Span) -> bool {
        self.history.meter(feed).is_none()
            || self.history.leases.iter().any(|(id, lease)| {
                let promise = lease.promise(window.to);
                let blind = |promise: &Promise| {
                    promise.meter.is_none() && self.history.is_within(&promise.feed, feed)
                };
                let draws =
                    || self.history.drawn(id).is_some_and(|drawn| drawn.max(window) > Watts::ZERO);
                promise.is_some_and(blind) && draws()
            })
    }

    fn violation(
        &self,
        kind: Kind,
        cause: Cause,
        span: Span,
        watts: Watts,
        says: String,
    ) -> Violation {
        Violation { kind, cause, place: Place::Lease(self.id.clone()), span, watts, says }
    }
}

/// An instant, as a span.
const TICK: Duration = Duration::from_millis(1);
