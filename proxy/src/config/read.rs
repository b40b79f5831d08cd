//! Reads the sections of a settings file that describe a proxy; those of targets are in [`super::target`].

use std::net::SocketAddr;
use std::time::Duration;

use daemon::settings::Section;
use stratum::difficulty::Difficulty;

use super::between::{self, Named, Taken, names};
use super::target::{self, Target};
use super::tls::PlatformRoots;
use super::values::{DIFFICULTY_RANGE, HOUR, check_name, read_name};
use super::{Config, NoUpstream, PoolPatience, Server};
use crate::share_log::ShareLogConfig;
use crate::target::PerTarget;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Maximum number of `[[server]]` entries, and of `[[target]]` entries.
const ENTRIES_MAX: usize = 1000;

/// Reads the proxy's part of a settings file. `taken` are addresses that no server may have.
/// Mistakes are collected in the file's document. Returns `None` if no configuration can be made
/// from what is left.
#[must_use]
pub fn read(root: &Section<'_>, taken: &[Taken<'_>]) -> Option<Config> {
    root.refuse(
        "routing",
        "[[routing]] is not yet supported: the order of [[target]] is the priority",
    );
    let document = root.document();
    let [servers, targets] = ["server", "target"].map(|key| root.tables(key));
    let [server_names, target_names] = [&servers, &targets].map(|sections| names(sections));
    for (key, names) in [("server", &server_names), ("target", &target_names)] {
        match names.len() {
            // A key that is not a list of tables was reported when it was read.
            0 if root.is_empty(key) => {
                root.mistake(key, format!("no [[{key}]]: at least one is needed"));
            }
            0..=ENTRIES_MAX => between::check_names(document, key, names),
            count => root.mistake(key, format!("{count} entries; at most {ENTRIES_MAX}")),
        }
    }
    let uses = target::uses(&servers, &targets);
    between::check_listeners_have_targets(document, &servers, &targets, &uses);
    between::check_addresses(document, &servers, &targets, taken);
    between::check_backups(document, &targets, &uses);
    let target_names = PerTarget::from(target_names);

    let roots = PlatformRoots::default();
    let targets: Vec<Option<Target>> =
        targets.into_iter().map(|target| target::read(target, &roots)).collect();
    let servers: Vec<Option<Server>> =
        servers.into_iter().map(|server| read_server(server, &target_names)).collect();
    let rest = read_rest(root);
    let servers: Option<Vec<Server>> = servers.into_iter().collect();
    let targets: Option<Vec<Target>> = targets.into_iter().collect();
    let (servers, targets) = (servers?, targets?);
    let complete = !servers.is_empty() && !targets.is_empty();
    complete.then_some(Config { servers, targets: targets.into(), ..rest })
}

/// Reads `[proxy]`: all but the servers and targets.
fn read_rest(root: &Section<'_>) -> Config {
    let defaults = Config::new(Vec::new(), Vec::new());
    let section = root.table_or_empty("proxy");
    let patience = section.table_or_empty("pool");
    let pool = PoolPatience {
        handshake: patience.duration_or("handshake", SECOND..=HOUR, defaults.pool.handshake),
        suspect: patience.duration_or(
            "suspect",
            Duration::from_millis(100)..=HOUR,
            defaults.pool.suspect,
        ),
        answer: patience.duration_or(
            "answer",
            Duration::from_millis(500)..=HOUR,
            defaults.pool.answer,
        ),
        quiet: patience.duration_or("quiet", SECOND..=DAY, defaults.pool.quiet),
        job_every: patience.duration_or(
            "job_every",
            Duration::ZERO..=5 * SECOND,
            defaults.pool.job_every,
        ),
    };
    if pool.suspect >= pool.answer {
        patience.mistake("suspect", "must be shorter than `answer`");
    }
    patience.finish();
    let name = section.str_or("name", &defaults.name).to_owned();
    check_name(&section, &name);
    let config = Config {
        name,
        extranonce2_size: read_extranonce2_size(&section),
        failback_after: section.duration_or(
            "failback_after",
            Duration::ZERO..=DAY,
            defaults.failback_after,
        ),
        no_upstream: read_no_upstream(&section),
        sessions_max: section.integer_or("sessions_max", 1..=1_000_000, defaults.sessions_max),
        threads: section.integer_or("threads", 1..=64, default_threads()),
        handshake_timeout: section.duration_or(
            "handshake_timeout",
            SECOND..=HOUR,
            defaults.handshake_timeout,
        ),
        ping_every: section.duration_or(
            "ping_every",
            SECOND..=Duration::from_secs(60),
            defaults.ping_every,
        ),
        refresh_after: section.duration_or("refresh_after", SECOND..=HOUR, defaults.refresh_after),
        report_every: section.duration_or(
            "report_every",
            Duration::from_millis(100)..=HOUR,
            defaults.report_every,
        ),
        shutdown_grace: section.duration_or(
            "shutdown_grace",
            Duration::ZERO..=HOUR,
            defaults.shutdown_grace,
        ),
        pool,
        share_log: section.table("share_log").and_then(read_share_log),
        ..defaults
    };
    section.finish();
    config
}

fn read_share_log(section: Section<'_>) -> Option<ShareLogConfig> {
    let enabled = section.bool_or("enabled", false);
    let dir = section.required_path("dir");
    // There is one format so far. The key is there so that a file can say which one it expects.
    section.choice_or("format", &[("jsonl", ())], ());
    let rotate_bytes = section.integer_or("rotate_bytes", 1 << 20..=1 << 40, 256 << 20);
    let rotate_every = section.duration_or("rotate_every", MINUTE..=31 * DAY, DAY);
    let keep = section.integer_or("keep", 1..=1_000_000, 400);
    section.finish();
    let dir = dir?;
    enabled.then_some(ShareLogConfig { dir, rotate_bytes, rotate_every, keep })
}

fn read_server(section: Section<'_>, targets: &PerTarget<Named<'_>>) -> Option<Server> {
    let name = read_name(&section);
    let listen = section.required_str("listen").and_then(|text| match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            section.mistake(
                "listen",
                format!("{text:?} is no address with a port, such as \"0.0.0.0:3333\""),
            );
            None
        }
    });
    let known =
        Server::new(name.unwrap_or_default(), listen.unwrap_or_else(|| ([0, 0, 0, 0], 0).into()));
    let min_difficulty =
        read_power_of_two(&section, "min_difficulty").unwrap_or(known.min_difficulty);
    let max_difficulty =
        read_power_of_two(&section, "max_difficulty").unwrap_or(known.max_difficulty);
    if max_difficulty < min_difficulty {
        section.mistake(
            "max_difficulty",
            format!("{max_difficulty} is below min_difficulty {min_difficulty}"),
        );
    }
    let said = read_power_of_two(&section, "difficulty");
    if let Some(said) = said {
        for (wrong, bound, limit) in [
            (said < min_difficulty, "below min", min_difficulty),
            (said > max_difficulty, "above max", max_difficulty),
        ] {
            if wrong {
                section.mistake("difficulty", format!("{said} is {bound}_difficulty {limit}"));
            }
        }
    }
    let server = Server {
        difficulty: said.unwrap_or(known.difficulty).min(max_difficulty).max(min_difficulty),
        min_difficulty,
        max_difficulty,
        vardiff: section.bool_or("vardiff", known.vardiff),
        share_interval: section.duration_or(
            "share_interval",
            SECOND..=10 * MINUTE,
            known.share_interval,
        ),
        // A difficulty that the operator gives for this port is better than a guess from the user
        // agent.
        by_user_agent: section.bool_or("by_user_agent", said.is_none()),
        passthrough: section.optional_str("passthrough").and_then(|name| {
            // A name that leads nowhere was reported with the checks between sections.
            targets.find(|target| target.name == Some(name))
        }),
        ..known
    };
    section.finish();
    (name.is_some() && listen.is_some()).then_some(server)
}

fn read_power_of_two(section: &Section<'_>, key: &str) -> Option<Difficulty> {
    let number = section.optional_float(key, DIFFICULTY_RANGE)?;
    let difficulty = Difficulty::new(number)?;
    let floor = difficulty.power_of_two_at_or_below();
    if floor != difficulty {
        section.mistake(
            key,
            format!("{difficulty} is no power of two: firmware would round it down to {floor}"),
        );
    }
    Some(floor)
}

/// One thread for each processor, up to eight. All but one work only while there is much to do at
/// once, such as sending a new job to ten thousand miners.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(8))
}

fn read_extranonce2_size(section: &Section<'_>) -> Option<u8> {
    match section.str_or("extranonce2_size", "auto") {
        "auto" => None,
        "3" => Some(3),
        "4" => Some(4),
        other => {
            section
                .mistake("extranonce2_size", format!("{other:?} is not \"auto\", \"3\" or \"4\""));
            None
        }
    }
}

fn read_no_upstream(section: &Section<'_>) -> NoUpstream {
    let after = section.duration_or("release_after", SECOND..=DAY, Duration::from_secs(120));
    let release =
        section.choice_or("no_upstream", &[("hold", false), ("release_after", true)], true);
    if release { NoUpstream::ReleaseAfter(after) } else { NoUpstream::Hold }
}

#[cfg(test)]
mod tests;
