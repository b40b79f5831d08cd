//! Feeds below feeds.

use super::*;

/// A site above two halls, one of which has a rack with a feed of its own.
fn nested() -> GuardTable {
    let feeds = vec![
        feed("site", None, 120_000),
        feed("hall-a", Some("site"), 60_000),
        feed("hall-b", Some("site"), 60_000),
        feed("rack", Some("hall-a"), 14_000),
    ];
    let cohorts = vec![cohort("hall-b", 0..10), cohort("rack", 10..15), cohort("hall-a", 15..25)];
    table(feeds, cohorts)
}

#[test]
fn nested_feeds_shed_once_for_all_whichever_meter_comes_first() {
    let orders: [&[&str]; 4] = [
        &["rack", "hall-a", "hall-b", "site"],
        &["site", "hall-b", "hall-a", "rack"],
        &["hall-a", "site", "rack", "hall-b"],
        &["site", "rack", "hall-a", "hall-b"],
    ];
    for order in orders {
        // The rack carries 16 of 14 kW, the hall 62 of 60, the site 122 of 120.
        let house = [("rack", 1_000), ("hall-a", 16_000), ("hall-b", 30_000)];
        let mut plant = Plant::new(nested(), &house);
        let loads = ["rack", "hall-a", "site"].map(|feed| plant.load(feed));
        assert_eq!(loads, [16_000, 62_000, 122_000]);
        for _ in 0..300 {
            plant.second(order);
        }
        let held = plant.acts.iter().flat_map(|(_, act)| &act.machines);
        let held: Vec<&str> = held.map(MachineId::as_str).collect();
        assert_eq!(held, ["m10", "m11"], "{order:?}: two machines of the rack are enough for all");
        for feed in ["rack", "hall-a", "hall-b", "site"] {
            assert_eq!(plant.state(feed).state, GuardState::Watching, "{order:?}: {feed}");
        }
    }
}

#[test]
fn a_parent_sheds_what_its_children_do_not_in_the_order_of_the_table() {
    // The rack is to shed 3.5 kW, the site 21.5 kW.
    let house = [("rack", 1_000), ("hall-a", 13_000), ("hall-b", 29_000), ("site", 22_000)];
    for order in [["rack", "site"], ["site", "rack"]] {
        let mut plant = Plant::new(nested(), &house);
        assert_eq!(plant.load("site"), 140_000);
        for _ in 0..200 {
            plant.second(&order);
        }
        let held = plant.acts.iter().flat_map(|(_, act)| &act.machines);
        let mut held: Vec<&str> = held.map(MachineId::as_str).collect();
        held.sort_unstable();
        let want = ["m00", "m01", "m02", "m03", "m04", "m05", "m10", "m11"];
        assert_eq!(held, want, "{order:?}");
    }
}

#[test]
fn a_feed_of_another_agent_is_left_to_it() {
    let mut table = nested();
    table.feeds[1].owner = Some("other".into());
    table.feeds[3].owner = None;
    let mut plant = Plant::new(table, &[("hall-a", 40_000)]);
    for _ in 0..20 {
        plant.second(&["rack", "hall-a"]);
    }
    assert_eq!(plant.held(), 0);
    let report = plant.guard.report(&plant.units, at(plant.now), plant.instant());
    let feeds: Vec<&str> = report.feeds.iter().map(|feed| feed.feed.as_str()).collect();
    assert_eq!(feeds, ["site", "hall-b"]);
}

#[test]
fn what_no_machine_can_free_is_said() {
    let mut plant = Plant::new(one_feed(), &[("f", 68_000)]);
    let guardable = plant.state("f").guardable;
    plant.second(&["f"]);
    assert_eq!((guardable, plant.held()), (Watts(48_000), 16));
    // 116 kW less 58.5 kW are 57.5 kW, of which 48 kW can be freed.
    let state = plant.state("f");
    assert_eq!((state.wants, state.guardable, state.acts), (Watts(9_500), Watts(0), 1));
    for _ in 0..60 {
        plant.second(&["f"]);
    }
    assert_eq!(plant.state("f").wants, Watts(9_500));
    plant.house.insert("f".into(), 50_000);
    plant.second(&["f"]);
    assert_eq!(plant.state("f").wants, Watts(0));
}
