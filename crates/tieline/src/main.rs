//! Parses the command line, hands over, prints the chain of an error, and picks the exit code.

use std::process::ExitCode;

use clap::Parser;
use tieline::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run { config } => tieline::run::run(&config.config),
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure:#}");
            ExitCode::from(1)
        }
    }
}
