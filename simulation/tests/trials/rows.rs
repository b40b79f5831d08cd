//! The trials: what is changed at the site, and what must hold of the record.

use std::time::Duration;

use directive::Watts;
use jiff::SignedDuration;
use simulation::facility::spec::{Measured, Start};
use simulation::record::{MeterFault, Role, StateFound};
use simulation::scenario::{Act, Scenario};

use crate::measure::Found;
use crate::site::{MACHINE, Site, kw, machines, secs, site};

#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) scenario: Scenario,
    pub(crate) bounds: Bounds,
}

/// What must hold of a trial's record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The longest time above usable.
    above: Duration,
    needless: f64,
    left: usize,
    /// How many machines may be awake without work at the end.
    idle: usize,
    /// What the judge of the simulation may find, as kind and cause.
    findings: &'static [&'static str],
}

impl Bounds {
    /// Which bounds `measured` breaks, in words.
    pub(crate) fn broken(self, measured: &Found) -> impl Iterator<Item = String> {
        let Self { above, needless, left, idle, findings } = self;
        let new = measured.findings.iter().filter(|found| !findings.contains(&found.as_str()));
        let new: Vec<&str> = new.map(String::as_str).collect();
        let faults = [
            (measured.above > above)
                .then(|| format!("above usable for {:?}, {above:?} allowed", measured.above)),
            (measured.needless > needless)
                .then(|| format!("{} slept for nothing, {needless} allowed", measured.needless)),
            (!new.is_empty()).then(|| format!("the judge finds {}", new.join(", "))),
            (measured.left > left).then(|| format!("{} asleep at the end", measured.left)),
            (measured.idle > idle)
                .then(|| format!("{} awake without work at the end", measured.idle)),
        ];
        faults.into_iter().flatten()
    }
}

/// Two samples and the meter's lag until the guard acts, a second for the commands, 8 s to fall asleep,
/// and the meter's lag and two periods more.
const USUAL: Bounds = Bounds { above: secs(14), needless: 0.02, left: 0, idle: 0, findings: &[] };

fn trial(name: &'static str, scenario: Scenario) -> Trial {
    Trial { name, scenario, bounds: USUAL }
}

impl Trial {
    /// Allows what the judge of the simulation finds.
    fn finds(mut self, findings: &'static [&'static str]) -> Self {
        self.bounds.findings = findings;
        self
    }

    fn bounds(mut self, change: impl FnOnce(&mut Bounds)) -> Self {
        change(&mut self.bounds);
        self
    }
}

fn grows(site: Scenario, feed: &str, from: u64, to: u64, by: Watts) -> Scenario {
    site.feed(feed, |feed| {
        let house = feed.declared_house;
        feed.house.extend([(secs(from), house + by), (secs(to), house)]);
    })
}

fn fault(site: Scenario, meter: &str, from: u64, to: u64, fault: MeterFault) -> Scenario {
    site.meter(meter, |meter| meter.faults = vec![(secs(from), Some(fault)), (secs(to), None)])
}

fn signed(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

/// A lease for which machines of `a` must go: 12 of 16.
fn leased() -> Scenario {
    site().lease("a", kw(44), 600, 1_500)
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = loads();
    all.extend(dated());
    all.extend(figures());
    all.extend(newcomers());
    all.extend(devices());
    all.extend(lives());
    all.extend(meters());
    all.extend(blackouts());
    all
}

/// A limit of `a` that is known to be 20 % lower from 900 to 1,800 s.
fn derated(site: Scenario) -> Scenario {
    site.feed("a", |feed| feed.limits = vec![(secs(900), kw(48)), (secs(1_800), kw(60))])
}

fn dated() -> Vec<Trial> {
    let long = || derated(site().lease("a", kw(30), 600, 2_100));
    let down = |site: Scenario| {
        site.act(500, Act::Kill(vec![Role::Switchboard]))
            .act(2_000, Act::Start(Role::Switchboard, StateFound::Kept))
    };
    let kept = |trial: Trial| trial.bounds(|bounds| bounds.above = secs(0));
    vec![
        kept(trial("a dated limit: 60 to 48 kW for 15 min, no lease", derated(site()))),
        kept(trial("the same in the middle of a lease of 30 kW", long())),
        kept(trial("the same without lease, the switchboard is down", down(derated(site())))),
        kept(trial("the same in the lease, the switchboard is down", down(long()))),
    ]
}

fn loads() -> Vec<Trial> {
    let nested = grows(site(), "a", 600, 1_200, kw(20))
        .feed("poi", |feed| feed.limit = kw(96))
        .feed("a", |feed| feed.limit = kw(51));
    let compressor = site().feed("a", |feed| {
        feed.limit = kw(54);
        for step in 0..20 {
            let house = if step % 2 == 0 { kw(9) } else { kw(2) };
            feed.house.push((secs(300 + 90 * step), house));
        }
    });
    let noisy =
        site().feed("a", |feed| feed.limit = kw(53)).meter("m-a", |meter| meter.noise_ppm = 30_000);
    let slow = grows(site(), "a", 600, 1_200, kw(20))
        .meter("m-a", |meter| meter.period = secs(5))
        .meter("m-poi", |meter| meter.period = secs(5));
    vec![
        trial("a quiet day, no lease", site()),
        trial("a quiet lease", leased()),
        trial("the house of `a` grows by 20 kW for 10 min", grows(site(), "a", 600, 1_200, kw(20))),
        trial(
            "the same in a lease of 30 kW",
            grows(site().lease("a", kw(30), 600, 1_500), "a", 900, 1_200, kw(20)),
        ),
        trial("the same with meters of 5 s", slow).bounds(|bounds| bounds.above = secs(30)),
        trial("the same below a full interconnect and a full hall", nested),
        trial(
            "the house grows while the switchboard is down for 20 min",
            grows(site(), "a", 600, 1_200, kw(20))
                .act(500, Act::Kill(vec![Role::Switchboard]))
                .act(1_700, Act::Start(Role::Switchboard, StateFound::Kept)),
        ),
        trial("compressor steps of 7 kW at a full feed, every 90 s", compressor),
        trial("a full feed, a meter with 3 % of noise", noisy),
        trial("a tenant draws 130 %", leased().tenant(|tenant| tenant.percent = 130)),
        trial("a tenant stays for 10 min", leased().tenant(|tenant| tenant.goes = signed(600))),
        trial("a tenant comes 5 min early", leased().tenant(|tenant| tenant.comes = signed(-300)))
            .finds(&["ShedTooMuch (Decision)"]),
        trial("a tenant never comes", leased().tenant(|tenant| tenant.percent = 0)),
        trial(
            "a limit falls from 60 to 42 kW",
            site().act(600, Act::Limit("a".into(), 70)).act(1_500, Act::Limit("a".into(), 100)),
        ),
        trial(
            "a limit falls below what a tenant draws, for 400 s",
            leased().act(900, Act::Limit("a".into(), 60)).act(1_300, Act::Limit("a".into(), 100)),
        )
        // Nothing is left to put to sleep.
        .bounds(|bounds| bounds.above = secs(401)),
    ]
}

fn figures() -> Vec<Trial> {
    let more = site().group("ga", |group| group.declared = 26);
    let hungry = leased().machines("g", |machine| machine.awake = machine.awake.scale(1.08));
    let two = site().lease("a", kw(30), 600, 1_200).lease("b", kw(30), 600, 1_500);
    let next = site().lease("a", kw(40), 600, 1_200).lease("a", kw(40), 1_200, 1_800);
    let gap = site().lease("a", kw(40), 600, 900).lease("a", kw(40), 1_620, 1_920);
    let hollow = {
        let mut site = site().group("ga", |group| group.declared = 18);
        let missing = machines(&site.facility.groups[0]).split_off(16);
        site.facility.machines.retain(|one| missing.iter().all(|other| other.id != one.id));
        site.lease("a", kw(56), 900, 1_500)
    };
    let mut unmetered = leased();
    unmetered.facility.meters.retain(|meter| matches!(meter.of, Measured::Tenants));
    unmetered.leases[0].accept_unverified = true;
    let returns = site()
        .feed("a", |feed| feed.limit = kw(52))
        .machines("g", |machine| machine.start = Start::OffUntil(secs(300)));
    vec![
        trial("a lease on feeds without meters", unmetered),
        trial("30 machines come back at once after a blackout, a full feed", returns),
        trial("16 machines exist of 26 declared, no lease", more),
        trial("18 declared, 16 exist, a lease near the limit", hollow),
        trial("machines draw 8 % over `asic_kw`, a lease", hungry),
        trial("two leases side by side, one ends earlier", two),
        trial("one lease follows another", next),
        trial("two leases, 12 min between them", gap),
    ]
}

/// Six machines more than the 12 that mine in hall `a` come after five minutes. Without work, each draws
/// 60 % of its power.
fn six_more(reachable: bool) -> Scenario {
    let mut site = site()
        .feed("a", |feed| feed.limit = kw(54))
        .group("ga", |group| (group.declared, group.reachable) = (18, reachable));
    site.facility.machines.retain(|machine| machine.group.as_str() != "ga");
    site.facility.machines.extend(machines(&site.facility.groups[0]));
    site = site.group("ga", |group| {
        (group.declared, group.poolless) = (12, Some(MACHINE.scale(0.6)));
    });
    for machine in site.facility.machines.iter_mut().filter(|one| one.group.as_str() == "ga") {
        (machine.poolless, machine.poolless_after) = (MACHINE.scale(0.6), secs(0));
    }
    let comes = |number: usize| format!("ga-{number}");
    (12..18).fold(site, |site, number| {
        site.machines(&comes(number), |machine| machine.start = Start::OffUntil(secs(300)))
    })
}

fn newcomers() -> Vec<Trial> {
    let mut unmetered = six_more(true);
    unmetered.facility.meters.retain(|meter| matches!(meter.of, Measured::Tenants));
    let mut starved = six_more(false);
    starved.facility.meters.retain(|meter| matches!(meter.of, Measured::Tenants));
    // 38 kW are drawn, and 10.8 kW without work. What is left is enough for the work of two below the band,
    // and of four where no meter is, and so no band.
    let waits = |trial: Trial, idle: usize| {
        trial.bounds(|bounds| (bounds.above, bounds.idle) = (secs(0), idle))
    };
    vec![
        waits(trial("6 more machines draw 60 % without work, a full hall", six_more(true)), 4),
        waits(trial("the same without meters", unmetered), 2),
        waits(trial("the same without meters and drivers", starved), 2),
    ]
}

fn devices() -> Vec<Trial> {
    let late = leased()
        .group("ga", |group| group.shed_p95 = secs(90))
        .machines("ga", |one| one.sleep_time = secs(70));
    let slow = leased().group("ga", |group| group.restore_p95 = secs(120)).machines("ga", |one| {
        one.wake_time = secs(100);
        one.habits.wake_starts_over = true;
    });
    let mut commands = leased().machines("ga", |one| one.habits.answers_after = secs(20));
    commands.roles.in_flight = 4;
    vec![
        trial(
            "3 of 16 read asleep and draw",
            leased().machines("ga-1", |one| {
                one.habits.lies = one.id.as_str() > "ga-12";
            }),
        ),
        trial(
            "3 of 16 refuse to sleep",
            leased().machines("ga-1", |one| {
                one.habits.refuses = one.id.as_str() > "ga-12";
            }),
        ),
        trial(
            "7 of 16 wake by themselves after 90 s",
            leased().machines("ga-1", |one| {
                one.habits.wakes_after = Some(secs(90));
            }),
        )
        // All others sleep, and these are read every 20 s.
        .bounds(|bounds| bounds.above = secs(40))
        .finds(&["AboveUsable (Device)", "RampUp (Permit)", "StepUp (Permit)"]),
        trial("sleep takes 70 s, `shed_p95` is 90 s", late),
        trial("waking takes 100 s, a repeated command starts it over", slow),
        trial("20 s a command, 4 at once", commands),
        trial(
            "4 of 16 break in the lease",
            leased().machines("ga-1", |one| {
                one.habits.dies_at = (one.id.as_str() > "ga-11").then_some(secs(900));
            }),
        ),
    ]
}

fn lives() -> Vec<Trial> {
    let restart = |at: u64, down: u64, role: Role, found: StateFound| {
        leased().act(at, Act::Kill(vec![role])).act(at + down, Act::Start(role, found))
    };
    let cancelled = site()
        .lease("a", kw(44), 600, 1_500)
        .machines("ga", |one| one.sleep_time = secs(45))
        .group("ga", |group| group.shed_p95 = secs(60));
    let all = vec![Role::Switchboard, Role::Agent, Role::Proxy];
    let together = leased()
        .act(480, Act::Kill(all.clone()))
        .act(490, Act::Start(Role::Switchboard, StateFound::Kept))
        .act(490, Act::Start(Role::Agent, StateFound::Kept))
        .act(490, Act::Start(Role::Proxy, StateFound::Kept));
    vec![
        trial(
            "the agent is killed while machines go",
            restart(478, 5, Role::Agent, StateFound::Kept),
        ),
        trial(
            "the agent loses its state in the lease",
            restart(900, 5, Role::Agent, StateFound::Lost),
        ),
        trial("everything is killed while machines go", together),
        trial(
            "the switchboard is down when machines must go",
            restart(300, 600, Role::Switchboard, StateFound::Kept),
        )
        .finds(&["FreeNotProven (Outage)"]),
        trial(
            "the proxy loses its state in the lease",
            restart(900, 5, Role::Proxy, StateFound::Lost),
        ),
        trial(
            "cancelled while machines fall asleep",
            cancelled.act(470, Act::Cancel { lease: 0, force: true }),
        ),
        trial(
            "the agent's clock is an hour behind for 5 min",
            leased()
                .act(420, Act::Step(vec![Role::Agent], signed(-3_600)))
                .act(720, Act::Step(vec![Role::Agent], signed(3_600))),
        )
        .finds(&["ShedTooMuch (Clock)", "RampDown (Clock)"]),
        trial(
            "all clocks are an hour ahead for 5 min",
            leased()
                .act(200, Act::Step(all.clone(), signed(3_600)))
                .act(500, Act::Step(all, signed(-3_600))),
        ),
    ]
}

fn meters() -> Vec<Trial> {
    let wrong = |of: MeterFault| fault(leased(), "m-a", 700, 1_300, of);
    vec![
        trial("the meter of `a` shows × 1000", wrong(MeterFault::Factor(1_000.0))),
        trial("it shows ÷ 1000", wrong(MeterFault::Factor(0.001))),
        trial("it is frozen", wrong(MeterFault::Frozen)),
        trial("it is lost", wrong(MeterFault::Lost)),
        trial(
            "the meter of another hall is lost",
            fault(leased(), "m-b", 700, 2_000, MeterFault::Lost),
        ),
        trial(
            "the meter of `a` is lost, and the house grows by 20 kW",
            grows(fault(site(), "m-a", 500, 1_300, MeterFault::Lost), "a", 600, 1_200, kw(20)),
        )
        // The meter of the interconnect shows it, but not that it is in this hall.
        .bounds(|bounds| bounds.above = secs(600))
        .finds(&["AboveUsable (House)"]),
    ]
}

/// `feed` loses its power at `from`, and has it again after `lasts`.
fn dark(site: Scenario, feed: &str, from: u64, lasts: u64) -> Scenario {
    let mut site =
        site.act(from, Act::Dark(feed.into())).act(from + lasts, Act::Light(feed.into()));
    site.length = secs(3_900);
    site
}

fn blackouts() -> Vec<Trial> {
    let roles = [Role::Switchboard, Role::Agent, Role::Proxy];
    let with_roles = |lasts: u64| {
        let site = dark(leased(), "poi", 900, lasts).act(900, Act::Kill(roles.to_vec()));
        roles
            .into_iter()
            .fold(site, |site, role| site.act(900 + lasts + 20, Act::Start(role, StateFound::Kept)))
    };
    let full = || dark(site().feed("a", |feed| feed.limit = kw(52)), "a", 600, 1_200);
    // Sleepers boot awake. Others cannot go in their place, and they are read every 20 s.
    let boots = |trial: Trial| {
        trial.bounds(|bounds| bounds.above = secs(50)).finds(&["AboveUsable (Device)"])
    };
    vec![
        boots(trial("hall `a` dark for 60 s with a lease", dark(leased(), "a", 900, 60))),
        trial("hall `a` dark for 20 min with a lease", dark(leased(), "a", 900, 1_200)),
        trial("hall `a` dark for 20 min, a full hall", full()),
        trial(
            "the same, its meter silent meanwhile",
            fault(full(), "m-a", 600, 1_800, MeterFault::Lost),
        ),
        trial(
            "hall `a` dark for 20 min while its house has machines off",
            dark(grows(site(), "a", 300, 3_000, kw(20)), "a", 600, 1_200),
        )
        // The house is back before its machines are read, which boot awake.
        .bounds(|bounds| bounds.above = secs(20)),
        boots(trial("the whole site dark for 60 s", dark(leased(), "poi", 900, 60))),
        trial("the whole site dark for 20 min", dark(leased(), "poi", 900, 1_200)),
        boots(trial("the whole site dark for 60 s, roles too", with_roles(60))),
        trial("the whole site dark for 20 min, roles too", with_roles(1_200))
            // What was granted while their devices did not answer is used together (P3).
            .finds(&["StepUp (Outage)"]),
    ]
}
