//! A fleet of test miners in one process. State files, written by simulated devices in another
//! process, put them to sleep.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::{MinerConfig, MinerCounts, Model, PowerSwitch, SearchSpace, SleepKind, TestMiner};

/// The settings that all miners of a fleet share.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    pub count: usize,
    /// A worker's name is this and its number, from 1.
    pub name_prefix: String,
    /// The model of all miners; `None` mixes all models.
    pub model: Option<Model>,
    /// What sleeping firmware does with its connection.
    pub sleep_kind: SleepKind,
    /// The time between the starts of two miners.
    pub stagger: Duration,
    /// All other settings of a miner; the worker, model, switch and space in them are replaced.
    pub miner: MinerConfig,
}

#[derive(Debug, Default)]
pub struct Fleet {
    miners: Vec<(String, TestMiner)>,
}

/// How often state files are read.
const POLL: Duration = Duration::from_millis(100);

impl Fleet {
    /// Starts the miners one after the other.
    pub async fn start(config: &FleetConfig) -> Self {
        let space = SearchSpace::default();
        let mut miners = Vec::with_capacity(config.count);
        for index in 0..config.count {
            let model = config.model.unwrap_or(Model::ALL[index % Model::ALL.len()]);
            let worker = format!("{}{}", config.name_prefix, index + 1);
            let fresh = MinerConfig::new(model, "", worker.clone());
            let miner = MinerConfig {
                worker: worker.clone(),
                model,
                rounding: fresh.rounding,
                switch: PowerSwitch::new(config.sleep_kind),
                space: space.clone(),
                ..config.miner.clone()
            };
            miners.push((worker, TestMiner::start(miner)));
            sleep(config.stagger).await;
        }
        Self { miners }
    }

    /// The miners and their worker names.
    #[must_use]
    pub fn miners(&self) -> &[(String, TestMiner)] {
        &self.miners
    }

    /// Returns the sum of the miners' counts.
    #[must_use]
    pub fn counts(&self) -> MinerCounts {
        let mut counts = MinerCounts::default();
        self.miners.iter().for_each(|(_, miner)| counts.merge(&miner.counts()));
        counts
    }

    /// Follows the files `DIR/<worker>.state` for ever: `asleep` puts the miner to sleep; `awake`,
    /// or no file, wakes it.
    pub async fn follow(&self, dir: &Path) {
        let files: Vec<(PathBuf, &PowerSwitch)> = self
            .miners
            .iter()
            .map(|(worker, miner)| (dir.join(format!("{worker}.state")), miner.switch()))
            .collect();
        loop {
            for (file, switch) in &files {
                let state = std::fs::read_to_string(file);
                switch.set_awake(!state.is_ok_and(|state| state.trim() == "asleep"));
            }
            sleep(POLL).await;
        }
    }

    /// Stops all miners after their last answers, and returns the final counts.
    pub async fn stop(&self) -> MinerCounts {
        self.miners.iter().for_each(|(_, miner)| miner.finish());
        let mut counts = MinerCounts::default();
        for (_, miner) in &self.miners {
            counts.merge(&miner.stop().await);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{PoolConfig, TestPool};

    const LIMIT: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn a_mixed_fleet_mines_and_sleeps_by_its_files() {
        let config = PoolConfig { difficulty: 1.0 / 16_777_216.0, ..PoolConfig::default() };
        let pool = TestPool::start(config).await.unwrap();
        let fleet = Fleet::start(&FleetConfig {
            count: 8,
            name_prefix: "acme.rig-".into(),
            model: None,
            sleep_kind: SleepKind::KeepsTcp,
            stagger: Duration::ZERO,
            miner: MinerConfig::new(Model::Cpuminer, pool.addr(), ""),
        })
        .await;
        pool.until(LIMIT, |counts| counts.workers.len() == 8).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("acme.rig-3.state");
        std::fs::write(&file, "asleep\n").unwrap();
        let third = &fleet.miners()[2].1;
        tokio::select! {
            () = fleet.follow(dir.path()) => {}
            asleep = third.until(LIMIT, |counts| counts.sleeps == 1) => { asleep.unwrap(); }
        }
        let awake: usize =
            fleet.miners().iter().filter(|(_, miner)| miner.switch().is_awake()).count();
        assert_eq!(awake, 7);
        std::fs::remove_file(&file).unwrap();
        let mut woken = third.switch().subscribe();
        tokio::select! {
            () = fleet.follow(dir.path()) => {}
            awake = tokio::time::timeout(LIMIT, woken.wait_for(|awake| *awake)) => { awake.unwrap().unwrap(); }
        }
        let mined = fleet.stop().await;
        assert!(mined.balanced() && mined.miners == 8 && mined.shared_work == 0, "{mined:?}");
        assert_eq!(mined.answered_true, pool.counts().total.accepted);
    }
}
