//! The policy's file for a facility, as an operator would write it.

use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;

use super::Rules;
use crate::facility::spec::Measured;
use crate::facility::spec::{FacilitySpec, FeedSpec, GroupSpec, MeterSpec};

/// Writes the policy. `revision` counts its edits.
#[must_use]
pub fn policy_text(facility: &FacilitySpec, rules: &Rules, revision: u64) -> String {
    let mut text = format!(
        "schema = \"tieline.policy/1\"\nrevision = {revision}\n\n[site]\nname = \"simulated\"\n\
         timezone = \"UTC\"\nreclose_settle = \"{}\"\n",
        secs(rules.reclose_settle),
    );
    for feed in &facility.feeds {
        write_feed(&mut text, feed, meter_of(facility, feed), facility.begins);
    }
    for group in &facility.groups {
        write_group(&mut text, group);
    }
    for meter in &facility.meters {
        write_meter(&mut text, meter, rules);
    }
    write_rules(&mut text, rules);
    text
}

fn meter_of<'a>(facility: &'a FacilitySpec, feed: &FeedSpec) -> Option<&'a MeterSpec> {
    facility.meters.iter().find(|meter| meter.of == Measured::Feed(feed.id.clone()))
}

fn write_feed(text: &mut String, feed: &FeedSpec, meter: Option<&MeterSpec>, begins: Timestamp) {
    let parent = feed.parent.as_ref().map(|parent| format!("parent = \"{parent}\"\n"));
    let meter = meter.map(|meter| format!("meter = \"{}\"\n", meter.id));
    *text += &format!(
        "\n[feed.{}]\n{}limit_kw = {}\ncontinuous_factor = {:?}\nreserve_kw = {}\nhouse_kw = {}\n\
         default_constraint_kw = {}\n{}",
        feed.id,
        parent.unwrap_or_default(),
        limit_of(feed, begins),
        feed.continuous_factor,
        kw(feed.reserve),
        kw(feed.declared_house),
        kw(feed.default_constraint),
        meter.unwrap_or_default(),
    );
}

/// A number, or a series of numbers with times.
fn limit_of(feed: &FeedSpec, begins: Timestamp) -> String {
    if feed.limits.is_empty() {
        return kw(feed.limit);
    }
    let later = feed.limits.iter().map(|(at, watts)| {
        let at = begins.saturating_add(*at).unwrap_or(Timestamp::MAX);
        format!(", {{ from = {at}, kw = {} }}", kw(*watts))
    });
    format!("[{{ kw = {} }}{}]", kw(feed.limit), later.collect::<String>())
}

fn write_group(text: &mut String, group: &GroupSpec) {
    *text += &format!(
        "\n[group.{id}]\nfeed = \"{}\"\nmatch = \"{id}-*\"\nmachines = {}\nasic_kw = {}\n\
         residual_kw = {}\nj_per_th = {:?}\nrestore_p95 = \"{}\"\nmin_up = \"{}\"\n\
         min_down = \"{}\"\n",
        group.feed,
        group.declared,
        kw(group.nameplate),
        kw(group.residual),
        group.j_per_th,
        secs(group.restore_p95),
        secs(group.min_up),
        secs(group.min_down),
        id = group.id,
    );
    if let Some(poolless) = group.poolless {
        *text += &format!("poolless_kw = {}\n", kw(poolless));
    }
    if group.reachable {
        let shed = secs(group.shed_p95);
        *text += &format!("shed_p95 = \"{shed}\"\ndriver = \"simulated\"\n");
    }
}

fn write_meter(text: &mut String, meter: &MeterSpec, rules: &Rules) {
    let stale = secs(rules.meter_stale_after);
    *text += &format!("\n[meter.{}]\nstale_after = \"{stale}\"\n", meter.id);
}

fn write_rules(text: &mut String, rules: &Rules) {
    *text += &format!(
        "\n[dispatch]\nmake_up_pct = {:?}\nsettle = \"{}\"\nmargin = \"{}\"\nprove_for = \"{}\"\n\
         hashprice_usd_per_ph_day = 40.0\npower_usd_per_mwh = 45.0\n",
        rules.make_up_percent,
        secs(rules.settle),
        secs(rules.margin),
        secs(rules.prove_for),
    );
    *text += &format!(
        "\n[ramp]\ndown_kw_per_min = {}\nup_kw_per_min = {}\nup_step_machines = {}\n\
         up_step_interval = \"{}\"\n",
        kw(rules.down_per_min),
        kw(rules.up_per_min),
        rules.up_step_machines,
        secs(rules.up_step_interval),
    );
    *text += &format!(
        "\n[failsafe]\nplan_horizon = \"4h\"\npermit_ttl = \"{}\"\npermit_every = \"{}\"\n\
         report_stale_after = \"{}\"\nretries = 3\n",
        secs(rules.permit_ttl),
        secs(rules.permit_every),
        secs(rules.report_stale_after),
    );
}

/// Watts as the file has them: kW with three decimals.
fn kw(watts: Watts) -> String {
    format!("{:.3}", watts.kw())
}

fn secs(time: Duration) -> String {
    format!("{}s", time.as_secs())
}
