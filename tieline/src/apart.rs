//! `tieline switchboard` and `tieline agent`: roles that cannot run in a process of their own yet. They
//! need a link over the network, and there is only the one inside a process.

use std::path::Path;

use crate::failure::Failure;

/// Why a configuration that asks for a switchboard alone is not started.
#[must_use]
pub fn switchboard(config: &Path) -> Failure {
    refusal(
        "a switchboard",
        "its proxies and agents",
        "runs it together with the agent, and with the proxy if there is one",
        config,
    )
}

/// Why a configuration that asks for an agent alone is not started.
#[must_use]
pub fn agent(config: &Path) -> Failure {
    refusal(
        "an agent",
        "its switchboard",
        "runs it together with a [switchboard], and with the proxy if there is one",
        config,
    )
}

fn refusal(role: &str, others: &str, instead: &str, config: &Path) -> Failure {
    Failure::Configuration(format!(
        "{role} cannot run in a process of its own yet: there is no link over a network to {others}\n\
         `tieline run -c {0}` {instead}, in one process\n\
         `tieline check -c {0}` checks the configuration without starting anything",
        config.display()
    ))
}
