//! `tieline demo`: the whole story in a minute, in one process and without configuration.
//!
//! Two test pools with different extranonces, a simulated fleet below one transformer, a simulated
//! AI tenant, and the real proxy, switchboard and agent between them. Nothing runs faster than the
//! clock on the wall; durations are only short. What is claimed at the end is read from the pools',
//! the miners' and the meters' own books.

mod cast;
mod script;
mod summary;

use std::time::Duration;

use anyhow::Context;
use daemon::logging::LogFormat;
use serde_json::json;

use crate::cli::Demo;
use crate::failure::Failure;
use crate::output::print;
use script::Script;

/// Tells the story.
///
/// # Errors
/// When a part cannot start, or a promise was broken: then it says which.
pub fn demo(options: &Demo) -> Result<(), Failure> {
    if options.length < SHORTEST {
        return Err(Failure::Usage(format!(
            "--for must be at least {}s: machines take their time",
            SHORTEST.as_secs()
        )));
    }
    // The story has its own lines; the log speaks when something is odd.
    let _logs =
        daemon::logging::init(LogFormat::Text, "error").context("failed to start logging")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let books = runtime.block_on(Script::play(options))?;
    if options.json {
        print(&json!(books).to_string())?;
    } else {
        print(&books.told())?;
    }
    let broken = books.broken();
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Failure::Runtime(anyhow::anyhow!("broken promises:\n  {}", broken.join("\n  "))))
    }
}

/// The shortest story that still has time for a lease's whole life.
const SHORTEST: Duration = Duration::from_secs(30);
