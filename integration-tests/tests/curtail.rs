//! Curtailed sessions, controlled by a timeline over the link: tests from outside for "Curtailed
//! sessions" in ARCHITECTURE.md.

use std::sync::Arc;
use std::time::Duration;

use directive::{
    Action, Generation, GroupId, MachineId, Means, Permit, Report, Serving, Step, Timeline,
};
use jiff::Timestamp;
use testbed::miner::Model;

use crate::harness::{PATIENCE, Setup, Site};

fn timeline(generation: u64, steps: Vec<Step>) -> Arc<Timeline> {
    let now = daemon::clock::wall();
    Arc::new(Timeline {
        number: Generation { epoch: 1, generation },
        issued_at: now,
        horizon: now + jiff::SignedDuration::from_hours(1),
        ledger_head: None,
        steps,
        holds_taken: std::collections::BTreeMap::new(),
    })
}

fn step(at: Timestamp, action: Action, means: Means, machines: &[&str]) -> Step {
    Step {
        at,
        group: GroupId::from("g"),
        action,
        means,
        machines: machines.iter().map(|name| MachineId::from(*name)).collect(),
        lease: None,
        reason: "test".into(),
    }
}

fn permit(generation: u64, serial: u64) -> Permit {
    let number = Generation { epoch: 1, generation };
    let names = ["rig", "steady", "drained", "other", "starved", "asleep", "present", "new"];
    let machines = names.map(|name| MachineId::from(format!("acme.{name}"))).into();
    Permit { number, serial, ttl_ms: 30_000, machines: Arc::new(machines) }
}

/// Waits until `machine` is reported as wanted.
async fn reported(
    site: &mut Site,
    machine: &str,
    wanted: impl Fn(&directive::SessionReport) -> bool,
) {
    let outlet = site.outlet.as_mut().expect("linked");
    let found = tokio::time::timeout(PATIENCE, async {
        while !site.reported.entries().get(machine).is_some_and(&wanted) {
            if let Some(Report::Sessions(delta)) = outlet.report().await {
                assert!(site.reported.take(delta, 10_000, |_, _| ()).current, "nothing is lost");
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{machine} was not reported as wanted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_works_before_the_switchboard_was_heard() {
    let mut site = Site::start(Setup { linked: true, ..Setup::default() }).await;
    let miner = site.miner(Model::Cgminer411, "acme.rig");
    reported(&mut site, "acme.rig", |session| session.serving == Serving::Parked).await;
    assert_eq!(miner.counts().notifies, 0);
    site.outlet.as_ref().expect("linked").update(|down| down.timeline = Some(timeline(1, vec![])));
    miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    site.settle(vec![miner]).await.check();
    site.stop().await;
}

/// Drain with an actuator: the machine has work until it is confirmed asleep, and is then parked on
/// the same connection. It gets work again only with a permit.
#[tokio::test(flavor = "multi_thread")]
async fn a_draining_machine_works_until_it_is_confirmed_asleep() {
    let setup = Setup {
        linked: true,
        change: |config| config.ping_every = Duration::from_millis(500),
        ..Setup::default()
    };
    let mut site = Site::start(setup).await;
    let outlet = |site: &Site, change: &dyn Fn(&mut directive::Downlink)| {
        site.outlet.as_ref().expect("linked").update(change);
    };
    outlet(&site, &|down| down.timeline = Some(timeline(1, vec![])));
    let drained = site.miner(Model::StockS19, "acme.drained");
    let other = site.miner(Model::StockS19, "acme.other");
    drained.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");

    let now = daemon::clock::wall();
    let drain = step(now, Action::Drain, Means::Device, &["acme.drained"]);
    outlet(&site, &|down| down.timeline = Some(timeline(2, vec![drain.clone()])));
    let before = drained.counts();
    let after = drained
        .until(PATIENCE, |counts| {
            counts.answered_true >= before.answered_true + 10
                && counts.notifies > before.notifies + 1
        })
        .await
        .expect("it is served until it sleeps");
    assert_eq!(after.disconnects, 0);

    drained.set_awake(false);
    outlet(&site, &|down| down.asleep = Arc::new([MachineId::from("acme.drained")].into()));
    reported(&mut site, "acme.drained", |session| session.serving == Serving::Parked).await;
    let parked = drained.counts();
    drained
        .until(PATIENCE, |counts| counts.pings >= parked.pings + 3)
        .await
        .expect("kept alive by pings");
    assert_eq!(drained.counts().notifies, parked.notifies, "no new work while parked");

    // The timeline has the restore, but without a permit power is not raised.
    let restore = step(daemon::clock::wall(), Action::Run, Means::Device, &["acme.drained"]);
    outlet(&site, &|down| {
        down.timeline = Some(timeline(3, vec![drain.clone(), restore.clone()]));
        down.asleep = Arc::default();
    });
    let pings = drained.counts().pings;
    drained.until(PATIENCE, |counts| counts.pings >= pings + 2).await.expect("time");
    assert_eq!(drained.counts().notifies, parked.notifies, "no permit, no raise");
    outlet(&site, &|down| down.permit = Some(permit(3, 1)));
    drained.set_awake(true);
    drained
        .until(PATIENCE, |counts| counts.answered_true >= parked.answered_true + 10)
        .await
        .expect("it mines again");
    site.settle(vec![drained, other]).await.check();
    site.stop().await;
}

/// Drain without an actuator: the machine gets no new work from the due time on, and shares that it
/// still sends are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_starved_machine_gets_no_new_work_and_is_seen_hashing() {
    let mut site = Site::start(Setup { linked: true, ..Setup::default() }).await;
    let outlet = site.outlet.as_ref().expect("linked");
    outlet.update(|down| down.timeline = Some(timeline(1, vec![])));
    let miner = site.miner(Model::Cpuminer, "acme.starved");
    miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let due = daemon::clock::wall() + jiff::SignedDuration::from_millis(700);
    let steps = vec![step(due, Action::Drain, Means::Starve, &["acme.starved"])];
    site.outlet
        .as_ref()
        .expect("linked")
        .update(|down| down.timeline = Some(timeline(2, steps.clone())));
    reported(&mut site, "acme.starved", |session| {
        session.serving == Serving::Parked && session.still_hashing > 0
    })
    .await;
    assert!(daemon::clock::wall() >= due, "not before it was due");
    let at = miner.counts().notifies;
    reported(&mut site, "acme.starved", |session| session.still_hashing > 5).await;
    assert_eq!(miner.counts().notifies, at, "no new work");
    assert_eq!(miner.counts().disconnects, 0);
    let books = site.settle(vec![miner]).await;
    assert_eq!(
        books.fleet.submitted,
        books.fleet.answered_true + books.fleet.refused(),
        "{books:#?}"
    );
    site.stop().await;
}

/// A report is sent as soon as the last machine is parked, because the switchboard waits for the
/// free power.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_machine_that_is_parked_is_reported_out_of_turn() {
    let setup = Setup {
        linked: true,
        // With this interval, the report at the start is the only regular one in the test.
        change: |config| config.report_every = Duration::from_secs(3600),
        ..Setup::default()
    };
    let mut site = Site::start(setup).await;
    let update = |site: &Site, change: &dyn Fn(&mut directive::Downlink)| {
        site.outlet.as_ref().expect("linked").update(change);
    };
    update(&site, &|down| down.timeline = Some(timeline(1, vec![])));
    let miners = ["acme.starved", "acme.asleep"].map(|name| site.miner(Model::Cgminer411, name));
    for miner in &miners {
        miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    }
    let now = daemon::clock::wall();
    let starve = step(now, Action::Drain, Means::Starve, &["acme.starved"]);
    let sleep = step(now, Action::Drain, Means::Device, &["acme.asleep"]);
    update(&site, &|down| down.timeline = Some(timeline(2, vec![starve.clone(), sleep.clone()])));
    reported(&mut site, "acme.starved", |session| session.serving == Serving::Parked).await;
    // The other machine has work until it is confirmed asleep. That ends its work, and is reported
    // at once like a step of the timeline.
    update(&site, &|down| down.asleep = Arc::new([MachineId::from("acme.asleep")].into()));
    reported(&mut site, "acme.asleep", |session| session.serving == Serving::Parked).await;
    for miner in miners {
        miner.stop().await;
    }
    site.stop().await;
}

/// Hold: machines with work keep it, new ones are parked. An older timeline changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn hold_parks_newcomers_and_old_timelines_change_nothing() {
    let mut site = Site::start(Setup { linked: true, ..Setup::default() }).await;
    site.outlet.as_ref().expect("linked").update(|down| down.timeline = Some(timeline(5, vec![])));
    let present = site.miner(Model::Cgminer411, "acme.present");
    present.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let hold =
        step(daemon::clock::wall(), Action::Hold, Means::Device, &["acme.present", "acme.new"]);
    site.outlet
        .as_ref()
        .expect("linked")
        .update(|down| down.timeline = Some(timeline(6, vec![hold.clone()])));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let new = site.miner(Model::Cgminer411, "acme.new");
    reported(&mut site, "acme.new", |session| session.serving == Serving::Parked).await;
    site.outlet.as_ref().expect("linked").update(|down| {
        down.timeline = Some(timeline(4, vec![]));
        down.permit = Some(permit(4, 1));
    });
    let before = present.counts().answered_true;
    present
        .until(PATIENCE, |counts| counts.answered_true >= before + 20)
        .await
        .expect("the present one works on");
    assert_eq!(new.counts().notifies, 0, "the newcomer still waits");
    new.stop().await;
    site.settle(vec![present]).await.check();
    site.stop().await;
}

/// Hold gives no work back: a machine that was drained stays off.
#[tokio::test(flavor = "multi_thread")]
async fn hold_gives_no_work_to_a_machine_that_was_drained() {
    let mut site = Site::start(Setup { linked: true, ..Setup::default() }).await;
    let update = |site: &Site, number, steps| {
        site.outlet
            .as_ref()
            .expect("linked")
            .update(|down| down.timeline = Some(timeline(number, steps)));
    };
    update(&site, 1, vec![]);
    let miner = site.miner(Model::Cgminer411, "acme.rig");
    let steady = site.miner(Model::Cgminer411, "acme.steady");
    for miner in [&miner, &steady] {
        miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    }
    let now = daemon::clock::wall();
    update(&site, 2, vec![step(now, Action::Drain, Means::Starve, &["acme.rig"])]);
    reported(&mut site, "acme.rig", |session| session.serving == Serving::Parked).await;
    // By then, a job that was already sent has been read.
    let next = steady.counts().notifies + 2;
    steady.until(PATIENCE, |counts| counts.notifies >= next).await.expect("it is not concerned");
    let notifies = miner.counts().notifies;
    let now = daemon::clock::wall();
    site.outlet.as_ref().expect("linked").update(|down| {
        down.timeline = Some(timeline(
            3,
            vec![step(now, Action::Hold, Means::Starve, &["acme.rig", "acme.steady"])],
        ));
        down.permit = Some(permit(3, 1));
    });
    let before = steady.counts().notifies;
    steady
        .until(PATIENCE, |counts| counts.notifies >= before + 3)
        .await
        .expect("held, it works on");
    assert_eq!(miner.counts().notifies, notifies, "drained, then held: no work");
    site.stop().await;
}

/// A miner in passthrough follows the timeline like any other, and stays off if its pool is lost in
/// the meantime.
#[tokio::test(flavor = "multi_thread")]
async fn a_passed_through_machine_that_is_off_stays_off_when_its_pool_is_lost() {
    let setup = Setup {
        pools: vec![crate::harness::pool(3, 1)],
        linked: true,
        change: |config| {
            config.servers[0].passthrough = Some(proxy::TargetId::nth(0));
            config.ping_every = Duration::from_millis(500);
        },
        ..Setup::default()
    };
    let mut site = Site::start(setup).await;
    let update = |site: &Site, change: &dyn Fn(&mut directive::Downlink)| {
        site.outlet.as_ref().expect("linked").update(change);
    };
    update(&site, &|down| down.timeline = Some(timeline(1, vec![])));
    let miner = site.miner(Model::StockS19, "acme.rig");
    miner.until(PATIENCE, |counts| counts.answered_true >= 5).await.expect("it mines");
    let lockout = step(daemon::clock::wall(), Action::Lockout, Means::Starve, &["acme.rig"]);
    update(&site, &|down| down.timeline = Some(timeline(2, vec![lockout.clone()])));
    reported(&mut site, "acme.rig", |session| session.serving == Serving::Parked).await;
    site.pools[0].die().await;
    // The machine continues to hash its last job, and its shares are answered.
    let before = miner.counts().refused();
    let parked =
        miner.until(PATIENCE, |counts| counts.refused() >= before + 20).await.expect("it is kept");
    assert_eq!((parked.connects, parked.disconnects), (1, 0));
    site.pools[0].come_back().await;
    update(&site, &|down| {
        down.timeline = Some(timeline(3, vec![]));
        down.permit = Some(permit(3, 1));
    });
    let before = parked.answered_true;
    let back = miner
        .until(PATIENCE, |counts| counts.answered_true >= before + 5)
        .await
        .expect("it mines again");
    assert_eq!(back.disconnects, 1, "its pool was lost: it had to come again");
    site.settle(vec![miner]).await;
    site.stop().await;
}
