//! Draws what clients ask for: leases that begin within the run, some side by side, some one after
//! the other, some cancelled, with tenants that keep to them.

use std::time::Duration;

use directive::{LeaseId, MeterId, Watts};
use jiff::SignedDuration;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Act, LeaseSpec, Tenant};
use crate::facility::draw::TENANT_METERS;
use crate::facility::spec::FacilitySpec;

pub(super) fn leases(
    facility: &FacilitySpec,
    length: Duration,
    rng: &mut StdRng,
) -> (Vec<LeaseSpec>, Vec<(Duration, Act)>) {
    let (mut leases, mut acts): (Vec<LeaseSpec>, Vec<(Duration, Act)>) = (Vec::new(), Vec::new());
    for number in 0..rng.random_range(1..=4) {
        let before = leases.last().filter(|_| rng.random_ratio(1, 4));
        // A lease that is renewed begins where the one before ends.
        let lease = match before {
            Some(before) => renewed(before, number, rng),
            None => lease(facility, number, length, rng),
        };
        let asked = lease.start.saturating_sub(secs(rng.random_range(180..=600)));
        acts.push((asked.max(secs(30)), Act::Ask(number)));
        if rng.random_ratio(1, 5) {
            let at = rng.random_range(asked.max(secs(40))..=lease.end);
            acts.push((at, Act::Cancel { lease: number, force: rng.random_bool(0.7) }));
        }
        leases.push(lease);
    }
    (leases, acts)
}

fn lease(facility: &FacilitySpec, number: usize, length: Duration, rng: &mut StdRng) -> LeaseSpec {
    let feed = facility.feeds.choose(rng).expect("there is a root");
    // Up to what the feed carries without any mining, and now and then too much.
    let most = (feed.usable() - feed.declared_house).kw();
    let kw = (most * rng.random_range(0.05..1.02)).max(1.0);
    let start = secs(rng.random_range(300..=length.as_secs() / 2));
    LeaseSpec {
        lease: LeaseId::from(
            format!("lease-{}", char::from(b'a' + u8::try_from(number).unwrap_or(0))).as_str(),
        ),
        feed: feed.id.clone(),
        watts: Watts::from_kw(kw.floor()).expect("a plain power"),
        start,
        end: start + secs(rng.random_range(120..=length.as_secs() / 4)),
        ready_before: secs(rng.random_range(0..=4) * 30),
        meter: rng.random_ratio(3, 4).then(|| meter(number)),
        accept_unverified: rng.random_ratio(1, 3),
        tenant: tenant(rng),
    }
}

fn renewed(before: &LeaseSpec, number: usize, rng: &mut StdRng) -> LeaseSpec {
    LeaseSpec {
        lease: LeaseId::from(format!("{}-again-{number}", before.lease)),
        start: before.end,
        end: before.end + secs(rng.random_range(120..=400)),
        meter: before
            .meter
            .as_ref()
            .map(|_| MeterId::from(format!("m-tenant-{}", number % TENANT_METERS).as_str())),
        tenant: tenant(rng),
        ..before.clone()
    }
}

/// The meter that a tenant brings.
fn meter(lease: usize) -> MeterId {
    format!("tenant-{}", 1 + lease % TENANT_METERS).into()
}

/// One that keeps to its lease.
fn tenant(rng: &mut StdRng) -> Tenant {
    Tenant {
        comes: SignedDuration::from_secs(rng.random_range(0..=60)),
        percent: rng.random_range(40..=100),
        goes: SignedDuration::from_secs(-rng.random_range(0..=30)),
        ramp: secs(rng.random_range(0..=3) * 5),
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
