//! The files of a site, read together: the configuration, and the policy that it names. A mistake
//! in one hides nothing about the other. What each file means by itself is read by its role.

mod between;

use std::path::{Path, PathBuf};

use daemon::settings::{Document, Mistakes, Origin};
use switchboard::policy::Policy;

use crate::devices::Ties;
use crate::former;
use crate::settings::{ENVIRONMENT, Settings};

pub(crate) use between::Equipment;

/// What the files say, with their mistakes and warnings.
#[derive(Debug)]
pub struct Files {
    pub settings: Result<Settings, Mistakes>,
    /// The policy, if the configuration names one that can be read.
    pub policy: Option<PolicyFile>,
    /// What the configuration has for a policy to name.
    pub(crate) equipment: Equipment,
    /// The warnings of both files.
    pub warnings: Mistakes,
}

/// A policy file as read.
#[derive(Debug)]
pub struct PolicyFile {
    pub path: PathBuf,
    pub policy: Result<SitePolicy, Mistakes>,
    pub warnings: Mistakes,
}

/// A policy without a mistake, with what the agent reads from it.
#[derive(Debug)]
pub struct SitePolicy {
    pub policy: Policy,
    /// Drivers and meters that stand in the policy, in the former spelling.
    pub former: agent::Settings,
    /// The parts of the policy from which the agent is built.
    pub(crate) ties: Ties,
}

/// Which of the roles of a configuration a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// All roles that the configuration describes.
    All,
    /// The proxy alone, whatever else is described.
    Proxy,
}

/// Files without a mistake.
#[derive(Debug)]
pub struct Sound {
    pub settings: Settings,
    /// The policy, if there is a switchboard.
    pub policy: Option<SitePolicy>,
    pub(crate) equipment: Equipment,
    pub warnings: Mistakes,
}

impl PolicyFile {
    /// Reads a policy, and compares it with what a configuration has, unless it is read by itself.
    pub(crate) fn read(path: &Path, equipment: Option<&Equipment>) -> Self {
        match Document::read(path) {
            Ok(document) => Self::of(path, &document, equipment),
            Err(mistakes) => {
                Self { path: path.to_owned(), policy: Err(mistakes), warnings: Mistakes::default() }
            }
        }
    }

    /// Reads a policy that was parsed already.
    pub(crate) fn of(path: &Path, document: &Document, equipment: Option<&Equipment>) -> Self {
        let policy = switchboard::policy::read_into(document);
        let former = former::read(document);
        between::check_policy(document, policy.as_ref(), equipment, former.as_ref());
        let site = policy.zip(former).map(|(policy, former)| {
            let ties = Ties::of(&policy, document.text());
            SitePolicy { policy, former, ties }
        });
        Self {
            path: path.to_owned(),
            policy: document.conclude(site),
            warnings: document.warnings(),
        }
    }
}

impl Files {
    /// Reads the configuration, with the environment variables that override it, and the policy
    /// that it names.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        match Document::read(path) {
            Ok(document) if switchboard::policy::is_policy(&document) => Self::misplaced(&document),
            Ok(document) => Self::of(&document.with_environment(ENVIRONMENT)),
            Err(mistakes) => Self::broken(path, mistakes),
        }
    }

    /// Reads what a process with these roles needs.
    pub(crate) fn of_roles(path: &Path, roles: Roles) -> Self {
        match roles {
            Roles::All => Self::read(path),
            Roles::Proxy => Self::without_policy(path),
        }
    }

    /// Reads the configuration alone, for a process with neither a switchboard nor an agent.
    fn without_policy(path: &Path) -> Self {
        match Document::read(path) {
            Ok(document) if switchboard::policy::is_policy(&document) => Self::misplaced(&document),
            Ok(document) => {
                let document = document.with_environment(ENVIRONMENT);
                let settings = Settings::read_without_agent(&document).settings;
                Self::of_configuration(document.conclude(settings), document.warnings())
            }
            Err(mistakes) => Self::of_configuration(Err(mistakes), Mistakes::default()),
        }
    }

    fn of_configuration(settings: Result<Settings, Mistakes>, warnings: Mistakes) -> Self {
        Self { settings, policy: None, equipment: Equipment::default(), warnings }
    }

    /// A configuration that is no TOML as a whole may still name its policy.
    fn broken(path: &Path, mistakes: Mistakes) -> Self {
        let named = Document::salvage(path, "switchboard", "policy")
            .map(|policy| path.parent().unwrap_or(Path::new("")).join(policy));
        // A policy that cannot be read is not reported: its name is not certain. Nor is the policy
        // compared with a configuration of which nothing is known.
        let policy = named.map(|path| PolicyFile::read(&path, None));
        let policy =
            policy.filter(|file| file.policy.as_ref().err().and_then(unreadable).is_none());
        let warnings = policy.as_ref().map(|file| file.warnings.clone()).unwrap_or_default();
        Self { settings: Err(mistakes), policy, equipment: Equipment::default(), warnings }
    }

    fn of(document: &Document) -> Self {
        let read = Settings::read(document);
        let equipment = Equipment::of(document, read.agent.as_ref());
        let policy = read.policy.and_then(|named| {
            let file = PolicyFile::read(&named.path, Some(&equipment));
            // A file that cannot be read has no place inside it, so the key that names it is
            // reported.
            if let Some(why) = file.policy.as_ref().err().and_then(unreadable) {
                document.report(&named.spot, format!("{} {why}", named.path.display()), None);
                return None;
            }
            Some(file)
        });
        let sound = policy.as_ref().and_then(|file| file.policy.as_ref().ok());
        if let (Some(agent), Some(site)) = (&read.agent, sound) {
            between::warn_of_unused(document, agent, &site.policy);
        }
        if let Some(settings) = read.settings.as_ref().filter(|read| read.switchboard.is_none()) {
            match settings.proxy {
                Some(_) => between::warn_of_no_switchboard(document, &settings.agent),
                None => between::refuse_agent_alone(document, &settings.agent),
            }
        }
        let mut warnings = document.warnings();
        if let Some(file) = &policy {
            warnings.append(file.warnings.clone());
        }
        Self { settings: document.conclude(read.settings), policy, equipment, warnings }
    }

    /// Reports a policy given in place of a configuration as one mistake: each of its sections
    /// would be unknown.
    fn misplaced(document: &Document) -> Self {
        let message = "this is a policy, not a configuration: a configuration names its policy in [switchboard]";
        document.report(&document.root().spot("schema"), message, None);
        Self::of_configuration(document.conclude(None), Mistakes::default())
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
        let Self { equipment, warnings, .. } = self;
        let policy = self.policy.map(|file| file.policy).transpose();
        match (self.settings, policy) {
            (Ok(settings), Ok(policy)) => Ok(Sound { settings, policy, equipment, warnings }),
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
