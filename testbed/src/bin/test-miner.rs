//! A fleet of test miners as a program. See `testbed::miner`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use daemon::stdio::complain;
use testbed::clock::parse_span;
use testbed::miner::{Fleet, FleetConfig, MinerConfig, Model, SleepKind};
use testbed::program::{ended, print, write_json};

/// Miners that really hash, at a configured rate, and behave like real firmware.
///
/// Exits 0 when at least one miner ever got a job, else 1.
#[derive(Debug, Parser)]
#[command(name = "test-miner")]
struct Options {
    /// Pool or proxy, host:port; more than one: the others are backups.
    #[arg(long, required = true, value_name = "HOST:PORT")]
    connect: Vec<String>,
    /// How many miners.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// A worker's name is this and its number, from 1.
    #[arg(long, default_value = "acme.rig-")]
    name_prefix: String,
    /// Password of all workers.
    #[arg(long, default_value = "x")]
    password: String,
    /// Hashes per second of each miner.
    #[arg(long, default_value_t = 5000.0)]
    hashrate: f64,
    /// Firmware model, or mixed for all: cgminer411, stock-s19, cpuminer, bfgminer, minerd,
    /// stock-s9, stock-s17, stock-s21, whatsminer, avalon, braiins-os, lux-os, vnish, esp-miner,
    /// nerd-miner, nice-hash, mining-rig-rentals.
    #[arg(long, default_value = "mixed", value_parser = parse_model)]
    model: Choice,
    /// Directory of `<worker>.state` files, with `asleep` or `awake`; without a file, the miner is
    /// awake.
    #[arg(long, value_name = "DIR")]
    devices: Option<PathBuf>,
    /// What sleeping firmware does with its connection.
    #[arg(long, default_value = "keeps-tcp")]
    sleep_kind: SleepKind,
    /// Time between the starts of two miners.
    #[arg(long, default_value = "5ms", value_parser = parse_span)]
    stagger: Duration,
    /// Pause between connection attempts.
    #[arg(long, default_value = "5s", value_parser = parse_span)]
    retry: Duration,
    /// How long a miner stays with a backup before it tries its first pool.
    #[arg(long, default_value = "5m", value_parser = parse_span)]
    failback: Duration,
    /// Replaces the models' own time without a line after which they reconnect.
    #[arg(long, value_parser = parse_span)]
    idle_timeout: Option<Duration>,
    /// Time between finding and writing a share.
    #[arg(long, default_value = "0s", value_parser = parse_span)]
    submit_delay: Duration,
    /// Write the counts here each second, as JSON.
    #[arg(long, value_name = "PATH")]
    counts_file: Option<PathBuf>,
    /// End after this time.
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span)]
    span: Option<Duration>,
}

/// A model, or all of them.
#[derive(Debug, Clone, Copy)]
struct Choice(Option<Model>);

fn parse_model(text: &str) -> Result<Choice, String> {
    if text == "mixed" {
        return Ok(Choice(None));
    }
    let names = || Model::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
    Model::from_str(text, true).map(Some).map(Choice).map_err(|_| {
        let known: Vec<String> = names().map(|name| name.get_name().to_owned()).collect();
        format!("no such model: mixed, {}", known.join(", "))
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            complain("test-miner: no miner ever got a job");
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("test-miner: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the fleet until its end. Returns whether any miner ever got a job.
async fn run(options: &Options) -> anyhow::Result<bool> {
    anyhow::ensure!(
        options.hashrate.is_finite() && options.hashrate >= 0.0,
        "--hashrate {}: not a rate",
        options.hashrate
    );
    let template = MinerConfig {
        addresses: options.connect.clone(),
        password: options.password.clone(),
        hashrate: options.hashrate,
        retry: options.retry,
        failback: options.failback,
        idle_timeout: options.idle_timeout,
        submit_delay: options.submit_delay,
        wire_lines: 0,
        ..MinerConfig::new(Model::Cgminer411, "", "")
    };
    let config = FleetConfig {
        count: options.count,
        name_prefix: options.name_prefix.clone(),
        model: options.model.0,
        sleep_kind: options.sleep_kind,
        stagger: options.stagger,
        miner: template,
    };
    let mut end = std::pin::pin!(ended(options.span));
    let fleet = tokio::select! {
        fleet = Fleet::start(&config) => fleet,
        ended = &mut end => return ended.map(|()| false),
    };
    let result = tokio::select! {
        ended = &mut end => ended,
        () = follow(&fleet, options.devices.as_deref()) => Ok(()),
        written = write_each_second(&fleet, options.counts_file.as_deref()) => written,
    };
    let counts = fleet.stop().await;
    if let Some(path) = &options.counts_file {
        write_json(path, &counts).await?;
    }
    print(&serde_json::to_string(&counts)?)?;
    result.map(|()| counts.notifies > 0)
}

async fn follow(fleet: &Fleet, dir: Option<&Path>) {
    match dir {
        Some(dir) => fleet.follow(dir).await,
        None => std::future::pending().await,
    }
}

async fn write_each_second(fleet: &Fleet, path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return std::future::pending().await };
    loop {
        write_json(path, &fleet.counts()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
