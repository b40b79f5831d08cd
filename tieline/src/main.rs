//! Parses the command line, runs the command, prints why it failed, and sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use daemon::stdio::complain;
use tieline::cli::{Cli, Command, LedgerCommand};
use tieline::failure::Failure;
use tieline::files::Roles;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Unread) {
                complain(&failure.to_string());
            }
            failure.code()
        }
    }
}

fn perform(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { config } => tieline::run::run(&config.config, Roles::All),
        Command::Proxy { config } => tieline::run::run(&config.config, Roles::Proxy),
        Command::Switchboard { config } => Err(tieline::apart::switchboard(&config.config)),
        Command::Agent { config } => Err(tieline::apart::agent(&config.config)),
        Command::Demo(demo) => tieline::demo::demo(&demo),
        Command::Bench(bench) => tieline::bench::bench(&bench),
        Command::Init(options) => tieline::init::init(&options),
        Command::Check { file, config, json } => {
            tieline::check::check(&file.unwrap_or(config.config), json)
        }
        Command::Lease { server, command } => tieline::lease::lease(&server, command),
        Command::Machine { server, command } => tieline::machine::machine(&server, command),
        Command::Plan { server, machines } => tieline::plan::plan(&server, machines),
        Command::Status { server } => tieline::status::status(&server),
        Command::Workers { server, listing, filters } => {
            tieline::list::workers(&server, &listing, &filters)
        }
        Command::Sessions { server, listing, filters } => {
            tieline::list::sessions(&server, &listing, &filters)
        }
        Command::Ledger { command: LedgerCommand::Verify { path, head, json } } => {
            tieline::ledger::verify_file(&path, head.as_deref(), json)
        }
        Command::Healthcheck { server } => tieline::healthcheck::healthcheck(&server),
    }
}
