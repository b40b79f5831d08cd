//! Why a command failed, and its exit code.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use daemon::settings::Mistakes;

#[derive(Debug)]
pub enum Failure {
    /// The configuration or policy is wrong: exit 78, so that a supervisor does not try again.
    Configuration(String),
    /// The command line is wrong: exit 2.
    Usage(String),
    /// Something went wrong while running: exit 1.
    Runtime(anyhow::Error),
    /// The reader of the output has closed the pipe, as in `| head -1`: the command ends at once
    /// without a message. That is not a failure: exit 0.
    Unread,
}

impl Failure {
    /// A failure while running, with this message.
    #[must_use]
    pub fn runtime(message: impl Into<String>) -> Self {
        Self::Runtime(anyhow::Error::msg(message.into()))
    }

    /// The exit code (sysexits for configuration).
    #[must_use]
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(78),
            Self::Usage(_) => ExitCode::from(2),
            Self::Runtime(_) => ExitCode::from(1),
            Self::Unread => ExitCode::SUCCESS,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration(text) | Self::Usage(text) => f.write_str(text.trim_end()),
            Self::Runtime(error) => f.write_str(chain(error).trim_end()),
            Self::Unread => Ok(()),
        }
    }
}

/// The error with its causes. A cause that is already in the text before it is not repeated.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // A failure that was passed through an `anyhow` error, as in the demo.
        error.downcast().unwrap_or_else(Self::Runtime)
    }
}

impl Failure {
    /// The mistakes of a configuration at `path` and its files. If there is no configuration yet,
    /// the message says how to make one.
    #[must_use]
    pub fn of_files(mistakes: &Mistakes, path: &Path) -> Self {
        let mut text = shown(mistakes);
        if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            text.push_str(
                "\n--config names another configuration; `tieline init` writes a first one",
            );
        }
        Self::Configuration(text)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Configuration(shown(&mistakes))
    }
}

/// Mistakes or warnings for standard error: on a terminal with the lines around each.
#[must_use]
pub fn shown(mistakes: &Mistakes) -> String {
    use std::io::IsTerminal;
    let terminal = std::io::stderr().is_terminal();
    let text = if terminal { mistakes.render(true) } else { mistakes.to_string() };
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn who_has_no_configuration_is_told_how_to_make_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tieline.toml");
        let said = || {
            let files = crate::files::Files::read(&path);
            let Err(mistakes) = files.sound() else { panic!("there is none, or a wrong one") };
            Failure::of_files(&mistakes, &path).to_string()
        };
        let told = said();
        assert!(told.contains("does not exist\n") && told.contains("`tieline init`"), "{told}");
        std::fs::write(&path, "").expect("written");
        assert!(!said().contains("tieline init"));
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = std::io::Error::other("disk on fire");
        let said = anyhow::Error::new(cause).context("cannot write: disk on fire");
        assert_eq!(Failure::Runtime(said).to_string(), "cannot write: disk on fire");
        let silent: anyhow::Result<()> =
            Err(std::io::Error::other("disk on fire")).context("cannot write");
        assert_eq!(
            Failure::Runtime(silent.expect_err("failed")).to_string(),
            "cannot write: disk on fire"
        );
    }
}
