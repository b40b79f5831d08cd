//! What a plan costs, by the number of machines and of leases: the first one, one made again although
//! nothing has changed, and the one after one more lease. Sites have groups of 20 to 200 machines; the
//! leases begin and end over the 72 hours of the plan.
//!
//! A plan's work is to say how many machines of each cohort are off at each start and end of a lease (an
//! *edge*). The table at the end puts the time of the first plan beside cohorts × edges, and beside
//! cohorts + edges.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use jiff::Timestamp;
use switchboard::Population;
use switchboard::lease::Lease;
use switchboard::plan::{self, Fleet, Known, Plan, Selection};

use crate::site::{Pdu, Site};

mod site;

const MACHINES: [usize; 4] = [1_000, 5_000, 20_000, 100_000];
const LEASES: [usize; 3] = [10, 100, 1_000];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut rows = Vec::new();
    for machines in MACHINES {
        let site = Site::with(machines);
        let fleet = fleet(&site);
        assert_eq!(fleet.groups.iter().map(Vec::len).sum::<usize>(), machines);
        for leases in LEASES {
            rows.push(measure(&mut criterion, &site, (machines, &fleet), leases));
        }
    }
    criterion.final_summary();
    println!("\n{HEADING}");
    rows.iter().for_each(|row| println!("{row}"));
}

const HEADING: &str = "\
| machines | leases | cohorts | edges | cohorts × edges | machines off at some time | feeds short | first plan ms | unchanged ms | one more lease ms | first plan, ns / (cohort × edge) |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// Measures the plans of a site with so many leases. Returns the line for the table, with the shortest
/// times.
fn measure(
    criterion: &mut Criterion,
    site: &Site,
    (machines, fleet): (usize, &Fleet),
    leases: usize,
) -> String {
    let now = Timestamp::from_second(1_800_000_000).expect("a plain instant");
    // The lease that comes later begins in the middle of the plan.
    let leases_of = site.leases(leases, now);
    let mut more = leases_of.clone();
    let mut added = site.lease(leases / 2 + 1, leases, now);
    added.id = "more".into();
    more.push(added);

    let none = Selection::default();
    let plan = |leases: &[Lease], held: &Selection| -> Plan {
        plan::plan(&site.policy, leases, fleet, held, now)
    };
    let first = plan(&leases_of, &none);
    let cohorts = site.pdus.len();
    let edges = edges(&leases_of, now, first.horizon);
    let name = format!("{machines} machines, {leases} leases");
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    let mut times = Vec::new();
    for (what, leases, held) in [
        ("first", &leases_of, &none),
        ("unchanged", &leases_of, &first.selection),
        ("one more lease", &more, &first.selection),
    ] {
        let mut shortest = Duration::MAX;
        group.bench_function(what, |b| {
            b.iter_custom(|count| {
                let took = |_| {
                    let begun = daemon::clock::now();
                    let made = black_box(plan(black_box(leases), held));
                    let took = daemon::clock::now() - begun;
                    drop(made);
                    shortest = shortest.min(took);
                    took
                };
                (0..count).map(took).sum()
            });
        });
        times.push(shortest);
    }
    group.finish();
    let ms: Vec<f64> = times.iter().map(|took| took.as_secs_f64() * 1e3).collect();
    let (product, off) = (cohorts * edges, first.selection.off.len());
    #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
    let each = ms[0] * 1e6 / product as f64;
    let short = first.deficits.iter().map(|deficit| &deficit.feed).collect::<BTreeSet<_>>().len();
    format!(
        "| {machines} | {leases} | {cohorts} | {edges} | {product} | {off} | {short} | {:.2} | {:.2} | {:.2} | {each:.0} |",
        ms[0], ms[1], ms[2],
    )
}

/// A fleet of which every machine was seen, and follows its commands.
fn fleet(site: &Site) -> Fleet {
    let known = |id| Known { id, reached: true, failing: false, absent: false };
    let groups = site.policy.facility.groups().iter().map(|group| {
        let of_group = site.pdus.iter().find(|pdu| group.id.as_str() == pdu.name);
        of_group.into_iter().flat_map(Pdu::ids).map(known).collect()
    });
    Fleet { groups: groups.collect(), population: Population::default() }
}

/// The instants up to `horizon` at which something begins or ends: now, and those at which leases do.
fn edges(leases: &[Lease], now: Timestamp, horizon: Timestamp) -> usize {
    let all = leases.iter().flat_map(|lease| [lease.reserved_from(), lease.ends()]);
    let coming: BTreeSet<Timestamp> = all.filter(|at| (now..=horizon).contains(at)).collect();
    coming.len() + 1
}
