//! A simulated site: real sessions, seats, routes and pool connections between simulated miners and
//! pools. Every line and every signal is in transit until a random step delivers it.
//!
//! The work of the tasks of [`crate::downstream`] and [`crate::upstream`] around the state machines
//! is done here without sockets.

mod connections;
mod downstream;
mod rules;
mod upstream;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use directive::{Action, MachineId, Means, Standing};
use rand::prelude::*;
use rand::rngs::StdRng;
use stratum::client_role::ClientConfig;
use stratum::difficulty::Difficulty;
use stratum::error::RejectCode;
use stratum::version::VersionMask;
use testbed::arithmetic::Hash;

use super::miner::SimMiner;
use super::pool::SimPool;
use crate::config::PoolPatience;
use crate::directions::{Directions, Orders};
use crate::ends::Settled;
use crate::level::Level;
use crate::outcome::{Outcome, PoolVerdict, SettledAs};
use crate::placement::Placement;
use crate::reasons::Correction;
use crate::route::{Route, TargetHealth};
use crate::seating::{Place, Said, Seating};
use crate::session::{DifficultyRules, Forward, Input, Outbox, Session, SessionRules};
use crate::target::{PerTarget, TargetId};
use crate::upstream::{End, PoolEvent, PoolSession, undelivered};
use crate::work::{LaneWork, Upstream, UpstreamShare};
use connections::{Carrier, Searched, Served};

pub(super) struct World {
    rng: StdRng,
    now: Instant,
    placement: Arc<Placement>,
    route: Route,
    directions: Directions,
    rules: Arc<SessionRules>,
    pools: PerTarget<SimPool>,
    carriers: BTreeMap<u64, Carrier>,
    wanted: PerTarget<usize>,
    miners: Vec<SimMiner>,
    served: BTreeMap<usize, Served>,
    names: u64,
    searched: HashSet<Searched>,
    /// How many submits ended by the proxy's own decision, and how many by the pools'.
    local: u64,
    settled: HashMap<SettledAs, u64>,
    pub(super) faults: Vec<String>,
    /// The newest lines that arrived anywhere, shown with faults.
    pub(super) wire: VecDeque<String>,
}

/// The maximum number of connections to one target.
const CONNECTIONS_MAX: usize = 3;

impl World {
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let miner_size = rng.random_range(3..=4);
        let sizes = [miner_size + 1, miner_size + 2, 8];
        let targets = rng.random_range(1..=3);
        let pools: Vec<SimPool> =
            (0..targets).map(|index| SimPool::new(index, &sizes, &mut rng)).collect();
        let pools = PerTarget::from(pools);
        let rules = SessionRules {
            difficulty: DifficultyRules {
                start: Level::at_or_below(Difficulty::new(2f64.powi(-27)).expect("positive")),
                min: Level::FLOOR,
                max: Level::CEILING,
                interval: rng.random_bool(0.5).then_some(1.0),
                by_user_agent: false,
            },
            handshake_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            offer: VersionMask::BIP320,
            extranonce2_size: miner_size,
            server: 0,
            share_log: false,
        };
        let miners =
            (0..rng.random_range(1..=6)).map(|index| SimMiner::new(index, &mut rng)).collect();
        Self {
            placement: Placement::new(miner_size, rng.random()),
            route: Route::new(&pools, Duration::from_secs(rng.random_range(0..30)), now),
            directions: Directions {
                usable: [].into(),
                orders: Arc::new(Orders::default()),
                release: false,
                seats: 0,
            },
            rules: Arc::new(rules),
            wanted: pools.map(|_, _| 1),
            pools,
            carriers: BTreeMap::new(),
            miners,
            served: BTreeMap::new(),
            names: 0,
            searched: HashSet::new(),
            local: 0,
            settled: HashMap::new(),
            faults: Vec::new(),
            wire: VecDeque::new(),
            rng,
            now,
        }
    }

    /// Runs random steps, and then delivers everything in transit.
    pub(super) fn run(&mut self, steps: usize) {
        // Usually everything is connected at the start.
        for _ in 0..self.rng.random_range(0..20) {
            self.proxy_connects();
            self.miner_connects();
        }
        for _ in 0..2 {
            self.rest();
            self.conduct();
        }
        for _ in 0..steps {
            self.step();
            self.look_for_faults();
            if !self.faults.is_empty() {
                return;
            }
        }
        self.come_to_rest();
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(match self.rng.random_range(0..100) {
            0..80 => self.rng.random_range(0..50),
            80..99 => self.rng.random_range(50..2_000),
            _ => self.rng.random_range(2_000..60_000),
        });
        match self.rng.random_range(0..100) {
            0..40 => {
                for _ in 0..self.rng.random_range(1..16) {
                    self.deliver_something();
                }
            }
            40..67 => self.with_miner(SimMiner::mine),
            67..69 => self.with_miner(SimMiner::misbehave),
            69..73 => self.miner_connects(),
            73..75 => self.miner_leaves(),
            75..81 => self.with_pool(|pool, rng| pool.new_job(rng.random_bool(0.4), rng)),
            81..84 => self.with_pool(SimPool::repeat_job),
            84..86 => self.with_pool(SimPool::retarget),
            86..87 => self.extranonce_changes(),
            87..89 => self.pool_dies_or_returns(),
            89..93 => self.proxy_connects(),
            93..95 => self.order(),
            95..96 => self.refresh(),
            96..98 => self.tick(),
            _ => self.conduct(),
        }
    }

    fn with_miner(&mut self, act: impl FnOnce(&mut SimMiner, &mut StdRng)) {
        let index = self.rng.random_range(0..self.miners.len());
        if self.served.contains_key(&index) {
            act(&mut self.miners[index], &mut self.rng);
        }
    }

    fn with_pool(&mut self, act: impl FnOnce(&mut SimPool, &mut StdRng)) {
        let target = self.any_target();
        act(&mut self.pools[target], &mut self.rng);
    }

    fn extranonce_changes(&mut self) {
        let miner_size = self.rules.extranonce2_size;
        let size = *[miner_size + 1, miner_size + 2, 8].choose(&mut self.rng).expect("three");
        let at_once = self.rng.random_bool(0.7);
        let Some((id, target)) = self.any_carrier() else { return };
        self.pools[target].set_extranonce(id, size, at_once);
    }

    fn any_carrier(&mut self) -> Option<(u64, TargetId)> {
        self.carriers.iter().map(|(id, carrier)| (*id, carrier.target)).choose(&mut self.rng)
    }

    fn pool_dies_or_returns(&mut self) {
        let target = self.any_target();
        let alive = !self.pools[target].alive;
        self.pools[target].alive = alive;
        if !alive {
            let ids: Vec<u64> = self.pools[target].connections.keys().copied().collect();
            ids.into_iter().for_each(|id| self.pools[target].disconnect(id));
        }
    }

    /// Delivers something in transit, or lets somebody handle what has arrived.
    fn deliver_something(&mut self) -> bool {
        let mut ways = Vec::new();
        for (&id, carrier) in &self.carriers {
            match self.pools[carrier.target].connections.get(&id) {
                // Lines that the pool wrote before it closed could still arrive; here they do not.
                None => ways.push(Way::CarrierEnds(id)),
                Some(connection) => {
                    if !connection.lines.is_empty() {
                        ways.push(Way::ProxyReadsPool(id));
                    }
                    if !carrier.lines.is_empty() {
                        ways.push(Way::PoolReads(id));
                    }
                }
            }
            if !carrier.queues.submits.is_empty() || !carrier.queues.urgent.is_empty() {
                ways.push(Way::CarrierForwards(id));
            }
        }
        for (&index, served) in &mut self.served {
            served.verdicts.extend(served.handle.mailbox.take().1);
            if !served.lines.is_empty() {
                ways.push(Way::MinerReads(index));
            }
            if !self.miners[index].lines.is_empty() {
                ways.push(Way::ProxyReadsMiner(index));
            }
            if !served.verdicts.is_empty() {
                ways.push(Way::VerdictArrives(index));
            }
            if served.unread || served.seating.hears() {
                ways.push(Way::SessionLooks(index));
            }
        }
        let count = ways.len();
        if count == 0 {
            return false;
        }
        let way = ways.swap_remove(self.rng.random_range(0..count));
        match way {
            Way::CarrierEnds(id) => self.carrier_ends(id),
            Way::ProxyReadsPool(id) => self.proxy_reads_pool(id),
            Way::PoolReads(id) => self.pool_reads(id),
            Way::CarrierForwards(id) => self.carrier_forwards(id),
            Way::MinerReads(index) => self.miner_reads(index),
            Way::ProxyReadsMiner(index) => self.proxy_reads_miner(index),
            Way::VerdictArrives(index) => self.verdict_arrives(index),
            Way::SessionLooks(index) => self.session_looks(index),
        }
        true
    }

    fn any_target(&mut self) -> TargetId {
        let position = self.rng.random_range(0..self.pools.values().len());
        TargetId::nth(u16::try_from(position).expect("at most three"))
    }

    fn conduct(&mut self) {
        let health = self.pools.map(|target, _| {
            let ready = self.placement.target_state(target).ready > 0;
            let mask = self.carriers.values().find(|carrier| carrier.target == target);
            let mask = mask.and_then(|carrier| carrier.mask);
            TargetHealth { ready, quarantined: false, quiet: false, low: false, mask }
        });
        self.directions.usable = self.route.decide(&health, self.now).usable.into();
        self.served.values_mut().for_each(|served| served.unread = true);
    }

    fn order(&mut self) {
        let machine =
            MachineId::from(self.miners.choose(&mut self.rng).expect("one at least").name.as_str());
        let mut standing = self.directions.orders.standing.clone();
        if standing.remove(&machine).is_none() {
            let action = *[Action::Hold, Action::Drain, Action::Lockout]
                .choose(&mut self.rng)
                .expect("three");
            standing.insert(machine, Standing { action, means: Means::Starve });
        }
        self.directions.orders = Arc::new(Orders { standing, ..Orders::default() });
        self.served.values_mut().for_each(|served| served.unread = true);
    }

    /// What happened, to check that something was tested.
    pub(super) fn seen(&self) -> Seen {
        let ended = |outcome| self.settled.get(&outcome).copied().unwrap_or_default();
        Seen {
            submitted: self.miners.iter().map(|miner| miner.submitted).sum(),
            local: self.local,
            accepted: ended(SettledAs::Accepted),
            stale: ended(SettledAs::Rejected) + ended(SettledAs::Stale),
            unresolved: ended(SettledAs::Unresolved),
            issued: self.searched.len() as u64,
        }
    }
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.local += other.local;
        self.accepted += other.accepted;
        self.stale += other.stale;
        self.unresolved += other.unresolved;
        self.issued += other.issued;
    }
}

/// Something in transit, or waiting to be handled.
#[derive(Debug, Clone, Copy)]
enum Way {
    CarrierEnds(u64),
    ProxyReadsPool(u64),
    PoolReads(u64),
    CarrierForwards(u64),
    MinerReads(usize),
    ProxyReadsMiner(usize),
    VerdictArrives(usize),
    SessionLooks(usize),
}

/// How much happened in a world.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) submitted: u64,
    pub(super) local: u64,
    pub(super) accepted: u64,
    pub(super) stale: u64,
    pub(super) unresolved: u64,
    pub(super) issued: u64,
}

const WIRE_MAX: usize = 200;

fn note(wire: &mut VecDeque<String>, line: impl FnOnce() -> String) {
    if wire.len() >= WIRE_MAX {
        wire.pop_front();
    }
    wire.push_back(line());
}
