//! A whole site in one process: all roles, simulated machines and meters, test pools, test miners,
//! and the real HTTP API.
//!
//! The tests judge by the power that the simulated machines really draw ([`SimFacility`]), the
//! counts of pools and miners, and the answers of the API; nothing here reads the state of the
//! roles. The tests themselves are in other files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::core::Timing;
use daemon::admin::{Admin, Token};
use daemon::clock;
use daemon::settings::Secret;
use daemon::tasks::Tasks;
use directive::{MachineId, MeterId, Watts};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use testbed::facility::{FacilitySpec, Headroom, MachineSpec, SimFacility, SimMeter, TenantSpec};
use testbed::miner::{
    MinerConfig, MinerCounts, Model, PowerSwitch, SearchSpace, SleepKind, TestMiner,
};
use testbed::pool::TestPool;
use tieline::devices::devices;
use tieline::site::{ControlConfig, Site, SiteConfig};
use tokio_util::sync::CancellationToken;

use crate::harness::{self, Books, pool};

/// The deadline of every wait: longer than any step of a lease takes here, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The bearer token of the API.
pub(crate) const TOKEN: &str = "0123456789abcdef-of-the-test-site-0123456789";
/// The house load.
pub(crate) const HOUSE: Watts = Watts(500);
/// The hashrate of a miner, in hashes per second: about one share a second.
const HASHRATE: f64 = 600.0;

/// A group of equal machines, named `name-1`, `name-2` and so on.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) machines: u32,
    pub(crate) watts: i64,
    pub(crate) joules_per_terahash: f64,
    /// Whether an actuator controls the machines. If not, they can only be starved of work.
    pub(crate) reachable: bool,
}

/// The settings of a site.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) groups: Vec<Group>,
    /// The usable power of the only feed.
    pub(crate) usable: Watts,
    /// Whether the feed has a meter.
    pub(crate) metered: bool,
    /// The margin before the latest safe start, in which machines that do not obey are detected and
    /// replaced.
    pub(crate) margin: Duration,
    /// Whether the machines have miners.
    pub(crate) miners: bool,
    /// The hashrate of each miner.
    pub(crate) hashrate: f64,
    /// How many machines may be restored in one second.
    pub(crate) up_step_machines: u32,
}

/// The power of one sleeping machine.
pub(crate) const RESIDUAL: Watts = Watts(30);
/// How often a meter is read.
const METER_PERIOD: Duration = Duration::from_millis(200);
/// How long a controllable machine may take to sleep, in seconds.
const SHED_SECS: u64 = 2;
/// How long power may exceed the limit before it counts as a shortage, in seconds.
const SETTLE_SECS: u64 = 2;
/// How long headroom must last to be proven, in seconds.
const PROVE_SECS: u64 = 1;
/// How long before its start a lease must be proven.
pub(crate) const READY_BEFORE: Duration = Duration::from_secs(1);

impl Default for Setup {
    /// Four old and four new machines that an actuator controls, and two still older ones that none
    /// does: 30 kW, on a feed for exactly these, the house and 500 W more.
    fn default() -> Self {
        let group = |name, machines, joules_per_terahash, reachable| Group {
            name,
            machines,
            watts: 3000,
            joules_per_terahash,
            reachable,
        };
        Self {
            groups: vec![
                group("old", 4, 38.0, true),
                group("new", 4, 17.5, true),
                group("stuck", 2, 45.0, false),
            ],
            usable: Watts(31_000),
            metered: true,
            margin: Duration::from_secs(1),
            miners: true,
            hashrate: HASHRATE,
            up_step_machines: 2,
        }
    }
}

impl Setup {
    /// The policy file, as an operator would write it.
    pub(crate) fn policy(&self, revision: u32) -> String {
        let usable = self.usable.kw();
        let mut text = format!(
            "schema = \"tieline.policy/1\"\nrevision = {revision}\n[site]\nname = \"test\"\n\
             [feed.a]\nlimit_kw = {usable:.3}\ncontinuous_factor = 1.0\nhouse_kw = {:.3}\n\
             default_constraint_kw = {:.3}\nguard_band_kw = 0\n{}\
             [meter.a]\nstale_after = \"3s\"\n[meter.tenant]\nstale_after = \"3s\"\n\
             [dispatch]\nmake_up_pct = 0\nsettle = \"{SETTLE_SECS}s\"\nmargin = \"{}s\"\nprove_for = \"{PROVE_SECS}s\"\n\
             hashprice_usd_per_ph_day = 40.0\npower_usd_per_mwh = 45.0\n\
             [ramp]\ndown_kw_per_min = {:.3}\nup_kw_per_min = {:.3}\nup_step_machines = {}\nup_step_interval = \"1s\"\n\
             [failsafe]\nreport_stale_after = \"5s\"\npermit_ttl = \"5s\"\npermit_every = \"1s\"\nretries = 2\n",
            HOUSE.kw(),
            usable * 0.5,
            if self.metered { "meter = \"a\"\n" } else { "" },
            self.margin.as_secs(),
            // The ramp allows all of the power to change within a second.
            usable * 60.0,
            usable * 60.0,
            self.up_step_machines,
        );
        for group in &self.groups {
            text.push_str(&format!(
                "[group.{0}]\nfeed = \"a\"\nmatch = \"{0}-*\"\nmachines = {1}\nasic_kw = {2:.3}\nj_per_th = {3:.1}\n\
                 residual_kw = {4:.3}\nrestore_p95 = \"5s\"\nmin_up = \"0s\"\nmin_down = \"0s\"\n",
                group.name,
                group.machines,
                Watts(group.watts).kw(),
                group.joules_per_terahash,
                RESIDUAL.kw(),
            ));
            if group.reachable {
                text.push_str(&format!("shed_p95 = \"{SHED_SECS}s\"\ndriver = \"simulated\"\n"));
            }
        }
        text
    }

    /// The notice of a lease: the time from its commitment to a start that can be met, also on a
    /// slow machine.
    pub(crate) fn notice(&self) -> Duration {
        self.margin
            + Duration::from_secs(SHED_SECS + SETTLE_SECS + PROVE_SECS + 1 + 5)
            + READY_BEFORE
    }

    fn machines(&self) -> impl Iterator<Item = (&Group, MachineId)> {
        self.groups.iter().flat_map(|group| {
            (1..=group.machines)
                .map(move |number| (group, format!("{}-{number}", group.name).into()))
        })
    }
}

pub(crate) struct WholeSite {
    pub(crate) setup: Setup,
    pub(crate) pools: Vec<TestPool>,
    pub(crate) facility: SimFacility,
    /// The feed's meter, whose faults a test can set.
    pub(crate) meter: SimMeter,
    pub(crate) site: Site,
    pub(crate) miners: Vec<TestMiner>,
    pub(crate) http: Http,
    tasks: Tasks,
    sampling: CancellationToken,
    _state: tempfile::TempDir,
}

impl WholeSite {
    /// Starts everything and waits until every machine mines.
    pub(crate) async fn start(setup: Setup) -> Self {
        harness::raise_open_files();
        let pools = vec![
            TestPool::start(pool(8, 1)).await.expect("a free port"),
            TestPool::start(pool(6, 2)).await.expect("a free port"),
        ];
        let specs = setup.machines().map(|(group, id)| MachineSpec {
            reachable: group.reachable,
            sleep_time: Duration::from_millis(300),
            wake_time: Duration::from_millis(500),
            ..MachineSpec::new(id, Watts(group.watts), RESIDUAL)
        });
        let spec =
            FacilitySpec { machines: specs.collect(), house: HOUSE, tenants: BTreeMap::new() };
        let facility = SimFacility::new(spec, testbed::clock::moment())
            .expect("machines have names of their own");
        let meter = facility.feed_meter();
        let settings = agent::Settings::default()
            .with_driver("simulated", facility.actuator())
            .with_meter("a", meter.clone(), METER_PERIOD)
            .with_meter("tenant", facility.tenant_meter("tenant".into()), METER_PERIOD);

        let policy =
            switchboard::policy::parse(&setup.policy(1), "policy.toml").expect("a sound policy");
        let devices = devices(&policy, &settings).expect("the driver is there");
        let state = tempfile::tempdir().expect("a folder");
        let proxy = harness::config(&pools);
        let timing = Timing {
            read_at_rest: Duration::from_millis(500),
            read_in_doubt: Duration::from_millis(200),
            follow_sleep: Duration::from_secs(3),
            follow_wake: Duration::from_secs(5),
            retry_first: Duration::from_millis(200),
            retry_max: Duration::from_secs(1),
            report_every: Duration::from_millis(200),
            ..Timing::default()
        };
        let ledger = state.path().join("ledger.db");
        let control =
            ControlConfig { policy: Arc::new(policy), ledger, devices, timing, runtime: None };
        let config = SiteConfig {
            proxy: Some(proxy),
            control: Some(control),
            state_dir: state.path().to_owned(),
        };
        let tasks = Tasks::new();
        let mut registry = Registry::default();
        let site = Site::start(config, &mut registry, &tasks).await.expect("the site starts");
        let token = Token::new(Secret::new(TOKEN)).expect("a token");
        let admin =
            Admin::bind("127.0.0.1:0".parse().expect("an address"), Some(token), site.router())
                .await
                .expect("a free port")
                .metrics(Arc::new(std::sync::Mutex::new(registry)));
        let http = Http::new(admin.addr());
        tasks.spawn("http", admin.run(tasks.token()));

        let sampling = CancellationToken::new();
        drop(facility.spawn_sampler(sampling.clone()));
        let mut whole = Self {
            setup,
            pools,
            facility,
            meter,
            site,
            miners: Vec::new(),
            http,
            tasks,
            sampling,
            _state: state,
        };
        whole.bring_miners_in().await;
        whole
    }

    pub(crate) fn proxy(&self) -> &proxy::Proxy {
        self.site.proxy.as_ref().expect("the site has one")
    }

    async fn bring_miners_in(&mut self) {
        if !self.setup.miners {
            return;
        }
        let space = SearchSpace::default();
        for (index, (_, machine)) in self.setup.machines().enumerate() {
            let switch = PowerSwitch::new(SleepKind::KeepsTcp);
            let hashing = self.facility.hashing(&machine).expect("it is one of the facility's");
            tokio::spawn(switch.clone().obey(hashing, self.sampling.clone()));
            self.miners.push(TestMiner::start(MinerConfig {
                hashrate: self.setup.hashrate,
                switch,
                space: space.clone(),
                retry: Duration::from_millis(200),
                wire_lines: 0,
                ..MinerConfig::new(
                    Model::ALL[index % Model::ALL.len()],
                    self.proxy().addrs()[0],
                    machine.as_str(),
                )
            }));
        }
        for miner in &self.miners {
            miner
                .until(PATIENCE, |counts| counts.answered_true > 0)
                .await
                .expect("every miner mines");
        }
    }

    /// The tenant draws nothing any more.
    pub(crate) fn end_tenant(&self) {
        let now = daemon::clock::wall();
        let (watts, ramp) = (Watts::ZERO, Duration::ZERO);
        let tenant = TenantSpec { watts, start: now, end: Some(now), ramp };
        self.facility.set_tenant(MeterId::from("tenant"), tenant);
    }

    /// Commits a lease of `it_kw`, and adds its tenant. Returns the lease as the API answers, and
    /// its times.
    pub(crate) async fn lease(
        &self,
        id: &str,
        it_kw: f64,
        lasts: Duration,
        change: impl FnOnce(&mut Value),
    ) -> Lease {
        let start = clock::wall() + self.setup.notice();
        let end = start + lasts;
        let mut body = json!({
            "id": id, "tenant": "Nebula", "feed": "a", "it_kw": it_kw, "start": start, "end": end,
            "ready_before": format!("{}s", READY_BEFORE.as_secs()), "meter": "tenant",
        });
        change(&mut body);
        let (status, answer) = self.http.post("/v1/leases", &body);
        assert_eq!(status, 201, "{answer:#}");
        let gross = Watts(answer["gross_watts"].as_i64().expect("whole watts"));
        let ramp = Duration::from_millis(500);
        // The tenant has its full load at the start of the lease, and begins to ramp down at its
        // end.
        let tenant = TenantSpec { watts: gross, start, end: Some(end), ramp };
        self.facility.set_tenant(MeterId::from("tenant"), tenant);
        Lease { id: id.to_owned(), start, end, gross }
    }

    /// Waits until `wanted` is true of the lease in the API. On a timeout, the test fails with all that
    /// the API shows.
    pub(crate) async fn until(
        &self,
        lease: &Lease,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = format!("/v1/leases/{}", lease.id);
        let deadline = clock::now() + PATIENCE;
        loop {
            let view = self.http.get(&path);
            if wanted(&view) {
                return view;
            }
            if clock::now() >= deadline {
                let pages = ["/v1/status", "/v1/feeds", "/v1/machines", "/v1/plan"];
                let pages = pages.map(|page| format!("{page}: {:#}", self.http.get(page)));
                panic!("never {what}; at last: {view:#}\n{}", pages.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until `lease` is in `state`.
    pub(crate) async fn until_state(&self, lease: &Lease, state: &str) -> Value {
        self.until(lease, state, |view| view["state"] == state).await
    }

    /// The lowest real headroom of the feed while it was promised to `lease`.
    pub(crate) fn headroom(&self, lease: &Lease) -> Headroom {
        let from = lease.start - READY_BEFORE;
        self.facility
            .min_headroom(self.setup.usable, from, lease.end)
            .expect("the sampler has looked")
    }

    /// The machines that really do not hash.
    pub(crate) fn asleep(&self) -> BTreeSet<String> {
        let hashes = |machine: &MachineId| {
            self.facility.hashing(machine).is_some_and(|hashing| *hashing.borrow())
        };
        let machines = self.facility.machines();
        machines.iter().filter(|machine| !hashes(machine)).map(ToString::to_string).collect()
    }

    /// Waits until exactly the machines in `wanted` do not hash.
    pub(crate) async fn until_asleep(&self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        until(&format!("only {wanted:?} asleep"), || {
            let asleep = self.asleep();
            if asleep == wanted { Ok(()) } else { Err(json!(asleep)) }
        })
        .await;
    }

    /// Waits until a new share of every miner is accepted.
    pub(crate) async fn until_all_mine(&self) {
        for miner in &self.miners {
            let before = miner.counts().answered_true;
            miner
                .until(PATIENCE, |counts| counts.answered_true > before)
                .await
                .expect("every machine mines again");
        }
    }

    /// Stops the miners, waits for their answers, and returns all counts.
    pub(crate) async fn settle(&mut self) -> Books {
        let mut fleet = MinerCounts::default();
        for miner in self.miners.drain(..) {
            fleet.merge(&miner.stop().await);
        }
        let pools = self.pools.iter().map(TestPool::counts).collect();
        Books { fleet, pools, proxy: self.proxy().counts() }
    }

    pub(crate) async fn stop(mut self) {
        self.miners.clear();
        self.sampling.cancel();
        assert_eq!(self.tasks.panics(), 0, "no task panicked");
        let left = self.tasks.shutdown(PATIENCE).await;
        assert!(left.is_empty(), "tasks that did not stop: {left:?}");
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) gross: Watts,
}

#[derive(Debug, Clone)]
pub(crate) struct Http {
    agent: ureq::Agent,
    addr: SocketAddr,
    url: String,
}

impl Http {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .into();
        Self { agent, addr, url: format!("http://{addr}") }
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Gets a page that must exist.
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(path);
        assert!(status < 400, "{path}: {status} {body}");
        body
    }

    /// The metrics in the format that `accept` asks for.
    pub(crate) fn metrics(&self, accept: &str) -> String {
        let request = self.agent.get(format!("{}/metrics", self.url)).header("accept", accept);
        match answer(request.call()) {
            (200, Value::String(text)) => text,
            other => panic!("/metrics: {other:?}"),
        }
    }

    /// Gets a page; returns its status and body.
    pub(crate) fn ask(&self, path: &str) -> (u16, Value) {
        answer(self.agent.get(format!("{}{path}", self.url)).call())
    }

    /// Posts JSON with the token.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_text(path, &body.to_string(), Some("application/json"), Some(TOKEN))
    }

    /// Posts text that need not be JSON.
    pub(crate) fn post_text(
        &self,
        path: &str,
        body: &str,
        kind: Option<&str>,
        token: Option<&str>,
    ) -> (u16, Value) {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(kind) = kind {
            request = request.content_type(kind);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        answer(request.send(body))
    }

    /// Deletes with the token.
    pub(crate) fn delete(&self, path: &str) -> (u16, Value) {
        let request = self.agent.delete(format!("{}{path}", self.url));
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        answer(request.call())
    }
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.expect("it answers");
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Calls `look` until it succeeds. On a timeout, the test fails with the last value that it saw.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, Value>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) => assert!(clock::now() < deadline, "never {what}; at last: {last:#}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a time of the wall clock.
pub(crate) async fn until_time(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(clock::wall())).unwrap_or_default();
    tokio::time::sleep(left).await;
}
