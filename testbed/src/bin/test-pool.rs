//! The test pool as a program: settings are options, control lines come on standard input or over
//! HTTP, and the counts are written to a file. See `testbed::pool`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use daemon::stdio::complain;
use testbed::clock::parse_span;
use testbed::pool::{
    Authorize, Command, DifficultyOrder, ErrorForm, Extranonce1, FirstJob, Like, PoolConfig,
    Rolling, SubscribeReply, TestPool,
};
use testbed::program::{bounded_line, ended, print, write_json};
use testbed::tls::Identity;
use tokio::sync::mpsc;

/// A Stratum V1 pool that judges every share with its own arithmetic, and misbehaves on request.
///
/// Control lines (standard input, or POST /control): die, live, drop, normal, quiet, silent,
/// truthful, reject-all, accept-all, wrong-ids, delay 500ms, difficulty 0.001, extranonce
/// 08000002|- 4, mask 1fffe000|none, job (clean), repeat-job-ids on|off, reuse-extranonce1 on|off,
/// reconnect [host port wait], message text, raw text.
#[derive(Debug, Parser)]
#[command(name = "test-pool")]
struct Options {
    /// Where to listen for miners.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Imitate a known pool, in everything but difficulty, jobs and the workers that may mine.
    #[arg(long, value_name = "POOL")]
    like: Option<Like>,
    /// Speak TLS with this certificate (PEM, the chain if there is one) and --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate made now for localhost and 127.0.0.1, write it to this file,
    /// and tell its pin.
    #[arg(long, value_name = "FILE", conflicts_with = "tls_cert")]
    tls_self_signed: Option<PathBuf>,
    /// Bytes of extranonce1; each connection gets a value of its own.
    #[arg(long, default_value_t = 4, conflicts_with = "like")]
    extranonce1_size: usize,
    /// One extranonce1 for all connections, hex (as Braiins serves 00).
    #[arg(long, value_name = "HEX", conflicts_with = "like")]
    extranonce1: Option<String>,
    /// Size of extranonce2, 2 to 8 bytes.
    #[arg(long, default_value_t = 8, conflicts_with = "like")]
    extranonce2_size: usize,
    /// Share difficulty at the start, 2^-28 to 2^48: 1 unless `--like` says otherwise.
    #[arg(long)]
    difficulty: Option<f64>,
    /// Version bits that may be rolled, hex, or `none`.
    #[arg(long, default_value = "1fffe000", value_parser = parse_mask, conflicts_with = "like")]
    version_mask: Mask,
    /// Rebuild the header's version by OR, as ckpool does, not by BIP310's rule.
    #[arg(long, conflicts_with = "like")]
    or_version: bool,
    /// Accept version bits from connections that sent no configure.
    #[arg(long, conflicts_with = "like")]
    unasked_rolling: bool,
    /// Accept nonces without leading zeros.
    #[arg(long, conflicts_with = "like")]
    short_nonces: bool,
    /// Block version of the jobs, hex.
    #[arg(long, default_value = "20000000", value_parser = parse_hex)]
    job_version: u32,
    /// Time between jobs; with 0s, jobs are made only by command.
    #[arg(long, default_value = "30s", value_parser = parse_span)]
    job_interval: Duration,
    /// Every n-th job is clean; with 0, only the first one.
    #[arg(long, default_value_t = 10)]
    clean_every: u32,
    /// Merkle branches in a job.
    #[arg(long, default_value_t = 12)]
    branches: usize,
    /// Network target, compact form, hex; 207fffff makes nearly every share a block.
    #[arg(long, default_value = "1d00ffff", value_parser = parse_hex)]
    nbits: u32,
    /// Only this worker may mine; may be given more than once.
    #[arg(long, value_name = "NAME")]
    worker: Vec<String>,
    /// Send the first job right after subscribe, before authorize.
    #[arg(long, conflicts_with = "like")]
    early_job: bool,
    /// Form of the subscribe reply.
    #[arg(long, default_value = "one-pair", conflicts_with = "like")]
    subscribe_reply: Reply,
    /// Form of refusals.
    #[arg(long, default_value = "array", conflicts_with = "like")]
    errors: Errors,
    /// Leave the `error` key out of positive answers.
    #[arg(long, conflicts_with = "like")]
    omit_error_key: bool,
    /// Send set_difficulty after the notify.
    #[arg(long, conflicts_with = "like")]
    difficulty_after_job: bool,
    /// Send set_version_mask before the subscribe reply.
    #[arg(long, conflicts_with = "like")]
    early_version_mask: bool,
    /// Refuse configure after subscribe.
    #[arg(long, conflicts_with = "like")]
    configure_first: bool,
    /// Ignore suggest_difficulty and `d=` in passwords.
    #[arg(long, conflicts_with = "like")]
    fixed_difficulty: bool,
    /// Make a clean job when a block is found.
    #[arg(long)]
    clean_on_block: bool,
    /// Seed of the jobs' contents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the counts here each second, as JSON.
    #[arg(long, value_name = "PATH")]
    counts_file: Option<PathBuf>,
    /// Serve GET /counts and POST /control at this address.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// End after this time.
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span)]
    span: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Mask(Option<u32>);

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Reply {
    OnePair,
    TwoPairs,
    TwoPairsNotifyFirst,
    Flat,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Errors {
    Array,
    RejectReason,
    Text,
    Object,
    TwoElements,
    StringCode,
    Negative,
    Bare,
}

fn parse_hex(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16).map_err(|error| format!("`{text}`: {error}"))
}

fn parse_mask(text: &str) -> Result<Mask, String> {
    if text == "none" { Ok(Mask(None)) } else { parse_hex(text).map(Some).map(Mask) }
}

impl Options {
    fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let identity = match (&self.tls_cert, &self.tls_key, &self.tls_self_signed) {
            (Some(chain), Some(key), _) => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).with_context(|| path.display().to_string())
                };
                Identity::from_pem(&read(chain)?, &read(key)?)?
            }
            (_, _, Some(file)) => {
                let (identity, pem) = Identity::self_signed(&["localhost", "127.0.0.1"])?;
                std::fs::write(file, pem).with_context(|| file.display().to_string())?;
                identity
            }
            _ => return Ok(None),
        };
        complain(&format!("test-pool: tls_pin = [{:?}]", identity.pin()?));
        Ok(Some(identity))
    }

    fn config(&self) -> anyhow::Result<PoolConfig> {
        let shape = match self.like {
            Some(like) => like.config(),
            None => self.shape()?,
        };
        Ok(PoolConfig {
            listen: self.listen,
            tls: self.identity()?,
            difficulty: self.difficulty.unwrap_or(shape.difficulty),
            job_version: self.job_version,
            job_interval: self.job_interval,
            clean_every: self.clean_every,
            branches: self.branches,
            nbits: self.nbits,
            authorize: if self.worker.is_empty() {
                Authorize::All
            } else {
                Authorize::Only(self.worker.clone())
            },
            clean_on_block: self.clean_on_block,
            seed: self.seed,
            wire_lines: 0,
            ..shape
        })
    }

    /// The settings of the pool named by `--like` or, without it, those of the single options.
    fn shape(&self) -> anyhow::Result<PoolConfig> {
        let extranonce1 = match &self.extranonce1 {
            None => Extranonce1::PerConnection(self.extranonce1_size),
            Some(hex) => Extranonce1::Fixed(
                testbed::arithmetic::parse_bytes(hex)
                    .with_context(|| format!("--extranonce1 {hex}: not hex"))?,
            ),
        };
        Ok(PoolConfig {
            extranonce1,
            extranonce2_size: self.extranonce2_size,
            version_mask: self.version_mask.0,
            rolling: if self.or_version { Rolling::Or } else { Rolling::MaskReplace },
            unasked_rolling: self.unasked_rolling,
            short_nonces: self.short_nonces,
            first_job: if self.early_job {
                FirstJob::AfterSubscribe
            } else {
                FirstJob::AfterAuthorize
            },
            subscribe_reply: match self.subscribe_reply {
                Reply::OnePair => SubscribeReply::OnePair,
                Reply::TwoPairs => SubscribeReply::TwoPairs,
                Reply::TwoPairsNotifyFirst => SubscribeReply::TwoPairsNotifyFirst,
                Reply::Flat => SubscribeReply::Flat,
            },
            error_form: match self.errors {
                Errors::Array => ErrorForm::Array,
                Errors::RejectReason => ErrorForm::RejectReason,
                Errors::Text => ErrorForm::Text,
                Errors::Object => ErrorForm::Object,
                Errors::TwoElements => ErrorForm::TwoElements,
                Errors::StringCode => ErrorForm::StringCode,
                Errors::Negative => ErrorForm::Negative,
                Errors::Bare => ErrorForm::Bare,
            },
            omit_error_key: self.omit_error_key,
            difficulty_order: if self.difficulty_after_job {
                DifficultyOrder::After
            } else {
                DifficultyOrder::Before
            },
            early_version_mask: self.early_version_mask,
            configure_first: self.configure_first,
            honour_suggestions: !self.fixed_difficulty,
            ..PoolConfig::default()
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("test-pool: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let pool = Arc::new(TestPool::start(options.config()?).await?);
    complain(&format!("test-pool: listening on {}", pool.addr()));
    if let Some(addr) = options.http {
        complain(&format!("test-pool: http on {}", pool.serve_http(addr).await?));
    }
    let control = tokio::spawn(control(Arc::clone(&pool)));
    let result = tokio::select! {
        ended = ended(options.span) => ended,
        written = write_each_second(&pool, options.counts_file.as_deref()) => written,
    };
    control.abort();
    let counts = pool.counts();
    pool.stop().await;
    if let Some(path) = &options.counts_file {
        write_json(path, &counts).await?;
    }
    print(&serde_json::to_string(&counts)?)?;
    result
}

/// The maximum length of a line on standard input, in bytes. A longer one is not a command, and
/// ends the reading.
const COMMAND_MAX_BYTES: u64 = 4096;

/// Carries out the lines of standard input until it ends.
async fn control(pool: Arc<TestPool>) {
    // Standard input is read in a thread of its own: a runtime would wait for the read at its end.
    let (sender, mut lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            match bounded_line(&mut input, COMMAND_MAX_BYTES) {
                Ok(Some(line)) => {
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(why) => return complain(&format!("test-pool: commands are not read: {why}")),
            }
        }
    });
    while let Some(line) = lines.recv().await {
        if line.trim().is_empty() {
            continue;
        }
        let done = match line.parse::<Command>() {
            Ok(command) => pool.perform(command).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match done {
            Ok(()) => complain(&format!("test-pool: done: {}", line.trim().escape_debug())),
            Err(why) => complain(&format!("test-pool: refused: {why}")),
        }
    }
}

async fn write_each_second(pool: &TestPool, path: Option<&std::path::Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return std::future::pending().await };
    loop {
        write_json(path, &pool.counts()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
