//! A `[[target]]`: its settings, its keys in a settings file, and how it is used.

use std::fmt;
use std::time::Duration;

use daemon::settings::{Secret, Section};
use serde::Serialize;
use stratum::difficulty::Difficulty;

use super::Config;
use super::address::{HostPort, parse_host_port, parse_url};
use super::tls::{self, PlatformRoots};
use super::values::{DIFFICULTY_RANGE, HOUR, read_name};
use crate::target::{TargetId, TargetUse};
use crate::tls::{Tls, Trust};

/// A pool to mine at.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: String,
    /// Whether the target only stays in the configuration, and nothing is done with it.
    pub disabled: bool,
    pub host: String,
    pub port: u16,
    /// Our user name at the pool.
    pub user: String,
    /// The password, often `x`.
    pub password: Secret,
    /// The user agent that we send. DATUM and some other pools choose the size of the coinbase by
    /// it.
    pub user_agent: String,
    /// The pool's extranonce2_size, if the operator knows it.
    pub extranonce2_size: Option<u8>,
    /// The difficulty that is assumed until the pool sends one.
    pub start_difficulty: Difficulty,
    /// Difficulty that the pool is asked for; `None` asks for one that suits the fleet.
    pub suggest_difficulty: Option<Difficulty>,
    /// Number of shares a second that the fleet should send to this pool: the pool is asked for the
    /// difficulty at which the fleet finds that many.
    pub shares_per_sec: f64,
    /// Maximum number of shares a second that the fleet may send to this pool. While the pool's
    /// difficulty would lead to more, miners are kept at a higher difficulty.
    pub shares_per_sec_max: f64,
    /// How long miners are kept above the pool's difficulty at most.
    pub hold_max: Duration,
    /// Maximum number of connections to the target. A shared target gets more than one only if its
    /// extranonce2 leaves no room for lanes.
    pub max_connections: u32,
    /// How TLS is used; `None` is a plain connection. A failure of TLS never leads to a plain one.
    pub tls: Option<Tls>,
    /// Other addresses to which the pool may redirect us by `client.reconnect`.
    pub reconnect_hosts: Vec<HostPort>,
    /// What to do when the pool's jobs begin to pay somebody else.
    pub on_payout_change: OnPayoutChange,
}

/// What happens when a pool's jobs begin to pay somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPayoutChange {
    /// An alarm is raised, once for each change.
    Alarm,
    /// An alarm is raised, and miners move to another target if there is one.
    FailOver,
    /// Nothing. This suits pools whose coinbase pays the miners directly, so that it changes often.
    Ignore,
}

impl Target {
    /// A target with all settings but name, address and user at their defaults.
    #[must_use]
    pub fn new(name: &str, host: &str, port: u16, user: &str) -> Self {
        Self {
            name: name.to_owned(),
            disabled: false,
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            password: Secret::new("x"),
            user_agent: USER_AGENT.to_owned(),
            extranonce2_size: None,
            start_difficulty: Difficulty::ONE,
            suggest_difficulty: None,
            shares_per_sec: 5.0,
            shares_per_sec_max: 1000.0,
            hold_max: Duration::from_secs(300),
            max_connections: 64,
            tls: None,
            reconnect_hosts: Vec::new(),
            on_payout_change: OnPayoutChange::Alarm,
        }
    }

    #[must_use]
    pub fn at(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }

    /// What its section says, in a line.
    #[must_use]
    pub fn summary(&self) -> TargetSummary<'_> {
        let tls = self.tls.as_ref().map(Tls::trust);
        TargetSummary {
            name: &self.name,
            address: self.at().to_string(),
            user_identity: &self.user,
            tls: tls.is_some(),
            trust: tls,
            disabled: self.disabled,
        }
    }
}

/// What `tieline check` shows of a target: JSON for programs, and a line for people, without the
/// name.
#[derive(Debug, Serialize)]
pub struct TargetSummary<'a> {
    name: &'a str,
    address: String,
    user_identity: &'a str,
    tls: bool,
    #[serde(skip)]
    trust: Option<Trust>,
    disabled: bool,
}

impl fmt::Display for TargetSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match self.trust {
            None => "",
            Some(Trust::Anybody) => ", TLS without verification",
            Some(_) => ", TLS",
        };
        let disabled = if self.disabled { ", disabled" } else { "" };
        write!(f, "{} as {}{tls}{disabled}", self.address, self.user_identity)
    }
}

/// The user agent that we send, unless a target has its own. Pools that choose the size of their
/// coinbase by the user agent assume old firmware for an unknown one, and send a small coinbase.
/// That is what the S19 miners behind us need.
const USER_AGENT: &str = concat!("tieline/", env!("CARGO_PKG_VERSION"));

impl Config {
    /// How this target is used.
    #[must_use]
    pub fn use_of(&self, target: TargetId) -> TargetUse {
        let is_passed_through =
            self.servers.iter().any(|server| server.passthrough == Some(target));
        TargetUse::decide(self.targets[target].disabled, is_passed_through)
    }

    /// The targets with which the proxy does anything.
    pub fn used_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|(id, _)| self.use_of(*id).is_used()).map(|(_, target)| target)
    }
}

/// How each target is used, by what can be read of its section and of the servers.
pub(super) fn uses(servers: &[Section<'_>], targets: &[Section<'_>]) -> Vec<TargetUse> {
    let is_passed_through = |target: &Section<'_>| {
        let name = target.peek_str("name");
        name.is_some() && servers.iter().any(|server| server.peek_str("passthrough") == name)
    };
    let is_disabled = |target: &Section<'_>| target.peek_bool("disabled").unwrap_or(false);
    targets
        .iter()
        .map(|target| TargetUse::decide(is_disabled(target), is_passed_through(target)))
        .collect()
}

/// Reads a `[[target]]`.
pub(super) fn read(section: Section<'_>, roots: &PlatformRoots) -> Option<Target> {
    section.renamed("user", "user_identity");
    let name = read_name(&section);
    let url = section.required_str("url").and_then(|url| match parse_url(url) {
        Ok(address) => Some(address),
        Err(why) => {
            section.mistake("url", why);
            None
        }
    });
    let user = section.required_str("user_identity");
    if user.is_some_and(|user| user.chars().any(|c| c.is_whitespace() || c.is_control())) {
        section.mistake("user_identity", "must not contain spaces or control characters");
    }
    let password = match section.secret_file("password_file") {
        Some(secret) => {
            if section.has("password") {
                section.mistake("password", "given beside password_file: keep one of them");
            }
            secret
        }
        None => Secret::new(section.str_or("password", "x")),
    };
    let tls = tls::read(&section, url.as_ref(), roots);
    let known = Target::new(name.unwrap_or_default(), "", 1, user.unwrap_or_default());
    let target = Target {
        disabled: section.bool_or("disabled", known.disabled),
        password,
        user_agent: section.str_or("user_agent", &known.user_agent).to_owned(),
        extranonce2_size: section.optional_integer("extranonce2_size", 2..=16),
        start_difficulty: section
            .optional_float("start_difficulty", DIFFICULTY_RANGE)
            .and_then(Difficulty::new)
            .unwrap_or(known.start_difficulty),
        suggest_difficulty: section
            .optional_float("suggest_difficulty", DIFFICULTY_RANGE)
            .and_then(Difficulty::new),
        shares_per_sec: section.float_or("shares_per_sec", 0.01..=10_000.0, known.shares_per_sec),
        shares_per_sec_max: section.float_or(
            "shares_per_sec_max",
            0.1..=1e6,
            known.shares_per_sec_max,
        ),
        hold_max: section.duration_or("hold_max", Duration::ZERO..=HOUR, known.hold_max),
        max_connections: section.integer_or("max_connections", 1..=4096, known.max_connections),
        reconnect_hosts: read_reconnect_hosts(&section),
        on_payout_change: section.choice_or(
            "on_payout_change",
            &ON_PAYOUT_CHANGE,
            known.on_payout_change,
        ),
        ..known
    };
    if target.shares_per_sec_max < 4.0 * target.shares_per_sec {
        // A pool's difficulty may be wrong by a factor of four before it is asked for another.
        section.mistake("shares_per_sec_max", "must be at least four times `shares_per_sec`");
    }
    section.finish();
    let (HostPort { host, port }, wants_tls) = url?;
    // A target whose TLS keys have mistakes must not become one without TLS.
    let complete = name.is_some() && user.is_some() && wants_tls == tls.is_some();
    complete.then_some(Target { host, port, tls, ..target })
}

const ON_PAYOUT_CHANGE: [(&str, OnPayoutChange); 3] = [
    ("alarm", OnPayoutChange::Alarm),
    ("fail_over", OnPayoutChange::FailOver),
    ("ignore", OnPayoutChange::Ignore),
];

fn read_reconnect_hosts(section: &Section<'_>) -> Vec<HostPort> {
    let mut hosts = Vec::new();
    for text in section.strings("reconnect_hosts").unwrap_or_default() {
        match parse_host_port(text) {
            Ok(host) => hosts.push(host),
            Err(why) => section.mistake("reconnect_hosts", format!("{text:?}: {why}")),
        }
    }
    if hosts.len() > RECONNECT_HOSTS_MAX {
        section.mistake(
            "reconnect_hosts",
            format!("{} entries; at most {RECONNECT_HOSTS_MAX}", hosts.len()),
        );
    }
    hosts
}

/// Maximum number of `reconnect_hosts` of a target.
const RECONNECT_HOSTS_MAX: usize = 64;
