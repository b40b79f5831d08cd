//! Small random sites with leases that were admitted, and what their plans cost.

use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;
use rand::prelude::*;

use crate::admit;
use crate::facility::{Feed, Group};
use crate::fixture::{at, feed, fleet, group, lease, policy_with};
use crate::lease::Lease;
use crate::plan::{Fleet, Plan, Selection, plan};
use crate::policy::Policy;

/// When all leases of a random site are over, in seconds.
pub(super) const LAST_END: i64 = 36_000;

pub(super) struct Site {
    pub(super) policy: Policy,
    pub(super) fleet: Fleet,
    pub(super) leases: Vec<Lease>,
}

/// Whether groups have a shortest time awake and a shortest time off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShortestTimes {
    None,
    /// Half of the groups, up to an hour each.
    UpToAnHour,
}

impl Site {
    /// A site of two or three levels of feeds, two to five groups and 6 to 40 machines, whose feeds
    /// carry all machines as long as no lease runs, with up to six leases. The ramps are so steep that
    /// they never delay anything.
    pub(super) fn draw(seed: u64, times: ShortestTimes) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let feeds = draw_feeds(&mut random);
        let is_leaf =
            |feed: &&Feed| feeds.iter().all(|other| other.parent.as_ref() != Some(&feed.id));
        let leaves: Vec<&Feed> = feeds.iter().filter(is_leaf).collect();
        let groups = draw_groups(&mut random, times, &leaves);
        let mut policy = policy_with(|parts| {
            parts.feeds = feeds;
            parts.groups = groups;
        });
        // The limits follow from what the machines draw.
        let full = policy.facility.fixed_load(&crate::Population::default());
        let mut limited: Vec<Feed> = policy.facility.feeds().iter().cloned().collect();
        for (number, feed) in policy.facility.feeds().numbers().zip(&mut limited) {
            let spare = random.random_range(1.0..1.3);
            feed.limit = full[number].max(Watts(2000)).scale(spare).into();
        }
        let groups = policy.facility.groups().to_vec();
        policy.facility = policy_with(|parts| {
            parts.feeds = limited;
            parts.groups = groups;
        })
        .facility;
        policy.dispatch.hashprice_usd_per_ph_day = Some(50.0);
        policy.ramp.down_per_min = STEEP;
        policy.ramp.up_per_min = STEEP;
        policy.ramp.up_step_machines = 1000;
        policy.ramp.up_step_interval = Duration::from_secs(1);
        policy.failsafe.plan_horizon = Duration::from_hours(24);
        let fleet = fleet(&policy);
        let mut site = Self { policy, fleet, leases: Vec::new() };
        for number in 0..random.random_range(1..=6) {
            site.draw_lease(&mut random, number);
        }
        site
    }

    fn draw_lease(&mut self, random: &mut StdRng, number: u32) {
        let feeds = self.policy.facility.feeds();
        let feed = feeds.numbers().choose(random).expect("there is a root");
        let most = feeds[feed].limit.highest().0;
        let start = random.random_range(3000..24_000);
        let asked = Lease {
            tenant: format!("tenant {number}"),
            ready_before: Duration::from_secs(random.random_range(0..600)),
            ..lease(
                &format!("l{number}"),
                feeds[feed].id.as_str(),
                random.random_range(most / 20..most),
                start,
                (start + random.random_range(600..10_000)).min(LAST_END),
            )
        };
        let admitted =
            admit::admit(&self.policy, &self.fleet.population, &self.leases, asked, at(0));
        self.leases.extend(admitted.ok().map(|admission| admission.lease));
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.policy, &self.leases, &self.fleet, &Selection::default(), at(0))
    }

    /// For each machine that is off at some time: the number of its group, and from when to when it
    /// is, with periods that follow each other joined.
    pub(super) fn times_off(&self, plan: &Plan) -> Vec<(usize, Vec<(Timestamp, Timestamp)>)> {
        let times = plan.selection.off.values().map(|periods| {
            let group = self.policy.facility.group_number(&periods[0].group);
            let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
            for period in periods {
                let until = period.until.unwrap_or(plan.horizon);
                match joined.last_mut() {
                    Some(last) if period.at <= last.1 => last.1 = last.1.max(until),
                    _ => joined.push((period.at, until)),
                }
            }
            (group.expect("the policy has the group"), joined)
        });
        times.collect()
    }

    /// What the plan loses against a site that mines without a break, in USD.
    pub(super) fn cost(&self, plan: &Plan) -> f64 {
        let times = self.times_off(plan);
        let costs = times.iter().flat_map(|(group, periods)| {
            let group = &self.policy.facility.groups()[*group];
            let lost = usd_per_hour(&self.policy, group);
            periods.iter().map(move |(from, until)| {
                let off = until.duration_since(*from).as_secs_f64();
                lost * (off + group.restore_p95.as_secs_f64()) / 3600.0
            })
        });
        costs.sum()
    }
}

/// A ramp that takes no time.
const STEEP: Watts = Watts(60_000_000_000);

/// What an hour of one machine is worth: what it earns, less the price of the power that it draws
/// beyond what it draws asleep.
pub(super) fn usd_per_hour(policy: &Policy, group: &Group) -> f64 {
    let terms = &policy.dispatch;
    let hashprice = terms.hashprice_usd_per_ph_day.expect("a random site has prices");
    let price = terms.power_usd_per_mwh.expect("a random site has prices");
    let petahash = group.watts.kw() / group.joules_per_terahash;
    petahash * hashprice / 24.0 - group.freed().kw() / 1000.0 * price
}

fn draw_feeds(random: &mut StdRng) -> Vec<Feed> {
    let mut feeds = vec![feed("root", None, 1, random.random_range(0..3000))];
    for number in 0..random.random_range(1..=3) {
        let id = format!("f{number}");
        feeds.push(feed(&id, Some("root"), 1, random.random_range(0..1000)));
        if random.random_bool(0.3) {
            for half in ["x", "y"] {
                feeds.push(feed(&format!("{id}{half}"), Some(&id), 1, 0));
            }
        }
    }
    feeds
}

fn draw_groups(random: &mut StdRng, times: ShortestTimes, leaves: &[&Feed]) -> Vec<Group> {
    let groups = random.random_range(2..=5);
    let share = if times == ShortestTimes::None { 0.0 } else { 0.5 };
    let draw = |number: u32| {
        let feed = leaves.choose(random).expect("a tree has leaves");
        let machines = random.random_range(3..=8);
        let watts = Watts(random.random_range(800..4000));
        let mut secs = |most: u64| Duration::from_secs(random.random_range(0..most));
        let (min_up, min_down) = (secs(3600), secs(3600));
        let (shed, restore) = (secs(120), secs(300));
        let joules_per_terahash = random.random_range(15.0..35.0);
        Group {
            watts,
            residual: Watts(random.random_range(0..40)),
            shed_p95: Some(shed),
            restore_p95: restore,
            min_up: if random.random_bool(share) { min_up } else { Duration::ZERO },
            min_down: if random.random_bool(share) { min_down } else { Duration::ZERO },
            ..group(&format!("g{number}"), feed.id.as_str(), machines, joules_per_terahash, true)
        }
    };
    (0..groups).map(draw).collect()
}
