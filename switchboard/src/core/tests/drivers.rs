//! A driver is out when its machines are to be shed.

use super::*;
use crate::fixture::{feed, group};

/// `root` 200 kW over `a` 120 kW with `machines` machines of 3 kW of the driver `west`, which go first,
/// and `others` of the driver `east`.
fn site(machines: u32, others: u32) -> Policy {
    let mut policy = policy_with(|parts| {
        parts.feeds =
            vec![feed("root", None, 200_000, 4_000), feed("a", Some("root"), 120_000, 1_000)];
        parts.groups = vec![group("old", "a", machines, 30.0, true)];
        if others > 0 {
            parts.groups.push(group("new", "a", others, 17.5, true));
        }
        for (group, driver) in parts.groups.iter_mut().zip(["west", "east"]) {
            group.driver = Some(driver.into());
        }
    });
    policy.ramp.down_per_min = Watts(600_000);
    policy.ramp.up_per_min = Watts(60_000);
    policy
}

/// A world with a lease on `a` that needs ten machines.
struct Outage {
    world: World,
    /// The most machines of each driver that were told to sleep at once.
    most: BTreeMap<String, usize>,
}

fn told(world: &World) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for machine in world.machines.iter().filter(|machine| machine.told.is_some()) {
        *told.entry(machine.driver.clone().unwrap()).or_insert(0) += 1;
    }
    told
}

fn asleep(world: &World) -> usize {
    world.machines.iter().filter(|machine| machine.asleep_says).count()
}

impl Outage {
    /// What is left for mining at `a`, whose machines draw 3 kW each, so that ten must go.
    fn committed(policy: Policy, manner: impl Fn(&str) -> Manner) -> Self {
        let machines: u32 = policy.facility.groups().iter().map(|group| group.machines).sum();
        let mut world = World::with(policy, manner);
        world.run_to(20);
        let free = 120_000 - 1_000 - i64::from(machines) * 3_000;
        let answer = world.commit("l", "a", free + 29_700, 1000, 3000);
        assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
        Self { world, most: BTreeMap::new() }
    }

    fn run_to(&mut self, secs: i64) {
        while self.world.secs < secs {
            self.world.step();
            for (driver, count) in told(&self.world) {
                let most = self.most.entry(driver).or_insert(0);
                *most = count.max(*most);
            }
        }
    }

    /// Runs until the first machine is told.
    fn run_until_told(&mut self) {
        while told(&self.world).is_empty() {
            let next = self.world.secs + 1;
            self.run_to(next);
        }
    }

    fn driver_notices(&self) -> Vec<&Notice> {
        let of_drivers =
            |one: &&Notice| matches!(one, Notice::DriverDown(_) | Notice::DriverUp { .. });
        self.world.notices.iter().filter(of_drivers).collect()
    }
}

#[test]
fn a_driver_that_is_out_for_90_s_puts_no_more_machines_to_sleep_than_were_needed() {
    let mut outage = Outage::committed(site(32, 0), |_| Manner::Obeys);
    outage.run_to(860);
    outage.world.drivers_out.insert("west");
    outage.run_until_told();
    let began = outage.world.secs;
    outage.run_to(began + 90);
    assert!(asleep(&outage.world) == 0 && told(&outage.world)["west"] <= 10);
    let notices = outage.driver_notices();
    assert!(
        matches!(&notices[..], [Notice::DriverDown(down)]
            if (down.driver.as_str(), down.machines_reached) == ("west", 32)
                && down.machines_unanswered >= 3),
        "{notices:?}"
    );
    let is_short = |outage: &Outage| {
        let about_it = outage.world.notices.iter().rev().find_map(|notice| match notice {
            Notice::Short { .. } => Some(true),
            Notice::NotShort { .. } => Some(false),
            _ => None,
        });
        about_it.unwrap_or(false)
    };
    assert!(is_short(&outage), "no other machines are there for the lease, which is said at once");
    outage.world.drivers_out.clear();
    outage.run_to(1001);
    assert!(!is_short(&outage));
    assert_eq!((outage.most["west"], asleep(&outage.world)), (10, 10));
    assert_eq!(outage.world.phase("l"), Phase::Active, "the lease is kept");
    let notices = outage.driver_notices();
    assert!(
        matches!(&notices[..], [Notice::DriverDown(_), Notice::DriverUp { driver, .. }]
            if driver == "west"),
        "{notices:?}"
    );
    outage.run_to(3300);
    assert_eq!(outage.world.phase("l"), Phase::Closed);
    assert_eq!(asleep(&outage.world), 0);
}

#[test]
fn machines_of_another_driver_go_in_place_of_those_that_do_not_answer() {
    let mut outage = Outage::committed(site(20, 12), |_| Manner::Obeys);
    outage.run_to(860);
    outage.world.drivers_out.insert("west");
    outage.run_to(1001);
    assert_eq!(outage.world.phase("l"), Phase::Active);
    let Outage { world, most } = &outage;
    assert!((most["west"], most["east"]) == (10, 10), "{most:?}");
    assert_eq!((told(world).get("west"), asleep(world)), (None, 10), "its commands are cancelled");
    outage.world.drivers_out.clear();
    outage.run_to(1100);
    let Outage { world, most } = &outage;
    assert!((most["west"], most["east"]) == (10, 10), "{most:?}");
    assert_eq!(asleep(world), 10);
    assert_eq!(outage.driver_notices().len(), 2);
}

/// Those of `west` fall asleep although others have gone in their place.
#[test]
fn a_driver_that_is_back_early_leaves_no_excess_asleep() {
    let mut outage = Outage::committed(site(20, 12), |_| Manner::Obeys);
    outage.run_to(860);
    outage.world.drivers_out.insert("west");
    while !told(&outage.world).contains_key("east") {
        let next = outage.world.secs + 1;
        outage.run_to(next);
    }
    outage.world.drivers_out.clear();
    outage.run_to(930);
    assert_eq!(asleep(&outage.world), 20);
    outage.run_to(1100);
    assert_eq!(asleep(&outage.world), 10);
    assert_eq!(outage.world.phase("l"), Phase::Active);
    assert!(outage.world.core.commitments["l"].breaches.is_empty());
}

/// Three machines refuse, others go in their place, and later the three sleep too.
#[test]
fn what_sleeps_beyond_the_need_comes_back_while_the_lease_runs() {
    let refuse = ["old.000", "old.001", "old.002"];
    let manner = |id: &str| if refuse.contains(&id) { Manner::Refuses } else { Manner::Obeys };
    let mut outage = Outage::committed(site(32, 0), manner);
    outage.run_to(1100);
    assert_eq!((told(&outage.world)["west"], asleep(&outage.world)), (13, 10));
    for machine in &mut outage.world.machines {
        machine.manner = Manner::Obeys;
    }
    outage.run_to(1110);
    assert_eq!(asleep(&outage.world), 13, "the meter must show it first");
    outage.run_to(1250);
    assert_eq!(asleep(&outage.world), 11, "ten, and one more at the feed");
    assert!(outage.driver_notices().is_empty(), "they answered");
    outage.run_to(2900);
    assert_eq!((told(&outage.world)["west"], asleep(&outage.world)), (11, 11));
    assert!(outage.world.core.commitments["l"].breaches.is_empty());
}

#[test]
fn a_driver_that_is_out_while_its_machines_sleep_has_no_other_put_to_sleep() {
    let mut outage = Outage::committed(site(20, 12), |_| Manner::Obeys);
    outage.run_to(1100);
    assert_eq!((outage.world.phase("l"), asleep(&outage.world)), (Phase::Active, 10));
    outage.world.drivers_out.insert("west");
    outage.run_to(1300);
    assert_eq!(outage.most.get("east"), None, "the meter shows that they sleep");
    assert_eq!(outage.most["west"], 10);
    assert_eq!(outage.world.core.drivers.down().len(), 1);
    outage.world.drivers_out.clear();
    outage.run_to(1400);
    assert_eq!((told(&outage.world)["west"], asleep(&outage.world)), (10, 10));
    assert!(outage.world.core.drivers.down().is_empty());
}

#[test]
fn machines_that_do_not_answer_are_replaced_by_others_of_a_driver_that_works() {
    let manner = |id: &str| match id {
        "old.000" | "old.001" | "old.002" | "old.003" => Manner::MuteAwake,
        _ => Manner::Obeys,
    };
    let mut outage = Outage::committed(site(32, 0), manner);
    outage.run_to(1100);
    assert_eq!(outage.driver_notices(), Vec::<&Notice>::new());
    assert_eq!(outage.most["west"], 10, "{:?}", outage.most);
}

#[test]
fn a_restart_while_a_driver_is_down_chooses_no_more_of_its_machines() {
    let mut outage = Outage::committed(site(32, 0), |_| Manner::Obeys);
    outage.run_to(860);
    outage.world.drivers_out.insert("west");
    outage.run_to(920);
    outage.world.restart();
    outage.run_to(965);
    outage.world.drivers_out.clear();
    outage.run_to(1100);
    assert_eq!((outage.most["west"], asleep(&outage.world)), (10, 10));
}

/// The trial's figures: 20 s a command, 4 at once, 17 machines. That is 5 rounds.
#[test]
fn the_time_that_commands_take_is_in_the_lead() {
    let mut world = World::with(site(32, 0), |_| Manner::Obeys);
    world.run_to(20);
    let commands = |world: &mut World, concurrency, command_p95_ms| {
        let one = |driver: &str| directive::DriverReport {
            driver: driver.to_owned(),
            concurrency,
            command_p95_ms,
        };
        let drivers = vec![one("west"), one("unknown")];
        let report = directive::DriversReport { at: at(world.secs), drivers };
        world.input(Input::Report(AGENT.into(), Report::Drivers(report)));
        world.step();
    };
    let watts = 120_000 - 1_000 - 32 * 3_000 + 17 * 2_970;
    assert!(matches!(world.commit("l", "a", watts, 2000, 3000), Answer::Committed(_)));
    let lead = |world: &World| world.core.plan().unwrap().leases["l"].lead;
    let start = |world: &World| world.core.plan().unwrap().leases["l"].latest_safe_start;
    let (before, start_before) = (lead(&world), start(&world));
    assert_eq!(before.dispatch, Duration::ZERO);
    assert!(!before.to_string().contains("dispatch"), "nothing is measured: {before}");

    commands(&mut world, 4, 20_000);
    assert_eq!(lead(&world).dispatch, Duration::from_secs(100));
    assert!(lead(&world).to_string().contains(" + dispatch 100 + "), "{}", lead(&world));
    let earlier = start_before.duration_since(start(&world));
    assert_eq!(earlier, SignedDuration::from_secs(100));
    let said = |world: &mut World, start| {
        let body = json!({
            "id": "m", "tenant": "t", "it_kw": Watts(watts).kw(), "feed": "a",
            "start": at(start).to_string(), "end": at(start + 600).to_string(),
        });
        world.ask(Command::Admit(serde_json::from_value(body).unwrap()))
    };
    let Answer::Admitted(dry) = said(&mut world, 5000) else { panic!("it fits") };
    assert!((dry.lead.dispatch_secs - 100.0).abs() < 1e-9, "{:?}", dry.lead);

    // A little less changes nothing, and so does what no group of the policy names.
    let number = world.last_number;
    commands(&mut world, 4, 16_000);
    assert_eq!(lead(&world).dispatch, Duration::from_secs(100));
    assert_eq!(world.last_number, number, "and no timeline is made for it");
    assert_eq!(world.core.fleet.population.commands.len(), 1);
    commands(&mut world, 16, 500);
    assert_eq!(lead(&world).dispatch, Duration::from_secs(1));
    // A driver that says it takes for ever is not believed without bound.
    commands(&mut world, 0, u64::MAX);
    assert_eq!(lead(&world).dispatch, Duration::from_mins(170));
    commands(&mut world, 4, 20_000);

    world.run_to(1_990);
    assert_eq!((world.phase("l"), asleep(&world)), (Phase::Proven, 17));
}
