//! What all roles of a world stand on: the time, the queue of what is due, the facility, the clocks,
//! chance, and the story.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::Report;
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clocks::Clocks;
use crate::due::Due;
use crate::facility::Facility;
use crate::queue::Queue;
use crate::record::{Event, Role};
use crate::scenario::{Path, Scenario, Weather};
use crate::story::Story;

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) now: Duration,
    pub(crate) queue: Queue<Due>,
    pub(crate) clocks: Clocks,
    pub(crate) facility: Facility,
    pub(crate) story: Story,
    pub(crate) rng: StdRng,
    pub(crate) weather: Weather,
    /// Receivers whose link is down.
    pub(crate) cut: BTreeSet<Role>,
    /// When the last message to each receiver arrives: a link keeps the order.
    arrives: BTreeMap<Role, Duration>,
}

impl Stage {
    pub(crate) fn new(scenario: &Scenario, story: Story) -> Self {
        Self {
            now: Duration::ZERO,
            queue: Queue::default(),
            clocks: Clocks::new(scenario.facility.begins),
            facility: Facility::new(scenario.facility.clone()),
            story,
            // The facility's own chance is drawn from the seed itself.
            rng: StdRng::seed_from_u64(scenario.seed ^ 0x7469_656c_696e_6521),
            weather: scenario.weather,
            cut: BTreeSet::new(),
            arrives: BTreeMap::new(),
        }
    }

    /// Has `due` happen after `wait`.
    pub(crate) fn after(&mut self, wait: Duration, due: Due) {
        self.queue.add(self.now + wait, due);
    }

    /// How long something takes on this way.
    pub(crate) fn delay(&mut self, path: Path) -> Duration {
        let (least, most) = self.weather.delays(path);
        self.rng.random_range(least..=most)
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        percent > 0 && self.rng.random_ratio(percent.min(100), 100)
    }

    /// When a message that is sent now arrives at `receiver`: after those that were sent before.
    pub(crate) fn down_at(&mut self, receiver: Role) -> Duration {
        let at = self.now + self.delay(Path::Down);
        let last = self.arrives.entry(receiver).or_default();
        *last = at.max(*last);
        *last
    }

    /// Gives a report to the link, which may lose it or deliver it twice. Returns whether the link
    /// took it: one that is cut does not.
    pub(crate) fn report(&mut self, from: Role, report: Report) -> bool {
        if self.cut.contains(&from) {
            return false;
        }
        if self.chance(self.weather.report_loss_percent) {
            return true;
        }
        let report = Box::new(report);
        if self.chance(self.weather.repeat_percent) {
            let wait = self.delay(Path::Up);
            self.after(wait, Due::Up { from, report: report.clone() });
        }
        let wait = self.delay(Path::Up);
        self.after(wait, Due::Up { from, report });
        true
    }

    /// Tells the story that a role finds its wall clock stepped, or right again.
    pub(crate) fn tell_clock(&mut self, role: Role, off: Option<SignedDuration>) {
        self.story.tell(self.now, name(role), || match off {
            Some(off) => format!("finds its clock stepped by {} s", off.as_secs_f64()),
            None => "finds its clock right again".to_owned(),
        });
    }

    /// A time up to `most`.
    pub(crate) fn within(&mut self, most: Duration) -> Duration {
        self.rng.random_range(Duration::ZERO..=most)
    }

    /// Adds to the facility's record what only the world knows.
    pub(crate) fn note(&mut self, event: Event) {
        self.facility.note(event, self.now);
    }
}

/// The role's name in the story.
pub(crate) fn name(role: Role) -> &'static str {
    match role {
        Role::Switchboard => "switchboard",
        Role::Agent => "agent",
        Role::Proxy => "proxy",
    }
}

/// When a role is called by itself next: of several wishes the earliest counts.
#[derive(Debug, Default)]
pub(crate) struct Ticker {
    at: Option<Duration>,
}

impl Ticker {
    /// The role wants to be called at `at`.
    pub(crate) fn wish(&mut self, stage: &mut Stage, at: Duration, due: Due) {
        let at = at.max(stage.now);
        if self.at.is_none_or(|before| at < before) {
            self.at = Some(at);
            stage.queue.add(at, due);
        }
    }

    /// Whether the call wished for is due at `now`; it counts once. Only the earliest call is kept:
    /// a wish for a later one is ignored while an earlier one is pending.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let due = self.at == Some(now);
        if due {
            self.at = None;
        }
        due
    }

    pub(crate) fn clear(&mut self) {
        self.at = None;
    }
}
