//! How the proxy introduces itself to a target.

use stratum::client_role::ClientConfig;
use stratum::version::VersionMask;

use crate::config::Target;

/// The user agent, worker and password for a target, and what is asked of its pool.
pub(super) fn client_config(target: &Target) -> ClientConfig {
    ClientConfig {
        user_agent: target.user_agent.clone(),
        worker: target.user.clone(),
        password: target.password.reveal().to_owned(),
        mask: Some(VersionMask::BIP320),
        suggest: target.suggest_difficulty,
    }
}
