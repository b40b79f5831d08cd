//! The parts of the demo: pools, machines, miners, the policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use directive::{MachineId, MeterId, Watts};
use proxy::config::{Config, NoUpstream, Server, Target};
use stratum::difficulty::Difficulty;
use switchboard::policy::Policy;
use testbed::facility::{FacilitySpec, MachineSpec, SimFacility};
use testbed::miner::{MinerConfig, Model, PowerSwitch, SearchSpace, SleepKind, TestMiner};
use testbed::pool::{PoolConfig, TestPool};
use tokio_util::sync::CancellationToken;

use crate::devices::devices;

/// The hashrate of a miner, in hashes per second: so low that hundreds can share a core with
/// everything else.
const HASHRATE: f64 = 2000.0;
/// A difficulty at which such a miner finds about one share a second.
const DIFFICULTY: f64 = 1.0 / (1u64 << 21) as f64;
/// The house load per machine, in watts.
const HOUSE_PER_MACHINE: i64 = 100;
/// The fraction of all mining power that the lease takes.
const LEASED: f64 = 0.4;
/// The power usage effectiveness of the lease.
pub(super) const PUE: f64 = 1.25;

/// The three groups of the fleet, as fractions of it.
const GROUPS: [Group; 3] = [
    Group {
        name: "s19",
        share: 0.45,
        watts: 3250,
        residual: 30,
        joules_per_terahash: 29.5,
        reachable: true,
    },
    Group {
        name: "s21",
        share: 0.40,
        watts: 3500,
        residual: 25,
        joules_per_terahash: 17.5,
        reachable: true,
    },
    // The least efficient machines, which would be shed first; but no driver controls them, so they
    // cannot back a firm lease.
    Group {
        name: "s17",
        share: 0.15,
        watts: 2800,
        residual: 40,
        joules_per_terahash: 45.0,
        reachable: false,
    },
];

struct Group {
    name: &'static str,
    share: f64,
    watts: i64,
    residual: i64,
    joules_per_terahash: f64,
    reachable: bool,
}

/// Everything but the system under test.
pub(super) struct Cast {
    pub(super) pools: [TestPool; 2],
    pub(super) facility: SimFacility,
    pub(super) policy: Arc<Policy>,
    pub(super) miners: Vec<TestMiner>,
    pub(super) feed_usable: Watts,
    pub(super) it: Watts,
    counts: [u32; 3],
}

/// The tenant's meter, as the policy names it.
pub(super) const TENANT_METER: &str = "nebula";
/// How often a meter is read.
const METER_PERIOD: Duration = Duration::from_millis(250);

impl Cast {
    /// Makes pools, machines and the policy; miners are added later.
    pub(super) async fn make(miners: u32) -> anyhow::Result<Self> {
        let counts = group_sizes(miners);
        let pools = [test_pool(4, 8, 1).await?, test_pool(8, 6, 2).await?];
        let machines = GROUPS.iter().zip(counts).flat_map(|(group, count)| {
            (0..count).map(move |index| MachineSpec {
                reachable: group.reachable,
                ..MachineSpec::new(machine(group, index), Watts(group.watts), Watts(group.residual))
            })
        });
        let mining: Watts = GROUPS
            .iter()
            .zip(counts)
            .map(|(group, count)| Watts(group.watts * i64::from(count)))
            .sum();
        let house = Watts(HOUSE_PER_MACHINE * i64::from(miners));
        let spec = FacilitySpec { machines: machines.collect(), house, tenants: BTreeMap::new() };
        let facility = SimFacility::new(spec, testbed::clock::moment())?;
        // The transformer is hardly larger than the farm needs with the band that plans leave free, so
        // a lease takes its power from mining.
        let largest = GROUPS.iter().map(|group| Watts(group.watts)).max().unwrap_or_default();
        let feed_usable = (mining + house).scale(1.02) + largest;
        let it = mining.scale(LEASED / PUE);
        let text = policy(counts, feed_usable, house);
        let policy = switchboard::policy::parse(&text, "demo-policy.toml")
            .map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        Ok(Self {
            pools,
            facility,
            policy: Arc::new(policy),
            miners: Vec::new(),
            feed_usable,
            it,
            counts,
        })
    }

    pub(super) fn proxy(&self, failback_after: Duration) -> anyhow::Result<Config> {
        let difficulty = Difficulty::new(DIFFICULTY).context("a power of two")?;
        let listen = "127.0.0.1:0".parse().context("a loopback address")?;
        let server = Server {
            difficulty,
            min_difficulty: difficulty,
            vardiff: false,
            ..Server::new("asics", listen)
        };
        let targets = self.pools.iter().zip(["pool-a", "pool-b"]).map(|(pool, name)| {
            Target::new(name, &pool.addr().ip().to_string(), pool.addr().port(), "acme.demo")
        });
        let mut config = Config::new(vec![server], targets.collect());
        config.failback_after = failback_after;
        config.no_upstream = NoUpstream::Hold;
        config.report_every = Duration::from_millis(250);
        Ok(config)
    }

    /// The simulated machines and meters, under the names that the policy uses.
    pub(super) fn devices(&self) -> anyhow::Result<agent::Devices> {
        let tenant = self.facility.tenant_meter(MeterId::from(TENANT_METER));
        let settings = agent::Settings::default()
            .with_driver("simulated", self.facility.actuator())
            .with_meter("xfmr-a", self.facility.feed_meter(), METER_PERIOD)
            .with_meter(TENANT_METER, tenant, METER_PERIOD);
        devices(&self.policy, &settings)
    }

    /// Starts the miners: every model, with both kinds of sleep.
    pub(super) async fn enter(&mut self, proxy: std::net::SocketAddr, stop: &CancellationToken) {
        let space = SearchSpace::default();
        let names = GROUPS
            .iter()
            .zip(self.counts)
            .flat_map(|(group, count)| (0..count).map(move |index| machine(group, index)));
        for (index, name) in names.enumerate() {
            let kind = if index % 2 == 0 { SleepKind::KeepsTcp } else { SleepKind::DropsTcp };
            let switch = PowerSwitch::new(kind);
            if let Some(hashing) = self.facility.hashing(&name) {
                tokio::spawn(switch.clone().obey(hashing, stop.clone()));
            }
            let model = Model::ALL[index % Model::ALL.len()];
            self.miners.push(TestMiner::start(MinerConfig {
                hashrate: HASHRATE,
                switch,
                space: space.clone(),
                retry: Duration::from_secs(1),
                wire_lines: 0,
                ..MinerConfig::new(model, proxy, name.as_str())
            }));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The power that the lease takes from the feed.
    pub(super) fn gross(&self) -> Watts {
        self.it.scale(PUE)
    }

    /// How many machines are awake, judged by the power that they really draw.
    pub(super) fn hashing(&self) -> usize {
        let all = self.facility.machines();
        all.iter()
            .filter(|machine| {
                self.facility.hashing(machine).is_some_and(|hashing| *hashing.borrow())
            })
            .count()
    }
}

fn machine(group: &Group, index: u32) -> MachineId {
    MachineId::from(format!("acme.{}-{index:03}", group.name))
}

/// Splits a fleet by the fractions of the groups; the last group gets the rest.
fn group_sizes(miners: u32) -> [u32; 3] {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u32")]
    let part = |share: f64| (f64::from(miners) * share).round() as u32;
    let (first, second) = (part(GROUPS[0].share), part(GROUPS[1].share));
    [first, second, miners - first - second]
}

async fn test_pool(
    extranonce1: usize,
    extranonce2_size: usize,
    seed: u64,
) -> anyhow::Result<TestPool> {
    let config = PoolConfig {
        extranonce1: testbed::pool::Extranonce1::PerConnection(extranonce1),
        extranonce2_size,
        difficulty: DIFFICULTY * 1.5,
        job_interval: Duration::from_secs(4),
        clean_every: 3,
        branches: 12,
        seed,
        wire_lines: 0,
        ..PoolConfig::default()
    };
    Ok(TestPool::start(config).await?)
}

/// The policy, as an operator would write it.
fn policy(counts: [u32; 3], usable: Watts, house: Watts) -> String {
    let mut text = format!(
        "schema = \"tieline.policy/1\"\nrevision = 1\n\
         [site]\nname = \"demo\"\n\
         [feed.xfmr-a]\nlimit_kw = {:.3}\ncontinuous_factor = 1.0\nhouse_kw = {:.3}\n\
         default_constraint_kw = {:.3}\nmeter = \"xfmr-a\"\n\
         [meter.xfmr-a]\nstale_after = \"3s\"\n[meter.{TENANT_METER}]\nstale_after = \"3s\"\n\
         [dispatch]\nmerit = \"margin-per-kw\"\nmake_up_pct = 2\nsettle = \"1s\"\nmargin = \"1s\"\nprove_for = \"1s\"\n\
         hashprice_usd_per_ph_day = 40.0\npower_usd_per_mwh = 45.0\n\
         [ramp]\ndown_kw_per_min = {:.3}\nup_kw_per_min = {:.3}\nup_step_machines = {}\nup_step_interval = \"1s\"\n\
         [failsafe]\nreport_stale_after = \"5s\"\n",
        usable.kw(),
        house.kw(),
        usable.scale(0.9).kw(),
        // All load is lowered in about four seconds and raised in six.
        usable.scale(15.0).kw(),
        usable.scale(10.0).kw(),
        counts.iter().sum::<u32>().div_ceil(6).max(1),
    );
    for (group, count) in GROUPS.iter().zip(counts) {
        text.push_str(&format!(
            "[group.{0}]\nfeed = \"xfmr-a\"\nmatch = \"acme.{0}-*\"\nmachines = {count}\nasic_kw = {1:.3}\nj_per_th = {2:.1}\n\
             residual_kw = {3:.3}\nrestore_p95 = \"4s\"\nmin_up = \"2s\"\nmin_down = \"2s\"\n",
            group.name,
            Watts(group.watts).kw(),
            group.joules_per_terahash,
            Watts(group.residual).kw(),
        ));
        if group.reachable {
            text.push_str("shed_p95 = \"3s\"\ndriver = \"simulated\"\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_policy_is_one_that_an_operator_could_load() {
        for miners in [8, 60, 5000] {
            let counts = group_sizes(miners);
            assert_eq!(counts.iter().sum::<u32>(), miners);
            let text = policy(counts, Watts(200_000 * i64::from(miners)), Watts(1000));
            switchboard::policy::parse(&text, "demo-policy.toml")
                .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        }
    }
}
