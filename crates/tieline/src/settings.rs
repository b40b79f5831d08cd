//! `tieline.toml`: what a process is made of. The proxy's part is read by the proxy; the policy is
//! a file of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::logging::LogFormat;
use daemon::settings::{Document, Mistakes};

/// All a process needs to know before it starts.
#[derive(Debug)]
pub struct Settings {
    /// Text or JSON lines.
    pub log_format: LogFormat,
    /// What is logged, in the words of `RUST_LOG`.
    pub log_filter: String,
    pub admin_listen: SocketAddr,
    /// Further names under which HTTP may be asked for.
    pub admin_hosts: Vec<String>,
    /// Networks that may use HTTP without TLS from elsewhere.
    pub admin_plain_from: Vec<String>,
    /// The bearer token's file, made when it is missing.
    pub token_file: Option<PathBuf>,
    /// Where what must survive a restart is kept.
    pub state_dir: PathBuf,
    pub proxy: proxy::Config,
    /// The switchboard, if this process has one.
    pub switchboard: Option<SwitchboardSettings>,
}

/// Where the switchboard's files are.
#[derive(Debug, Clone)]
pub struct SwitchboardSettings {
    pub policy: PathBuf,
    pub ledger: PathBuf,
}

/// Environment variables over the file begin with this: `TIELINE__PROXY__FAILBACK_AFTER`.
const ENVIRONMENT: &str = "TIELINE";

impl Settings {
    /// Reads the file, with the environment over it.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        Self::from_document(&Document::read(path)?.with_environment(ENVIRONMENT))
    }

    fn from_document(document: &Document) -> Result<Self, Mistakes> {
        let root = document.root();
        let log = root.table_or_empty("log");
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = log.choice_or("format", &formats, LogFormat::Text);
        let log_filter = log.str_or("filter", "info").to_owned();
        log.finish();

        let admin = root.table_or_empty("admin");
        let listen = admin.str_or("listen", "127.0.0.1:8080");
        let admin_listen = listen.parse::<SocketAddr>().ok();
        if admin_listen.is_none() {
            admin.mistake(
                "listen",
                format!("{listen:?} is no address with a port, such as \"127.0.0.1:8080\""),
            );
        }
        let owned = |texts: Option<Vec<&str>>| {
            texts.unwrap_or_default().into_iter().map(str::to_owned).collect()
        };
        let admin_hosts = owned(admin.strings("hosts"));
        let admin_plain_from: Vec<String> = owned(admin.strings("allow_plain_from"));
        for network in &admin_plain_from {
            if let Err(why) = network.parse::<daemon::admin::Network>() {
                admin.mistake("allow_plain_from", why.to_string());
            }
        }
        let token_file = admin.optional_path("token_file");
        if let Some(listen) = admin_listen
            && let Err(why) = daemon::admin::check_listen(listen, token_file.is_some())
        {
            admin.mistake("listen", why.to_string());
        }
        admin.finish();

        let state_dir =
            root.optional_path("state_dir").unwrap_or_else(|| document.folder().join("state"));
        let switchboard = root.table("switchboard").map(|section| {
            let policy = section.required_path("policy");
            let ledger =
                section.optional_path("ledger").unwrap_or_else(|| state_dir.join("ledger.db"));
            section.finish();
            policy.map(|policy| SwitchboardSettings { policy, ledger })
        });
        let proxy = proxy::config::read(&root);
        root.finish();
        let settings = match (admin_listen, proxy) {
            (Some(admin_listen), Some(proxy)) => Some(Self {
                log_format,
                log_filter,
                admin_listen,
                admin_hosts,
                admin_plain_from,
                token_file,
                state_dir,
                proxy,
                switchboard: switchboard.flatten(),
            }),
            _ => None,
        };
        document.conclude(settings)
    }
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
        Settings::from_document(&document).map_err(|mistakes| mistakes.to_string())
    }

    /// Everything in config/ is parsed: settings here, policies of their own where policies are
    /// read.
    #[test]
    fn the_examples_are_complete_and_right() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        for (folder, targets) in [("", 3), ("compose", 2)] {
            let path = config.join(folder).join("tieline.toml");
            let document = Document::read(&path).unwrap();
            let settings =
                Settings::from_document(&document).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(settings.proxy.targets.len(), targets);
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
        assert_eq!(settings.proxy.failback_after, std::time::Duration::from_secs(7));
        let mistakes = load(GOOD, &[("TIELINE__PROXY__FAILBACK_AFTR", "7s")]).expect_err("a typo");
        assert!(mistakes.contains("TIELINE__PROXY__FAILBACK_AFTR"), "{mistakes}");
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
