use super::*;
use crate::record::SupplyShown;

/// `f1` is dark from 600 s to 1,200 s; its machines have no work from then on.
fn dark() -> Bench {
    let mut bench = Bench::new();
    bench.note(600, Event::Power { feed: "f1".into(), is_there: false });
    bench.note(1_200, Event::Power { feed: "f1".into(), is_there: true });
    bench
}

fn shown(bench: &mut Bench, at: u64, feed: &str, shown: SupplyShown) {
    bench.note(at, Event::SupplyShown { feed: feed.into(), shown });
}

fn served(bench: &mut Bench, at: u64, machine: &str, served: bool) {
    bench.note(at, Event::Served { machine: machine.into(), served });
}

#[test]
fn a_feed_that_is_called_dead_and_has_power_is_found() {
    let mut bench = Bench::new();
    shown(&mut bench, 700, "f1", SupplyShown::Dead);
    bench.finds(&[(Kind::LiveCalledDead, Cause::Decision)]);

    let mut bench = dark();
    shown(&mut bench, 605, "f1", SupplyShown::Dead);
    shown(&mut bench, 1_205, "f1", SupplyShown::Reclosing);
    shown(&mut bench, 1_300, "f1", SupplyShown::Live);
    bench.finds_nothing();
    // What is above it has power.
    shown(&mut bench, 610, "poi", SupplyShown::Dead);
    bench.finds(&[(Kind::LiveCalledDead, Cause::Decision)]);
}

#[test]
fn a_feed_that_is_dark_for_long_and_never_called_dead_is_found() {
    let found = |bench: &Bench| bench.found().iter().any(|(kind, _)| *kind == Kind::DarkNotCalled);
    let at_work = || {
        let mut bench = dark();
        ["g-0", "g-1", "g-2"]
            .into_iter()
            .for_each(|machine| served(&mut bench, 100, machine, true));
        bench
    };
    assert!(found(&at_work()));
    let mut bench = at_work();
    shown(&mut bench, 650, "f1", SupplyShown::Dead);
    assert!(!found(&bench));
    // Two machines prove too little.
    let mut bench = at_work();
    served(&mut bench, 550, "g-2", false);
    assert!(!found(&bench));
    // Nobody hears who has gone.
    let mut bench = at_work();
    bench.note(650, Event::Stopped { role: Role::Proxy });
    assert!(!found(&bench));
}

#[test]
fn a_feed_below_a_dark_one_is_dark() {
    let mut bench = Bench::new();
    bench.note(600, Event::Power { feed: "poi".into(), is_there: false });
    shown(&mut bench, 605, "f1", SupplyShown::Dead);
    bench.finds_nothing();
}

#[test]
fn a_machine_that_gets_work_before_its_feed_is_steady_is_found() {
    let at = |at: u64| {
        let mut bench = dark();
        served(&mut bench, 600, "g-3", false);
        shown(&mut bench, 605, "f1", SupplyShown::Dead);
        shown(&mut bench, 1_205, "f1", SupplyShown::Reclosing);
        served(&mut bench, at, "g-3", true);
        bench
    };
    // That no timeline or permit allows the work is another rule.
    let found = |bench: &Bench| bench.found().contains(&(Kind::ServedUnsteady, Cause::Decision));
    assert!(found(&at(1_230)));
    assert!(!found(&at(1_261)));
    // Nobody had found it dead when its power was back.
    let mut bench = dark();
    served(&mut bench, 600, "g-3", false);
    served(&mut bench, 1_230, "g-3", true);
    assert!(!found(&bench));
}
