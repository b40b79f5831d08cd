//! What sound files say, in a few lines: listeners, targets, feeds, groups.

use agent::settings::GuardSettings;
use directive::Watts;
use serde_json::{Value, json};
use switchboard::facility::{Feed, Group, LimitChange};
use switchboard::policy::{Declared, declared};

use crate::figures::length;
use crate::files::SitePolicy;
use crate::output::{LEAST_WIDTH, wrapped};
use crate::settings::Settings;

/// The lines of a configuration.
pub(super) fn configuration(settings: &Settings) -> Vec<String> {
    let proxy = settings.proxy.as_ref().map(proxy_rows).unwrap_or_default();
    let changes = match &settings.token_file {
        Some(path) => format!("changes need the token in {}", path.display()),
        None => "no token_file, so nothing can be changed over HTTP".to_owned(),
    };
    let admin = ["http".to_owned(), settings.admin_listen.to_string(), changes];
    let (policy, without) = match (&settings.switchboard, &settings.proxy) {
        (Some(control), Some(_)) => (control.policy.display().to_string(), ""),
        (Some(control), None) => (control.policy.display().to_string(), "no proxy"),
        (None, _) => ("none, a proxy without switchboard".to_owned(), ""),
    };
    let control = ["policy".to_owned(), policy, without.to_owned()];
    let agent = agent_rows(&settings.agent);
    table(proxy.into_iter().chain([admin, control]).chain(agent).collect())
}

/// The rows of listeners and targets.
fn proxy_rows(proxy: &proxy::Config) -> Vec<[String; 3]> {
    let listeners = proxy.servers.iter().map(|server| {
        let rest = match server.passthrough {
            Some(target) => {
                format!("; each miner has its own connection to {}", proxy.targets[target].name)
            }
            None => String::new(),
        };
        ["listener".to_owned(), server.name.clone(), format!("{}{rest}", server.listen)]
    });
    let targets = proxy
        .targets
        .values()
        .map(|target| ["target".to_owned(), target.name.clone(), target.summary().to_string()]);
    listeners.chain(targets).collect()
}

/// The rows of drivers and meters.
fn agent_rows(agent: &agent::Settings) -> Vec<[String; 3]> {
    let drivers = agent
        .drivers
        .iter()
        .map(|driver| ["driver".to_owned(), driver.name.clone(), driver.driver.summary.clone()]);
    let meters = agent
        .meters
        .iter()
        .map(|meter| ["meter".to_owned(), meter.id.to_string(), meter.source.summary.clone()]);
    let hook = agent.hook.iter().map(|hook| {
        let every = length(hook.every);
        ["hook".to_owned(), hook.feed_over.join(" "), format!("at most every {every} for a feed")]
    });
    let guards = agent.guards.iter().map(|GuardSettings { guard, .. }| {
        let rest = format!("{} by {}, until a policy is heard", kw(guard.limit), guard.meter);
        ["guard".to_owned(), guard.feed.to_string(), rest]
    });
    let (drivers, meters) =
        (limited(drivers.collect(), "driver"), limited(meters.collect(), "meter"));
    [drivers, meters, hook.collect(), limited(guards.collect(), "guard")].concat()
}

/// The first rows, and how many more there are.
fn limited(mut rows: Vec<[String; 3]>, what: &str) -> Vec<[String; 3]> {
    let more = rows.len().saturating_sub(ROWS_MAX);
    rows.truncate(ROWS_MAX);
    if more > 0 {
        rows.push([what.to_owned(), format!("and {more} more"), String::new()]);
    }
    rows
}

/// The lines of a policy. In the former spelling it has drivers and meters, too.
pub(super) fn policy(site: &SitePolicy) -> Vec<String> {
    let SitePolicy { policy, former, .. } = site;
    let sums = declared(policy.facility.feeds().as_slice(), policy.facility.groups());
    let zone = policy.facility.timezone_name();
    let site = ["site".to_owned(), policy.facility.site().to_owned(), format!("time zone {zone}")];
    let feeds = policy.facility.feeds().iter().map(|feed| {
        let sum = sums.get(&feed.id).copied().unwrap_or_default();
        let meter = match &feed.meter {
            Some(meter) => format!("meter {meter}"),
            None => "no meter".to_owned(),
        };
        let (least, most) = (feed.least_usable(), feed.most_usable());
        let usable = match feed.limit.changes().count() {
            0 => kw(most),
            count => format!(
                "{} to {} ({})",
                kw(least),
                kw(most),
                plural(u64::try_from(count).unwrap_or(u64::MAX), "change")
            ),
        };
        let rest = format!("{usable} usable, {} declared, {meter}", kw(sum.load()));
        ["feed".to_owned(), feed.id.to_string(), rest]
    });
    let groups = policy.facility.groups().iter().map(|group| {
        let rest = format!(
            "{} x {} = {} at {}, {}",
            plural(u64::from(group.machines), "machine"),
            kw(group.watts),
            kw(Watts(group.watts.0.saturating_mul(i64::from(group.machines)))),
            group.feed,
            backing(group)
        );
        ["group".to_owned(), group.id.to_string(), rest]
    });
    let feeds = limited(feeds.collect(), "feed");
    let groups = limited(groups.collect(), "group");
    table([site].into_iter().chain(feeds).chain(groups).chain(agent_rows(former)).collect())
}

/// Whether a group backs firm leases, and if not, why.
fn backing(group: &Group) -> &'static str {
    match (&group.driver, group.shed_p95) {
        (Some(_), Some(_)) => "backs firm leases",
        (Some(_), None) => "backs no firm lease without shed_p95",
        (None, _) => "backs no firm lease without a driver",
    }
}

pub(super) fn configuration_json(settings: &Settings) -> Value {
    let proxy = settings.proxy.as_ref();
    let (listeners, targets) = proxy.map(proxy_json).unwrap_or_default();
    json!({
        "listeners": listeners,
        "targets": targets,
        "admin_listen": settings.admin_listen.to_string(),
        "roles": roles(settings),
        "policy": settings.switchboard.as_ref().map(|control| control.policy.display().to_string()),
        "drivers": settings.agent.drivers.iter().map(|driver| &driver.name).collect::<Vec<_>>(),
        "meters": settings.agent.meters.iter().map(|meter| &meter.id).collect::<Vec<_>>(),
    })
}

/// The roles that a configuration describes. A switchboard brings its agent.
fn roles(settings: &Settings) -> Vec<&'static str> {
    let switchboard = settings.switchboard.is_some();
    let all = [
        ("proxy", settings.proxy.is_some()),
        ("switchboard", switchboard),
        ("agent", switchboard || !settings.agent.is_empty()),
    ];
    all.into_iter().filter(|(_, described)| *described).map(|(role, _)| role).collect()
}

/// The listeners and the targets.
fn proxy_json(proxy: &proxy::Config) -> (Vec<Value>, Vec<Value>) {
    let listeners: Vec<Value> = proxy
        .servers
        .iter()
        .map(|server| {
            let target = server.passthrough.map(|target| &proxy.targets[target]);
            json!({
                "name": server.name,
                "listen": server.listen.to_string(),
                "passthrough": target.map(|target| &target.name),
            })
        })
        .collect();
    let targets = proxy.targets.values().map(|target| json!(target.summary())).collect();
    (listeners, targets)
}

/// When the limit of a feed changes, and what is usable from then on.
fn changes(feed: &Feed) -> Vec<Value> {
    let change = |change: LimitChange| json!({ "from": change.at, "usable_kw": feed.usable_of(change.after).kw() });
    feed.limit.changes().map(change).collect()
}

pub(super) fn policy_json(site: &SitePolicy) -> Value {
    let SitePolicy { policy, former, .. } = site;
    let sums = declared(policy.facility.feeds().as_slice(), policy.facility.groups());
    let feeds: Vec<Value> = policy
        .facility
        .feeds()
        .iter()
        .map(|feed| {
            let Declared { house, machines, mining } =
                sums.get(&feed.id).copied().unwrap_or_default();
            json!({
                "name": feed.id,
                "parent": feed.parent,
                "usable_kw": feed.usable_of(feed.limit.first()).kw(),
                "usable_changes": changes(feed),
                "declared_kw": (house + mining).kw(),
                "machines": machines,
                "meter": feed.meter,
            })
        })
        .collect();
    let groups: Vec<Value> = policy
        .facility
        .groups()
        .iter()
        .map(|group| {
            json!({
                "name": group.id,
                "feed": group.feed,
                "machines": group.machines,
                "asic_kw": group.watts.kw(),
                "backs_firm": group.backs_firm(),
            })
        })
        .collect();
    json!({
        "site": policy.facility.site(),
        "timezone": policy.facility.timezone().iana_name(),
        "feeds": feeds,
        "groups": groups,
        "drivers": former.drivers.iter().map(|driver| &driver.name).collect::<Vec<_>>(),
        "meters": policy.facility.meters().keys().collect::<Vec<_>>(),
    })
}

/// Aligns the first two columns.
fn table(rows: Vec<[String; 3]>) -> Vec<String> {
    // A row without a third column does not widen the others.
    let wide = |column: usize| {
        let texts = rows.iter().filter(|row| !row[2].is_empty());
        texts.map(|row| row[column].chars().count()).max().unwrap_or(0).min(NAME_MAX)
    };
    let [kind, name] = [0, 1].map(wide);
    // The following lines begin below the third column, so that they are not taken for rows.
    let indent = kind + name + 2 * GAP;
    let rest = |text: &str| -> Vec<String> {
        let room = (LEAST_WIDTH - MARGIN).saturating_sub(indent).max(REST_MIN);
        wrapped(text, room, 0).lines().map(str::to_owned).collect()
    };
    rows.iter()
        .flat_map(|[a, b, c]| {
            let first = format!("{a:kind$}  {b:name$}");
            let mut lines = rest(c).into_iter();
            let line = format!("{first}  {}", lines.next().unwrap_or_default());
            let more = lines.map(|line| format!("{}{line}", " ".repeat(indent)));
            std::iter::once(line.trim_end().to_owned()).chain(more).collect::<Vec<_>>()
        })
        .collect()
}

/// Power for people: `11,044.8 kW`.
fn kw(watts: Watts) -> String {
    let sign = if watts.0 < 0 { "-" } else { "" };
    let whole = thousands(watts.0.unsigned_abs() / 1000);
    let rest = format!("{:03}", watts.0.unsigned_abs() % 1000);
    match rest.trim_end_matches('0') {
        "" => format!("{sign}{whole} kW"),
        rest => format!("{sign}{whole}.{rest} kW"),
    }
}

fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", thousands(count))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The maximum number of rows of one kind: a longer list would hide the rest.
const ROWS_MAX: usize = 20;
/// The maximum width that a name gives its column.
const NAME_MAX: usize = 24;
/// The number of spaces between two columns.
const GAP: usize = 2;
/// The number of spaces before each line.
const MARGIN: usize = 2;
/// The minimum width of the third column.
const REST_MIN: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_exact_and_grouped() {
        for (watts, want) in [
            (0, "0 kW"),
            (50, "0.05 kW"),
            (3_068, "3.068 kW"),
            (11_044_800, "11,044.8 kW"),
            (37_500_000, "37,500 kW"),
            (1_000_000_000, "1,000,000 kW"),
            (-1_500, "-1.5 kW"),
        ] {
            assert_eq!(kw(Watts(watts)), want, "{watts}");
        }
    }
}
