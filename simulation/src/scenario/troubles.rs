//! Draws what goes wrong in a world, by its kind of trouble.

use std::time::Duration;

use jiff::SignedDuration;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Act, Scenario, Trouble, Weather};
use crate::facility::spec::Measured;
use crate::record::{MeterFault, Order, Role, StateFound};

/// Draws one kind of trouble into a scenario.
type Draw = fn(&mut Scenario, &mut StdRng);

const ROLES: [Role; 3] = [Role::Switchboard, Role::Agent, Role::Proxy];

/// Adds the troubles of `scenario`'s kind.
pub(super) fn add(scenario: &mut Scenario, rng: &mut StdRng) {
    let trouble = scenario.trouble;
    let all: [(Trouble, Draw); 10] = [
        (Trouble::Network, network),
        (Trouble::Restarts, restarts),
        (Trouble::Memory, memory),
        (Trouble::Clocks, clocks),
        (Trouble::Disks, disks),
        (Trouble::Devices, devices),
        (Trouble::Loads, loads),
        (Trouble::Policy, policy),
        (Trouble::Clocks, clocks_at_edges),
        (Trouble::Power, power),
    ];
    for (kind, add) in all {
        if trouble.has(kind) {
            add(scenario, rng);
        }
    }
}

fn network(scenario: &mut Scenario, rng: &mut StdRng) {
    scenario.weather = Weather {
        most: ms(rng.random_range(20..=3_000)),
        down_loss_percent: rng.random_range(0..=20),
        report_loss_percent: rng.random_range(0..=30),
        repeat_percent: rng.random_range(0..=10),
        device_loss_percent: rng.random_range(0..=10),
        ..scenario.weather
    };
    for _ in 0..rng.random_range(0..=2) {
        let receiver = if rng.random() { Role::Agent } else { Role::Proxy };
        let (at, ends) = span(scenario, secs(20), secs(240), rng);
        scenario.acts.push((at, Act::Link(receiver, false)));
        scenario.acts.push((ends, Act::Link(receiver, true)));
    }
}

fn restarts(scenario: &mut Scenario, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..=3) {
        let roles = some_roles(rng);
        restart(scenario, roles, secs(60), StateFound::Kept, rng);
    }
}

fn memory(scenario: &mut Scenario, rng: &mut StdRng) {
    let found = if rng.random() { StateFound::Lost } else { StateFound::Older };
    let role = *ROLES.choose(rng).expect("there are roles");
    restart(scenario, vec![role], secs(30), found, rng);
}

fn clocks(scenario: &mut Scenario, rng: &mut StdRng) {
    let sizes = [1, 5, 60, 3_600, 7_200, 86_400, 1_209_600];
    for _ in 0..rng.random_range(0..=2) {
        let size = *sizes.choose(rng).expect("there are sizes");
        let by = SignedDuration::from_secs(if rng.random() { size } else { -size });
        let roles = some_roles(rng);
        if rng.random_ratio(1, 4) {
            // The clock is wrong after a restart, as with a dead battery.
            let at = restart(scenario, roles.clone(), secs(30), StateFound::Kept, rng);
            scenario.acts.push((at + ms(500), Act::Step(roles, by)));
            continue;
        }
        let (at, ends) = span(scenario, secs(10), secs(300), rng);
        scenario.acts.push((at, Act::Step(roles.clone(), by)));
        if rng.random() {
            scenario.acts.push((ends, Act::Step(roles, -by)));
        }
    }
}

/// The wall clock of one running role is stepped when a lease's machines are about to go or to come
/// back, and is right again some minutes later. The timeline with these steps has arrived then.
fn clocks_at_edges(scenario: &mut Scenario, rng: &mut StdRng) {
    let sizes = [120, 600, 3_600, 7_200, 43_200];
    let mut edges: Vec<Duration> = Vec::new();
    for lease in &scenario.leases {
        let reserved = lease.start.saturating_sub(lease.ready_before);
        edges.push(reserved.saturating_sub(rng.random_range(Duration::ZERO..=secs(300))));
        edges.push(lease.end.saturating_sub(rng.random_range(secs(2)..=secs(90))));
    }
    let edges = edges.into_iter().filter(|at| *at >= secs(60) && *at < scenario.length * 8 / 10);
    for at in edges {
        // The agent commands machines, so its clock matters most.
        let role = match rng.random_range(0..6) {
            0 => Role::Switchboard,
            1 => Role::Proxy,
            _ => Role::Agent,
        };
        let size = *sizes.choose(rng).expect("there are sizes");
        let by = SignedDuration::from_secs(if rng.random() { size } else { -size });
        let ends = at + rng.random_range(secs(60)..=secs(300));
        scenario.acts.push((at, Act::Step(vec![role], by)));
        scenario.acts.push((ends, Act::Step(vec![role], -by)));
    }
}

fn disks(scenario: &mut Scenario, rng: &mut StdRng) {
    scenario.weather.disk = ms(rng.random_range(30..=2_000));
    for _ in 0..rng.random_range(1..=2) {
        let role = *ROLES.choose(rng).expect("there are roles");
        let (at, ends) = span(scenario, secs(20), secs(300), rng);
        scenario.acts.push((at, Act::Disk(role, false)));
        scenario.acts.push((ends, Act::Disk(role, true)));
        if rng.random_ratio(1, 3) {
            let dies = at + (ends - at) / 2;
            scenario.acts.push((dies, Act::Kill(vec![role])));
            scenario.acts.push((dies + secs(5), Act::Start(role, StateFound::Kept)));
        }
    }
}

/// Somebody works at machines; bad habits are the facility's own.
fn devices(scenario: &mut Scenario, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..=2) {
        let machine =
            scenario.facility.machines.choose(rng).expect("there are machines").id.clone();
        let at = rng.random_range(secs(60)..=scenario.length * 6 / 10);
        let order = if rng.random() { Order::Sleep } else { Order::Wake };
        scenario.acts.push((at, Act::Technician(machine, order)));
    }
}

/// Tenants that do not keep to their leases. A house that draws more and more is drawn with the facility.
fn loads(scenario: &mut Scenario, rng: &mut StdRng) {
    for lease in &mut scenario.leases {
        match rng.random_range(0..4) {
            0 => lease.tenant.comes = SignedDuration::from_secs(-rng.random_range(10..=120)),
            1 => lease.tenant.percent = rng.random_range(105..=140),
            2 => lease.tenant.goes = SignedDuration::from_secs(rng.random_range(30..=400)),
            _ => {}
        }
    }
}

fn policy(scenario: &mut Scenario, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..=2) {
        let feed = scenario.facility.feeds.choose(rng).expect("there is a root").id.clone();
        let (at, ends) = span(scenario, secs(60), secs(600), rng);
        scenario.acts.push((at, Act::Limit(feed.clone(), rng.random_range(80..=110))));
        scenario.acts.push((ends, Act::Limit(feed, 100)));
    }
}

/// A feed is dark for a minute, or for many. One meter in three is supplied by its feed, and silent with
/// it.
fn power(scenario: &mut Scenario, rng: &mut StdRng) {
    let feed = scenario.facility.feeds.choose(rng).expect("there is a root").id.clone();
    let most = if rng.random() { secs(120) } else { secs(900) };
    let (at, ends) = span(scenario, secs(20), most, rng);
    // Machines are known by then, and what connects is no newcomer any more.
    let (at, ends) = (at + secs(120), ends + secs(120));
    scenario.acts.push((at, Act::Dark(feed.clone())));
    scenario.acts.push((ends, Act::Light(feed.clone())));
    for meter in &mut scenario.facility.meters {
        if meter.of == Measured::Feed(feed.clone()) && rng.random_ratio(1, 3) {
            meter.faults = vec![(at, Some(MeterFault::Lost)), (ends, None)];
        }
    }
}

/// One role, or all of them in one process.
fn some_roles(rng: &mut StdRng) -> Vec<Role> {
    if rng.random_ratio(1, 3) {
        ROLES.to_vec()
    } else {
        vec![*ROLES.choose(rng).expect("there are roles")]
    }
}

/// Kills `roles` and starts them again. Returns when they die.
fn restart(
    scenario: &mut Scenario,
    roles: Vec<Role>,
    most: Duration,
    found: StateFound,
    rng: &mut StdRng,
) -> Duration {
    let (at, ends) = span(scenario, secs(1), most, rng);
    scenario.acts.extend(roles.iter().map(|role| (ends, Act::Start(*role, found))));
    scenario.acts.push((at, Act::Kill(roles)));
    at
}

/// A span of at least `least` and at most `most` within the run.
fn span(
    scenario: &Scenario,
    least: Duration,
    most: Duration,
    rng: &mut StdRng,
) -> (Duration, Duration) {
    let at = rng.random_range(secs(60)..=scenario.length * 6 / 10);
    (at, at + rng.random_range(least..=most))
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::scenario;

    #[test]
    fn a_world_has_the_trouble_of_its_kind() {
        for seed in 0..110 {
            let scenario = scenario(seed);
            let has = |is: fn(&Act) -> bool| scenario.acts.iter().any(|(_, act)| is(act));
            match scenario.trouble {
                Trouble::Calm => {
                    let harmless =
                        |act: &Act| matches!(act, Act::Ask(_) | Act::Cancel { .. } | Act::Calm);
                    assert!(scenario.acts.iter().all(|(_, act)| harmless(act)));
                }
                Trouble::Restarts | Trouble::Memory => {
                    assert!(has(|act| matches!(act, Act::Kill(_))));
                }
                Trouble::Clocks => {
                    assert!(has(|act| matches!(act, Act::Step(roles, _) if roles.len() == 1)));
                }
                Trouble::Disks => assert!(has(|act| matches!(act, Act::Disk(..)))),
                Trouble::Power => {
                    assert!(has(|act| matches!(act, Act::Dark(_))));
                    assert!(has(|act| matches!(act, Act::Light(_))));
                }
                Trouble::Policy => assert!(has(|act| matches!(act, Act::Limit(..)))),
                _ => {}
            }
            assert!(scenario.acts.is_sorted_by_key(|(at, _)| *at), "seed {seed}");
        }
    }
}
