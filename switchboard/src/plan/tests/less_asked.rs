//! Where less is asked of a site, its machines are off for no longer: neither a lease that is cancelled
//! nor a limit that is raised makes them so, but for a machine at each feed, since whole machines go.
//!
//! In rare cases it does: another choice of groups then costs no more at any one instant, but a group
//! that must stay awake for long stays off through a gap between two leases.

use std::time::Duration;

use rand::prelude::*;

use super::optimum::number;
use super::random_site::{ShortestTimes, Site};
use crate::fixture::policy_with;
use crate::plan::Plan;

/// What all machines are off together.
fn time_off(site: &Site, plan: &Plan) -> Duration {
    let times = site.times_off(plan);
    let periods = times.iter().flat_map(|(_, periods)| periods);
    let secs = periods.map(|(from, until)| until.duration_since(*from).as_secs_f64());
    Duration::from_secs_f64(secs.sum())
}

/// From when the first machine is off until the last one returns.
fn window(site: &Site, plan: &Plan) -> Duration {
    let times = site.times_off(plan);
    let periods = || times.iter().flat_map(|(_, periods)| periods);
    let first = periods().map(|(from, _)| *from).min();
    let last = periods().map(|(_, until)| *until).max();
    first.zip(last).map_or(Duration::ZERO, |(first, last)| {
        last.duration_since(first).try_into().expect("the last comes after the first")
    })
}

/// The site without one of its leases, or with a higher limit at one feed.
fn with_less_asked(site: &Site, random: &mut StdRng) -> Site {
    let (mut policy, mut leases) = (site.policy.clone(), site.leases.clone());
    if random.random_bool(0.5) {
        leases.remove(random.random_range(0..leases.len()));
    } else {
        let mut feeds: Vec<_> = policy.facility.feeds().iter().cloned().collect();
        let feed = feeds.choose_mut(random).expect("there is a root");
        feed.limit = feed.limit.highest().scale(random.random_range(1.01..1.3)).into();
        let groups = policy.facility.groups().to_vec();
        policy.facility = policy_with(|parts| {
            parts.feeds = feeds;
            parts.groups = groups;
        })
        .facility;
    }
    Site { policy, fleet: site.fleet.clone(), leases }
}

/// `TIELINE_PLAN_CHANGES=n` compares n pairs of plans, and not only the usual number.
#[test]
fn where_less_is_asked_machines_are_off_for_no_longer() {
    let (mut compared, mut longer, mut dearer) = (0, 0, 0);
    let mut worst = (0.0_f64, 0);
    let mut beyond: Vec<(u64, f64)> = Vec::new();
    for seed in 0_u64.. {
        if compared >= number("TIELINE_PLAN_CHANGES", 1500) {
            break;
        }
        let site = Site::draw(seed, ShortestTimes::UpToAnHour);
        if site.leases.is_empty() {
            continue;
        }
        let mut random = StdRng::seed_from_u64(seed);
        let before = site.plan();
        for _ in 0..4 {
            let less = with_less_asked(&site, &mut random);
            let after = less.plan();
            compared += 1;
            let window = window(&site, &before);
            let more =
                time_off(&less, &after).as_secs_f64() - time_off(&site, &before).as_secs_f64();
            longer += u64::from(more > 1.0);
            dearer += u64::from(less.cost(&after) > site.cost(&before) * 1.001 + 1e-9);
            let machines = more / window.as_secs_f64().max(1.0);
            if machines > worst.0 {
                worst = (machines, seed);
            }
            let feeds = site.policy.facility.feeds().iter().count();
            #[expect(clippy::cast_precision_loss, reason = "a handful of feeds")]
            if machines > feeds as f64 {
                beyond.push((seed, machines));
            }
        }
    }
    println!(
        "{compared} changes: {} beyond a machine a feed, {longer} with any more time off, {dearer} that cost more; \
         worst {:.2} machines at site {}",
        beyond.len(),
        worst.0,
        worst.1
    );
    let rare = usize::try_from(compared / RARE).unwrap_or(usize::MAX);
    assert!(beyond.len() <= rare.max(1), "site, machines: {beyond:?}");
}

/// One change in so many may make machines be off for longer.
const RARE: u64 = 4000;
