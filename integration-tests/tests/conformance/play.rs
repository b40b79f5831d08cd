//! Plays a session against a proxy of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use daemon::tasks::Tasks;
use prometheus_client::registry::Registry;
use proxy::config::Config;
use proxy::{Proxy, TargetId};
use stratum::difficulty::Difficulty;
use testbed::pool::{Command, Like, PoolConfig, Rolling, TestPool};
use testbed::wire::Direction;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::script::{Script, Step, matches};
use super::share::Miner;
use crate::harness::{EASY, PATIENCE, config_for};

/// A session being played.
struct Stage {
    proxy: Proxy,
    pool: Pool,
    /// A second pool with default settings (`set second`).
    second: Option<TestPool>,
    line: Option<BufReader<TcpStream>>,
    miner: Miner,
    /// How many pings the pool has sent.
    pings: u32,
    /// Whether the pool was given a command since the miner last received a line. If so, the proxy
    /// may not have noticed the command's effect yet.
    unheard: bool,
    /// The ids of our requests, and the names that the session file uses for them.
    requests: Vec<(String, String)>,
    /// The lines so far, to show with an error.
    said: String,
}

/// The pool of the proxy.
enum Pool {
    /// The test bed's pool.
    Test(TestPool),
    Scripted {
        listener: TcpListener,
        line: Option<BufReader<TcpStream>>,
    },
}

/// Runs a session. The error names the line of the file at fault.
pub(super) async fn play(script: &Script) -> Result<(), String> {
    let tasks = Tasks::new();
    let mut stage = Stage::set(script, &tasks).await?;
    let mut result = Ok(());
    for (number, step) in &script.steps {
        let done = timeout(PATIENCE, stage.perform(step)).await;
        if let Err(why) = done.unwrap_or_else(|_| Err("nothing came".into())) {
            result = Err(format!("{number}: {why}\nso far:\n{}", stage.said));
            break;
        }
    }
    if result.is_ok() && stage.line.is_some() {
        let done = timeout(PATIENCE, stage.nothing()).await;
        result = done
            .unwrap_or_else(|_| Err("no pong".into()))
            .map_err(|why| format!("end: {why}\nso far:\n{}", stage.said));
    }
    drop(stage);
    let panics = tasks.panics();
    tasks.shutdown(PATIENCE).await;
    result.and_then(|()| if panics == 0 { Ok(()) } else { Err(format!("{panics} tasks panicked")) })
}

impl Stage {
    async fn set(script: &Script, tasks: &Tasks) -> Result<Self, String> {
        let scripted = script.settings.iter().any(|(key, _)| key == "scripted");
        let like = script.settings.iter().find(|(key, _)| key == "like");
        let mut settings = match like {
            Some((_, name)) => {
                Like::named(name).ok_or_else(|| format!("no such pool: {name}"))?.config()
            }
            None => PoolConfig::default(),
        };
        settings.difficulty = EASY;
        settings.job_interval = Duration::ZERO;
        for (key, value) in &script.settings {
            set_pool(key, value, &mut settings)
                .ok_or_else(|| format!("no such setting: {key} {value}"))?;
        }
        let pool = if scripted {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|why| why.to_string())?;
            Pool::Scripted { listener, line: None }
        } else {
            Pool::Test(TestPool::start(settings).await.map_err(|why| why.to_string())?)
        };
        let second = match script.settings.iter().any(|(key, _)| key == "second") {
            true => Some(
                TestPool::start(PoolConfig { difficulty: EASY, seed: 2, ..PoolConfig::default() })
                    .await
                    .map_err(|why| why.to_string())?,
            ),
            false => None,
        };
        let addrs: Vec<SocketAddr> =
            std::iter::once(pool.addr()?).chain(second.as_ref().map(TestPool::addr)).collect();
        let mut config = config_for(&addrs);
        // A session states the effect of each job, so no job must be delayed because the previous
        // one has just come.
        config.pool.job_every = Duration::ZERO;
        if scripted {
            // The size is configured, so that there is no probe and the first connection is the one
            // used for mining.
            config.targets[TargetId::nth(0)].extranonce2_size = Some(8);
        }
        for (key, value) in script.settings.iter().filter(|(key, _)| key.starts_with("server.")) {
            set_server(key, value, &mut config)
                .ok_or_else(|| format!("no such setting: {key} {value}"))?;
        }
        let mut registry = Registry::default();
        let proxy = Proxy::start(config, None::<directive::InProcess>, None, &mut registry, tasks)
            .await
            .map_err(|why| why.to_string())?;
        let mut stage = Self {
            proxy,
            pool,
            second,
            line: None,
            miner: Miner::default(),
            pings: 0,
            unheard: false,
            requests: Vec::new(),
            said: String::new(),
        };
        let passed_through = script.settings.iter().any(|(key, _)| key == "server.passthrough");
        let test = if let (Pool::Test(pool), false) = (&stage.pool, passed_through) {
            Some(pool)
        } else {
            None
        };
        for pool in test.into_iter().chain(&stage.second) {
            // The probe has ended, and the other connection has its job.
            pool.until(PATIENCE, |counts| counts.connections.values().any(|one| one.jobs > 0))
                .await
                .map_err(|_| "the proxy does not mine at the pool".to_owned())?;
            has_come(pool, 0).await;
        }
        stage.open().await?;
        Ok(stage)
    }

    async fn open(&mut self) -> Result<(), String> {
        let stream =
            TcpStream::connect(self.proxy.addrs()[0]).await.map_err(|why| why.to_string())?;
        self.line = Some(BufReader::new(stream));
        Ok(())
    }

    async fn perform(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::MinerSays(lines) => {
                let lines: Vec<String> = lines.iter().map(|line| self.miner.fill(line)).collect();
                for line in &lines {
                    self.note(">", line);
                }
                self.send(format!("{}\n", lines.join("\n")).as_bytes()).await
            }
            Step::MinerSends(bytes) => self.send(bytes).await,
            Step::MinerHears(pattern) => {
                let line = self.hear().await?.ok_or("the connection was closed")?;
                if matches(pattern, &line) {
                    Ok(())
                } else {
                    Err(format!("wanted: {pattern}\n      got: {line}"))
                }
            }
            Step::Share(options) => self.miner.mine(options),
            Step::Nothing => self.nothing().await,
            Step::Closed => match self.hear().await? {
                None => {
                    self.line = None;
                    Ok(())
                }
                Some(line) => Err(format!("not closed, but: {line}")),
            },
            Step::Reopen => self.open().await,
            Step::Control(words) => {
                self.note("@", words);
                let Pool::Test(pool) = &self.pool else {
                    return Err("the pool is the session's".into());
                };
                let command = words.parse::<Command>().map_err(|why| why.to_string())?;
                pool.perform(command).await.map_err(|why| why.to_string())?;
                // A dead pool sends nothing that the proxy would have to notice.
                self.unheard = words != "die";
                Ok(())
            }
            Step::PoolSays(lines) => {
                let lines: Vec<String> = lines.iter().map(|line| self.named(line)).collect();
                let bytes = format!("{}\n", lines.join("\n"));
                for line in &lines {
                    self.note("pool>", line);
                }
                self.scripted()
                    .await?
                    .write_all(bytes.as_bytes())
                    .await
                    .map_err(|why| why.to_string())
            }
            Step::PoolHears(pattern) => self.pool_hears(pattern).await,
            Step::Unsaid(pattern) => {
                let Pool::Test(pool) = &self.pool else {
                    return Err("the pool is the session's".into());
                };
                let said = heard(pool).into_iter().find(|line| matches(pattern, line));
                said.map_or(Ok(()), |line| Err(format!("the pool did get: {line}")))
            }
            Step::PoolClosed => match next(self.scripted().await?).await? {
                None => Ok(()),
                Some(line) => Err(format!("not closed, but: {line}")),
            },
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let (true, Pool::Test(pool)) = (std::mem::take(&mut self.unheard), &self.pool) {
            self.pings += 1;
            has_come(pool, self.pings).await;
        }
        let line = self.line.as_mut().ok_or("the miner is not connected")?;
        line.write_all(bytes).await.map_err(|why| why.to_string())
    }

    async fn hear(&mut self) -> Result<Option<String>, String> {
        let line = next(self.line.as_mut().ok_or("the miner is not connected")?).await?;
        self.unheard = false;
        if let Some(line) = &line {
            self.note("<", line);
            self.miner.hear(line);
        }
        Ok(line)
    }

    /// Checks that nothing more comes: a ping is sent, and every line before its answer is an
    /// error.
    async fn nothing(&mut self) -> Result<(), String> {
        self.send(b"{\"id\":\"nothing\",\"method\":\"mining.ping\",\"params\":[]}\n").await?;
        let line = self.hear().await?.ok_or("the connection was closed")?;
        if line == "{\"id\":\"nothing\",\"result\":\"pong\",\"error\":null}" {
            return Ok(());
        }
        Err(format!("nothing should have come, but: {line}"))
    }

    async fn pool_hears(&mut self, pattern: &str) -> Result<(), String> {
        let pattern = self.named(&self.miner.fill(pattern));
        if let Pool::Test(pool) = &self.pool {
            let came = pool
                .until(PATIENCE, |_| heard(pool).iter().any(|line| matches(&pattern, line)))
                .await;
            let but = || {
                format!(
                    "the pool never heard: {pattern}\n      but: {}",
                    heard(pool).join("\n           ")
                )
            };
            return came.map(|_| ()).map_err(|_| but());
        }
        let line = next(self.scripted().await?).await?.ok_or("the pool's connection was closed")?;
        self.note("pool<", &line);
        // An id of one of our requests gets its name when it first appears.
        let name = pattern
            .split("\"id\":")
            .nth(1)
            .and_then(|rest| rest.get(..4))
            .filter(|name| name.starts_with("$r"));
        let wanted = name.map_or_else(|| pattern.clone(), |name| pattern.replacen(name, "*", 1));
        if !matches(&wanted, &line) {
            return Err(format!("pool wanted: {pattern}\n           got: {line}"));
        }
        if let Some(name) = name {
            let message: serde_json::Value =
                serde_json::from_str(&line).map_err(|why| why.to_string())?;
            self.requests.push((name.to_owned(), message["id"].to_string()));
        }
        Ok(())
    }

    /// Replaces the names of our requests by their ids.
    fn named(&self, line: &str) -> String {
        self.requests.iter().fold(line.to_owned(), |line, (name, id)| line.replace(name, id))
    }

    /// The proxy's connection to the session's pool.
    async fn scripted(&mut self) -> Result<&mut BufReader<TcpStream>, String> {
        let Pool::Scripted { listener, line } = &mut self.pool else {
            return Err("this session uses the test pool, so it cannot script one".into());
        };
        if line.is_none() {
            let (stream, _) = listener.accept().await.map_err(|why| why.to_string())?;
            *line = Some(BufReader::new(stream));
        }
        line.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    fn note(&mut self, mark: &str, line: &str) {
        let _ = writeln!(self.said, "  {mark} {line}");
    }
}

impl Pool {
    fn addr(&self) -> Result<SocketAddr, String> {
        match self {
            Self::Test(pool) => Ok(pool.addr()),
            Self::Scripted { listener, .. } => listener.local_addr().map_err(|why| why.to_string()),
        }
    }
}

/// All lines that a pool received, on all its connections.
fn heard(pool: &TestPool) -> Vec<String> {
    let ids = pool.connections().into_iter().map(|(id, _)| id);
    ids.flat_map(|id| pool.wire(id))
        .filter(|(way, _)| *way == Direction::In)
        .map(|(_, line)| line)
        .collect()
}

/// Waits until the proxy has handled everything that the pool sent: until it answers a ping sent
/// after that. The ping is repeated for new connections, but rarely, because the proxy answers
/// requests of a pool only once a second.
async fn has_come(pool: &TestPool, number: u32) {
    let id = format!("\"said-{number}\"");
    let answered = || heard(pool).iter().any(|line| line.contains(&id));
    loop {
        pool.send_raw(None, &format!("{{\"id\":{id},\"method\":\"mining.ping\",\"params\":[]}}"));
        if pool.until(Duration::from_secs(2), |_| answered()).await.is_ok() {
            return;
        }
    }
}

/// Reads a line; returns `None` if the other side has closed.
async fn next(line: &mut BufReader<TcpStream>) -> Result<Option<String>, String> {
    let mut text = String::new();
    match line.read_line(&mut text).await {
        Ok(0) => Ok(None),
        Ok(_) if text.ends_with('\n') => Ok(Some(text.trim_end_matches('\n').to_owned())),
        Ok(_) => Err(format!("half a line: {text}")),
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// Applies a setting of the pool.
fn set_pool(key: &str, value: &str, pool: &mut PoolConfig) -> Option<()> {
    match key {
        "scripted" | "second" | "like" => {}
        "server.passthrough" | "server.vardiff" | "server.difficulty" | "server.min_difficulty" => {
        }
        "pool.difficulty" => pool.difficulty = value.parse().ok()?,
        "pool.extranonce2_size" => pool.extranonce2_size = value.parse().ok()?,
        "pool.mask" if value == "none" => pool.version_mask = None,
        "pool.mask" => pool.version_mask = Some(u32::from_str_radix(value, 16).ok()?),
        "pool.job_version" => pool.job_version = u32::from_str_radix(value, 16).ok()?,
        "pool.or" => pool.rolling = Rolling::Or,
        _ => return None,
    }
    Some(())
}

/// Applies a setting of the listener.
fn set_server(key: &str, value: &str, config: &mut Config) -> Option<()> {
    if key == "server.passthrough" {
        config.servers.first_mut()?.passthrough = Some(TargetId::nth(0));
        return Some(());
    }
    if key == "server.vardiff" {
        config.servers.first_mut()?.vardiff = value == "on";
        return Some(());
    }
    let difficulty = Difficulty::new(value.parse().ok()?)?;
    let server = config.servers.first_mut()?;
    match key {
        "server.difficulty" => server.difficulty = difficulty,
        "server.min_difficulty" => {
            server.min_difficulty = difficulty;
            server.difficulty = difficulty;
        }
        _ => return None,
    }
    Some(())
}
