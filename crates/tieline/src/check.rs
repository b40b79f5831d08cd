//! `tieline check`: every mistake in the configuration and the policy it names, without starting anything.

use std::path::Path;

use crate::failure::Failure;
use crate::settings::Settings;

/// Reads both files.
///
/// # Errors
/// [`Failure::Configuration`] with every mistake.
pub fn check(path: &Path) -> Result<(), Failure> {
    let settings = Settings::load(path)?;
    println!("{}: all right", path.display());
    if let Some(control) = &settings.switchboard {
        let policy = switchboard::policy::load(&control.policy)?;
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
