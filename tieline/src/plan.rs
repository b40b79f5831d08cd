//! `tieline plan`: what will happen, when and why, for people. Shortages come first.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use directive::{Action, GroupId, LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;
use switchboard::commitment::Phase;
use switchboard::view::{LeaseView, PlanView, StepView};

use crate::cli::Server;
use crate::client::Client;
use crate::failure::Failure;
use crate::figures::{counted, grouped, kilowatts};
use crate::lease::{self, shortage};
use crate::output::{hanging, print, width, wrapped};
use crate::table::{Column, Table, printable};
use crate::times::Shown;

/// Shows the plan.
///
/// # Errors
/// When the process does not answer, or has no switchboard.
pub fn plan(server: &Server, machines: bool) -> Result<(), Failure> {
    let client = Client::new(server)?;
    let answer = client.require_of_switchboard("/v1/plan")?;
    if server.json {
        return print(&answer.text);
    }
    let plan: PlanView = answer.read()?;
    // Leases beyond the horizon are in no plan.
    let leases = lease::leases(&client, "open")?.leases;
    print(&text(&plan, &leases, &Shown::new(&plan.timezone), width(), machines))
}

/// The plan as text. With `machines`, it also lists their names and the full reason of each step.
#[must_use]
pub fn text(
    view: &PlanView,
    leases: &[LeaseView],
    shown: &Shown,
    width: usize,
    machines: bool,
) -> String {
    let mut text = String::new();
    for line in shortages(view, shown) {
        text.push_str(&hanging(&printable(&line), width));
    }
    let Some(plan) = &view.plan else {
        text.push_str("no plan yet: no proxy and no agent has reported since the start\n");
        return text;
    };
    let (failsafe, steps): (Vec<&StepView>, Vec<&StepView>) =
        plan.steps.iter().partition(|step| step.failsafe);
    let later = later(leases, shown);
    if steps.is_empty() {
        let nothing = if text.is_empty() {
            let horizon = shown.moment(plan.horizon);
            match later.is_empty() {
                true => format!("nothing to do before {horizon}: every machine may run"),
                false => {
                    format!("nothing to do before {horizon}; every machine may run until then")
                }
            }
        } else {
            format!("no steps before {}", shown.moment(plan.horizon))
        };
        text.push_str(&wrapped(&nothing, width, 0));
    } else {
        if !text.is_empty() {
            text.push('\n');
        }
        days(&mut text, folded(&steps, shown), shown, width, machines);
    }
    for line in later {
        text.push_str(&wrapped(&printable(&line), width, 0));
    }
    if !failsafe.is_empty() {
        let line = fail_safe(&failsafe, plan.horizon, shown);
        let _ = write!(text, "\n{}", wrapped(&printable(&line), width, 0));
        if machines {
            text.push_str(&names(failsafe.iter().flat_map(|step| &step.machine_names), width));
        }
    }
    let _ = writeln!(text, "\nplan {}; {}", view.number, shown.heading());
    text
}

/// The shortages, one line each.
fn shortages(view: &PlanView, shown: &Shown) -> Vec<String> {
    let mut lines: Vec<String> = view
        .short_leases
        .iter()
        .map(|short| format!("{}: lease {}", shortage(&short.short, shown), short.lease))
        .collect();
    let feeds = view.plan.iter().flat_map(|plan| &plan.deficits);
    let told = |feed| view.short_leases.iter().any(|short| short.short.feed == feed);
    lines.extend(
        feeds.filter(|deficit| !told(deficit.feed.clone())).map(|deficit| shortage(deficit, shown)),
    );
    lines
}

/// Leases beyond the plan's horizon, one line each.
fn later(leases: &[LeaseView], shown: &Shown) -> Vec<String> {
    leases
        .iter()
        .filter(|lease| lease.state < Phase::Active && lease.cancelled_at.is_none())
        .filter_map(|lease| Some((lease, lease.in_plan_from?)))
        .map(|(lease, from)| {
            format!(
                "lease {} enters the plan at {}; it starts at {}",
                lease.id,
                shown.moment(from),
                shown.moment(lease.start)
            )
        })
        .collect()
}

/// Several steps of one group for one reason, shown as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub from: Timestamp,
    pub to: Timestamp,
    pub group: GroupId,
    pub action: Action,
    pub means: Means,
    pub lease: Option<LeaseId>,
    /// The machines, in the order of the steps.
    pub machines: Vec<MachineId>,
    /// The reason of the first step, as text of the switchboard.
    pub reason: String,
    /// The number of steps.
    pub steps: usize,
}

/// Steps that are further apart than this are not joined into one line: no ramp waits this long
/// between two of its steps.
const APART: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Joins consecutive steps of one group and reason into one line each, ordered by their first
/// steps. A line does not extend over midnight.
#[must_use]
pub fn folded(steps: &[&StepView], shown: &Shown) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for step in steps {
        // The newest line of the group for this reason, unless the group has changed direction
        // since.
        let follows = lines
            .iter_mut()
            .rev()
            .filter(|line| line.group == step.group)
            .take_while(|line| line.action.sheds() == step.action.sheds())
            .find(|line| line.is_for(step))
            .filter(|line| step.at.duration_since(line.to) <= APART)
            .filter(|line| shown.date(line.from) == shown.date(step.at));
        match follows {
            Some(line) => {
                line.to = step.at;
                line.steps += 1;
                line.machines.extend(step.machine_names.iter().cloned());
            }
            None => lines.push(Line {
                from: step.at,
                to: step.at,
                group: step.group.clone(),
                action: step.action,
                means: step.means,
                lease: step.lease.clone(),
                machines: step.machine_names.clone(),
                reason: step.reason.clone(),
                steps: 1,
            }),
        }
    }
    lines
}

impl Line {
    fn is_for(&self, step: &StepView) -> bool {
        self.action == step.action
            && self.means == step.means
            && self.lease == step.lease
            && kind(&self.reason) == kind(&step.reason)
    }
}

/// The part of a reason that all steps of a ramp share: the text before the figures.
fn kind(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(kind, _)| kind)
}

/// Tables of the steps that were carried out and are still in force, and of the steps to come, by
/// day.
fn days(text: &mut String, lines: Vec<Line>, shown: &Shown, width: usize, machines: bool) {
    let (done, coming): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|line| line.to <= shown.now);
    if !done.is_empty() {
        let time = |line: &Line| shown.span(line.from, line.to);
        text.push_str("done already\n");
        text.push_str(&table(&done, &time, shown, width, machines));
        if !coming.is_empty() {
            text.push('\n');
        }
    }
    let time = |line: &Line| {
        let (from, to) = (shown.time(line.from), shown.time(line.to));
        if from == to { from } else { format!("{from}–{to}") }
    };
    let mut rest = coming.as_slice();
    while let Some(first) = rest.first() {
        let date = shown.date(first.from);
        let day = rest.iter().take_while(|line| shown.date(line.from) == date).count();
        let (lines, others) = rest.split_at(day);
        let _ = writeln!(text, "{}", shown.day(first.from));
        text.push_str(&table(lines, &time, shown, width, machines));
        if !others.is_empty() {
            text.push('\n');
        }
        rest = others;
    }
}

fn table(
    lines: &[Line],
    time: &dyn Fn(&Line) -> String,
    shown: &Shown,
    width: usize,
    machines: bool,
) -> String {
    let mut table = Table::new([
        Column::text("time"),
        Column::text("do"),
        Column::number("machines"),
        Column::name("group"),
        Column::name("why"),
    ]);
    for line in lines {
        let distinct: BTreeSet<&MachineId> = line.machines.iter().collect();
        table.row([
            time(line).as_str(),
            does(line.action, line.means),
            &grouped(distinct.len() as u64),
            line.group.as_str(),
            &why(line),
        ]);
        if machines {
            let reason = shown.localized(&line.reason);
            table.note(&match line.steps {
                1 => reason,
                // The figures in the reason are those of the first step.
                steps => format!("{}, the first: {reason}", counted(steps as u64, "step")),
            });
            table.note(&listed(&line.machines));
        }
    }
    table.render(width).text
}

fn does(action: Action, means: Means) -> &'static str {
    match (action, means) {
        (Action::Run, _) => "wake",
        (Action::Hold, _) => "hold",
        (Action::Drain, Means::Device) => "sleep",
        (Action::Drain, Means::Starve) => "starve",
        (Action::Curtail, _) => "sleep now",
        (Action::Lockout, _) => "lock out",
    }
}

fn why(line: &Line) -> String {
    match &line.lease {
        Some(lease) if line.action.sheds() => format!("lease {lease}"),
        Some(lease) => format!("lease {lease} is over"),
        None => kind(&line.reason).to_owned(),
    }
}

/// All steps that are carried out only if no newer plan comes, in one line.
fn fail_safe(steps: &[&StepView], horizon: Timestamp, shown: &Shown) -> String {
    let mut down: Vec<String> = Vec::new();
    for step in steps {
        if let Some((_, to)) = step.reason.rsplit_once("down to ")
            && !down.contains(&rounded(to))
        {
            down.push(rounded(to));
        }
    }
    let machines: BTreeSet<&MachineId> =
        steps.iter().flat_map(|step| &step.machine_names).collect();
    let machines = counted(machines.len() as u64, "machine");
    let down = match down.as_slice() {
        [] => "off".to_owned(),
        feeds => format!("down to {}", feeds.join(", ")),
    };
    format!("if no newer plan arrives by {}: {down} ({machines})", shown.moment(horizon))
}

/// Formats `12000.000 kW at xfmr-a` for people.
fn rounded(power: &str) -> String {
    let watts = power
        .split_once(" kW")
        .and_then(|(kw, rest)| Some((Watts::from_kw(kw.parse().ok()?)?, rest)));
    watts.map_or_else(|| power.to_owned(), |(watts, rest)| format!("{}{rest}", kilowatts(watts)))
}

fn listed(machines: &[MachineId]) -> String {
    machines.iter().map(MachineId::as_str).collect::<Vec<_>>().join(" ")
}

fn names<'m>(machines: impl Iterator<Item = &'m MachineId>, width: usize) -> String {
    let names: Vec<MachineId> = machines.cloned().collect();
    wrapped(&printable(&listed(&names)), width, 4)
}

#[cfg(test)]
mod tests;
