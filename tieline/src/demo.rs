//! `tieline demo`: shows a whole lease in a minute, in one process and without configuration.
//!
//! Two test pools with different extranonces, a simulated fleet below one transformer, a simulated
//! AI tenant, and the real proxy, switchboard and agent between them. It runs in real time, only
//! with short durations. The results at the end are read from the counts of pools, miners and
//! meters.

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

/// Runs the demo.
///
/// # Errors
/// When a part cannot start, or when a promise was broken, with its name.
pub fn demo(options: &Demo) -> Result<(), Failure> {
    if options.length < SHORTEST {
        return Err(Failure::Usage(format!(
            "--for must be at least {}s: machines take their time",
            SHORTEST.as_secs()
        )));
    }
    // The demo prints its own lines; only errors are logged.
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

/// The shortest demo that has time for a whole lease.
const SHORTEST: Duration = Duration::from_secs(40);
