//! `tieline check`: reports every mistake and warning in the configuration and its policy, or in a
//! policy alone, without starting anything. It also shows what was read, so that a reader sees that
//! it was understood.

mod found;

use std::path::{Path, PathBuf};

use daemon::settings::{Document, Mistake, Mistakes, Origin};
use daemon::stdio::complain;
use serde_json::{Value, json};

use crate::failure::{self, Failure};
use crate::files::{Files, PolicyFile, SitePolicy};
use crate::output::print;
use crate::settings::Settings;

/// Reads a configuration with its policy, or a policy, whichever `path` is.
///
/// # Errors
/// [`Failure::Configuration`] with every mistake.
pub fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let checked = Checked::read(path);
    let printed = match as_json {
        true => print(&checked.json().to_string()),
        // Files with mistakes are not shown, only their mistakes.
        false if checked.text().is_empty() => Ok(()),
        false => print(&checked.text()),
    };
    if !checked.warnings.is_empty() && !as_json {
        complain(&failure::shown(&checked.warnings));
    }
    // Mistakes are a failure even if nobody reads the output.
    if checked.mistakes.is_empty() {
        return printed;
    }
    Err(Failure::of_files(&checked.mistakes, path))
}

/// The files that were read, and their mistakes.
struct Checked {
    files: Vec<Read>,
    mistakes: Mistakes,
    warnings: Mistakes,
}

/// One file that was read.
struct Read {
    path: PathBuf,
    content: Content,
}

/// The kind of a file, with its content if it has no mistakes.
enum Content {
    Configuration(Option<Box<Settings>>),
    /// `alone` if it was given instead of a configuration.
    Policy {
        policy: Option<Box<SitePolicy>>,
        alone: bool,
    },
}

impl Checked {
    fn read(path: &Path) -> Self {
        match Document::read(path) {
            Ok(document) if switchboard::policy::is_policy(&document) => {
                Self::policy_alone(path, &document)
            }
            _ => Self::configuration(path),
        }
    }

    fn policy_alone(path: &Path, document: &Document) -> Self {
        let checked = PolicyFile::of(path, document, None);
        let (policy, mistakes) = match checked.policy {
            Ok(site) => (Some(Box::new(site)), Mistakes::default()),
            Err(mistakes) => (None, mistakes),
        };
        let content = Content::Policy { policy, alone: true };
        Self {
            files: vec![Read { path: path.to_owned(), content }],
            mistakes,
            warnings: checked.warnings,
        }
    }

    fn configuration(path: &Path) -> Self {
        let files = Files::read(path);
        let mistakes = files.mistakes();
        let content = Content::Configuration(files.settings.ok().map(Box::new));
        let mut read = vec![Read { path: path.to_owned(), content }];
        if let Some(file) = files.policy {
            let policy = file.policy.ok().map(Box::new);
            let content = Content::Policy { policy, alone: false };
            read.push(Read { path: file.path, content });
        }
        Self { files: read, mistakes, warnings: files.warnings }
    }

    /// One paragraph for each file that could be read.
    fn text(&self) -> String {
        let paragraph = |(index, file): (usize, &Read)| {
            let mistakes = self.mistakes.list().iter();
            let (whole, within): (Vec<_>, Vec<_>) = mistakes
                .filter(|mistake| match &mistake.origin {
                    Origin::File { file: name, .. } => **name == *file.path.display().to_string(),
                    // Environment variables override the first file.
                    Origin::Environment { .. } => index == 0,
                })
                .partition(|mistake| matches!(mistake.origin, Origin::File { position: None, .. }));
            whole.is_empty().then(|| file.text(within.len(), self.warnings_in(&file.path)))
        };
        self.files.iter().enumerate().filter_map(paragraph).collect()
    }

    fn warnings_in(&self, path: &Path) -> usize {
        let path = path.display().to_string();
        let in_file = |warning: &&Mistake| matches!(&warning.origin, Origin::File { file, .. } if **file == *path);
        self.warnings.list().iter().filter(in_file).count()
    }

    fn json(&self) -> Value {
        let list = |found: &Mistakes| found.list().iter().map(describe).collect::<Vec<_>>();
        json!({
            "ok": self.mistakes.is_empty(),
            "mistakes": list(&self.mistakes),
            "warnings": list(&self.warnings),
            "files": self.files.iter().map(Read::json).collect::<Vec<_>>(),
        })
    }
}

impl Read {
    fn text(&self, mistakes: usize, warnings: usize) -> String {
        let lines = match &self.content {
            Content::Configuration(Some(settings)) => found::configuration(settings),
            Content::Policy { policy: Some(policy), .. } => found::policy(policy),
            Content::Configuration(None) | Content::Policy { policy: None, .. } => Vec::new(),
        };
        let alone = matches!(self.content, Content::Policy { alone: true, .. });
        let what = if alone { "a policy, checked by itself: " } else { "" };
        let counts: Vec<String> = [(mistakes, "mistake"), (warnings, "warning")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
            .collect();
        let verdict = match mistakes {
            0 => ["all right".to_owned()].into_iter().chain(counts).collect::<Vec<_>>().join(", "),
            _ => counts.join(", "),
        };
        let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
        format!("{}: {what}{verdict}\n{lines}", self.path.display())
    }

    fn json(&self) -> Value {
        let (kind, found) = match &self.content {
            Content::Configuration(settings) => {
                ("configuration", settings.as_deref().map(found::configuration_json))
            }
            Content::Policy { policy, .. } => ("policy", policy.as_deref().map(found::policy_json)),
        };
        json!({ "path": self.path.display().to_string(), "kind": kind, "found": found })
    }
}

fn describe(mistake: &Mistake) -> Value {
    let position = mistake.position();
    let file = match &mistake.origin {
        Origin::File { file, .. } => Some(&**file),
        Origin::Environment { .. } => None,
    };
    json!({
        "file": file,
        "key": mistake.key,
        "message": mistake.message,
        "suggestion": mistake.suggestion,
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
        "text": mistake.to_string(),
    })
}

#[cfg(test)]
mod tests;
