//! The policy file: what exists, how to decide, what is safe. Reads it into a [`Policy`] that
//! cannot be wrong, or into every mistake with its line and key. No environment variable changes a
//! policy, so that the digest of the file covers all of it. Whether the leases in the ledger still
//! fit it is left to the ledger, and whether the agent has the drivers and meters that it names is
//! left to the program that starts both.

mod declared;
mod feeds;
mod groups;
mod meters;
mod power;
mod read_rules;
mod rules;
mod timezone;

use std::path::Path;

use daemon::settings::{Document, Mistakes, Section};
use directive::{FeedId, Watts};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::facility::Policy;

/// The one schema this version reads.
pub const SCHEMA: &str = "tieline.policy/1";

pub use declared::{Declared, declared};
pub use groups::covers;
pub use rules::{Dispatch, Failsafe, Merit, Ramp};

/// A policy as read, with its warnings.
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

/// Reads a policy from text. `file_name` stands for it in mistakes, and relative paths start from
/// its folder.
pub fn parse(text: &str, file_name: &str) -> Result<Policy, Mistakes> {
    read(&Document::parse(file_name, text)?).policy
}

/// Reads a policy.
#[must_use]
pub fn read(document: &Document) -> Checked {
    let policy = read_into(document);
    Checked { policy: document.conclude(policy), warnings: document.warnings() }
}

/// Reads a policy and leaves its mistakes and warnings in the document, for a program that has more
/// to check there.
#[must_use]
pub fn read_into(document: &Document) -> Option<Policy> {
    build(document, &document.root())
}

/// Whether a settings file is a policy, sound or not: by its schema, else by its sections.
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
    let site = read_site(document, root, &feed_names, root_feed);
    let dispatch = read_rules::read_dispatch(&root.table_or_empty("dispatch"));
    let ramp = read_rules::read_ramp(&root.table_or_empty("ramp"));
    let failsafe = read_rules::read_failsafe(&root.table_or_empty("failsafe"));
    root.finish();

    let site = site?;
    Some(Policy {
        site: site.name,
        revision,
        digest: const_hex::encode(Sha256::digest(document.text())),
        timezone: site.timezone,
        unassigned: site.unassigned,
        unassigned_feed: site.unassigned_feed,
        feeds: feeds?,
        groups: groups?,
        meters,
        dispatch: dispatch?,
        ramp: ramp?,
        failsafe: failsafe?,
    })
}

/// The names that other sections may refer to. A section with a mistake counts too: the mistake is
/// reported there, once.
fn names_of(sections: &[(String, Section<'_>)]) -> Vec<String> {
    let mut names: Vec<String> = sections.iter().map(|(name, _)| name.clone()).collect();
    // Sorted for the look-ups.
    names.sort_unstable();
    names
}

/// Reads a key that names something, and checks that it exists.
fn reference<'a>(
    document: &Document,
    section: &Section<'a>,
    key: &str,
    kind: &str,
    known: &[String],
) -> Option<&'a str> {
    let name = section.optional_str(key)?;
    if known.binary_search_by(|known| known.as_str().cmp(name)).is_ok() {
        return Some(name);
    }
    let meant = document.suggest(name, known.iter().map(String::as_str));
    document.report(
        &section.spot(key),
        format!("there is no [{kind}.{}]", name.escape_debug()),
        meant,
    );
    None
}

fn check_schema(document: &Document, root: &Section<'_>) {
    if let Some(schema) = root.required_str("schema")
        && schema != SCHEMA
    {
        let message = format!("{schema:?} is no schema this version reads");
        document.report(&root.spot("schema"), message, Some(SCHEMA.to_owned()));
    }
}

struct Site {
    name: String,
    timezone: TimeZone,
    unassigned: Watts,
    unassigned_feed: FeedId,
}

fn read_site(
    document: &Document,
    root: &Section<'_>,
    feed_names: &[String],
    root_feed: Option<FeedId>,
) -> Option<Site> {
    let section = root.required_table("site");
    section.renamed("unassigned_w", "unassigned_kw");
    let name = section.required_str("name").map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.len() > NAME_MAX || name.chars().any(char::is_control))
    {
        section.mistake(
            "name",
            format!("must be at most {NAME_MAX} bytes without control characters"),
        );
    }
    let timezone = timezone::read(&section);
    let unassigned =
        section.optional("unassigned_kw", power::of_machine_or_none).unwrap_or(UNASSIGNED);
    let feed =
        reference(document, &section, "unassigned_feed", "feed", feed_names).map(FeedId::from);
    section.finish();
    Some(Site {
        name: name?,
        timezone: timezone?,
        unassigned,
        unassigned_feed: feed.or(root_feed)?,
    })
}

/// The power assumed for a session that no group declares: one current air-cooled machine.
const UNASSIGNED: Watts = Watts(3500);
const NAME_MAX: usize = 128;

#[cfg(test)]
mod tests;
