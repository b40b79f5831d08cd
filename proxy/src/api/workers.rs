//! `/v1/workers`: machines by worker name, with the outcomes of their submits.

use std::time::Instant;

use daemon::admin::ApiError;
use directive::Serving;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::listing::{Id, Key, Listing, Place, Window};
use crate::machines::{Hashrate, MachineStats, Machines};
use crate::outcome::Outcome;

/// The parameters of the query.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    offset: Option<usize>,
    limit: Option<usize>,
    cursor: Option<String>,
    sort: Option<String>,
    /// Only workers whose name begins with this.
    #[serde(default)]
    worker_name: String,
    /// Only workers that are served like this: `working`, `parked` or `gone`.
    serving: Option<Serving>,
}

/// The sort keys.
const KEYS: [&str; 7] = [
    "worker_name",
    "hashrate",
    "shares",
    "rejects",
    "last_share_at",
    "sessions",
    "best_difficulty",
];

/// A worker, as shown by the API.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    pub worker_name: String,
    pub sessions: u32,
    pub serving: Serving,
    /// Shares that met the difficulty set for their job, and the sum of these difficulties.
    pub shares: u64,
    pub work: f64,
    pub accepted: u64,
    pub local: u64,
    pub at_risk: u64,
    pub rejects: Rejects,
    pub hashrate: Hashrate,
    pub best_difficulty: Option<f64>,
    pub last_share_at: Option<Timestamp>,
    pub still_hashing: u64,
}

/// Submits that were not answered `true`, by reason.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejects {
    pub total: u64,
    pub pool_rejected: u64,
    pub unresolved: u64,
    pub stale: u64,
    pub duplicate: u64,
    pub low_difficulty: u64,
    pub unauthorized: u64,
    pub malformed: u64,
    pub overflow: u64,
}

impl Rejects {
    fn of(stats: &MachineStats) -> Self {
        Self {
            total: stats.refused(),
            pool_rejected: stats.ends(Outcome::PoolRejected),
            unresolved: stats.ends(Outcome::Unresolved),
            stale: stats.ends(Outcome::Stale),
            duplicate: stats.ends(Outcome::Duplicate),
            low_difficulty: stats.ends(Outcome::LowDifficulty),
            unauthorized: stats.ends(Outcome::Unauthorized),
            malformed: stats.ends(Outcome::Malformed),
            overflow: stats.ends(Outcome::Overflow),
        }
    }
}

/// A page of workers, and the total hashrate of all workers that pass the filters.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    #[serde(flatten)]
    pub page: Listing<WorkerView>,
    /// The total over all workers that pass the filters.
    pub hashrate: Hashrate,
}

pub(super) fn list(machines: &Machines, query: &Query, now: Instant) -> Result<Workers, ApiError> {
    let Query { offset, limit, cursor, sort, worker_name, serving } = query;
    let (key, window) = Window::read(sort.as_deref(), &KEYS, *offset, *limit, cursor.as_deref())?;
    let mut together = Hashrate::default();
    let entries = machines
        .handles()
        .into_iter()
        .filter(|(name, _)| name.as_str().starts_with(worker_name))
        .filter(|(_, stats)| serving.is_none_or(|wanted| stats.serving() == wanted))
        .map(|(name, stats)| {
            let id = name.as_str().to_owned();
            let hashrate = stats.hashrate(now);
            together = together + hashrate;
            (Place(key_of(key, &id, &stats, hashrate), Id::Worker(id)), (name, stats, hashrate))
        })
        .collect();
    let page = window.cut(entries, |(name, stats, hashrate)| WorkerView {
        worker_name: name.as_str().to_owned(),
        sessions: stats.sessions(),
        serving: stats.serving(),
        shares: stats.shares(),
        work: stats.work(),
        accepted: stats.ends(Outcome::Accepted),
        local: stats.ends(Outcome::Local) + stats.ends(Outcome::AtRisk),
        at_risk: stats.ends(Outcome::AtRisk),
        rejects: Rejects::of(&stats),
        hashrate,
        best_difficulty: stats.best(),
        last_share_at: stats.last_share_at(),
        still_hashing: stats.still_hashing(),
    })?;
    Ok(Workers { page, hashrate: together })
}

#[expect(clippy::cast_precision_loss, reason = "an order among counts, not the counts")]
fn key_of(key: &str, name: &str, stats: &MachineStats, hashrate: Hashrate) -> Key {
    Key::number(match key {
        "hashrate" => Some(hashrate.m10),
        "shares" => Some(stats.shares() as f64),
        "rejects" => Some(Rejects::of(stats).total as f64),
        "last_share_at" => stats.last_share_at().map(|at| at.as_millisecond() as f64),
        "sessions" => Some(f64::from(stats.sessions())),
        "best_difficulty" => stats.best(),
        _ => return Key::Text(name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::Worth;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
    }

    #[test]
    fn workers_are_sorted_filtered_and_shown_with_their_sums() {
        let machines = Machines::default();
        let start = origin();
        let present: Vec<_> = ["acme.a", "acme.b", "other.c"]
            .map(|name| machines.enter(name.into(), || at(0)))
            .into();
        machines.fold(start);
        for (shares, presence) in [3, 9, 1].into_iter().zip(&present) {
            for _ in 0..shares {
                presence.stats.share(Worth { difficulty: 2.0, found: 5.0 }, false, at(7));
                presence.stats.ended(Outcome::Local);
            }
            presence.stats.ended(Outcome::Stale);
        }
        let later = start + Duration::from_secs(10);
        let query = Query {
            sort: Some("-hashrate".into()),
            worker_name: "acme.".into(),
            ..Query::default()
        };
        let Workers { page, hashrate: together } = list(&machines, &query, later).expect("a page");
        let names: Vec<&str> = page.items.iter().map(|worker| &*worker.worker_name).collect();
        assert_eq!((names, page.total), (vec!["acme.b", "acme.a"], 2));
        let first = &page.items[0];
        assert_eq!(
            (first.shares, first.work, first.local, first.rejects.stale, first.rejects.total),
            (9, 18.0, 9, 1, 1)
        );
        assert_eq!((first.best_difficulty, first.last_share_at), (Some(5.0), Some(at(7))));
        let hashrate = 1.8 * 4_295_032_833.0;
        assert!((first.hashrate.m1 - hashrate).abs() < hashrate / 1000.0, "{:?}", first.hashrate);
        let both = hashrate * 12.0 / 9.0;
        assert!(
            (together.m1 - both).abs() < both / 1000.0,
            "of those that pass the filters: {together:?}"
        );
    }
}
