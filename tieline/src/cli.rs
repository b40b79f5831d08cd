//! The command line. The module with a command's name has what it does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Carries miners' work to pools, and moves a facility's power between mining and AI leases.
#[derive(Debug, Parser)]
#[command(name = "tieline", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or refused, 2 wrong command line, 78 wrong \
    configuration or policy.";

const BENCH_EXIT_CODES: &str = "Exit codes: 0 measured, 1 the proxy could not be reached or, with \
    --strict, lost shares or connections, 2 wrong command line.";

const CONNECTION: &str = "Connection";

const LEASE_ADD: &str = "tieline lease add --tenant <TENANT> --feed <FEED> --it-kw <KW>\n  \
    --start <TIME> --end <TIME> [OPTIONS]";

const TIMES: &str = "Times: from now on (+90m, +1h30m, +2d; a day is 24 hours), at the site \
    (\"2026-12-01 06:00\", in the time zone that the policy names), or RFC 3339 \
    (2026-12-01T12:00:00Z).\n\nExit codes: 0 committed, 1 refused or not reached, 2 wrong command \
    line.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run every role of the configuration in this process.
    ///
    /// The proxy, if there are listeners and targets, and with a [switchboard] section also
    /// switchboard and agent. Runs until SIGINT or SIGTERM.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Run the proxy of the configuration alone.
    ///
    /// The policy is not read, and no ledger and no device is opened: a [switchboard] section and
    /// drivers are not used, and all machines are served. Runs until SIGINT or SIGTERM.
    Proxy {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Run a switchboard in a process of its own: not possible yet.
    ///
    /// There is no link over a network to its proxies and agents yet. `tieline run` runs it in one
    /// process with them.
    Switchboard {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Run an agent in a process of its own: not possible yet.
    ///
    /// There is no link over a network to its switchboard yet. `tieline run` runs it in one process
    /// with it.
    Agent {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show a lease from beginning to end in a minute, with simulated pools, miners and meters.
    ///
    /// A lease is committed, machines go to sleep, a pool is killed, the lease ends, and all
    /// machines mine again. At the end the books of miners, pools and meters are compared with what
    /// was promised; a broken promise is exit code 1. Needs no configuration.
    Demo(Demo),
    /// Measure a Stratum V1 proxy with thousands of simulated miners and a simulated pool.
    ///
    /// Start the proxy to be measured (tieline or any other) with its upstream pointed at
    /// --pool-listen, and name its address with --connect. Shares are real, and are sent by the
    /// clock whether or not answers come. Without --connect the tool measures itself.
    #[command(after_help = BENCH_EXIT_CODES)]
    Bench(Box<Bench>),
    /// Write a configuration and a policy that work at once.
    ///
    /// Comments in them say what to change next. Existing files are never overwritten.
    Init(Init),
    /// Check a configuration and its policy, or a policy alone, and report every mistake.
    ///
    /// Warnings are reported, too. Nothing is started and nothing is changed.
    Check {
        /// A configuration, or a policy to check by itself, instead of --config.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Commit, list, show and cancel leases.
    Lease {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: LeaseCommand,
    },
    /// Take over sleeping machines, or have them come back.
    Machine {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: MachineCommand,
    },
    /// Show which machines go to sleep and wake, when and why.
    ///
    /// What is short comes first. Steps of one group for one reason are shown as one line. Times
    /// are in the site's time zone.
    Plan {
        #[command(flatten)]
        server: Server,
        /// List the machines of each line by name, with the full reason.
        #[arg(long)]
        machines: bool,
    },
    /// Show shortages, feeds, machines by group, leases, pools and shares.
    Status {
        #[command(flatten)]
        server: Server,
    },
    /// List workers with their connections, hashrate, shares and rejects.
    Workers {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        listing: Listing,
        #[command(flatten)]
        filters: WorkerFilters,
    },
    /// List sessions, which are miners' connections.
    Sessions {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        listing: Listing,
        #[command(flatten)]
        filters: SessionFilters,
    },
    /// Check a ledger file.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Exit with 0 when the process is ready for miners, else with 1.
    ///
    /// Meant for containers that have no curl.
    Healthcheck {
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "config/tieline.toml",
        env = "TIELINE_CONFIG",
        hide_env_values = true
    )]
    pub config: PathBuf,
}

/// The options of `tieline init`.
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
    #[arg(long, value_name = "ADDR:PORT", default_value_t = LISTEN)]
    pub listen: SocketAddr,
}

/// Where miners connect unless `--listen` says otherwise.
pub(crate) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 3333);

/// How a long list is shown.
#[derive(Debug, Args)]
pub struct Listing {
    /// Sort by this key, such as `hashrate`, `shares`, `rejects` or `last_share_at`. With a `-`
    /// before it, the highest come first.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Show at most this many.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,
    /// Show all columns and whole names, however wide that is.
    #[arg(long)]
    pub wide: bool,
}

#[derive(Debug, Args)]
pub struct WorkerFilters {
    /// Only workers whose name begins with this.
    #[arg(long, value_name = "PREFIX")]
    pub worker_name: Option<String>,
    /// Only workers that are served like this.
    #[arg(long)]
    pub serving: Option<Serving>,
}

/// How a worker's sessions are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Serving {
    /// It has work.
    Working,
    /// It is connected and gets no work.
    Parked,
    /// It has no session any more.
    Gone,
}

impl Serving {
    /// Its name in queries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Parked => "parked",
            Self::Gone => "gone",
        }
    }
}

#[derive(Debug, Args)]
pub struct SessionFilters {
    /// Only sessions whose worker name begins with this.
    #[arg(long, value_name = "PREFIX")]
    pub worker_name: Option<String>,
    /// Only sessions whose user agent begins with this.
    #[arg(long, value_name = "PREFIX")]
    pub user_agent: Option<String>,
    /// Only sessions in this state.
    #[arg(long)]
    pub state: Option<State>,
    /// Only sessions that work for this target, as the configuration names it.
    #[arg(long)]
    pub target: Option<String>,
    /// Only sessions of this listener: the name of a `[[server]]` in the configuration.
    #[arg(long, value_name = "SERVER")]
    pub listener: Option<String>,
}

/// The state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Not yet subscribed and authorized.
    Handshake,
    /// It has work.
    Working,
    /// It waits for a place at a pool.
    Waiting,
    /// It is connected and gets no work.
    Parked,
}

impl State {
    /// Its name in queries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
        }
    }
}

/// Which running process to talk to.
#[derive(Debug, Args)]
pub struct Server {
    /// Address of the running process: the `listen` of its `[admin]` section.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "TIELINE_URL",
        hide_env_values = true,
        help_heading = CONNECTION,
        global = true
    )]
    pub url: String,
    /// File with the token of the process, the `token_file` of its `[admin]` section. Changes need
    /// it; from other machines, everything does.
    #[arg(
        long,
        value_name = "FILE",
        env = "TIELINE_TOKEN_FILE",
        hide_env_values = true,
        help_heading = CONNECTION,
        global = true
    )]
    pub token_file: Option<PathBuf>,
    /// Print JSON, with times in UTC.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Commit power to a lease.
    ///
    /// Refused, with the arithmetic, when a feed cannot carry it. With --dry-run nothing changes.
    #[command(after_help = TIMES, override_usage = LEASE_ADD)]
    Add(LeaseAdd),
    /// List open leases, with what is wrong with them.
    List {
        /// Also list closed leases.
        #[arg(long)]
        all: bool,
    },
    /// Show one lease: its power, plan, machines and breaches.
    #[command(override_usage = "tieline lease show <ID> [OPTIONS]")]
    Show {
        /// Name of the lease.
        id: String,
    },
    /// Cancel a lease, so that its machines mine again.
    #[command(override_usage = "tieline lease cancel <ID> [OPTIONS]")]
    Cancel {
        /// Name of the lease.
        id: String,
        /// Cancel it even while it is active.
        #[arg(long)]
        force: bool,
        /// Show what would be decided, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Have a lease end later.
    ///
    /// Refused, with the arithmetic, when a feed cannot carry it for that time.
    #[command(after_help = TIMES, override_usage = "tieline lease extend <ID> <--until <TIME>|--by <DURATION>> [OPTIONS]")]
    Extend(Amendment),
    /// Have a lease end earlier.
    #[command(after_help = TIMES, override_usage = "tieline lease shorten <ID> <--until <TIME>|--by <DURATION>> [OPTIONS]")]
    Shorten(Amendment),
}

#[derive(Debug, Args)]
pub struct Amendment {
    /// Name of the lease.
    pub id: String,
    /// When it is to end.
    #[arg(long, value_name = "TIME", required_unless_present = "by", conflicts_with = "by")]
    pub until: Option<String>,
    /// By how much its end is moved, such as 2h.
    #[arg(long, value_name = "DURATION")]
    pub by: Option<String>,
    /// Show what would be decided, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Take over machines that sleep and that Tieline did not put to sleep.
    ///
    /// `tieline status` lists them as "asleep, not by us". They come back when there is room for
    /// them, as machines do that Tieline put to sleep.
    #[command(override_usage = "tieline machine adopt <NAME>... [OPTIONS]")]
    Adopt(Adoption),
    /// Have sleeping machines come back before others.
    ///
    /// Machines that Tieline did not put to sleep are taken over. A machine that a lease or its feed
    /// wants asleep stays asleep; the answer says what each machine waits for.
    #[command(override_usage = "tieline machine wake <NAME>... [OPTIONS]")]
    Wake(Adoption),
}

#[derive(Debug, Args)]
pub struct Adoption {
    /// Names of the machines, at most 1,000.
    #[arg(required = true, value_name = "NAME")]
    pub machines: Vec<String>,
    /// Who asks, for the ledger.
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true)]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct LeaseAdd {
    /// Who the power is for.
    #[arg(long)]
    pub tenant: String,
    /// Feed that carries the load, as the policy names it.
    #[arg(long)]
    pub feed: String,
    /// Critical IT load in kW.
    #[arg(long, value_name = "KW", allow_negative_numbers = true, value_parser = parse_kw)]
    pub it_kw: f64,
    /// Power usage effectiveness: the feed carries the IT load times this.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub pue: f64,
    /// When the lease starts.
    #[arg(long, value_name = "TIME")]
    pub start: String,
    /// When the lease ends.
    #[arg(long, value_name = "TIME")]
    pub end: String,
    /// How long before the start its power must be proven free, such as 5m.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub ready_before: String,
    /// Meter of the tenant's own load, as the policy names it.
    #[arg(long)]
    pub meter: Option<String>,
    /// Also count on machines that can only be starved of work, which proves nothing.
    #[arg(long)]
    pub accept_unverified: bool,
    /// Name of the lease. Without it one is made up.
    #[arg(long)]
    pub id: Option<String>,
    /// Show what would be decided, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check the hash chain of a ledger file.
    ///
    /// It finds entries that were edited, removed, inserted or reordered. A cut-off end is found
    /// with --head.
    Verify {
        /// The ledger file.
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// A head that was printed earlier: the ledger must still contain it.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// How many miners take part.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(8..=5000))]
    pub miners: u32,
    /// How long it takes.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub length: Duration,
    /// Print one JSON object at the end, on one line, and nothing else.
    #[arg(long)]
    pub json: bool,
    /// Do not kill a pool.
    #[arg(long)]
    pub no_pool_kill: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// The proxy to measure. Without it the tool measures itself.
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Option<String>,
    /// Measure the tool itself, as without --connect.
    #[arg(long, conflicts_with_all = ["connect", "with_floor", "kill_pool_at"])]
    pub direct: bool,
    /// Measure the tool itself first, and show both results side by side.
    #[arg(long)]
    pub with_floor: bool,
    /// Where the simulated pool listens: the upstream of the proxy.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:3456")]
    pub pool_listen: SocketAddr,
    /// Where a second simulated pool listens: the backup upstream of the proxy.
    #[arg(long, value_name = "ADDR:PORT")]
    pub second_pool_listen: Option<SocketAddr>,
    /// Close the first pool this long after the first share, to see how miners get to the second.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "second_pool_listen")]
    pub kill_pool_at: Option<Duration>,
    /// Close the two pools in turn, one each time this has passed. A closed pool is back after half
    /// that time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "second_pool_listen", conflicts_with_all = ["direct", "kill_pool_at"])]
    pub pool_dies_every: Option<Duration>,
    /// Difficulty that the pools set, such as 2^-26 or 0.001.
    #[arg(long, value_name = "DIFFICULTY", default_value = "2^-28", value_parser = parse_difficulty)]
    pub pool_difficulty: f64,
    /// Time between two jobs. All jobs are clean.
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = parse_duration)]
    pub job_every: Duration,
    /// Merkle branches of a job. With 12, a notify takes 1.6 kB.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub branches: u8,
    /// Bytes of extranonce2 that the pools grant.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub extranonce2_size: u8,
    /// Whether the pools check the hash of every share. If not, only the age of its job decides.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub pool_validate: bool,
    /// How many miners take part. Each needs two open files of this process.
    #[arg(long, default_value_t = 9900, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub miners: u32,
    /// How many of them connect at a time.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_window: u32,
    /// Shares per second, of all miners together.
    #[arg(long, value_name = "SHARES", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// How long shares are sent. It takes longer if a miner has not sent one by then.
    #[arg(long = "for", value_name = "DURATION", default_value = "15s", value_parser = parse_duration)]
    pub length: Duration,
    /// How long only jobs are sent, before the shares.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub idle: Duration,
    /// Do not ask for version rolling.
    #[arg(long)]
    pub no_version_rolling: bool,
    /// What worker names begin with; a number follows.
    #[arg(long, value_name = "PREFIX", default_value = "bench.rig-")]
    pub worker: String,
    /// Password of all workers.
    #[arg(long, default_value = "x")]
    pub password: String,
    /// Process id of the proxy, to measure its CPU time and memory. May be given more than once.
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Also measure memory at this many miners, and report what each further one takes.
    #[arg(long, value_name = "MINERS", requires = "pid")]
    pub slope_from: Option<u32>,
    /// How long the proxy may take to send a first job.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Exit with 1 when a share was not answered or a connection was lost.
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON object on one line instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Reads a difficulty: `1024`, `0.001`, `2^-26`.
fn parse_difficulty(text: &str) -> Result<f64, String> {
    let value = match text.strip_prefix("2^") {
        Some(power) => {
            2_f64.powi(power.parse().map_err(|_| format!("{power} is not a whole number"))?)
        }
        None => text.parse().map_err(|_| format!("{text} is not a number"))?,
    };
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(format!("{text} is not a difficulty: it must be above 0"))
    }
}

/// Reads `90s`, `5m`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::times::duration(text)
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "not a length of time: write 90s, 5m or 1h30m".to_owned())
}

/// Reads kilowatts. The process checks whether they are plausible.
fn parse_kw(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "must be a number of kW, such as 8000 for 8 MW".to_owned())
}

#[cfg(test)]
mod tests;
