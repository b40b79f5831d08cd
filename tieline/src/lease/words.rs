//! Texts for leases: a list, a single lease, and the arithmetic of its admission.

use std::fmt::Write as _;
use std::time::Duration;

use directive::{LeaseId, Watts};
use switchboard::commitment::{Doing, Phase};
use switchboard::inventory::MachineState;
use switchboard::view::{
    AdmissionAnswer, AmendmentAnswer, BreachView, LeaseAnswer, LeaseView, LineView, Shortage,
};

use crate::figures::{counted, grouped, kilowatts, kw, length};
use crate::output::wrapped;
use crate::table::{Column, Table, printable};
use crate::times::Shown;

/// All leases as a table, with notes below each.
pub(super) fn list(leases: &[LeaseView], shown: &Shown, width: usize) -> String {
    let mut rendered = table(leases, shown, false).render(width);
    if !rendered.left_out.is_empty() {
        rendered = table(leases, shown, true).render(width);
    }
    format!("{}\n{}\n", rendered.text, shown.heading())
}

/// The table. Tenants have a column or, if there is no room for it, a line below each lease.
fn table(leases: &[LeaseView], shown: &Shown, tenants_below: bool) -> Table {
    let mut table = Table::new([
        Column::name("lease"),
        Column::text("state"),
        Column::number("kW"),
        Column::name("feed"),
        Column::text("from"),
        Column::text("to"),
        Column::name("tenant").optional(),
    ]);
    for lease in leases {
        let tenant = if tenants_below { "" } else { lease.tenant.as_str() };
        table.row([
            lease.id.as_str(),
            lease.state.as_str(),
            &kw(lease.gross),
            lease.feed.as_str(),
            &shown.moment(lease.start),
            &shown.moment(lease.end),
            tenant,
        ]);
        if tenants_below {
            table.note(&format!("tenant {}", lease.tenant));
        }
        for note in notes(lease, shown) {
            table.note(&note);
        }
    }
    table
}

/// Notes on a lease besides its figures, the most serious first.
pub(super) fn notes(lease: &LeaseView, shown: &Shown) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(short) = &lease.short {
        notes.push(shortage(short, shown));
    }
    if let Some(breach) = lease.breaches.last() {
        let more = match lease.breaches.len() {
            1 => String::new(),
            count => format!(" ({count} breaches in all)"),
        };
        notes.push(format!("BREACHED at {}{more}", breached(breach, shown)));
    }
    if let Some(unconfirmed) = &lease.unconfirmed {
        notes.push(format!(
            "UNCONFIRMED since {}: {} not confirmed to be asleep by their devices ({})",
            shown.moment(unconfirmed.since),
            counted(unconfirmed.machines.count, "machine"),
            unconfirmed.machines.names()
        ));
    } else if let Some(at) = lease.unconfirmed_at {
        notes.push(format!("was unconfirmed at {}", shown.moment(at)));
    }
    if lease.unverified {
        let why = lease.unverified_why.as_deref().unwrap_or(
            "it rests on machines that can only be starved of work, which proves nothing",
        );
        notes.push(format!("UNVERIFIED: {}", shown.localized(why)));
    }
    if let Some(at) = lease.cancelled_at {
        notes.push(format!("cancelled at {}", shown.moment(at)));
    }
    // A part that an earlier note already has is not repeated.
    let told = |part: &str| {
        part.contains(" unconfirmed since ")
            || lease.short.is_some() && part.starts_with("short ")
            || lease.breaches.last().is_some_and(|breach| breach.why.contains(part))
    };
    let reason: Vec<&str> =
        lease.state_reason.split("; ").filter(|part| !part.is_empty() && !told(part)).collect();
    if !reason.is_empty() {
        notes.push(shown.localized(&reason.join("; ")));
    }
    notes
}

/// When a promise was not kept, by how much and why.
fn breached(breach: &BreachView, shown: &Shown) -> String {
    let how = if breach.measured { "" } else { " (not measured)" };
    let whose = match breach.doing {
        None => "",
        Some(Doing::Ours) => ", our doing",
        Some(Doing::Tenant) => ", the tenant's doing",
        Some(Doing::House) => ", by the house",
        Some(Doing::Derate) => ", by a lowered limit",
        Some(Doing::Meter) => ", by a wrong meter",
    };
    format!(
        "{}, {} missing{how}{whose}: {}",
        shown.moment(breach.at),
        kilowatts(breach.missing),
        shown.localized(&breach.why)
    )
}

/// The text for a shortage, the same in every command.
pub(crate) fn shortage(short: &Shortage, shown: &Shown) -> String {
    short.words(shown.zone.time_zone(), shown.now)
}

/// All details of one lease.
pub(super) fn show(answer: &LeaseAnswer, shown: &Shown, width: usize) -> String {
    let LeaseAnswer { lease, arithmetic: lines, .. } = answer;
    let beyond = lease.in_plan_from.map(|at| format!(" (in the plan from {})", shown.moment(at)));
    let state = lease.state.as_str();
    let mut text = format!("lease {}: {state}{}\n", lease.id, beyond.unwrap_or_default());
    let in_heading =
        |note: &String| lease.in_plan_from.is_some() && note.starts_with("in the plan from ");
    for note in notes(lease, shown).into_iter().filter(|note| !in_heading(note)) {
        text.push_str(&wrapped(&printable(&note), width, 2));
    }
    let mut fact = |name: &str, words: String| {
        let words = wrapped(&printable(&words), width, FACT_INDENT);
        let _ = writeln!(text, "  {name:<11}{}", words.trim());
    };
    fact("tenant", lease.tenant.clone());
    fact(
        "power",
        format!(
            "{} at {} ({} of IT × PUE {})",
            kilowatts(lease.gross),
            lease.feed,
            kilowatts(lease.it),
            lease.pue
        ),
    );
    fact("time", shown.span(lease.start, lease.end));
    let ready = lease.start.duration_since(lease.ready_from);
    let ready = Duration::try_from(ready).unwrap_or_default();
    if !ready.is_zero() {
        let by = shown.moment(lease.ready_from);
        fact("ready by", format!("{by}, {} before the start", length(ready)));
    }
    if let Some(before) = &lease.follows {
        fact("follows", follows(lease, before));
    }
    if let Some(meter) = &lease.meter {
        fact("meter", meter.to_string());
    }
    fact("committed", shown.moment(lease.committed_at));
    let unproven = if lease.state >= Phase::Releasing { "never" } else { "not yet" };
    fact("proven", lease.proven_at.map_or_else(|| unproven.to_owned(), |at| shown.moment(at)));
    if let Some(at) = lease.closed_at {
        fact("closed", shown.moment(at));
    }
    match &lease.lease_plan {
        Some(plan) if plan.machines_planned == 0 => {
            if lease.short.is_some() {
                fact("plan", "no machine goes: none is known that could".to_owned());
            } else if lease.in_plan_from.is_none() {
                fact("plan", "no machine has to go: the power is free".to_owned());
            }
        }
        Some(plan) => {
            let starved = match plan.machines_starved {
                0 => String::new(),
                starved => format!(", {} of them only starved of work", grouped(starved)),
            };
            fact(
                "plan",
                format!(
                    "{} go{starved} and free {}",
                    counted(plan.machines_planned, "machine"),
                    kilowatts(plan.shed),
                ),
            );
        }
        None => {}
    }
    let nothing_goes = lease.lease_plan.as_ref().is_some_and(|plan| plan.machines_planned == 0);
    if let Some(latest) = lease.latest_safe_start
        && lease.state < Phase::Shedding
        && !nothing_goes
    {
        fact("sleep from", format!("{} at the latest", shown.moment(latest)));
    }
    if !lease.not_back.is_empty() {
        fact(
            "not back",
            format!("{} ({})", counted(lease.not_back.count, "machine"), lease.not_back.names()),
        );
    }
    if !lease.machines_by_state.is_empty() {
        let states = lease.machines_by_state.iter();
        let states: Vec<String> =
            states.map(|(state, count)| format!("{} {}", grouped(*count), does(*state))).collect();
        fact("machines", states.join(", "));
    }
    // The last breach is shown above.
    for breach in lease.breaches.iter().rev().skip(1).rev() {
        fact("breach", breached(breach, shown));
    }
    if !lines.is_empty() {
        let _ = write!(text, "\n{}", arithmetic(lines, shown, width));
    }
    let _ = writeln!(text, "\n{}", shown.heading());
    text
}

/// How `lease` follows the lease `before`.
fn follows(lease: &LeaseView, before: &LeaseId) -> String {
    let ready_before = Duration::from_secs(lease.ready_before_secs);
    let is_ready_in_time =
        lease.start.checked_sub(ready_before).is_ok_and(|by| by == lease.ready_from);
    if is_ready_in_time {
        format!("lease {before} of the same tenant, whose power it takes over")
    } else {
        format!("lease {before}: its power is free only when that one ends")
    }
}

/// The state of a machine, for people.
fn does(state: MachineState) -> &'static str {
    match state {
        MachineState::Running => "running",
        MachineState::Commanded => "told to go",
        MachineState::Asleep => "asleep (shares still expected)",
        MachineState::Curtailed => "asleep",
        MachineState::Starved => "starved of work",
        MachineState::Disobedient => "failing",
        MachineState::Returning => "coming back",
        MachineState::Unknown => "unknown",
    }
}

const FACT_INDENT: usize = 13;

/// The answer to a dry run.
pub(super) fn admission(
    answer: &AdmissionAnswer,
    feed: &str,
    shown: &Shown,
    width: usize,
) -> String {
    let mut text = wrapped(
        &format!(
            "it fits what the policy declares: {} at {feed}; nothing was committed",
            kilowatts(answer.gross)
        ),
        width,
        0,
    );
    if let Some(short) = &answer.short {
        text.push_str(&wrapped(&shortage(short, shown), width, 2));
    }
    if let Some(before) = &answer.follows {
        let from = shown.moment(answer.ready_from);
        let words = format!("it gets power of lease {before}; it is to be ready at {from}");
        text.push_str(&wrapped(&words, width, 2));
    }
    for other in &answer.short_leases {
        let words =
            format!("{}: lease {}, because of it", shortage(&other.short, shown), other.lease);
        text.push_str(&wrapped(&words, width, 2));
    }
    text.push_str(&wrapped(
        &format!(
            "machines must begin to go at {} at the latest: it takes {}",
            shown.moment(answer.latest_safe_start),
            answer.lead.text
        ),
        width,
        2,
    ));
    let _ = write!(text, "\n{}", arithmetic(&answer.arithmetic, shown, width));
    let _ = writeln!(text, "\n{}", shown.heading());
    text
}

/// The answer to a change of a lease's end, or to a dry run of one.
pub(super) fn amendment(
    answer: &AmendmentAnswer,
    dry_run: bool,
    shown: &Shown,
    width: usize,
) -> String {
    let (id, power, feed) = (&answer.id, kilowatts(answer.gross), &answer.feed);
    let (end, before) = (shown.moment(answer.end), shown.moment(answer.end_before));
    let words = if answer.end == answer.end_before {
        format!("lease {id} ends at {end} already: nothing was changed")
    } else if dry_run {
        let done = "nothing was changed";
        format!("lease {id} ({power} at {feed}) would end at {end} instead of {before}; {done}")
    } else {
        format!("lease {id} ({power} at {feed}) ends at {end} instead of {before}")
    };
    let mut text = wrapped(&words, width, 0);
    if let Some(short) = &answer.short {
        text.push_str(&wrapped(&shortage(short, shown), width, 2));
    }
    for other in &answer.short_leases {
        let words =
            format!("{}: lease {}, because of it", shortage(&other.short, shown), other.lease);
        text.push_str(&wrapped(&words, width, 2));
    }
    if !answer.arithmetic.is_empty() {
        let _ = write!(text, "\n{}", arithmetic(&answer.arithmetic, shown, width));
    }
    let _ = writeln!(text, "\n{}", shown.heading());
    text
}

/// The arithmetic of admission: a column for each feed up to the root, a line for each term.
pub(crate) fn arithmetic(lines: &[LineView], shown: &Shown, width: usize) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let headers = lines.iter().map(|line| Column::number_named(line.feed.as_str()));
    let mut table = Table::new(std::iter::once(Column::text("kW")).chain(headers));
    let mut row = |name: &str, cell: &dyn Fn(&LineView) -> String| {
        let cells = lines.iter().map(cell);
        table.row(std::iter::once(name.to_owned()).chain(cells));
    };
    let power = |get: fn(&LineView) -> Watts| move |line: &LineView| kw(get(line));
    row("usable", &power(|line| line.usable));
    row("− house", &power(|line| line.house));
    row("− other leases", &power(|line| line.committed));
    row("− machines asleep", &power(|line| line.residual));
    row("− machines that cannot go", &power(|line| line.unsheddable));
    row("− sessions of no group", &power(|line| line.unassigned));
    row("= available", &power(|line| line.available));
    row("asked", &power(|line| line.asked));
    if lines.iter().any(|line| line.missing > Watts::ZERO) {
        row("SHORT", &|line| match line.missing {
            Watts::ZERO => String::new(),
            missing => kw(missing),
        });
    }
    format!("{}{}", tightest(lines, shown, width), table.render(width).text)
}

/// The time at which each feed has the least room, whose figures are shown.
fn tightest(lines: &[LineView], shown: &Shown, width: usize) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let same = |other: &&LineView| (other.from, other.to) == (line.from, line.to);
        if lines[..index].iter().any(|earlier| same(&earlier)) {
            continue;
        }
        let feeds: Vec<&str> = lines.iter().filter(same).map(|line| line.feed.as_str()).collect();
        let span = shown.span(line.from, line.to);
        let sentence = format!("tightest for {}: {span}", feeds.join(", "));
        text.push_str(&wrapped(&printable(&sentence), width, 0));
    }
    text
}
