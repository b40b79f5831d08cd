//! The rules of the world, checked after each step and when everything has been delivered.

use super::*;

impl World {
    pub(super) fn look_for_faults(&mut self) {
        for pool in self.pools.values_mut() {
            self.faults.append(&mut pool.faults);
        }
        for miner in &mut self.miners {
            self.faults.append(&mut miner.faults);
        }
    }

    /// Delivers everything in transit. Then each submit is answered, and every `true` is right.
    pub(super) fn come_to_rest(&mut self) {
        self.rest();
        for index in self.sessions() {
            let owed = self.miners[index].owed();
            if owed > 0 {
                self.faults.push(format!("{} is owed {owed} answers", self.miners[index].name));
            }
        }
        let accepted: HashSet<Hash> =
            self.pools.values().flat_map(|pool| pool.accepted.iter().copied()).collect();
        let mut credited = HashSet::new();
        let mut by_us = 0;
        for hash in self.miners.iter().flat_map(|miner| &miner.credited) {
            if !credited.insert(*hash) {
                self.faults.push("one share was credited twice".into());
            }
            by_us += u64::from(!accepted.contains(hash));
        }
        if by_us > self.local {
            self.faults.push(format!(
                "{by_us} shares were said true that no pool took, and only {} were local",
                self.local
            ));
        }
        self.everybody_works();
    }

    /// With a live pool that has lanes, and without orders against it, every session has live work.
    pub(super) fn everybody_works(&mut self) {
        self.directions.orders = Arc::new(Orders::default());
        for pool in self.pools.values_mut() {
            pool.alive = true;
        }
        for _ in 0..4 {
            self.now += Duration::from_secs(60);
            for _ in 0..200 {
                self.proxy_connects();
            }
            self.rest();
            for pool in self.pools.values_mut() {
                pool.new_job(true, &mut self.rng);
            }
            self.rest();
            self.conduct();
            self.rest();
        }
        let roomy = |target: TargetId, carrier: &Carrier| {
            carrier.target == target && self.pools[target].size > self.rules.extranonce2_size + 1
        };
        let has_lanes = self.pools.ids().any(|target| {
            self.carriers.values().any(|carrier| {
                roomy(target, carrier) && carrier.mask.is_some_and(|mask| mask.0 != 0)
            })
        });
        for index in self.sessions() {
            let served = &self.served[&index];
            if has_lanes && served.session.is_ready() && !served.session.has_live_work() {
                self.faults
                    .push(format!("{} has no work: {:?}", self.miners[index].name, served.seating));
            }
        }
        self.look_for_faults();
    }

    pub(super) fn rest(&mut self) {
        let mut left = 20_000;
        while self.deliver_something() {
            left -= 1;
            if left == 0 {
                return self.faults.push("it never comes to rest".into());
            }
        }
        self.look_for_faults();
    }
}
