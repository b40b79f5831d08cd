//! What is left at a feed beside all that is reserved there: the power that a lease was promised is
//! there as long as this is not below zero.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::{FeedId, LeaseId, Watts};

use super::history::{History, Lease};
use super::terms::noise;
use crate::facility::spec::Measured;
use crate::record::{Phase, Promise, Series};

/// The watts at `feed` beside what `lease` reserves, and every lease shown proven or active that needs
/// its power at the same time. What tenants draw counts up to their reservation as theirs, and above it as load.
pub(super) fn spare(history: &History<'_>, feed: &FeedId, lease: &LeaseId) -> Series {
    let record = &history.record.feeds[feed];
    let leases: Vec<(&LeaseId, &Lease<'_>)> = history
        .leases
        .iter()
        .map(|(id, lease)| (*id, lease))
        .filter(|(_, known)| {
            let promises = known.promises.first();
            promises.is_some_and(|(_, promise)| history.is_within(&promise.feed, feed))
        })
        .collect();
    let mut times: BTreeSet<Duration> = BTreeSet::new();
    times.extend(record.load.steps().iter().map(|(at, _)| *at));
    times.extend(record.usable.steps().iter().map(|(at, _)| *at));
    for (id, known) in &leases {
        times.extend(history.drawn(id).into_iter().flat_map(|drawn| drawn.steps()).map(|s| s.0));
        times.extend(known.phases.iter().map(|(at, _)| *at));
        for (at, promise) in &known.promises {
            let reserved_from = promise.start.saturating_sub(promise.ready_before);
            times.extend([*at, reserved_from, promise.start, promise.end]);
        }
    }
    let mut spare = Series::default();
    for at in times.into_iter().filter(|at| *at <= history.record.ended) {
        let mut left = record.usable.at(at) - record.load.at(at);
        for (id, known) in &leases {
            let drawn = history.drawn(id).map_or(Watts::ZERO, |drawn| drawn.at(at));
            let reserved = history.reserved(known, at);
            left += drawn.min(reserved);
            let counts = matches!(known.phase(at), Some(Phase::Proven | Phase::Active));
            if *id == lease {
                left = left - promised(known, at);
            } else if counts && overlaps(history.leases.get(lease), known, at) {
                left = left - reserved;
            }
        }
        spare.set(at, left);
    }
    spare
}

/// Whether two leases need their power at one time, by what was promised by `at`. One that ends before
/// the other's power is reserved hands its machines on. All leases are one tenant's: at the same feed,
/// what the tenant has by one lease serves the next one, too.
fn overlaps(lease: Option<&Lease<'_>>, other: &Lease<'_>, at: Duration) -> bool {
    let lease = lease.and_then(|lease| lease.promise(at));
    let Some((lease, other)) = lease.zip(other.promise(at)) else { return true };
    let renews = lease.feed == other.feed;
    let ready_before =
        |promise: &Promise| if renews { Duration::ZERO } else { promise.ready_before };
    let from = |promise: &Promise| promise.start.saturating_sub(ready_before(promise));
    from(lease) < other.end && from(other) < lease.end
}

/// What a lease is for, also before its time.
fn promised(lease: &Lease<'_>, at: Duration) -> Watts {
    lease.promise(at).map_or(Watts::ZERO, |promise| promise.watts)
}

/// The largest error of what a feed's meter and the meters of its tenants show together.
pub(super) fn error(history: &History<'_>, feed: &FeedId) -> Watts {
    let usable = history.record.feeds[feed].usable.last();
    let tenants = history.spec.meters.iter().filter(|meter| matches!(meter.of, Measured::Tenants));
    let tenant = tenants.map(|meter| noise(meter, usable)).max().unwrap_or_default();
    history.meter(feed).map_or(Watts::ZERO, |meter| noise(meter, usable)) + tenant
}
