//! A site of any size for the benches: three levels of feeds (the root, transformers, PDUs), a group of
//! 20 to 200 machines at each PDU, and leases over 72 hours.

use std::fmt::Write as _;
use std::time::Duration;

use directive::MachineId;
use jiff::Timestamp;
use switchboard::lease::Lease;
use switchboard::policy::{self, Policy};

/// How many machines the PDUs have, in turn: 110 on average.
const MACHINES_OF: [usize; 7] = [110, 20, 200, 80, 140, 50, 170];
/// The PDUs of one transformer.
const PDUS: usize = 12;
/// What one machine draws.
const MACHINE_KW: usize = 3;
/// What the house draws at each PDU.
const HOUSE_KW: usize = 1;
/// What a PDU, or a transformer, carries besides its house and its machines.
const FREE_KW: usize = 9;
/// The time over which leases begin: the length of a plan.
const SPAN_SECS: usize = 72 * 3600;

/// A PDU with its machines, which are one group.
#[derive(Debug, Clone)]
pub(crate) struct Pdu {
    pub(crate) name: String,
    pub(crate) transformer: String,
    pub(crate) machines: usize,
}

impl Pdu {
    pub(crate) fn new(number: usize, machines: usize) -> Self {
        let transformer = format!("t{}", number / PDUS);
        let name = format!("{transformer}p{}", number % PDUS);
        Self { name, transformer, machines }
    }

    /// The names of the machines, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = MachineId> {
        (0..self.machines).map(|number| format!("{}.{number:03}", self.name).into())
    }
}

/// A site, of which nothing has been seen yet.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) policy: Policy,
    pub(crate) pdus: Vec<Pdu>,
}

impl Site {
    /// A site whose feeds carry its house, its machines, and hardly anything else.
    pub(crate) fn with(machines: usize) -> Self {
        let mut left = machines;
        let mut pdus = Vec::new();
        for (number, most) in MACHINES_OF.into_iter().cycle().enumerate() {
            if left == 0 {
                break;
            }
            let machines = most.min(left);
            left -= machines;
            pdus.push(Pdu::new(number, machines));
        }
        Self::new(pdus, 0)
    }

    /// A site of these PDUs. `spare_kw` is what each carries for leases without any machine that goes.
    pub(crate) fn new(pdus: Vec<Pdu>, spare_kw: usize) -> Self {
        let mut text = String::from(
            "schema = \"tieline.policy/1\"\n[site]\nname = \"bench\"\ntimezone = \"UTC\"\n\
             [failsafe]\nplan_horizon = \"72h\"\n",
        );
        let carried = |pdu: &Pdu| pdu.machines * MACHINE_KW + HOUSE_KW + spare_kw;
        feed(&mut text, "root", None, pdus.iter().map(carried).sum::<usize>() + FREE_KW, 0);
        for below in pdus.chunks(PDUS) {
            let limit = below.iter().map(carried).sum::<usize>() + FREE_KW;
            feed(&mut text, &below[0].transformer, Some("root"), limit, 0);
            for pdu in below {
                let limit = carried(pdu) + FREE_KW;
                feed(&mut text, &pdu.name, Some(&pdu.transformer), limit, HOUSE_KW);
            }
        }
        for (number, pdu) in pdus.iter().enumerate().filter(|(_, pdu)| pdu.machines > 0) {
            let Pdu { name, machines, .. } = pdu;
            let j_per_th = 18 + number % 13;
            write!(
                text,
                "[group.{name}]\nfeed = \"{name}\"\nmatch = \"{name}.*\"\nmachines = {machines}\n\
                 asic_kw = {MACHINE_KW}\nj_per_th = {j_per_th}\nshed_p95 = \"25s\"\ndriver = \"bench\"\n"
            )
            .expect("a string takes all");
        }
        Self { policy: policy::parse(&text, "bench.toml").expect("a sound policy"), pdus }
    }

    /// So many leases that begin one after another over 72 hours from an hour after `from` on. Each is
    /// of a twentieth of the power of a PDU's machines and takes 2 to 12 hours; each eighth is at the
    /// PDU's transformer.
    pub(crate) fn leases(&self, count: usize, from: Timestamp) -> Vec<Lease> {
        (0..count).map(|number| self.lease(number, count, from)).collect()
    }

    /// Of `count` leases the one with this number.
    pub(crate) fn lease(&self, number: usize, count: usize, from: Timestamp) -> Lease {
        // Neighbours in time are at different feeds: 7,919 is a prime above the number of PDUs.
        let pdu = &self.pdus[number * 7919 % self.pdus.len()];
        let watts = (pdu.machines * MACHINE_KW * 50).max(3000);
        let feed = if number % 8 == 7 { &pdu.transformer } else { &pdu.name };
        let start = from + secs(3600 + SPAN_SECS * number / count);
        let end = start + secs(3600 * (2 + number * 7 % 11));
        let lease = serde_json::from_value(serde_json::json!({
            "id": format!("lease-{number}"), "tenant": "t", "class": "firm", "it": watts, "pue": 1.0,
            "gross": watts, "feed": feed, "start": start, "end": end,
            "ready_before": {"secs": 600, "nanos": 0}, "accept_unverified": false, "meter": null,
        }));
        lease.expect("a sound lease")
    }
}

fn feed(text: &mut String, name: &str, parent: Option<&str>, limit_kw: usize, house_kw: usize) {
    let parent = parent.map_or(String::new(), |parent| format!("parent = \"{parent}\"\n"));
    write!(
        text,
        "[feed.{name}]\n{parent}limit_kw = {limit_kw}\ncontinuous_factor = 1.0\n\
         house_kw = {house_kw}\nmeter = \"m-{name}\"\ndefault_constraint_kw = {limit_kw}\n"
    )
    .expect("a string takes all");
}

fn secs(secs: usize) -> Duration {
    Duration::from_secs(secs as u64)
}
