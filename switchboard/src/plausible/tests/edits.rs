//! A new policy: feeds have other numbers, and other figures.

use super::*;

/// Feeds by name, with the feed above each. Each has a meter, also those that must not matter.
fn tree(feeds: &[(&str, Option<&str>)]) -> Feeds {
    let feeds = feeds.iter().map(|(id, parent)| fixture::feed(id, *parent, 100_000, 0));
    Feeds::new(feeds.collect()).expect("parents come first")
}

/// `d` shows more than `c` above it, and the feeds before both are taken out of the policy.
#[test]
fn the_feed_that_a_meter_was_compared_with_has_another_number_after_an_edit() {
    let former = tree(&[
        ("root", None),
        ("a", Some("root")),
        ("b", Some("root")),
        ("c", Some("root")),
        ("d", Some("c")),
    ]);
    let number = |feeds: &Feeds, id: &str| feeds.number(&id.into()).expect("it is there");
    let mut plausible = Plausibility::new(&former);
    let meter = &mut plausible.meters[number(&former, "d")];
    meter.state = MeterState::AboveParent;
    meter.finding = Some(Finding {
        state: MeterState::AboveParent,
        shown: Watts(80_000),
        bound: Watts(42_000),
        other: Some(number(&former, "c")),
        has_lasted: true,
    });
    let feeds = tree(&[("root", None), ("c", Some("root")), ("d", Some("c"))]);
    let carried = plausible.carried(&former, &feeds);
    assert_eq!(
        carried.why(&feeds, number(&feeds, "d")),
        "shows 80 kW, and the meter of c above it 42 kW"
    );
    // The other feed is gone.
    let feeds = tree(&[("root", None), ("d", Some("root"))]);
    let carried = plausible.carried(&former, &feeds);
    let d = number(&feeds, "d");
    assert_eq!(carried.state(d), MeterState::AboveParent);
    assert_eq!(carried.why(&feeds, d), "above_parent: shows 80 kW, compared with 42 kW");
}

/// A new figure changes what is known to be drawn, while the meter repeats an honest value.
#[test]
fn a_figure_that_is_edited_freezes_no_meter() {
    let mut bench = one(50_000);
    bench.run_to(100);
    bench.plausible = bench.plausible.carried(&bench.feeds, &bench.feeds);
    bench.known[0] = -20_790;
    bench.run_to(300);
    bench.assert_honest();
}

/// A meter that was found to be frozen is so under the new policy.
#[test]
fn a_frozen_meter_is_frozen_after_an_edit() {
    let mut bench = one(50_000);
    bench.run_to(60);
    bench.known[0] = -20_790;
    bench.run_to(100);
    assert_eq!(bench.state(0), MeterState::Frozen);
    bench.plausible = bench.plausible.carried(&bench.feeds, &bench.feeds);
    bench.run_to(300);
    assert_eq!(bench.changes.len(), 1);
    assert_eq!(bench.plausible.figures(bench.number(0)), Some((Watts(50_000), Watts(20_790))));
}
