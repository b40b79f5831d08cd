//! `tieline.toml`: what a process is made of. It describes any of the roles proxy, switchboard and
//! agent. The proxy's part is read by the proxy, and the agent's part by the agent; the policy is a
//! file of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::logging::{LogFormat, LoggingError};
use daemon::settings::{Document, Section, Spot};
use proxy::config::Taken;

/// The settings of a process.
#[derive(Debug)]
pub struct Settings {
    pub log_format: LogFormat,
    /// What is logged, in the words of `RUST_LOG`.
    pub log_filter: String,
    pub admin_listen: SocketAddr,
    /// Further names that the `Host` header of an HTTP request may have.
    pub admin_hosts: Vec<String>,
    /// Networks from which HTTP without TLS may be used.
    pub admin_plain_from: Vec<String>,
    /// The bearer token's file, made when it is missing.
    pub token_file: Option<PathBuf>,
    /// The folder for the state that must survive a restart.
    pub state_dir: PathBuf,
    /// The proxy, if the configuration has one.
    pub proxy: Option<proxy::Config>,
    /// The switchboard, if the configuration has one.
    pub switchboard: Option<SwitchboardSettings>,
    /// Drivers and meters.
    pub agent: agent::Settings,
}

/// A configuration as read. Its mistakes are in the document.
#[derive(Debug)]
pub(crate) struct ReadSettings {
    /// The settings; `None` after a mistake.
    pub(crate) settings: Option<Settings>,
    /// The agent's part, unless there is a mistake in it.
    pub(crate) agent: Option<agent::Settings>,
    /// The policy that the configuration names, even if other parts have mistakes.
    pub(crate) policy: Option<NamedPolicy>,
}

/// Where the switchboard's files are.
#[derive(Debug, Clone)]
pub struct SwitchboardSettings {
    pub policy: PathBuf,
    pub ledger: PathBuf,
}

/// The path of a policy, and the place of the key that names it.
#[derive(Debug)]
pub(crate) struct NamedPolicy {
    pub(crate) path: PathBuf,
    pub(crate) spot: Spot,
}

/// Environment variables that override the file begin with this: `TIELINE__PROXY__FAILBACK_AFTER`.
pub(crate) const ENVIRONMENT: &str = "TIELINE";

/// The name by which the switchboard knows the agent of its own process. Receivers have names of
/// their own, so no proxy can have this one.
pub(crate) const AGENT: &str = "agent";

impl Settings {
    /// Reads a configuration. Mistakes are collected in the document.
    pub(crate) fn read(document: &Document) -> ReadSettings {
        Self::read_with(document, agent::settings::read)
    }

    /// Reads a configuration for a process that has no agent: drivers and meters are left unread.
    pub(crate) fn read_without_agent(document: &Document) -> ReadSettings {
        Self::read_with(document, |root| {
            agent::settings::SECTIONS.iter().for_each(|key| root.leave(key));
            Some(agent::Settings::default())
        })
    }

    fn read_with(
        document: &Document,
        read_agent: impl FnOnce(&Section<'_>) -> Option<agent::Settings>,
    ) -> ReadSettings {
        let root = document.root();
        let (log_format, log_filter) = read_log(&root);
        let admin = read_admin(&root);
        let state_dir =
            root.optional_path("state_dir").unwrap_or_else(|| document.folder().join("state"));
        let (switchboard, named) = read_switchboard(&root, &state_dir);
        let taken: Vec<Taken<'_>> =
            admin.listen.iter().map(|address| Taken { by: "[admin]", address: *address }).collect();
        let proxy = read_proxy(&root, &taken);
        let agent = read_agent(&root);
        root.finish();
        let parts = admin.listen.zip(proxy).zip(agent.clone());
        let settings = parts.map(|((admin_listen, proxy), agent)| Self {
            log_format,
            log_filter,
            admin_listen,
            admin_hosts: admin.hosts,
            admin_plain_from: admin.plain_from,
            token_file: admin.token_file,
            state_dir,
            proxy,
            switchboard,
            agent,
        });
        ReadSettings { settings, agent, policy: named }
    }
}

/// Reads the proxy's part: `Some(None)` if there is no such part, `None` after a mistake. A
/// configuration without any role is read as that of a proxy, whose mistakes say what is missing.
fn read_proxy(root: &Section<'_>, taken: &[Taken<'_>]) -> Option<Option<proxy::Config>> {
    let has = |keys: &[&str]| keys.iter().any(|key| root.has(key));
    if describes_proxy(root) || !(has(&["switchboard"]) || has(agent::settings::SECTIONS)) {
        let config = proxy::config::read(root, taken);
        let section = root.table_or_empty("proxy");
        if section.peek_str("name") == Some(AGENT) {
            section.mistake("name", format!("{AGENT:?} is the name of the agent"));
        }
        return config.map(Some);
    }
    PROXY.iter().for_each(|key| root.leave(key));
    Some(None)
}

/// Whether a configuration has a section that only a proxy has.
pub(crate) fn describes_proxy(root: &Section<'_>) -> bool {
    PROXY.iter().any(|key| root.has(key))
}

/// The sections that only a proxy has.
const PROXY: &[&str] = &["server", "target", "routing", "proxy"];

fn read_log(root: &Section<'_>) -> (LogFormat, String) {
    let log = root.table_or_empty("log");
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = log.choice_or("format", &formats, LogFormat::Text);
    let filter = log.str_or("filter", "info");
    for directive in filter.split(',').map(str::trim) {
        if let Err(LoggingError::BadFilter { source, .. }) =
            daemon::logging::check_filter(directive)
        {
            log.mistake("filter", format!("{directive:?} is no filter directive: {source}"));
        } else if let Some(meant) = daemon::logging::level_meant(directive) {
            // A single word names a module of the program, and then no other module is logged.
            let message =
                format!("{directive:?} is no level, so only a part of that name would be logged");
            root.document().warn(&log.spot("filter"), message, Some(meant));
        }
    }
    log.finish();
    (format, filter.to_owned())
}

struct AdminSettings {
    listen: Option<SocketAddr>,
    hosts: Vec<String>,
    plain_from: Vec<String>,
    token_file: Option<PathBuf>,
}

fn read_admin(root: &Section<'_>) -> AdminSettings {
    let admin = root.table_or_empty("admin");
    let text = admin.str_or("listen", "127.0.0.1:8080");
    let listen = text.parse::<SocketAddr>().ok();
    if listen.is_none() {
        admin.mistake(
            "listen",
            format!("{text:?} is no address with a port, such as \"127.0.0.1:8080\""),
        );
    }
    let owned = |texts: Option<Vec<&str>>| {
        texts.unwrap_or_default().into_iter().map(str::to_owned).collect()
    };
    let hosts = owned(admin.strings("hosts"));
    let plain_from: Vec<String> = owned(admin.strings("allow_plain_from"));
    for network in &plain_from {
        if let Err(why) = network.parse::<daemon::admin::Network>() {
            admin.mistake("allow_plain_from", why.to_string());
        }
    }
    let token_file = admin.optional_path("token_file");
    if let Some(listen) = listen {
        if let Err(why) = daemon::admin::check_listen(listen, token_file.is_some()) {
            admin.mistake("listen", why.to_string());
        }
        if listen.port() == 0 {
            let message = "with port 0 the system picks another port at each start: commands would not find it";
            admin.warn("listen", message);
        }
    }
    admin.finish();
    AdminSettings { listen, hosts, plain_from, token_file }
}

fn read_switchboard(
    root: &Section<'_>,
    state_dir: &Path,
) -> (Option<SwitchboardSettings>, Option<NamedPolicy>) {
    let Some(section) = root.table("switchboard") else { return (None, None) };
    let policy = section.required_path("policy");
    let ledger = section.optional_path("ledger").unwrap_or_else(|| state_dir.join("ledger.db"));
    // state_dir is made at the start; no other folder is.
    let folder = ledger.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !state_dir.starts_with(folder)
        && !folder.is_dir()
    {
        section.warn("ledger", format!("there is no folder {} on this machine", folder.display()));
    }
    section.finish();
    let named = policy.clone().map(|path| NamedPolicy { path, spot: section.spot("policy") });
    (policy.map(|policy| SwitchboardSettings { policy, ledger }), named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "state_dir = \"state\"\n[[server]]\nname = \"asics\"\nlisten = \"127.0.0.1:3333\"\n\
        [[target]]\nname = \"a\"\nurl = \"pool.example:3333\"\nuser_identity = \"acme\"\n";

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let document =
            Document::parse("tieline.toml", text).map_err(|mistakes| mistakes.to_string())?;
        let document = document.with_variables(ENVIRONMENT, variables.iter().copied());
        document
            .conclude(Settings::read(&document).settings)
            .map_err(|mistakes| mistakes.to_string())
    }

    /// Each configuration in config/ is parsed with its policy. Policies without a configuration
    /// are parsed by the tests of policies.
    #[test]
    fn the_examples_are_complete_and_right() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        for (folder, targets) in [("", 3), ("compose", 2)] {
            let path = config.join(folder).join("tieline.toml");
            let document = Document::read(&path).unwrap();
            let settings = document.conclude(Settings::read(&document).settings);
            let settings = settings.unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(settings.proxy.map(|proxy| proxy.targets.values().len()), Some(targets));
            let policy = config.join(folder).join("policy.toml");
            switchboard::policy::load(&policy).unwrap_or_else(|faults| panic!("{faults}"));
            assert!(
                settings.switchboard.is_some_and(|control| control.policy.ends_with("policy.toml"))
            );
        }
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let settings = load(GOOD, &[("TIELINE__PROXY__FAILBACK_AFTER", "7s")]).expect("all right");
        let failback_after = settings.proxy.map(|proxy| proxy.failback_after);
        assert_eq!(failback_after, Some(std::time::Duration::from_secs(7)));
        let mistakes = load(GOOD, &[("TIELINE__PROXY__FAILBACK_AFTR", "7s")]).expect_err("a typo");
        assert!(mistakes.contains("TIELINE__PROXY__FAILBACK_AFTR"), "{mistakes}");
    }

    #[test]
    fn any_subset_of_the_roles_can_be_described() {
        let (switchboard, agent) = (
            "[switchboard]\npolicy = \"p.toml\"\n",
            "[meter.a]\nkind = \"file\"\npath = \"a.kw\"\n",
        );
        for text in [GOOD, switchboard, agent, &format!("{switchboard}{agent}")] {
            let settings = load(text, &[]).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}"));
            assert_eq!(settings.proxy.is_some(), text == GOOD, "{text}");
            assert_eq!(settings.switchboard.is_some(), text.contains("switchboard"), "{text}");
            assert_eq!(settings.agent.is_empty(), !text.contains("meter"), "{text}");
        }
        let nothing = load("[admin]\n", &[]).expect_err("no role");
        assert!(nothing.contains("server") && nothing.contains("target"), "{nothing}");
        let half = load(&format!("{switchboard}[[target]]\nname = \"a\"\n"), &[]);
        assert!(half.is_err_and(|mistakes| mistakes.contains("no [[server]]")));
    }

    #[test]
    fn t11_http_for_others_needs_a_token() {
        let mistakes = load(&format!("{GOOD}[admin]\nlisten = \"0.0.0.0:8080\"\n"), &[])
            .expect_err("no token");
        assert!(mistakes.contains("tieline.toml:10:") && mistakes.contains("token"), "{mistakes}");
    }

    #[test]
    fn an_unknown_section_is_named_with_the_nearest_known_one() {
        let mistakes =
            load(&format!("{GOOD}[swichboard]\npolicy = \"p.toml\"\n"), &[]).expect_err("a typo");
        assert!(mistakes.contains("switchboard"), "{mistakes}");
    }
}
