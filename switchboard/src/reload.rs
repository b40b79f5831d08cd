//! Follows the policy's file while the switchboard runs. A changed policy comes into force as a
//! whole or not at all. One that does not is reported, and the former one stays in force.
//!
//! The file is read again when it changes and when the program asks for it, as at SIGHUP. How it is
//! read is left to the program ([`ReadPolicy`]): only the program knows whether the policy fits the
//! other roles that it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::settings::{Mistakes, log_warnings};
use daemon::watch_file::FileWatch;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::Handle;
use crate::core::{Answer, Command, FileFault, FileKind};
use crate::policy::Policy;

/// Reads the policy's file. It may block.
pub type ReadPolicy = Arc<dyn Fn(&Path) -> Candidate + Send + Sync>;

/// A policy as read, which may replace the one in force.
#[derive(Debug)]
pub struct Candidate {
    pub policy: Result<Policy, Mistakes>,
    pub warnings: Mistakes,
    /// Why a policy without mistakes can come into force only after a restart; `None` if it can
    /// now.
    pub needs_restart: Option<String>,
}

/// The task that follows the file. Its state is the policy in force.
pub struct Reload {
    path: PathBuf,
    in_force: Arc<Policy>,
    read: ReadPolicy,
    switchboard: Handle,
    asked: Arc<Notify>,
    fault: watch::Sender<Option<String>>,
}

/// What a program can ask of a running [`Reload`].
#[derive(Debug, Clone)]
pub struct ReloadHandle {
    asked: Arc<Notify>,
    fault: watch::Receiver<Option<String>>,
}

impl ReloadHandle {
    /// Makes the task read the file again. Several requests in a row may be served by one reading.
    pub fn read_again(&self) {
        self.asked.notify_one();
    }

    /// Why the newest policy is not in force; `None` if it is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }
}

impl Reload {
    /// Follows the file at `path`, whose policy `in_force` is what the switchboard has now.
    #[must_use]
    pub fn new(
        path: PathBuf,
        in_force: Arc<Policy>,
        read: ReadPolicy,
        switchboard: Handle,
    ) -> (Self, ReloadHandle) {
        let asked = Arc::new(Notify::new());
        let (fault, shown) = watch::channel(None);
        let handle = ReloadHandle { asked: asked.clone(), fault: shown };
        (Self { path, in_force, read, switchboard, asked, fault }, handle)
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut watch = FileWatch::new(&self.path);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => {}
                () = self.asked.notified() => {}
            }
            self.reload().await;
        }
    }

    /// Reads the file, puts a changed policy into force, and shows the result.
    async fn reload(&mut self) {
        let refused = self.attempt().await.err();
        let before = self.fault.borrow().clone();
        match &refused {
            // A file that was saved is often read twice: because it changed, and at SIGHUP.
            Some(Refusal { why, .. }) if before.as_ref() == Some(why) => {
                info!("policy still refused, for the reasons logged before");
            }
            Some(Refusal { why, logged: false }) => {
                for line in why.lines() {
                    error!(mistake = line, "policy refused, the former one stays");
                }
            }
            // The switchboard itself records and logs a policy that it refuses.
            Some(Refusal { logged: true, .. }) | None => {}
        }
        let fault = refused.map(|refused| refused.why);
        self.fault.send_replace(fault.clone());
        let notice = fault.map(|why| FileFault { file: self.path.display().to_string(), why });
        let shown = self.switchboard.ask(Command::File { kind: FileKind::Policy, notice }).await;
        if let Err(stopped) = shown {
            debug!(%stopped, "the state of the policy file is not shown");
        }
    }

    async fn attempt(&mut self) -> Result<(), Refusal> {
        let (path, read) = (self.path.clone(), self.read.clone());
        let here = |why: &dyn ToString| Refusal { why: why.to_string(), logged: false };
        let candidate = tokio::task::spawn_blocking(move || read(&path)).await;
        let candidate = candidate.map_err(|failure| here(&failure))?;
        let policy = candidate.policy.map_err(|mistakes| here(&mistakes))?;
        if policy.digest == self.in_force.digest {
            return Ok(());
        }
        if let Some(why) = candidate.needs_restart {
            return Err(here(&why));
        }
        let policy = Arc::new(policy);
        match self.switchboard.change_policy(policy.clone()).await {
            Ok(Answer::Refused(refused)) => Err(Refusal { why: refused.to_string(), logged: true }),
            Ok(_) => {
                self.in_force = policy;
                log_warnings(&candidate.warnings);
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
    /// Whether the refusal is in the log already.
    logged: bool,
}
