//! The list of leases in pages: open ones by their start, then closed ones, newest first. There may
//! be thousands of closed ones, which few people ask for.

use std::cmp::Reverse;

use directive::LeaseId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Core;
use crate::commitment::Phase;
use crate::view::{API_VERSION, LeasesAnswer};

/// Which leases to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseQuery {
    pub state: LeaseFilter,
    /// Only leases after this place in the list.
    pub after: Option<LeasePlace>,
    /// The maximum number of leases to list.
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseFilter {
    All,
    /// All leases that are not closed.
    Open,
    Only(Phase),
}

/// A place in the list. A lease that closes between two pages moves to the front of the closed
/// ones: it may be listed twice, but no lease is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeasePlace {
    #[serde(rename = "open")]
    Open(Timestamp, LeaseId),
    #[serde(rename = "closed")]
    Closed(Reverse<Timestamp>, LeaseId),
}

impl LeaseFilter {
    /// Reads a state's name, `open` or `all`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "open" => Some(Self::Open),
            _ => Phase::ALL.into_iter().find(|phase| phase.as_str() == name).map(Self::Only),
        }
    }

    fn lets_through(self, phase: Phase) -> bool {
        match self {
            Self::All => true,
            Self::Open => phase != Phase::Closed,
            Self::Only(wanted) => phase == wanted,
        }
    }
}

impl Core {
    pub(super) fn leases_answer(&self, query: &LeaseQuery) -> LeasesAnswer {
        let mut places: Vec<LeasePlace> = Vec::new();
        for (id, standing) in &self.state.leases {
            let phase = self.commitments.get(id).map_or(standing.phase, |live| live.phase);
            if !query.state.lets_through(phase) {
                continue;
            }
            places.push(match phase {
                // A lease that was closed just now may not have its time yet.
                Phase::Closed => {
                    let closed_at = standing.closed_at.unwrap_or(Timestamp::MAX);
                    LeasePlace::Closed(Reverse(closed_at), id.clone())
                }
                _ => LeasePlace::Open(standing.lease.start, id.clone()),
            });
        }
        let total = places.len();
        places.sort_unstable();
        let start = query.after.as_ref().map_or(0, |after| places.partition_point(|p| p <= after));
        let end = start.saturating_add(query.limit).min(total);
        let page = &places[start..end];
        let machines = self.machines_now();
        let view = |place: &LeasePlace| self.lease_view_with(place.lease(), &machines);
        LeasesAnswer {
            api_version: API_VERSION,
            timezone: self.timezone(),
            leases: page.iter().filter_map(view).collect(),
            total,
            next: (end < total).then(|| page.last().map(LeasePlace::to_cursor)).flatten(),
        }
    }
}

impl LeasePlace {
    fn lease(&self) -> &LeaseId {
        match self {
            Self::Open(_, lease) | Self::Closed(_, lease) => lease,
        }
    }

    fn to_cursor(&self) -> String {
        const_hex::encode(serde_json::to_vec(self).expect("names and times are JSON"))
    }

    /// Reads the `next` of an earlier page.
    #[must_use]
    pub fn from_cursor(cursor: &str) -> Option<Self> {
        let bytes = (cursor.len() <= CURSOR_MAX).then(|| const_hex::decode(cursor).ok())??;
        serde_json::from_slice(&bytes).ok()
    }
}

/// The maximum length of a cursor. A time and a lease's name, in JSON, in hex, is shorter.
const CURSOR_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::fixture::{at, lease, policy};
    use crate::ledger::{Head, LeaseRecord, LedgerState};

    /// A core with `count` leases; every second one is closed, in no order of their names.
    fn core(count: i64) -> Core {
        let mut state = LedgerState::default();
        for n in 0..count {
            let start = 10_000 + n * 7919 % count;
            let lease = lease(&format!("l-{n}"), "a", 1, start, start + 60);
            let closed = n % 2 == 1;
            let standing = LeaseRecord {
                arithmetic: Vec::new(),
                committed_at: at(0),
                phase: if closed { Phase::Closed } else { Phase::Planned },
                latest_safe_start: None,
                why: String::new(),
                unverified: false,
                unverified_why: None,
                unproven: false,
                unconfirmed: None,
                unconfirmed_at: None,
                breaches: Vec::new(),
                proven_at: None,
                closed_at: closed.then(|| at(start)),
                lease,
            };
            state.leases.insert(standing.lease.id.clone(), standing);
        }
        Core::new(Arc::new(policy()), state, Head::default(), at(0))
    }

    fn page(core: &Core, state: &str, after: Option<&str>, limit: usize) -> LeasesAnswer {
        let state = LeaseFilter::named(state).expect("a state");
        let after = after.map(|cursor| LeasePlace::from_cursor(cursor).expect("a cursor"));
        core.leases_answer(&LeaseQuery { state, after, limit })
    }

    #[test]
    fn every_lease_is_on_one_page_open_ones_first() {
        let core = core(501);
        for (state, total) in
            [("all", 501), ("open", 251), ("closed", 250), ("planned", 251), ("active", 0)]
        {
            let (mut seen, mut cursor) = (Vec::new(), None::<String>);
            loop {
                let answer = page(&core, state, cursor.as_deref(), 100);
                assert_eq!(answer.total, total, "{state}");
                let full = answer.leases.len() == 100;
                seen.extend(answer.leases);
                cursor = answer.next;
                match cursor {
                    Some(_) => assert!(full, "{state}"),
                    None => break,
                }
            }
            let places: Vec<_> = seen
                .iter()
                .map(|lease| (lease.closed_at.is_some(), Reverse(lease.closed_at), lease.start))
                .collect();
            assert!(places.is_sorted(), "{state}");
            let ids: BTreeSet<_> = seen.iter().map(|lease| &lease.id).collect();
            assert_eq!((seen.len(), ids.len()), (total, total), "{state}");
        }
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        let core = core(200);
        let first = page(&core, "open", None, 50);
        let second = page(&core, "open", first.next.as_deref(), 50);
        assert_eq!((second.leases.len(), second.next), (50, None));
    }

    /// Between two pages, a lease of the first page closes and one of the second page disappears.
    #[test]
    fn pages_lose_nothing_when_leases_close() {
        let mut core = core(10);
        let first = page(&core, "all", None, 3);
        let (closing, gone) = {
            let second = page(&core, "all", first.next.as_deref(), 3);
            (first.leases[2].id.clone(), second.leases[0].id.clone())
        };
        let standing = core.state.leases.get_mut(&closing).expect("it is there");
        (standing.phase, standing.closed_at) = (Phase::Closed, Some(at(20_000)));
        core.commitments.remove(&closing);
        core.state.leases.remove(&gone);
        let rest = page(&core, "all", first.next.as_deref(), 1000);
        let ids = |answer: &LeasesAnswer| {
            answer.leases.iter().map(|lease| lease.id.to_string()).collect::<Vec<_>>()
        };
        let both: BTreeSet<_> = ids(&first).into_iter().chain(ids(&rest)).collect();
        assert_eq!(both.len(), 9, "only {gone} is missing");
        assert!(ids(&rest).contains(&closing.to_string()), "it stands among the closed ones now");
    }

    #[test]
    fn h29_what_is_no_cursor_is_refused() {
        let forged = const_hex::encode("{\"open\":[1,\"x\"]}");
        for cursor in ["", "zz", "7b7d", &forged, &"ab".repeat(CURSOR_MAX)] {
            assert_eq!(LeasePlace::from_cursor(cursor), None, "{cursor:.40}");
        }
    }
}
