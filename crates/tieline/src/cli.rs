//! The command line. What each command does is in the module of its name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Carries miners' work to pools, and moves a facility's power between mining and AI leases.
#[derive(Debug, Parser)]
#[command(name = "tieline", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 ok, 1 failed while running, 2 wrong use, 78 wrong configuration.";

const BENCH_EXIT_CODES: &str = "Exit codes: 0 measured, 1 the peer could not be reached (with --strict also: it lost shares or \
    connections), 2 wrong use.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all roles in one process: proxy, and with a [switchboard] section also switchboard and
    /// agent.
    Run {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Tell the whole story in a minute, with two test pools and a simulated fleet: a lease is
    /// committed, machines sleep, a pool dies, the fleet comes back. Needs no configuration.
    Demo(Demo),
    /// Play thousands of miners and a pool against any Stratum V1 address, and report what lies
    /// between them.
    ///
    /// The peer under test (this proxy or any other) is started by you, with its upstream pointed
    /// at --pool-listen. Shares are real and sent by the clock, whether or not answers come. With
    /// no --connect the tool measures itself.
    #[command(after_help = BENCH_EXIT_CODES)]
    Bench(Box<Bench>),
    /// Write a configuration and a policy that work at once, with comments on what to change next.
    /// Existing files are never overwritten.
    Init(Init),
    /// Read the configuration and the policy it names, or a policy alone, report every mistake and
    /// warning, and exit: 0 without mistakes, 78 with some.
    Check {
        /// A configuration, or a policy to check by itself, instead of --config.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Commit, look at and cancel leases.
    Lease {
        /// Which process.
        #[command(flatten)]
        server: Server,
        /// What to do.
        #[command(subcommand)]
        command: LeaseCommand,
    },
    /// Show the plan: which machines go when, and why.
    Plan {
        /// Which process.
        #[command(flatten)]
        server: Server,
    },
    /// Show feeds, leases, targets and counts.
    Status {
        /// Which process.
        #[command(flatten)]
        server: Server,
    },
    /// List workers: connections, hashrate, shares and rejects.
    Workers {
        /// Which process.
        #[command(flatten)]
        server: Server,
        /// How many, in which order.
        #[command(flatten)]
        listing: Listing,
        /// Which.
        #[command(flatten)]
        filters: WorkerFilters,
    },
    /// List sessions: miners' connections.
    Sessions {
        /// Which process.
        #[command(flatten)]
        server: Server,
        /// How many, in which order.
        #[command(flatten)]
        listing: Listing,
        /// Which.
        #[command(flatten)]
        filters: SessionFilters,
    },
    /// Look at the ledger's file.
    Ledger {
        /// What to do.
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Exit 0 when the process at the address is ready (for containers without curl).
    Healthcheck {
        /// Which process.
        #[command(flatten)]
        server: Server,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "config/tieline.toml",
        env = "TIELINE_CONFIG"
    )]
    pub config: PathBuf,
}

/// What a new site begins with.
#[derive(Debug, Args)]
pub struct Init {
    /// The pool to mine at: stratum+tcp://HOST:PORT or HOST:PORT, or stratum+ssl://HOST:PORT by TLS.
    #[arg(long, value_name = "URL")]
    pub pool: String,
    /// Who you are at the pool: the account, often with a name for the site (`account.site`).
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// The site's name, for people.
    #[arg(long, value_name = "NAME", default_value = "site")]
    pub site: String,
    /// The folder for tieline.toml and policy.toml; it is made if it is missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where miners connect.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = crate::init::LISTEN)]
    pub listen: SocketAddr,
}

/// How a long list is shown.
#[derive(Debug, Args)]
pub struct Listing {
    /// What to sort by, such as `hashrate`, `shares`, `rejects` or `last_share_at`; after a `-` the
    /// highest first.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Most entries.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,
}

/// Which workers.
#[derive(Debug, Args)]
pub struct WorkerFilters {
    /// Those whose name begins so.
    #[arg(long, value_name = "PREFIX")]
    pub worker_name: Option<String>,
    /// Those served so: `working`, `parked` or `gone`.
    #[arg(long)]
    pub serving: Option<String>,
}

/// Which sessions.
#[derive(Debug, Args)]
pub struct SessionFilters {
    /// Those whose worker's name begins so.
    #[arg(long, value_name = "PREFIX")]
    pub worker_name: Option<String>,
    /// Those whose user agent begins so.
    #[arg(long, value_name = "PREFIX")]
    pub user_agent: Option<String>,
    /// Those in this state: `handshake`, `working`, `waiting` or `parked`.
    #[arg(long)]
    pub state: Option<String>,
    /// Those that work for this target.
    #[arg(long)]
    pub target: Option<String>,
    /// Those that came to this `[[server]]`.
    #[arg(long, value_name = "SERVER")]
    pub listener: Option<String>,
}

/// Which running process to talk to.
#[derive(Debug, Args)]
pub struct Server {
    /// Where the process's HTTP is.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "TIELINE_URL",
        global = true
    )]
    pub url: String,
    /// The file with the bearer token, needed for changes.
    #[arg(long, value_name = "FILE", env = "TIELINE_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done with leases.
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Commit power to a lease. Refused, with the arithmetic, when a feed cannot carry it.
    Add(LeaseAdd),
    /// List leases.
    List,
    /// Show one lease.
    Show {
        /// Its name.
        id: String,
    },
    /// Cancel a lease: its machines come back.
    Cancel {
        /// Its name.
        id: String,
        /// Cancel it even while it is active.
        #[arg(long)]
        force: bool,
    },
}

/// A lease to commit.
#[derive(Debug, Args)]
pub struct LeaseAdd {
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    /// The feed that carries it.
    #[arg(long)]
    pub feed: String,
    /// Critical IT load, in kW.
    #[arg(long, value_name = "KW", allow_negative_numbers = true)]
    pub it_kw: f64,
    /// Power usage effectiveness: gross kW per IT kW.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub pue: f64,
    /// When it starts: RFC 3339, or from now: `+10m`.
    #[arg(long, value_name = "TIME")]
    pub start: String,
    /// When it ends: RFC 3339, or from now: `+2h`.
    #[arg(long, value_name = "TIME")]
    pub end: String,
    /// Headroom must be proven so long before the start.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub ready_before: String,
    /// The tenant's own meter, as the policy names it.
    #[arg(long)]
    pub meter: Option<String>,
    /// Accept that part of the power can only be freed by starving machines, which proves nothing.
    #[arg(long)]
    pub accept_unverified: bool,
    /// The lease's name; one is made up otherwise.
    #[arg(long)]
    pub id: Option<String>,
    /// Show what would be decided and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// What can be done with a ledger's file.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check the hash chain: finds edits, removals, insertions and reorderings; with --head also a
    /// cut-off end.
    Verify {
        /// The ledger's file.
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// A head seen earlier, as `SEQ:HASH`: the ledger must still contain it.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How the demo is told.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// How many miners there are.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(8..=5000))]
    pub miners: u32,
    /// How long it takes.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub length: Duration,
    /// Print one JSON object at the end, on one line, and no story.
    #[arg(long)]
    pub json: bool,
    /// Leave both pools alive.
    #[arg(long)]
    pub no_pool_kill: bool,
}

/// What is played, and against whom.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// The peer under test. Left out: the tool's own pool, which measures the tool.
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Option<String>,
    /// Measure the tool itself: what is left out of --connect, said aloud.
    #[arg(long, conflicts_with_all = ["connect", "with_floor", "kill_pool_at"])]
    pub direct: bool,
    /// Measure the tool itself first, and show it beside the peer.
    #[arg(long)]
    pub with_floor: bool,
    /// Where the tool's pool listens: the peer's upstream.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:3456")]
    pub pool_listen: SocketAddr,
    /// Where a second pool of the tool listens: the peer's backup.
    #[arg(long, value_name = "ADDR:PORT")]
    pub second_pool_listen: Option<SocketAddr>,
    /// Close the first pool so long after the first share, to see how the miners get to the second.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "second_pool_listen")]
    pub kill_pool_at: Option<Duration>,
    /// Close the pool that is mined at this often, the first and the second in turn; each is back
    /// half of it later.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "second_pool_listen", conflicts_with_all = ["direct", "kill_pool_at"])]
    pub pool_dies_every: Option<Duration>,
    /// The difficulty the pools set, such as 2^-26 or 0.001.
    #[arg(long, value_name = "DIFFICULTY", default_value = "2^-28", value_parser = parse_difficulty)]
    pub pool_difficulty: f64,
    /// Time between two jobs; all are clean.
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = parse_duration)]
    pub job_every: Duration,
    /// Merkle branches of a job; 12 make a notify of 1.6 kB.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub branches: u8,
    /// Bytes of extranonce2 the pools grant.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub extranonce2_size: u8,
    /// Let the pools judge every share by its hash; otherwise only its job's age decides.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub pool_validate: bool,
    /// How many miners. Each takes two of this process's open files.
    #[arg(long, default_value_t = 9900, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub miners: u32,
    /// So many of them connect at a time.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_window: u32,
    /// Shares a second, of all miners together.
    #[arg(long, value_name = "SHARES", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// How long shares are sent, and at least until each miner has sent one.
    #[arg(long = "for", value_name = "DURATION", default_value = "15s", value_parser = parse_duration)]
    pub length: Duration,
    /// How long only jobs are sent, before.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub idle: Duration,
    /// Do not ask for version rolling.
    #[arg(long)]
    pub no_version_rolling: bool,
    /// A worker's name is this and its number.
    #[arg(long, value_name = "PREFIX", default_value = "bench.rig-")]
    pub worker: String,
    /// The password of all workers.
    #[arg(long, default_value = "x")]
    pub password: String,
    /// A process of the peer, to read its CPU time and memory; may be given more than once.
    /// Without, these are left out.
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Measure memory also at so many miners, and report what each further one takes.
    #[arg(long, value_name = "MINERS", requires = "pid")]
    pub slope_from: Option<u32>,
    /// How long the peer may take to hand on a first job.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Fail when a share was not answered or a connection was lost.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object, on one line, and no table.
    #[arg(long)]
    pub json: bool,
}

/// Reads a difficulty: `1024`, `0.001`, `2^-26`.
fn parse_difficulty(text: &str) -> Result<f64, String> {
    let value = match text.strip_prefix("2^") {
        Some(power) => {
            2_f64.powi(power.parse().map_err(|_| format!("{power} is no whole number"))?)
        }
        None => text.parse().map_err(|_| format!("{text} is no number"))?,
    };
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(format!("{text} is no difficulty"))
    }
}

/// Reads `90s`, `5m`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|why: jiff::Error| why.to_string())?;
    Duration::try_from(duration).map_err(|_| format!("{text} is negative"))
}
