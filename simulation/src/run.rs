//! Plays a scenario and has its record judged.

use std::time::Duration;

use crate::judge::{Terms, Violation, judge};
use crate::record::Record;
use crate::role::agent::ANSWER_TIMEOUT;
use crate::scenario::{Act, Path, Scenario};
use crate::story::Story;
use crate::world::play;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub record: Record,
    pub violations: Vec<Violation>,
    pub story: Story,
}

/// Plays `scenario` to its end and judges it.
#[must_use]
pub fn run(scenario: &Scenario, story: Story) -> Outcome {
    let (record, story) = play(scenario, story);
    let violations = judge(&scenario.facility, &terms(scenario), &record);
    Outcome { record, violations, story }
}

/// No role looks at its clock more seldom than this.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// A loss that is rarer than one in a million is not allowed for.
const RARE: f64 = 1e-6;

/// What the judge allows for in this world.
fn terms(scenario: &Scenario) -> Terms {
    let (rules, roles, weather) = (scenario.rules, scenario.roles, scenario.weather);
    let most = |path| weather.delays(path).1;
    let report_every = roles.agent_report_every.max(roles.proxy_report_every);
    Terms {
        settle: rules.settle,
        prove_for: rules.prove_for,
        margin: rules.margin,
        #[expect(clippy::cast_possible_truncation, reason = "drawn as a small whole number")]
        make_up_percent: rules.make_up_percent as i64,
        up_per_min: rules.up_per_min,
        down_per_min: rules.down_per_min,
        up_step_machines: usize::try_from(rules.up_step_machines).unwrap_or(usize::MAX),
        up_step_interval: rules.up_step_interval,
        permit_every: rules.permit_every,
        message_max: most(Path::Down),
        command_max: most(Path::Device),
        driver_timeout: ANSWER_TIMEOUT,
        concurrency: roles.in_flight,
        loses_commands: weather.device_loss_percent > 0,
        look_max: LOOK_MAX.max(roles.switchboard_tick),
        report_every,
        report_gap: report_every * losses_in_a_row(weather.report_loss_percent),
        shown_every: roles.look_every,
        write_max: most(Path::Disk),
        reclose_settle: rules.reclose_settle,
        quiet_from: quiet_from(scenario),
    }
}

/// How many reports it takes until one arrives.
fn losses_in_a_row(percent: u32) -> u32 {
    let lost = f64::from(percent) / 100.0;
    (1..).find(|count| lost.powi(*count) < RARE).map_or(1, |count| count.unsigned_abs())
}

/// When the last thing from outside has happened.
fn quiet_from(scenario: &Scenario) -> Duration {
    let acts = scenario.acts.iter().filter(|(_, act)| !matches!(act, Act::Ask(_)));
    let acts = acts.map(|(at, _)| *at);
    let leases = scenario.leases.iter().map(|lease| {
        let goes = lease.tenant.goes;
        if goes.is_positive() { lease.end + goes.unsigned_abs() } else { lease.end }
    });
    let facility = &scenario.facility;
    let houses = facility.feeds.iter().flat_map(|feed| feed.house.iter().map(|(at, _)| *at));
    let meters = facility.meters.iter().flat_map(|meter| meter.faults.iter().map(|(at, _)| *at));
    let deaths = facility.machines.iter().filter_map(|machine| machine.habits.dies_at);
    acts.chain(leases).chain(houses).chain(meters).chain(deaths).max().unwrap_or_default()
}
