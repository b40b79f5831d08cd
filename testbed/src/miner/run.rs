//! A test miner's task: connects, moves bytes between socket and [`Brain`], and follows the power
//! switch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratum::frame::{POOL_LINE_MAX, Splitter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Shared;
use super::brain::{Brain, Ending, TICK};
use super::config::MinerConfig;
use super::switch::SleepKind;
use crate::clock;

/// The deadline of a connection attempt.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The deadline of a write; after it the connection is closed.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a stopping miner waits for its answers: longer than a busy machine takes, and longer
/// than a proxy waits for its pool.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(shared: Arc<Shared>) {
    let abort = shared.abort.clone();
    // An aborted miner drops its socket without waiting.
    abort.run_until_cancelled(live(&shared)).await;
}

async fn live(shared: &Shared) {
    let config = Arc::clone(&shared.brain.lock().config);
    let mut power = config.switch.subscribe();
    let mut pool = 0;
    shared.with(|brain, now| brain.set_awake(*power.borrow_and_update(), now));
    while !shared.finish.is_cancelled() {
        if config.switch.kind() == SleepKind::DropsTcp && !*power.borrow() {
            if shared.finish.run_until_cancelled(power.changed()).await.is_none() {
                return;
            }
            let awake = *power.borrow_and_update();
            shared.with(|brain, now| brain.set_awake(awake, now));
            continue;
        }
        let configured = config.addresses.get(pool).cloned().unwrap_or_default();
        let address = shared.with(|brain, _| brain.moved_to.clone()).unwrap_or(configured);
        let ending = match timeout(CONNECT_LIMIT, TcpStream::connect(&address)).await {
            Ok(Ok(stream)) => {
                connection(shared, &config, &mut power, stream, &address, pool != 0).await
            }
            _ => {
                shared.with(|brain, _| brain.connect_failed());
                Ending::Lost
            }
        };
        match ending {
            // The miner returns to its first pool at once.
            Ending::Wanted => pool = 0,
            Ending::Told => {}
            _ => {
                shared.with(|brain, _| brain.moved_to = None);
                pool = (pool + 1) % config.addresses.len().max(1);
                shared.finish.run_until_cancelled(sleep(config.retry)).await;
            }
        }
    }
}

/// Serves one connection until it ends, and returns why it ended.
async fn connection(
    shared: &Shared,
    config: &MinerConfig,
    power: &mut watch::Receiver<bool>,
    mut stream: TcpStream,
    address: &str,
    backup: bool,
) -> Ending {
    // This fails only if the connection has ended, which the next read reports.
    let _ = stream.set_nodelay(true);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    shared.with(|brain, now| brain.connected(host, now));
    let ending = converse(shared, config, power, &mut stream, backup).await;
    shared.with(|brain, now| brain.closed(ending, now));
    ending
}

async fn converse(
    shared: &Shared,
    config: &MinerConfig,
    power: &mut watch::Receiver<bool>,
    stream: &mut TcpStream,
    backup: bool,
) -> Ending {
    let mut splitter = Splitter::new(POOL_LINE_MAX);
    let mut buffer = vec![0; 4096];
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failback = std::pin::pin!(failback(config));
    let mut last_call = std::pin::pin!(async {
        shared.finish.cancelled().await;
        sleep(FINISH_LIMIT).await;
    });
    loop {
        let out = shared.brain.lock().take_out();
        if !out.is_empty()
            && !matches!(timeout(WRITE_LIMIT, stream.write_all(&out)).await, Ok(Ok(())))
        {
            return Ending::Lost;
        }
        if let Some(ending) = shared.brain.lock().ending() {
            return ending;
        }
        if shared.finish.is_cancelled() && !shared.brain.lock().waits_for_answers() {
            return Ending::Wanted;
        }
        tokio::select! {
            () = &mut last_call => return Ending::Wanted,
            () = &mut failback, if backup => return Ending::Wanted,
            changed = power.changed(), if !shared.finish.is_cancelled() => {
                // The configuration owns the switch, so it is not dropped while the miner runs.
                let _ = changed;
                let awake = *power.borrow_and_update();
                shared.with(|brain, now| brain.set_awake(awake, now));
                if !awake && config.switch.kind() == SleepKind::DropsTcp {
                    return Ending::Wanted;
                }
            }
            _ = ticks.tick() => shared.with(Brain::tick),
            read = stream.read(&mut buffer) => {
                let Ok(length @ 1..) = read else { return Ending::Lost };
                let mut input = &buffer[..length];
                let whole = shared.with(|brain, now| loop {
                    match splitter.next_line(&mut input) {
                        Ok(Some(line)) => brain.line(line, now),
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                });
                if !whole {
                    return Ending::Handshake;
                }
            }
        }
    }
}

/// Returns when the first pool accepts connections again, for a miner that is on a backup pool.
async fn failback(config: &MinerConfig) {
    loop {
        sleep(config.failback).await;
        let Some(first) = config.addresses.first() else { return std::future::pending().await };
        if let Ok(Ok(_)) = timeout(CONNECT_LIMIT, TcpStream::connect(first)).await {
            return;
        }
    }
}

impl Shared {
    /// Changes the miner's state, and notifies those who wait for a change.
    fn with<R>(&self, change: impl FnOnce(&mut Brain, Instant) -> R) -> R {
        let result = change(&mut self.brain.lock(), clock::now());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        result
    }
}
