//! Why a command failed, and the exit code that says so.

use std::process::ExitCode;

use daemon::settings::Mistakes;

/// A failed command.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or policy is wrong: exit 78, so that a supervisor does not try again.
    Configuration(String),
    /// The command line is wrong: exit 2.
    Usage(String),
    /// Something went wrong while running: exit 1.
    Runtime(anyhow::Error),
}

impl Failure {
    /// The exit code (sysexits for configuration).
    #[must_use]
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(78),
            Self::Usage(_) => ExitCode::from(2),
            Self::Runtime(_) => ExitCode::from(1),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration(text) | Self::Usage(text) => f.write_str(text.trim_end()),
            Self::Runtime(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        use std::io::IsTerminal;
        let terminal = std::io::stderr().is_terminal();
        Self::Configuration(if terminal { mistakes.render(true) } else { mistakes.to_string() })
    }
}
