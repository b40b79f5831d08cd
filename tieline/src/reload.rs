//! Follows the files of a running site. A changed policy comes into force, whole or not at all. The
//! configuration is what the process was made of: a changed one needs a restart, and is read again
//! at SIGHUP only to say so, or what is wrong with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use daemon::settings::Mistakes;
use daemon::watch_file::FileWatch;
use parking_lot::Mutex;
use switchboard::Handle;
use switchboard::core::{Answer, Command, FileFault, FileKind};
use switchboard::policy::Policy;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::devices::Ties;
use crate::files::{Equipment, Files, PolicyFile};

/// Why the newest files are not in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    pub policy: Option<String>,
    pub configuration: Option<String>,
}

/// Puts changed files into force, or says why they are not.
pub(crate) struct Reload {
    pub(crate) configuration: Configuration,
    pub(crate) policy: Option<PolicyInForce>,
    pub(crate) faults: Arc<Mutex<Faults>>,
}

/// The configuration that the process was made of.
pub(crate) struct Configuration {
    path: PathBuf,
    text: String,
}

/// The policy in force, and the switchboard that decides about another one.
pub(crate) struct PolicyInForce {
    pub(crate) path: PathBuf,
    pub(crate) policy: Arc<Policy>,
    /// What the agent was built from.
    pub(crate) ties: Ties,
    /// The drivers and meters that the agent has.
    pub(crate) equipment: Equipment,
    pub(crate) switchboard: Handle,
}

impl Configuration {
    /// Remembers the text of the file at the start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Why the file as it is now is not in force, if so: its mistakes, or what it changes.
    fn fault(&self) -> Option<String> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) if text == self.text => return None,
            Ok(text) => text,
            Err(failure) => return Some(format!("{} {failure}", self.path.display())),
        };
        if let Err(mistakes) = Files::read(&self.path).settings {
            return Some(mistakes.to_string());
        }
        let changed = changed(&self.text, &text);
        (!changed.is_empty())
            .then(|| format!("restart to put its changes into force: {}", changed.join(", ")))
    }
}

impl Reload {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut hangup = daemon::signals::hangup();
        if let Err(failure) = &hangup {
            error!(%failure, "SIGHUP cannot be watched: the policy is read again only when its file changes");
        }
        let mut watch = self.policy.as_ref().map(|policy| FileWatch::new(&policy.path));
        loop {
            let changed = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let hung_up = async {
                match &mut hangup {
                    Ok(hangup) => hangup.recv().await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed => {}
                () = hung_up => {
                    info!("SIGHUP: reading the files again");
                    self.look_at_configuration().await;
                }
            }
            self.reload_policy().await;
        }
    }

    async fn look_at_configuration(&mut self) {
        let Configuration { path, text } = &self.configuration;
        let now = Configuration { path: path.clone(), text: text.clone() };
        let fault = match tokio::task::spawn_blocking(move || now.fault()).await {
            Ok(fault) => fault,
            Err(failure) => Some(failure.to_string()),
        };
        match &fault {
            None => debug!("the configuration is as it was at the start"),
            Some(why) => {
                for line in why.lines() {
                    warn!(
                        why = line,
                        "configuration not in force, the process goes on as it started"
                    );
                }
            }
        }
        self.faults.lock().configuration.clone_from(&fault);
        let path = self.configuration.path.clone();
        self.show(FileKind::Configuration, &path, fault).await;
    }

    async fn reload_policy(&mut self) {
        let Some(policy) = &mut self.policy else { return };
        let refused = policy.attempt().await.err();
        let path = policy.path.clone();
        // What does not carry the leases is put on record, and told, by the switchboard.
        if let Some(refused) = refused.as_ref().filter(|refused| !refused.told) {
            for line in refused.why.lines() {
                error!(mistake = line, "policy refused, the former one stays");
            }
        }
        let fault = refused.map(|refused| refused.why);
        self.faults.lock().policy.clone_from(&fault);
        self.show(FileKind::Policy, &path, fault).await;
    }

    /// Has the switchboard show what became of a file.
    async fn show(&self, kind: FileKind, path: &Path, fault: Option<String>) {
        let Some(policy) = &self.policy else { return };
        let notice = fault.map(|why| FileFault { file: path.display().to_string(), why });
        if let Err(stopped) = policy.switchboard.ask(Command::File { kind, notice }).await {
            debug!(%stopped, "the state of a file is not shown");
        }
    }
}

impl PolicyInForce {
    /// Reads the file again, and puts a changed policy into force.
    async fn attempt(&mut self) -> Result<(), Refusal> {
        let path = self.path.clone();
        let here = |why: &dyn ToString| Refusal { why: why.to_string(), told: false };
        let equipment = self.equipment.clone();
        let read = move || PolicyFile::read(&path, Some(&equipment));
        let checked = tokio::task::spawn_blocking(read).await.map_err(|failure| here(&failure))?;
        let site = checked.policy.map_err(|mistakes| here(&mistakes))?;
        if site.policy.digest == self.policy.digest {
            return Ok(());
        }
        if site.ties != self.ties {
            return Err(here(
                &"drivers, and the machines that groups give them, are set at the start: restart to change them",
            ));
        }
        let policy = Arc::new(site.policy);
        match self.switchboard.change_policy(policy.clone()).await {
            Ok(Answer::Refused(refused)) => Err(Refusal { why: refused.to_string(), told: true }),
            Ok(_) => {
                self.policy = policy;
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

/// The sections that differ between two texts, as a file writes them. Comments and the order of keys
/// change nothing.
fn changed(before: &str, now: &str) -> Vec<String> {
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (before, now) = (table(before), table(now));
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let named = |key: &&String| match now.get(*key).or(before.get(*key)) {
        Some(toml::Value::Table(_)) => format!("[{key}]"),
        Some(toml::Value::Array(items)) if items.iter().all(toml::Value::is_table) => {
            format!("[[{key}]]")
        }
        _ => (*key).clone(),
    };
    keys.iter().filter(|key| before.get(**key) != now.get(**key)).map(named).collect()
}

/// One line for each warning that `tieline check` would show.
pub(crate) fn log_warnings(warnings: &Mistakes) {
    for line in warnings.to_string().lines() {
        // The line's level says already what it is.
        warn!("{}", line.replacen(": warning: ", ": ", 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "[admin]\nlisten = \"127.0.0.1:8080\"\n\n[[server]]\nname = \"asics\"\n\
        listen = \"0.0.0.0:3333\"\n\n[[target]]\nname = \"main\"\n\
        url = \"stratum+tcp://pool.example:3333\"\nuser = \"acme\"\npassword = \"x\"\n\n\
        [[routing]]\nserver = \"asics\"\n";

    /// What is said of a configuration once its file has become `text`.
    fn fault(text: &str) -> Option<String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tieline.toml");
        let example = include_str!("../../config/tieline.toml");
        std::fs::write(&path, example).expect("written");
        let policy = include_str!("../../config/policy.toml");
        std::fs::write(dir.path().join("policy.toml"), policy).expect("written");
        let configuration = Configuration::read(&path).expect("read");
        std::fs::write(&path, text).expect("written");
        configuration.fault()
    }

    #[test]
    fn a_changed_configuration_names_its_sections_and_asks_for_a_restart() {
        let example = include_str!("../../config/tieline.toml");
        assert_eq!(fault(example), None);
        assert_eq!(fault(&format!("{example}\n# a comment\n")), None, "it means the same");
        let changed = example.replacen("127.0.0.1:8080", "127.0.0.1:8081", 1);
        assert_ne!(changed, example);
        let why = fault(&changed).expect("it is not in force");
        assert_eq!(why, "restart to put its changes into force: [admin]");
    }

    #[test]
    fn a_changed_configuration_with_a_mistake_says_where_it_is() {
        let why = fault(&SOUND.replace("password", "pasword")).expect("it cannot be in force");
        assert!(why.contains("tieline.toml:") && why.contains("pasword"), "{why}");
    }

    #[test]
    fn sections_and_lists_of_sections_are_written_as_in_the_file() {
        let now = SOUND.replace("main", "other").replace("[admin]", "state_dir = \"x\"\n[admin]");
        assert_eq!(changed(SOUND, &now), ["state_dir", "[[target]]"]);
        assert_eq!(changed(SOUND, ""), ["[admin]", "[[routing]]", "[[server]]", "[[target]]"]);
    }
}
