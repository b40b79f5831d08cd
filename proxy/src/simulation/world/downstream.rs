//! The miners' side of the world: the work of the tasks of [`crate::downstream`], step by step.

use super::*;
use crate::handle::tests::handle;

impl World {
    pub(super) fn sessions(&self) -> Vec<usize> {
        self.served.keys().copied().collect()
    }

    pub(super) fn miner_connects(&mut self) {
        let index = self.rng.random_range(0..self.miners.len());
        if self.served.contains_key(&index) {
            return;
        }
        self.names += 1;
        let slot = self.placement.take_slot();
        let session = Session::new(self.rules.clone(), slot.slot, self.names, self.now);
        let served = Served {
            session,
            seating: Seating::new(slot),
            handle: handle(self.names),
            verdicts: VecDeque::new(),
            out: Outbox::default(),
            lines: VecDeque::new(),
            machine: None,
            given: HashSet::new(),
            unread: false,
        };
        self.served.insert(index, served);
        self.miners[index].connect();
    }

    pub(super) fn miner_leaves(&mut self) {
        let index = self.rng.random_range(0..self.miners.len());
        if self.served.remove(&index).is_some() {
            self.miners[index].disconnected();
        }
    }

    /// Applies something to a session, and then does what its task does after each input.
    pub(super) fn session(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Served, Instant, &Arc<Placement>),
    ) {
        let Some(mut served) = self.served.remove(&index) else { return };
        act(&mut served, self.now, &self.placement);
        loop {
            if std::mem::take(&mut served.out.authorized) {
                served.machine = served.session.worker().map(MachineId::from);
                served.unread = true;
            }
            if served.out.correction.take() == Some(Correction::Renew)
                && served.seating.renew(&self.placement)
            {
                self.listen(&mut served);
            }
            for counted in served.out.counts.drain(..) {
                self.local +=
                    u64::from(matches!(counted.outcome, Outcome::Local | Outcome::AtRisk));
            }
            let forwards = std::mem::take(&mut served.out.forwards);
            if forwards.is_empty() {
                break;
            }
            for forward in forwards {
                served.forward(forward, self.now);
            }
        }
        let written = std::mem::take(&mut served.out.bytes);
        served.lines.extend(String::from_utf8(written).expect("ASCII").lines().map(str::to_owned));
        served.out.answered.clear();
        match served.out.close {
            None => {
                self.served.insert(index, served);
            }
            Some(_) => self.miners[index].disconnected(),
        }
    }

    pub(super) fn proxy_reads_miner(&mut self, index: usize) {
        let Some(line) = self.miners[index].lines.pop_front() else { return };
        note(&mut self.wire, || format!("miner {index} > {line}"));
        self.session(index, |served, now, _| {
            served.session.handle(Input::Line(line.as_bytes()), now, &mut served.out);
        });
    }

    pub(super) fn miner_reads(&mut self, index: usize) {
        let Some(line) = self.served.get_mut(&index).and_then(|served| served.lines.pop_front())
        else {
            return;
        };
        note(&mut self.wire, || format!("miner {index} < {line}"));
        self.miners[index].line(&line);
    }

    pub(super) fn verdict_arrives(&mut self, index: usize) {
        self.session(index, |served, now, _| {
            if let Some(verdict) = served.verdicts.pop_front() {
                served.session.handle(Input::Verdict(verdict), now, &mut served.out);
            }
        });
    }

    /// A session reads its directions or its lane's announcement. With unwritten bytes it takes no
    /// work.
    pub(super) fn session_looks(&mut self, index: usize) {
        let Some(mut served) = self.served.remove(&index) else { return };
        if std::mem::take(&mut served.unread) {
            self.settle(&mut served);
        } else {
            self.listen(&mut served);
        }
        self.served.insert(index, served);
        self.session(index, |_, _, _| {});
    }

    pub(super) fn settle(&mut self, served: &mut Served) {
        let Some(machine) = &served.machine else { return };
        let (mask, live) = (served.session.version_mask(), served.session.has_live_work());
        let (wanted, placement) = (&mut self.wanted, &self.placement);
        let place =
            served.seating.settle(placement, &self.directions, machine, mask, live, |target| {
                let ready = usize::try_from(placement.target_state(target).ready).expect("few");
                wanted[target] = wanted[target].max((ready + 1).min(CONNECTIONS_MAX));
            });
        if place == Place::New {
            self.listen(served);
        }
    }

    pub(super) fn listen(&mut self, served: &mut Served) {
        match served.seating.listen() {
            Some(Said::Work(work)) => {
                if served.given.insert(work.job_id)
                    && !self.searched.insert(searched(&work, served.seating.slot()))
                {
                    self.faults.push(format!(
                        "work was handed out twice: {:?}",
                        searched(&work, served.seating.slot())
                    ));
                }
                served.session.handle(Input::Work(&work), self.now, &mut served.out);
            }
            Some(Said::Settle) | None => self.settle(served),
        }
    }
}

impl Served {
    /// Forwards a share to the connection that issued its job, as the miner's task does.
    pub(super) fn forward(&mut self, forward: Forward, now: Instant) {
        let Forward { work, share, version_bits, ticket, block, worth: _, record } = forward;
        let upstream = work.job.upstream.clone();
        let share = UpstreamShare {
            slot: self.seating.slot(),
            extranonce2: share.extranonce2,
            ntime: share.ntime,
            nonce: share.nonce,
            version_bits,
            ticket,
            reply: self.handle.clone(),
            block,
            machine: None,
            record,
            work,
        };
        if let Err(refused) = upstream.submits().try_send(share) {
            let outcome = crate::outcome::PoolOutcome::Unresolved;
            let verdict = PoolVerdict { ticket: refused.into_inner().ticket, outcome };
            self.session.handle(Input::Verdict(verdict), now, &mut self.out);
        }
    }
}

fn searched(work: &LaneWork, slot: u8) -> Searched {
    let job = &work.job.job;
    let before = [&*work.job.extranonce1, &work.lane, &[slot]].concat();
    let ntime = work.lane.is_empty().then_some(job.ntime);
    (
        work.job.upstream.target,
        before,
        job.prev_hash,
        job.coinb1.clone(),
        job.branches.clone(),
        job.version,
        ntime,
    )
}
