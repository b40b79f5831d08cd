//! `tieline healthcheck`: whether a running process has work for miners.

use proxy::TargetView;
use serde::Deserialize;

use crate::cli::Server;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::print;

/// The fields read from `/readyz`. Remote callers get no details.
#[derive(Debug, Default, Deserialize)]
struct Readiness {
    #[serde(default)]
    detail: Detail,
}

#[derive(Debug, Default, Deserialize)]
struct Detail {
    proxy: Option<ProxyReadiness>,
}

#[derive(Debug, Default, Deserialize)]
struct ProxyReadiness {
    targets: Vec<TargetView>,
}

/// Checks that the process is ready.
///
/// # Errors
/// When it is not, or does not answer.
pub fn healthcheck(server: &Server) -> Result<(), Failure> {
    let answer = Client::new(server)?.get("/readyz")?;
    let printed = if server.json { print(&answer.text) } else { Ok(()) };
    if !answer.is_error() {
        return if server.json { printed } else { print("ready") };
    }
    let targets = answer
        .read::<Readiness>()
        .ok()
        .and_then(|readiness| readiness.detail.proxy)
        .map(|proxy| proxy.targets)
        .unwrap_or_default();
    Err(Failure::runtime(not_ready(&targets)))
}

/// Says which targets should have work for miners and have none.
fn not_ready(targets: &[TargetView]) -> String {
    let down = targets.iter().filter(|target| target.is_down());
    let down: Vec<&str> = down.map(|target| target.name.as_str()).collect();
    if down.is_empty() {
        "not ready: the process has no work for miners".to_owned()
    } else {
        format!("not ready: no work from {}", down.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::target;

    #[test]
    fn only_targets_that_should_have_work_are_named() {
        let lost = target("a", false, false, None);
        let disabled = TargetView { disabled: true, ..target("b", false, false, None) };
        assert_eq!(not_ready(&[lost, disabled.clone()]), "not ready: no work from a");
        assert_eq!(not_ready(&[disabled]), "not ready: the process has no work for miners");
    }
}
