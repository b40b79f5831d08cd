//! Checks between sections: names must be unique, names that are referred to must exist, and two
//! listeners cannot have one address. The checks read the sections as they stand in the file, so
//! that a mistake in one section hides no mistake in another, and is reported once.

use std::net::{IpAddr, SocketAddr};

use daemon::settings::{Document, Section, Spot};

use super::address::parse_url;
use crate::target::TargetUse;

/// An address on which something else in this process listens.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// What uses the address, in the words of a message, such as `[admin]`.
    pub by: &'a str,
    pub address: SocketAddr,
}

/// The name of a `[[server]]` or `[[target]]`, if it has one, and its place in the file.
pub(super) struct Named<'a> {
    pub(super) name: Option<&'a str>,
    spot: Spot,
}

/// The names of all entries, including entries with mistakes.
pub(super) fn names<'a>(sections: &[Section<'a>]) -> Vec<Named<'a>> {
    sections
        .iter()
        .map(|section| Named { name: section.peek_str("name"), spot: section.spot("name") })
        .collect()
}

/// Reports each entry that has the name of an earlier one.
pub(super) fn check_names(document: &Document, key: &str, names: &[Named<'_>]) {
    for (index, later) in names.iter().enumerate() {
        let Some(name) = later.name else { continue };
        let former = names[..index].iter().find(|former| former.name == Some(name));
        if let Some(former) = former {
            let message = format!("two [[{key}]] are named {name:?}{}", first(document, former));
            document.report(&later.spot, message, None);
        }
    }
}

fn first(document: &Document, former: &Named<'_>) -> String {
    document
        .line(&former.spot)
        .map_or_else(String::new, |line| format!(", the first of them on line {line}"))
}

/// Reports servers whose `passthrough` names no target or a disabled one, and the first server
/// without `passthrough` if no target is left for it. If all targets are disabled, that is the one
/// report.
pub(super) fn check_listeners_have_targets(
    document: &Document,
    servers: &[Section<'_>],
    targets: &[Section<'_>],
    uses: &[TargetUse],
) {
    let known = || targets.iter().filter_map(|target| target.peek_str("name"));
    let disabled = |used: &TargetUse| *used == TargetUse::Disabled;
    let all_disabled = uses.iter().all(disabled);
    if let Some(first) = targets.first().filter(|_| all_disabled) {
        let message = "every [[target]] is disabled: at least one must not be";
        document.report(&first.spot("disabled"), message.to_owned(), None);
    }
    for server in servers {
        let Some(name) = server.peek_str("passthrough") else { continue };
        if !known().any(|known| known == name) {
            let meant = document.suggest(name, known());
            let message = format!("no [[target]] is named {name:?}");
            document.report(&server.spot("passthrough"), message, meant);
        }
        let mut named =
            targets.iter().zip(uses).filter(|(of, _)| of.peek_str("name") == Some(name));
        if !all_disabled && named.any(|(_, used)| disabled(used)) {
            let message =
                format!("[[target]] {name:?} is disabled: this listener would have no pool");
            document.report(&server.spot("passthrough"), message, None);
        }
    }
    let shared = servers.iter().find(|server| !server.has("passthrough"));
    if let Some(server) = shared
        && !all_disabled
        && !uses.iter().any(|used| used.is_shared())
    {
        let name = server.peek_str("name").unwrap_or_default();
        let or = if uses.iter().any(disabled) { "disabled or " } else { "" };
        let message =
            format!("{name:?} has no target: each is {or}the passthrough of another [[server]]");
        document.report(&server.spot("name"), message, None);
    }
}

/// Reports listeners whose address overlaps that of another listener or of `taken`, and targets
/// whose address is that of a listener of ours.
pub(super) fn check_addresses(
    document: &Document,
    servers: &[Section<'_>],
    targets: &[Section<'_>],
    taken: &[Taken<'_>],
) {
    let mut bound: Vec<(String, SocketAddr)> =
        taken.iter().map(|taken| (taken.by.to_owned(), taken.address)).collect();
    let others = bound.len();
    for (index, server) in servers.iter().enumerate() {
        let Some(address) = server.peek_str("listen").and_then(|text| text.parse().ok()) else {
            continue;
        };
        let spot = server.spot("listen");
        if let Some((by, other)) = bound.iter().find(|(_, other)| overlap(*other, address)) {
            let message = format!(
                "{address} is in use by {by} ({other}): give each listener a port of its own"
            );
            document.report(&spot, message, None);
        }
        if address.port() == 0 {
            let message =
                "with port 0 the system picks another port at each start: miners would not find it";
            document.warn(&spot, message, None);
        }
        let by = server
            .peek_str("name")
            .map_or_else(|| format!("server[{index}]"), |name| format!("[[server]] {name:?}"));
        bound.push((by, address));
    }
    for target in targets {
        let url = target.peek_str("url").and_then(|url| parse_url(url).ok());
        let Some((at, _)) = url else { continue };
        let own = bound[others..].iter().find(|(_, bound)| leads_to(&at.host, at.port, *bound));
        if let Some((by, _)) = own {
            let message = format!("is the address of {by}: this proxy would be its own pool");
            document.report(&target.spot("url"), message, None);
        }
    }
}

/// Warns of two shared targets with the same address and user: they fail together.
pub(super) fn check_backups(document: &Document, targets: &[Section<'_>], uses: &[TargetUse]) {
    let mut former: Vec<(String, &str, &str)> = Vec::new();
    for (target, _) in targets.iter().zip(uses).filter(|(_, used)| used.is_shared()) {
        let [name, url, user] =
            ["name", "url", "user_identity"].map(|key| target.peek_str(key).unwrap_or_default());
        let Ok((at, _)) = parse_url(url) else { continue };
        let at = at.to_string().to_ascii_lowercase();
        let same = former.iter().find(|(other, who, _)| *other == at && *who == user);
        if let Some((_, _, other)) = same {
            let message = format!(
                "the same pool and user as [[target]] {other:?}: it is no backup, since both fail together"
            );
            document.warn(&target.spot("url"), message, None);
        }
        former.push((at, user, name));
    }
}

/// Whether two addresses cannot both be listened on. `[::]` includes the IPv4 addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, ip: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && ip.is_ipv4(),
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Whether a pool's address is certainly that of our own listener. Host names other than
/// `localhost` are not resolved, so they never count.
fn leads_to(host: &str, port: u16, listener: SocketAddr) -> bool {
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical(),
        Err(_) if host.eq_ignore_ascii_case("localhost") => [127, 0, 0, 1].into(),
        Err(_) => return false,
    };
    let everywhere = listener.ip().is_unspecified();
    port == listener.port()
        && (ip == listener.ip().to_canonical()
            || (everywhere && (ip.is_loopback() || ip.is_unspecified())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_overlap_by_port_and_by_addresses_that_stand_for_all() {
        for (one, other, want) in [
            ("127.0.0.1:3333", "127.0.0.1:3333", true),
            ("127.0.0.1:3333", "127.0.0.1:3334", false),
            ("127.0.0.1:3333", "127.0.0.2:3333", false),
            ("0.0.0.0:3333", "127.0.0.1:3333", true),
            ("192.0.2.1:3333", "0.0.0.0:3333", true),
            ("[::]:3333", "127.0.0.1:3333", true),
            ("[::]:3333", "[::1]:3333", true),
            ("0.0.0.0:3333", "[::1]:3333", false),
            ("[::ffff:127.0.0.1]:3333", "127.0.0.1:3333", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let [one, other]: [SocketAddr; 2] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!(overlap(one, other), want, "{one} {other}");
            assert_eq!(overlap(other, one), want, "{other} {one}");
        }
    }

    #[test]
    fn only_an_address_that_is_surely_ours_leads_back() {
        for (host, listener, want) in [
            ("127.0.0.1", "0.0.0.0:3333", true),
            ("localhost", "127.0.0.1:3333", true),
            ("LOCALHOST", "0.0.0.0:3333", true),
            ("::1", "[::]:3333", true),
            ("192.0.2.1", "192.0.2.1:3333", true),
            ("192.0.2.1", "0.0.0.0:3333", false),
            ("127.0.0.1", "192.0.2.1:3333", false),
            ("127.0.0.1", "127.0.0.1:3334", false),
            ("pool.example", "0.0.0.0:3333", false),
        ] {
            assert_eq!(leads_to(host, 3333, listener.parse().unwrap()), want, "{host} {listener}");
        }
    }
}
