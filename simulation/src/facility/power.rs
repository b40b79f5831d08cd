//! Feeds that lose their power, and get it back. In the dark nothing draws and no device answers. When
//! the power is back, house and tenants draw at once; machines boot one after the other.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use directive::{FeedId, LeaseId, Watts};
use rand::Rng;

use super::Facility;
use crate::record::Event;

/// Machines are up so long after their power is back.
const BOOTS: std::ops::RangeInclusive<u64> = 30_000..=120_000;

/// The feeds that were switched off, and what houses really draw.
#[derive(Debug, Default)]
pub(super) struct Power {
    off: BTreeSet<FeedId>,
    houses: HashMap<FeedId, Watts>,
}

impl Power {
    /// The house at `feed` draws `watts` now. Returns what it drew before.
    pub(super) fn house(&mut self, feed: &FeedId, watts: Watts) -> Watts {
        self.houses.insert(feed.clone(), watts).unwrap_or_default()
    }
}

impl Facility {
    /// A feed loses its power, with everything below it, or gets it back.
    pub fn set_power(&mut self, feed: &FeedId, is_there: bool, now: Duration) {
        self.advance(now);
        let is_new = if is_there {
            self.power.off.remove(feed)
        } else {
            self.power.off.insert(feed.clone())
        };
        if !is_new {
            return;
        }
        self.record.push(now, Event::Power { feed: feed.clone(), is_there });
        let below: Vec<FeedId> = self.feeds_below(feed);
        for feed in &below {
            self.draw_house(feed, now);
        }
        let mut tenants: Vec<LeaseId> = self.tenants.keys().cloned().collect();
        tenants.sort();
        tenants.iter().for_each(|lease| self.draw_tenant(lease, now));
        for number in 0..self.machines.len() {
            let at = self.machines[number].machine.spec.feed.clone();
            if !below.contains(&at) {
                continue;
            }
            if !is_there {
                let site = &mut self.machines[number];
                if let Some(change) = site.machine.lose_power(now) {
                    let (machine, from, to) =
                        (site.machine.spec.id.clone(), change.from, change.to);
                    let cause = change.cause;
                    self.record.push(now, Event::Machine { machine, from, to, cause });
                }
            } else if self.has_power(&at) {
                let boots = Duration::from_millis(self.rng.random_range(BOOTS));
                self.machines[number].machine.regain_power(now + boots);
            }
            self.look(number, now);
        }
    }

    /// Whether power comes through all feeds above `feed`, and through itself.
    pub(super) fn has_power(&self, feed: &FeedId) -> bool {
        self.paths[feed].iter().all(|above| !self.power.off.contains(above))
    }

    /// `feed` and the feeds below it, in the order of their names.
    fn feeds_below(&self, feed: &FeedId) -> Vec<FeedId> {
        let below = self.paths.iter().filter(|(_, path)| path.contains(feed));
        let mut below: Vec<FeedId> = below.map(|(id, _)| id.clone()).collect();
        below.sort();
        below
    }
}
