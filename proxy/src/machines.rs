//! Machines as their sessions show them, for reports and for people.
//!
//! The map holds handles. A session takes its handle at authorize and counts on it; no map is
//! touched per share.

mod rates;
mod stats;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dashmap::DashMap;
use directive::{Look, MachineId, Serving, SessionReport};
use jiff::Timestamp;

pub use rates::Hashrate;
pub(crate) use stats::MachineStats;

/// A session's presence under a worker name; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) machine: MachineId,
    pub(crate) stats: Arc<MachineStats>,
    working: bool,
    now: fn() -> Timestamp,
}

impl Presence {
    /// Notes whether the session has work.
    pub(crate) fn set_working(&mut self, working: bool) {
        if self.working != working {
            self.working = working;
            if working {
                self.stats.working.fetch_add(1, Ordering::Relaxed);
            } else {
                self.stats.working.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.set_working(false);
        self.stats.gone_ms.store((self.now)().as_millisecond(), Ordering::Relaxed);
        self.stats.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All machines that have, or recently had, a session.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    by_name: DashMap<MachineId, Arc<MachineStats>>,
}

/// How long a machine without a session is still reported, in milliseconds.
const GONE_KEPT_MS: i64 = 600_000;
/// Machines remembered; beyond it those without a session are forgotten at once.
const MACHINES_MAX: usize = 200_000;

impl Machines {
    /// Enters a session under its worker name.
    pub(crate) fn enter(&self, machine: MachineId, now: fn() -> Timestamp) -> Presence {
        if self.by_name.len() >= MACHINES_MAX {
            self.by_name.retain(|_, stats| stats.sessions.load(Ordering::Relaxed) > 0);
        }
        // Counted before the entry is released: otherwise a report at this moment would forget the
        // arriving machine and not show it until its next connection.
        let entry = self.by_name.entry(machine.clone()).or_default();
        entry.sessions.fetch_add(1, Ordering::Relaxed);
        let stats = entry.clone();
        drop(entry);
        Presence { machine, stats, working: false, now }
    }

    /// Whether a session of `machine` has work.
    pub(crate) fn works(&self, machine: &MachineId) -> bool {
        self.by_name.get(machine).is_some_and(|stats| stats.serving() == Serving::Working)
    }

    /// Returns handles to every machine, so that the caller can look at them without blocking
    /// sessions that join and leave.
    pub(crate) fn handles(&self) -> Vec<(MachineId, Arc<MachineStats>)> {
        self.by_name.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }

    /// Brings every machine's estimates up to date.
    pub(crate) fn fold(&self, now: Instant) {
        for entry in &self.by_name {
            entry.value().fold(now);
        }
    }

    /// Forgets machines that have been gone for ten minutes.
    pub(crate) fn forget(&self, wall: Timestamp) {
        let too_old = wall.as_millisecond() - GONE_KEPT_MS;
        self.by_name.retain(|_, stats| {
            stats.sessions.load(Ordering::Relaxed) > 0
                || stats.gone_ms.load(Ordering::Relaxed) > too_old
        });
    }

    /// Passes every machine to a report, except machines that will be forgotten.
    pub(crate) fn report(&self, wall: Timestamp, look: &mut Look<'_, SessionReport>) {
        self.forget(wall);
        for entry in &self.by_name {
            look.see(&entry.value().seen(entry.key()));
        }
    }
}

#[cfg(test)]
mod tests {
    use directive::ReportSender;

    use super::*;
    use crate::outcome::Worth;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + secs).expect("a plain instant")
    }

    /// Everything that a full report would contain.
    fn reported(machines: &Machines, wall: Timestamp) -> Vec<SessionReport> {
        let mut sender = ReportSender::new(1);
        let mut look = sender.begin();
        machines.report(wall, &mut look);
        look.finish(wall, None).changed
    }

    #[test]
    fn a_report_never_forgets_a_machine_that_is_just_arriving() {
        let machines = Machines::default();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    reported(&machines, at(700));
                }
            });
            let lost = (0..20_000).find(|number| {
                let presence =
                    machines.enter(MachineId::from(format!("m{}", number % 7).as_str()), || at(0));
                !machines.by_name.contains_key(&presence.machine)
            });
            done.store(true, Ordering::Relaxed);
            assert_eq!(lost, None);
        });
    }

    /// This must also work without a switchboard that asks for reports: names that are seen once
    /// must not accumulate.
    #[test]
    fn s75_a_machine_that_is_gone_is_forgotten_by_looking_after_the_table_alone() {
        let machines = Machines::default();
        let stays = machines.enter("stays".into(), || at(0));
        for number in 0..1000 {
            drop(machines.enter(format!("once-{number}").as_str().into(), || at(0)));
        }
        machines.forget(at(599));
        assert_eq!(machines.handles().len(), 1001);
        machines.forget(at(601));
        let left: Vec<MachineId> = machines.handles().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["stays".into()]);
        drop(stays);
    }

    #[test]
    fn two_sessions_with_one_name_are_one_machine() {
        let machines = Machines::default();
        let mut first = machines.enter("a".into(), || at(0));
        let second = machines.enter("a".into(), || at(0));
        first.set_working(true);
        second.stats.share(Worth { difficulty: 2.0, found: 7.0 }, false, at(1));
        first.stats.share(Worth { difficulty: 0.5, found: 3.0 }, true, at(2));
        let report = reported(&machines, at(3)).remove(0);
        assert_eq!(
            (report.sessions, report.serving, report.shares, report.work),
            (2, Serving::Working, 2, 2.5)
        );
        assert_eq!((report.still_hashing, report.last_share_at), (1, Some(at(2))));
        assert_eq!(first.stats.best(), Some(7.0));
        drop(first);
        assert_eq!(reported(&machines, at(3))[0].serving, Serving::Parked);
        drop(second);
        assert_eq!(reported(&machines, at(3))[0].serving, Serving::Gone);
        assert!(reported(&machines, at(700)).is_empty(), "forgotten ten minutes after it left");
    }
}
