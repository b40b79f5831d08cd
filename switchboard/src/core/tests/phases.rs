//! What phase a lease is in, and whose machines are whose.

use super::*;
use crate::view::LeaseView;

fn view(world: &World, lease: &str) -> LeaseView {
    world.core.lease_view(&lease.into()).expect("it is known")
}

fn machines(world: &World, lease: &str) -> u32 {
    view(world, lease).machines_by_state.values().sum()
}

#[test]
fn a_lease_that_follows_another_has_its_machines_and_closes_when_they_are_back() {
    let mut world = obedient();
    world.commit("l", "a", 20_000, 1000, 1440);
    world.commit("m", "a", 20_000, 1500, 2000);
    world.run_to(1445);
    assert_eq!((machines(&world, "l"), machines(&world, "m")), (0, 5));
    assert_eq!(world.phase("l"), Phase::Closed, "its machines are another lease's");
    let plan = world.core.plan.as_ref().unwrap();
    let whose: Vec<_> = plan.steps.iter().map(|step| step.lease.clone()).collect();
    assert!(whose.iter().all(|lease| *lease == Some("m".into())), "{whose:?}");
    world.run_to(2003);
    assert_eq!(world.phase("m"), Phase::Releasing);
    while world.phase("m") != Phase::Closed {
        assert!(world.secs < 2400, "it closes");
        world.step();
    }
    assert!(world.machines.iter().all(|machine| machine.draws), "at {}", world.secs);
}
