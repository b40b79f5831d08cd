//! The policy file. It becomes a [`Policy`] whose names are resolved and whose figures are checked,
//! or a list of all its mistakes, each with line and key. No environment variable changes a policy,
//! so that the digest of the file covers all of it. What becomes of open leases under a changed
//! policy is left to [`crate::core`]. Whether the agent has the drivers and meters that the policy
//! names is left to the program that starts switchboard and agent.

mod declared;
mod feeds;
mod groups;
mod limits;
mod meters;
mod names;
mod power;
mod read_rules;
mod rules;
mod site;
mod timezone;

use std::path::Path;

use daemon::settings::{Document, Mistakes, Section};
use sha2::{Digest, Sha256};

use crate::facility::{Facility, FacilityParts};
use names::names_of;

/// The only schema that this version reads.
pub const SCHEMA: &str = "tieline.policy/1";

pub use declared::{Declared, declared};
pub use groups::covers;
pub use rules::{Dispatch, Failsafe, GuardRules, Merit, Newcomers, Policy, Ramp, Unassigned};

/// The result of reading a policy file.
#[derive(Debug)]
pub struct Checked {
    /// The policy, or all of its mistakes: a policy with a mistake is not used at all.
    pub policy: Result<Policy, Mistakes>,
    pub warnings: Mistakes,
}

/// Reads the policy file.
#[must_use]
pub fn check(path: &Path) -> Checked {
    match Document::read(path) {
        Ok(document) => read(&document),
        Err(mistakes) => Checked { policy: Err(mistakes), warnings: Mistakes::default() },
    }
}

/// Reads the policy file and drops its warnings.
pub fn load(path: &Path) -> Result<Policy, Mistakes> {
    check(path).policy
}

/// Reads a policy from text. Mistakes name `file_name`, and relative paths start from its folder.
pub fn parse(text: &str, file_name: &str) -> Result<Policy, Mistakes> {
    read(&Document::parse(file_name, text)?).policy
}

/// Reads a policy from a parsed document.
#[must_use]
pub fn read(document: &Document) -> Checked {
    let policy = read_into(document);
    Checked { policy: document.conclude(policy), warnings: document.warnings() }
}

/// Reads a policy, and leaves its mistakes and warnings in the document, for a program that has
/// more to check in the same file.
#[must_use]
pub fn read_into(document: &Document) -> Option<Policy> {
    build(document, &document.root())
}

/// Whether a settings file is a policy, valid or not. Its schema decides, or its sections if it has
/// none.
#[must_use]
pub fn is_policy(document: &Document) -> bool {
    let root = document.root();
    match root.peek_str("schema") {
        Some(schema) => schema.starts_with(SCHEMA.trim_end_matches(|c: char| c.is_ascii_digit())),
        None => {
            let has = |keys: &[&str]| keys.iter().any(|key| root.has(key));
            has(&["feed", "group", "site"]) && !has(&["server", "target", "switchboard", "proxy"])
        }
    }
}

fn build(document: &Document, root: &Section<'_>) -> Option<Policy> {
    check_schema(document, root);
    let revision = root.optional_integer("revision", 0..=u64::MAX);
    root.renamed("timezone", "site.timezone");
    root.refuse("driver", "drivers stand in the configuration; a group names its driver");
    let [feeds, groups, meters] = ["feed", "group", "meter"].map(|kind| root.named_tables(kind));
    let feed_names = names_of(&feeds);
    let lacking = feeds::without_constraint(&feeds);
    let limits = feeds.iter().map(|(name, feed)| (name.clone(), feed.spot("limit_kw"))).collect();
    feeds::check_meters(document, &feeds);

    let feeds = feeds::read(document, root, feeds, &feed_names);
    let groups = groups::read(document, root, groups, &feed_names, lacking);
    let meters = meters::read(meters, feeds.as_deref());
    if let (Some(feeds), Some(groups)) = (&feeds, &groups) {
        declared::check(document, feeds, groups, &limits);
    }
    let root_feed = feeds.as_deref().and_then(<[_]>::first).map(|feed| feed.id.clone());
    let site = site::read(document, root, &feed_names, root_feed);
    let dispatch = read_rules::read_dispatch(&root.table_or_empty("dispatch"));
    let ramp = read_rules::read_ramp(&root.table_or_empty("ramp"));
    let guard = read_rules::read_guard(&root.table_or_empty("guard"));
    let failsafe = read_rules::read_failsafe(&root.table_or_empty("failsafe"));
    root.finish();

    let site = site?;
    let facility = Facility::new(FacilityParts {
        site: site.name,
        timezone: site.timezone,
        feeds: feeds?,
        groups: groups?,
        meters,
        unassigned: site.unassigned,
        unassigned_feed: site.unassigned_feed,
    });
    Some(Policy {
        facility: facility.expect("every name was resolved, and feeds come after their parents"),
        revision,
        digest: const_hex::encode(Sha256::digest(document.text())),
        dispatch: dispatch?,
        ramp: ramp?,
        guard: guard?,
        failsafe: failsafe?,
        unassigned: site.unassigned_sessions,
        newcomers: site.newcomers,
        reclose_settle: site.reclose_settle,
    })
}

fn check_schema(document: &Document, root: &Section<'_>) {
    if let Some(schema) = root.required_str("schema")
        && schema != SCHEMA
    {
        let message = format!("{schema:?} is no schema this version reads");
        document.report(&root.spot("schema"), message, Some(SCHEMA.to_owned()));
    }
}

#[cfg(test)]
mod tests;
