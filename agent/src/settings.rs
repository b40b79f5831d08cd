//! The agent's part of a configuration: `[driver.NAME]`, what commands machines, `[meter.NAME]`, what
//! measures power, `[hook]`, what is run as a last resort, and `[guard.NAME]`, what is guarded before a
//! switchboard was heard. What each kind of them needs is read by its own file in [`crate::drivers`]
//! and [`crate::meters`]. Which groups and feeds use them is left to the policy.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use daemon::settings::{Section, Spot};
use directive::{Actuator, Meter, MeterId, Watts};

use crate::claims::Claims;
use crate::drivers::{self, Driver};
use crate::guard::OwnGuard;
use crate::hook::{self, Hook};
use crate::meters::{self, Source};

/// The drivers and meters of a site, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub drivers: Vec<DriverSettings>,
    pub meters: Vec<MeterSettings>,
    pub hook: Option<Hook>,
    pub guards: Vec<GuardSettings>,
}

/// A feed that the agent guards by itself until it has heard a guard table.
#[derive(Debug, Clone)]
pub struct GuardSettings {
    pub guard: OwnGuard,
    /// The place of the section.
    pub spot: Spot,
}

/// The sections that are read here.
pub const SECTIONS: &[&str] = &["driver", "meter", "hook", "guard"];

/// A driver under the name that groups of the policy use.
#[derive(Debug, Clone)]
pub struct DriverSettings {
    pub name: String,
    pub driver: Driver,
    /// Globs over the machines that the driver reaches. If empty, it reaches all machines of the
    /// groups that name it.
    pub machines: Vec<String>,
    /// The place of the driver's section, unless the host program registered the driver.
    pub spot: Option<Spot>,
}

/// A meter under the name that feeds and leases use.
#[derive(Debug, Clone)]
pub struct MeterSettings {
    pub id: MeterId,
    pub source: Source,
    /// How often the meter is read.
    pub period: Duration,
    /// The place of the meter's section, unless the host program registered the meter.
    pub spot: Option<Spot>,
}

impl Settings {
    /// Registers a driver that the host program brings along.
    #[must_use]
    pub fn with_driver(mut self, name: &str, actuator: impl Actuator) -> Self {
        self.drivers.push(DriverSettings {
            name: name.to_owned(),
            driver: Driver::new(actuator),
            machines: Vec::new(),
            spot: None,
        });
        self
    }

    /// Registers a meter that the host program brings along.
    #[must_use]
    pub fn with_meter(mut self, id: &str, meter: impl Meter, period: Duration) -> Self {
        let source = Source::new(meter);
        self.meters.push(MeterSettings { id: MeterId::from(id), source, period, spot: None });
        self
    }

    /// Whether there is nothing for an agent to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drivers.is_empty()
            && self.meters.is_empty()
            && self.hook.is_none()
            && self.guards.is_empty()
    }
}

/// Reads the agent's sections of a configuration. `None` after a mistake in one of them.
pub fn read(root: &Section<'_>) -> Option<Settings> {
    let [drivers, meters] = ["driver", "meter"].map(|key| root.named_tables(key));
    let meter_sections = meters.iter().map(|(name, section)| (name.as_str(), section));
    warn_of_shared_files(meter_sections);
    for (name, meter) in &meters {
        meter.refuse("stale_after", format!("stands in [meter.{name}] of the policy"));
    }
    let (driver_count, meter_count) = (drivers.len(), meters.len());
    let hook = root.table("hook").map(|section| hook::read(&section));
    let is_hook_wrong = matches!(hook, Some(None));
    let guards = root.named_tables("guard");
    let guard_count = guards.len();
    let meter_names: Vec<&str> = meters.iter().map(|(name, _)| name.as_str()).collect();
    let read = |(name, section): &(String, Section<'_>)| {
        read_guard(name, section, &meter_names, guard_count > 1)
    };
    let guards = guards.iter().filter_map(read).collect();
    let settings = Settings {
        hook: hook.flatten(),
        guards,
        drivers: drivers.iter().filter_map(|(name, section)| read_driver(name, section)).collect(),
        meters: meters.iter().filter_map(|(name, section)| read_meter(name, section)).collect(),
    };
    let complete = settings.drivers.len() == driver_count && settings.meters.len() == meter_count;
    (complete && !is_hook_wrong && settings.guards.len() == guard_count).then_some(settings)
}

fn read_driver(name: &str, section: &Section<'_>) -> Option<DriverSettings> {
    let machines = section.strings("machines");
    let driver = drivers::read(section)?;
    Some(DriverSettings {
        name: name.to_owned(),
        driver,
        machines: machines.unwrap_or_default().into_iter().map(str::to_owned).collect(),
        spot: Some(section.here()),
    })
}

/// Reads one `[guard.NAME]` section. `None` after a mistake. If it is one of `several`, it must say
/// which machines are below its feed.
fn read_guard(
    name: &str,
    section: &Section<'_>,
    meters: &[&str],
    several: bool,
) -> Option<GuardSettings> {
    let meter = section.required_str("meter");
    let kw = |key, range: &RangeInclusive<f64>| {
        section.optional_float(key, range.clone()).and_then(Watts::from_kw)
    };
    let limit = section.required_float("limit_kw", LIMITS_KW).and_then(Watts::from_kw);
    let rating = kw("rating_kw", &LIMITS_KW);
    let machine = kw("machine_kw", &MACHINES_KW).unwrap_or(MACHINE);
    let stale_after = section.duration_or("stale_after", STALE_AFTERS, STALE_AFTER);
    let machines = section.strings("machines");
    section.finish();
    let mut is_right = true;
    let mut refuse = |key: &str, why: String| {
        section.mistake(key, why);
        is_right = false;
    };
    if let Some(meter) = meter
        && !meters.contains(&meter)
    {
        refuse("meter", format!("there is no [meter.{meter}]"));
    }
    if rating.is_some() && rating < limit {
        refuse("rating_kw", "must not be less than limit_kw".to_owned());
    }
    if several && machines.as_ref().is_none_or(Vec::is_empty) {
        let why = "with several [guard.NAME], each must say which machines are below its feed";
        refuse("machines", why.to_owned());
    }
    let limit = limit?;
    let guard = OwnGuard {
        feed: name.into(),
        meter: meter?.into(),
        limit,
        rating: rating.unwrap_or(limit),
        machine,
        machines: Claims::patterns(machines.unwrap_or_else(|| vec!["*"])),
        stale_after,
    };
    is_right.then(|| GuardSettings { guard, spot: section.here() })
}

/// Reads one `[meter.NAME]` section. `None` after a mistake.
pub fn read_meter(name: &str, section: &Section<'_>) -> Option<MeterSettings> {
    let period = section.duration_or("period", PERIODS, PERIOD);
    let source = meters::read(section)?;
    Some(MeterSettings { id: MeterId::from(name), source, period, spot: Some(section.here()) })
}

/// Warns of two meters that read the same file: one section was probably copied from the other.
pub fn warn_of_shared_files<'a, 'd: 'a>(
    sections: impl IntoIterator<Item = (&'a str, &'a Section<'d>)>,
) {
    let mut former: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, section) in sections {
        let Some(path) = section.peek_str("path") else { continue };
        if let Some(other) = former.insert(path, name) {
            section.warn("path", format!("is the file of [meter.{other}] too"));
        }
    }
}

const LIMITS_KW: RangeInclusive<f64> = 0.1..=10_000_000.0;
const MACHINES_KW: RangeInclusive<f64> = 0.1..=1_000.0;
const MACHINE: Watts = Watts(3_000);
const STALE_AFTER: Duration = Duration::from_secs(30);
const STALE_AFTERS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const PERIOD: Duration = Duration::from_secs(5);
/// How often a meter may be read.
pub const PERIODS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);

#[cfg(test)]
mod tests;
