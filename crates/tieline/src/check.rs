//! `tieline check`: every mistake in the configuration and the policy it names, without starting
//! anything.

use std::path::Path;

use daemon::settings::{Mistake, Mistakes};
use serde_json::{Value, json};
use switchboard::facility::Policy;

use crate::failure::Failure;
use crate::settings::Settings;

/// Reads both files.
///
/// # Errors
/// [`Failure::Configuration`] with every mistake.
pub fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let checked = read(path);
    if as_json {
        let mistakes: Vec<Value> =
            checked.as_ref().err().into_iter().flat_map(Mistakes::list).map(describe).collect();
        println!("{}", json!({ "ok": mistakes.is_empty(), "mistakes": mistakes }));
    }
    let (settings, policy) = checked?;
    if as_json {
        return Ok(());
    }
    println!("{}: all right", path.display());
    if let (Some(control), Some(policy)) = (&settings.switchboard, policy) {
        let machines: u32 = policy.groups.iter().map(|group| group.machines).sum();
        println!(
            "{}: all right: {} feeds, {} groups, {machines} machines",
            control.policy.display(),
            policy.feeds.len(),
            policy.groups.len()
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<(Settings, Option<Policy>), Mistakes> {
    let settings = Settings::load(path)?;
    let policy = settings
        .switchboard
        .as_ref()
        .map(|control| switchboard::policy::load(&control.policy))
        .transpose()?;
    Ok((settings, policy))
}

fn describe(mistake: &Mistake) -> Value {
    let position = mistake.position();
    json!({
        "key": mistake.key,
        "message": mistake.message,
        "suggestion": mistake.suggestion,
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
        "text": mistake.to_string(),
    })
}
