//! The command line. What each command does is in the module of its name.

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

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed while running, 2 wrong use, 78 wrong configuration.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all roles in one process: proxy, and with a [switchboard] section also switchboard and agent.
    Run {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Tell the whole story in a minute, with two test pools and a simulated fleet: a lease is committed, machines sleep,
    /// a pool dies, the fleet comes back. Needs no configuration.
    Demo(Demo),
    /// Read the configuration and the policy it names, report every mistake, and exit.
    Check {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFile,
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
    #[arg(short, long, value_name = "FILE", default_value = "config/tieline.toml", env = "TIELINE_CONFIG")]
    pub config: PathBuf,
}

/// Which running process to talk to.
#[derive(Debug, Args)]
pub struct Server {
    /// Where the process's HTTP is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "TIELINE_URL", global = true)]
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
    /// Check the hash chain: finds edits, removals, insertions and reorderings; with --head also a cut-off end.
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

/// Reads `90s`, `5m`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|why: jiff::Error| why.to_string())?;
    Duration::try_from(duration).map_err(|_| format!("{text} is negative"))
}
