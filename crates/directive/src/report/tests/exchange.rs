//! Random views sent over a link that loses, repeats and reorders messages in both directions, with
//! restarts of both ends. After a while without faults both ends must agree, and as long as they do
//! not, the replica must not say that it is current.

use std::collections::{BTreeMap, VecDeque};

use rand::prelude::*;
use rand::rngs::StdRng;

use super::*;
use crate::MachineId;

const SEEDS: u64 = 200;

struct Exchange {
    rng: StdRng,
    view: BTreeMap<MachineId, SessionReport>,
    sender: ReportSender,
    incarnation: u64,
    replica: Replica<SessionReport>,
    /// The result of applying what `changed` was called with. It must equal the replica's entries.
    told: BTreeMap<MachineId, SessionReport>,
    up: VecDeque<Delta<SessionReport>>,
    down: u64,
    full_reports: u64,
}

impl Exchange {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            view: BTreeMap::new(),
            sender: ReportSender::new(1),
            incarnation: 1,
            replica: Replica::default(),
            told: BTreeMap::new(),
            up: VecDeque::new(),
            down: 0,
            full_reports: 0,
        }
    }

    fn change_view(&mut self) {
        for _ in 0..self.rng.random_range(0..4) {
            let name = format!("m{}", self.rng.random_range(0..12));
            let shares = self.rng.random_range(0..3);
            if self.rng.random_bool(0.3) {
                self.view.remove(name.as_str());
            } else {
                self.view.insert(name.as_str().into(), session(&name, shares));
            }
        }
    }

    /// The sender makes a report, which the link takes unless it is full.
    fn report(&mut self, taken: bool) {
        let delta = self.sender.report(self.view.values().map(SessionReport::seen), at(0), None);
        if taken {
            self.sender.handed_over();
            self.full_reports += u64::from(delta.full);
            let text = serde_json::to_string(&delta).unwrap();
            self.up.push_back(serde_json::from_str(&text).unwrap());
        }
    }

    /// A report arrives.
    fn arrive(&mut self, delta: Delta<SessionReport>) -> Taken {
        let told = &mut self.told;
        let taken = self.replica.take(delta, 100, |old, new| {
            let known = old.map(|old| told.remove(&old.machine));
            assert_eq!(known, old.cloned().map(Some), "it was told of what it was");
            if let Some(new) = new {
                assert_eq!(told.insert(new.machine.clone(), new.clone()), None);
            }
        });
        assert_eq!(self.told, *self.replica.entries());
        taken
    }

    fn restart_sender(&mut self) {
        self.incarnation += 1;
        self.sender = ReportSender::new(self.incarnation);
        // The sender reads the state of the link again.
        self.sender.request(self.down);
    }

    fn restart_replica(&mut self) {
        self.replica = Replica::default();
        self.told.clear();
        self.down = 0;
    }

    fn faulty_step(&mut self) {
        self.change_view();
        if self.rng.random_bool(0.03) {
            self.restart_sender();
        }
        if self.rng.random_bool(0.03) {
            self.restart_replica();
        }
        let taken = self.rng.random_bool(0.9);
        self.report(taken);
        if self.rng.random_bool(0.2) {
            self.up.pop_front();
        }
        if self.rng.random_bool(0.2) && self.up.len() > 1 {
            self.up.swap(0, 1);
        }
        if self.rng.random_bool(0.1)
            && let Some(twice) = self.up.front().cloned()
        {
            self.up.push_back(twice);
        }
        while self.rng.random_bool(0.6) {
            let Some(delta) = self.up.pop_front() else { break };
            self.arrive(delta);
            if self.rng.random_bool(0.8) {
                self.down = self.replica.resync();
            }
        }
        if self.rng.random_bool(0.7) {
            self.sender.request(self.down);
        }
    }

    /// One exchange without faults: messages that are in transit arrive, then a report, its answer,
    /// and a report whose sender has read that answer.
    fn quiet_exchange(&mut self) -> Taken {
        while let Some(delta) = self.up.pop_front() {
            self.arrive(delta);
        }
        self.sender.request(self.replica.resync());
        self.report(true);
        let delta = self.up.pop_front().unwrap();
        self.arrive(delta);
        self.down = self.replica.resync();
        self.sender.request(self.down);
        self.change_view();
        self.report(true);
        let delta = self.up.pop_front().unwrap();
        self.arrive(delta)
    }
}

#[test]
fn after_a_quiet_exchange_both_ends_agree_whatever_happened_before() {
    for seed in 0..SEEDS {
        let mut exchange = Exchange::new(seed);
        for round in 0..6 {
            for _ in 0..exchange.rng.random_range(1..30) {
                exchange.faulty_step();
            }
            let taken = exchange.quiet_exchange();
            assert!(taken.current, "seed {seed}, round {round}: {taken:?}");
            assert_eq!(*exchange.replica.entries(), exchange.view, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn a_replica_that_says_it_is_current_has_the_senders_view() {
    for seed in 0..SEEDS {
        let mut exchange = Exchange::new(seed);
        let mut noticed = 0;
        for _ in 0..60 {
            exchange.change_view();
            exchange.report(true);
            let delta = exchange.up.pop_front().unwrap();
            if exchange.rng.random_bool(0.3) {
                continue;
            }
            let taken = exchange.arrive(delta);
            let same = *exchange.replica.entries() == exchange.view;
            let based = taken.asked != Some(ResyncReason::NoBase);
            assert!(taken.current == same || !based && !taken.current, "seed {seed}: {taken:?}");
            noticed += u64::from(taken.asked.is_some());
            exchange.sender.request(exchange.replica.resync());
        }
        assert!(exchange.full_reports <= noticed + 1, "seed {seed}: one full report a request");
    }
}

#[test]
fn without_losses_only_the_first_report_is_full() {
    let mut exchange = Exchange::new(7);
    for _ in 0..1_000 {
        exchange.change_view();
        exchange.report(true);
        let delta = exchange.up.pop_front().unwrap();
        assert!(exchange.arrive(delta).current);
        exchange.sender.request(exchange.replica.resync());
    }
    assert_eq!((exchange.full_reports, exchange.replica.resync()), (1, 0));
}

#[test]
fn a_lost_report_without_changes_needs_no_full_one() {
    let mut exchange = Exchange::new(7);
    exchange.view.insert("m1".into(), session("m1", 1));
    for round in 0..10 {
        exchange.report(true);
        let delta = exchange.up.pop_front().unwrap();
        if round % 3 != 1 {
            assert!(exchange.arrive(delta).current);
        }
    }
    assert_eq!((exchange.full_reports, exchange.replica.resync()), (1, 0));
}
