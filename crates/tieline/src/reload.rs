//! Follows the policy file of a running site.

use std::path::PathBuf;
use std::sync::Arc;

use daemon::settings::Mistakes;
use daemon::watch_file::FileWatch;
use parking_lot::Mutex;
use switchboard::Handle;
use switchboard::core::Answer;
use switchboard::facility::Policy;
use tracing::{error, warn};

/// Puts a changed policy into force, whole or not at all.
pub(crate) struct Reload {
    pub(crate) path: PathBuf,
    pub(crate) current: Arc<Policy>,
    pub(crate) handle: Handle,
    /// Why the newest file is not in force.
    pub(crate) fault: Arc<Mutex<Option<String>>>,
}

impl Reload {
    pub(crate) async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        let mut watch = FileWatch::new(&self.path);
        let mut hangup = match daemon::signals::hangup() {
            Ok(hangup) => hangup,
            Err(failure) => {
                error!(%failure, "SIGHUP cannot be watched: the policy is read again only when its file changes");
                return self.follow(watch, stop).await;
            }
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => {}
                () = hangup.recv() => {}
            }
            self.reload().await;
        }
    }

    async fn follow(&mut self, mut watch: FileWatch, stop: tokio_util::sync::CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => {}
            }
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        let refused = self.attempt().await.err();
        // What does not carry the leases is put on record, and told, by the switchboard.
        if let Some(refused) = refused.as_ref().filter(|refused| !refused.told) {
            for line in refused.why.lines() {
                error!(mistake = line, "policy refused, the former one stays");
            }
        }
        *self.fault.lock() = refused.map(|refused| refused.why);
    }

    async fn attempt(&mut self) -> Result<(), Refusal> {
        let path = self.path.clone();
        let here = |why: &dyn ToString| Refusal { why: why.to_string(), told: false };
        let loaded = tokio::task::spawn_blocking(move || switchboard::policy::check(&path)).await;
        let checked = loaded.map_err(|failure| here(&failure))?;
        let policy = checked.policy.map_err(|mistakes| here(&mistakes))?;
        if policy.digest == self.current.digest {
            return Ok(());
        }
        if drivers_differ(&self.current, &policy) {
            return Err(here(
                &"actuators, meters and what they match are made at the start: restart to change them",
            ));
        }
        let policy = Arc::new(policy);
        match self.handle.change_policy(policy.clone()).await {
            Ok(Answer::Refused(refused)) => Err(Refusal { why: refused.to_string(), told: true }),
            Ok(_) => {
                self.current = policy;
                log_warnings(&checked.warnings);
                Ok(())
            }
            Err(stopped) => Err(here(&stopped)),
        }
    }
}

/// Why a policy is not put into force.
#[derive(Debug)]
struct Refusal {
    why: String,
    /// Whether the log has it already.
    told: bool,
}

/// Whether the agent would need other drivers.
fn drivers_differ(one: &Policy, other: &Policy) -> bool {
    let reached = |policy: &Policy| -> Vec<_> {
        policy
            .groups
            .iter()
            .map(|group| (group.id.clone(), group.matches.clone(), group.actuator.clone()))
            .collect()
    };
    one.meters != other.meters || reached(one) != reached(other)
}

/// One line for each warning that `tieline check` would show.
pub(crate) fn log_warnings(warnings: &Mistakes) {
    for line in warnings.to_string().lines() {
        warn!("{line}");
    }
}
