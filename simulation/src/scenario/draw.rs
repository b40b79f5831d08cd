//! Draws a whole scenario from a seed.

use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Act, RoleSpec, Rules, Scenario, Trouble, Weather, leases, troubles};
use crate::facility::draw::{self, Shape};

/// The true wall time at which every run begins.
const BEGINS: i64 = 1_800_000_000;

/// The scenario of `seed`: a site of 3 to 60 machines over half an hour. Its kind of trouble follows
/// from the seed, so that each kind has its share of any run of seeds.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let trouble = Trouble::of(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = Shape {
        levels: rng.random_range(1..=3),
        machines: rng.random_range(3..=60),
        trouble: of_facility(trouble),
        lasts: secs(rng.random_range(30..=50) * 60),
    };
    let roles = RoleSpec {
        switchboard_tick: secs(1),
        agent_report_every: secs(rng.random_range(1..=4)),
        proxy_report_every: secs(rng.random_range(1..=4)),
        read_at_rest: secs(rng.random_range(10..=30)),
        in_flight: rng.random_range(4..=32),
        look_every: secs(15),
    };
    build(seed, trouble, &shape, roles, &mut rng)
}

/// One site of 20,000 machines over 25 minutes, without trouble.
#[must_use]
pub fn large(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = Shape {
        levels: 3,
        machines: 20_000,
        trouble: draw::Trouble::default(),
        lasts: secs(1_500),
    };
    let roles = RoleSpec {
        switchboard_tick: secs(2),
        agent_report_every: secs(5),
        proxy_report_every: secs(5),
        read_at_rest: secs(120),
        in_flight: 2_000,
        look_every: secs(120),
    };
    build(seed, Trouble::Calm, &shape, roles, &mut rng)
}

fn build(
    seed: u64,
    trouble: Trouble,
    shape: &Shape,
    roles: RoleSpec,
    rng: &mut StdRng,
) -> Scenario {
    let begins = Timestamp::from_second(BEGINS).expect("a plain time");
    let facility = draw::draw(seed, shape, begins);
    let (leases, acts) = leases::leases(&facility, shape.lasts, rng);
    let mut scenario = Scenario {
        seed,
        trouble,
        facility,
        rules: rules(shape.machines, rng),
        roles,
        weather: Weather::default(),
        leases,
        acts,
        calm_from: shape.lasts * 3 / 4,
        length: shape.lasts,
    };
    troubles::add(&mut scenario, rng);
    scenario.acts.push((scenario.calm_from, Act::Calm));
    scenario.acts.sort_by_key(|(at, _)| *at);
    scenario
}

/// What goes wrong at the facility itself.
fn of_facility(trouble: Trouble) -> draw::Trouble {
    let all = draw::Trouble::SOME;
    let none = draw::Trouble::default();
    match trouble {
        Trouble::Devices => {
            draw::Trouble { devices: all.devices, draws: all.draws, away: all.away, ..none }
        }
        Trouble::Loads => draw::Trouble { house: all.house, ..none },
        Trouble::Meters => {
            draw::Trouble { meters: 2 * all.meters, unmetered: all.unmetered, ..none }
        }
        Trouble::Everything => all,
        _ => none,
    }
}

/// What the policy says of the whole site.
fn rules(machines: usize, rng: &mut StdRng) -> Rules {
    // A site comes down within some minutes, and back within some more.
    let machines = i64::try_from(machines).unwrap_or(i64::MAX);
    let per_min = |share: i64| Watts((machines * 3_000 / share / 1000).max(4) * 1000);
    Rules {
        make_up_percent: f64::from(rng.random_range(0..=5)),
        settle: secs(rng.random_range(10..=20)),
        margin: secs(rng.random_range(20..=60)),
        prove_for: secs(rng.random_range(5..=20)),
        down_per_min: per_min(rng.random_range(1..=3)),
        up_per_min: per_min(rng.random_range(2..=6)),
        up_step_machines: u32::try_from((machines / 10).max(1)).unwrap_or(u32::MAX),
        up_step_interval: secs(15),
        permit_ttl: secs(120),
        permit_every: secs(30),
        report_stale_after: secs(rng.random_range(15..=30)),
        meter_stale_after: secs(rng.random_range(20..=30)),
        reclose_settle: secs(60),
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
