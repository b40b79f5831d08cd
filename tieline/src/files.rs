//! The files of a site, read together: the configuration, and the policy that it names. A mistake
//! in one hides nothing about the other.

use std::path::{Path, PathBuf};

use daemon::settings::{Document, Mistakes, Origin};
use switchboard::facility::Policy;

use crate::settings::{ENVIRONMENT, Settings};

/// What the files say, and what is wrong or odd about them.
#[derive(Debug)]
pub struct Files {
    pub settings: Result<Settings, Mistakes>,
    /// The policy, if the configuration names one that can be read.
    pub policy: Option<PolicyFile>,
    /// Of both files.
    pub warnings: Mistakes,
}

#[derive(Debug)]
pub struct PolicyFile {
    pub path: PathBuf,
    pub policy: Result<Policy, Mistakes>,
}

/// Files without a mistake.
#[derive(Debug)]
pub struct Sound {
    pub settings: Settings,
    /// The policy, if there is a switchboard.
    pub policy: Option<Policy>,
    pub warnings: Mistakes,
}

impl Files {
    /// Reads the configuration, with the environment over it, and the policy that it names.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        match Document::read(path) {
            Ok(document) if switchboard::policy::is_policy(&document) => Self::misplaced(&document),
            Ok(document) => Self::of(&document.with_environment(ENVIRONMENT)),
            Err(mistakes) => Self::broken(path, mistakes),
        }
    }

    /// A configuration that is no TOML as a whole may still name its policy.
    fn broken(path: &Path, mistakes: Mistakes) -> Self {
        let named = Document::salvage(path, "switchboard", "policy")
            .map(|policy| path.parent().unwrap_or(Path::new("")).join(policy));
        let mut warnings = Mistakes::default();
        let policy = named.and_then(|path| {
            let checked = switchboard::policy::check(&path);
            warnings = checked.warnings;
            // That it cannot be read is told once its name is sure.
            let readable = checked.policy.as_ref().err().and_then(unreadable).is_none();
            readable.then_some(PolicyFile { path, policy: checked.policy })
        });
        Self { settings: Err(mistakes), policy, warnings }
    }

    fn of(document: &Document) -> Self {
        let (settings, named) = Settings::read(document);
        let mut policy_warnings = Mistakes::default();
        let policy = named.and_then(|named| {
            let checked = switchboard::policy::check(&named.path);
            policy_warnings = checked.warnings;
            // A file that cannot be read has no place of its own: what names it has.
            if let Some(why) = checked.policy.as_ref().err().and_then(unreadable) {
                document.report(&named.spot, format!("{} {why}", named.path.display()), None);
                return None;
            }
            Some(PolicyFile { path: named.path, policy: checked.policy })
        });
        let mut warnings = document.warnings();
        warnings.append(policy_warnings);
        Self { settings: document.conclude(settings), policy, warnings }
    }

    /// A policy where the configuration should be: each of its sections would be unknown.
    fn misplaced(document: &Document) -> Self {
        let message = "this is a policy, not a configuration: a configuration names its policy in [switchboard]";
        document.report(&document.root().spot("schema"), message, None);
        Self { settings: document.conclude(None), policy: None, warnings: Mistakes::default() }
    }

    /// The mistakes of both files; none if they are sound.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut all = self.settings.as_ref().err().cloned().unwrap_or_default();
        if let Some(Err(mistakes)) = self.policy.as_ref().map(|file| &file.policy) {
            all.append(mistakes.clone());
        }
        all
    }

    /// # Errors
    /// The mistakes of both files.
    pub fn sound(self) -> Result<Sound, Mistakes> {
        let mistakes = self.mistakes();
        let policy = self.policy.map(|file| file.policy).transpose();
        match (self.settings, policy) {
            (Ok(settings), Ok(policy)) => Ok(Sound { settings, policy, warnings: self.warnings }),
            _ => Err(mistakes),
        }
    }
}

/// Why a file as a whole could not be read, if that is the mistake.
fn unreadable(mistakes: &Mistakes) -> Option<&str> {
    match mistakes.list() {
        [only] if matches!(only.origin, Origin::File { position: None, .. }) => Some(&only.message),
        _ => None,
    }
}
