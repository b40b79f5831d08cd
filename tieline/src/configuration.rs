//! SIGHUP: the files of a running process are read again. The policy is read by the switchboard, which
//! puts a changed one into force. The configuration is what the process was started with: a changed
//! one needs a restart, and is read only to report that, or its mistakes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use switchboard::Handle;
use switchboard::core::{Command, FileFault, FileKind};
use switchboard::reload::ReloadHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::files::{Files, Roles};

/// The configuration that the process was started with.
pub(crate) struct Configuration {
    path: PathBuf,
    text: String,
    roles: Roles,
}

impl Configuration {
    /// Remembers the text of the file at the start.
    ///
    /// # Errors When the file cannot be read.
    pub(crate) fn read(path: &Path, roles: Roles) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), text, roles })
    }

    /// Why the present file is not in force: its mistakes, or what it changes. `None` if nothing
    /// has changed.
    fn fault(&self) -> Option<String> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) if text == self.text => return None,
            Ok(text) => text,
            Err(failure) => return Some(format!("{} {failure}", self.path.display())),
        };
        let files = Files::of_roles(&self.path, self.roles);
        if let Err(mistakes) = files.settings {
            return Some(mistakes.to_string());
        }
        let changed = changed(&self.text, &text);
        if changed.is_empty() {
            return None;
        }
        let restart = format!("restart to put its changes into force: {}", changed.join(", "));
        // A restart with a policy that does not fit the changed configuration would fail.
        Some(match files.policy.map(|file| file.policy) {
            Some(Err(mistakes)) => {
                format!("{restart}; before that, correct the policy:\n{mistakes}")
            }
            _ => restart,
        })
    }
}

/// Makes the process read its files again at each SIGHUP.
pub(crate) struct Hangups {
    pub(crate) configuration: Arc<Configuration>,
    /// Why the newest configuration is not in force, for readiness.
    pub(crate) fault: Arc<Mutex<Option<String>>>,
    /// The switchboard of this process, and the task that follows its policy.
    pub(crate) switchboard: Option<(Handle, ReloadHandle)>,
}

impl Hangups {
    /// Handles SIGHUP until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut hangup = match daemon::signals::hangup() {
            Ok(hangup) => hangup,
            Err(failure) => {
                error!(%failure, "SIGHUP cannot be watched: the policy is read again only when its file changes");
                return;
            }
        };
        while stop.run_until_cancelled(hangup.recv()).await.is_some() {
            info!("SIGHUP: reading the files again");
            self.look_at_configuration().await;
            if let Some((_, policy)) = &self.switchboard {
                policy.read_again();
            }
        }
    }

    async fn look_at_configuration(&self) {
        let configuration = self.configuration.clone();
        let fault = match tokio::task::spawn_blocking(move || configuration.fault()).await {
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
        self.fault.lock().clone_from(&fault);
        let Some((switchboard, _)) = &self.switchboard else { return };
        let file = self.configuration.path.display().to_string();
        let notice = fault.map(|why| FileFault { file, why });
        let shown = switchboard.ask(Command::File { kind: FileKind::Configuration, notice }).await;
        if let Err(stopped) = shown {
            debug!(%stopped, "the state of the configuration file is not shown");
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "[admin]\nlisten = \"127.0.0.1:8080\"\n\n[[server]]\nname = \"asics\"\n\
        listen = \"0.0.0.0:3333\"\n\n[[target]]\nname = \"main\"\n\
        url = \"stratum+tcp://pool.example:3333\"\nuser = \"acme\"\npassword = \"x\"\n\n\
        [[routing]]\nserver = \"asics\"\n";

    /// The message about a configuration whose file now contains `text`.
    fn fault(text: &str) -> Option<String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tieline.toml");
        let example = include_str!("../../config/tieline.toml");
        std::fs::write(&path, example).expect("written");
        let policy = include_str!("../../config/policy.toml");
        std::fs::write(dir.path().join("policy.toml"), policy).expect("written");
        let configuration = Configuration::read(&path, Roles::All).expect("read");
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
    fn a_changed_configuration_that_the_policy_does_not_fit_says_so() {
        let example = include_str!("../../config/tieline.toml");
        let why =
            fault(&example.replace("[driver.luxctl]", "[driver.other]")).expect("not in force");
        let lines: Vec<&str> = why.lines().collect();
        let [restart, mistake] = lines[..] else { panic!("{why}") };
        assert_eq!(
            restart,
            "restart to put its changes into force: [driver]; before that, correct the policy:"
        );
        assert!(
            mistake.ends_with("group.s21-b.driver: the configuration has no [driver.luxctl]"),
            "{why}"
        );
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
