//! `tieline status`: an overview of the site; what needs attention comes first.

use std::fmt::Write as _;
use std::time::Duration;

use directive::{GuardState, MachineId};
use proxy::{Counts, TargetView, Workers};
use serde_json::{Value, json};
use switchboard::blackout::FeedSupply;
use switchboard::plausible::MeterState;
use switchboard::view::{
    DeadFeedView, DoubtedMeter, FeedView, FeedsAnswer, MachineCounts, NewcomersView, OffCountView,
    SleepersView, StatusView, UnassignedView,
};

use crate::cli::Server;
use crate::client::{Answer, Client};
use crate::failure::Failure;
use crate::figures::{age, counted, grouped, hashrate, kilowatts, kw, short};
use crate::lease::shortage;
use crate::output::{hanging, print, width, wrapped};
use crate::table::{Column, Table, printable};
use crate::times::Shown;

/// Prints the overview.
///
/// # Errors
/// When the process does not answer.
pub fn status(server: &Server) -> Result<(), Failure> {
    let client = Client::new(server)?;
    // A process may have a proxy, a switchboard, or both.
    let site = Some(client.get("/v1/status")?).filter(|answer| !answer.is_error());
    let feeds = site.as_ref().map(|_| client.require("/v1/feeds")).transpose()?;
    let targets = match client.get("/v1/targets")? {
        answer if answer.is_error() && site.is_some() => None,
        _ => Some(client.require("/v1/targets")?),
    };
    let of_proxy = |path| targets.as_ref().map(|_| client.require(path)).transpose();
    let counts = of_proxy("/v1/counts")?;
    let workers = of_proxy("/v1/workers?sort=-hashrate&limit=5")?;
    if server.json {
        let json = |answer: Option<&Answer>| answer.map_or(Ok(Value::Null), Answer::read);
        let all = json!({
            "targets": json(targets.as_ref())?,
            "counts": json(counts.as_ref())?,
            "workers": json(workers.as_ref())?,
            "site": json(site.as_ref())?,
            "feeds": feeds.as_ref().map(Answer::read::<FeedsAnswer>).transpose()?.map(|feeds| feeds.feeds),
        });
        return print(&all.to_string());
    }
    let mut text = String::new();
    if let (Some(site), Some(feeds)) = (&site, &feeds) {
        let site: StatusView = site.read()?;
        let shown = Shown::new(&site.timezone);
        text = control_plane(&site, &feeds.read()?, &shown, width());
    }
    if let (Some(targets), Some(counts), Some(workers)) = (&targets, &counts, &workers) {
        if site.is_some() {
            text.push('\n');
        }
        let targets: Vec<TargetView> = targets.read()?;
        text.push_str(&data_plane(&targets, &counts.read()?, &workers.read()?, width()));
    }
    print(&text)
}

/// When the limit of a feed changes next, and to what.
fn next_limit(feed: &FeedView, shown: &Shown) -> Option<String> {
    let (at, next) = feed.usable_changes_at.zip(feed.usable_next)?;
    let (verb, at) = (if next < feed.usable { "falls" } else { "rises" }, shown.moment(at));
    Some(format!("{}: usable {verb} to {} kW at {at}", feed.feed, kw(next)))
}

/// The part about the switchboard.
#[must_use]
pub fn control_plane(
    site: &StatusView,
    feeds: &FeedsAnswer,
    shown: &Shown,
    width: usize,
) -> String {
    let mut text =
        wrapped(&printable(&format!("site {}; {}", site.site, shown.heading())), width, 0);
    let alarms = alarms(site, shown);
    if !alarms.is_empty() {
        text.push('\n');
    }
    for alarm in alarms {
        text.push_str(&hanging(&alarm, width));
    }

    let mut table = Table::new([
        Column::name("feed"),
        Column::number("usable kW"),
        Column::number("leased").optional(),
        Column::number("band").optional(),
        Column::number("metered"),
        Column::text("meter"),
        Column::number("headroom"),
        Column::number("room"),
        Column::number("permits").optional(),
        Column::number("guardable"),
        Column::name("guard"),
    ]);
    let measured = |power: Option<directive::Watts>| power.map_or_else(|| "-".to_owned(), kw);
    for feed in &feeds.feeds {
        table.row([
            feed.feed.as_str(),
            &kw(feed.usable),
            &kw(feed.committed),
            &kw(feed.band),
            &measured(feed.metered),
            meter(feed),
            &measured(feed.headroom),
            &measured(feed.room),
            &kw(feed.permitted),
            &measured(feed.guard.as_ref().map(|guard| guard.guardable)),
            guard(feed),
        ]);
    }
    let _ = write!(text, "\n{}", table.render(width).text);
    for feed in &feeds.feeds {
        text.push_str(
            &next_limit(feed, shown).map_or_else(String::new, |line| hanging(&line, width)),
        );
    }
    let _ = write!(text, "\n{}", groups(site).render(width).text);

    if !site.machines_off_by_cause.is_empty() {
        let _ = write!(text, "\n{}", off_by_cause(site).render(width).text);
    }

    let some = |counts: Vec<(&str, u32)>| -> Option<String> {
        let some: Vec<String> = counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| format!("{} {state}", grouped(count)))
            .collect();
        (!some.is_empty()).then(|| some.join(", "))
    };
    text.push('\n');
    let leases = some(site.leases_by_state.iter().map(|(phase, n)| (phase.as_str(), *n)).collect());
    let _ = writeln!(text, "leases: {}", leases.unwrap_or_else(|| "none".to_owned()));
    let reports = site.receivers.iter().map(|receiver| {
        let ago = age(Duration::try_from_secs_f64(receiver.age_secs).unwrap_or_default());
        let fresh = match (receiver.attached, receiver.fresh) {
            (_, true) => "",
            (true, false) => " (TOO OLD)",
            (false, false) => " (TOO OLD, NOT ATTACHED)",
        };
        format!("{} {ago} ago{fresh}", receiver.receiver)
    });
    let reports: Vec<String> = reports.collect();
    let reports = if reports.is_empty() { "none yet".to_owned() } else { reports.join(", ") };
    text.push_str(&hanging(&format!("reports: {reports}"), width));
    let horizon = site.horizon.map(|horizon| format!(" up to {}", shown.moment(horizon)));
    let _ = writeln!(
        text,
        "plan {}{}; ledger entry {}",
        site.number,
        horizon.unwrap_or_default(),
        grouped(site.ledger.seq)
    );
    text
}

/// What is thought of the feed's meter, in a word. What needs attention is in capitals.
fn meter(feed: &FeedView) -> &'static str {
    match feed.meter_health.as_ref().map(|meter| meter.state) {
        None => "-",
        Some(MeterState::Ok) => "ok",
        Some(MeterState::ScaledUp) => "SCALED UP",
        Some(MeterState::ScaledDown) => "SCALED DOWN",
        Some(MeterState::Phase) => "PHASE",
        Some(MeterState::Frozen) => "FROZEN",
        Some(MeterState::Silent) => "SILENT",
        Some(MeterState::AboveParent) => "ABOVE PARENT",
        Some(MeterState::BelowChildren) => "BELOW CHILDREN",
    }
}

/// The line about a meter that is not `ok`.
fn doubted(meter: &DoubtedMeter, shown: &Shown) -> String {
    let since = shown.moment(meter.meter.since);
    match &meter.meter.why {
        Some(why) => format!("since {since}, {why}; it proves nothing and raises nothing"),
        None => format!("the meter of {} has been silent since {since}", meter.feed),
    }
}

/// What the guard of the feed does, in a word. What needs attention is in capitals.
fn guard(feed: &FeedView) -> &'static str {
    match feed.guard.as_ref().map(|guard| guard.state) {
        None => "none",
        Some(GuardState::Watching) => "watching",
        Some(GuardState::Tripped) => "TRIPPED",
        Some(GuardState::Suspect) => "SUSPECT METER",
        Some(GuardState::MeterLost) => "METER LOST",
    }
}

/// What needs attention, one line each.
fn alarms(site: &StatusView, shown: &Shown) -> Vec<String> {
    let mut alarms: Vec<String> = site
        .short_leases
        .iter()
        .map(|short| format!("{}: lease {}", shortage(&short.short, shown), short.lease))
        .collect();
    let told = |feed| site.short_leases.iter().any(|short| short.short.feed == feed);
    alarms.extend(
        site.deficits
            .iter()
            .filter(|deficit| !told(deficit.feed.clone()))
            .map(|deficit| shortage(deficit, shown)),
    );
    if let Some(failure) = &site.ledger.failure {
        alarms.push(format!("the ledger takes no entries, and no lease is committed: {failure}"));
    }
    if let Some(refused) = &site.policy_refused {
        alarms.push(format!(
            "policy refused at {}, the former one stays in force: {}",
            shown.moment(refused.at),
            refused.why.trim_end()
        ));
    }
    if let Some(refused) = &site.configuration_not_applied {
        alarms.push(format!(
            "configuration not applied (read at {}): {}",
            shown.moment(refused.at),
            refused.why.trim_end()
        ));
    }
    alarms.extend(site.dead_feeds.iter().map(|dead| without_power(dead, shown)));
    alarms.extend(site.meters_not_ok.iter().map(|meter| doubted(meter, shown)));
    if let Some(why) = &site.raises_withheld {
        alarms.push(format!("machines wait to come back: {why}"));
    }
    alarms.extend(site.drivers_down.iter().map(|down| {
        let fault = down.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
        format!(
            "driver {} is down since {} ({} that it reaches, {} to sleep){fault}",
            down.driver,
            shown.moment(down.since),
            counted(down.machines_reached, "machine"),
            grouped(down.machines_unanswered),
        )
    }));
    alarms.extend(unassigned(&site.unassigned));
    alarms.extend(newcomers(&site.newcomers));
    alarms.extend(sleepers(&site.asleep_not_by_us, shown).map(|sleepers| {
        format!("asleep, not by us: {sleepers}; `tieline machine adopt` takes them over")
    }));
    alarms.extend(sleepers(&site.asleep_out_of_reach, shown).map(|sleepers| {
        format!("put to sleep by us, and out of reach of every driver: {sleepers}")
    }));
    alarms.into_iter().map(|alarm| printable_lines(&alarm)).collect()
}

/// A feed that has no power, or has it again and settles.
fn without_power(dead: &DeadFeedView, shown: &Shown) -> String {
    let DeadFeedView { feed, state, since, until } = dead;
    let since = shown.moment(*since);
    match (state, until) {
        (FeedSupply::Reclosing, Some(until)) => format!(
            "feed {feed} was without power from {since} on; nothing is raised there before {}, and \
             not before it is steady",
            shown.moment(*until)
        ),
        (FeedSupply::Reclosing, None) => format!(
            "feed {feed} was without power from {since} on and has it again; nothing is raised there \
             before its meter is read and steady"
        ),
        _ => format!("feed {feed} has no power since {since}: nothing is raised there"),
    }
}

/// Machines that no group claims: those that have work or a device count as load, the others wait.
fn unassigned(view: &UnassignedView) -> Option<String> {
    let UnassignedView { count, waiting, examples: names, feed, .. } = view;
    let all = count.saturating_add(*waiting);
    let counts = (*count > 0).then(|| {
        let load = kilowatts(view.counted);
        format!("{} counted as {load} at {feed}", grouped(*count))
    });
    let waits = (*waiting > 0).then(|| {
        format!("{} without work: give a group a pattern for the names, or set `unassigned = \"count\"` in [site]", grouped(*waiting))
    });
    let parts: Vec<String> = counts.into_iter().chain(waits).collect();
    (all > 0).then(|| {
        let machines = counted(all, "machine");
        let names = examples(names, all);
        format!("{machines} that no group of the policy claims ({names}): {}", parts.join(", "))
    })
}

/// Machines that wait for room before they get work. Why they wait is said of all that do.
fn newcomers(view: &NewcomersView) -> Option<String> {
    let NewcomersView { waiting, examples: names } = view;
    (*waiting > 0).then(|| {
        let machines = counted(*waiting, "machine");
        let names = examples(names, *waiting);
        format!(
            "{machines} new, or back after a long time, without work until there is room ({names})"
        )
    })
}

/// The number of machines, the names of the first ten, and since when the first of them sleeps.
fn sleepers(view: &SleepersView, shown: &Shown) -> Option<String> {
    let since = view.machines.iter().map(|machine| machine.since).min()?;
    let names: Vec<MachineId> = view.machines.iter().map(|one| one.machine.clone()).collect();
    let names = examples(&names, view.count);
    let machines = counted(view.count, "machine");
    Some(format!("{machines} since {} ({names})", shown.moment(since)))
}

fn examples(names: &[MachineId], count: u32) -> String {
    let mut list: Vec<&str> = names.iter().map(MachineId::as_str).collect();
    if count as usize > names.len() {
        list.push("…");
    }
    list.join(", ")
}

/// Escapes control characters in each line; the mistakes in a policy have several lines.
fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn groups(site: &StatusView) -> Table {
    let mut table = Table::new([
        Column::name("group"),
        Column::name("feed"),
        Column::number("declared"),
        Column::number("seen"),
        Column::number("hashing"),
        Column::number("asleep"),
        Column::number("failing"),
    ]);
    let mut row = |name: &str, feed: &str, counts: &MachineCounts| {
        let MachineCounts { declared, seen, hashing, asleep, failing } = *counts;
        let counts = [declared, seen, hashing, asleep, failing].map(grouped);
        table.row([name.to_owned(), feed.to_owned()].into_iter().chain(counts));
    };
    for group in &site.groups {
        row(group.group.as_str(), group.feed.as_str(), &group.machine_counts);
    }
    if site.groups.len() > 1 {
        row("all", "", &site.machine_counts);
    }
    table
}

/// The machines that are off or must be, by their causes.
fn off_by_cause(site: &StatusView) -> Table {
    let mut table = Table::new([
        Column::text("off by cause"),
        Column::number("machines"),
        Column::number("off kW"),
    ]);
    let mut all = OffCountView::default();
    for (by, off) in &site.machines_off_by_cause {
        table.row([by.phrase(), &grouped(off.count), &kw(off.off)]);
        all.count = all.count.saturating_add(off.count);
        all.off += off.off;
    }
    if site.machines_off_by_cause.len() > 1 {
        table.row(["all", &grouped(all.count), &kw(all.off)]);
    }
    table
}

/// The part about the proxy.
#[must_use]
pub fn data_plane(
    targets: &[TargetView],
    counts: &Counts,
    workers: &Workers,
    width: usize,
) -> String {
    let mut table = Table::new([
        Column::name("target"),
        Column::text("state"),
        Column::number("sessions"),
        Column::number("difficulty"),
    ]);
    for target in targets {
        let difficulty = target.difficulty.map_or_else(|| "-".to_owned(), short);
        table.row([&target.name, target.state().text(), &grouped(target.sessions), &difficulty]);
        if let Some(fault) = &target.last_fault {
            table.note(&format!("last fault: {fault}"));
        }
    }
    let mut text = table.render(width).text;
    let _ = writeln!(
        text,
        "\n{}, {} together over 10 min; `tieline workers` lists them",
        counted(workers.page.total as u64, "worker"),
        hashrate(workers.hashrate.m10)
    );
    let shares = format!(
        "shares: {} accepted, {} local ({} at risk), {} rejected by pools, {} unresolved, \
         {} stale, {} duplicate, {} low",
        grouped(counts.accepted),
        grouped(counts.local),
        grouped(counts.at_risk),
        grouped(counts.pool_rejected),
        grouped(counts.unresolved),
        grouped(counts.stale),
        grouped(counts.duplicate),
        grouped(counts.low)
    );
    text.push_str(&hanging(&shares, width));
    text
}

#[cfg(test)]
pub(crate) mod tests;
