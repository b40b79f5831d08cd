//! A small facility for tests: one interconnect, two transformers below it, four groups.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use directive::{FeedId, LeaseId, MeterId, Watts};
use jiff::Timestamp;

use crate::facility::{Facility, FacilityParts, Feed, Group, MeterSpec};
use crate::lease::{Class, Lease};
use crate::policy::{Dispatch, Failsafe, GuardRules, Merit, Newcomers, Policy, Ramp, Unassigned};

/// An instant: seconds after an arbitrary origin.
pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
}

/// An arbitrary origin; only differences matter.
#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}

/// A feed with a meter of its own.
pub(crate) fn feed(id: &str, parent: Option<&str>, limit: i64, house: i64) -> Feed {
    Feed {
        id: id.into(),
        parent: parent.map(FeedId::from),
        limit: Watts(limit).into(),
        continuous_factor: 1.0,
        reserve: Watts::ZERO,
        house: Watts(house),
        default_constraint: None,
        meter: Some(MeterId::from(format!("m-{id}"))),
        guard_band: Some(Watts::ZERO),
        down_per_min: None,
        up_per_min: None,
    }
}

/// A group of machines of 3,000 W on `feed`; `firm` groups have a driver and a measured shed
/// time of 20 s.
pub(crate) fn group(
    id: &str,
    feed: &str,
    machines: u32,
    joules_per_terahash: f64,
    firm: bool,
) -> Group {
    Group {
        id: id.into(),
        feed: feed.into(),
        matches: vec![format!("{id}.*")],
        machines,
        watts: Watts(3000),
        joules_per_terahash,
        residual: Watts(30),
        poolless: None,
        driver: firm.then(|| "simulated".into()),
        shed_p95: firm.then_some(Duration::from_secs(20)),
        restore_p95: Duration::from_secs(60),
        min_up: Duration::ZERO,
        min_down: Duration::ZERO,
        protected: false,
    }
}

/// `root` 100 kW (house 4 kW) over `a` 50 kW (house 1 kW) and `b` 50 kW. On `a`: 10 old firm
/// machines (`old`), 4 new firm ones (`new`). On `b`: 8 firm machines (`far`) and 5 that can only
/// be starved (`dumb`).
pub(crate) fn parts() -> FacilityParts {
    let feeds = vec![
        feed("root", None, 100_000, 4_000),
        feed("a", Some("root"), 50_000, 1_000),
        feed("b", Some("root"), 50_000, 0),
    ];
    let meters: BTreeMap<MeterId, MeterSpec> = ["m-root", "m-a", "m-b", "tenant"]
        .into_iter()
        .map(|id| {
            let stale_after = Duration::from_secs(10);
            (MeterId::from(id), MeterSpec { id: id.into(), stale_after })
        })
        .collect();
    FacilityParts {
        site: "test".into(),
        timezone: jiff::tz::TimeZone::UTC,
        unassigned: Watts(3500),
        unassigned_feed: "root".into(),
        feeds,
        groups: vec![
            group("new", "a", 4, 17.5, true),
            group("old", "a", 10, 30.0, true),
            group("far", "b", 8, 25.0, true),
            group("dumb", "b", 5, 38.0, false),
        ],
        meters,
    }
}

/// The policy of [`parts`].
pub(crate) fn policy() -> Policy {
    policy_with(|_| ())
}

/// The policy of [`parts`] as `change` leaves them.
pub(crate) fn policy_with(change: impl FnOnce(&mut FacilityParts)) -> Policy {
    let mut parts = parts();
    change(&mut parts);
    Policy {
        facility: Facility::new(parts).expect("every name leads somewhere"),
        revision: Some(1),
        digest: "00".into(),
        dispatch: Dispatch {
            merit: Merit::MarginPerKw,
            make_up_pct: 0.0,
            settle: Duration::from_secs(10),
            margin: Duration::from_secs(30),
            prove_for: Duration::from_secs(5),
            hashprice_usd_per_ph_day: Some(40.0),
            power_usd_per_mwh: Some(45.0),
        },
        ramp: Ramp {
            down_per_min: Watts(30_000),
            up_per_min: Watts(12_000),
            up_step_machines: 2,
            up_step_interval: Duration::from_secs(15),
            step_max: None,
        },
        guard: GuardRules { after: 2, suspect_max_pct: 25, ramp_per_min: None, step_max: None },
        failsafe: Failsafe {
            plan_horizon: Duration::from_hours(4),
            permit_ttl: Duration::from_secs(120),
            permit_every: Duration::from_secs(30),
            report_stale_after: Duration::from_secs(15),
            retries: 3,
        },
        unassigned: Unassigned::Park,
        newcomers: Newcomers::default(),
        reclose_settle: Duration::from_secs(60),
    }
}

/// A firm lease of `watts` at `feed` from `start` to `end`.
pub(crate) fn lease(id: &str, feed: &str, watts: i64, start: i64, end: i64) -> Lease {
    Lease {
        id: LeaseId::from(id),
        tenant: "Nebula".into(),
        class: Class::Firm,
        it: Watts(watts),
        pue: 1.0,
        gross: Watts(watts),
        feed: feed.into(),
        start: at(start),
        end: at(end),
        ready_before: Duration::from_secs(60),
        accept_unverified: false,
        meter: None,
        cancelled_at: None,
        follows: None,
    }
}

/// Every declared machine of `policy`, seen and reached: `old.000`, `old.001` …
pub(crate) fn fleet(policy: &Policy) -> crate::plan::Fleet {
    let known = |group: &Group| {
        let name = |i: u32| directive::MachineId::from(format!("{}.{i:03}", group.id));
        (0..group.machines)
            .map(|i| crate::plan::Known {
                id: name(i),
                reached: true,
                failing: false,
                absent: false,
            })
            .collect()
    };
    crate::plan::Fleet {
        groups: policy.facility.groups().iter().map(known).collect(),
        population: crate::Population::default(),
    }
}
