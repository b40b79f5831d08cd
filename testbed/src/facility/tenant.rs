//! A simulated AI tenant: its load begins at a given time, ramps up, stays, and ramps down.

use std::time::Duration;

use directive::Watts;
use jiff::Timestamp;

/// The load of a tenant over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSpec {
    /// The tenant's load after the ramp.
    pub watts: Watts,
    pub start: Timestamp,
    /// When the tenant's load begins to ramp down; `None` if it stays.
    pub end: Option<Timestamp>,
    /// The duration of the ramp up, and of the ramp down.
    pub ramp: Duration,
}

impl TenantSpec {
    /// The power that the tenant draws at `at`.
    #[must_use]
    pub fn watts(&self, at: Timestamp) -> Watts {
        let up = self.progress(self.start, at);
        let down = self.end.map_or(0.0, |end| self.progress(end, at));
        self.watts.scale(up.min(1.0 - down))
    }

    fn progress(&self, from: Timestamp, at: Timestamp) -> f64 {
        let passed = at.duration_since(from).as_secs_f64();
        match passed {
            ..0.0 => 0.0,
            _ if self.ramp.is_zero() => 1.0,
            _ => (passed / self.ramp.as_secs_f64()).min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_ramps_up_stays_and_ramps_down() {
        let at = |secs: i64| Timestamp::from_second(1_800_000_000 + secs).unwrap();
        let ramp = Duration::from_secs(10);
        let tenant = TenantSpec { watts: Watts(1000), start: at(100), end: Some(at(200)), ramp };
        for (secs, watts) in [
            (0, 0),
            (99, 0),
            (100, 0),
            (105, 500),
            (110, 1000),
            (200, 1000),
            (205, 500),
            (210, 0),
            (999, 0),
        ] {
            assert_eq!(tenant.watts(at(secs)), Watts(watts), "at {secs} s");
        }
        let at_once = TenantSpec { ramp: Duration::ZERO, end: None, ..tenant };
        assert_eq!((at_once.watts(at(99)), at_once.watts(at(100))), (Watts::ZERO, Watts(1000)));
    }
}
