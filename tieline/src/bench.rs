//! `tieline bench`: the load tool of the testbed on the command line.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::Context;
use daemon::stdio::complain;
use serde_json::json;
use testbed::load::{Bench as Load, LoadConfig, LoadError, PoolSettings};

use crate::cli::Bench;
use crate::failure::Failure;
use crate::output::print;

/// Runs the load tool and prints its report.
///
/// # Errors
/// [`Failure::Usage`] when this process cannot have enough connections or an address cannot be
/// used; [`Failure::Runtime`] when the peer cannot be reached and, with `--strict`, also when it
/// lost something.
pub fn bench(options: &Bench) -> Result<(), Failure> {
    if options.job_every.is_zero() {
        return Err(Failure::Usage("--job-every must be longer than 0s".to_owned()));
    }
    let connect = options.connect.as_deref().map(resolve).transpose()?;
    let load = Load::open(config(options)).map_err(|error| match error {
        LoadError::OpenFiles { .. } | LoadError::Listen { .. } => Failure::Usage(error.to_string()),
        other => Failure::Runtime(other.into()),
    })?;
    let report = load
        .run(connect, |words| {
            if !options.json {
                complain(words);
            }
        })
        .map_err(|error| Failure::Runtime(error.into()))?;
    if options.json {
        print(&json!(report).to_string())?;
    } else {
        print(&report.to_string())?;
    }
    if options.strict && !report.measured.nothing_lost() {
        return Err(Failure::Runtime(anyhow::anyhow!("shares or connections were lost")));
    }
    Ok(())
}

fn resolve(connect: &str) -> Result<SocketAddr, Failure> {
    let mut addresses = connect.to_socket_addrs().map_err(|error| {
        Failure::Usage(format!("--connect {connect:?}: {error}; write host:port"))
    })?;
    Ok(addresses.next().with_context(|| format!("{connect} has no address"))?)
}

fn config(options: &Bench) -> LoadConfig {
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    LoadConfig {
        pool: PoolSettings {
            listen: options.pool_listen,
            second: options.second_pool_listen,
            difficulty: options.pool_difficulty,
            job_every: options.job_every,
            extranonce2_size: options.extranonce2_size.into(),
            branches: options.branches.into(),
            validate: options.pool_validate,
        },
        miners: size(options.miners),
        connect_window: size(options.connect_window),
        rate: options.rate.into(),
        span: options.length,
        idle: options.idle,
        slope_from: options.slope_from.map(size),
        version_rolling: !options.no_version_rolling,
        worker: options.worker.clone(),
        password: options.password.clone(),
        pids: options.pid.clone(),
        wait: options.wait,
        kill_pool_at: options.kill_pool_at,
        pool_dies_every: options.pool_dies_every,
        with_floor: options.with_floor,
    }
}
