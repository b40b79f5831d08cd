//! `[dispatch]`, `[ramp]`, `[guard]` and `[failsafe]`: how to choose machines, how fast load may
//! change, how feeds are guarded, and what applies when something is lost. Every key has a default.

use std::time::Duration;

use daemon::settings::Section;
use directive::Watts;

use super::power::Kilowatts as _;
use super::rules::{Dispatch, Failsafe, GuardRules, Merit, Ramp};

pub(super) fn read_dispatch(section: &Section<'_>) -> Option<Dispatch> {
    let merits = [
        ("margin-per-kw", Merit::MarginPerKw),
        ("j-per-th", Merit::JoulesPerTerahash),
        ("listed", Merit::Listed),
    ];
    let dispatch = Dispatch {
        merit: section.choice_or("merit", &merits, Merit::MarginPerKw),
        make_up_pct: section.float_or("make_up_pct", 0.0..=100.0, 3.0),
        settle: section.duration_or("settle", Duration::ZERO..=secs(600), secs(20)),
        margin: section.duration_or("margin", Duration::ZERO..=hours(24), secs(120)),
        prove_for: section.duration_or("prove_for", secs(1)..=hours(1), secs(60)),
        hashprice_usd_per_ph_day: section.optional_float("hashprice_usd_per_ph_day", 0.0..=1e6),
        // Power prices can be negative.
        power_usd_per_mwh: section.optional_float("power_usd_per_mwh", -1e5..=1e5),
    };
    section.finish();
    Some(dispatch)
}

pub(super) fn read_ramp(section: &Section<'_>) -> Option<Ramp> {
    let rate = |key, default| {
        let rate = section.kw_or(key, default);
        if rate == Watts::ZERO {
            section.mistake(key, "must be above 0, or load could never move");
        }
        rate
    };
    let step_max = section.optional_kw_above_zero("step_max_kw");
    let ramp = Ramp {
        down_per_min: rate("down_kw_per_min", Watts(20_000_000)),
        up_per_min: rate("up_kw_per_min", Watts(5_000_000)),
        up_step_machines: section.integer_or("up_step_machines", 1..=1_000_000, 40),
        up_step_interval: section.duration_or("up_step_interval", secs(1)..=hours(1), secs(15)),
        step_max,
    };
    section.finish();
    Some(ramp)
}

pub(super) fn read_guard(section: &Section<'_>) -> Option<GuardRules> {
    let rules = GuardRules {
        after: section.integer_or("after_samples", 1..=10, 2),
        suspect_max_pct: section.integer_or("suspect_max_pct", 0..=100, 25),
        ramp_per_min: section.optional_kw_above_zero("ramp_kw_per_min"),
        step_max: section.optional_kw_above_zero("step_max_kw"),
    };
    section.finish();
    Some(rules)
}

pub(super) fn read_failsafe(section: &Section<'_>) -> Option<Failsafe> {
    let plan_horizon = section.duration_or("plan_horizon", hours(1)..=hours(14 * 24), hours(72));
    let permit_ttl = section.duration_or("permit_ttl", secs(5)..=secs(120), secs(120));
    let permit_every =
        section.duration_or("permit_every", secs(1)..=secs(120), secs(30).min(permit_ttl / 4));
    // Two renewals in a row may be lost before running machines count as unpermitted.
    if permit_every > permit_ttl / 3 {
        let key = if section.has("permit_every") { "permit_every" } else { "permit_ttl" };
        let most = permit_ttl.as_secs_f64() / 3.0;
        section.mistake(
            key,
            format!("permit_every must be at most a third of permit_ttl, {most:.1} s"),
        );
    }
    let report_stale_after =
        section.duration_or("report_stale_after", secs(1)..=secs(600), secs(30));
    let retries = section.integer_or("retries", 1..=100, 3);
    section.finish();
    Some(Failsafe { plan_horizon, permit_ttl, permit_every, report_stale_after, retries })
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn hours(hours: u64) -> Duration {
    secs(hours * 3600)
}
