//! What one report costs at both ends, with 20,000 machines of which none, 200 or all have changed.

#![expect(clippy::unwrap_used, reason = "a bench stops where it fails")]

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use directive::{Delta, Replica, ReportSender, Serving, SessionReport};
use jiff::Timestamp;

const MACHINES: u64 = 20_000;

fn view() -> Vec<SessionReport> {
    let session = |index: u64| SessionReport {
        machine: format!("acme.site-a.rig-{index:05}").into(),
        sessions: 1,
        serving: Serving::Working,
        shares: index,
        work: 65_536.0,
        last_share_at: Some(Timestamp::from_second(1_796_097_600).unwrap()),
        still_hashing: 0,
    };
    (0..MACHINES).map(session).collect()
}

/// A proxy and the switchboard, which has its full report.
struct Ends {
    view: Vec<SessionReport>,
    sender: ReportSender,
    replica: Replica<SessionReport>,
}

impl Ends {
    fn new() -> Self {
        let mut ends =
            Self { view: view(), sender: ReportSender::new(1), replica: Replica::default() };
        let full = ends.report();
        ends.replica.take(full, 100_000, |_, _| ());
        ends
    }

    fn change(&mut self, changes: u64) {
        if let Some(step) = MACHINES.checked_div(changes) {
            let step = usize::try_from(step).unwrap();
            self.view.iter_mut().step_by(step).for_each(|session| session.shares += 1);
        }
    }

    fn report(&mut self) -> Delta<SessionReport> {
        let at = Timestamp::from_second(1_796_097_601).unwrap();
        let delta = self.sender.report(self.view.iter().map(SessionReport::seen), at, None);
        self.sender.handed_over();
        delta
    }
}

fn report(c: &mut Criterion) {
    for changes in [0, 200, MACHINES] {
        let ends = RefCell::new(Ends::new());
        let changed = || ends.borrow_mut().change(changes);
        let make = |()| ends.borrow_mut().report();
        c.bench_function(&format!("make a report, {changes} changes"), |b| {
            b.iter_batched(changed, make, BatchSize::PerIteration);
        });
        let ends = RefCell::new(Ends::new());
        let next = || {
            ends.borrow_mut().change(changes);
            ends.borrow_mut().report()
        };
        c.bench_function(&format!("take a report, {changes} changes"), |b| {
            b.iter_batched(
                next,
                |delta| {
                    let taken = ends.borrow_mut().replica.take(delta, 100_000, |_, _| ());
                    assert!(taken.current);
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, report);
criterion_main!(benches);
