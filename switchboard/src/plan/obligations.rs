//! What feeds have to carry over time, as one list: leases, which reserve power, and limits that are
//! lower for a time. Both are needs at a feed from one instant to another, and the plan frees power for
//! both in the same way.

use directive::LeaseId;
use jiff::Timestamp;

use super::input::Input;
use crate::facility::FeedNumber;

/// What a feed has to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obligation {
    /// A lease, as its index.
    Lease(usize),
    /// The limit of a feed is lower than at another time.
    Limit(FeedNumber),
}

/// An instant at which an obligation asks for more or for less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) at: Timestamp,
    /// Whether it asks for more from then on.
    pub(super) asks_more: bool,
    pub(super) obligation: Obligation,
}

/// The edges from now on, in the order in which they are planned: of those of one instant, first what
/// asks for less, then what asks for more, in the order in which it began to. What has begun already
/// begins now.
pub(super) fn edges(input: &Input<'_>) -> Vec<Edge> {
    // Limits have no name, so that they come before leases of the same time.
    type Key<'a> = (Timestamp, bool, Timestamp, Option<&'a LeaseId>);
    let (now, reach) = (input.now, input.reach);
    let mut edges: Vec<(Key<'_>, Obligation)> = Vec::new();
    let facility = &input.policy.facility;
    for &feed in facility.dated() {
        let limit = &facility.feeds()[feed].limit;
        if limit.at(now) < limit.highest() {
            let last = limit.changes().take_while(|change| change.at <= now).last();
            let since = last.map_or(Timestamp::MIN, |change| change.at);
            edges.push(((now, true, since, None), Obligation::Limit(feed)));
        }
        let changes = limit.after(now).take_while(|change| change.at <= reach);
        edges.extend(changes.map(|change| {
            ((change.at, change.lowers(), change.at, None), Obligation::Limit(feed))
        }));
    }
    for (number, lease) in input.leases.iter().enumerate() {
        let from = lease.reserved_from();
        if now >= lease.ends() || from >= lease.ends() || from > reach {
            continue;
        }
        let mut push = |at: Timestamp, asks_more: bool| {
            edges.push(((at, asks_more, from, Some(&lease.id)), Obligation::Lease(number)));
        };
        push(from.max(now), true);
        // It needs power of its own when leases end whose power it takes over.
        let rises = input.reservations[number].rises().map(|(at, _)| at);
        for at in rises.filter(|at| from.max(now) < *at && *at <= reach) {
            push(at, true);
        }
        if lease.ends() <= reach {
            push(lease.ends(), false);
        }
    }
    edges.sort_by_key(|(key, _)| *key);
    let edges = edges.into_iter();
    edges.map(|((at, asks_more, ..), obligation)| Edge { at, asks_more, obligation }).collect()
}
