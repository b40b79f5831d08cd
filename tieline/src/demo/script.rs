//! The script of the demo: which events happen at which times.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use daemon::clock;
use daemon::tasks::Tasks;
use directive::{LeaseId, MeterId, Watts};
use jiff::{SignedDuration, Timestamp, Unit};
use prometheus_client::registry::Registry;
use proxy::{Proxy, SessionState};
use serde_json::json;
use switchboard::Handle;
use switchboard::commitment::Phase;
use switchboard::core::{Answer, Command};
use switchboard::lease::LeaseRequest;
use switchboard::view::{LeaseAnswer, LeaseView};
use testbed::facility::TenantSpec;
use testbed::miner::MinerCounts;
use tokio_util::sync::CancellationToken;

use super::cast::{Cast, PUE, TENANT_METER};
use super::summary::{Books, LeaseBooks, MinerBooks, PoolBooks, PoolSwitch, ProxyBooks};
use crate::cli::Demo;
use crate::figures::kilowatts;
use crate::lease;
use crate::output::{LEAST_WIDTH, print, wrapped};
use crate::site::{ControlConfig, Site, SiteConfig};
use crate::times::{Shown, Zone};

/// The times of the events, as fractions of the story's length.
const LEASE_COMMITTED: f64 = 0.10;
const LEASE_STARTS: f64 = 0.45;
const POOL_DIES: f64 = 0.55;
const POOL_RETURNS: f64 = 0.63;
const LEASE_ENDS: f64 = 0.73;
const FLEET_IS_BACK: f64 = 0.95;
/// The last machines may take this much longer: permits name machines when the meter shows room.
const FLEET_IS_BACK_AT_LAST: f64 = 1.15;
/// How long before its start the lease must be proven, as a fraction of the story's length.
const READY_BEFORE: f64 = 0.10;
/// How long a pool that is back must have had jobs before miners return to it, as a fraction of the
/// story's length.
const FAILBACK: f64 = 0.04;

/// The state of the demo while it runs.
pub(super) struct Script {
    cast: Cast,
    proxy: Proxy,
    switchboard: Handle,
    tasks: Tasks,
    stop: CancellationToken,
    began: Instant,
    began_wall: Timestamp,
    length: Duration,
    quiet: bool,
    told: Option<Phase>,
    _state: tempfile::TempDir,
}

impl Script {
    /// Runs the script, and returns the counts at the end.
    pub(super) async fn play(options: &Demo) -> anyhow::Result<Books> {
        let state = tempfile::tempdir().context("failed to make a folder for the demo's state")?;
        let cast = Cast::make(options.miners).await?;
        let tasks = Tasks::new();
        let timing = agent::core::Timing {
            read_at_rest: Duration::from_secs(2),
            read_in_doubt: Duration::from_millis(250),
            report_every: Duration::from_millis(250),
            ..agent::core::Timing::default()
        };
        let control = ControlConfig {
            policy: cast.policy.clone(),
            ledger: state.path().join("ledger.db"),
            devices: cast.devices()?,
            timing,
            runtime: None,
        };
        let config = SiteConfig {
            proxy: Some(cast.proxy(options.length.mul_f64(FAILBACK))?),
            control: Some(control),
            state_dir: state.path().to_owned(),
        };
        let site = Site::start(config, &mut Registry::default(), &tasks).await?;
        let switchboard = site.switchboard.context("the demo has a switchboard")?;
        let proxy = site.proxy.context("the demo has a proxy")?;
        let mut script = Self {
            cast,
            proxy,
            switchboard,
            tasks,
            stop: CancellationToken::new(),
            began: clock::now(),
            began_wall: clock::wall(),
            length: options.length,
            quiet: options.json,
            told: None,
            _state: state,
        };
        script.acts(options).await
    }

    async fn acts(&mut self, options: &Demo) -> anyhow::Result<Books> {
        let sampler = self.cast.facility.spawn_sampler(self.stop.clone());
        let address = *self.proxy.addrs().first().context("the proxy listens")?;
        self.say(format!("two test pools, and a proxy at {address}"))?;
        self.cast.enter(address, &self.stop).await;
        self.say(format!(
            "{} miners below transformer xfmr-a, which carries {}, hardly more than they draw",
            self.cast.miners.len(),
            kw(self.cast.feed_usable)
        ))?;

        self.wait(LEASE_COMMITTED).await;
        self.report_power()?;
        let lease = self.commit().await?;
        self.wait_telling(&lease.id, LEASE_STARTS).await?;

        let mut switch = PoolSwitch::default();
        self.wait_telling(&lease.id, POOL_DIES).await?;
        if !options.no_pool_kill {
            let before = self.fleet();
            self.cast.pools[0].die().await;
            self.say("pool-a is killed; its miners do not notice".into())?;
            self.wait_telling(&lease.id, POOL_RETURNS).await?;
            self.say(format!("mining at {}", self.active()))?;
            self.cast.pools[0].come_back().await;
            self.say("pool-a comes back, and is trusted again after a while".into())?;
            self.wait_telling(&lease.id, LEASE_ENDS - 0.01).await?;
            let after = self.fleet();
            switch = PoolSwitch {
                reconnects: after.reconnects - before.reconnects,
                gap_ms: after.gap_ms,
            };
            self.say(format!("mining at {}", self.active()))?;
        }
        self.wait_telling(&lease.id, FLEET_IS_BACK).await?;
        let mut until = FLEET_IS_BACK;
        while !self.is_restored() && until < FLEET_IS_BACK_AT_LAST {
            until += 0.01;
            self.wait_telling(&lease.id, until).await?;
        }
        let restored = self.is_restored();
        self.report_power()?;

        // Miners stop and wait for their answers; then the counts of all parts are compared.
        let mut stopping = tokio::task::JoinSet::new();
        for miner in std::mem::take(&mut self.cast.miners) {
            stopping.spawn(async move { miner.stop().await });
        }
        let mut fleet = MinerCounts::default();
        while let Some(counts) = stopping.join_next().await {
            fleet.merge(&counts.context("a miner's task failed")?);
        }
        switch.gap_ms = fleet.gap_ms;
        let books = self.close(&lease, &fleet, switch, restored).await?;
        self.stop.cancel();
        let _ = sampler.await;
        let left = self.tasks.shutdown(Duration::from_secs(5)).await;
        if !left.is_empty() {
            bail!("tasks that did not stop: {left:?}");
        }
        Ok(books)
    }

    async fn commit(&mut self) -> anyhow::Result<LeaseView> {
        let start = self.at(LEASE_STARTS);
        let end = self.at(LEASE_ENDS);
        let request: LeaseRequest = serde_json::from_value(json!({
            "id": "nebula-1",
            "tenant": "Nebula",
            "feed": "xfmr-a",
            "it_kw": self.cast.it.kw(),
            "pue": PUE,
            "start": start,
            "end": end,
            "ready_before": format!("{} ms", self.length.mul_f64(READY_BEFORE).as_millis()),
            "meter": TENANT_METER,
        }))?;
        let committed = self.switchboard.ask(Command::Commit(request, None)).await?;
        let LeaseAnswer { lease: view, arithmetic, .. } = match committed {
            Answer::Committed(answer) => *answer,
            Answer::Refused(refused) => bail!("the lease was refused: {refused}"),
            other => bail!("unexpected answer {other:?}"),
        };
        self.say(format!(
            "lease {} is committed: {} from {} ({} of IT × PUE {PUE}), to be proven free {:.0} s \
             before that",
            view.id,
            kilowatts(view.gross),
            clock_of(start),
            kilowatts(view.it),
            self.length.mul_f64(READY_BEFORE).as_secs_f64()
        ))?;
        let shown = Shown { zone: Zone::named("UTC"), now: clock::wall() };
        self.lines(&lease::arithmetic(&arithmetic, &shown, LEAST_WIDTH - INDENT))?;
        // The tenant increases its power gradually from its start on, as a hall full of GPUs does.
        let ramp = self.length.mul_f64(0.05);
        let tenant = TenantSpec { watts: view.gross, start, end: Some(end), ramp };
        self.cast.facility.set_tenant(MeterId::from(TENANT_METER), tenant);
        Ok(view)
    }

    /// Lets time pass up to a fraction of the story, and prints each change of the lease's state
    /// meanwhile.
    async fn wait_telling(&mut self, lease: &LeaseId, part: f64) -> anyhow::Result<()> {
        let until = self.began + self.length.mul_f64(part);
        loop {
            let view = self.lease(lease).await?;
            if self.told != Some(view.state) {
                self.told = Some(view.state);
                self.tell_phase(&view)?;
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(Duration::from_millis(100))).await;
        }
    }

    fn tell_phase(&self, view: &LeaseView) -> anyhow::Result<()> {
        let asleep = self.cast.miners.len() - self.cast.hashing();
        let text = match view.state {
            Phase::Planned => "is planned".to_owned(),
            Phase::Armed => {
                "is armed: proxy and agent hold the timeline that frees its power, and follow it even \
                 without the switchboard"
                    .to_owned()
            }
            Phase::Shedding => {
                "is shedding: machines go to sleep, the least efficient that a device reaches first"
                    .to_owned()
            }
            Phase::Proven => format!("is PROVEN by the meter, with {asleep} machines asleep"),
            Phase::Active => "is active: the tenant draws its power".to_owned(),
            Phase::Releasing => "is over: machines wake, the most efficient first".to_owned(),
            Phase::Closed => "is closed: every machine is back".to_owned(),
        };
        self.say(format!("lease {} {text}", view.id))?;
        if view.state == Phase::Shedding
            && let Some(plan) = &view.lease_plan
        {
            self.say(format!(
                "  {} machines go, the first at {} at the latest",
                plan.machines_planned,
                clock_of(plan.latest_safe_start)
            ))?;
        }
        if matches!(view.state, Phase::Proven | Phase::Active | Phase::Releasing) {
            self.report_power()?;
        }
        Ok(())
    }

    fn report_power(&self) -> anyhow::Result<()> {
        let power = self.cast.facility.power(testbed::clock::moment());
        self.say(format!(
            "  meter: {} mining + {} tenant + {} house, of {} usable; headroom {}",
            kw(power.mining),
            kw(power.tenants),
            kw(power.house),
            kw(self.cast.feed_usable),
            kw(self.cast.feed_usable - power.mining - power.house)
        ))
    }

    async fn lease(&self, id: &LeaseId) -> anyhow::Result<LeaseView> {
        match self.switchboard.ask(Command::Lease(id.clone())).await? {
            Answer::Lease(answer) => Ok(answer.lease),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    async fn close(
        &self,
        committed: &LeaseView,
        fleet: &MinerCounts,
        pool_switch: PoolSwitch,
        restored: bool,
    ) -> anyhow::Result<Books> {
        let lease = self.lease(&committed.id).await?;
        let ready = lease.start
            - SignedDuration::try_from(self.length.mul_f64(READY_BEFORE))
                .context("a short time")?;
        let headroom = self.cast.facility.min_headroom(self.cast.feed_usable, ready, lease.end);
        let headroom = headroom.context("the sampler has looked at the feed")?;
        let unverified = self.starved().await?;
        Ok(Books {
            miners: fleet.miners,
            miners_counts: MinerBooks {
                submitted: fleet.submitted,
                answered_true: fleet.answered_true,
                answered_error: fleet.refused(),
                unanswered: fleet.unanswered,
            },
            pools_counts: PoolBooks::sum(self.cast.pools.iter().map(|pool| pool.counts())),
            proxy_counts: ProxyBooks::from(self.proxy.counts()),
            miner_disconnects: fleet.disconnects,
            pool_switch,
            lease: LeaseBooks {
                committed_kw: self.cast.gross().kw(),
                headroom_min_kw: headroom.watts.kw(),
                ready_before_met: lease.proven_at.is_some_and(|proven| proven <= ready),
                proven_at: lease.proven_at,
                state: lease.state,
                breached: lease.breached,
                unverified_machines: unverified,
            },
            restored,
        })
    }

    /// The number of machines of the lease that were only starved of work.
    async fn starved(&self) -> anyhow::Result<u32> {
        let Answer::Lease(answer) =
            self.switchboard.ask(Command::Lease(LeaseId::from("nebula-1"))).await?
        else {
            bail!("the lease is gone");
        };
        Ok(answer.lease.lease_plan.map_or(0, |plan| plan.machines_starved))
    }

    fn is_restored(&self) -> bool {
        self.cast.hashing() == self.cast.miners.len() && self.everybody_works()
    }

    fn everybody_works(&self) -> bool {
        let sessions = self.proxy.sessions();
        let working = sessions.iter().filter(|session| session.state == SessionState::Working);
        working.count() == self.cast.miners.len()
    }

    fn fleet(&self) -> MinerCounts {
        let mut fleet = MinerCounts::default();
        for miner in &self.cast.miners {
            fleet.merge(&miner.counts());
        }
        fleet
    }

    fn active(&self) -> String {
        let targets = self.proxy.targets();
        targets
            .into_iter()
            .find(|target| target.active)
            .map_or_else(|| "nothing".into(), |target| target.name)
    }

    async fn wait(&self, part: f64) {
        let until = self.began + self.length.mul_f64(part);
        tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
    }

    fn at(&self, part: f64) -> Timestamp {
        let at = self
            .began_wall
            .checked_add(self.length.mul_f64(part))
            .and_then(|at| at.round(Unit::Second));
        at.unwrap_or(Timestamp::MAX)
    }

    /// Prints one event of the demo, after the seconds since its start.
    ///
    /// # Errors When the reader has closed the output: then the demo ends.
    fn say(&self, text: String) -> anyhow::Result<()> {
        let secs = clock::now().duration_since(self.began).as_secs_f64();
        let text =
            wrapped(&text, LEAST_WIDTH, if text.starts_with(' ') { INDENT + 2 } else { INDENT });
        let first = format!("{secs:6.1}s");
        self.print(&format!("{first}{}", &text[first.len()..]))
    }

    /// Prints lines that have their layout already.
    fn lines(&self, lines: &str) -> anyhow::Result<()> {
        lines.lines().try_for_each(|line| self.print(&format!("{:INDENT$}{line}", "")))
    }

    fn print(&self, text: &str) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { Ok(print(text)?) }
    }
}

/// The column at which the text begins, after the seconds.
const INDENT: usize = 10;

fn kw(watts: Watts) -> String {
    kilowatts(watts)
}

fn clock_of(at: Timestamp) -> String {
    at.strftime("%H:%M:%S UTC").to_string()
}
